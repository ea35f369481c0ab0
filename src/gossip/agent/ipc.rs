//! Serf's agent protocol, served: commands ask this node, and the real `serf` command drives it.

mod answer;
mod records;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

pub use answer::resolve;
pub use records::{Kinds, record, word};

use super::Agent;
use super::core::Lately;
use crate::gossip::engine::QueryId;
use crate::gossip::wire::ipc::{REQUEST_BYTES_MAX, Request, StreamRecord, write_header};
use crate::gossip::wire::msgpack::{Fault, Reader};
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// Replies that wait to be read; whoever does not read is not told more.
const REPLIES_MAX: usize = 1024;
/// Queries that a watcher may still answer.
const QUERIES_MAX: usize = 1024;
/// Streams and queries of one connection at a time.
const TASKS_MAX: usize = 64;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// A connection of a command.
struct Session {
    agent: Agent,
    shutdown: Shutdown,
    replies: mpsc::Sender<Vec<u8>>,
    shaken: bool,
    /// Streams that go on: `stop` ends one.
    streams: HashMap<u64, watch::Sender<bool>>,
    /// Queries that this connection was told of, by the numbers it was told.
    queries: Arc<std::sync::Mutex<HashMap<u64, QueryId>>>,
    query_count: Arc<AtomicU64>,
}

