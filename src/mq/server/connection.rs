//! One connection: its reader feeds the engine with everything that was read at a time, and stops reading when it should.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::Broker;
use super::handshake::{Client, handshake};
use super::host::Host;
use super::live::{Ends, Entry, Terms, Traffic};
use super::outbox::{Last, Outbox};
use super::writer::{Writer, Written};
use crate::mq::engine::{At, ConnectionId, Content, Peer, Taken};
use crate::mq::wire::method::connection;
use crate::mq::wire::{self, Assembler, Event, Method, ReplyCode, frame};
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// What is asked of the socket at once, in bytes: small at first, for there may be many that are idle.
const READ_SIZE_MIN: usize = 4 * 1024;
/// What is asked of a socket that always has more.
const READ_SIZE_MAX: usize = 256 * 1024;

/// Messages that one batch puts into queues before others have their turn: what is read at once can be thousands of
/// publishes, and each can go to thousands of queues.
const PUSHES_MAX: u64 = 4096;

/// A body of this size or more shares the memory it was read into; smaller ones would keep all of it for little.
const SHARE_SIZE: usize = 16 * 1024;

/// A publisher that ran ahead of consumers waits no longer than this before more is read: it may be a consumer too.
const PACE_WAIT_MAX: Duration = Duration::from_secs(5);

/// `connection.close-ok` as a frame.
const CLOSE_OK: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, frame::END];

/// Serves a stream until it ends.
pub(super) async fn serve(broker: &Broker, mut stream: Stream) {
    let peer = stream.peer();
    let wait_max = broker.limits.handshake_wait_max;
    let client = tokio::select! {
        client = timeout(wait_max, handshake(broker, &mut stream)) => client,
        () = broker.shutdown.draining() => return,
    };
    let client = match client {
        Ok(Some(client)) => client,
        Ok(None) => return,
        Err(_) => {
            tracing::debug!(peer, ?wait_max, "handshake not finished");
            return;
        }
    };
    let Client { host, access, terms, cancel_notify, blocked_notify, ahead } = client;
    let Terms { frame_max, channel_max, heartbeat, .. } = terms;
    let heartbeat = (heartbeat > 0).then(|| Duration::from_secs(heartbeat.into()));
    tracing::debug!(peer, user = %terms.user, "connected");
    let outbox = Arc::new(Outbox::default());
    let user = Arc::clone(&terms.user);
    let ends = Ends::of(&stream);
    let called = broker.live.name(&ends);
    let name = Arc::from(&*called.text);
    let allowance = broker.allowance(&user);
    let peer_in = Peer { name, user, access, channel_max, allowance, cancel_notify };
    let id = host.connect(peer_in, Arc::clone(&outbox));
    // Whatever ends this future, what the connection holds goes back.
    let _held = Held { host: &host, id };
    let traffic = Arc::new(Traffic::default());
    let listed = broker.live.enter(Entry {
        name: called,
        ends,
        terms,
        host: Arc::clone(&host),
        id,
        outbox: Arc::clone(&outbox),
        traffic: Arc::clone(&traffic),
    });
    if !broker.may_stay(&host, listed.user()) {
        listed.close("user or vhost is gone");
    }
    let (mut read, mut write) = stream.into_split();
    let reader = Reader {
        host: &host,
        id,
        outbox: &outbox,
        traffic: &traffic,
        shutdown: &broker.shutdown,
        frame_max,
        message_size_max: broker.config.message_size_max,
        silence_max: heartbeat.map(|interval| interval * 2),
    };
    let writer =
        Writer { host: &host, id, outbox: &outbox, traffic: &traffic, frame_max, heartbeat, blocked_notify };
    let mut lingers = false;
    let ended = {
        let mut reading = std::pin::pin!(reader.run(&mut read, ahead));
        let mut writing = std::pin::pin!(writer.run(&mut write));
        tokio::select! {
            end = &mut reading => Some(end),
            written = &mut writing => match written {
                Written::CloseOk => {
                    lingers = true;
                    None
                }
                Written::Gone => None,
                // What the connection held is free at once, not when the client has understood.
                Written::Close => {
                    host.disconnect(id);
                    timeout(broker.limits.close_wait_max, reading).await.ok()
                }
            },
        }
    };
    if ended == Some(End::CloseWhileClosing) {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, 0, &connection::CloseOk {}.into());
        let _ = write.write_all(&bytes).await;
    }
    let _ = write.shutdown().await;
    if lingers {
        // Clients may have sent more behind their close; to hang up on that would reset the socket, and the answer to
        // the close could get lost. RabbitMQ waits as well.
        let _ =
            timeout(broker.limits.close_wait_max, tokio::io::copy(&mut read, &mut tokio::io::sink())).await;
    }
    tracing::debug!(peer, ?ended, "connection ended");
}

