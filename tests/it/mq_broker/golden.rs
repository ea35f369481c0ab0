//! What a real RabbitMQ answers to broken handshakes and frames, recorded case by case. What it answers to methods is
//! compared in the engine's tests.

use std::io::Write as _;

use bandy::mq::wire::frame::{END, Kind};
use bandy::mq::wire::frame_header;

use super::*;

const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/amqp/errors-rabbitmq-3.10.8.txt"));

/// Where the broker answers otherwise, and why: docs/mq.md has the same list.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("protocol header 0-8 (\\1\\1\\8\\0)", "reply 414d515000000901", "RabbitMQ has dropped 0-8 since"),
    (
        "AMQPLAIN with bad response",
        "Connection.Close 403 \"ACCESS_REFUSED - Login was refused using authentication mechanism AMQPLAIN. For details see the broker logfile.\" class=0 method=0 (ch 0)",
        "a response that is no table is a wrong one",
    ),
    (
        "tune-ok frame_max 1000 (<4096)",
        "Connection.Close 530 \"NOT_ALLOWED - negotiated frame_max = 1000 is lower than the minimum allowed value (4096)\" class=10 method=31 (ch 0)",
        "it says what is wrong",
    ),
    (
        "tune-ok frame_max 200000 (>131072)",
        "Connection.Close 530 \"NOT_ALLOWED - negotiated frame_max = 200000 is higher than the maximum allowed value (131072)\" class=10 method=31 (ch 0)",
        "it says what is wrong",
    ),
    (
        "tune-ok channel_max 5000 (>2047)",
        "Connection.Close 530 \"NOT_ALLOWED - negotiated channel_max = 5000 is higher than the maximum allowed value (2047)\" class=10 method=31 (ch 0)",
        "it says what is wrong",
    ),
    (
        "tune-ok frame_max 0",
        "Connection.Close 530 \"NOT_ALLOWED - negotiated frame_max = 0 is higher than the maximum allowed value (131072)\" class=10 method=31 (ch 0)",
        "it says what is wrong",
    ),
    (
        "unknown class 99",
        "Connection.Close 503 \"COMMAND_INVALID - unknown method 99.10\" class=99 method=10 (ch 0)",
        "the specification's code",
    ),
    (
        "content body larger than header size",
        "Connection.Close 501 \"FRAME_ERROR - content body frame exceeds remaining content size\" class=60 method=40 (ch 0)",
        "nothing good can follow",
    ),
];

fn recorded(name: &str) -> &'static str {
    let line = GOLDEN.lines().find_map(|line| {
        let (found, answer) = line.split_once(" | ")?;
        (found.trim_end() == name).then_some(answer)
    });
    line.unwrap_or_else(|| panic!("no case '{name}'"))
}

/// Compares an answer with the recorded one. A socket that ends without a word was reset or closed: the same here.
#[track_caller]
fn compare(name: &str, answer: &str) {
    let difference = DIFFERENCES.iter().find(|(of, ..)| *of == name);
    let expected = difference.map_or_else(|| recorded(name), |(_, expected, _)| expected);
    let expected = if expected == "RST" { "end" } else { expected };
    assert_eq!(answer, expected, "{name}");
    if difference.is_some() {
        assert_ne!(answer, recorded(name), "{name} does not differ any more");
    }
}

/// As the recording has it, the size of the first frame left out: it is that of the server's properties.
fn without_size(reply: &str) -> String {
    let mut reply = reply.to_owned();
    if reply.starts_with("reply 01") {
        reply.replace_range("reply 010000".len().."reply 01000000000000".len(), "________");
    }
    reply
}

