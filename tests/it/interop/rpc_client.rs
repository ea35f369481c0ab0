//! `rpc call` and its kin against servers that others wrote: grpcio, grpc-js, connect-node.

use std::process::Command;

use crate::interop::peers::{interop, script, succeeds};
use crate::support::{Cmd, Home, Running, bandy};

/// Every field of `demo.Order`, as JSON prints it.
const ORDER: &str = concat!(
    r#"{"id":"1","lines":[{"item":"tea","count":2,"color":"GREEN"}],"placedAt":"2026-01-02T03:04:05.678Z","#,
    r#""within":"1.500s","stock":{"tea":7},"pickup":true,"stamp":"AP8=","weight":1.5}"#,
    "\n"
);

/// What every server of client_demo.proto answers alike, whatever it is spoken to in. `say` makes a command
/// from its words.
#[track_caller]
fn answers_every_call(say: impl Fn(&str) -> Cmd) {
    let call = |words: &str| say(&format!("rpc call {words}"));
    // Requests: items, JSON, files, standard input.
    call("Greeter/Hello name=Ada").runs().prints("{\"message\":\"Hello, Ada\"}\n").silently();
    call("demo.Greeter/Hello -d '{\"name\":\"Ada\"}'").runs().prints("{\"message\":\"Hello, Ada\"}\n");
    call("Hello -d @-").stdin("{\"name\":\"Bo\"}").runs().prints("{\"message\":\"Hello, Bo\"}\n");
    let home = Home::new();
    let file = home.file("request.json", "{\"name\":\"Cy\"}");
    call(&format!("Hello -d @{}", file.display())).runs().prints("{\"message\":\"Hello, Cy\"}\n");
    call("Hello name=ä big:=9007199254740993 --int64 number")
        .runs()
        .prints("{\"message\":\"Hello, ä\",\"big\":9007199254740993}\n");
    call("Repeat").arg(ORDER.trim_end()).runs().prints(ORDER);
    call("Repeat placed_at=2026-01-02T03:04:05.678Z --names proto --enums number lines:='[{\"color\":2}]'")
        .runs()
        .prints("{\"lines\":[{\"color\":2}],\"placed_at\":\"2026-01-02T03:04:05.678Z\"}\n");
    call("Upper hello").runs().prints("HELLO\n");
    call("Upper hello -z gzip").runs().prints("HELLO\n");
    let large = "x".repeat(1 << 20);
    call("Upper -d @-").stdin(&large).runs().prints(&format!("{}\n", large.to_uppercase()));
    call("Upper -d @- --max-msg-size 100k").stdin(&large).runs().exits(72).complains("over the limit");
    // Metadata both ways.
    call("Hello name=Ada -v -H x-test=yes")
        .runs()
        .exits(0)
        .complains("< x-seen: yes\n")
        .complains("< x-trailer: end (trailer)\n")
        .complains("< x-data-bin: AP8");
    let envelope = json(&call("Hello name=Ada --json").runs().exits(0).out());
    assert_eq!(envelope["value"]["message"], "Hello, Ada");
    assert_eq!(envelope["status"]["name"], "OK");
    let data = envelope["trailers"]["x-data-bin"]["base64"].as_str().unwrap();
    assert_eq!(data.trim_end_matches('='), "AP8", "{envelope}");
    // Streams.
    call("Count value:=3").runs().prints("{\"value\":1}\n{\"value\":2}\n{\"value\":3}\n");
    call("Count value:=100000 -n 2").runs().prints("{\"value\":1}\n{\"value\":2}\n");
    call("Sum").stdin("{\"value\":1}\n{\"value\":2}\n{\"value\":39}\n").runs().prints("{\"value\":42}\n");
    call("Sum").runs().prints("{}\n");
    let names: String = (0..50).map(|n| format!("{{\"name\":\"{n}\"}}\n")).collect();
    let greetings: String = (0..50).map(|n| format!("{{\"message\":\"Hello, {n}\"}}\n")).collect();
    call("Hello --each -j8").stdin(names).runs().prints(&greetings);
    // Failures.
    for (code, name) in [(1, "CANCELLED"), (3, "INVALID_ARGUMENT"), (5, "NOT_FOUND"), (16, "UNAUTHENTICATED")]
    {
        call(&format!("Fail code:={code} message='why: ä %'"))
            .runs()
            .exits(64 + code)
            .complains(&format!("answered {name} — why: ä %"));
    }
    let stubborn = format!("Fail code:=14 first_fail:=2 message={}", Home::new().path("").display());
    call(&format!("{stubborn} --retry 3")).runs().prints("{\"message\":\"after 2 failures\"}\n");
    call("Slow --timeout 300ms").runs().exits(124);
    call("Uper x").runs().exits(5).complains("did you mean 'demo.Greeter/Upper'?");
    call("Upper hello --trace")
        .runs()
        .shows("0a 05 68 65 6c 6c 6f   value(1)=\"hello\"")
        .shows("value(1)=\"HELLO\"");
    // Load.
    let report = json(&say("rpc bench Greeter/Hello -n 200 -c 4 --json").runs().exits(0).out());
    assert_eq!((&report["calls"], &report["errors"]), (&200.into(), &0.into()), "{report}");
}

