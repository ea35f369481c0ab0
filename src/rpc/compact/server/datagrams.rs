//! Calls in datagrams: the engine decides, tasks execute, one socket sends.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Server;
use crate::rpc::backend::{Body, Payload, Peer, Reply, Requests};
use crate::rpc::budget::Share;
use crate::rpc::compact::call::{call_of, code_of, failure, told, too_late, traced, unary};
use crate::rpc::compact::engine::{Random, Replier, ReplierInput, ReplierLimits, ReplierOutput};
use crate::rpc::compact::wire::{Frame, Kind, PREFACE};
use crate::rpc::jsonrpc;
use crate::rpc::status::{Code, Status};
use crate::transport::Datagrams;
use crate::transport::udp::DATAGRAM_BYTES_MAX;
use crate::wait::until;

/// What a datagram holds besides its frame: the preface, and room for the session and the number.
const DATAGRAM_OVERHEAD: usize = 64;
/// JSON-RPC datagrams that are worked on at a time; more are dropped, as the network may drop them.
const JSON_RPC_MAX: usize = 256;
/// After an error of the socket.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);
/// Of a datagram with a piece of the description, what is not the piece.
const PIECE_OVERHEAD: usize = 64;

/// A reply that is ready.
struct Finished {
    run: u64,
    frame: Box<Frame>,
    lost: bool,
}

/// Serves the datagrams of `socket` until the server stops: compact frames, and JSON-RPC if there is a
/// service for it. When the server drains, no new calls are taken.
pub(super) async fn serve(
    server: Arc<Server>,
    socket: Datagrams,
    json_rpc: Option<jsonrpc::Service>,
    share: Arc<Share>,
) {
    let socket = Arc::new(socket);
    let (done, mut finished) = mpsc::channel(64);
    let mut replier = Replier::new(ReplierLimits::default(), server.hello(), unguessable());
    let json_permits = Arc::new(Semaphore::new(JSON_RPC_MAX));
    let mut tasks: HashMap<u64, AbortHandle> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut outputs = Vec::new();
    let shutdown = server.shutdown.clone();
    let mut draining = false;
    loop {
        let deadline = replier.deadline().map(Instant::from_std);
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let (size, from) = match received {
                    Ok(received) => received,
                    Err(error) => {
                        tracing::warn!("cannot receive datagrams: {error}; trying again");
                        // The next attempt would fail as soon as this one.
                        tokio::time::sleep(RECEIVE_PAUSE).await;
                        continue;
                    }
                };
                let datagram = &buffer[..size];
                if datagram.first().is_some_and(|first| *first < 0x80) {
                    if let (Some(service), Ok(permit)) = (&json_rpc, Arc::clone(&json_permits).try_acquire_owned()) {
                        let (service, socket, datagram) = (service.clone(), Arc::clone(&socket), datagram.to_vec());
                        let share = Arc::clone(&share);
                        shutdown.spawn(async move {
                            let _permit = permit;
                            let reply = jsonrpc::server::answer_datagram(&service, &datagram, from, &share).await;
                            if let Some(reply) = reply {
                                send(&socket, &reply, from).await;
                            }
                        });
                    }
                    continue;
                }
                match Frame::from_datagram(datagram) {
                    Ok(frame) if frame.kind == Kind::Describe as i32 => {
                        if let Some(datagram) = server.piece_datagram(&frame, size) {
                            send(&socket, &datagram, from).await;
                        }
                    }
                    Ok(frame) if draining && frame.kind == Kind::Hello as i32 => {}
                    Ok(frame) => {
                        let input = ReplierInput::Datagram { from, size, frame: Box::new(frame) };
                        replier.handle(Instant::now().into_std(), input, &mut outputs);
                    }
                    Err(error) => tracing::debug!(peer = %from, %error, "datagram ignored"),
                }
            }
            Some(Finished { run, frame, lost }) = finished.recv() => {
                tasks.remove(&run);
                replier.handle(Instant::now().into_std(), ReplierInput::Finished { run, frame, lost }, &mut outputs);
                if draining && tasks.is_empty() {
                    flush(&socket, &mut outputs).await;
                    return;
                }
            }
            () = until(deadline) => {
                replier.handle(Instant::now().into_std(), ReplierInput::Tick, &mut outputs);
            }
            () = shutdown.draining(), if !draining => {
                draining = true;
                if tasks.is_empty() {
                    return;
                }
            }
            () = shutdown.stopped() => return,
        }
        for output in outputs.drain(..) {
            match output {
                ReplierOutput::Send { to, datagram } => send(&socket, &datagram, to).await,
                ReplierOutput::Execute { run, from, frame } => {
                    let (server, done) = (Arc::clone(&server), done.clone());
                    let task = shutdown.spawn(async move {
                        let (frame, lost) = server.execute(frame, from).await;
                        // The loop that does not wait any more has no use for it.
                        let _ = done.send(Finished { run, frame: Box::new(frame), lost }).await;
                    });
                    tasks.insert(run, task.abort_handle());
                }
                ReplierOutput::Cancel { run } => {
                    if let Some(task) = tasks.remove(&run) {
                        task.abort();
                    }
                }
            }
        }
    }
}

