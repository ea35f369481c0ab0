//! The server under test of gRPC's own interoperability cases (tests/interop/grpc-interop.sh).
//!
//! Implements `grpc.testing.TestService` as doc/interop-test-descriptions.md of grpc/grpc asks for, as a
//! [`Backend`]: bytes in, bytes out, metadata both ways.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bandy::rpc::backend::{Backend, Body, Call, Event, Format, Payload, Peer, Reply, Requests};
use bandy::rpc::catalog::{Catalog, Route, SharedCatalog};
use bandy::rpc::schema::{Input, MessageType};
use bandy::rpc::server::{Options, Server};
use bandy::rpc::wire::status::code_from;
use bandy::rpc::{Code, Schema, Status};
use bandy::shutdown::Shutdown;
use bandy::transport::{Acceptor, Address, Listener};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::sync::watch;

const PROTO: &str = r#"
    syntax = "proto3";
    package grpc.testing;
    message Empty {}
    message BoolValue { bool value = 1; }
    message Payload { int32 type = 1; bytes body = 2; }
    message EchoStatus { int32 code = 1; string message = 2; }
    message SimpleRequest {
        int32 response_type = 1; int32 response_size = 2; Payload payload = 3; EchoStatus response_status = 7;
        bool fill_server_id = 9; TestOrcaReport orca_per_query_report = 11;
    }
    message SimpleResponse { Payload payload = 1; string server_id = 4; }
    message TestOrcaReport {
        double cpu_utilization = 1; double memory_utilization = 2; map<string, double> request_cost = 3; map<string, double> utilization = 4;
    }
    message StreamingInputCallRequest { Payload payload = 1; }
    message StreamingInputCallResponse { int32 aggregated_payload_size = 1; }
    message ResponseParameters { int32 size = 1; int32 interval_us = 2; }
    message StreamingOutputCallRequest {
        int32 response_type = 1; repeated ResponseParameters response_parameters = 2; Payload payload = 3; EchoStatus response_status = 7;
        TestOrcaReport orca_oob_report = 8;
    }
    message StreamingOutputCallResponse { Payload payload = 1; }
    service TestService {
        rpc EmptyCall(Empty) returns (Empty);
        rpc UnaryCall(SimpleRequest) returns (SimpleResponse);
        rpc StreamingOutputCall(StreamingOutputCallRequest) returns (stream StreamingOutputCallResponse);
        rpc StreamingInputCall(stream StreamingInputCallRequest) returns (StreamingInputCallResponse);
        rpc FullDuplexCall(stream StreamingOutputCallRequest) returns (stream StreamingOutputCallResponse);
    }
"#;

/// Where clients read a server's load: github.com/cncf/xds, xds/{data,service}/orca/v3.
const ORCA: &str = r#"
    syntax = "proto3";
    package xds.service.orca.v3;
    import "google/protobuf/duration.proto";
    message OrcaLoadReport {
        double cpu_utilization = 1; double mem_utilization = 2; uint64 rps = 3; map<string, double> request_cost = 4; map<string, double> utilization = 5;
    }
    message OrcaLoadReportRequest { google.protobuf.Duration report_interval = 1; repeated string request_cost_names = 2; }
    service OpenRcaService { rpc StreamCoreMetrics(OrcaLoadReportRequest) returns (stream OrcaLoadReport); }
"#;

/// The trailer that tells what load a call was (gRFC A51).
const LOAD_TRAILER: &str = "endpoint-load-metrics-bin";

/// The load that a client wants to be told: `grpc.testing.TestOrcaReport`.
#[derive(Clone, PartialEq, Message)]
struct WantedLoad {
    #[prost(double, tag = "1")]
    cpu: f64,
    #[prost(double, tag = "2")]
    memory: f64,
    #[prost(map = "string, double", tag = "3")]
    costs: HashMap<String, f64>,
    #[prost(map = "string, double", tag = "4")]
    utilization: HashMap<String, f64>,
}

/// The load as it is told: `OrcaLoadReport`.
#[derive(Clone, PartialEq, Message)]
struct Load {
    #[prost(double, tag = "1")]
    cpu: f64,
    #[prost(double, tag = "2")]
    memory: f64,
    #[prost(map = "string, double", tag = "4")]
    costs: HashMap<String, f64>,
    #[prost(map = "string, double", tag = "5")]
    utilization: HashMap<String, f64>,
}

