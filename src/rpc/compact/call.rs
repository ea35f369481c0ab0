//! One call on the server's side: from a frame to a backend, from its reply to frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::HeaderMap;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::flow::{Inbox, Window, cost};
use super::wire::{Frame, Kind, metadata, pairs};
use crate::rpc::backend::{Body, Call, Event, Format, Payload, Peer, Protocol, Reply, Requests};
use crate::rpc::budget::Part;
use crate::rpc::catalog::{Method, Route};
use crate::rpc::metrics::Meter;
use crate::rpc::server::Trace;
use crate::rpc::status::{Code, Status};
use crate::rpc::wire::trace::{self, Stage};

/// What a server accepts before it refuses.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message.
    pub message_size_max: u32,
    /// Calls at a time on one connection.
    pub calls_max: u32,
    /// Bytes of a request stream that wait for its handler.
    pub window: u32,
    /// A peer that is silent for so long is pinged.
    pub keepalive_interval: Duration,
    /// A pinged peer that is silent for so long, a greeting that takes longer, or a peer that takes
    /// nothing for so long, is gone.
    pub silence_max: Duration,
    /// A connection without calls is closed after so long; `None` keeps it.
    pub idle_max: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size_max: 4 << 20,
            calls_max: 1024,
            window: 256 << 10,
            keepalive_interval: Duration::from_secs(60),
            silence_max: Duration::from_secs(20),
            idle_max: None,
        }
    }
}

/// What a running call hands to its connection.
#[derive(Debug)]
pub(super) enum Out {
    /// A frame, encoded with its length, and what counts it.
    Frame(Bytes, Option<Part>),
    /// The last frame of the call with that number, likewise.
    Done(u64, Bytes, Part),
    /// Cut the connection: fault injection lost the reply.
    Lost,
}

/// The bytes of a frame on a stream.
pub(super) fn encoded(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    frame.write(&mut out);
    out.freeze()
}

/// The frame that ends call `request` with `status`.
pub(super) fn failure(request: u64, status: &Status) -> Frame {
    let status = (!status.is_ok()).then(|| Box::new(status.into()));
    Frame { status, ..Frame::new(Kind::Reply, request) }
}

/// The call that `frame` asks for.
pub(super) fn call_of(
    frame: &mut Frame,
    route: &Route,
    id: u64,
    peer: &Arc<Peer>,
    requests: Requests,
) -> Call {
    let timeout = frame.timeout_ms.map(Duration::from_millis);
    Call {
        method: Arc::clone(&route.method),
        id,
        protocol: Protocol::Compact,
        peer: Arc::clone(peer),
        metadata: if frame.metadata.is_empty() { HeaderMap::new() } else { metadata(&frame.metadata) },
        // A timeout beyond what the clock can count is none.
        deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        requests,
    }
}

/// The reply of a call that asks for it, with what the server did and when in its trailers.
pub(super) fn traced(call: &mut Call, size: usize, start: Instant) -> Option<Trace> {
    let wanted = call.metadata.remove(trace::NAME)?;
    let asked = HeaderMap::from_iter([(trace::NAME, wanted)]);
    let mut trace = Trace::start(&asked, start);
    trace.note(Stage::Dispatch, 0);
    trace.note(Stage::Decode, size);
    trace.note(Stage::Handler, 0);
    Some(trace)
}

/// Notes that the reply is there.
pub(super) fn told(mut trace: Trace, mut reply: Reply) -> Reply {
    match &mut reply.body {
        Body::One { message, trailers } => {
            trace.note(Stage::Serialise, message.bytes.len());
            trace.write(trailers);
        }
        Body::Failed { trailers, .. } => trace.write(trailers),
        Body::Stream(_) | Body::Lost(_) => {}
    }
    reply
}

/// The request messages of an inbox; credit for them goes to the peer through `out`.
pub(super) fn request_stream(request: u64, inbox: Inbox<Status>, out: mpsc::Sender<Out>) -> Requests {
    // What was given out last is held until the next is asked for.
    let stream = futures_util::stream::unfold((inbox, out, None), move |(mut inbox, out, held)| async move {
        drop::<Option<Part>>(held);
        let (item, credit) = inbox.next().await;
        if let Some(credit) = credit {
            let frame = Frame { credit, ..Frame::new(Kind::Credit, request) };
            // A connection that is gone needs no credit.
            let _ = out.send(Out::Frame(encoded(&frame), None)).await;
        }
        match item? {
            Ok((message, held)) => Some((Ok(Payload::proto(message)), (inbox, out, held))),
            Err(status) => Some((Err(status), (inbox, out, None))),
        }
    });
    Requests::Stream(stream.boxed())
}

/// The last frame of a reply that is not a stream; the reply itself if it is one, or lost.
pub(super) fn finished(
    request: u64,
    method: &Method,
    reply: Reply,
    size_max: u32,
) -> Result<Frame, Box<Reply>> {
    match reply.body {
        Body::One { message, trailers } => {
            let frame = message_of(method, &message, size_max).map(|message| Frame {
                message: Some(message),
                metadata: pairs(&reply.headers),
                trailers: pairs(&trailers),
                ..Frame::new(Kind::Reply, request)
            });
            Ok(frame.unwrap_or_else(|status| failure(request, &status)))
        }
        Body::Failed { status, trailers } => Ok(Frame {
            metadata: pairs(&reply.headers),
            trailers: pairs(&trailers),
            ..failure(request, &status)
        }),
        body @ (Body::Stream(_) | Body::Lost(_)) => Err(Box::new(Reply { headers: reply.headers, body })),
    }
}

