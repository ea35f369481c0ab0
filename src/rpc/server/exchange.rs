//! One HTTP request: which protocol, which method, on what terms; then the backend; then the response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method as HttpMethod, Request, Response, StatusCode, Version, header};
use http_body::Body;
use tokio::time::Instant;

use super::leftover::{self, Returning};
use super::reply::{
    EncodingHeaders, Ending, LostReply, ReplyBody, collapse, deadline_exceeded, refuse, refuse_unrouted,
    respond,
};
use super::request::MessageReader;
use super::trace::Trace;
use super::{Server, cors, index, json_rpc, refusal};
use crate::rpc::backend::{Call, Payload, Peer, Protocol, Reply, Requests};
use crate::rpc::budget::{CALL_SIZE, Part};
use crate::rpc::catalog::{Kind, Method, Route};
use crate::rpc::jsonrpc::of_arguments;
use crate::rpc::metrics::Meter;
use crate::rpc::schema::{MessageType, Schema};
use crate::rpc::wire::trace::Stage;
use crate::rpc::wire::{ContentType, Dialect, Encoding, compression, connect, metadata, timeout};
use crate::rpc::{Code, Format, Status};

/// Replies to callers who merely accept compression are compressed from this size on.
const ACCEPTED_COMPRESS_SIZE_MIN: usize = 1024;
const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
pub(super) const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// On what terms a call is answered.
pub struct Terms {
    /// Protocol and format of request and reply.
    pub content: ContentType,
    /// What is called.
    pub method: Arc<Method>,
    /// Knows the types of details.
    pub schema: Arc<Schema>,
    /// How request messages are compressed.
    pub request_encoding: Encoding,
    /// How reply messages are compressed.
    pub reply_encoding: Encoding,
    /// But not smaller ones than this.
    pub compress_size_min: usize,
    /// True if the caller must be told what could be decompressed.
    pub tell_accepted: bool,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
}

/// What one request gets.
pub type Answer = Result<Response<ReplyBody>, LostReply>;

/// Answers one request; what it makes us hold is counted with `held`.
///
/// # Errors
/// The reply was dropped on purpose.
pub async fn answer<B>(server: Arc<Server>, peer: Arc<Peer>, request: Request<B>, held: Part) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return answer_allowed(server, peer, request, held).await;
    };
    if !server.options.cors.allows(&origin) {
        return Ok(refusal::foreign_origin(&origin));
    }
    let mut response = if cors::is_preflight(request.method(), request.headers()) {
        cors::preflight(request.headers())
    } else {
        answer_allowed(server, peer, request, held).await?
    };
    cors::permit(origin, response.headers_mut());
    Ok(response)
}

async fn answer_allowed<B>(server: Arc<Server>, peer: Arc<Peer>, request: Request<B>, held: Part) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    if parts.version >= Version::HTTP_2 {
        return dispatch(server, peer, parts, Returning::never(body), held).await;
    }
    // A peer that asked whether to go on is not told to do so for nothing.
    let asked_first = parts.headers.contains_key(header::EXPECT);
    let (body, unread) = Returning::new(body);
    let answer = dispatch(server, peer, parts, body, held).await;
    if !asked_first {
        unread.throw_away().await;
    }
    answer
}

async fn dispatch<B>(server: Arc<Server>, peer: Arc<Peer>, parts: Parts, body: B, mut held: Part) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    if let Err(status) = held.add(CALL_SIZE + head_size(&parts)) {
        return Ok(no_room(&parts.headers, &status));
    }
    match parts.method {
        HttpMethod::POST => post(server, peer, parts, body, held).await,
        HttpMethod::GET if parts.uri.path() == "/" => {
            let authority = parts.uri.authority().map(http::uri::Authority::as_str);
            let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let authority = authority.or_else(host).unwrap_or("HOST:PORT");
            Ok(refusal::text(StatusCode::OK, index::text(&server.catalog.load(), authority)))
        }
        HttpMethod::GET => get(server, peer, parts, held).await,
        _ => Ok(refusal::method_not_allowed("GET, POST")),
    }
}

