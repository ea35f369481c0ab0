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
    fn json_rpc(&self) -> [String; 4] {
        [
            format!("jsonrpc+tcp://{}", self.host),
            format!("unix:{}?protocol=jsonrpc", self.socket),
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