/// Streams both ways at the same time, for which HTTP/1.1 has no room.
#[track_caller]
fn talks_both_ways(say: impl Fn(&str) -> Cmd) {
    let mut talk = say("rpc call Double").spawns();
    for value in 1..=3 {
        talk.writes(&format!("{{\"value\":{value}}}\n"));
        // The reply comes before the next request is written.
        assert_eq!(talk.line(), format!("{{\"value\":{}}}", 2 * value));
    }
    talk.ends().prints("");
}

#[track_caller]
fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The reflection of a server, as all commands use it.
#[track_caller]
fn describes_itself(server: &Running) {
    let say = |words: &str| bandy(words).endpoint(server);
    let list = say("rpc ls").runs().exits(0).silently().out();
    for line in [
        "demo.Calc\tDouble\tbidi\t",
        "demo.Calc\tSum\tclient-stream\t",
        "demo.Calc\tCount\tserver-stream\t",
        "demo.Greeter\tHello\tunary\t",
    ] {
        assert!(list.lines().any(|found| found.starts_with(line)), "no {line:?} in {list}");
    }
    let calc = say("rpc ls Calc --json").runs().exits(0).out();
    let methods: Vec<_> = calc.lines().map(|line| json(line)["method"].clone()).collect();
    assert_eq!(methods, ["Count", "Double", "Sum"]);
    say("rpc ls Clac").runs().exits(5).complains("did you mean 'Calc'?");
    say("rpc info Order")
        .runs()
        .shows("google.protobuf.Timestamp placed_at = 3;")
        .shows("map<string, int32> stock = 5;")
        .shows("oneof delivery {\n    string post = 6;\n    bool pickup = 7;\n  }");
    say("rpc info Color")
        .runs()
        .prints("enum Color {\n  COLOR_UNSPECIFIED = 0;\n  RED = 1;\n  GREEN = 2;\n}\n");
    say("rpc info Greeter/Upper").runs().shows("rpc Upper(google.protobuf.StringValue)");
    let example = say("rpc info Shop/Repeat --example").runs().exits(0).stdout;
    say("rpc call Repeat -d @-").stdin(example).runs().shows("\"placedAt\":\"1970-01-01T00:00:00Z\"");
    let schema = json(&say("rpc info Shop/Repeat --json-schema").runs().exits(0).out());
    assert!(schema.to_string().contains("placedAt"), "{schema}");
    // What is written to files says the same without the server.
    let (set, protos) = (server.home.path("set.binpb"), server.home.path("protos"));
    say(&format!("rpc info --protoset-out {} --export {}", set.display(), protos.display())).runs().exits(0);
    let methods = say("rpc ls demo.Calc").runs().exits(0).out();
    bandy("rpc ls demo.Calc --protoset").arg(&set).runs().prints(&methods);
    bandy("rpc ls demo.Calc --proto").arg(&protos).runs().prints(&methods);
    // Bytes by themselves need no schema.
    let bytes = b"\x0a\x03Ada";
    let reply = say("rpc call demo.Greeter/Hello --raw -d @-").stdin(bytes).runs().exits(0).stdout;
    // grpc-js writes out what is default, too.
    assert!(reply.starts_with(b"\x0a\x0aHello, Ada"), "{reply:?}");
}

#[test]
#[ignore = "needs grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking"]
fn a_grpcio_server_is_called_listed_and_described() {
    let server = script("grpcio_server.py").starts();
    describes_itself(&server);
    answers_every_call(|words| bandy(words).endpoint(&server));
    talks_both_ways(|words| bandy(words).endpoint(&server));
    // With the schema from a file, nobody asks for reflection.
    let file = interop("client_demo.proto");
    bandy("rpc call Upper hello --proto").arg(file).endpoint(&server).runs().prints("HELLO\n");
}