async fn post<B>(server: Arc<Server>, peer: Arc<Peer>, mut parts: Parts, body: B, held: Part) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    let start = Instant::now();
    let content_type = text(&parts.headers, &header::CONTENT_TYPE);
    if json_rpc::is_json_rpc(parts.uri.path(), content_type) {
        return json_rpc::post(server, peer, parts, body, held).await;
    }
    let Some(content) = ContentType::parse(content_type) else {
        // No client of an RPC protocol, so none that streams and waits for us: a request that is wrong as HTTP
        // is told so, and not whatever comes first.
        leftover::throw_away(body).await;
        return Ok(refusal::unsupported_media_type(content_type));
    };
    if content.dialect == Dialect::Grpc && parts.version < Version::HTTP_2 {
        return Ok(refusal::needs_http2());
    }
    let (route, schema) = match find(&server, parts.uri.path()) {
        Ok(found) => found,
        Err(status) => return Ok(unknown_method(content, &status)),
    };
    if !dialect_fits(content.dialect, route.method.kind) {
        return Ok(refusal::unsupported_media_type(content_type));
    }
    let mut terms = Terms::new(content, &route, schema);
    if let Err(status) = terms.negotiate(&parts.headers, start) {
        return Ok(refuse(&terms, status));
    }
    let trace = Trace::start(&parts.headers, start);
    let meter = server.metrics().start(&route.method, start);
    metadata::strip_reserved(&mut parts.headers);
    let size_max = server.options.limits.message_size_max;
    let reader = MessageReader::new(body, content, terms.request_encoding, size_max, held.share().part());
    let kind = route.method.kind;
    let input = (content.dialect == Dialect::ConnectUnary && content.format == Format::Json)
        .then(|| route.method.input.clone());
    let requests = async {
        let (requests, part) = reader.requests(kind).await?;
        Ok((listed_arguments(requests, input.as_ref())?, part))
    };
    let requests = patient(requests, server.options.limits.request_wait_max);
    let exchange = Exchange { server, peer, route, metadata: parts.headers, terms, trace, meter, held };
    exchange.run(requests).await
}

/// Dubbo's Triple sends the arguments of a call as a list where Connect sends the message.
fn listed_arguments(requests: Requests, input: Option<&MessageType>) -> Result<Requests, Status> {
    let (Requests::One(payload), Some(input)) = (&requests, input) else { return Ok(requests) };
    match of_arguments(input, &payload.bytes) {
        Ok(None) => Ok(requests),
        Ok(Some(message)) => Ok(Requests::One(Payload::json(message))),
        Err(error) => Err(Status::new(Code::InvalidArgument, error.message)),
    }
}

async fn get(server: Arc<Server>, peer: Arc<Peer>, mut parts: Parts, mut held: Part) -> Answer {
    let start = Instant::now();
    let (route, schema) = match find(&server, parts.uri.path()) {
        Ok(found) => found,
        Err(status) if refusal::wants_text(&parts.headers) => {
            return Ok(refusal::text(StatusCode::NOT_FOUND, status.message));
        }
        Err(status) => return Ok(refusal::json(StatusCode::NOT_FOUND, &status)),
    };
    if !route.method.no_side_effects || route.method.kind != Kind::Unary {
        return Ok(refusal::method_not_allowed("POST"));
    }
    let query =
        connect::decode_get(parts.uri.query().unwrap_or_default(), server.options.limits.message_size_max);
    let format = query.as_ref().map_or(Format::Json, |query| query.format);
    let content = ContentType { dialect: Dialect::ConnectUnary, format };
    let mut terms = Terms::new(content, &route, schema);
    let accepted = terms.negotiate(&parts.headers, start);
    let query = accepted.and(query.map_err(get_status));
    let query = match query.and_then(|query| held.add(query.message.len()).map(|()| query)) {
        Ok(query) => query,
        Err(status) => return Ok(refuse(&terms, status)),
    };
    let trace = Trace::start(&parts.headers, start);
    let meter = server.metrics().start(&route.method, start);
    metadata::strip_reserved(&mut parts.headers);
    let message = Payload { format, bytes: query.message };
    let exchange = Exchange { server, peer, route, metadata: parts.headers, terms, trace, meter, held };
    exchange.run(std::future::ready(Ok((Requests::One(message), None)))).await
}