/// Serves a connection until it ends, or the node does.
pub async fn serve(agent: Agent, shutdown: Shutdown, mut stream: Stream) {
    let (replies, mut written) = mpsc::channel::<Vec<u8>>(REPLIES_MAX);
    let mut session = Session {
        agent: agent.clone(),
        shutdown,
        replies,
        shaken: false,
        streams: HashMap::new(),
        queries: Arc::default(),
        query_count: Arc::default(),
    };
    let mut buffer = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        tokio::select! {
            biased;
            Some(reply) = written.recv() => {
                if stream.write_all(&reply).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
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
    while let Ok(reply) = written.try_recv() {
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

impl Session {
    async fn reply(&self, sequence: u64, error: &str, body: &[u8]) {
        let mut reply = Vec::with_capacity(64 + body.len());
        write_header(&mut reply, sequence, error);
        reply.extend_from_slice(body);
        // The task that reads from us is the one that asks: it must not wait for itself.
        let _ = self.replies.try_send(reply);
    }

    async fn take(&mut self, sequence: u64, request: Result<Request, String>) {
        let request = match request {
            Ok(Request::Handshake) if self.shaken => {
                return self.reply(sequence, "Handshake already performed", b"").await;
            }
            Ok(Request::Handshake) => {
                self.shaken = true;
                return self.reply(sequence, "", b"").await;
            }
            _ if !self.shaken => return self.reply(sequence, "Handshake required", b"").await,
            Ok(request) => request,
            Err(_) => return self.reply(sequence, "Unsupported command", b"").await,
        };
        match request {
            Request::Stream { kinds } => self.start_stream(sequence, &kinds).await,
            // There is no log to be told: what is wrong is on the node's stderr.
            Request::Monitor { .. } => self.reply(sequence, "", b"").await,
            Request::Stop { stop } => {
                if let Some(stream) = self.streams.remove(&stop) {
                    let _ = stream.send(true);
                }
                self.reply(sequence, "", b"").await;
            }
            Request::Query { .. } => self.start_query(sequence, request).await,
            Request::Respond { id, payload } => self.respond(sequence, id, payload).await,
            Request::Leave => {
                self.agent.leave();
                self.agent.gone().await;
                self.reply(sequence, "", b"").await;
            }
            request => {
                if self.streams.len() >= TASKS_MAX {
                    return self.reply(sequence, "too many at a time", b"").await;
                }
                // Joins and keys take their time: others of this connection do not wait for them.
                let (agent, replies) = (self.agent.clone(), self.replies.clone());
                self.shutdown.spawn(async move {
                    let (error, body) = match answer::answer(&agent, request).await {
                        Ok(body) => (String::new(), body),
                        Err(error) => (error, Vec::new()),
                    };
                    let mut reply = Vec::with_capacity(64 + body.len());
                    write_header(&mut reply, sequence, &error);
                    reply.extend_from_slice(&body);
                    let _ = replies.send(reply).await;
                });
            }
        }
    }

    async fn respond(&self, sequence: u64, id: u64, payload: Bytes) {
        let query = {
            let mut queries = self.queries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            queries.remove(&id)
        };
        let Some(query) = query else { return self.reply(sequence, "Invalid query ID", b"").await };
        let input = crate::gossip::engine::Input::Respond { query, payload };
        let done = self.agent.with(move |core| core.input(input)).await;
        let error = match done {
            Ok(Ok(())) => String::new(),
            Ok(Err(refusal)) => refusal.to_string(),
            Err(ended) => ended.to_string(),
        };
        self.reply(sequence, &error, b"").await;
    }

    /// Tells what happens until the connection ends or stops it.
    async fn start_stream(&mut self, sequence: u64, kinds: &str) {
        if self.streams.contains_key(&sequence) {
            return self.reply(sequence, "Stream with given sequence exists", b"").await;
        }
        if self.streams.len() >= TASKS_MAX {
            return self.reply(sequence, "too many at a time", b"").await;
        }
        let kinds = Kinds::parse(kinds);
        // From now on: what happens while the answer is on its way is told as well.
        let (lately, mut events) = match kinds.replay() {
            false => (Vec::new(), self.agent.watch()),
            true => match self.agent.with(|core| core.watch_again()).await {
                Ok(both) => both,
                Err(ended) => return self.reply(sequence, &ended.to_string(), b"").await,
            },
        };
        self.reply(sequence, "", b"").await;
        let (stop, mut stopped) = watch::channel(false);
        self.streams.insert(sequence, stop);
        let (replies, agent) = (self.replies.clone(), self.agent.clone());
        let (queries, count) = (self.queries.clone(), self.query_count.clone());
        self.shutdown.spawn(async move {
            for Lately { age, event } in lately {
                let Some(mut record) = records::record(&event, &kinds) else { continue };
                record.age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                if replies.send(told(sequence, &record)).await.is_err() {
                    return;
                }
            }
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.recv() => event,
                    _ = stopped.wait_for(|stop| *stop) => return,
                    () = replies.closed() => return,
                    () = agent.gone() => return,
                };
                let event = match event {
                    Ok(event) => event,
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::info!("a watcher is too slow: {missed} events are not told to it");
                        continue;
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                };
                let Some(mut record) = records::record(&event, &kinds) else { continue };
                if let crate::gossip::engine::Event::Query { query, .. } = &*event {
                    record.id = count.fetch_add(1, Ordering::Relaxed);
                    let mut queries = queries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if queries.len() >= QUERIES_MAX {
                        queries.clear();
                    }
                    queries.insert(record.id, *query);
                }
                if replies.send(told(sequence, &record)).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn start_query(&mut self, sequence: u64, request: Request) {
        let asked = self.agent.query(answer::query_options(request)).await;
        let mut answers = match asked {
            Ok(answers) => answers.answers,
            Err(error) => return self.reply(sequence, &error, b"").await,
        };
        self.reply(sequence, "", b"").await;
        let replies = self.replies.clone();
        self.shutdown.spawn(async move {
            while let Some(answer) = answers.recv().await {
                let (record, over) = records::answer(answer);
                let mut reply = Vec::new();
                write_header(&mut reply, sequence, "");
                record.write(&mut reply);
                if replies.send(reply).await.is_err() || over {
                    return;
                }
            }
        });
    }
}

/// A record of a stream as it is written.
fn told(sequence: u64, record: &StreamRecord) -> Vec<u8> {
    let mut reply = Vec::new();
    write_header(&mut reply, sequence, "");
    record.write(&mut reply);
    reply
}
