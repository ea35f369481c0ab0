//! gRPC's interoperability cases from the client's side: `rpc call` against grpc-go's own server.
//!
//! Names and numbers are those of grpc/grpc, doc/interop-test-descriptions.md.

use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::interop::peers::interop;
use crate::support::{Cmd, DEADLINE, Running, bandy, command};

const SERVICE: &str = "grpc.testing.TestService";

/// grpc-go's server. It takes a port and says nothing: that it accepts is its ready line.
struct Go {
    _server: Running,
    port: u16,
}

impl Go {
    #[track_caller]
    fn starts() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = command("grpc-interop-server", &format!("-port {port}")).spawns();
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "it never listened: {}", server.stderr());
            std::thread::yield_now();
        }
        Self { _server: server, port }
    }

    fn call(&self, words: &str) -> Cmd {
        let proto = interop("testservice/test.proto");
        bandy(&format!("rpc call -e grpc://127.0.0.1:{}", self.port))
            .arg("--proto")
            .arg(proto)
            .arg("--max-msg-size")
            .arg("8MiB")
            .with(words)
    }
}

/// A payload of zeroes, as JSON.
fn zeroes(size: usize) -> Value {
    json!({ "body": STANDARD.encode(vec![0; size]) })
}

/// The size of the payload in each line.
#[track_caller]
fn sizes(text: &str) -> Vec<usize> {
    let size = |line| {
        let reply: Value = serde_json::from_str(line).unwrap();
        STANDARD.decode(reply["payload"]["body"].as_str().unwrap_or_default()).unwrap().len()
    };
    text.lines().map(size).collect()
}

#[test]
#[ignore = "needs grpc-go's interop server as grpc-interop-server"]
fn unary_cases() {
    let go = Go::starts();
    // empty_unary, large_unary
    go.call("EmptyCall").runs().prints("{}\n");
    let large = json!({"responseSize": 314_159, "payload": zeroes(271_828)});
    let reply = go.call("TestService/UnaryCall -d @-").stdin(large.to_string()).runs().exits(0).out();
    assert_eq!(sizes(&reply), [314_159]);
    // custom_metadata
    let data = STANDARD.encode([0xab, 0xab, 0xab]);
    go.call("UnaryCall response_size:=1 -v -H x-grpc-test-echo-initial=test_initial_metadata_value")
        .arg("-H")
        .arg(format!("x-grpc-test-echo-trailing-bin={data}"))
        .runs()
        .exits(0)
        .complains("< x-grpc-test-echo-initial: test_initial_metadata_value\n")
        .complains("< x-grpc-test-echo-trailing-bin: q6ur (trailer)\n");
    // status_code_and_message, special_status_message
    let status = |message: &str| json!({"responseStatus": {"code": 2, "message": message}}).to_string();
    for message in ["test status message", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"]
    {
        let failed = go.call("UnaryCall --json -d @-").stdin(status(message)).runs().exits(66).out();
        let failed: Value = serde_json::from_str(&failed).unwrap();
        assert_eq!(failed["status"], json!({"code": 2, "name": "UNKNOWN", "message": message}));
        let failed = go.call("FullDuplexCall --json").stdin(status(message)).runs().exits(66).out();
        let last: Value = serde_json::from_str(failed.lines().last().unwrap()).unwrap();
        assert_eq!(last["status"]["message"], message);
    }
    // unimplemented_method, unimplemented_service
    go.call("TestService/UnimplementedCall").runs().exits(76).complains("answered UNIMPLEMENTED");
    go.call("UnimplementedService/UnimplementedCall").runs().exits(76).complains("unknown service");
    // pick_first_unary: it has no id to give, but every call is of one connection.
    let hundred = "{\"responseSize\":1,\"fillServerId\":true}\n".repeat(100);
    let replies = go.call("UnaryCall --each").stdin(hundred).runs().exits(0).out();
    assert_eq!(sizes(&replies), [1; 100]);
    // client_compressed_unary: grpc-go's server has no codec, and says so.
    go.call("UnaryCall -z gzip response_size:=1").runs().exits(76).complains("Decompressor is not installed");
}

#[test]
#[ignore = "needs grpc-go's interop server as grpc-interop-server"]
fn stream_cases() {
    let go = Go::starts();
    // client_streaming
    let requests: String =
        [27182, 8, 1828, 45904].map(|size| format!("{}\n", json!({"payload": zeroes(size)}))).concat();
    go.call("StreamingInputCall").stdin(requests).runs().prints("{\"aggregatedPayloadSize\":74922}\n");
    // server_streaming
    let wanted = [31415, 9, 2653, 58979];
    let parameters = wanted.map(|size| json!({ "size": size }));
    let request = json!({ "responseParameters": parameters }).to_string();
    let replies = go.call("StreamingOutputCall -d @-").stdin(request).runs().exits(0).out();
    assert_eq!(sizes(&replies), wanted);
    // ping_pong
    let mut talk = go.call("FullDuplexCall").spawns();
    for (size, answer) in [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)] {
        let request = json!({"responseParameters": [{"size": answer}], "payload": zeroes(size)});
        talk.writes(&format!("{request}\n"));
        assert_eq!(sizes(&talk.line()), [answer]);
    }
    talk.ends().prints("");
    // empty_stream
    go.call("FullDuplexCall").runs().prints("").silently();
    // custom_metadata of a stream
    go.call("FullDuplexCall -v -H x-grpc-test-echo-initial=value")
        .stdin("{\"responseParameters\":[{\"size\":1}]}")
        .runs()
        .exits(0)
        .complains("< x-grpc-test-echo-initial: value\n");
}

#[test]
#[ignore = "needs grpc-go's interop server as grpc-interop-server"]
fn cases_of_giving_up() {
    let go = Go::starts();
    // timeout_on_sleeping_server
    let sleepy =
        json!({"payload": zeroes(27182), "responseParameters": [{"size": 1, "intervalUs": 60_000_000}]});
    go.call("FullDuplexCall --timeout 10ms").stdin(sleepy.to_string()).runs().exits(124);
    // cancel_after_begin: before anything is sent
    let begun = go.call("StreamingInputCall").spawns();
    begun.signal(rustix::process::Signal::INT);
    begun.ends().dies_by(rustix::process::Signal::INT);
    // cancel_after_first_response
    let mut talk = go.call("FullDuplexCall -n 1").spawns();
    talk.writes(&format!("{}\n", json!({"responseParameters": [{"size": 31415}], "payload": zeroes(27182)})));
    assert_eq!(sizes(&talk.line()), [31415]);
    talk.ends().prints("");
    // The server serves on.
    go.call("EmptyCall").runs().prints("{}\n");
}

#[test]
#[ignore = "needs grpc-go's interop server as grpc-interop-server"]
fn a_server_without_reflection_is_explained() {
    let go = Go::starts();
    let server = format!("-e grpc://127.0.0.1:{}", go.port);
    bandy(&format!("rpc ls {server}")).runs().exits(5).complains("it offers no reflection");
    bandy(&format!("rpc ping -n 1 {server}")).runs().shows("ANSWERED from ");
    bandy(&format!("rpc wait {server} --timeout 20s")).runs().exits(0);
    let reply = bandy(&format!("rpc call {SERVICE}/EmptyCall --raw {server}")).runs().exits(0);
    assert_eq!(reply.stdout, b"");
}
