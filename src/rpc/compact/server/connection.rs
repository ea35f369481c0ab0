//! One connection: many calls at a time, replies as they finish, small frames coalesced into one write.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::Server;
use crate::rpc::backend::{Body, Format, Payload, Peer, Reply, Requests};
use crate::rpc::budget::{CALL_SIZE, Part, Share};
use crate::rpc::catalog::{Catalog, Method, Route};
use crate::rpc::compact::call::{
    Out, Running, call_of, code_of, failure, finished, request_stream, told, traced,
};
use crate::rpc::compact::flow::{InboxSender, Window, inbox};
use crate::rpc::compact::wire::{
    Frame, Kind, OVERHEAD_SIZE_MAX, PIECE_SIZE_MAX, PREFACE, WireError, next_frame, take_preface, write_reply,
};
use crate::rpc::metrics::{Meter, Tally};
use crate::rpc::status::{Code, Status};

/// Bytes that are asked for at a time: few of a peer that sends little, for there may be many of them.
const READ_SIZE_MIN: usize = 4 << 10;
const READ_SIZE_MAX: usize = 64 << 10;
/// What a message of a stream that waits for its handler costs besides its bytes.
const WAITING_SIZE: usize = 64;
/// Over so many bytes that the peer has not taken, nothing more is read from it.
const OUTPUT_SIZE_MAX: usize = 1 << 20;
/// Frames of running calls that wait to be written.
const OUT_QUEUE_MAX: usize = 64;
/// How often silence is looked at.
const TICK: Duration = Duration::from_secs(5);

/// Why a connection ends.
enum End {
    /// All was said.
    Done,
    /// The peer is told and then left.
    Refused(Status),
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        let code = match error {
            WireError::TooLarge { .. } => Code::ResourceExhausted,
            WireError::Preface(_) | WireError::Broken(_) => Code::InvalidArgument,
        };
        Self::Refused(Status::new(code, error.to_string()))
    }
}

/// A call that goes on.
struct InFlight {
    task: AbortHandle,
    inbox: Option<InboxSender<Status>>,
    window: Arc<Window>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A call that its backend has been given.
struct Accepted {
    request: u64,
    method: Arc<Method>,
    meter: Meter,
    deadline: Option<Instant>,
    inbox: Option<InboxSender<Status>>,
    held: Part,
}

struct Connection {
    server: Arc<Server>,
    peer: Arc<Peer>,
    share: Arc<Share>,
    /// What counts input and output.
    buffers: Part,
    input: BytesMut,
    /// How much is asked for at a time.
    read_size: usize,
    output: BytesMut,
    calls: HashMap<u64, InFlight>,
    out: mpsc::Sender<Out>,
    catalog: Arc<Catalog>,
    routes: HashMap<u32, (Route, Arc<Tally>)>,
    last_request: u64,
    /// The window for replies, from the caller's greeting; `None` before it.
    peer_window: Option<u32>,
    greeted: bool,
    /// Frames have come that wait for room in the output.
    held: bool,
    draining: bool,
    heard: Instant,
    pinged: bool,
    written: Instant,
    /// When the last call began or ended.
    busy: Instant,
}

pub(super) async fn serve<S>(server: Arc<Server>, stream: S, peer: Arc<Peer>, share: Arc<Share>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (out, mut results) = mpsc::channel(OUT_QUEUE_MAX);
    let shutdown = server.shutdown.clone();
    let mut connection = Connection::new(server, peer, share, out);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready = Vec::new();
    let (draining, stopped) = (shutdown.draining(), shutdown.stopped());
    tokio::pin!(draining, stopped);
    let end = loop {
        if connection.draining && connection.calls.is_empty() && connection.output.is_empty() {
            break End::Done;
        }
        let roomy = connection.output.len() < OUTPUT_SIZE_MAX;
        if roomy
            && connection.held
            && let Err(end) = connection.take_frames()
        {
            break end;
        }
        if let Err(status) = connection.count_buffers() {
            break End::Refused(status);
        }
        tokio::select! {
            biased;
            size = writer.write_buf(&mut connection.output), if !connection.output.is_empty() => match size {
                Ok(0) | Err(_) => break End::Done,
                Ok(_) => connection.written = Instant::now(),
            },
            _ = results.recv_many(&mut ready, OUT_QUEUE_MAX), if roomy => {
                if connection.take_results(&mut ready).is_none() {
                    break End::Done;
                }
            }
            size = read(&mut reader, &mut connection.input, connection.read_size), if roomy => match size {
                Ok(0) | Err(_) => break End::Done,
                Ok(size) => if let Err(end) = connection.take_input(size) {
                    break end;
                },
            },
            _ = tick.tick() => if let Err(end) = connection.look_at_silence() {
                break end;
            },
            () = &mut draining, if !connection.draining => connection.drain(),
            () = &mut stopped => break End::Done,
        }
    };
    if let End::Refused(status) = end {
        tracing::debug!(peer = connection.peer.address, %status, "compact connection refused");
        let frame = Frame { status: Some(Box::new((&status).into())), ..Frame::new(Kind::GoAway, 0) };
        frame.write(&mut connection.output);
        let silence_max = connection.server.limits.silence_max;
        // The peer may not listen; that is its loss.
        let _ = tokio::time::timeout(silence_max, writer.write_all_buf(&mut connection.output)).await;
    }
    let _ = writer.shutdown().await;
}

async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    size: usize,
) -> std::io::Result<usize> {
    if input.is_empty() && input.capacity() > size {
        // Whoever waits for the next word of many peers does not keep the room of their last one.
        *input = BytesMut::with_capacity(size);
    }
    input.reserve(size);
    reader.read_buf(input).await
}

