//! The rpc server from outside, byte by byte: every protocol's right and wrong requests on one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bandy::rpc::backend::{Backend, Body, Call, Event, Peer, Reply, Requests};
use bandy::rpc::catalog::{Catalog, Route, SharedCatalog};
use bandy::rpc::schema::Input;
use bandy::rpc::server::{Limits, Options, Server};
use bandy::rpc::wire::trace::{self, Stage};
use bandy::rpc::wire::{Encoding, envelope};
use bandy::rpc::{Code, Schema, Status};
use bandy::shutdown::{Phase, Shutdown};
use bandy::transport::{Acceptor, Address, Listener, Stream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

const PROTO: &str = r#"
    syntax = "proto3";
    package t;
    service T {
        rpc Echo(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
        rpc Twice(M) returns (stream M);
        rpc Each(stream M) returns (stream M);
        rpc Never(M) returns (M);
        rpc Panic(M) returns (M);
        rpc PanicLater(M) returns (stream M);
    }
    message M { string text = 1; }
"#;

/// Each test has this long.
const DEADLINE: Duration = Duration::from_secs(60);

/// `M{text:"Ada"}`.
pub const ADA: &[u8] = b"\x0a\x03Ada";

struct Methods {
    events: mpsc::Sender<&'static str>,
}

/// Tells when it is dropped.
struct Tell(mpsc::Sender<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.try_send(self.1);
    }
}

impl Backend for Methods {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let events = self.events.clone();
        Box::pin(async move {
            match (call.method.name(), call.requests) {
                ("Echo", Requests::One(message)) => Reply::one(message),
                ("Twice", Requests::One(message)) => Reply::stream(
                    stream::iter([
                        Event::Message(message.clone()),
                        Event::Message(message),
                        Event::End { status: Status::ok(), trailers: HeaderMap::new() },
                    ])
                    .boxed(),
                ),
                ("Each", Requests::Stream(messages)) => {
                    let ends = stream::iter([None]);
                    let events = messages.map(Some).chain(ends).map(|message| match message {
                        Some(Ok(message)) => Event::Message(message),
                        Some(Err(status)) => Event::End { status, trailers: HeaderMap::new() },
                        None => Event::End { status: Status::ok(), trailers: HeaderMap::new() },
                    });
                    Reply { headers: HeaderMap::new(), body: Body::Stream(events.boxed()) }
                }
                ("Never", _) => {
                    let _tell = Tell(events.clone(), "dropped");
                    let _ = events.send("called").await;
                    std::future::pending().await
                }
                ("Panic", _) => panic!("on purpose"),
                ("PanicLater", Requests::One(message)) => {
                    let first = stream::iter([Event::Message(message)]);
                    let then = stream::once(async { panic!("on purpose, in a stream") });
                    Reply::stream(first.chain(then).boxed())
                }
                (name, _) => Reply::failed(Status::new(Code::Internal, format!("{name} came otherwise"))),
            }
        })
    }
}

pub struct Served {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub events: mpsc::Receiver<&'static str>,
    pub server: Arc<Server>,
}

pub async fn serve() -> Served {
    serve_with(Limits::default()).await
}

/// A server that nobody has connected to, and what its methods tell.
pub fn server_with(limits: Limits) -> (Arc<Server>, Shutdown, mpsc::Receiver<&'static str>) {
    let input = Input::Text { name: "t.proto".to_owned(), text: PROTO.to_owned() };
    let schema = Arc::new(Schema::compile_inputs(&[input], &[]).unwrap());
    let mut catalog = Catalog::new(Arc::clone(&schema));
    let (sender, events) = mpsc::channel(16);
    let backend: Arc<dyn Backend> = Arc::new(Methods { events: sender });
    for method in schema.methods() {
        catalog.insert(Route { method: Arc::new(method), backend: Arc::clone(&backend) }).unwrap();
    }
    let shutdown = Shutdown::new();
    let options = Options { limits, ..Options::default() };
    (Server::new(SharedCatalog::new(catalog), options, shutdown.clone()), shutdown, events)
}