#[test]
fn protocol_headers_are_answered_as_rabbitmq_does() {
    // With its API it answers HTTP.
    let server = broker("--admin none");
    for (name, header) in [
        ("protocol header 0-9-1 (\\0\\0\\9\\1)", b"AMQP\0\0\x09\x01".as_slice()),
        ("protocol header 1.0 (\\0\\1\\0\\0)", b"AMQP\0\x01\0\0"),
        ("protocol header SASL 1.0 (\\3\\1\\0\\0)", b"AMQP\x03\x01\0\0"),
        ("protocol header 0-8 (\\1\\1\\8\\0)", b"AMQP\x01\x01\x08\0"),
        ("protocol header 0-9 (\\1\\1\\0\\9)", b"AMQP\x01\x01\0\x09"),
        ("garbage header \"HELLO...\"", b"HELLOHELLO"),
        ("HTTP GET", b"GET / HTTP/1.1\r\n\r\n"),
    ] {
        let mut socket = dial(&server);
        socket.write_all(header).unwrap();
        let mut reply = [0; 16];
        let mut got = 0;
        while got < reply.len()
            && let Ok(count) = socket.read(&mut reply[got..])
            && count > 0
        {
            got += count;
        }
        let hex: String = reply[..got].iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = without_size(&format!("reply {hex}"));
        let difference = DIFFERENCES.iter().find(|(of, ..)| *of == name);
        let expected = difference.map_or_else(|| recorded(name), |(_, expected, _)| expected);
        assert_eq!(answer, without_size(expected), "{name}");
    }
}

#[test]
fn handshakes_end_as_with_rabbitmq() {
    let server = broker("");
    let login = |name: &str, login: Login| {
        let mut client = Client::to(&server);
        client.exact = true;
        compare(name, &client.login(&login));
    };
    login("bad password, cap authentication_failure_close", Login { response: b"\0guest\0no", ..GUEST });
    let without = Login { response: b"\0guest\0no", capable: false, ..GUEST };
    login("bad password, without the capability", without);
    login("unknown mechanism", Login { mechanism: "FOO", ..GUEST });
    login("AMQPLAIN with bad response", Login { mechanism: "AMQPLAIN", response: b"xx", ..GUEST });
    login("unknown vhost", Login { vhost: "nope", ..GUEST });
    login("tune-ok frame_max 1000 (<4096)", Login { frame_max: 1000, ..GUEST });
    login("tune-ok frame_max 200000 (>131072)", Login { frame_max: 200_000, ..GUEST });
    login("tune-ok channel_max 5000 (>2047)", Login { channel_max: 5000, ..GUEST });
    login("tune-ok frame_max 0", Login { frame_max: 0, ..GUEST });
}

#[test]
fn broken_frames_are_answered_as_rabbitmq_does() {
    let server = broker("");
    let frame = |kind: Kind, payload: &[u8]| {
        let mut bytes = frame_header(kind, 1, payload.len() as u32).to_vec();
        bytes.extend_from_slice(payload);
        bytes.push(END);
        bytes
    };
    let method = |method: Method<'_>| {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, 1, &method);
        bytes
    };
    let publish = || method(basic::Publish { routing_key: b"q", ..basic::Publish::default() }.into());
    let header = |size: u8| frame(Kind::Header, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, size, 0, 0]);
    let declare = || method(queue::Declare { queue: "q9", ..queue::Declare::default() }.into());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("heartbeat on ch 1", frame(Kind::Heartbeat, b"")),
        ("body frame without publish", frame(Kind::Body, b"x")),
        ("header frame without publish", header(1)),
        ("method in the middle of content", [publish(), declare()].concat()),
        ("bad frame end", b"\x08\0\0\0\0\0\0\xcd".to_vec()),
        ("unknown frame type 9", b"\x09\0\x01\0\0\0\0\xce".to_vec()),
        ("unknown class 99", frame(Kind::Method, &[0, 99, 0, 10])),
        ("frame larger than frame_max", frame_header(Kind::Body, 1, 200_000).to_vec()),
        ("truncated queue.declare args", frame(Kind::Method, &[0, 50, 0, 10, 0, 0])),
        ("content body larger than header size", [publish(), header(1), frame(Kind::Body, b"xxx")].concat()),
    ];
    for (name, bytes) in cases {
        let mut client = Client::ready(&server);
        client.exact = true;
        client.socket.write_all(&bytes).unwrap();
        compare(name, &client.next());
    }
}