/// Gives back what a connection holds.
struct Held<'a> {
    host: &'a Host,
    id: ConnectionId,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.host.disconnect(self.id);
    }
}

/// How the reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The socket is gone.
    Gone,
    /// Nothing came for two intervals.
    Silent,
    /// The client knows that the connection is closed.
    CloseOk,
    /// Both sides closed it at the same time.
    CloseWhileClosing,
}

/// What a chunk came to.
enum Fed {
    /// Read on.
    On,
    /// There were publishes: read on when the disk has kept up, and consumers too if these ran ahead of them.
    Published {
        ahead: Option<u64>,
    },
    /// Nothing behind it matters any more.
    Closing,
    End(End),
}

/// What one batch came to.
enum Step {
    Done,
    /// There is more of it, after others had their turn.
    More,
    /// A method has to wait for one before it.
    Later,
    /// A publish has to wait until memory and disk are not short any more.
    Blocked,
    CloseOk,
    /// The client closes the connection.
    Close,
}

/// Bytes of contents of a connection that have not all come, as its host counts them.
struct Partial<'a> {
    host: &'a Host,
    bytes: u64,
}

impl Partial<'_> {
    fn set(&mut self, bytes: u64) {
        self.host.count_partial(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

struct Reader<'a> {
    host: &'a Host,
    id: ConnectionId,
    outbox: &'a Outbox,
    traffic: &'a Traffic,
    shutdown: &'a Shutdown,
    frame_max: u32,
    /// Of its body, in bytes.
    message_size_max: u64,
    silence_max: Option<Duration>,
}

impl Reader<'_> {
    async fn run(&self, socket: &mut (impl AsyncRead + Unpin), mut buffer: BytesMut) -> End {
        let mut assembler = Assembler::new(self.frame_max, self.message_size_max);
        let mut partial = Partial { host: self.host, bytes: 0 };
        let mut room = READ_SIZE_MIN;
        let mut is_idle = false;
        let mut draining = std::pin::pin!(self.shutdown.draining());
        // Set again when it goes off, not at each read.
        let mut silence = std::pin::pin!(tokio::time::sleep(self.silence_max.unwrap_or(Duration::MAX)));
        let mut asked_at = None;
        'reading: loop {
            while let Some(chunk) = whole_frames(&mut buffer, self.frame_max) {
                match self.feed(&chunk, &mut assembler, &mut partial).await {
                    Fed::On => {}
                    Fed::Published { ahead } => {
                        // Whoever takes messages has its turn before more of them come.
                        tokio::task::yield_now().await;
                        if let Some(ahead) = ahead {
                            self.wait_for_consumers(ahead).await;
                        }
                        self.wait_for_the_disk().await;
                    }
                    Fed::Closing => break 'reading,
                    Fed::End(end) => return end,
                }
            }
            if self.outbox.is_closing() {
                break;
            }
            if self.outbox.is_blocked() || self.outbox.is_full() {
                // A blocked publisher may be silent; one that does not read its answers may not for ever.
                let patience = if self.outbox.is_blocked() { None } else { self.silence_max };
                let waited = tokio::select! {
                    () = within(patience, self.outbox.reader.notified()) => true,
                    () = &mut draining => false,
                };
                if !waited {
                    self.shut_down();
                    break;
                }
                if patience.is_some() && self.outbox.is_full() && !self.outbox.is_closing() {
                    return End::Silent;
                }
                continue;
            }
            buffer.reserve(if is_idle { READ_SIZE_MIN } else { room });
            let holds_much = !is_idle && room > READ_SIZE_MIN && buffer.is_empty();
            let since = *asked_at.get_or_insert_with(Instant::now);
            let read = tokio::select! {
                // What is to be read last: there may always be something.
                biased;
                () = self.outbox.reader.notified() => {
                    asked_at = None;
                    continue;
                }
                () = &mut draining => {
                    self.shut_down();
                    break;
                }
                read = socket.read_buf(&mut buffer) => read,
                () = &mut silence, if self.silence_max.is_some() => {
                    let until = since + self.silence_max.unwrap_or_default();
                    if until <= Instant::now() {
                        return End::Silent;
                    }
                    silence.as_mut().reset(until);
                    continue;
                }
                // Who has nothing more to say for now holds no memory for it.
                () = std::future::ready(()), if holds_much => {
                    (buffer, is_idle) = (BytesMut::new(), true);
                    continue;
                }
            };
            (asked_at, is_idle) = (None, false);
            match read {
                Ok(count) if count > 0 => {
                    Traffic::count(&self.traffic.received, &self.traffic.reads, count);
                    // As much at a time as comes at a time.
                    room = if count >= room { (room * 2).min(READ_SIZE_MAX) } else { room };
                    if count < room / 8 {
                        room = (room / 2).max(READ_SIZE_MIN);
                    }
                }
                Ok(_) | Err(_) => return End::Gone,
            }
        }
        discard(socket, &mut buffer).await
    }

    /// Publishers are read no faster than consumers are served, on a machine that cannot do both.
    async fn wait_for_consumers(&self, ahead: u64) {
        tokio::select! {
            () = within(Some(PACE_WAIT_MAX), self.host.keep_pace(ahead)) => {}
            () = self.outbox.reader.notified() => {}
            () = self.shutdown.draining() => {}
        }
    }

    /// Publishers are read no faster than the disk writes.
    async fn wait_for_the_disk(&self) {
        let Some(link) = self.host.link().filter(|link| link.is_behind()) else { return };
        while !self.outbox.is_closing() && link.is_behind() {
            tokio::select! {
                () = link.caught_up() => {}
                () = self.outbox.reader.notified() => {}
                () = self.shutdown.draining() => return,
            }
        }
    }

    /// The broker stops.
    fn shut_down(&self) {
        let code = ReplyCode::ConnectionForced;
        let text = code.reply_text("broker forced connection closure with reason 'shutdown'");
        self.outbox.finish(Last::Close { code: code.number(), text, method: (0, 0) });
    }

    /// Gives the engine what a chunk of whole frames holds.
    async fn feed(&self, chunk: &Bytes, assembler: &mut Assembler, partial: &mut Partial<'_>) -> Fed {
        let (mut events, mut contents, mut broken) = (Vec::new(), Vec::new(), None);
        let mut input = &chunk[..];
        loop {
            match assembler.next(&mut input) {
                Ok(Some(event)) => {
                    if let Event::Content { content, .. } = &event {
                        contents.push(Content {
                            properties: kept(&content.properties, chunk),
                            body: kept(&content.body, chunk),
                        });
                    }
                    events.push(event);
                }
                Ok(None) => break,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        partial.set(assembler.pending_bytes() as u64);
        let published = !contents.is_empty();
        let (mut next, mut contents) = (0, contents.into_iter().peekable());
        let mut ahead = None;
        loop {
            match self.step(&events, &mut next, &mut contents, &mut ahead) {
                Step::Done => break,
                Step::More => self.host.give_way().await,
                Step::CloseOk => return Fed::End(End::CloseOk),
                Step::Close => {
                    self.host.disconnect(self.id);
                    if self.outbox.is_closing() {
                        return Fed::End(End::CloseWhileClosing);
                    }
                    self.outbox.finish(Last::CloseOk);
                    return Fed::Closing;
                }
                Step::Blocked => {
                    if self.outbox.is_closing() {
                        return Fed::Closing;
                    }
                    tokio::select! {
                        // Also when it is unblocked.
                        () = self.outbox.reader.notified() => {}
                        () = self.shutdown.draining() => {
                            self.shut_down();
                            return Fed::Closing;
                        }
                    }
                }
                Step::Later => {
                    while !self.outbox.take_resumed() {
                        if self.outbox.is_closing() {
                            return Fed::Closing;
                        }
                        self.outbox.reader.notified().await;
                    }
                }
            }
        }
        self.begun(assembler);
        if let Some(error) = broken {
            return self.refuse(error.code(), error.reply_text(), error.failing_method());
        }
        if partial.bytes > self.message_size_max && self.host.is_short_now() {
            // One content may be so large, and would be blocked when it is whole; several need never become it.
            let code = ReplyCode::ResourceError;
            let text = code.reply_text("contents that have not all come take too much memory");
            return self.refuse(code, text, (0, 0));
        }
        if published { Fed::Published { ahead } } else { Fed::On }
    }

    /// Lets the engine refuse contents on channels that are not there, before more of them comes.
    fn begun(&self, assembler: &mut Assembler) {
        let begun = assembler.begun();
        if !begun.is_empty() {
            self.host.run(|engine, out, now| {
                for channel in begun {
                    engine.begun(At { now, connection: self.id, channel }, out);
                }
            });
        }
    }

    /// Ends the connection with an error of its own.
    fn refuse(&self, code: ReplyCode, text: String, method: (u16, u16)) -> Fed {
        self.host.disconnect(self.id);
        self.outbox.finish(Last::Close { code: code.number(), text, method });
        Fed::Closing
    }

    /// One batch under the lock, from `next` on. `ahead` becomes how far its publishes ran ahead of consumers, if they did.
    fn step(
        &self,
        events: &[Event<'_>],
        next: &mut usize,
        contents: &mut std::iter::Peekable<impl Iterator<Item = Content>>,
        ahead: &mut Option<u64>,
    ) -> Step {
        if *next >= events.len() {
            return Step::Done;
        }
        let id = self.id;
        self.host.run(|engine, out, now| {
            let enough = engine.pushed() + PUSHES_MAX;
            let before = engine.ran_ahead();
            while let Some(event) = events.get(*next) {
                if engine.pushed() >= enough {
                    return Step::More;
                }
                let at = |channel: &u16| At { now, connection: id, channel: *channel };
                match event {
                    Event::Heartbeat => {}
                    Event::Method { channel: 0, method: Method::ConnectionClose(_) } => return Step::Close,
                    Event::Method { channel: 0, method: Method::ConnectionCloseOk(_) } => {
                        return Step::CloseOk;
                    }
                    Event::Method { channel: 0, method: Method::ConnectionUpdateSecret(_) } => {
                        // Passwords do not expire here.
                        self.outbox.take_secret();
                    }
                    Event::Method { channel, method } => {
                        if engine.handle(at(channel), method, None, out) == Taken::Later {
                            return Step::Later;
                        }
                    }
                    Event::Content { channel, content } => {
                        if engine.holds_back(id, out) {
                            return Step::Blocked;
                        }
                        // A publish is never put off, so that no content is needed twice.
                        let given = contents.next();
                        let _ = engine.handle(at(channel), &content.method(), given, out);
                        let after = engine.ran_ahead();
                        if after > before {
                            *ahead = Some(after);
                        }
                    }
                    Event::Oversized { channel, body_size } => engine.oversized(at(channel), *body_size, out),
                }
                *next += 1;
            }
            Step::Done
        })
    }
}

/// Bytes to be kept: a share of what was read if they are most of it.
fn kept(part: &wire::Part<'_>, chunk: &Bytes) -> Bytes {
    match part {
        wire::Part::Here([0, 0]) => Bytes::from_static(&[0, 0]),
        wire::Part::Here(bytes) if bytes.len() >= SHARE_SIZE => part.share(chunk),
        part => part.keep(),
    }
}

/// Takes what stands in whole frames at the front, or a frame that cannot be one: it is to be refused.
fn whole_frames(buffer: &mut BytesMut, frame_max: u32) -> Option<Bytes> {
    let end = frame::whole(buffer, frame_max);
    (end > 0).then(|| buffer.split_to(end).freeze())
}

async fn within(limit: Option<Duration>, event: impl Future<Output = ()>) {
    match limit {
        Some(limit) => timeout(limit, event).await.unwrap_or(()),
        None => event.await,
    }
}

/// Reads until the client says that it knows of the close, or is gone. What else it says is not looked at: after a
/// broken frame nobody knows where the next one begins.
async fn discard(socket: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> End {
    loop {
        if buffer.windows(CLOSE_OK.len()).any(|window| *window == CLOSE_OK) {
            return End::CloseOk;
        }
        if closes(buffer) {
            return End::CloseWhileClosing;
        }
        // What may be the beginning of one stays.
        let keep = buffer.len().min(CLOSE_OK.len() - 1);
        let _ = buffer.split_to(buffer.len() - keep);
        buffer.reserve(READ_SIZE_MIN);
        match socket.read_buf(buffer).await {
            Ok(count) if count > 0 => {}
            Ok(_) | Err(_) => return End::Gone,
        }
    }
}

/// Whether a `connection.close` of the client stands in there.
fn closes(buffer: &[u8]) -> bool {
    buffer.windows(11).any(|window| window.starts_with(&[1, 0, 0]) && window.ends_with(&[0, 10, 0, 50]))
}

/// Waits until the client has understood a close, or left.
pub(super) async fn await_close_ok(stream: &mut Stream, buffer: &mut BytesMut, wait_max: Duration) {
    let end = timeout(wait_max, discard(stream, buffer)).await;
    if end == Ok(End::CloseWhileClosing) {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, 0, &connection::CloseOk {}.into());
        let _ = stream.write_all(&bytes).await;
    }
    let _ = stream.shutdown().await;
}
