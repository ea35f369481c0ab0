//! `rpc serve` and clients that others wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::interop::peers::{interop, succeeds};
use crate::support::{Running, bandy};

#[test]
#[ignore = "needs grpcio, grpcio-reflection and grpcio-health-checking"]
fn grpcio_calls_the_built_in_services() {
    let server = bandy("rpc serve -l :0").starts();
    let address = server.url.strip_prefix("grpc://").unwrap();
    succeeds(Command::new("python3").arg(interop("rpc-serve-grpcio.py")).arg(address));
}

#[test]
#[ignore = "needs grpc-go's interop client as grpc-interop-client"]
fn a_script_passes_the_interop_tests_of_grpc() {
    let folder = interop("testservice");
    let server = bandy("rpc serve -l :0 --proto test.proto -- ./handle.py").folder(&folder).starts();
    let (_, port) = server.url.rsplit_once(':').unwrap();
    for case in [
        "empty_unary",
        "large_unary",
        "client_streaming",
        "server_streaming",
        "ping_pong",
        "empty_stream",
        "timeout_on_sleeping_server",
        "cancel_after_begin",
        "cancel_after_first_response",
        "status_code_and_message",
        "special_status_message",
        "custom_metadata",
        "unimplemented_method",
        "unimplemented_service",
        "pick_first_unary",
    ] {
        let flags = ["-server_host", "127.0.0.1", "-server_port", port, "-test_case", case];
        succeeds(Command::new("grpc-interop-client").args(flags));
    }
}

/// A server of the built-in services, and its `HOST:PORT`.
fn demo() -> (Running, String) {
    let server = bandy("rpc serve -l :0").starts();
    let address = server.url.strip_prefix("grpc://").unwrap().to_owned();
    (server, address)
}

fn demo_proto() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rpc/handler/demo.proto")
}

#[test]
#[ignore = "needs @grpc/grpc-js and @grpc/proto-loader"]
fn grpc_js_calls_the_built_in_services() {
    let (_server, address) = demo();
    succeeds(Command::new("node").arg(interop("rpc-serve-grpc-js.cjs")).arg(address).arg(demo_proto()));
}

#[test]
#[ignore = "needs @connectrpc/connect-node and buf"]
fn connect_node_calls_in_three_protocols() {
    let (server, address) = demo();
    let set = server.home.path("demo.binpb");
    let folder = demo_proto().parent().unwrap().to_owned();
    succeeds(Command::new("buf").args(["build", "--path", "demo.proto", "-o"]).arg(&set).current_dir(folder));
    succeeds(Command::new("node").arg(interop("rpc-serve-connect.mjs")).arg(address).arg(set));
}

#[test]
#[ignore = "needs jayson and vscode-jsonrpc"]
fn jayson_and_vscode_call_in_json_rpc() {
    let (_server, address) = demo();
    let (host, port) = address.rsplit_once(':').unwrap();
    succeeds(Command::new("node").arg(interop("rpc-serve-jsonrpc.cjs")).args([host, port]));
}

#[test]
#[ignore = "needs jsonrpcclient"]
fn jsonrpcclient_calls_over_http_and_udp() {
    let mut server = bandy("rpc serve -l :0 -l udp:127.0.0.1:0").starts();
    let udp = server.line();
    let ports = [&server.url, &udp].map(|url| url.rsplit_once(':').unwrap().1);
    succeeds(Command::new("python3").arg(interop("rpc-serve-jsonrpc.py")).args(ports));
}

#[test]
#[ignore = "needs buf"]
fn buf_curl_calls_in_three_protocols() {
    let (_server, address) = demo();
    for protocol in ["grpc", "grpcweb", "connect"] {
        let url = format!("http://{address}/demo.Greeter/Hello");
        let flags = ["curl", "--protocol", protocol, "--http2-prior-knowledge", "-d", r#"{"name":"Ada"}"#];
        let reply = succeeds(Command::new("buf").args(flags).arg(url));
        assert_eq!(reply.split_whitespace().collect::<String>(), r#"{"message":"Hello,Ada!"}"#, "{protocol}");
    }
    let url = format!("http://{address}");
    let methods =
        succeeds(Command::new("buf").args(["curl", "--list-methods", "--http2-prior-knowledge", &url]));
    assert!(methods.lines().any(|line| line == "demo.Chat/Talk"), "{methods}");
}

#[test]
#[ignore = "needs grpcurl"]
fn grpcurl_lists_describes_and_calls() {
    let (_server, address) = demo();
    let grpcurl = |words: &[&str]| succeeds(Command::new("grpcurl").arg("-plaintext").args(words));
    assert!(grpcurl(&[&address, "list"]).lines().any(|line| line == "demo.Greeter"));
    assert!(grpcurl(&[&address, "describe", "demo.Greeter.Hello"]).contains("rpc Hello ("));
    let hello = grpcurl(&["-d", r#"{"name":"Ada"}"#, &address, "demo.Greeter/Hello"]);
    assert_eq!(hello.split_whitespace().collect::<String>(), r#"{"message":"Hello,Ada!"}"#);
    let ticks = grpcurl(&["-d", r#"{"count":3,"interval_ms":1}"#, &address, "demo.Clock/Ticks"]);
    assert_eq!(ticks.matches("\"number\"").count(), 3, "{ticks}");
}

#[test]
#[ignore = "needs curl"]
fn curl_calls_with_post_get_and_json_rpc() {
    let (_server, address) = demo();
    let curl = |words: &[&str]| succeeds(Command::new("curl").args(["-sS"]).args(words));
    let json = ["-H", "content-type: application/json", "-d"];
    let hello = format!("http://{address}/demo.Greeter/Hello");
    assert_eq!(curl(&[&json[..], &[r#"{"name":"Ada"}"#, &hello]].concat()), r#"{"message":"Hello, Ada!"}"#);
    let show = format!("http://{address}/demo.Account/Show?connect=v1&encoding=json&message=%7B%7D");
    assert_eq!(curl(&[&show]), r#"{"cents":"10000"}"#);
    let root = format!("http://{address}/");
    let document = r#"{"jsonrpc":"2.0","method":"demo.Greeter/Hello","params":{"name":"Ada"},"id":1}"#;
    assert_eq!(
        curl(&[&json[..], &[document, &root]].concat()),
        r#"{"jsonrpc":"2.0","result":{"message":"Hello, Ada!"},"id":1}"#
    );
}

#[test]
#[ignore = "needs grpcio-tools"]
fn a_compact_client_written_from_the_specification_alone() {
    let mut server = bandy("rpc serve -l :0 -l udp:127.0.0.1:0 upper='tr a-z A-Z'").starts();
    let urls = [("tcp", server.url.clone()), ("udp", server.line())];
    for (transport, url) in urls {
        let (_, port) = url.rsplit_once(':').unwrap();
        let words = [transport, "127.0.0.1", port, "bandy.Functions/upper", "a", "3"];
        let output = succeeds(Command::new("python3").arg(interop("compact_client.py")).args(words));
        assert_eq!(output, "A0\nA1\nA2\n", "{transport}");
    }
}
