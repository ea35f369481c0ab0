//! `rpc serve` and clients that others wrote.

use std::path::Path;
use std::process::Command;

use crate::support::bandy;

/// Runs a peer to its end.
#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

fn interop(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

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
    ] {
        let flags = ["-server_host", "127.0.0.1", "-server_port", port, "-test_case", case];
        succeeds(Command::new("grpc-interop-client").args(flags));
    }
}