impl Connection {
    fn new(server: Arc<Server>, peer: Arc<Peer>, share: Arc<Share>, out: mpsc::Sender<Out>) -> Self {
        let now = Instant::now();
        Self {
            catalog: server.catalog.load(),
            server,
            peer,
            buffers: share.part(),
            share,
            input: BytesMut::new(),
            read_size: READ_SIZE_MIN,
            output: BytesMut::new(),
            calls: HashMap::new(),
            out,
            routes: HashMap::new(),
            last_request: 0,
            peer_window: None,
            greeted: false,
            held: false,
            draining: false,
            heard: now,
            pinged: false,
            written: now,
            busy: now,
        }
    }

    /// Writes what running calls have sent; `None` if a reply got lost, and the connection with it.
    fn take_results(&mut self, results: &mut Vec<Out>) -> Option<()> {
        if self.output.is_empty() {
            self.written = Instant::now();
        }
        for result in results.drain(..) {
            match result {
                Out::Frame(bytes, _held) => self.output.extend_from_slice(&bytes),
                Out::Done(request, bytes, _held) => {
                    self.busy = Instant::now();
                    // A cancelled call may still have had its reply on the way.
                    if self.calls.remove(&request).is_some() {
                        self.output.extend_from_slice(&bytes);
                    }
                }
                Out::Lost => return None,
            }
        }
        Some(())
    }

    /// What is in the buffers counts from now on.
    fn count_buffers(&mut self) -> Result<(), Status> {
        self.buffers.resize(self.input.len() + self.output.len())
    }

    fn take_input(&mut self, size: usize) -> Result<(), End> {
        if size >= self.read_size {
            self.read_size = (self.read_size * 2).min(READ_SIZE_MAX);
        } else if size < self.read_size / 4 {
            self.read_size = (self.read_size / 2).max(READ_SIZE_MIN);
        }
        self.heard = Instant::now();
        self.pinged = false;
        if self.output.is_empty() {
            self.written = self.heard;
        }
        if !self.greeted {
            if !take_preface(&mut self.input)? {
                return Ok(());
            }
            self.greeted = true;
            self.output.extend_from_slice(&PREFACE);
            let hello = Some(Box::new(self.server.hello()));
            Frame { hello, ..Frame::new(Kind::Hello, 0) }.write(&mut self.output);
        }
        let catalog = self.server.catalog.load();
        if !Arc::ptr_eq(&catalog, &self.catalog) {
            self.routes.clear();
            self.catalog = catalog;
        }
        self.take_frames()
    }

