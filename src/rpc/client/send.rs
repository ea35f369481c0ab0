//! The request side of a call: headers by protocol, messages framed and compressed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use tokio::time::{Instant, timeout_at};

use super::exchange::{RequestHalf, SendClosed};
use super::target::{HttpProtocol, Target};
use crate::rpc::Format;
use crate::rpc::wire::{self, ContentType, Dialect, Encoding, connect, envelope, metadata, timeout};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const CONNECT_TIMEOUT_MS: HeaderName = HeaderName::from_static("connect-timeout-ms");
const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const CONNECT_CONTENT_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const CONNECT_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("connect-accept-encoding");
const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");

/// A GET whose URL would be longer than this is sent as a POST.
const GET_URL_BYTES_MAX: usize = 8 << 10;

/// How to make a call.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// Request metadata; values of `-bin` names are base64.
    pub metadata: HeaderMap,
    /// Time for the whole call: sent to the server and enforced here.
    pub timeout: Option<Duration>,
    /// Encoding of messages.
    pub format: Format,
    /// Compression of request messages.
    pub compression: Encoding,
    /// Largest reply message that is accepted, before and after decompression.
    pub message_size_max: usize,
    /// Ask the server for its side of the story, if it is one of ours.
    pub trace: bool,
    /// Connect: send a unary call as GET. Only for methods without side effects.
    pub get: bool,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            metadata: HeaderMap::new(),
            timeout: None,
            format: Format::Proto,
            compression: Encoding::Identity,
            message_size_max: wire::MESSAGE_SIZE_MAX,
            trace: false,
            get: false,
        }
    }
}

/// A call's shape, as far as HTTP shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One message each way.
    Unary,
    /// Anything else.
    Streaming,
}

/// The dialect in which `protocol` makes a call of that shape.
pub(super) fn dialect(protocol: HttpProtocol, shape: Shape) -> Dialect {
    match (protocol, shape) {
        (HttpProtocol::Grpc, _) => Dialect::Grpc,
        (HttpProtocol::GrpcWeb, _) => Dialect::GrpcWeb,
        (HttpProtocol::Connect, Shape::Unary) => Dialect::ConnectUnary,
        (HttpProtocol::Connect, Shape::Streaming) => Dialect::ConnectStream,
    }
}

/// The head of a request, ready for either version of HTTP.
pub(super) struct RequestHead {
    method: Method,
    path: String,
    headers: HeaderMap,
}

impl RequestHead {
    /// The head of a call that is sent in a body.
    pub(super) fn post(target: &Target, path: &str, dialect: Dialect, options: &CallOptions) -> Self {
        let mut headers = common_headers(options);
        let name = match (dialect, options.format) {
            // Everybody knows the short name.
            (Dialect::Grpc, Format::Proto) => "application/grpc",
            (dialect, format) => ContentType { dialect, format }.name(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(name));
        let compression = Some(options.compression).filter(|it| *it != Encoding::Identity);
        let accept = HeaderValue::from_static(Encoding::ACCEPTED);
        let (content_encoding, accept_encoding) = match dialect {
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => (GRPC_ENCODING, GRPC_ACCEPT_ENCODING),
            Dialect::ConnectUnary => (CONTENT_ENCODING, ACCEPT_ENCODING),
            Dialect::ConnectStream => (CONNECT_CONTENT_ENCODING, CONNECT_ACCEPT_ENCODING),
        };
        headers.insert(accept_encoding, accept);
        if let Some(compression) = compression {
            headers.insert(content_encoding, HeaderValue::from_static(compression.name()));
        }
        match dialect {
            Dialect::Grpc => {
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
            Dialect::GrpcWeb | Dialect::GrpcWebText => {
                headers.insert(X_GRPC_WEB, HeaderValue::from_static("1"));
            }
            Dialect::ConnectUnary | Dialect::ConnectStream => {
                headers.insert(CONNECT_VERSION, HeaderValue::from_static(connect::VERSION));
            }
        }
        set_timeout(&mut headers, dialect, options.timeout);
        Self { method: Method::POST, path: format!("{}/{path}", target.prefix), headers }
    }

    /// The head of a JSON document.
    pub(super) fn json(target: &Target, options: &CallOptions) -> Self {
        let mut headers = common_headers(options);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        set_timeout(&mut headers, Dialect::ConnectUnary, options.timeout);
        Self { method: Method::POST, path: format!("{}/", target.prefix), headers }
    }

    /// The head of a Connect GET, which has its message in the query; `None` if that would be too long.
    pub(super) fn get(target: &Target, path: &str, message: &Bytes, options: &CallOptions) -> Option<Self> {
        let query = connect::encode_get(options.format, message, options.compression);
        let path = format!("{}/{path}?{query}", target.prefix);
        if path.len() > GET_URL_BYTES_MAX {
            return None;
        }
        let mut headers = common_headers(options);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(Encoding::ACCEPTED));
        set_timeout(&mut headers, Dialect::ConnectUnary, options.timeout);
        Some(Self { method: Method::GET, path, headers })
    }

    /// True if the message is in the URL.
    pub(super) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    /// The request line and headers as `version` wants them.
    pub(super) fn build(&self, target: &Target, version: Version) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.version_mut() = version;
        *request.headers_mut() = self.headers.clone();
        let uri = Uri::builder().path_and_query(self.path.as_str());
        *request.uri_mut() = if version == Version::HTTP_2 {
            uri.scheme(target.scheme()).authority(target.authority.as_str()).build()
        } else {
            if let Ok(host) = HeaderValue::try_from(&target.authority) {
                request.headers_mut().insert(HOST, host);
            }
            uri.build()
        }
        // Paths and authorities come from parsed endpoints and methods; a name that is none is answered
        // by the server as any unknown method is.
        .unwrap_or_else(|_| Uri::from_static("/"));
        request
    }
}