pub async fn serve_with(limits: Limits) -> Served {
    let (server, shutdown, events) = server_with(limits);
    let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
    let Address::Tcp { host, port } = listener.address().unwrap() else { panic!("TCP was asked for") };
    let serving = Arc::clone(&server);
    let accept = Acceptor::default().run(listener, shutdown.clone(), move |stream| {
        let server = Arc::clone(&serving);
        async move {
            let peer = Arc::new(Peer { address: stream.peer(), tls_subject: None });
            server.serve_connection(stream, peer).await;
        }
    });
    shutdown.spawn(accept);
    Served { address: format!("{host}:{port}").parse().unwrap(), shutdown, events, server }
}

impl Served {
    pub async fn connect(&self) -> Stream {
        Stream::connect(&Address::tcp(self.address.ip().to_string(), self.address.port())).await.unwrap()
    }

    /// Sends bytes, half-closes, and returns all that comes until the server closes.
    async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("it closes");
        answer
    }

    pub async fn raw_text(&self, text: &str) -> String {
        String::from_utf8(self.raw(text.as_bytes()).await).unwrap()
    }

    pub async fn http2(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        self.shutdown.spawn(async move {
            let _ = connection.await;
        });
        sender
    }

    pub async fn grpc(&self, method: &str, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Answer {
        let request = request(method, "application/grpc", body, headers);
        Answer::read(self.http2().await.send_request(request).await.unwrap()).await
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
        Answer::read(self.http2().await.send_request(request(path, content_type, body, &[])).await.unwrap())
            .await
    }
}

