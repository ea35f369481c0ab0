//! From a reply to a response: messages into a body, status into trailers, in as few frames as possible.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::exchange::Terms;
use super::trace::Trace;
use crate::rpc::backend::{self, Event, Payload, Reply};
use crate::rpc::budget::{CALL_SIZE, Part};
use crate::rpc::metrics::Meter;
use crate::rpc::status::Detail;
use crate::rpc::wire::envelope::{FLAG_COMPRESSED, FLAG_CONNECT_END, FLAG_WEB_TRAILERS, Framed, encode};
use crate::rpc::wire::trace::Stage;
use crate::rpc::wire::{ContentType, Dialect, Encoding, connect, metadata, status, web};
use crate::rpc::{Code, Format, Status};

/// A response body.
#[derive(Debug)]
pub enum ReplyBody {
    /// All of it is known: at most one piece of data, then perhaps trailers.
    Whole {
        /// The data.
        data: Option<Held>,
        /// The trailers.
        trailers: Option<HeaderMap>,
    },
    /// It comes as the backend makes it.
    Streaming(Box<Streaming>),
}

impl ReplyBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self::Whole { data: None, trailers: None }
    }

    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::whole(Some(Framed::bare(bytes.into())), None)
    }

    fn whole(data: Option<Framed>, trailers: Option<HeaderMap>) -> Self {
        Self::Whole { data: data.map(|framed| Held { framed, _part: None }), trailers }
    }

    /// Counts its data with `part` until the peer has taken it. A stream counts its own.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn hold(&mut self, mut part: Part) -> Result<(), Status> {
        if let Self::Whole { data: Some(data), .. } = self {
            part.resize(CALL_SIZE + data.remaining())?;
            data._part = Some(part);
        }
        Ok(())
    }
}

impl Body for ReplyBody {
    type Data = Held;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        match self.get_mut() {
            Self::Whole { data, trailers } => {
                let data = data.take().map(Frame::data);
                Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Self::Streaming(streaming) => streaming.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Self::Streaming(streaming) => streaming.events.is_none() && streaming.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { data, trailers: None } => {
                let size = data.as_ref().map_or(0, Buf::remaining);
                SizeHint::with_exact(size.try_into().unwrap_or(u64::MAX))
            }
            Self::Whole { .. } | Self::Streaming(_) => SizeHint::default(),
        }
    }
}

/// Data on its way to the peer, and the part of its connection's share that it takes until it is there.
#[derive(Debug)]
pub struct Held {
    framed: Framed,
    _part: Option<Part>,
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.framed.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.framed.chunk()
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [std::io::IoSlice<'a>]) -> usize {
        self.framed.chunks_vectored(out)
    }

    fn advance(&mut self, count: usize) {
        self.framed.advance(count);
    }
}

/// What goes along with one call until its end.
#[derive(Debug)]
pub struct Ending {
    /// Asked-for timings.
    pub trace: Trace,
    /// Counts the call until it is dropped.
    pub meter: Meter,
    /// What the call itself holds.
    pub held: Part,
}

/// A body whose messages come one by one.
pub struct Streaming {
    events: Option<BoxStream<'static, Event>>,
    trailers: Option<HeaderMap>,
    deadline: Option<Pin<Box<Sleep>>>,
    terms: Terms,
    ending: Ending,
}

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("method", &self.terms.method.path).finish_non_exhaustive()
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Held>>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Frame::trailers(trailers)));
        }
        let Some(events) = &mut self.events else { return Poll::Ready(None) };
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(self.end(&deadline_exceeded(), HeaderMap::new())));
        }
        let frame = match ready!(events.poll_next_unpin(cx)) {
            Some(Event::Message(message)) => {
                self.ending.trace.note(Stage::Serialise, message.bytes.len());
                let data = self.terms.message(&message).and_then(|(flags, data)| {
                    let mut part = self.ending.held.share().part();
                    part.resize(data.len())?;
                    Ok(Held { framed: self.terms.framed(flags, data), _part: Some(part) })
                });
                match data {
                    Ok(data) => Frame::data(data),
                    Err(status) => self.end(&status, HeaderMap::new()),
                }
            }
            Some(Event::End { status, trailers }) => self.end(&status, trailers),
            None => self.end(&Status::new(Code::Internal, "stream ended without a status"), HeaderMap::new()),
        };
        Poll::Ready(Some(frame))
    }

    /// Drops the backend's stream, which cancels what still runs, and gives the last frame.
    fn end(&mut self, status: &Status, trailers: HeaderMap) -> Frame<Held> {
        self.events = None;
        self.ending.meter.end(status.code);
        let mut trailers = own(trailers);
        self.ending.trace.write(&mut trailers);
        match self.terms.end(status, trailers) {
            End::Trailers(trailers) => Frame::trailers(trailers),
            End::Data(flags, data) => {
                Frame::data(Held { framed: self.terms.framed(flags, data), _part: None })
            }
        }
    }
}

