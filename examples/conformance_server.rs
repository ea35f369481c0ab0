//! The server under test of the Connect project's conformance suite (tests/interop/connectconformance.sh).
//!
//! Shows how a program serves methods of its own: it implements `connectrpc.conformance.v1.ConformanceService`
//! as a [`Backend`], with a schema that is read from .proto files when it starts. What to listen with comes as a
//! message on standard input, the address goes back on standard output.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bandy::rpc::backend::{Backend, Body, Call, Event, Format, Payload, Peer, Reply, Requests};
use bandy::rpc::catalog::{Catalog, Kind, Route, SharedCatalog};
use bandy::rpc::server::{Limits, Options, Server};
use bandy::rpc::status::Detail;
use bandy::rpc::wire::status::AnyMessage;
use bandy::rpc::{Code, Schema, Status};
use bandy::shutdown::Shutdown;
use bandy::transport::tls::{
    ALPN_H2, ALPN_HTTP11, ClientAuth, Identity, IdentityFiles, TlsServer, TlsServerOptions,
};
use bandy::transport::{Acceptor, Address, Listener};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tokio::time::Instant;

const SERVICE: &str = "connectrpc.conformance.v1.ConformanceService";
const REQUEST_INFO: &str = "connectrpc.conformance.v1.ConformancePayload.RequestInfo";

#[derive(Clone, PartialEq, Message)]
struct ServerCompatRequest {
    #[prost(bool, tag = "4")]
    use_tls: bool,
    #[prost(bytes = "vec", tag = "5")]
    client_tls_cert: Vec<u8>,
    #[prost(uint32, tag = "6")]
    message_receive_limit: u32,
    #[prost(message, optional, tag = "7")]
    server_creds: Option<TlsCreds>,
}

#[derive(Clone, PartialEq, Message)]
struct TlsCreds {
    #[prost(bytes = "vec", tag = "1")]
    cert: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ServerCompatResponse {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(bytes = "vec", tag = "3")]
    pem_cert: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct WantedError {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, optional, tag = "2")]
    message: Option<String>,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `UnaryResponseDefinition`.
#[derive(Clone, PartialEq, Message)]
struct UnaryWanted {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    error: Option<WantedError>,
    #[prost(message, repeated, tag = "4")]
    trailers: Vec<Header>,
    #[prost(uint32, tag = "6")]
    delay_ms: u32,
}

/// `StreamResponseDefinition`.
#[derive(Clone, PartialEq, Message)]
struct StreamWanted {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    data: Vec<Bytes>,
    #[prost(uint32, tag = "3")]
    delay_ms: u32,
    #[prost(message, optional, tag = "4")]
    error: Option<WantedError>,
    #[prost(message, repeated, tag = "5")]
    trailers: Vec<Header>,
}

/// `UnaryRequest`, `IdempotentUnaryRequest` and `ClientStreamRequest`.
#[derive(Clone, PartialEq, Message)]
struct UnaryRequest {
    #[prost(message, optional, tag = "1")]
    wanted: Option<UnaryWanted>,
}

/// `ServerStreamRequest` and `BidiStreamRequest`.
#[derive(Clone, PartialEq, Message)]
struct StreamRequest {
    #[prost(message, optional, tag = "1")]
    wanted: Option<StreamWanted>,
}

/// The one field that only `BidiStreamRequest` has.
#[derive(Clone, PartialEq, Message)]
struct BidiFlag {
    #[prost(bool, tag = "2")]
    full_duplex: bool,
}

/// Any of the responses: each is a payload in field 1.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    payload: Option<ConformancePayload>,
}