    /// Takes frames as long as there is room for what answers them.
    fn take_frames(&mut self) -> Result<(), End> {
        let size_max = self.server.limits.message_size_max as usize + OVERHEAD_SIZE_MAX;
        self.held = true;
        while self.output.len() < OUTPUT_SIZE_MAX {
            let Some(bytes) = next_frame(&mut self.input, size_max)? else {
                self.held = false;
                break;
            };
            self.take_frame(Frame::parse(bytes)?)?;
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame) -> Result<(), End> {
        let kind = Kind::try_from(frame.kind).unwrap_or(Kind::Unspecified);
        if self.peer_window.is_none() && kind != Kind::Hello {
            let text = "the first frame must be HELLO".to_owned();
            return Err(End::Refused(Status::new(Code::InvalidArgument, text)));
        }
        match kind {
            Kind::Hello => {
                let hello = frame.hello.unwrap_or_default();
                self.peer_window = Some(hello.window);
            }
            Kind::Call => self.start(frame)?,
            Kind::Message => self.take_message(frame)?,
            Kind::Cancel => drop(self.calls.remove(&frame.request)),
            Kind::Credit => {
                if let Some(call) = self.calls.get(&frame.request) {
                    call.window.give(frame.credit);
                }
            }
            Kind::Ping => Frame::new(Kind::Pong, frame.request).write(&mut self.output),
            Kind::Describe => {
                let piece = self.server.piece(frame.piece.as_deref(), PIECE_SIZE_MAX);
                let piece = Some(Box::new(piece));
                Frame { piece, ..Frame::new(Kind::Description, frame.request) }.write(&mut self.output);
            }
            // Answers to what was asked, and what later versions may send.
            Kind::Unspecified
            | Kind::Reply
            | Kind::Pong
            | Kind::GoAway
            | Kind::Description
            | Kind::Working
            | Kind::Reject => {}
        }
        Ok(())
    }

    fn refuse(&mut self, request: u64, code: Code, text: impl Into<String>) {
        failure(request, &Status::new(code, text)).write(&mut self.output);
    }

    fn route(&mut self, id: u32) -> Option<(Route, Arc<Tally>)> {
        if let Some(known) = self.routes.get(&id) {
            return Some(known.clone());
        }
        let route = self.catalog.by_id(id)?.clone();
        let tally = self.server.metrics.tally(&route.method);
        self.routes.insert(id, (route.clone(), Arc::clone(&tally)));
        Some((route, tally))
    }

    fn start(&mut self, mut frame: Frame) -> Result<(), End> {
        let request = frame.request;
        if request <= self.last_request {
            let text = format!("call {request} does not come after call {}", self.last_request);
            return Err(End::Refused(Status::new(Code::InvalidArgument, text)));
        }
        self.last_request = request;
        let limits = self.server.limits;
        if self.draining {
            self.refuse(request, Code::Unavailable, "the server is shutting down");
            return Ok(());
        }
        if self.calls.len() >= limits.calls_max as usize {
            let text = format!("over the limit of {} calls at a time", limits.calls_max);
            self.refuse(request, Code::ResourceExhausted, text);
            return Ok(());
        }
        let Some((route, tally)) = self.route(frame.method) else {
            let text = format!("no method has the call id {:#010x}", frame.method);
            self.refuse(request, Code::Unimplemented, text);
            return Ok(());
        };
        let size = frame.message.as_ref().map_or(0, Bytes::len);
        if size > limits.message_size_max as usize {
            let text = format!("a request of {size} bytes is over the limit of {}", limits.message_size_max);
            self.refuse(request, Code::ResourceExhausted, text);
            return Ok(());
        }
        let mut held = self.share.part();
        let metadata_size: usize = frame.metadata.iter().map(|pair| pair.name.len() + pair.value.len()).sum();
        if let Err(status) = held.resize(CALL_SIZE + metadata_size + size) {
            self.refuse(request, status.code, status.message);
            return Ok(());
        }
        let begun = Instant::now();
        self.busy = begun;
        let meter = Meter::start(tally, begun);
        let id = self.server.metrics.next_call();
        let (requests, sender) = if route.method.kind.client_streams() {
            let (sender, receiver) = inbox(limits.window);
            if let Some(message) = frame.message.take() {
                sender.push(message, None).map_err(|_| overrun(request))?;
            }
            let requests = request_stream(request, receiver, self.out.clone());
            (requests, (!frame.end).then_some(sender))
        } else {
            let message = frame.message.take().unwrap_or_default();
            (Requests::One(Payload::proto(message)), None)
        };
        let mut call = call_of(&mut frame, &route, id, &self.peer, requests);
        let trace = traced(&mut call, size, begun);
        let deadline = call.deadline;
        let accepted =
            Accepted { request, method: Arc::clone(&route.method), meter, deadline, inbox: sender, held };
        let mut reply: BoxFuture<'static, Reply> = match trace {
            None => Box::pin(async move { route.answer(call).await }),
            Some(trace) => Box::pin(async move { told(trace, route.answer(call).await) }),
        };
        // Most calls that only touch memory are done at the first poll: they need no task.
        match poll_once(&mut reply) {
            Poll::Ready(reply) => self.answer_at_once(accepted, reply),
            Poll::Pending => self.go_on(accepted, reply),
        }
        Ok(())
    }