pub fn request(
    method: &str,
    content_type: &str,
    body: impl Into<Bytes>,
    headers: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let path = if method.starts_with('/') { method.to_owned() } else { format!("/t.T/{method}") };
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", content_type)
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

#[derive(Debug)]
pub struct Answer {
    http_status: u16,
    headers: HeaderMap,
    pub body: Bytes,
    trailers: HeaderMap,
}

impl Answer {
    pub async fn read(response: Response<hyper::body::Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Self { http_status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes(), trailers }
    }

    /// Code and message of gRPC, wherever they are.
    pub fn grpc_status(&self) -> (&str, &str) {
        let text = |name| {
            let value = self.trailers.get(name).or_else(|| self.headers.get(name));
            value.map_or("", |value| value.to_str().unwrap())
        };
        (text("grpc-status"), text("grpc-message"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub async fn still_serves(server: &Served) {
    let answer = server.grpc("Echo", envelope::encode(0, ADA), &[]).await;
    assert_eq!((answer.grpc_status(), &answer.body[..]), (("0", ""), &envelope::encode(0, ADA)[..]));
}

#[tokio::test]
async fn unary_grpc_comes_back_byte_by_byte() {
    let server = serve().await;
    let answer = server.grpc("Echo", envelope::encode(0, ADA), &[]).await;
    assert_eq!(answer.http_status, 200);
    assert_eq!(answer.headers["content-type"], "application/grpc+proto");
    assert_eq!(answer.body, envelope::encode(0, ADA));
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.trailers.len(), 1);
}

#[tokio::test]
async fn garbage_ends_only_its_own_connection() {
    let server = serve().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let frames = [
        // A frame of 16 MiB, settings on a stream, data on a stream that is not open, headers that are no HPACK.
        &b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"[..],
        b"\0\0\0\x04\0\0\0\0\x01",
        b"\0\0\x01\0\0\0\0\0\x05x",
        b"\0\0\x04\x01\x04\0\0\0\x01\xff\xff\xff\xff",
    ];
    for frame in frames {
        let start = [&preface, &b"\0\0\0\x04\0\0\0\0\0"[..], frame].concat();
        let answer = server.raw(&start).await;
        assert!(answer.windows(4).any(|window| window[3] == 7), "no GOAWAY for {frame:?}: {answer:?}");
    }
    for garbage in [
        &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"GET\r\n\r\n",
        b"\xff\xfe\xfd\xfc",
        b"",
    ] {
        let answer = server.raw(garbage).await;
        let refused = answer.starts_with(b"HTTP/1.1 400") || answer.ends_with(b"not [ff, fe, fd, fc]");
        assert!(answer.is_empty() || refused, "{}", answer.escape_ascii());
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn silent_and_slow_peers_are_closed() {
    let limits = Limits { first_bytes_wait_max: Duration::from_millis(50), ..Limits::default() };
    let server = serve_with(limits).await;
    for start in ["P", "PRI * HTTP/2.0\r\n", "POST /t.T/Echo HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("still open after {start:?}")).unwrap();
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_given_up() {
    let limits = Limits { request_wait_max: Duration::from_millis(50), ..Limits::default() };
    let server = serve_with(limits).await;
    let mut stream = server.connect().await;
    let start =
        "POST /t.T/Echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{";
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, b"HTTP/1.1 504");
}

#[tokio::test]
async fn oversized_messages_and_bombs_are_refused() {
    let server = serve_with(Limits { message_size_max: 1000, ..Limits::default() }).await;
    // The prefix alone is enough.
    let answer = server.grpc("Echo", &b"\0\xff\xff\xff\xff"[..], &[]).await;
    assert_eq!(answer.grpc_status(), ("8", "message of 4294967295 bytes is over the limit of 1000"));
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Deflate] {
        let bomb = encoding.compress(&Bytes::from(vec![0; 10_000_000]));
        let bomb = if bomb.len() > 1000 { bomb.slice(..1000) } else { bomb };
        let headers = [("grpc-encoding", encoding.name())];
        let answer = server.grpc("Echo", envelope::encode(1, &bomb), &headers).await;
        assert_eq!(answer.grpc_status(), ("8", "decompressed message is over the limit of 1000 bytes"));
    }
    let answer = server.post("Echo", "application/json", vec![b' '; 1001]).await;
    assert_eq!((answer.http_status, answer.text().contains("resource_exhausted")), (429, true));
    still_serves(&server).await;
}

#[tokio::test]
async fn a_unary_method_takes_exactly_one_whole_message() {
    let server = serve().await;
    let one = envelope::encode(0, ADA);
    let cases: [(Vec<u8>, &str); 5] = [
        (vec![], "12"),
        ([&one[..], &one[..]].concat(), "12"),
        (one[..7].to_vec(), "3"),
        (envelope::encode(1, ADA).to_vec(), "13"),
        (envelope::encode(2, ADA).to_vec(), "3"),
    ];
    for (body, code) in cases {
        let answer = server.grpc("Echo", body.clone(), &[]).await;
        assert_eq!((answer.http_status, answer.grpc_status().0), (200, code), "{body:?}");
    }
}

#[tokio::test]
async fn requests_that_fit_no_method_or_protocol_are_explained() {
    let server = serve().await;
    let answer = server.grpc("Nope", envelope::encode(0, ADA), &[]).await;
    assert_eq!(answer.grpc_status(), ("12", "unknown method t.T/Nope"));
    let answer = server.post("Nope", "application/json", "{}").await;
    assert_eq!(
        (answer.http_status, answer.text()),
        (404, r#"{"code":"unimplemented","message":"unknown method t.T/Nope"}"#)
    );
    let answer = server.post("Echo", "text/plain", "{}").await;
    assert_eq!(answer.http_status, 415);
    assert!(answer.headers["accept-post"].to_str().unwrap().contains("application/json"));
    let answer = server.post("Twice", "application/json", "{}").await;
    assert_eq!(answer.http_status, 415);
    let answer = server.grpc("Echo", "", &[("grpc-timeout", "soon")]).await;
    assert_eq!(answer.grpc_status(), ("3", "grpc-timeout is \"soon\": not a timeout"));
    let answer = server.grpc("Echo", "", &[("grpc-encoding", "br")]).await;
    assert_eq!(answer.grpc_status().0, "12");
    assert_eq!(answer.headers["grpc-accept-encoding"], "gzip,zstd,deflate,identity");
    let answer =
        server.raw_text("POST /t.T/Echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    let answer = server.raw_text("PUT /t.T/Echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, POST"), "{answer}");
}

#[tokio::test]
async fn curl_needs_nothing_but_json() {
    let server = serve().await;
    let answer = server
        .raw_text("POST /t.T/Echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"text\":\"Ada\"}")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n{\"text\":\"Ada\"}"),
        "{answer}"
    );
    let get = "GET /t.T/Echo?encoding=json&message=%7B%22text%22%3A%22Ada%22%7D HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = server.raw_text(get).await;
    assert!(answer.ends_with("\r\n\r\n{\"text\":\"Ada\"}"), "{answer}");
    let answer =
        server.raw_text("GET /t.T/Never?encoding=json&message=%7B%7D HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: POST"), "{answer}");
    let answer = server.raw_text("GET / HTTP/1.1\r\nhost: here:1\r\n\r\n").await;
    assert!(answer.contains("t.T/Twice(t.M) returns (stream t.M)\n"), "{answer}");
    assert!(
        answer.contains("curl -H 'content-type: application/json' -d '{}' http://here:1/t.T/Echo"),
        "{answer}"
    );
}

#[tokio::test]
async fn grpc_web_ends_in_the_body() {
    let server = serve().await;
    let trailers = envelope::encode(0x80, b"grpc-status: 0\r\n");
    let expected = [&envelope::encode(0, ADA)[..], &trailers].concat();
    let answer = server.post("Echo", "application/grpc-web+proto", envelope::encode(0, ADA)).await;
    assert_eq!(answer.body, expected);
    // "AAAAAAUKA0FkYQ==" is the frame of ADA in base64.
    let answer = server.post("Echo", "application/grpc-web-text", "AAAAAAUKA0FkYQ==").await;
    assert_eq!(answer.text(), "AAAAAAUKA0FkYYAAAAAQZ3JwYy1zdGF0dXM6IDANCg==");
}

#[tokio::test]
async fn connect_streams_end_in_json() {
    let server = serve().await;
    let messages = [&envelope::encode(0, b"{}")[..], &envelope::encode(0, br#"{"text":"b"}"#)].concat();
    let answer = server.post("Each", "application/connect+json", messages.clone()).await;
    assert_eq!(answer.body, [&messages[..], &envelope::encode(2, b"{}")].concat());
    let answer = server.post("Twice", "application/connect+json", &b"\0\0\0\0\x09{}"[..]).await;
    let end = answer.text().split_once('{').unwrap().1;
    assert!(end.contains(r#""code":"invalid_argument""#), "{answer:?}");
}

#[tokio::test]
async fn json_rpc_answers_calls_batches_and_notifications() {
    let server = serve().await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"t.T/Echo","params":{"text":"Ada"}}"#;
    let reply = r#"{"jsonrpc":"2.0","result":{"text":"Ada"},"id":1}"#;
    let answer = server.post("/", "application/json", call).await;
    assert_eq!((answer.http_status, answer.text()), (200, reply));
    let answer = server.post("/", "application/json", format!("[{call},{call}]")).await;
    assert_eq!(answer.text(), format!("[{reply},{reply}]"));
    let answer = server.post("/", "application/json", r#"{"jsonrpc":"2.0","method":"t.T/Echo"}"#).await;
    assert_eq!((answer.http_status, answer.text()), (204, ""));
}

#[tokio::test]
async fn only_pages_from_this_machine_may_call() {
    let server = serve().await;
    let ask = |origin: &str| {
        format!(
            "OPTIONS /t.T/Echo HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n"
        )
    };
    let answer = server.raw_text(&ask("http://localhost:3000")).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("access-control-allow-origin: http://localhost:3000\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-headers: content-type\r\n"), "{answer}");
    let answer = server.raw_text(&ask("https://example.com")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("allow-origin"), "{answer}");
}

#[tokio::test]
async fn a_reset_stream_drops_its_call() {
    let mut server = serve().await;
    let mut client = server.http2().await;
    let response = client.send_request(request("Never", "application/grpc", envelope::encode(0, ADA), &[]));
    let waiting = server.shutdown.spawn(response);
    assert_eq!(server.events.recv().await, Some("called"));
    waiting.abort();
    let dropped = tokio::time::timeout(DEADLINE, server.events.recv()).await;
    assert_eq!(dropped, Ok(Some("dropped")));
    assert_eq!(server.server.metrics().in_flight(), 0);
}

#[tokio::test]
async fn a_lost_connection_drops_its_calls() {
    let mut server = serve().await;
    let mut stream = server.connect().await;
    let start = "POST /t.T/Never HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(start.as_bytes()).await.unwrap();
    assert_eq!(server.events.recv().await, Some("called"));
    drop(stream);
    let dropped = tokio::time::timeout(DEADLINE, server.events.recv()).await;
    assert_eq!(dropped, Ok(Some("dropped")));
}

#[tokio::test]
async fn the_deadline_ends_a_call() {
    let mut server = serve().await;
    let answer = server.grpc("Never", envelope::encode(0, ADA), &[("grpc-timeout", "20m")]).await;
    assert_eq!(answer.grpc_status(), ("4", "deadline exceeded"));
    assert_eq!(server.events.recv().await, Some("called"));
    assert_eq!(server.events.recv().await, Some("dropped"));
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_no_more() {
    let mut server = serve().await;
    let mut client = server.http2().await;
    let asked = request("Never", "application/grpc", envelope::encode(0, ADA), &[("grpc-timeout", "300m")]);
    let response = server.shutdown.spawn(client.send_request(asked));
    assert_eq!(server.events.recv().await, Some("called"));
    server.shutdown.drain();
    let answer = Answer::read(response.await.unwrap().unwrap()).await;
    assert_eq!(answer.grpc_status().0, "4");
    assert!(server.shutdown.finish(DEADLINE).await, "the connection stays open");
    assert_eq!(server.shutdown.phase(), Phase::Stopped);
}

#[tokio::test]
async fn a_client_of_ours_is_told_where_the_time_went() {
    let server = serve().await;
    let headers = [("bandy-trace", "1")];
    let answer = server.grpc("Echo", envelope::encode(0, ADA), &headers).await;
    let steps = trace::decode(answer.trailers["bandy-trace"].to_str().unwrap());
    let stages: Vec<_> = steps.iter().map(|step| (step.stage, step.size)).collect();
    let expected = [(Stage::Dispatch, 0), (Stage::Decode, 5), (Stage::Handler, 0), (Stage::Serialise, 5)];
    assert_eq!(stages, expected);
    assert!(steps.is_sorted_by_key(|step| step.at), "{steps:?}");
}

#[tokio::test]
async fn compressed_requests_get_compressed_replies() {
    let server = serve().await;
    let text = format!("\x0a\x64{}", "a".repeat(100));
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Deflate] {
        let body = envelope::encode(1, &encoding.compress(&Bytes::from(text.clone())));
        let answer = server.grpc("Echo", body, &[("grpc-encoding", encoding.name())]).await;
        assert_eq!(answer.headers["grpc-encoding"], encoding.name());
        assert_eq!(answer.body[0], 1);
        assert_eq!(encoding.decompress(&answer.body.slice(5..), 1000).unwrap(), text);
    }
}

#[tokio::test]
async fn rapid_resets_close_the_connection() {
    let server = serve().await;
    let mut attack = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..]);
    for stream in (1u32..2000).step_by(2) {
        // HEADERS: POST, http, path "/"; then RST_STREAM: CANCEL.
        attack.extend_from_slice(b"\0\0\x03\x01\x04");
        attack.extend_from_slice(&stream.to_be_bytes());
        attack.extend_from_slice(b"\x83\x86\x84\0\0\x04\x03\0");
        attack.extend_from_slice(&stream.to_be_bytes());
        attack.extend_from_slice(b"\0\0\0\x08");
    }
    let answer = server.raw(&attack).await;
    // GOAWAY with ENHANCE_YOUR_CALM.
    assert!(answer.windows(4).any(|window| window == b"\0\0\0\x0b"), "{}", answer.escape_ascii());
    still_serves(&server).await;
}

#[tokio::test]
async fn idle_connections_are_many_and_harmless() {
    let server = serve().await;
    let mut idle = Vec::new();
    // Two descriptors each, as both ends are in this process; 1,024 are allowed everywhere.
    for _ in 0..400 {
        let mut stream = server.connect().await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        idle.push(stream);
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn json_rpc_over_http_has_a_deadline() {
    let server = serve().await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"t.T/Never"}"#;
    let asked = request("/", "application/json", call, &[("connect-timeout-ms", "20")]);
    let answer = Answer::read(server.http2().await.send_request(asked).await.unwrap()).await;
    assert!(answer.text().contains("deadline"), "{answer:?}");
    let asked = request("/", "application/json", call, &[("connect-timeout-ms", "soon")]);
    let answer = Answer::read(server.http2().await.send_request(asked).await.unwrap()).await;
    assert_eq!((answer.http_status, answer.text()), (400, "connect-timeout-ms is \"soon\": not a timeout\n"));
}
