//! The server under test of gRPC's own interoperability cases (tests/interop/grpc-interop.sh).
//!
//! Implements `grpc.testing.TestService` as doc/interop-test-descriptions.md of grpc/grpc asks for, as a
//! [`Backend`]: bytes in, bytes out, metadata both ways.

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
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use prost::Message;

const PROTO: &str = r#"
    syntax = "proto3";
    package grpc.testing;
    message Empty {}
    message BoolValue { bool value = 1; }
    message Payload { int32 type = 1; bytes body = 2; }
    message EchoStatus { int32 code = 1; string message = 2; }
    message SimpleRequest { int32 response_type = 1; int32 response_size = 2; Payload payload = 3; EchoStatus response_status = 7; }
    message SimpleResponse { Payload payload = 1; }
    message StreamingInputCallRequest { Payload payload = 1; }
    message StreamingInputCallResponse { int32 aggregated_payload_size = 1; }
    message ResponseParameters { int32 size = 1; int32 interval_us = 2; }
    message StreamingOutputCallRequest {
        int32 response_type = 1; repeated ResponseParameters response_parameters = 2; Payload payload = 3; EchoStatus response_status = 7;
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
}

/// `SimpleResponse`, `StreamingOutputCallResponse` and `StreamingInputCallRequest`.
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
    let input = Input::Text { name: "test.proto".to_owned(), text: PROTO.to_owned() };
    let schema = Arc::new(Schema::compile_inputs(&[input], &[])?);
    let mut catalog = Catalog::new(Arc::clone(&schema));
    for method in schema.methods() {
        catalog.insert(Route { method: Arc::new(method), backend: Arc::new(TestService) })?;
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

struct TestService;

impl Backend for TestService {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
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
                    Ok(duplex(input, stream::iter([Ok(request)]).boxed(), trailers))
                }
                (_, Requests::Stream(requests)) => Ok(duplex(input, requests, trailers)),
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

fn unary(input: &MessageType, request: &Payload, trailers: HeaderMap) -> Result<Body, Status> {
    let request: SimpleRequest = decode(input, request)?;
    match request.response_status {
        Some(wanted) if wanted.code != 0 => Ok(Body::Failed { status: failure(&wanted), trailers }),
        _ => Ok(Body::One { message: zeroes(request.response_size), trailers }),
    }
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
) -> Body {
    let events = requests.flat_map(move |request| {
        let request = request.and_then(|request| decode::<StreamingOutputCallRequest>(&input, &request));
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