/// The protobuf bytes of a reply message.
pub(super) fn message_of(method: &Method, payload: &Payload, size_max: u32) -> Result<Bytes, Status> {
    let bytes = match payload.format {
        Format::Proto => payload.bytes.clone(),
        // The caller is not to blame for what a handler replied.
        Format::Json => method
            .output
            .convert(payload, Format::Proto)
            .map_err(|status| Status { code: Code::Internal, ..status })?,
    };
    if bytes.len() > size_max as usize {
        let text = format!("a reply of {} bytes is over the limit of {size_max}", bytes.len());
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(bytes)
}

/// How the call that this frame ends has ended.
pub(super) fn code_of(last: &Frame) -> Code {
    let number = last.status.as_ref().map_or(0, |status| status.code);
    u32::try_from(number).ok().and_then(Code::from_number).unwrap_or(Code::Unknown)
}

/// The end of a call that took too long.
pub(super) fn too_late() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline has passed")
}

/// Waits for a reply and makes one frame of it. A stream must be of exactly one message.
pub(super) async fn unary(request: u64, method: &Method, reply: Reply, size_max: u32) -> Frame {
    let reply = match finished(request, method, reply, size_max) {
        Ok(frame) => return frame,
        Err(reply) => *reply,
    };
    let (headers, Body::Stream(mut events)) = (reply.headers, reply.body) else {
        // Who can lose a reply has looked for it before.
        return failure(request, &Status::new(Code::Unavailable, "the reply was lost"));
    };
    let mut messages = Vec::new();
    let (status, trailers) = loop {
        match events.next().await {
            Some(Event::Message(message)) if messages.is_empty() => messages.push(message),
            Some(Event::Message(_)) => {
                let text = format!("{} replied with more than one message", method.path);
                break (Status::new(Code::Internal, text), HeaderMap::new());
            }
            Some(Event::End { status, trailers }) => break (status, trailers),
            None => break (no_status(), HeaderMap::new()),
        }
    };
    let body = match messages.pop() {
        Some(message) if status.is_ok() => Body::One { message, trailers },
        None if status.is_ok() => {
            let status = Status::new(Code::Internal, format!("{} replied without a message", method.path));
            Body::Failed { status, trailers }
        }
        Some(_) | None => Body::Failed { status, trailers },
    };
    let reply = Reply { headers, body };
    finished(request, method, reply, size_max).unwrap_or_else(|_| failure(request, &no_status()))
}

fn no_status() -> Status {
    Status::new(Code::Internal, "the reply ended without a status")
}

/// A call that could not be answered at once.
pub(super) struct Running {
    pub(super) request: u64,
    pub(super) method: Arc<Method>,
    pub(super) meter: Meter,
    pub(super) deadline: Option<Instant>,
    pub(super) size_max: u32,
    pub(super) window: Arc<Window>,
    pub(super) out: mpsc::Sender<Out>,
    /// What counts the call and its request.
    pub(super) held: Part,
}

impl Running {
    /// Waits for the reply and sends it.
    pub(super) async fn run(mut self, reply: impl Future<Output = Reply>) {
        let last = match self.deadline {
            None => self.answer(reply).await,
            Some(deadline) => tokio::time::timeout_at(deadline, self.answer(reply))
                .await
                .unwrap_or_else(|_| Some(failure(self.request, &too_late()))),
        };
        if let Some(frame) = &last {
            self.meter.end(code_of(frame));
        }
        // Counted before the caller can know.
        drop(self.meter);
        let out = last.map_or(Out::Lost, |frame| {
            let (request, mut held) = (self.request, self.held);
            let size = frame.encoded_len();
            match held.resize(size) {
                Ok(()) => Out::Done(request, encoded(&frame), held),
                Err(status) => Out::Done(request, encoded(&failure(request, &status)), held),
            }
        });
        // A connection that is gone needs no reply.
        let _ = self.out.send(out).await;
    }

    /// Sends all but the last frame, which it returns; `None` if the reply was lost.
    async fn answer(&self, reply: impl Future<Output = Reply>) -> Option<Frame> {
        let reply = reply.await;
        if matches!(reply.body, Body::Lost(_)) {
            return None;
        }
        if !self.method.kind.server_streams() {
            return Some(unary(self.request, &self.method, reply, self.size_max).await);
        }
        let reply = match finished(self.request, &self.method, reply, self.size_max) {
            Ok(frame) => return Some(frame),
            Err(reply) => *reply,
        };
        let (headers, Body::Stream(mut events)) = (reply.headers, reply.body) else { return None };
        if !headers.is_empty() {
            let frame = Frame { metadata: pairs(&headers), ..Frame::new(Kind::Message, self.request) };
            self.out.send(Out::Frame(encoded(&frame), None)).await.ok()?;
        }
        loop {
            match events.next().await {
                Some(Event::Message(message)) => match message_of(&self.method, &message, self.size_max) {
                    Ok(message) => {
                        self.window.take(cost(&message)).await;
                        let mut held = self.held.share().part();
                        match held.resize(message.len()) {
                            Ok(()) => self.send(message, held).await?,
                            Err(status) => return Some(failure(self.request, &status)),
                        }
                    }
                    Err(status) => return Some(failure(self.request, &status)),
                },
                Some(Event::End { status, trailers }) => {
                    return Some(Frame { trailers: pairs(&trailers), ..failure(self.request, &status) });
                }
                None => return Some(failure(self.request, &no_status())),
            }
        }
    }

    async fn send(&self, message: Bytes, held: Part) -> Option<()> {
        let frame = Frame { message: Some(message), ..Frame::new(Kind::Message, self.request) };
        self.out.send(Out::Frame(encoded(&frame), Some(held))).await.ok()
    }
}
