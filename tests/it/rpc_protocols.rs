//! `rpc call` and its kin over every protocol that is not gRPC's: compact and JSON-RPC, on every carrier.

use crate::support::{Ran, Running, bandy};

/// A server on TCP, UDP and a Unix socket, and its endpoints by protocol.
struct Server {
    tcp: Running,
    host: String,
    udp: String,
    socket: String,
}

fn serve(words: &str) -> Server {
    let home = crate::support::Home::new();
    let socket = home.path("s");
    let listen = format!("rpc serve -l :0 -l udp::0 -l unix:{} {words}", socket.display());
    let mut tcp = bandy(&listen).home(&home).starts();
    let udp = tcp.line().strip_prefix("udp://").expect("UDP comes second").to_owned();
    let host = tcp.url.strip_prefix("grpc://").expect("TCP comes first").to_owned();
    Server { tcp, host, udp, socket: socket.display().to_string() }
}

impl Server {
    /// Every way to reach it that has a schema.
    fn compact(&self) -> [String; 3] {
        [
            format!("tcp://{}", self.host),
            format!("unix:{}?protocol=compact", self.socket),
            format!("udp://{}", self.udp),
        ]
    }

    /// Every way to reach it by JSON-RPC.
    fn json_rpc(&self) -> [String; 5] {
        [
            format!("jsonrpc+tcp://{}", self.host),
            format!("unix:{}?protocol=jsonrpc", self.socket),
            format!("jsonrpc+unix:{}", self.socket),
            format!("http://{}?protocol=jsonrpc", self.host),
            format!("jsonrpc+udp://{}", self.udp),
        ]
    }

    #[track_caller]
    fn run(&self, words: &str, endpoint: &str) -> Ran {
        bandy(words).arg("-e").arg(endpoint).home(&self.tcp.home).runs()
    }
}

const FUNCTIONS: &str = "upper='tr a-z A-Z' fail='echo no >&2; exit 1'";

#[test]
fn a_function_is_called_by_compact_as_by_grpc() {
    let server = serve(FUNCTIONS);
    for endpoint in server.compact() {
        server.run("rpc call upper hello", &endpoint).exits(0).prints("HELLO\n");
        server
            .run("rpc call uper hello", &endpoint)
            .exits(5)
            .complains("did you mean 'bandy.Functions/upper'?");
        let listed = server.run("rpc ls --json", &endpoint).exits(0).out();
        assert_eq!(listed, server.run("rpc ls --json", &server.tcp.url).exits(0).out(), "{endpoint}");
    }
    server.run("rpc call --at-least-once upper hello", &server.compact()[2]).exits(0).prints("HELLO\n");
}

#[test]
fn a_function_is_called_by_json_rpc_without_a_schema() {
    let server = serve(FUNCTIONS);
    for endpoint in server.json_rpc() {
        server.run("rpc call upper", &endpoint).exits(0).prints("\"\"\n");
        server.run(r#"rpc call upper '"hello"'"#, &endpoint).exits(0).prints("\"HELLO\"\n");
        server.run("rpc call upper value=hello", &endpoint).exits(0).prints("\"HELLO\"\n");
        server.run("rpc call nope", &endpoint).exits(76).complains("answered UNIMPLEMENTED");
        server.run("rpc ls Functions --json", &endpoint).exits(0).shows(r#""method":"upper""#);
    }
}

#[test]
fn json_rpc_with_a_schema_from_a_file_checks_and_streams() {
    let proto = "syntax = \"proto3\"; package demo; \
        message HelloRequest { string name = 1; } message HelloReply { string message = 1; } \
        message TicksRequest { uint32 count = 1; uint32 interval_ms = 2; } message Tick { uint32 number = 1; } \
        message Number { double value = 1; } message Total { double sum = 1; int64 count = 2; double mean = 3; } \
        service Greeter { rpc Hello(HelloRequest) returns (HelloReply); } \
        service Calc { rpc Sum(stream Number) returns (Total); } \
        service Clock { rpc Ticks(TicksRequest) returns (stream Tick); }";
    let server = serve("");
    let file = server.tcp.home.file("demo.proto", proto);
    for endpoint in server.json_rpc() {
        let call = |words: &str| {
            bandy(&format!("rpc call --proto {} {words}", file.display()))
                .arg("-e")
                .arg(&endpoint)
                .home(&server.tcp.home)
        };
        call("Greeter/Hello name=Ada").runs().prints("{\"message\":\"Hello, Ada!\"}\n");
        call("Greeter/Hello nmae=Ada").runs().exits(2).complains("did you mean 'name'");
        call("Calc/Sum").stdin("{\"value\":1}\n{\"value\":2}\n").runs().exits(0).shows("\"sum\":3");
        let ticks = |flags: &str| {
            let out = call(&format!("Clock/Ticks count=3 interval_ms=1 {flags}")).runs().exits(0).out();
            let number =
                |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].clone();
            out.lines().map(number).collect::<Vec<_>>()
        };
        assert_eq!(ticks(""), ["1", "2", "3"], "{endpoint}");
        assert_eq!(ticks("-n 2"), ["1", "2"], "{endpoint}");
        let each = call("Greeter/Hello --each").stdin("{\"name\":\"A\"}\n{\"name\":\"B\"}\n").runs();
        each.prints("{\"message\":\"Hello, A!\"}\n{\"message\":\"Hello, B!\"}\n");
    }
}

#[test]
fn what_a_server_of_json_rpc_offers_can_be_looked_into() {
    let server = serve("");
    for endpoint in server.json_rpc() {
        server.run("rpc info Greeter/Hello", &endpoint).exits(0).shows("\"name\": \"demo.Greeter/Hello\"");
        server.run("rpc info Greeter/Hello --example --json", &endpoint).prints("{\"name\":\"\"}\n");
        server.run("rpc info HelloRequest --json-schema --json", &endpoint).exits(0).shows("\"properties\"");
        server.run("rpc info Greter/Hello", &endpoint).exits(5).complains("did you mean");
        server.run("rpc info --export x", &endpoint).exits(2).complains("no .proto files");
    }
}

#[test]
fn a_call_is_traced_in_every_protocol() {
    let server = serve("");
    let trace = "rpc call --trace Greeter/Hello name=Ada --json";
    for endpoint in server.compact() {
        let told = server.run(trace, &endpoint).exits(0).out();
        assert!(told.contains("\"server_visible\":true"), "{endpoint}: {told}");
        for stage in ["stub", "call id", "serialise", "transport", "dispatch", "handler", "return"] {
            assert!(told.contains(&format!("\"stage\":\"{stage}\"")), "{endpoint}: no {stage} in {told}");
        }
        server.run("rpc call --trace Greeter/Hello name=Ada", &endpoint).shows("── CALL 5 B");
    }
    for endpoint in server.json_rpc() {
        server.run(trace, &endpoint).exits(0).shows("\"server_visible\":false");
        server.run("rpc call --trace Greeter/Hello name=Ada", &endpoint).shows("not visible");
    }
}

#[test]
fn templates_number_what_they_show() {
    let server = serve(FUNCTIONS);
    let words = "rpc call upper --each -o '%n %v'";
    let ran = bandy(words).arg("-e").arg(&server.tcp.url).home(&server.tcp.home).stdin("a\nb\nc\n").runs();
    ran.prints("1 A\n2 B\n3 C\n");
    let demo = serve("");
    demo.run("rpc call Clock/Ticks -n 3 interval_ms=1 -o '%n'", &demo.tcp.url).prints("1\n2\n3\n");
}

#[test]
fn a_list_of_arguments_is_a_request_as_dubbo_sends_it() {
    let server = serve(FUNCTIONS);
    let demo = serve("");
    let post = |server: &Server, path: &str, body: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&server.host).unwrap();
        let head =
            "host: x\r\ncontent-type: application/json\r\nconnection: close\r\ntri-service-version: 1\r\n";
        write!(stream, "POST /{path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    assert_eq!(post(&demo, "demo.Greeter/Hello", "[\"Ada\"]"), "{\"message\":\"Hello, Ada!\"}");
    assert_eq!(post(&demo, "demo.Greeter/Hello", " [{\"name\":\"Ada\"}]"), "{\"message\":\"Hello, Ada!\"}");
    assert_eq!(post(&demo, "demo.Greeter/Hello", "{\"name\":\"Ada\"}"), "{\"message\":\"Hello, Ada!\"}");
    assert_eq!(post(&server, "bandy.Functions/upper", "[\"dubbo\"]"), "\"DUBBO\"");
    assert!(post(&demo, "demo.Greeter/Hello", "[1,2,3,4,5]").contains("invalid_argument"));
}