/// A call that has a backend to answer it.
struct Exchange {
    server: Arc<Server>,
    peer: Arc<Peer>,
    route: Route,
    metadata: HeaderMap,
    terms: Terms,
    trace: Trace,
    meter: Meter,
    held: Part,
}

impl Exchange {
    async fn run(self, requests: impl Future<Output = Result<(Requests, Option<Part>), Status>>) -> Answer {
        let Self { server, peer, route, metadata, terms, mut trace, meter, held } = self;
        trace.note(Stage::Dispatch, 0);
        let work = async {
            let (requests, _held) = requests.await?;
            if let Requests::One(message) = &requests {
                trace.note(Stage::Decode, message.bytes.len());
            }
            trace.note(Stage::Handler, 0);
            let call = Call {
                method: Arc::clone(&route.method),
                id: server.metrics().next_call(),
                protocol: protocol(terms.content.dialect),
                peer,
                metadata,
                deadline: terms.deadline,
                requests,
            };
            let reply = route.answer(call).await;
            Ok(if route.method.kind.server_streams() { reply } else { collapse(reply).await })
        };
        let outcome = match terms.deadline {
            Some(at) => tokio::time::timeout_at(at, work).await.unwrap_or_else(|_| Err(deadline_exceeded())),
            None => work.await,
        };
        respond(terms, outcome.unwrap_or_else(Reply::failed), Ending { trace, meter, held })
    }
}

/// Waits for requests; sets a timer only if they are not there yet.
pub(super) async fn patient<T>(
    requests: impl Future<Output = Result<T, Status>>,
    wait_max: Duration,
) -> Result<T, Status> {
    let mut requests = std::pin::pin!(requests);
    if let Some(ready) = requests.as_mut().now_or_never() {
        return ready;
    }
    tokio::time::timeout(wait_max, requests).await.unwrap_or_else(|_| {
        Err(Status::new(Code::DeadlineExceeded, format!("request was not complete within {wait_max:?}")))
    })
}

fn find(server: &Server, path: &str) -> Result<(Route, Arc<Schema>), Status> {
    let catalog = server.catalog.load();
    let name = path.strip_prefix('/').unwrap_or(path);
    match catalog.by_path(name) {
        Some(route) => Ok((route.clone(), Arc::clone(catalog.schema()))),
        None => Err(Status::new(Code::Unimplemented, format!("unknown method {name}"))),
    }
}

/// Bytes of what came before the body.
fn head_size(parts: &Parts) -> usize {
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    path + fields.sum::<usize>()
}

/// The server, or this connection, holds too much already.
fn no_room(headers: &HeaderMap, status: &Status) -> Response<ReplyBody> {
    match ContentType::parse(text(headers, &header::CONTENT_TYPE)) {
        Some(content) if content.dialect != Dialect::ConnectUnary => refuse_unrouted(content, status),
        Some(_) | None => refusal::json(StatusCode::TOO_MANY_REQUESTS, status),
    }
}

fn unknown_method(content: ContentType, status: &Status) -> Response<ReplyBody> {
    match content.dialect {
        // Connect, "Unary-Response": a server that does not know the path answers 404.
        Dialect::ConnectUnary => refusal::json(StatusCode::NOT_FOUND, status),
        Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText | Dialect::ConnectStream => {
            refuse_unrouted(content, status)
        }
    }
}

