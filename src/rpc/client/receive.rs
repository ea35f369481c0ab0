//! The reply side of a call: headers, messages and how it ended, the same for every protocol.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::Ending;
use super::exchange::{HttpError, ResponseBody, ResponseHead};
use crate::rpc::wire::{
    CompressionError, ContentType, Deframer, Dialect, Encoding, EnvelopeError, Frame, connect, envelope,
    metadata, status, web,
};
use crate::rpc::{Code, Format, Status};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const CONNECT_CONTENT_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");

/// Timers here count milliseconds and timeouts are rounded down on their way to the server.
const DEADLINE_TOLERANCE: Duration = Duration::from_millis(10);

enum State {
    Waiting(ResponseHead),
    Reading(ResponseBody),
    Ended(Ending),
}

/// What the body of a response is, once its headers are known.
enum Content {
    /// Framed messages.
    Frames(Deframer),
    /// One bare message: Connect unary.
    Bare(BytesMut),
    /// A failed Connect unary call, in JSON.
    Failure(BytesMut, StatusCode),
}

/// Where the reply of a call comes out.
///
/// Every method may be dropped at an await point and called again: nothing is lost. Dropping the
/// receiver, and the sender if there is one, cancels the call.
pub struct Receiver {
    state: State,
    content: Content,
    dialect: Dialect,
    format: Format,
    size_max: usize,
    deadline: Option<Instant>,
    headers: HeaderMap,
    encoding: Encoding,
    /// Trailers that came ahead of the end: those of gRPC-Web and Connect.
    early_end: Option<Ending>,
    /// A gRPC status among the headers. It counts only if nothing else comes: "Trailers-Only".
    header_status: Option<Status>,
    received: u64,
}

