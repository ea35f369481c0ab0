//! The reflection of `rpc serve` as grpcurl and buf read it.

use std::path::Path;
use std::process::Command;

use crate::support::{Running, bandy};

fn serves_everything() -> Running {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proto");
    bandy("rpc serve -l :0 --proto proto2.proto --proto proto3.proto --proto edition2023.proto -- cat")
        .folder(folder)
        .starts()
}

#[track_caller]
fn says(program: &str, words: &[&str]) -> String {
    let output =
        Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
#[ignore = "needs grpcurl"]
fn grpcurl_lists_and_describes_every_kind_of_symbol() {
    let server = serves_everything();
    let address = server.url.strip_prefix("grpc://").unwrap();
    let list = says("grpcurl", &["-plaintext", address, "list"]);
    for service in ["compare.p2.All", "compare.p3.Service", "compare.e23.Service", "grpc.health.v1.Health"] {
        assert!(list.lines().any(|line| line == service), "{list}");
    }
    for (symbol, part) in [
        ("compare.p2.All", "is a service:"),
        ("compare.p2.All.Server", "option (.compare.options.route) = {"),
        ("compare.p2.Nest", "is a message:"),
        ("compare.p2.Nest.Nest.Color", "is an enum:"),
        ("compare.p2.Nest.nest", "is a field:"),
        ("compare.p2.Nest.choice", "is a one-of:"),
        ("compare.p2.GREEN", "is an enum value:"),
        ("compare.p2.outside", "is an extension:"),
        ("compare.p2.Nest.inside", "is an extension:"),
        ("compare.p3.Maps.snake_key", "map<string, .google.protobuf.Struct> snake_key = 12;"),
        ("google.protobuf.Timestamp", "is a message:"),
    ] {
        let text = says("grpcurl", &["-plaintext", address, "describe", symbol]);
        assert!(text.contains(part), "{symbol}: {text}");
    }
}

#[test]
#[ignore = "needs grpcurl"]
fn grpcurl_makes_templates_and_exports() {
    let server = serves_everything();
    let address = server.url.strip_prefix("grpc://").unwrap();
    let text = says("grpcurl", &["-plaintext", "-msg-template", address, "describe", "compare.p3.Optionals"]);
    assert!(text.contains("\"anInt64\": \"0\""), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set.binpb");
    let protos = folder.path().join("protos");
    let (set_text, protos_text) = (set.to_str().unwrap(), protos.to_str().unwrap());
    let export = ["-plaintext", "-protoset-out", set_text, "-proto-out-dir", protos_text];
    // Not of proto2: grpcurl writes a default of infinity as +Inf, which is no .proto text.
    says("grpcurl", &[&export[..], &[address, "describe", "compare.p3.Service"]].concat());
    // What it took away can be read here, from either, and means the same.
    let methods = "compare.p3.Service\tB\tbidi";
    bandy("rpc ls Service --protoset").arg(&set).runs().shows(methods);
    bandy("rpc ls Service --proto").arg(&protos).runs().shows(methods);
    bandy("rpc info compare.p3.Scalars --proto")
        .arg(&protos)
        .arg("--protoset")
        .arg(&set)
        .runs()
        .exits(0)
        .silently();
}

#[test]
#[ignore = "needs buf"]
fn buf_curl_reads_both_versions_of_reflection() {
    let server = serves_everything();
    let url = server.url.replace("grpc://", "http://");
    for version in ["grpc-v1", "grpc-v1alpha"] {
        let words =
            ["curl", "--list-methods", "--http2-prior-knowledge", "--reflect-protocol", version, &url];
        let methods = says("buf", &words);
        for method in ["compare.p2.All/Server", "compare.e23.Service/Call", "grpc.health.v1.Health/Watch"] {
            assert!(methods.lines().any(|line| line == method), "{version}: {methods}");
        }
    }
    let call = format!("{url}/compare.p3.Service/B");
    let reply = says("buf", &["curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", "{}", &call]);
    assert_eq!(reply, "{}\n");
}