#[derive(Clone, PartialEq, Message)]
struct ConformancePayload {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
    #[prost(message, optional, tag = "2")]
    info: Option<RequestInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestInfo {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
    #[prost(int64, optional, tag = "2")]
    timeout_ms: Option<i64>,
    #[prost(message, repeated, tag = "3")]
    requests: Vec<AnyMessage>,
}

fn main() -> anyhow::Result<()> {
    let proto_directory = std::env::args_os().nth(1).map(PathBuf::from);
    let proto_directory =
        proto_directory.ok_or_else(|| anyhow::anyhow!("usage: conformance_server PROTO_DIRECTORY"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(proto_directory))
}

async fn serve(proto_directory: PathBuf) -> anyhow::Result<()> {
    let request: ServerCompatRequest = read_delimited(&mut std::io::stdin())?;
    let file = proto_directory.join("connectrpc/conformance/v1/service.proto");
    let schema = Arc::new(Schema::compile(&[file], &[proto_directory])?);
    let mut catalog = Catalog::new(Arc::clone(&schema));
    let backend: Arc<dyn Backend> = Arc::new(Conformance);
    for method in schema.methods().filter(|method| method.service() == SERVICE) {
        catalog.insert(Route { method: Arc::new(method), backend: Arc::clone(&backend) })?;
    }
    let mut limits = Limits::default();
    if request.message_receive_limit > 0 {
        limits.message_size_max = usize::try_from(request.message_receive_limit)?;
    }
    let shutdown = Shutdown::new();
    let options = Options { limits, ..Options::default() };
    let server = Server::new(SharedCatalog::new(catalog), options, shutdown.clone());
    let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await?;
    let Address::Tcp { host, port } = listener.address()? else { anyhow::bail!("not listening on TCP") };
    let (tls, pem_cert) = tls(&request)?;
    write_delimited(&mut std::io::stdout(), &ServerCompatResponse { host, port: port.into(), pem_cert })?;
    // The suite ends this process when it has seen enough.
    let accept = Acceptor::default().with_tls(tls).run(listener, shutdown, move |stream| {
        let server = Arc::clone(&server);
        async move {
            let peer = Arc::new(Peer { address: stream.peer(), tls_subject: None });
            server.serve_connection(stream, peer).await;
        }
    });
    accept.await;
    Ok(())
}

fn tls(request: &ServerCompatRequest) -> anyhow::Result<(Option<TlsServer>, Vec<u8>)> {
    let Some(creds) = request.server_creds.as_ref().filter(|_| request.use_tls) else {
        return Ok((None, Vec::new()));
    };
    let directory = tempfile::tempdir()?;
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).map(|()| path)
    };
    let identity =
        IdentityFiles { certificate: file("cert.pem", &creds.cert)?, key: file("key.pem", &creds.key)? };
    let client_ca = match request.client_tls_cert.as_slice() {
        [] => None,
        pem => Some((file("ca.pem", pem)?, ClientAuth::Require)),
    };
    let alpn = vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()];
    let options = TlsServerOptions { identity: Identity::Files(identity), client_ca, alpn };
    Ok((Some(TlsServer::new(&options)?), creds.cert.clone()))
}

fn read_delimited<M: Message + Default>(from: &mut impl Read) -> anyhow::Result<M> {
    let mut size = [0; 4];
    from.read_exact(&mut size)?;
    let mut bytes = Vec::new();
    from.take(u32::from_be_bytes(size).into()).read_to_end(&mut bytes)?;
    Ok(M::decode(bytes.as_slice())?)
}

fn write_delimited(to: &mut impl Write, message: &impl Message) -> anyhow::Result<()> {
    let bytes = message.encode_to_vec();
    to.write_all(&u32::try_from(bytes.len())?.to_be_bytes())?;
    to.write_all(&bytes)?;
    Ok(to.flush()?)
}

/// Replies as each request says.
struct Conformance;

impl Backend for Conformance {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        Box::pin(async move {
            let reply = match call.method.name() {
                "Unimplemented" => Err(Status::new(Code::Unimplemented, "Unimplemented is not implemented")),
                _ if call.method.kind == Kind::Bidi => bidi(call).await,
                _ if call.method.kind == Kind::ServerStream => server_stream(call).await,
                _ => unary(call).await,
            };
            reply.unwrap_or_else(Reply::failed)
        })
    }
}

/// What a reply repeats about its request.
struct Seen {
    info: RequestInfo,
    input: bandy::rpc::schema::MessageType,
}

impl Seen {
    fn new(call: &Call) -> Self {
        let headers = call.metadata.keys().map(|name| Header {
            name: name.to_string(),
            value: call
                .metadata
                .get_all(name)
                .iter()
                .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
                .collect(),
        });
        let left = call.deadline.map(|at| at.saturating_duration_since(Instant::now()).as_millis());
        let info = RequestInfo {
            headers: headers.collect(),
            timeout_ms: left.and_then(|left| left.try_into().ok()),
            requests: Vec::new(),
        };
        Self { info, input: call.method.input.clone() }
    }

    /// Remembers a request and decodes it.
    fn request<M: Message + Default>(&mut self, payload: &Payload) -> Result<M, Status> {
        let bytes = self.input.convert(payload, Format::Proto)?;
        let type_url = format!("type.googleapis.com/{}", self.input.full_name());
        self.info.requests.push(AnyMessage { type_url, value: bytes.clone() });
        M::decode(bytes).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
    }

    fn error(&self, wanted: WantedError) -> Status {
        let info = AnyMessage {
            type_url: format!("type.googleapis.com/{REQUEST_INFO}"),
            value: self.info.encode_to_vec().into(),
        };
        failure(wanted, Some(info))
    }
}

fn failure(wanted: WantedError, more: Option<AnyMessage>) -> Status {
    let details = wanted.details.into_iter().chain(more).map(|any| Detail {
        type_name: any.type_url.rsplit('/').next().unwrap_or_default().to_owned(),
        value: any.value,
    });
    Status {
        code: bandy::rpc::wire::status::code_from(wanted.code),
        message: wanted.message.unwrap_or_default(),
        details: details.collect(),
    }
}