async fn flush(socket: &Datagrams, outputs: &mut Vec<ReplierOutput<SocketAddr>>) {
    for output in outputs.drain(..) {
        if let ReplierOutput::Send { to, datagram } = output {
            send(socket, &datagram, to).await;
        }
    }
}

async fn send(socket: &Datagrams, datagram: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(datagram, to).await {
        tracing::debug!(peer = %to, %error, "datagram not sent");
    }
}

/// Session numbers that nobody can guess: SipHash under a key of the operating system's randomness.
pub(crate) fn unguessable() -> Random {
    let (key, mut count) = (RandomState::new(), 0u64);
    Box::new(move || {
        count += 1;
        key.hash_one(count)
    })
}

impl Server {
    /// The piece of the description that `frame` asks for; never longer than the question.
    fn piece_datagram(&self, frame: &Frame, size: usize) -> Option<Vec<u8>> {
        let size_max = size.checked_sub(PIECE_OVERHEAD)?;
        let piece = Some(Box::new(self.piece(frame.piece.as_deref(), size_max)));
        Some(Frame { piece, ..Frame::new(Kind::Description, frame.request) }.datagram())
    }

    /// Runs one call; true if fault injection wants the reply to get lost.
    async fn execute(&self, mut frame: Box<Frame>, from: SocketAddr) -> (Frame, bool) {
        let request = frame.request;
        let fail = |code, text: String| (failure(request, &Status::new(code, text)), false);
        let catalog = self.catalog.load();
        let Some(route) = catalog.by_id(frame.method) else {
            return fail(Code::Unimplemented, format!("no method has the call id {:#010x}", frame.method));
        };
        let method = &route.method;
        if method.kind.client_streams() || method.kind.server_streams() {
            return fail(
                Code::Unimplemented,
                format!("{} streams, and UDP has no streams: use tcp://", method.path),
            );
        }
        let begun = Instant::now();
        let mut meter = self.metrics.start(method, begun);
        let peer = Arc::new(Peer { address: from.to_string(), tls_subject: None });
        let message = frame.message.take().unwrap_or_default();
        let size = message.len();
        let requests = Requests::One(Payload::proto(message));
        let mut call = call_of(&mut frame, route, self.metrics.next_call(), &peer, requests);
        let trace = traced(&mut call, size, begun);
        let deadline = call.deadline;
        let size_max = self.limits.message_size_max;
        let answer = async {
            let reply = route.answer(call).await;
            let Reply { headers, body } = match trace {
                Some(trace) => told(trace, reply),
                None => reply,
            };
            let (body, lost) = match body {
                Body::Lost(body) => (*body, true),
                body => (body, false),
            };
            (unary(request, method, Reply { headers, body }, size_max).await, lost)
        };
        let (reply, lost) = match deadline {
            None => answer.await,
            Some(deadline) => tokio::time::timeout_at(deadline, answer)
                .await
                .unwrap_or_else(|_| (failure(request, &too_late()), false)),
        };
        meter.end(code_of(&reply));
        let size = reply.encoded_len() + PREFACE.len() + DATAGRAM_OVERHEAD;
        if size > DATAGRAM_BYTES_MAX {
            let text = format!(
                "the call was executed, but its reply of {size} bytes does not fit into a datagram of \
                 {DATAGRAM_BYTES_MAX}: use tcp://"
            );
            return (failure(request, &Status::new(Code::ResourceExhausted, text)), lost);
        }
        (reply, lost)
    }
}