#[test]
fn health_is_asked_in_every_protocol() {
    let server = serve(FUNCTIONS);
    for endpoint in server.compact().into_iter().chain(server.json_rpc()) {
        server.run("rpc ping -n 1 --json", &endpoint).exits(0).shows(r#""status":"SERVING""#);
        server.run("rpc wait", &endpoint).exits(0);
        server.run("rpc wait nothing.There --timeout 50ms", &endpoint).exits(124);
    }
}

#[test]
fn streams_go_over_compact_and_are_refused_where_there_are_none() {
    let server = serve("");
    let [tcp, unix, udp] = server.compact();
    for endpoint in [tcp, unix] {
        bandy("rpc call Calc/Sum")
            .arg("-e")
            .arg(&endpoint)
            .home(&server.tcp.home)
            .stdin("{\"value\":1}\n{\"value\":2}\n")
            .runs()
            .exits(0)
            .prints("{\"sum\":3,\"count\":\"2\",\"mean\":1.5}\n");
        server.run("rpc call Clock/Ticks -n 2", &endpoint).exits(0);
    }
    server
        .run("rpc call Calc/Sum value:=1", &udp)
        .exits(1)
        .complains("udp:// carries unary calls only: call it over tcp://");
}

#[test]
fn a_server_that_is_not_there_and_words_that_contradict_each_other() {
    let gone = |endpoint: &str| bandy("rpc call upper").arg("-e").arg(endpoint).runs();
    gone("tcp://127.0.0.1:1").exits(3).complains("cannot reach tcp://127.0.0.1:1 — connection refused");
    gone("jsonrpc+tcp://127.0.0.1:1").exits(3).complains("connection refused");
    gone("jsonrpc+udp://127.0.0.1:1").exits(3).complains("connection refused");
    bandy("rpc call upper -e udp://127.0.0.1:1 --protocol grpc").runs().exits(2);
    bandy("rpc call upper -e grpc://127.0.0.1:1 --protocol compact").runs().exits(2).complains("tcp://");
    bandy("rpc call upper -e tcp://127.0.0.1:1 --at-least-once").runs().exits(2).complains("udp://");
    bandy("rpc call upper -e udp://127.0.0.1:1 --insecure").runs().exits(2).complains("cannot be encrypted");
}

#[test]
fn a_reply_over_the_limit_names_size_and_limit() {
    let server = serve("upper='tr a-z A-Z'");
    for endpoint in [server.compact()[0].clone(), server.json_rpc()[0].clone()] {
        server
            .run(r#"rpc call --max-msg-size 10B upper '"hello, hello, hello"'"#, &endpoint)
            .exits(72)
            .complains("is over the limit of 10");
    }
}