impl Receiver {
    pub(super) fn new(
        head: ResponseHead,
        dialect: Dialect,
        options: &super::CallOptions,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            state: State::Waiting(head),
            content: Content::Frames(Deframer::new(options.message_size_max)),
            dialect,
            format: options.format,
            size_max: options.message_size_max,
            deadline,
            headers: HeaderMap::new(),
            encoding: Encoding::Identity,
            early_end: None,
            header_status: None,
            received: 0,
        }
    }

    /// A call that ended before it began.
    pub(super) fn ended(ending: Ending) -> Self {
        Self {
            state: State::Ended(ending),
            content: Content::Frames(Deframer::new(0)),
            dialect: Dialect::Grpc,
            format: Format::Proto,
            size_max: 0,
            deadline: None,
            headers: HeaderMap::new(),
            encoding: Encoding::Identity,
            early_end: None,
            header_status: None,
            received: 0,
        }
    }

    /// Waits for the headers of the response. They are empty if the call ended without any.
    pub async fn headers(&mut self) -> &HeaderMap {
        if let State::Waiting(_) = self.state {
            let deadline = self.deadline;
            match deadline {
                Some(deadline) => {
                    if timeout_at(deadline, self.wait_for_headers()).await.is_err() {
                        self.state = State::Ended(Ending::deadline());
                    }
                }
                None => self.wait_for_headers().await,
            }
        }
        &self.headers
    }

    /// The next message; `None` when there is no more, and then [`Self::ending`] tells how it ended.
    pub async fn message(&mut self) -> Option<Bytes> {
        let Some(deadline) = self.deadline else { return self.next().await };
        match timeout_at(deadline, self.next()).await {
            Ok(message) => message,
            Err(_) => {
                self.state = State::Ended(Ending::deadline());
                None
            }
        }
    }

    /// How the call ended; `None` while it has not. Reads no further by itself.
    pub fn ending(&self) -> Option<&Ending> {
        match &self.state {
            State::Ended(ending) => Some(ending),
            State::Waiting(_) | State::Reading(_) => None,
        }
    }

    /// Bytes of the response's body so far, as they were on the wire.
    pub fn bytes_received(&self) -> u64 {
        self.received
    }

    /// Reads the rest, throwing messages away, and returns the end.
    pub async fn end(mut self) -> (HeaderMap, Ending) {
        while self.message().await.is_some() {}
        match self.state {
            State::Ended(ending) => (self.headers, ending),
            State::Waiting(_) | State::Reading(_) => unreachable!("no message is left only after the end"),
        }
    }

    /// The only message of a reply that must have one, and how the call ended.
    pub async fn unary(mut self) -> UnaryReply {
        let message = self.message().await;
        let extra = message.is_some() && self.message().await.is_some();
        let (headers, mut ending) = self.end().await;
        if ending.status.is_ok() && (extra || message.is_none()) {
            let what = if extra { "more than one message" } else { "no message" };
            // gRPC, "Status codes and their use": wrong cardinality is UNIMPLEMENTED.
            ending = Ending {
                trailers: ending.trailers,
                ..Ending::malformed(Code::Unimplemented, format!("{what} came in reply to a unary call"))
            };
        }
        UnaryReply { headers, message: message.filter(|_| ending.status.is_ok()), ending }
    }

    async fn next(&mut self) -> Option<Bytes> {
        self.wait_for_headers().await;
        loop {
            let State::Reading(body) = &mut self.state else { return None };
            if let Content::Frames(deframer) = &mut self.content {
                match deframer.next_frame() {
                    Ok(Some(frame)) => match self.take(frame) {
                        Ok(Some(message)) => return Some(message),
                        Ok(None) => continue,
                        Err(ending) => {
                            self.state = State::Ended(*ending);
                            return None;
                        }
                    },
                    Ok(None) => {}
                    Err(error) => {
                        self.state = State::Ended(oversize(&error));
                        return None;
                    }
                }
            }
            match body.data().await {
                Some(Ok(chunk)) => {
                    self.received += chunk.len() as u64;
                    if let Err(ending) = self.push(chunk) {
                        self.state = State::Ended(*ending);
                    }
                }
                Some(Err(error)) => self.state = State::Ended(self.broken(&error)),
                None => {
                    let trailers = match body.trailers().await {
                        Ok(trailers) => trailers,
                        Err(error) => {
                            self.state = State::Ended(self.broken(&error));
                            return None;
                        }
                    };
                    return self.finish(trailers);
                }
            }
        }
    }

    /// A status that came before the connection broke stands. A server that enforces the deadline may
    /// reset the stream just before our own clock reaches it.
    fn broken(&mut self, error: &HttpError) -> Ending {
        let at_deadline = || self.deadline.is_some_and(|it| it <= Instant::now() + DEADLINE_TOLERANCE);
        match (self.early_end.take(), error) {
            (Some(ending), _) => ending,
            (None, HttpError::Reset(h2::Reason::CANCEL)) if at_deadline() => Ending::deadline(),
            (None, error) => Ending::broken(error),
        }
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Box<Ending>> {
        match &mut self.content {
            Content::Frames(deframer) => deframer.push(chunk),
            Content::Bare(buffer) | Content::Failure(buffer, _) => {
                let size = buffer.len() + chunk.len();
                if size > self.size_max {
                    return Err(oversize(&EnvelopeError::TooLarge { size, limit: self.size_max }).into());
                }
                buffer.extend_from_slice(&chunk);
            }
        }
        Ok(())
    }

    async fn wait_for_headers(&mut self) {
        let State::Waiting(head) = &mut self.state else { return };
        self.state = match head.wait().await {
            Ok(response) => self.begin(response),
            Err(error) => State::Ended(self.broken(&error)),
        };
    }

    fn begin(&mut self, response: Response<ResponseBody>) -> State {
        let (parts, body) = response.into_parts();
        self.headers = parts.headers;
        let name = match self.dialect {
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => GRPC_ENCODING,
            Dialect::ConnectUnary => CONTENT_ENCODING,
            Dialect::ConnectStream => CONNECT_CONTENT_ENCODING,
        };
        let encoding = match self.headers.get(name).map(|value| value.to_str().unwrap_or("unreadable")) {
            None => Encoding::Identity,
            Some(name) => match Encoding::from_name(name) {
                Some(encoding) => encoding,
                None => {
                    return State::Ended(Ending::malformed(
                        Code::Internal,
                        format!("the answer is compressed with {name:?}, which was not offered"),
                    ));
                }
            },
        };
        self.encoding = encoding;
        match self.dialect {
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => {
                self.header_status = status::take_grpc(&mut self.headers);
            }
            Dialect::ConnectUnary if parts.status != StatusCode::OK => {
                self.content = Content::Failure(BytesMut::new(), parts.status);
                return State::Reading(body);
            }
            Dialect::ConnectUnary => self.content = Content::Bare(BytesMut::new()),
            Dialect::ConnectStream => {}
        }
        match self.check_content_type(parts.status) {
            Ok(()) => State::Reading(body),
            Err(ending) => State::Ended(self.trailers_only().unwrap_or(*ending)),
        }
    }

    /// The end of a response that has nothing but headers: all its metadata is trailing.
    fn trailers_only(&mut self) -> Option<Ending> {
        let status = self.header_status.take()?;
        Some(Ending::answered(status, std::mem::take(&mut self.headers)))
    }

    fn check_content_type(&self, http: StatusCode) -> Result<(), Box<Ending>> {
        let text = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let expected = ContentType { dialect: self.dialect, format: self.format };
        let got = text.and_then(ContentType::parse);
        if http == StatusCode::OK && got == Some(expected) {
            return Ok(());
        }
        match got {
            // An RPC server, but not the encoding that was asked for.
            Some(got) if http == StatusCode::OK && got.dialect == self.dialect => {
                Err(Box::new(Ending::malformed(
                    Code::Internal,
                    format!("answered in {:?} instead of {:?}", text.unwrap_or_default(), expected.name()),
                )))
            }
            _ => Err(Box::new(Ending::foreign(http, text, expected.name()))),
        }
    }

    /// A message, or `None` for a frame that is the end.
    fn take(&mut self, frame: Frame) -> Result<Option<Bytes>, Box<Ending>> {
        if self.early_end.is_some() {
            return Err(malformed("more came after the end of the stream"));
        }
        let compressed = frame.is_compressed();
        if compressed && self.encoding == Encoding::Identity {
            return Err(malformed("a message is marked as compressed, but no compression was announced"));
        }
        let encoding = if compressed { self.encoding } else { Encoding::Identity };
        let data = encoding.decompress(&frame.data, self.size_max).map_err(|error| undecodable(&error))?;
        let flags = frame.flags & !envelope::FLAG_COMPRESSED;
        match (self.dialect, flags) {
            (_, 0) => return Ok(Some(data)),
            (Dialect::GrpcWeb | Dialect::GrpcWebText, envelope::FLAG_WEB_TRAILERS) => {
                let mut trailers = web::decode_trailers(&data)
                    .ok_or_else(|| malformed("the trailers are not header lines"))?;
                let status = status::take_grpc(&mut trailers).ok_or_else(no_status)?;
                self.early_end = Some(Ending::answered(status, trailers));
            }
            (Dialect::ConnectStream, envelope::FLAG_CONNECT_END) => {
                let (status, trailers) = connect::decode_end(&data)
                    .ok_or_else(|| malformed("the end of the stream is not JSON of Connect"))?;
                self.early_end = Some(Ending::answered(status, trailers));
            }
            _ => {
                return Err(malformed(&format!("a message has unknown flags {:#04x}", frame.flags)));
            }
        }
        Ok(None)
    }

    /// The end of the body. A bare message comes out only here.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Option<Bytes> {
        let content = std::mem::replace(&mut self.content, Content::Frames(Deframer::new(0)));
        let (message, ending) = match content {
            Content::Frames(deframer) => (None, self.end_of_frames(&deframer, trailers)),
            Content::Bare(buffer) => match self.encoding.decompress(&buffer.freeze(), self.size_max) {
                Ok(message) => {
                    let trailers = metadata::split_trailers(&mut self.headers);
                    (Some(message), Ending::answered(Status::ok(), trailers))
                }
                Err(error) => (None, undecodable(&error)),
            },
            Content::Failure(buffer, http) => (None, self.failure(&buffer.freeze(), http)),
        };
        self.state = State::Ended(ending);
        message
    }

    fn end_of_frames(&mut self, deframer: &Deframer, trailers: Option<HeaderMap>) -> Ending {
        if let Some(ending) = self.early_end.take() {
            return ending;
        }
        match trailers {
            Some(mut trailers) if self.dialect == Dialect::Grpc => {
                if let Some(status) = status::take_grpc(&mut trailers) {
                    return Ending::answered(status, trailers);
                }
            }
            Some(_) | None if self.received == 0 => {
                if let Some(ending) = self.trailers_only() {
                    return ending;
                }
            }
            Some(_) | None => {}
        }
        match deframer.finish() {
            Err(error) => Ending::malformed(Code::Internal, error.to_string()),
            Ok(()) => no_status(),
        }
    }

    fn failure(&mut self, body: &Bytes, http: StatusCode) -> Ending {
        let code = status::code_of_http(http);
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = content_type
            .and_then(ContentType::parse)
            .is_some_and(|it| it.dialect == Dialect::ConnectUnary && it.format == Format::Json);
        let decoded = is_json
            .then(|| self.encoding.decompress(body, self.size_max).ok())
            .flatten()
            .and_then(|body| connect::decode_error(&body, code));
        match decoded {
            Some(status) => Ending::answered(status, metadata::split_trailers(&mut self.headers)),
            None => Ending::foreign(http, content_type, "application/json"),
        }
    }
}