impl From<WantedLoad> for Load {
    fn from(WantedLoad { cpu, memory, costs, utilization }: WantedLoad) -> Self {
        Self { cpu, memory, costs, utilization }
    }
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Interval {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct LoadRequest {
    #[prost(message, optional, tag = "1")]
    report_interval: Option<Interval>,
}

#[derive(Clone, PartialEq, Message)]
struct SimpleResponse {
    #[prost(message, optional, tag = "1")]
    payload: Option<TestPayload>,
    #[prost(string, tag = "4")]
    server_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct TestPayload {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct EchoStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct SimpleRequest {
    #[prost(int32, tag = "2")]
    response_size: i32,
    #[prost(message, optional, tag = "7")]
    response_status: Option<EchoStatus>,
    #[prost(bool, tag = "9")]
    fill_server_id: bool,
    #[prost(message, optional, tag = "11")]
    load: Option<WantedLoad>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseParameters {
    #[prost(int32, tag = "1")]
    size: i32,
    #[prost(int32, tag = "2")]
    interval_us: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StreamingOutputCallRequest {
    #[prost(message, repeated, tag = "2")]
    responses: Vec<ResponseParameters>,
    #[prost(message, optional, tag = "7")]
    response_status: Option<EchoStatus>,
    #[prost(message, optional, tag = "8")]
    load: Option<WantedLoad>,
}

/// `StreamingOutputCallResponse` and `StreamingInputCallRequest`.
#[derive(Clone, PartialEq, Message)]
struct WithPayload {
    #[prost(message, optional, tag = "1")]
    payload: Option<TestPayload>,
}

#[derive(Clone, PartialEq, Message)]
struct Aggregated {
    #[prost(int32, tag = "1")]
    size: i32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address: Address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:10000".to_owned()).parse()?;
    let input = |name: &str, text: &str| Input::Text { name: name.to_owned(), text: text.to_owned() };
    let schema = Schema::compile_inputs(&[input("test.proto", PROTO), input("orca.proto", ORCA)], &[])?;
    let schema = Arc::new(schema);
    let (load, _) = watch::channel(Load::default());
    let service = Arc::new(TestService { load: Arc::new(load) });
    let mut catalog = Catalog::new(Arc::clone(&schema));
    for method in schema.methods() {
        catalog.insert(Route { method: Arc::new(method), backend: Arc::clone(&service) as _ })?;
    }
    let shutdown = Shutdown::new();
    let server = Server::new(SharedCatalog::new(catalog), Options::default(), shutdown.clone());
    let listener = Listener::bind(&address).await?;
    writeln!(std::io::stdout(), "{}", listener.address()?)?;
    let serve = move |stream: bandy::transport::Stream| {
        let server = Arc::clone(&server);
        async move {
            let peer = Arc::new(Peer { address: stream.peer(), tls_subject: None });
            server.serve_connection(stream, peer).await;
        }
    };
    Acceptor::default().run(listener, shutdown, serve).await;
    Ok(())
}

struct TestService {
    /// What `OpenRcaService` tells.
    load: Arc<watch::Sender<Load>>,
}

impl Backend for TestService {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let load = Arc::clone(&self.load);
        Box::pin(async move {
            let (headers, trailers) = echoed(&call.metadata);
            let input = call.method.input.clone();
            let body = match (call.method.name(), call.requests) {
                ("EmptyCall", Requests::One(_)) => {
                    Ok(Body::One { message: Payload::proto(&b""[..]), trailers })
                }
                ("UnaryCall", Requests::One(request)) => unary(&input, &request, trailers),
                ("StreamingInputCall", Requests::Stream(requests)) => {
                    aggregate(&input, requests, trailers).await
                }
                ("StreamingOutputCall", Requests::One(request)) => {
                    Ok(duplex(input, stream::iter([Ok(request)]).boxed(), trailers, load))
                }
                ("StreamCoreMetrics", Requests::One(request)) => core_metrics(&input, &request, &load),
                (_, Requests::Stream(requests)) => Ok(duplex(input, requests, trailers, load)),
                (name, Requests::One(_)) => Err(Status::new(Code::Unimplemented, name)),
            };
            let failed = |status| Body::Failed { status, trailers: HeaderMap::new() };
            Reply { headers, body: body.unwrap_or_else(failed) }
        })
    }
}

/// custom_metadata: one header comes back in the headers, one in the trailers.
fn echoed(metadata: &HeaderMap) -> (HeaderMap, HeaderMap) {
    let pick = |wanted: &str| {
        let found = metadata.iter().filter(|(name, _)| name.as_str() == wanted);
        found.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    (pick("x-grpc-test-echo-initial"), pick("x-grpc-test-echo-trailing-bin"))
}

fn decode<M: Message + Default>(input: &MessageType, payload: &Payload) -> Result<M, Status> {
    M::decode(input.convert(payload, Format::Proto)?)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

fn zeroes(size: i32) -> Payload {
    let body = vec![0; usize::try_from(size).unwrap_or_default()];
    Payload::proto(WithPayload { payload: Some(TestPayload { kind: 0, body }) }.encode_to_vec())
}

fn failure(wanted: &EchoStatus) -> Status {
    Status::new(code_from(wanted.code), wanted.message.clone())
}

fn unary(input: &MessageType, request: &Payload, mut trailers: HeaderMap) -> Result<Body, Status> {
    let request: SimpleRequest = decode(input, request)?;
    if let Some(wanted) = request.load {
        let load = STANDARD_NO_PAD.encode(Load::from(wanted).encode_to_vec());
        trailers.insert(LOAD_TRAILER, HeaderValue::try_from(load).expect("base64 is a header"));
    }
    match request.response_status {
        Some(wanted) if wanted.code != 0 => Ok(Body::Failed { status: failure(&wanted), trailers }),
        _ => {
            let body = vec![0; usize::try_from(request.response_size).unwrap_or_default()];
            let server_id =
                if request.fill_server_id { std::process::id().to_string() } else { String::new() };
            let response = SimpleResponse { payload: Some(TestPayload { kind: 0, body }), server_id };
            Ok(Body::One { message: Payload::proto(response.encode_to_vec()), trailers })
        }
    }
}

/// The load as it is now, and again after each interval, for as long as somebody listens.
fn core_metrics(input: &MessageType, request: &Payload, load: &watch::Sender<Load>) -> Result<Body, Status> {
    let wanted: LoadRequest = decode(input, request)?;
    let Interval { seconds, nanos } = wanted.report_interval.unwrap_or_default();
    let wanted = Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    let interval = tokio::time::interval(wanted.max(Duration::from_millis(100)));
    let reports = stream::unfold((interval, load.subscribe()), |(mut interval, load)| async move {
        interval.tick().await;
        let report = load.borrow().encode_to_vec();
        Some((Event::Message(Payload::proto(report)), (interval, load)))
    });
    Ok(Body::Stream(reports.boxed()))
}

async fn aggregate(
    input: &MessageType,
    mut requests: BoxStream<'static, Result<Payload, Status>>,
    trailers: HeaderMap,
) -> Result<Body, Status> {
    let mut size = 0;
    while let Some(request) = requests.next().await {
        let request: WithPayload = decode(input, &request?)?;
        size += request.payload.map_or(0, |payload| payload.body.len());
    }
    let size = i32::try_from(size).unwrap_or(i32::MAX);
    Ok(Body::One { message: Payload::proto(Aggregated { size }.encode_to_vec()), trailers })
}

/// For each request, the replies that it asks for.
fn duplex(
    input: MessageType,
    requests: BoxStream<'static, Result<Payload, Status>>,
    trailers: HeaderMap,
    load: Arc<watch::Sender<Load>>,
) -> Body {
    let events = requests.flat_map(move |request| {
        let request = request.and_then(|request| decode::<StreamingOutputCallRequest>(&input, &request));
        if let Ok(StreamingOutputCallRequest { load: Some(wanted), .. }) = &request {
            load.send_replace(wanted.clone().into());
        }
        match request {
            Err(status) => stream::iter([end(status)]).boxed(),
            Ok(StreamingOutputCallRequest { response_status: Some(wanted), .. }) if wanted.code != 0 => {
                stream::iter([end(failure(&wanted))]).boxed()
            }
            Ok(request) => stream::iter(request.responses)
                .then(|wanted| async move {
                    let micros = u64::try_from(wanted.interval_us).unwrap_or_default();
                    if micros > 0 {
                        tokio::time::sleep(Duration::from_micros(micros)).await;
                    }
                    Event::Message(zeroes(wanted.size))
                })
                .boxed(),
        }
    });
    let last = Event::End { status: Status::ok(), trailers };
    Body::Stream(events.chain(stream::iter([last])).boxed())
}

fn end(status: Status) -> Event {
    Event::End { status, trailers: HeaderMap::new() }
}