/// The last thing of a stream.
enum End {
    Trailers(HeaderMap),
    Data(u8, Bytes),
}

/// The status of a call that took too long.
pub fn deadline_exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "deadline exceeded")
}

/// The reply is lost on purpose: hyper then resets the stream, or closes the connection of HTTP/1.1.
#[derive(Debug, thiserror::Error)]
#[error("reply dropped by fault injection")]
pub struct LostReply;

/// Turns a reply into a response.
///
/// A method that is not server-streaming must come with `One` or `Failed`: see [`collapse`].
pub fn respond(terms: Terms, reply: Reply, mut ending: Ending) -> Result<Response<ReplyBody>, LostReply> {
    let mut headers = own(reply.headers);
    let whole = match reply.body {
        backend::Body::One { message, trailers } => {
            ending.trace.note(Stage::Serialise, message.bytes.len());
            match terms.message(&message) {
                Ok(message) => Whole { message: Some(message), status: Status::ok(), trailers },
                Err(status) => Whole { message: None, status, trailers },
            }
        }
        backend::Body::Failed { status, trailers } => Whole { message: None, status, trailers },
        backend::Body::Stream(events) => {
            terms.write_headers(&mut headers);
            let deadline = terms.deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
            let streaming = Streaming { events: Some(events), trailers: None, deadline, terms, ending };
            return Ok(response(headers, ReplyBody::Streaming(Box::new(streaming))));
        }
        backend::Body::Lost(_) => return Err(LostReply),
    };
    let code = whole.status.code;
    let mut trailers = own(whole.trailers);
    ending.trace.write(&mut trailers);
    let mut response = respond_whole(&terms, headers, Whole { trailers, ..whole });
    let held = response.body_mut().hold(ending.held);
    ending.meter.end(held.as_ref().map_or_else(|status| status.code, |()| code));
    Ok(held.map_or_else(|status| refuse(&terms, status), |()| response))
}

/// A refusal before there was a backend to ask.
pub fn refuse(terms: &Terms, status: Status) -> Response<ReplyBody> {
    respond_whole(terms, HeaderMap::new(), Whole { message: None, status, trailers: HeaderMap::new() })
}

/// A refusal of a call to a method that is not there.
pub fn refuse_unrouted(content: ContentType, status: &Status) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content.name()));
    match end(content.dialect, status, HeaderMap::new(), &|_| None) {
        End::Trailers(trailers) => {
            headers.extend(trailers);
            response(headers, ReplyBody::empty())
        }
        End::Data(flags, data) => {
            let data = Some(framed(content.dialect, flags, data));
            response(headers, ReplyBody::whole(data, None))
        }
    }
}

struct Whole {
    message: Option<(u8, Bytes)>,
    status: Status,
    trailers: HeaderMap,
}

fn respond_whole(terms: &Terms, mut headers: HeaderMap, whole: Whole) -> Response<ReplyBody> {
    let Whole { message, status, trailers } = whole;
    if terms.content.dialect == Dialect::ConnectUnary {
        return respond_connect_unary(terms, headers, message, &status, &trailers);
    }
    let trailers_only = headers.is_empty() && message.is_none();
    terms.write_headers(&mut headers);
    match (terms.end(&status, trailers), message) {
        // gRPC over HTTP/2, "Trailers-Only": one frame instead of two.
        (End::Trailers(trailers), None) if trailers_only => {
            headers.extend(trailers);
            response(headers, ReplyBody::empty())
        }
        (End::Trailers(trailers), message) => {
            let data = message.map(|(flags, data)| Framed::new(flags, data));
            response(headers, ReplyBody::whole(data, Some(trailers)))
        }
        (End::Data(flags, end), None) => {
            response(headers, ReplyBody::whole(Some(terms.framed(flags, end)), None))
        }
        (End::Data(end_flags, end), Some((flags, data))) => {
            let both = [encode(flags, &data), encode(end_flags, &end)].concat();
            let both = if terms.content.dialect == Dialect::GrpcWebText {
                web::encode_text(&both)
            } else {
                both.into()
            };
            response(headers, ReplyBody::bytes(both))
        }
    }
}

fn respond_connect_unary(
    terms: &Terms,
    mut headers: HeaderMap,
    message: Option<(u8, Bytes)>,
    status: &Status,
    trailers: &HeaderMap,
) -> Response<ReplyBody> {
    metadata::append_trailers_as_headers(&mut headers, trailers);
    let Some((flags, data)) = message else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = response(headers, ReplyBody::bytes(terms.error_json(status)));
        *response.status_mut() = status::http_status(status.code);
        return response;
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(terms.content.name()));
    if flags & FLAG_COMPRESSED != 0 {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(terms.reply_encoding.name()));
    }
    response(headers, ReplyBody::bytes(data))
}

