//! JSON-RPC through the binary, over every transport: HTTP, TCP, Unix socket, UDP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use crate::support::{DEADLINE, Home, bandy};

const HELLO: &str = r#"{"jsonrpc":"2.0","method":"demo.Greeter/Hello","params":{"name":"Ada"},"id":1}"#;
const HELLO_ADA: &str = r#"{"jsonrpc":"2.0","result":{"message":"Hello, Ada!"},"id":1}"#;

/// Sends a line and returns the line that comes back.
fn line(stream: impl Read + Write, request: &str) -> String {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_line(&mut reply).unwrap();
    reply.trim_end().to_owned()
}

fn datagram(address: &str, request: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(address).unwrap();
    socket.send(request.as_bytes()).unwrap();
    let mut reply = [0; 65_536];
    let size = socket.recv(&mut reply).unwrap();
    String::from_utf8(reply[..size].to_vec()).unwrap()
}

#[test]
fn one_server_answers_lines_headers_and_datagrams() {
    let home = Home::new();
    let socket = home.path("s");
    let mut server =
        bandy("rpc serve -l :0 -l udp::0 -l").arg(format!("unix:{}", socket.display())).home(&home).starts();
    let tcp = server.url.strip_prefix("grpc://").expect("TCP comes first").to_owned();
    let udp = server.line();
    let udp = udp.strip_prefix("udp://").expect("UDP comes second");
    assert_eq!(server.line(), format!("unix:{}", socket.display()));

    assert_eq!(line(TcpStream::connect(&tcp).unwrap(), HELLO), HELLO_ADA);
    assert_eq!(line(UnixStream::connect(&socket).unwrap(), HELLO), HELLO_ADA);
    assert_eq!(datagram(udp, HELLO), HELLO_ADA);

    // As language servers write it.
    let mut stream = TcpStream::connect(&tcp).unwrap();
    write!(stream, "Content-Length: {}\r\n\r\n{HELLO}", HELLO.len()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, format!("Content-Length: {}\r\n\r\n{HELLO_ADA}", HELLO_ADA.len()));
}

#[test]
fn errors_carry_the_status() {
    let server = bandy("rpc serve -l udp::0").starts();
    let address = server.url.strip_prefix("udp://").expect("a UDP listener");
    let divide = r#"{"jsonrpc":"2.0","method":"demo.Calc/Divide","params":{"a":1,"b":0},"id":"x"}"#;
    assert_eq!(
        datagram(address, divide),
        r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"cannot divide by zero","data":{"code":3,"status":"INVALID_ARGUMENT"}},"id":"x"}"#
    );
    let damaged = format!("{{{}", " ".repeat(60));
    assert_eq!(
        datagram(address, &damaged),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"the text is not JSON: EOF while parsing an object at line 1 column 61"},"id":null}"#
    );
}

#[test]
fn a_reply_over_udp_is_lost_if_it_is_to_be() {
    let server = bandy("rpc serve -l udp::0 -l :0 --drop-reply 100%").starts();
    let address = server.url.strip_prefix("udp://").expect("a UDP listener");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    let deposit = r#"{"jsonrpc":"2.0","method":"demo.Account/Deposit","params":{"cents":1},"id":1}"#;
    socket.send(deposit.as_bytes()).unwrap();
    // Health is never made to fail: its answer tells that the lost one had its time.
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.send(r#"{"jsonrpc":"2.0","method":"grpc.health.v1.Health/Check","id":2}"#.as_bytes()).unwrap();
    let mut reply = [0; 1000];
    let size = socket.recv(&mut reply).unwrap();
    assert_eq!(
        std::str::from_utf8(&reply[..size]).unwrap(),
        r#"{"jsonrpc":"2.0","result":{"status":"SERVING"},"id":2}"#
    );
}
