//! `rpc call` and its kin against servers that misbehave, over raw sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use crate::support::{Home, bandy};

const PROTO: &str = "syntax = \"proto3\"; package demo; \
    message HelloRequest { string name = 1; } message HelloReply { string message = 1; } \
    service Greeter { rpc Hello(HelloRequest) returns (HelloReply); rpc Many(HelloRequest) returns (stream HelloReply); }";

/// A server made of one function that is given each connection, until the test ends.
struct Fake {
    port: u16,
    _thread: JoinHandle<()>,
}

impl Fake {
    fn new(answer: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread =
            std::thread::spawn(move || listener.incoming().for_each(|stream| answer(stream.unwrap())));
        Self { port, _thread: thread }
    }

    /// Answers every HTTP/1.1 request with these bytes.
    fn http1(answer: &'static [u8]) -> Self {
        Self::new(move |mut stream| {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let _ = stream.write_all(answer);
            // Closing with unread bytes would reset the connection and take the answer with it.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    /// Reads the preface of HTTP/2 and the first request, then answers with these frames.
    fn h2(frames: Vec<u8>) -> Self {
        Self::new(move |mut stream| {
            let mut preface = [0; 24];
            if stream.read_exact(&mut preface).is_err() {
                return;
            }
            let _ = stream.write_all(&frame(4, 0, 0, &[]));
            // Until the request has ended: HEADERS or DATA with END_STREAM.
            let mut head = [0; 9];
            while stream.read_exact(&mut head).is_ok() {
                let size = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                let mut payload = vec![0; size];
                if stream.read_exact(&mut payload).is_err() {
                    return;
                }
                if head[3] <= 1 && head[4] & 1 == 1 {
                    let _ = stream.write_all(&frames);
                    // Held open until the client goes: what it makes of the answer must not need an end.
                    let _ = stream.read_to_end(&mut Vec::new());
                    return;
                }
            }
        })
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&size[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS of an answer with `content-type: application/grpc`, by HPACK literals.
fn answer_headers() -> Vec<u8> {
    let mut block = vec![0x88];
    literal(&mut block, "content-type", "application/grpc");
    frame(1, 4, 1, &block)
}

fn trailers(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    pairs.iter().for_each(|(name, value)| literal(&mut block, name, value));
    frame(1, 5, 1, &block)
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
}

fn message(flags: u8, claimed: u32, data: &[u8]) -> Vec<u8> {
    [&[flags], &claimed.to_be_bytes()[..], data].concat()
}

fn data(payload: &[u8]) -> Vec<u8> {
    frame(0, 0, 1, payload)
}

/// A call of `Hello` with the schema in a file, so that the first thing the server sees is the call.
#[track_caller]
fn call(server: &Fake, flags: &str) -> crate::support::Ran {
    let home = Home::new();
    let proto = home.file("demo.proto", PROTO);
    let words = format!(
        "rpc call -e grpc://127.0.0.1:{} --proto {} {flags} Greeter/Hello name=Ada",
        server.port,
        proto.display()
    );
    bandy(&words).home(&home).runs()
}

#[test]
fn nobody_there_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    bandy(&format!("rpc call -e :{port} Greeter/Hello"))
        .runs()
        .exits(3)
        .complains(&format!("cannot reach grpc://127.0.0.1:{port} — connection refused"));
}

#[test]
fn a_good_answer_is_printed() {
    let reply = message(0, 5, b"\x0a\x03Hey");
    let server = Fake::h2([answer_headers(), data(&reply), trailers(&[("grpc-status", "0")])].concat());
    call(&server, "").exits(0).prints("{\"message\":\"Hey\"}\n");
}

#[test]
fn a_status_becomes_the_exit_code() {
    let server = Fake::h2(
        [answer_headers(), trailers(&[("grpc-status", "5"), ("grpc-message", "no%20Ada")])].concat(),
    );
    call(&server, "").exits(69).complains("answered NOT_FOUND — no Ada");
}

#[test]
fn a_status_in_json_is_an_envelope() {
    let server =
        Fake::h2([answer_headers(), trailers(&[("grpc-status", "9"), ("x-why", "because")])].concat());
    let ran = call(&server, "--json").exits(73);
    let envelope =
        r#""status":{"code":9,"name":"FAILED_PRECONDITION","message":""},"trailers":{"x-why":"because"}"#;
    assert!(ran.out().contains(envelope), "{}", ran.out());
}

#[test]
fn a_web_site_is_told_from_a_server() {
    let page = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\n<html";
    call(&Fake::http1(page), "--protocol connect")
        .exits(5)
        .complains("answered HTTP 404 Not Found with \"text/html\"");
}

#[test]
fn a_proxy_without_its_server_is_unreachable() {
    let page = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n";
    call(&Fake::http1(page), "--protocol connect").exits(3).complains("HTTP 502 Bad Gateway");
}

#[test]
fn a_server_of_http1_alone_is_named() {
    let page = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    call(&Fake::http1(page), "").exits(3).complains("it speaks HTTP/1.1, not HTTP/2");
}

#[test]
fn a_server_of_tls_alone_is_named() {
    // A fatal alert: unexpected message.
    let server = Fake::new(|mut stream| {
        let _ = stream.read(&mut [0; 24]);
        let _ = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x0a");
    });
    call(&server, "").exits(3).complains("it speaks TLS").complains("grpcs://");
}

#[test]
fn a_claimed_length_over_the_limit_is_refused_at_once() {
    let server = Fake::h2([answer_headers(), data(&message(0, u32::MAX, b"x"))].concat());
    call(&server, "").exits(72).complains("message of 4294967295 bytes is over the limit of 4194304");
}

#[test]
fn an_end_within_a_message_is_malformed() {
    let server = Fake::h2([answer_headers(), data(&message(0, 100, b"abc")), trailers(&[])].concat());
    call(&server, "").exits(77).complains("ended within a message");
}

#[test]
fn no_status_is_malformed() {
    let server =
        Fake::h2([answer_headers(), data(&message(0, 0, b"")), trailers(&[("x-other", "1")])].concat());
    call(&server, "").exits(77).complains("the stream ended without a status");
}

#[test]
fn a_compressed_message_without_a_codec_is_malformed() {
    let server =
        Fake::h2([answer_headers(), data(&message(1, 1, b"x")), trailers(&[("grpc-status", "0")])].concat());
    call(&server, "").exits(77).complains("marked as compressed");
}

#[test]
fn bytes_that_are_no_such_message_are_explained() {
    let server = Fake::h2(
        [answer_headers(), data(&message(0, 2, b"\x0a\x7f")), trailers(&[("grpc-status", "0")])].concat(),
    );
    call(&server, "").exits(1).complains("the reply of demo.Greeter/Hello is not a demo.HelloReply");
}

#[test]
fn silence_ends_at_the_timeout() {
    let server = Fake::new(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    call(&server, "--timeout 200ms").exits(124);
}

#[test]
fn a_lost_connection_is_unreachable() {
    let server = Fake::new(|mut stream| {
        let _ = stream.read(&mut [0; 24]);
    });
    call(&server, "").exits(3).complains("cannot reach");
}

#[test]
fn wrong_fields_are_told_before_anything_is_sent() {
    let server = Fake::http1(b"");
    let home = Home::new();
    let proto = home.file("demo.proto", PROTO);
    bandy(&format!(
        "rpc call -e grpc://127.0.0.1:{} --proto {} Greeter/Hello nmae=Ada",
        server.port,
        proto.display()
    ))
    .runs()
    .exits(2)
    .complains("unknown field 'nmae' in demo.HelloRequest")
    .complains("did you mean 'name'?");
}

#[test]
fn a_lone_hyphen_is_standard_input() {
    let server = bandy("rpc serve -l 127.0.0.1:0 upper='tr a-z A-Z'").starts();
    let call = |words: &str| bandy(&format!("rpc call {words}")).stdin("some text").endpoint(&server).runs();
    call("upper -").prints("SOME TEXT\n");
    call("upper - and more").prints("- AND MORE\n");
    call("upper -d -").prints("-\n");
    let demo = bandy("rpc serve -l 127.0.0.1:0").starts();
    let numbers = "{\"value\": 1}\n{\"value\": 2}\n";
    let sum =
        |words: &str| bandy(&format!("rpc call Calc/Sum {words}")).stdin(numbers).endpoint(&demo).runs();
    assert_eq!(sum("-").exits(0).out(), sum("").exits(0).out());
}