async fn unary(call: Call) -> Result<Reply, Status> {
    let mut seen = Seen::new(&call);
    let mut wanted = None;
    match call.requests {
        Requests::One(payload) => wanted = seen.request::<UnaryRequest>(&payload)?.wanted,
        Requests::Stream(mut requests) => {
            let mut first = true;
            while let Some(payload) = requests.next().await {
                let request = seen.request::<UnaryRequest>(&payload?)?;
                if std::mem::take(&mut first) {
                    wanted = request.wanted;
                }
            }
        }
    }
    let wanted = wanted.unwrap_or_default();
    let (headers, trailers) = (metadata(wanted.headers), metadata(wanted.trailers));
    tokio::time::sleep(Duration::from_millis(wanted.delay_ms.into())).await;
    let body = match wanted.error {
        Some(error) => Body::Failed { status: seen.error(error), trailers },
        None => {
            let payload = ConformancePayload { data: wanted.data.unwrap_or_default(), info: Some(seen.info) };
            Body::One { message: message(payload), trailers }
        }
    };
    Ok(Reply { headers, body })
}

async fn server_stream(call: Call) -> Result<Reply, Status> {
    let mut seen = Seen::new(&call);
    let Requests::One(payload) = &call.requests else {
        return Err(Status::new(Code::Internal, "expected one request"));
    };
    let wanted = seen.request::<StreamRequest>(payload)?.wanted.unwrap_or_default();
    Ok(streamed(wanted, seen, stream::empty().boxed(), Duplex::Half))
}

async fn bidi(call: Call) -> Result<Reply, Status> {
    let mut seen = Seen::new(&call);
    let Requests::Stream(mut requests) = call.requests else {
        return Err(Status::new(Code::Internal, "expected a stream of requests"));
    };
    let mut wanted = StreamWanted::default();
    let mut duplex = Duplex::Half;
    if let Some(payload) = requests.next().await {
        let payload = payload?;
        wanted = seen.request::<StreamRequest>(&payload)?.wanted.unwrap_or_default();
        let bytes = seen.input.convert(&payload, Format::Proto)?;
        let flag = BidiFlag::decode(bytes).map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        if flag.full_duplex {
            duplex = Duplex::Full;
        }
    }
    if duplex == Duplex::Half {
        while let Some(payload) = requests.next().await {
            seen.request::<StreamRequest>(&payload?)?;
        }
    }
    Ok(streamed(wanted, seen, requests, duplex))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Duplex {
    /// All requests, then all replies.
    Half,
    /// A reply for each request.
    Full,
}

struct Progress {
    wanted: StreamWanted,
    seen: Seen,
    requests: BoxStream<'static, Result<Payload, Status>>,
    duplex: Duplex,
    sent: usize,
    ended: bool,
}

fn streamed(
    mut wanted: StreamWanted,
    seen: Seen,
    requests: BoxStream<'static, Result<Payload, Status>>,
    duplex: Duplex,
) -> Reply {
    let headers = metadata(std::mem::take(&mut wanted.headers));
    let progress = Progress { wanted, seen, requests, duplex, sent: 0, ended: false };
    let events = stream::unfold(progress, |mut progress| async move {
        if progress.ended {
            return None;
        }
        let event = progress.next().await;
        progress.ended = matches!(event, Event::End { .. });
        Some((event, progress))
    });
    Reply { headers, body: Body::Stream(events.boxed()) }
}

impl Progress {
    async fn next(&mut self) -> Event {
        if self.duplex == Duplex::Full && self.sent > 0 && self.sent < self.wanted.data.len() {
            self.seen.info = RequestInfo::default();
            match self.requests.next().await {
                Some(Ok(payload)) => {
                    if let Err(status) = self.seen.request::<StreamRequest>(&payload) {
                        return Event::End { status, trailers: HeaderMap::new() };
                    }
                }
                Some(Err(status)) => return Event::End { status, trailers: HeaderMap::new() },
                None => {}
            }
        }
        let Some(data) = self.wanted.data.get(self.sent).cloned() else { return self.end() };
        tokio::time::sleep(Duration::from_millis(self.wanted.delay_ms.into())).await;
        let info = (self.sent == 0 || !self.seen.info.requests.is_empty()).then(|| self.seen.info.clone());
        if self.duplex == Duplex::Half {
            self.seen.info.requests.clear();
        }
        self.sent += 1;
        Event::Message(message(ConformancePayload { data, info }))
    }

    fn end(&mut self) -> Event {
        let trailers = metadata(std::mem::take(&mut self.wanted.trailers));
        let status = match self.wanted.error.take() {
            None => Status::ok(),
            Some(error) if self.sent == 0 => self.seen.error(error),
            Some(error) => failure(error, None),
        };
        Event::End { status, trailers }
    }
}

fn message(payload: ConformancePayload) -> Payload {
    Payload::proto(Response { payload: Some(payload) }.encode_to_vec())
}

fn metadata(headers: Vec<Header>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for header in headers {
        let Ok(name) = HeaderName::try_from(header.name) else { continue };
        for value in header.value {
            if let Ok(value) = HeaderValue::try_from(value) {
                map.append(name.clone(), value);
            }
        }
    }
    map
}