#[test]
#[ignore = "needs grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking"]
fn the_health_of_a_grpcio_server_is_asked_for() {
    let server = script("grpcio_server.py").starts();
    let say = |words: &str| bandy(words).endpoint(&server);
    let pings = say("rpc ping -n 3 -i 1ms --json").runs().exits(0).out();
    assert_eq!(pings.matches("SERVING").count(), 3, "{pings}");
    say("rpc ping demo.Calc -n 1").runs().shows("NOT_SERVING from ");
    say("rpc wait").runs().exits(0);
    say("rpc wait demo.Calc --timeout 300ms").runs().exits(124).complains("demo.Calc is NOT_SERVING");
    say("rpc wait nobody --timeout 300ms").runs().exits(124).complains("nobody is NOT_FOUND");
    say("rpc call Health/Watch -n 1").runs().prints("{\"status\":\"SERVING\"}\n");
    bandy(&format!("wait grpc://{}", server.url)).runs().exits(0);
    // It counts nothing for others: what remains are its methods and their health, where it speaks of it.
    let top = say("rpc top --once -o '%{method} %{health} %{calls}'").runs().exits(0);
    assert!(top.out().contains("demo.Calc/Sum NOT_SERVING \ndemo.Greeter/Fail  \n"), "{}", top.out());
    top.complains("no counters from this server");
}

#[test]
#[ignore = "needs grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking"]
fn a_grpcio_server_is_called_through_a_unix_socket_and_gone_when_it_stops() {
    let home = Home::new();
    let mut server = script("grpcio_server.py").arg("--unix").arg(home.path("s")).home(&home).starts();
    bandy("rpc call Upper hello").endpoint(&server).runs().prints("HELLO\n");
    let waiting = bandy("rpc call Slow").endpoint(&server).spawns();
    bandy("rpc call Upper hello").endpoint(&server).runs().prints("HELLO\n");
    server.stdin = None;
    // Depending on whether the reply or the end of the connection is seen first.
    let ran = waiting.ends();
    let said = ran.err();
    assert!(
        said.contains("CANCELLED") || said.contains("UNAVAILABLE") || said.contains("cannot reach"),
        "{said}"
    );
    server.ends().exits(0);
    bandy(&format!("rpc call -e unix:{} Upper hello", home.path("s").display())).runs().exits(3);
}

#[test]
#[ignore = "needs @grpc/grpc-js, @grpc/proto-loader and @grpc/reflection"]
fn a_grpc_js_server_is_called_listed_and_described_in_spite_of_its_reflection() {
    let server = script("grpc_js_server.cjs").starts();
    describes_itself(&server);
    answers_every_call(|words| bandy(words).endpoint(&server));
    talks_both_ways(|words| bandy(words).endpoint(&server));
    // It has no health service: that it answers is all that can be known.
    bandy("rpc ping -n 1").endpoint(&server).runs().shows("ANSWERED from ");
    bandy("rpc wait --timeout 20s").endpoint(&server).runs().exits(0);
}

#[test]
#[ignore = "needs @connectrpc/connect-node and buf"]
fn a_connect_node_server_is_called_in_three_protocols_and_by_get() {
    let home = Home::new();
    let set = home.path("set.binpb");
    let folder = interop("");
    succeeds(
        Command::new("buf")
            .args(["build", "--path", "client_demo.proto", "-o"])
            .arg(&set)
            .current_dir(folder),
    );
    let mut server = script("connect_server.mjs").arg(&set).home(&home).starts();
    let (http2, http1) = (server.url.clone(), server.line());
    let at = |url: String| {
        let set = set.clone();
        move |words: &str| bandy(words).arg("--protoset").arg(&set).arg("-e").arg(&url)
    };
    let with = |url: &str, flags: &'static str| {
        let say = at(url.to_owned());
        move |words: &str| say(&format!("{words} {flags}"))
    };
    let both_ways = [
        with(&format!("grpc://{http2}"), ""),
        with(&format!("http://{http2}"), "--protocol grpc-web --http 2"),
        with(&format!("http://{http2}"), "--protocol connect --http 2"),
    ];
    for say in both_ways {
        answers_every_call(&say);
        talks_both_ways(&say);
    }
    for protocol in ["--protocol grpc-web", "--protocol connect"] {
        let say = with(&format!("http://{http1}"), protocol);
        answers_every_call(&say);
        say("rpc call Double").stdin("{}").runs().exits(1).complains("--http 2");
    }
    let connect = with(&format!("http://{http1}"), "--protocol connect");
    connect("rpc call Repeat id=1 --get -v").runs().exits(0).complains("< x-verb: GET\n");
    // What has side effects is never sent by GET.
    connect("rpc call Hello name=Ada --get -v").runs().exits(0).complains("< x-verb: POST\n");
    let failed = connect("rpc call Fail code:=9 message=no --json").runs().exits(73).out();
    let detail = serde_json::json!([{"@type": "google.protobuf.StringValue", "value": "why"}]);
    assert_eq!(json(&failed)["status"]["details"], detail);

    // No reflection, and the wrong version of HTTP: both are said.
    let bare = format!("rpc call Upper hello -e grpc://{http2}");
    bandy(&bare).runs().exits(5).complains("it offers no reflection").complains("--proto FILE");
    bandy(&format!("rpc call Upper hello -e grpc://{http1}"))
        .runs()
        .exits(3)
        .complains("it speaks HTTP/1.1, not HTTP/2");
}