fn malformed(message: &str) -> Box<Ending> {
    Box::new(Ending::malformed(Code::Internal, message))
}

pub(super) fn no_status() -> Ending {
    Ending::malformed(Code::Internal, "the stream ended without a status")
}

pub(super) fn oversize(error: &EnvelopeError) -> Ending {
    Ending::malformed(Code::ResourceExhausted, format!("reply: {error}"))
}

fn undecodable(error: &CompressionError) -> Ending {
    let code = match error {
        CompressionError::TooLarge { .. } => Code::ResourceExhausted,
        CompressionError::Malformed { .. } => Code::Internal,
    };
    Ending::malformed(code, format!("reply: {error}"))
}

/// The reply to a unary call.
#[derive(Clone, Debug)]
pub struct UnaryReply {
    /// Leading metadata and the headers of the protocol.
    pub headers: HeaderMap,
    /// The message; `None` unless the status is OK.
    pub message: Option<Bytes>,
    /// How it ended.
    pub ending: Ending,
}

impl UnaryReply {
    /// An OK reply without metadata.
    pub(crate) fn ok(message: Bytes) -> Self {
        let ending = Ending::answered(Status::ok(), HeaderMap::new());
        Self { headers: HeaderMap::new(), message: Some(message), ending }
    }

    /// No message: this is how it ended.
    pub(crate) fn unanswered(ending: Ending) -> Self {
        Self { headers: HeaderMap::new(), message: None, ending }
    }
}