fn common_headers(options: &CallOptions) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(options.metadata.len() + 6);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("bandy/", env!("CARGO_PKG_VERSION"))));
    let mut replaced = HeaderMap::with_capacity(options.metadata.len());
    metadata::append(&mut replaced, options.metadata.clone());
    if replaced.contains_key(USER_AGENT) {
        headers.remove(USER_AGENT);
    }
    metadata::append(&mut headers, replaced);
    if options.trace {
        headers.insert(wire::trace::NAME, HeaderValue::from_static("1"));
    }
    headers
}

fn set_timeout(headers: &mut HeaderMap, dialect: Dialect, limit: Option<Duration>) {
    let Some(limit) = limit else { return };
    let (name, text) = match dialect {
        Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => {
            (GRPC_TIMEOUT, timeout::format_grpc(limit))
        }
        Dialect::ConnectUnary | Dialect::ConnectStream => {
            (CONNECT_TIMEOUT_MS, timeout::format_connect(limit))
        }
    };
    headers.insert(name, HeaderValue::try_from(text).expect("digits and a letter"));
}

/// One request message as its dialect lays it into the body.
pub(super) fn body_of(dialect: Dialect, compression: Encoding, message: &Bytes) -> Bytes {
    let (flags, data) = match compression {
        Encoding::Identity => (0, message.clone()),
        // Peers disagree on what an empty message is when compressed; as it is, it is clear to all.
        _ if message.is_empty() && dialect != Dialect::ConnectUnary => (0, message.clone()),
        compression => (envelope::FLAG_COMPRESSED, compression.compress(message)),
    };
    match dialect {
        Dialect::ConnectUnary => data,
        Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText | Dialect::ConnectStream => {
            envelope::encode(flags, &data)
        }
    }
}

/// Where the request messages of a streaming call go in.
pub struct Sender {
    pub(super) half: RequestHalf,
    pub(super) dialect: Dialect,
    pub(super) compression: Encoding,
    pub(super) deadline: Option<Instant>,
}

/// The server, or the deadline, has ended the call: the receiver tells how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended")]
pub struct Closed;

impl Sender {
    /// Sends a message, waiting while the server does not read.
    ///
    /// # Errors
    /// The call has ended meanwhile.
    pub async fn send(&mut self, message: &Bytes) -> Result<(), Closed> {
        let body = body_of(self.dialect, self.compression, message);
        self.write(body, false).await
    }

    /// Ends the request stream.
    pub async fn finish(&mut self) {
        // If it fails, the call has ended, and with it the stream.
        let _ = self.write(Bytes::new(), true).await;
    }

    /// Gives the call up; the server is told.
    pub fn cancel(&mut self) {
        self.half.cancel();
    }

    async fn write(&mut self, bytes: Bytes, last: bool) -> Result<(), Closed> {
        let write = self.half.send(bytes, last);
        let result = match self.deadline {
            Some(deadline) => timeout_at(deadline, write).await.map_err(|_| Closed)?,
            None => write.await,
        };
        result.map_err(|SendClosed| Closed)
    }
}
