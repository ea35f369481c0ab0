//! `bandy rpc serve` through the binary, asked in plain HTTP: curl's way of Connect.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{DEADLINE, Home, Running, bandy};

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
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let last = post(server, path, request);
        if last == (200, reply.to_owned()) {
            return;
        }
        assert!(std::time::Instant::now() < end, "{path} still answers {last:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
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
    bandy("rpc serve -l :0 --proto /nowhere.proto -- cat").runs().exits(5).complains("/nowhere.proto");
}