fn response(headers: HeaderMap, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// Metadata that a backend may set.
fn own(mut metadata: HeaderMap) -> HeaderMap {
    if !metadata.is_empty() {
        metadata::strip_reserved(&mut metadata);
    }
    metadata
}

fn framed(dialect: Dialect, flags: u8, data: Bytes) -> Framed {
    match dialect {
        Dialect::GrpcWebText => Framed::bare(web::encode_text(&encode(flags, &data))),
        Dialect::ConnectUnary => Framed::bare(data),
        Dialect::Grpc | Dialect::GrpcWeb | Dialect::ConnectStream => Framed::new(flags, data),
    }
}

/// The end of a stream, with trailers that may already hold a trace.
fn end(dialect: Dialect, status: &Status, mut trailers: HeaderMap, debug: connect::DebugDetail<'_>) -> End {
    match dialect {
        Dialect::Grpc => {
            status::write_grpc(status, &mut trailers);
            End::Trailers(trailers)
        }
        Dialect::GrpcWeb | Dialect::GrpcWebText => {
            status::write_grpc(status, &mut trailers);
            End::Data(FLAG_WEB_TRAILERS, web::encode_trailers(&trailers))
        }
        Dialect::ConnectUnary | Dialect::ConnectStream => {
            End::Data(FLAG_CONNECT_END, connect::encode_end(status, &trailers, debug))
        }
    }
}

impl Terms {
    /// A message as it goes on the wire, without its prefix: converted and compressed.
    fn message(&self, payload: &Payload) -> Result<(u8, Bytes), Status> {
        let bytes = if payload.format == self.content.format {
            payload.bytes.clone()
        } else {
            // It is our backend that sent nonsense, not the caller.
            self.method.output.convert(payload, self.content.format).map_err(|status| Status {
                code: Code::Internal,
                message: format!("reply is {}", status.message),
                ..status
            })?
        };
        if self.reply_encoding == Encoding::Identity || bytes.len() < self.compress_size_min {
            return Ok((0, bytes));
        }
        Ok((FLAG_COMPRESSED, self.reply_encoding.compress(&bytes)))
    }

    fn framed(&self, flags: u8, data: Bytes) -> Framed {
        framed(self.content.dialect, flags, data)
    }

    fn end(&self, status: &Status, trailers: HeaderMap) -> End {
        end(self.content.dialect, status, trailers, &|detail| self.debug(detail))
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content.name()));
        let names = EncodingHeaders::of(self.content.dialect);
        if self.reply_encoding != Encoding::Identity {
            headers.insert(names.used, HeaderValue::from_static(self.reply_encoding.name()));
        }
        if self.tell_accepted {
            headers.insert(names.accepted, HeaderValue::from_static(Encoding::ACCEPTED));
        }
    }

    fn error_json(&self, status: &Status) -> Bytes {
        connect::encode_error(status, &|detail| self.debug(detail))
    }

    /// A detail as readable JSON, if the schema knows its type.
    fn debug(&self, detail: &Detail) -> Option<String> {
        let message = self.schema.message(&detail.type_name)?;
        let json = message.convert(&Payload::proto(detail.value.clone()), Format::Json).ok()?;
        String::from_utf8(json.to_vec()).ok()
    }
}

/// The names of the headers about compression.
pub struct EncodingHeaders {
    /// How the messages of this side are compressed.
    pub used: HeaderName,
    /// What this side can decompress.
    pub accepted: HeaderName,
}

impl EncodingHeaders {
    /// The names in a dialect.
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => Self {
                used: HeaderName::from_static("grpc-encoding"),
                accepted: HeaderName::from_static("grpc-accept-encoding"),
            },
            Dialect::ConnectUnary => {
                Self { used: header::CONTENT_ENCODING, accepted: header::ACCEPT_ENCODING }
            }
            Dialect::ConnectStream => Self {
                used: HeaderName::from_static("connect-content-encoding"),
                accepted: HeaderName::from_static("connect-accept-encoding"),
            },
        }
    }
}

/// Makes one message or a failure of a streamed reply, for a method that is not server-streaming.
pub async fn collapse(reply: Reply) -> Reply {
    let Reply { headers, body } = reply;
    let backend::Body::Stream(mut events) = body else { return Reply { headers, body } };
    let mut message = None;
    let failed = |status, trailers| backend::Body::Failed { status, trailers };
    let wrong = |text| failed(Status::new(Code::Internal, text), HeaderMap::new());
    let body = loop {
        match events.next().await {
            Some(Event::Message(_)) if message.is_some() => {
                break wrong("method replied with more than one message");
            }
            Some(Event::Message(first)) => message = Some(first),
            Some(Event::End { status, trailers }) if !status.is_ok() => break failed(status, trailers),
            Some(Event::End { trailers, .. }) => match message {
                Some(message) => break backend::Body::One { message, trailers },
                None => break wrong("method replied without a message"),
            },
            None => break wrong("stream ended without a status"),
        }
    };
    Reply { headers, body }
}
