//! `bandy rpc serve` through the binary, asked in plain HTTP: curl's way of Connect.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::{DEADLINE, Home, Running, bandy, until};

/// POSTs JSON and returns the status code and the body.
#[track_caller]
fn post(server: &Running, path: &str, json: &str) -> (u16, String) {
    let address = server.url.strip_prefix("grpc://").expect("a TCP listener");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = json.len();
    write!(
        stream,
        "POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nX-Who: Ada\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .unwrap();
    let mut reply = String::new();
    // A connection that is cut has no reply.
    let _ = stream.read_to_string(&mut reply);
    let Some((head, body)) = reply.split_once("\r\n\r\n") else { return (0, reply) };
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, body.to_owned())
}

#[track_caller]
fn answers(server: &Running, path: &str, request: &str, reply: &str) {
    assert_eq!(post(server, path, request), (200, reply.to_owned()));
}

/// Asks until the reply is the wanted one: for what a server notices in its own time.
#[track_caller]
fn comes_to_answer(server: &Running, path: &str, request: &str, reply: &str) {
    until(format_args!("{path} answers {reply}"), || post(server, path, request) == (200, reply.to_owned()));
}

const GREETER: &str = r#"syntax = "proto3";
package shop;
service Greeter { rpc Hello(Name) returns (Greeting); rpc Bye(Name) returns (Greeting); }
message Name { string name = 1; }
message Greeting { string text = 1; }
"#;

#[test]
fn a_one_liner_is_a_function() {
    let server =
        bandy("rpc serve -l :0 upper='tr a-z A-Z' pipe='rev | tr a-z A-Z' motd:='\"be kind\"'").starts();
    answers(&server, "bandy.Functions/upper", "\"hello\"", "\"HELLO\"");
    answers(&server, "bandy.Functions/pipe", "\"abc\"", "\"CBA\"");
    answers(&server, "bandy.Functions/motd", "\"\"", "\"be kind\"");
}

