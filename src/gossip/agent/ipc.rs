//! Serf's agent protocol, served: commands ask this node, and the real `serf` command drives it.

mod answer;
mod monitor;
mod records;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

pub use answer::{members, resolve};
pub use records::{Kinds, MISSED, record, word};

use super::Agent;
use super::core::Lately;
use crate::gossip::engine::{Event, QueryId};
use crate::gossip::wire::ipc::{REQUEST_BYTES_MAX, Request, write_header, write_log};
use crate::gossip::wire::msgpack::{Fault, Reader};
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// Records of streams that wait to be read; whoever does not read is not told more.
const RECORDS_MAX: usize = 1024;
/// Bytes of them.
const RECORDS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Queries that a watcher may still answer.
const QUERIES_MAX: usize = 1024;
/// Streams, queries and joins of one connection at a time.
const TASKS_MAX: usize = 64;
/// How long a command has to read its last answers when the node is gone.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The refusal of one task more.
const TOO_MANY: &str = "too many at a time";

/// What tasks have to tell on a connection, within a bound. Clones are the same.
#[derive(Clone)]
struct Records {
    sender: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl Records {
    /// Waits for room. Without an answer the connection is gone.
    async fn send(&self, record: Vec<u8>) -> Option<()> {
        let bytes = u32::try_from(record.len().min(RECORDS_BYTES_MAX)).ok()?;
        let permit = self.room.clone().acquire_many_owned(bytes);
        let permit = tokio::select! {
            permit = permit => permit.ok()?,
            () = self.sender.closed() => return None,
        };
        self.sender.send((record, permit)).await.ok()
    }
}

/// What a stream tells.
enum Told<'a> {
    /// What has happened: so long ago, which is nothing for what happens now.
    Event(&'a Arc<Event>, Duration),
    /// So many events came while whoever watches stood still.
    Missed(u64),
}

/// A connection of a command.
struct Session {
    agent: Agent,
    shutdown: Shutdown,
    /// Answers that are written before anything else is read.
    out: Vec<u8>,
    /// What tasks have to tell.
    records: Records,
    tasks: Arc<Semaphore>,
    shaken: bool,
    /// Streams that go on: `stop` ends one.
    streams: HashMap<u64, watch::Sender<bool>>,
    /// Queries that this connection was told of, by the numbers it was told.
    queries: Arc<std::sync::Mutex<HashMap<u64, QueryId>>>,
    query_count: Arc<AtomicU64>,
}

/// Serves a connection until it ends, or the node does.
pub async fn serve(agent: Agent, shutdown: Shutdown, mut stream: Stream) {
    let (sender, mut told) = mpsc::channel(RECORDS_MAX);
    let records = Records { sender, room: Arc::new(Semaphore::new(RECORDS_BYTES_MAX)) };
    let mut session = Session {
        agent: agent.clone(),
        shutdown,
        out: Vec::new(),
        records,
        tasks: Arc::new(Semaphore::new(TASKS_MAX)),
        shaken: false,
        streams: HashMap::new(),
        queries: Arc::default(),
        query_count: Arc::default(),
    };
    let mut buffer = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if !session.out.is_empty() {
            if write(&mut stream, &agent, &session.out).await.is_err() {
                return;
            }
            session.out.clear();
        }
        tokio::select! {
            biased;
            Some((record, _permit)) = told.recv() => {
                if write(&mut stream, &agent, &record).await.is_err() {
                    return;
                }
                continue;
            }
            // Whoever asked the node to leave has been answered when it is gone.
            () = agent.gone() => break,
            read = stream.read(&mut chunk) => match read {
                Ok(length) if length > 0 => buffer.extend_from_slice(&chunk[..length]),
                Ok(_) | Err(_) => return,
            },
        }
        loop {
            let mut reader = Reader::new(&buffer);
            match Request::read(&mut reader) {
                Ok((sequence, request)) => {
                    let used = reader.position();
                    buffer.drain(..used);
                    session.take(sequence, request).await;
                }
                Err(Fault::Incomplete { .. }) if buffer.len() < REQUEST_BYTES_MAX => break,
                Err(fault) => {
                    tracing::info!("a command is not understood: {fault}");
                    return;
                }
            }
            if buffer.is_empty() {
                break;
            }
        }
    }
    while let Ok((record, _permit)) = told.try_recv() {
        if write(&mut stream, &agent, &record).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Writes to a command, which may read as slowly as it likes until the node is gone.
async fn write(stream: &mut Stream, agent: &Agent, bytes: &[u8]) -> std::io::Result<()> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    let over = async {
        agent.gone().await;
        tokio::time::sleep(LAST_WORDS_MAX).await;
    };
    tokio::select! {
        biased;
        written = written => written,
        () = over => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

impl Session {
    fn reply(&mut self, sequence: u64, error: &str) {
        write_header(&mut self.out, sequence, error);
    }

    /// Room for one more task.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.tasks.clone().try_acquire_owned().ok()
    }

    async fn take(&mut self, sequence: u64, request: Result<Request, String>) {
        let request = match request {
            Ok(Request::Handshake) if self.shaken => {
                return self.reply(sequence, "Handshake already performed");
            }
            Ok(Request::Handshake) => {
                self.shaken = true;
                return self.reply(sequence, "");
            }
            _ if !self.shaken => return self.reply(sequence, "Handshake required"),
            Ok(request) => request,
            Err(_) => return self.reply(sequence, "Unsupported command"),
        };
        match request {
            Request::Stream { kinds } => self.start_stream(sequence, &kinds).await,
            Request::Monitor { level } => self.start_monitor(sequence, &level).await,
            Request::Stop { stop } => {
                if let Some(stream) = self.streams.remove(&stop) {
                    let _ = stream.send(true);
                }
                self.reply(sequence, "");
            }
            Request::Query { .. } => self.start_query(sequence, request).await,
            Request::Respond { id, payload } => self.respond(sequence, id, payload).await,
            Request::Leave => {
                self.agent.leave();
                self.agent.gone().await;
                self.reply(sequence, "");
            }
            request => {
                let empty = answer::empty_body(&request);
                let Some(permit) = self.permit() else {
                    self.reply(sequence, TOO_MANY);
                    return self.out.extend_from_slice(&empty);
                };
                // Joins and keys take their time: others of this connection do not wait for them.
                let (agent, records) = (self.agent.clone(), self.records.clone());
                self.shutdown.spawn(async move {
                    let _permit = permit;
                    let (error, body) = match answer::answer(&agent, request).await {
                        Ok(body) => (String::new(), body),
                        Err(refused) => (refused.error, refused.body.unwrap_or(empty)),
                    };
                    let mut reply = Vec::with_capacity(64 + body.len());
                    write_header(&mut reply, sequence, &error);
                    reply.extend_from_slice(&body);
                    let _ = records.send(reply).await;
                });
            }
        }
    }

    async fn respond(&mut self, sequence: u64, id: u64, payload: Bytes) {
        let query = {
            let mut queries = self.queries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            queries.remove(&id)
        };
        let Some(query) = query else { return self.reply(sequence, "Invalid query ID") };
        let input = crate::gossip::engine::Input::Respond { query, payload };
        let done = self.agent.with(move |core| core.input(input)).await;
        let error = match done {
            Ok(Ok(())) => String::new(),
            Ok(Err(refusal)) => refusal.to_string(),
            Err(ended) => ended.to_string(),
        };
        self.reply(sequence, &error);
    }

    /// Tells the kinds of events that are wanted.
    async fn start_stream(&mut self, sequence: u64, kinds: &str) {
        let kinds = Kinds::parse(kinds);
        let (queries, count) = (self.queries.clone(), self.query_count.clone());
        self.tell(sequence, kinds.replay(), move |told, to| {
            let (event, age) = match told {
                Told::Event(event, age) => (event, age),
                Told::Missed(count) => {
                    if let Some(record) = records::missed(count, &kinds) {
                        write_header(to, sequence, "");
                        record.write(to);
                    }
                    return;
                }
            };
            let Some(mut record) = records::record(event, &kinds) else { return };
            record.age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            if let (Event::Query { query, .. }, true) = (&**event, age.is_zero()) {
                record.id = count.fetch_add(1, Ordering::Relaxed);
                let mut queries = queries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if queries.len() >= QUERIES_MAX {
                    queries.clear();
                }
                queries.insert(record.id, *query);
            }
            write_header(to, sequence, "");
            record.write(to);
        })
        .await;
    }

    /// Tells the log from a level on, beginning with what happened lately.
    async fn start_monitor(&mut self, sequence: u64, level: &str) {
        let Some(from) = monitor::Level::from_name(level) else {
            return self.reply(sequence, &format!("Unknown log level: {level}"));
        };
        self.tell(sequence, true, move |told, to| {
            let now = Timestamp::now();
            let lines = match told {
                Told::Event(event, age) => {
                    let at = now.checked_sub(age).unwrap_or(now);
                    monitor::lines(event, from, at, TimeZone::system())
                }
                Told::Missed(count) => monitor::missed(count, from, now, TimeZone::system()),
            };
            for line in lines {
                write_header(to, sequence, "");
                write_log(to, &line);
            }
        })
        .await;
    }

    /// Tells what happens until the connection ends or stops it. `write` writes what is to be told of it.
    async fn tell(
        &mut self,
        sequence: u64,
        from_lately: bool,
        mut write: impl FnMut(Told<'_>, &mut Vec<u8>) + Send + 'static,
    ) {
        if self.streams.contains_key(&sequence) {
            return self.reply(sequence, "Stream with given sequence exists");
        }
        let Some(permit) = self.permit() else { return self.reply(sequence, TOO_MANY) };
        // From now on: what happens while the answer is on its way is told as well.
        let (lately, mut events) = match from_lately {
            false => (Vec::new(), self.agent.watch()),
            true => match self.agent.with(|core| core.watch_again()).await {
                Ok(both) => both,
                Err(ended) => return self.reply(sequence, &ended.to_string()),
            },
        };
        self.reply(sequence, "");
        let (stop, mut stopped) = watch::channel(false);
        self.streams.insert(sequence, stop);
        let (records, agent) = (self.records.clone(), self.agent.clone());
        self.shutdown.spawn(async move {
            let _permit = permit;
            let mut told = Vec::new();
            for Lately { age, event } in lately {
                write(Told::Event(&event, age.max(Duration::from_nanos(1))), &mut told);
                if !told.is_empty() && records.send(std::mem::take(&mut told)).await.is_none() {
                    return;
                }
            }
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.recv() => event,
                    _ = stopped.wait_for(|stop| *stop) => return,
                    () = records.sender.closed() => return,
                    () = agent.gone() => return,
                };
                match event {
                    Ok(event) => write(Told::Event(&event, Duration::ZERO), &mut told),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!("a watcher is too slow: {missed} events are not told to it");
                        write(Told::Missed(missed), &mut told);
                    }
                    Err(RecvError::Closed) => return,
                }
                if !told.is_empty() && records.send(std::mem::take(&mut told)).await.is_none() {
                    return;
                }
            }
        });
    }

    async fn start_query(&mut self, sequence: u64, request: Request) {
        let Some(permit) = self.permit() else { return self.reply(sequence, TOO_MANY) };
        let asked = self.agent.query(answer::query_options(request)).await;
        let mut answers = match asked {
            Ok(answers) => answers.answers,
            Err(error) => return self.reply(sequence, &error),
        };
        self.reply(sequence, "");
        let records = self.records.clone();
        self.shutdown.spawn(async move {
            let _permit = permit;
            while let Some(answer) = answers.recv().await {
                let (record, over) = records::answer(answer);
                let mut reply = Vec::new();
                write_header(&mut reply, sequence, "");
                record.write(&mut reply);
                if records.send(reply).await.is_none() || over {
                    return;
                }
            }
        });
    }
}
