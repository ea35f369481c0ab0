//! `bandy rpc serve` and its peers' manners, through the binary: crowds, silence, TLS where there is none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::PoisonError;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{CROWD, DEADLINE, Running, bandy};

/// HTTP/2's greeting: the preface and empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn address(server: &Running) -> SocketAddr {
    server.url.rsplit_once("//").unwrap().1.parse().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends bytes and returns all that comes until the server closes.
fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read_all(stream)
}

/// Everything until the server closes, in whatever way.
fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is still open");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn hello(address: SocketAddr) {
    let answer = talk(
        address,
        b"POST /demo.Greeter/Hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
          Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"name\":\"Ada\"}",
    );
    assert!(answer.ends_with(r#"{"message":"Hello, Ada!"}"#), "{answer}");
}

/// Resident memory of a process in KiB.
fn resident(server: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_connections_are_held_and_silent_ones_cut() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    // Some are for the other tests, and for the silent peers.
    let allowed = limit.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let crowd = allowed.saturating_sub(1000).clamp(500, 10_000);
    let server = bandy("rpc serve -l 127.0.0.1:0").starts();
    let address = address(&server);
    hello(address);
    let before = resident(&server);

    let silent: Vec<_> = (0..50).map(|_| connect(address)).collect();
    let slow: Vec<_> = (0..50)
        .map(|number| {
            let mut stream = connect(address);
            let start = b"POST /demo.Greeter/Hello HTTP/1.1\r\nHost: x\r\n";
            stream.write_all(&start[..=number % start.len()]).unwrap();
            stream
        })
        .collect();
    let mut idle: Vec<_> = (0..crowd)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(GREETING).unwrap();
            stream
        })
        .collect();
    // Each is answered with settings, whose frame says its type in the fourth byte.
    for stream in &mut idle {
        let mut header = [0; 9];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[3], 4);
    }
    hello(address);
    let each = (resident(&server) - before) * 1024 / u64::try_from(crowd).unwrap();
    println!("{crowd} idle HTTP/2 connections: {each} bytes each");
    assert!(each < 32 * 1024, "an idle connection costs {each} bytes");

    for stream in silent.into_iter().chain(slow) {
        read_all(stream);
    }
    hello(address);
    // The patient ones are still there.
    for stream in &idle {
        stream.set_nonblocking(true).unwrap();
        let mut rest = [0; 256];
        let mut stream: &TcpStream = stream;
        while stream.read(&mut rest).is_ok_and(|size| {
            assert_ne!(size, 0, "an idle connection was closed");
            true
        }) {}
    }
}

#[test]
fn tls_where_there_is_none_and_none_where_there_is_are_explained() {
    let plain = bandy("-v rpc serve -l 127.0.0.1:0").starts();
    // The start of a ClientHello.
    let answer = talk(address(&plain), b"\x16\x03\x01\x00\x05\x01\0\0\x01\x03");
    assert!(answer.contains("400 Bad Request") && answer.contains("does not speak TLS"), "{answer}");
    plain.says("TLS spoken on a port without TLS");
    hello(address(&plain));

    let tls = bandy("-v rpc serve -l 127.0.0.1:0 --tls-self-signed").starts();
    let answer = talk(address(&tls), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains("400 Bad Request") && answer.contains("This port speaks TLS"), "{answer}");
    tls.says("speaks HTTP without TLS on a port with TLS");
    // A client that has begun HTTP/2 gets what TLS has for it: an alert.
    let answer = talk(address(&tls), GREETING);
    assert!(answer.starts_with('\x15'), "{}", answer.escape_debug());
}

#[test]
fn web_pages_may_call_where_they_are_let() {
    let ask = |server: &Running, origin: &str| {
        let request = format!(
            "OPTIONS /demo.Greeter/Hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        );
        talk(address(server), request.as_bytes())
    };
    let server = bandy("rpc serve -l 127.0.0.1:0 --cors https://app.example").starts();
    assert!(ask(&server, "https://app.example").starts_with("HTTP/1.1 204 "));
    assert!(ask(&server, "https://other.example").starts_with("HTTP/1.1 403 "));
    let server = bandy("rpc serve -l 127.0.0.1:0 --cors any").starts();
    assert!(ask(&server, "https://other.example").starts_with("HTTP/1.1 204 "));
    bandy("rpc serve -l 127.0.0.1:0 --cors app.example/x").runs().exits(2).complains("https://app.example");
}

#[test]
fn limits_are_what_they_are_said_to_be() {
    let server = bandy("rpc serve -l 127.0.0.1:0 --max-header-size 9K --max-idle 50ms").starts();
    let headers = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(100_000));
    let mut stream = connect(address(&server));
    // It may be cut off while it still talks, and then have no answer.
    let _ = stream.write_all(headers.as_bytes());
    let answer = read_all(stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // Idle: the server says GOAWAY, the frame of type 7.
    let mut stream = connect(address(&server));
    stream.write_all(GREETING).unwrap();
    let mut header = [0; 9];
    while header[3] != 7 {
        stream.read_exact(&mut header).unwrap();
        let size = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        stream.read_exact(&mut vec![0; usize::try_from(size).unwrap()]).unwrap();
    }
    hello(address(&server));
}