fn dialect_fits(dialect: Dialect, kind: Kind) -> bool {
    match dialect {
        Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => true,
        Dialect::ConnectUnary => kind == Kind::Unary,
        Dialect::ConnectStream => kind != Kind::Unary,
    }
}

fn protocol(dialect: Dialect) -> Protocol {
    match dialect {
        Dialect::Grpc => Protocol::Grpc,
        Dialect::GrpcWeb | Dialect::GrpcWebText => Protocol::GrpcWeb,
        Dialect::ConnectUnary | Dialect::ConnectStream => Protocol::Connect,
    }
}

fn get_status(error: connect::GetError) -> Status {
    let code = match &error {
        connect::GetError::Unsupported { name: "compression", .. } => Code::Unimplemented,
        connect::GetError::Compression(compression::CompressionError::TooLarge { .. }) => {
            Code::ResourceExhausted
        }
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

/// A header as text; empty if there is none or it is no text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Terms {
    fn new(content: ContentType, route: &Route, schema: Arc<Schema>) -> Self {
        Self {
            content,
            method: Arc::clone(&route.method),
            schema,
            request_encoding: Encoding::Identity,
            reply_encoding: Encoding::Identity,
            compress_size_min: compression::COMPRESS_SIZE_MIN,
            tell_accepted: false,
            deadline: None,
        }
    }

    /// Reads what the headers say about version, deadline and compression.
    fn negotiate(&mut self, headers: &HeaderMap, start: Instant) -> Result<(), Status> {
        let invalid = |text| Status::new(Code::InvalidArgument, text);
        let timeout = match self.content.dialect {
            Dialect::Grpc | Dialect::GrpcWeb | Dialect::GrpcWebText => headers
                .get(GRPC_TIMEOUT)
                .map(|value| value.to_str().ok().and_then(timeout::parse_grpc).ok_or((GRPC_TIMEOUT, value))),
            Dialect::ConnectUnary | Dialect::ConnectStream => {
                if headers.get(CONNECT_VERSION).is_some_and(|version| version != connect::VERSION) {
                    let version = text(headers, &CONNECT_VERSION);
                    return Err(invalid(format!("connect-protocol-version is {version:?}: expected \"1\"")));
                }
                headers.get(CONNECT_TIMEOUT).map(|value| {
                    value.to_str().ok().and_then(timeout::parse_connect).ok_or((CONNECT_TIMEOUT, value))
                })
            }
        };
        let timeout = timeout
            .transpose()
            .map_err(|(name, value)| invalid(format!("{name} is {value:?}: not a timeout")))?;
        // More time than the clock has is no deadline.
        self.deadline = timeout.and_then(|timeout| start.checked_add(timeout));
        self.negotiate_compression(headers)
    }

    fn negotiate_compression(&mut self, headers: &HeaderMap) -> Result<(), Status> {
        let names = EncodingHeaders::of(self.content.dialect);
        if let Some(used) = headers.get(&names.used) {
            let name = used.to_str().unwrap_or_default();
            self.request_encoding = Encoding::from_name(name).ok_or_else(|| {
                self.tell_accepted = true;
                let accepted = Encoding::ACCEPTED;
                Status::new(
                    Code::Unimplemented,
                    format!("compression {name:?} is not supported: expected one of {accepted}"),
                )
            })?;
        }
        let accepted = text(headers, &names.accepted);
        let mirrors = self.request_encoding != Encoding::Identity
            && (accepted.is_empty()
                || accepted.split(',').any(|name| Encoding::from_name(name) == Some(self.request_encoding)));
        if mirrors {
            self.reply_encoding = self.request_encoding;
        } else if !accepted.is_empty() && self.content.dialect == Dialect::ConnectUnary {
            // HTTP's custom. gRPC clients list all they know without a wish for any.
            self.reply_encoding = Encoding::first_accepted(accepted);
            self.compress_size_min = ACCEPTED_COMPRESS_SIZE_MIN;
        }
        Ok(())
    }
}
