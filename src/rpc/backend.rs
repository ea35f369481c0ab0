//! The seam: a call as every protocol hands it over, and the reply as every protocol takes it.
//!
//! A backend sees message bytes and never a protocol; a protocol sees a [`Reply`] and never a command.
//! Dropping the future or the reply stream cancels the call: a backend must then stop its work.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::HeaderMap;
use tokio::time::Instant;

use super::{Method, Status};

/// How the bytes of a message are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Protocol Buffers.
    Proto,
    /// The canonical JSON mapping of the message.
    Json,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The encoding of `bytes`.
    pub format: Format,
    /// The encoded message, uncompressed.
    pub bytes: Bytes,
}

impl Payload {
    /// A protobuf message.
    pub fn proto(bytes: impl Into<Bytes>) -> Self {
        Self { format: Format::Proto, bytes: bytes.into() }
    }

    /// A JSON message.
    pub fn json(bytes: impl Into<Bytes>) -> Self {
        Self { format: Format::Json, bytes: bytes.into() }
    }
}

/// What a call came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, binary or text.
    GrpcWeb,
    /// Connect.
    Connect,
    /// JSON-RPC 2.0.
    JsonRpc,
    /// bandy's compact protocol.
    Compact,
}

impl Protocol {
    /// Its name in environment variables, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Connect => "connect",
            Self::JsonRpc => "jsonrpc",
            Self::Compact => "compact",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address of the other end.
    pub address: String,
    /// Subject of the client certificate, if one was given and verified.
    pub tls_subject: Option<String>,
}

/// The messages of a call.
pub enum Requests {
    /// The method takes one message and here it is.
    One(Payload),
    /// The method takes a stream. `Err` is a broken or cancelled request; nothing follows it.
    Stream(BoxStream<'static, Result<Payload, Status>>),
}

/// One call.
pub struct Call {
    /// What is called.
    pub method: Arc<Method>,
    /// Number of the call within this server, for traces.
    pub id: u64,
    /// What it came in on.
    pub protocol: Protocol,
    /// Who calls.
    pub peer: Arc<Peer>,
    /// Request headers without those that belong to the protocol. Values of `-bin` names are
    /// kept as they were sent (base64 text).
    pub metadata: HeaderMap,
    /// When the caller gives up. The server enforces it too.
    pub deadline: Option<Instant>,
    /// The request messages.
    pub requests: Requests,
}

/// A piece of a streamed reply.
#[derive(Debug)]
pub enum Event {
    /// The next message.
    Message(Payload),
    /// The end; nothing follows it.
    End {
        /// How it ended.
        status: Status,
        /// Trailing metadata.
        trailers: HeaderMap,
    },
}

/// The messages of a reply and how it ended.
pub enum Body {
    /// One message and OK.
    One {
        /// The message.
        message: Payload,
        /// Trailing metadata.
        trailers: HeaderMap,
    },
    /// No message, not OK.
    Failed {
        /// How it ended.
        status: Status,
        /// Trailing metadata.
        trailers: HeaderMap,
    },
    /// Any number of messages, then exactly one [`Event::End`]. A stream that ends without it is
    /// reported as INTERNAL.
    Stream(BoxStream<'static, Event>),
    /// The work was done and the reply, which is inside, got lost: the protocol sends nothing, and cuts
    /// the stream or connection where there is one. Only a protocol that remembers replies for
    /// retransmitted requests looks inside. Only fault injection answers so.
    Lost(Box<Body>),
}

/// The answer to a call.
pub struct Reply {
    /// Leading metadata.
    pub headers: HeaderMap,
    /// Messages and status.
    pub body: Body,
}

impl Reply {
    /// One message, OK, no metadata.
    pub fn one(message: Payload) -> Self {
        Self { headers: HeaderMap::new(), body: Body::One { message, trailers: HeaderMap::new() } }
    }

    /// A failure without metadata.
    pub fn failed(status: Status) -> Self {
        Self { headers: HeaderMap::new(), body: Body::Failed { status, trailers: HeaderMap::new() } }
    }

    /// A stream of messages with its end.
    pub fn stream(events: BoxStream<'static, Event>) -> Self {
        Self { headers: HeaderMap::new(), body: Body::Stream(events) }
    }
}

/// What answers calls.
pub trait Backend: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// Contract: the returned future and the reply's stream may be dropped at any await point; that
    /// cancels the call, and the backend stops its work (kills a handler's process group, say).
    /// The reply's payloads may be in either [`Format`]; the protocol converts. A method that is not
    /// server-streaming must answer with `One`, `Failed`, or a stream of exactly one message.
    /// The future must not wait for the request stream to end before it returns a streaming reply
    /// that does not depend on it: headers of a bidirectional call go out when it returns.
    fn call(&self, call: Call) -> BoxFuture<'static, Reply>;
}