#[test]
fn given_nothing_it_offers_the_built_in_services() {
    let server = bandy("rpc serve -l :0").starts();
    answers(&server, "demo.Greeter/Hello", r#"{"name":"Ada"}"#, r#"{"message":"Hello, Ada!"}"#);
    let (code, body) = post(&server, "demo.Calc/Divide", r#"{"a":1}"#);
    assert_eq!(
        (code, body.as_str()),
        (400, r#"{"code":"invalid_argument","message":"cannot divide by zero"}"#)
    );
    answers(&server, "grpc.health.v1.Health/Check", r#"{"service":"demo.Calc"}"#, r#"{"status":"SERVING"}"#);
}

#[test]
fn a_command_answers_every_method_of_a_schema() {
    let home = Home::new();
    let proto = home.file("greeter.proto", GREETER);
    let handler = home.script(
        "handler",
        r#"#!/bin/sh
case $BANDY_METHOD in
  */Hello) echo "{\"text\": \"hello, $BANDY_HEADER_X_WHO\"}";;
  *) echo 'nobody leaves' >&2; exit 71;;
esac
"#,
    );
    let server = bandy("rpc serve -l :0 --proto").arg(proto).arg("--").arg(handler).home(&home).starts();
    answers(&server, "shop.Greeter/Hello", "{}", r#"{"text":"hello, Ada"}"#);
    let (code, body) = post(&server, "shop.Greeter/Bye", "{}");
    assert_eq!((code, body.as_str()), (403, r#"{"code":"permission_denied","message":"nobody leaves"}"#));
}

#[test]
fn an_echo_of_another_type_is_an_example_of_it() {
    let home = Home::new();
    let proto = home.file(
        "shop.proto",
        r#"syntax = "proto3";
package shop;
service Shop {
  rpc Buy(Order) returns (Receipt);
  rpc Same(Order) returns (Order);
}
message Order { string item = 1; int32 count = 2; }
message Receipt { string id = 1; repeated Order orders = 2; bool paid = 3; }
"#,
    );
    let server = bandy("rpc serve -l :0 --echo --proto").arg(proto).home(&home).starts();
    answers(&server, "shop.Shop/Same", r#"{"item":"nail"}"#, r#"{"item":"nail"}"#);
    // One element of each list; what is at its default is not sent.
    answers(&server, "shop.Shop/Buy", r#"{"item":"nail"}"#, r#"{"orders":[{}]}"#);
}

#[test]
fn a_method_may_have_a_command_of_its_own() {
    let home = Home::new();
    let proto = home.file("greeter.proto", GREETER);
    let server =
        bandy(r#"rpc serve -l :0 Greeter/Hello:='{"text":"hi"}' Bye='echo {\"text\":\"bye\"}' --proto"#)
            .arg(proto)
            .home(&home)
            .starts();
    answers(&server, "shop.Greeter/Hello", "{}", r#"{"text":"hi"}"#);
    answers(&server, "shop.Greeter/Bye", "{}", r#"{"text":"bye"}"#);
}

#[test]
fn a_directory_is_read_again_when_it_changes() {
    let home = Home::new();
    home.file("h/greeter.proto", GREETER);
    home.script("h/shop.Greeter/Hello.sh", "#!/bin/sh\necho '{\"text\":\"one\"}'\n");
    home.script("h/upper", "#!/bin/sh\ntr a-z A-Z\n");
    let server = bandy("rpc serve -l :0").arg(home.path("h")).home(&home).starts();
    answers(&server, "shop.Greeter/Hello", "{}", r#"{"text":"one"}"#);
    answers(&server, "bandy.Functions/upper", "\"a\"", "\"A\"");
    home.file("h/shop.Greeter/Bye.json", r#"{"text":"bye"}"#);
    comes_to_answer(&server, "shop.Greeter/Bye", "{}", r#"{"text":"bye"}"#);
    home.file("h/greeter.proto", GREETER.replace("text", "words"));
    home.file("h/shop.Greeter/Bye.json", r#"{"words":"bye"}"#);
    comes_to_answer(&server, "shop.Greeter/Bye", "{}", r#"{"words":"bye"}"#);
    // A mistake changes nothing.
    home.file("h/greeter.proto", "message {");
    answers(&server, "bandy.Functions/upper", "\"b\"", "\"B\"");
}

#[test]
fn workers_answer_many_calls_and_health_follows_them() {
    let home = Home::new();
    let proto = home.file("greeter.proto", GREETER);
    let worker = home.script(
        "worker",
        "#!/bin/sh\nwhile read -r line; do\n  case $line in *Bye*) exit 1;; esac\n  echo '{\"message\":{\"text\":\"hi\"}}'\ndone\n",
    );
    let server =
        bandy("rpc serve -l :0 --workers 1 --proto").arg(proto).arg("--").arg(worker).home(&home).starts();
    answers(&server, "shop.Greeter/Hello", "{}", r#"{"text":"hi"}"#);
    assert_eq!(post(&server, "shop.Greeter/Bye", "{}").0, 503);
    comes_to_answer(&server, "shop.Greeter/Hello", "{}", r#"{"text":"hi"}"#);
    comes_to_answer(&server, "grpc.health.v1.Health/Check", "{}", r#"{"status":"SERVING"}"#);
    let said = server.stderr();
    assert!(said.contains("starting it again"), "{said}");
    // Stopping is no reason to start one again.
    server.signal(Signal::TERM);
    let all = server.ends().exits(0).err();
    assert_eq!(all.matches("starting it again").count(), said.matches("starting it again").count(), "{all}");
}

#[test]
fn faults_are_injected() {
    let refusing = bandy("rpc serve -l :0 --fail 100%").starts();
    assert_eq!(post(&refusing, "demo.Greeter/Hello", "{}").0, 503);
    answers(&refusing, "grpc.health.v1.Health/Check", "{}", r#"{"status":"SERVING"}"#);
    let losing = bandy("rpc serve -l :0 --drop-reply 100%").starts();
    assert_eq!(post(&losing, "demo.Account/Deposit", r#"{"cents":1}"#), (0, String::new()));
}

#[test]
fn init_writes_handlers_that_can_be_served() {
    let home = Home::new();
    let proto = home.file("h/greeter.proto", GREETER);
    bandy("rpc serve --init").arg(home.path("h")).arg("--proto").arg(&proto).home(&home).runs().prints("");
    // With a request and a reply to start from.
    let hello = std::fs::read_to_string(home.path("h/shop.Greeter/Hello.sh")).unwrap();
    assert!(hello.contains("\n#         {\"name\":"), "{hello}");
    assert!(hello.contains("\n#         {\"text\":"), "{hello}");
    let server = bandy("rpc serve -l :0").arg(home.path("h")).home(&home).starts();
    let (code, body) = post(&server, "shop.Greeter/Hello", "{}");
    assert_eq!(code, 501, "{body}");
    assert!(body.contains("shop.Greeter/Hello is not written yet"), "{body}");
}

#[test]
fn mistakes_are_explained() {
    let home = Home::new();
    let proto = home.file("greeter.proto", GREETER);
    let serve = |words: &str| bandy(&format!("rpc serve -l :0 {words}")).home(&home).runs();
    serve("upper").exits(2).complains("nothing answers 'upper'");
    serve("=cat").exits(2).complains("has no name before the =");
    serve("-- cat").exits(2).complains("nothing says which methods the command after -- answers");
    serve("--fail 120%").exits(2).complains("is not a percentage from 0% to 100%");
    serve("--workers 2 x -- /nowhere/worker").exits(127).complains("cannot run /nowhere/worker");
    bandy("rpc serve -l :0 Greeter/Hallo=cat --proto")
        .arg(&proto)
        .runs()
        .exits(2)
        .complains("shop.Greeter/Hello");
    bandy("rpc serve -l :0 Greeter/Hello:='{\"txt\":1}' --proto")
        .arg(&proto)
        .runs()
        .exits(2)
        .complains("the reply for shop.Greeter/Hello is");
    bandy("rpc serve -l :0 --proto /nowhere.proto -- cat").runs().exits(1).complains("/nowhere.proto");
    let compiled = home.path("greeter.binpb");
    std::fs::write(&compiled, b"\x0a\xff").unwrap();
    for verb in ["serve -l :0", "call -e :1 Greeter/Hello", "ls", "info Greeter"] {
        let run = bandy(&format!("rpc {verb} --proto")).arg(&compiled).runs().exits(2);
        run.complains("valid UTF-8").complains("tip: if it is a compiled descriptor set: --protoset");
    }
}

#[test]
fn a_call_without_an_address_finds_the_server_of_its_function() {
    let home = Home::new();
    let upper = bandy("rpc serve upper='tr a-z A-Z'").home(&home).starts();
    let lower = bandy("rpc serve -l :0 lower='tr A-Z a-z'").home(&home).starts();
    bandy("rpc call upper hello").home(&home).runs().prints("HELLO\n");
    bandy("rpc call lower HELLO").home(&home).runs().prints("hello\n");
    bandy("rpc call bandy.Functions/upper hello").home(&home).runs().prints("HELLO\n");
    lower.signal(Signal::TERM);
    lower.ends().exits(0);
    bandy("rpc call lower HELLO").home(&home).runs().exits(5);
    upper.signal(Signal::TERM);
    upper.ends().exits(0);
    bandy("rpc call upper hello").home(&home).runs().exits(3).complains("nothing listens at local:");
    assert_eq!(std::fs::read_dir(home.path("run/services")).unwrap().count(), 0);
}

#[test]
fn a_server_that_was_killed_is_told_from_one_that_cannot_be_reached() {
    let home = Home::new();
    let server = bandy("rpc serve upper='tr a-z A-Z'").home(&home).starts();
    server.signal(Signal::KILL);
    server.ends().exits(137);
    let told = bandy("rpc call upper hello").home(&home).runs().exits(3);
    told.complains("nothing listens at local: (rpc) any more").complains("tip: bandy rpc serve");
    // The next one takes its place.
    let _server = bandy("rpc serve upper='tr a-z A-Z'").home(&home).starts();
    bandy("rpc call upper hello").home(&home).runs().prints("HELLO\n");
}

#[test]
fn calls_without_an_address_spread_over_instances() {
    let home = Home::new();
    let _one = bandy("rpc serve -l :0 who:='\"one\"'").home(&home).starts();
    let _two = bandy("rpc serve -l :0 who:='\"two\"'").home(&home).starts();
    let killed = bandy("rpc serve -l :0 who:='\"killed\"'").home(&home).starts();
    killed.signal(Signal::KILL);
    killed.ends().exits(137);
    let mut answers = std::collections::BTreeSet::new();
    // The chance that one of two is missed 64 times is that of a broken machine.
    for _ in 0..64 {
        answers.insert(bandy("rpc call who").home(&home).runs().exits(0).out());
        if answers.len() == 2 {
            break;
        }
    }
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["one\n", "two\n"]);
}

#[test]
fn a_new_function_is_found_after_a_reload() {
    let home = Home::new();
    home.script("h/upper", "#!/bin/sh\ntr a-z A-Z\n");
    let server = bandy("rpc serve -l :0").arg(home.path("h")).home(&home).starts();
    let _other = bandy("rpc serve -l :0 other=cat").home(&home).starts();
    home.script("h/lower", "#!/bin/sh\ntr A-Z a-z\n");
    comes_to_answer(&server, "bandy.Functions/lower", "\"A\"", "\"a\"");
    let end = std::time::Instant::now() + DEADLINE;
    while bandy("rpc call lower ABC").home(&home).runs().out() != "abc\n" {
        assert!(std::time::Instant::now() < end, "lower is not found");
    }
}

/// The page at `/metrics` of a server that says on stderr where it is.
#[track_caller]
fn metrics(server: &Running) -> String {
    server.says("metrics at http://");
    let said = server.stderr();
    let url = said.split("metrics at http://").nth(1).and_then(|rest| rest.split("/metrics").next());
    let mut stream = TcpStream::connect(url.expect("an address")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn calls_are_counted_whatever_they_speak() {
    let server = bandy("rpc serve -l :0 --metrics 127.0.0.1:0").starts();
    answers(&server, "demo.Greeter/Hello", r#"{"name":"Ada"}"#, r#"{"message":"Hello, Ada!"}"#);
    assert_eq!(post(&server, "demo.Calc/Divide", r#"{"a":1}"#).0, 400);
    bandy("rpc call Greeter/Hello name=Bo").endpoint(&server).runs().exits(0);
    let address = server.url.strip_prefix("grpc://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"demo.Greeter/Hello\",\"id\":1}\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let page = metrics(&server);
    for line in [
        "bandy_rpc_calls_total{method=\"demo.Greeter/Hello\",code=\"OK\"} 3\n",
        "bandy_rpc_calls_total{method=\"demo.Calc/Divide\",code=\"INVALID_ARGUMENT\"} 1\n",
        "bandy_rpc_calls_in_flight{method=\"demo.Greeter/Hello\"} 0\n",
        "bandy_rpc_call_seconds_count{method=\"demo.Greeter/Hello\"} 3\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    server.signal(Signal::USR1);
    server.says("\n  demo.Greeter/Hello  in flight 0  ended 3  cancelled 0  failed 0\n");
    assert!(server.stderr().contains("\ncalls in flight 0  ended "), "{}", server.stderr());
}