    fn answer_at_once(&mut self, mut accepted: Accepted, reply: Reply) {
        let request = accepted.request;
        let plain = |trailers: &HeaderMap| reply.headers.is_empty() && trailers.is_empty();
        let limits = self.server.limits;
        if let Body::One { message, trailers } = &reply.body
            && message.format == Format::Proto
            && plain(trailers)
            && message.bytes.len() <= limits.message_size_max as usize
        {
            accepted.meter.end(Code::Ok);
            write_reply(&mut self.output, request, &message.bytes);
            return;
        }
        match finished(request, &accepted.method, reply, limits.message_size_max) {
            Ok(frame) => {
                accepted.meter.end(code_of(&frame));
                frame.write(&mut self.output);
            }
            Err(reply) => self.go_on(accepted, Box::pin(async { *reply })),
        }
    }

    fn go_on(&mut self, accepted: Accepted, reply: BoxFuture<'static, Reply>) {
        let Accepted { request, method, meter, deadline, inbox, held } = accepted;
        let window = Window::new(self.peer_window.unwrap_or_default());
        let running = Running {
            request,
            method,
            meter,
            deadline,
            size_max: self.server.limits.message_size_max,
            window: Arc::clone(&window),
            out: self.out.clone(),
            held,
        };
        let task = self.server.shutdown.spawn(running.run(reply)).abort_handle();
        self.calls.insert(request, InFlight { task, inbox, window });
    }

    fn take_message(&mut self, frame: Frame) -> Result<(), End> {
        // The call may be over already, and its last messages still on the way.
        let Some(call) = self.calls.get_mut(&frame.request) else { return Ok(()) };
        let Some(inbox) = &call.inbox else {
            let text = format!("a message after the end of call {}", frame.request);
            return Err(End::Refused(Status::new(Code::InvalidArgument, text)));
        };
        if let Some(message) = frame.message {
            let (size, size_max) = (message.len(), self.server.limits.message_size_max);
            if size > size_max as usize {
                let text = format!("a request of {size} bytes is over the limit of {size_max}");
                if let Some(inbox) = call.inbox.take() {
                    inbox.fail(Status::new(Code::ResourceExhausted, text));
                }
                return Ok(());
            }
            let mut held = self.share.part();
            if let Err(status) = held.resize(size + WAITING_SIZE) {
                if let Some(inbox) = call.inbox.take() {
                    inbox.fail(status);
                }
                return Ok(());
            }
            inbox.push(message, Some(held)).map_err(|_| overrun(frame.request))?;
        }
        if frame.end {
            call.inbox = None;
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
        if self.greeted {
            Frame::new(Kind::GoAway, self.last_request).write(&mut self.output);
        }
    }

    /// Pings a silent peer, leaves one that stays silent or takes nothing.
    fn look_at_silence(&mut self) -> Result<(), End> {
        let limits = &self.server.limits;
        let silence = self.heard.elapsed();
        let stuck = !self.output.is_empty() && self.written.elapsed() > limits.silence_max;
        let shy = self.peer_window.is_none() && silence > limits.silence_max;
        let idle = !self.draining
            && self.calls.is_empty()
            && limits.idle_max.is_some_and(|max| self.busy.elapsed() > max);
        if idle {
            self.drain();
            return Ok(());
        }
        if stuck || shy || silence > limits.keepalive_interval + limits.silence_max {
            return Err(End::Done);
        }
        if silence > limits.keepalive_interval && !self.pinged {
            self.pinged = true;
            Frame::new(Kind::Ping, 0).write(&mut self.output);
        }
        Ok(())
    }
}

fn overrun(request: u64) -> End {
    let text = format!("call {request} sent more than its window allows");
    End::Refused(Status::new(Code::ResourceExhausted, text))
}

/// Polls once and leaves no trace: who goes on polling brings its own waker.
fn poll_once(future: &mut BoxFuture<'static, Reply>) -> Poll<Reply> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
