//! From a request body to messages: bounded, decompressed, and as many as the method takes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::StreamExt as _;
use http_body::Body;
use http_body_util::BodyExt as _;

use crate::rpc::backend::{Payload, Requests};
use crate::rpc::budget::Part;
use crate::rpc::wire::envelope::{FLAG_COMPRESSED, Frame};
use crate::rpc::wire::web::TextDecoder;
use crate::rpc::wire::{CompressionError, ContentType, Deframer, Dialect, Encoding, EnvelopeError};
use crate::rpc::{Code, Kind, Status};

/// Reads the messages of one request.
pub struct MessageReader<B> {
    body: B,
    content: ContentType,
    encoding: Encoding,
    size_max: usize,
    deframer: Deframer,
    text: TextDecoder,
    ended: bool,
    held: Part,
    /// Bytes of the message that was given out last: whoever takes a stream has it until it asks for the next.
    given: usize,
}

impl<B> MessageReader<B>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    /// Reads `body`, of which each message has up to `size_max` bytes, compressed or not, and counts what it holds
    /// with `held`.
    pub fn new(body: B, content: ContentType, encoding: Encoding, size_max: usize, held: Part) -> Self {
        let (deframer, text) = (Deframer::new(size_max), TextDecoder::default());
        Self { body, content, encoding, size_max, deframer, text, ended: false, held, given: 0 }
    }

    /// The messages as a method of `kind` takes them. A single message is held as long as the [`Part`] that comes with
    /// it; a stream holds its last message until the next
    /// one is asked for, and what has come of that.
    ///
    /// # Errors
    /// There is no room for it, the body breaks the protocol, or has not exactly one message although the method takes one.
    pub async fn requests(mut self, kind: Kind) -> Result<(Requests, Option<Part>), Status> {
        if kind.client_streams() {
            return Ok((Requests::Stream(self.boxed()), None));
        }
        let payload = match self.content.dialect {
            Dialect::ConnectUnary => self.whole_body().await?,
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText | Dialect::ConnectStream => {
                self.only_message().await?
            }
        };
        self.held.resize(payload.bytes.len())?;
        Ok((Requests::One(payload), Some(self.held)))
    }

    async fn only_message(&mut self) -> Result<Payload, Status> {
        // UNIMPLEMENTED: gRPC's status codes, "cardinality violation".
        let cardinality = |text| Status::new(Code::Unimplemented, text);
        let first = poll_fn(|cx| self.poll_message(cx)).await?;
        let first = first.ok_or_else(|| cardinality("request has no message: this method takes one"))?;
        match poll_fn(|cx| self.poll_message(cx)).await? {
            None => Ok(first),
            Some(_) => Err(cardinality("request has more than one message: this method takes one")),
        }
    }

    async fn whole_body(&mut self) -> Result<Payload, Status> {
        let too_large = |size| envelope_status(EnvelopeError::TooLarge { size, limit: self.size_max });
        let announced = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.size_max {
            return Err(too_large(announced));
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            let size = first.len() + rest.len() + data.len();
            if size > self.size_max {
                return Err(too_large(size));
            }
            self.held.resize(size)?;
            if first.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&data);
            }
        }
        let whole = if rest.is_empty() { first } else { [&first[..], &rest[..]].concat().into() };
        Ok(Payload { format: self.content.format, bytes: self.decompress(&whole)? })
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Payload>, Status>> {
        loop {
            if let Some(frame) = self.deframer.next_frame().map_err(envelope_status)? {
                let payload = self.open(&frame)?;
                self.given = payload.bytes.len();
                self.held.resize(self.given + self.deframer.buffered())?;
                return Poll::Ready(Ok(Some(payload)));
            }
            if self.ended {
                return Poll::Ready(self.deframer.finish().map_err(envelope_status).map(|()| None));
            }
            self.held.resize(self.given + self.deframer.buffered())?;
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                // Trailers of a request mean nothing in any of the protocols.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        let data = self.untext(data)?;
                        self.deframer.push(data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => {
                    self.ended = true;
                    if self.content.dialect == Dialect::GrpcWebText {
                        let rest = self.text.finish().map_err(|error| malformed(&error))?;
                        self.deframer.push(rest);
                    }
                }
            }
        }
    }

    fn untext(&mut self, data: Bytes) -> Result<Bytes, Status> {
        match self.content.dialect {
            Dialect::GrpcWebText => self.text.push(&data).map_err(|error| malformed(&error)),
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::ConnectUnary | Dialect::ConnectStream => Ok(data),
        }
    }

    fn open(&self, frame: &Frame) -> Result<Payload, Status> {
        let bytes = match frame.flags {
            0 => frame.data.clone(),
            FLAG_COMPRESSED if self.encoding == Encoding::Identity => {
                return Err(Status::new(
                    Code::Internal,
                    "message is marked as compressed but the headers name no encoding",
                ));
            }
            FLAG_COMPRESSED => self.decompress(&frame.data)?,
            flags => return Err(malformed(&format_args!("message has unknown flags {flags:#04x}"))),
        };
        Ok(Payload { format: self.content.format, bytes })
    }

    fn decompress(&self, data: &Bytes) -> Result<Bytes, Status> {
        self.encoding.decompress(data, self.size_max).map_err(|error| match error {
            CompressionError::TooLarge { .. } => Status::new(Code::ResourceExhausted, error.to_string()),
            CompressionError::Malformed { .. } => malformed(&error),
        })
    }
}

impl<B> Stream for MessageReader<B>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    type Item = Result<Payload, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.given = 0;
        let item = std::task::ready!(self.poll_message(cx)).transpose();
        if matches!(item, Some(Err(_))) {
            // Nothing follows an error.
            self.ended = true;
            self.deframer = Deframer::new(0);
            self.held.clear();
        }
        Poll::Ready(item)
    }
}

fn envelope_status(error: EnvelopeError) -> Status {
    let code = match error {
        EnvelopeError::TooLarge { .. } => Code::ResourceExhausted,
        EnvelopeError::Truncated { .. } => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::new(Code::InvalidArgument, error.to_string())
}

fn broken(error: &dyn std::fmt::Display) -> Status {
    Status::new(Code::Canceled, format!("request broke off: {error}"))
}
