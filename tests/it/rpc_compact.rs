//! The compact protocol through the binary: TCP, Unix socket, TLS and UDP with replies that get lost.

use std::net::SocketAddr;
use std::time::Duration;

use bandy::rpc::Code;
use bandy::rpc::catalog::method_id;
use bandy::rpc::compact::client::{CallOptions, Client, DatagramClient};
use bandy::shutdown::Shutdown;
use bandy::transport::tls::{TlsClient, TlsClientOptions};
use bandy::transport::{Address, Datagrams, Stream};
use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::support::{DEADLINE, Home, bandy};

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Cents {
    #[prost(int64, tag = "1")]
    cents: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Ticks {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(uint32, tag = "2")]
    interval_ms: u32,
}

/// What demo.Account has before anybody has been there.
const BALANCE_AT_START: i64 = 10_000;

fn text(text: &str) -> Bytes {
    Text { text: text.to_owned() }.encode_to_vec().into()
}

async fn client(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    Client::connect(stream, Instant::now() + DEADLINE, &Shutdown::new()).await.unwrap()
}

/// Says hello, and is answered.
async fn greets(client: &Client) {
    let id = method_id("demo.Greeter/Hello");
    let reply = client.unary(id, text("Ada"), &CallOptions::default()).await;
    assert!(reply.ending.status.is_ok(), "{}", reply.ending.status);
    assert_eq!(Text::decode(reply.message.unwrap()).unwrap().text, "Hello, Ada!");
}

fn tcp(url: &str) -> SocketAddr {
    url.rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_same_port_and_every_stream_speak_it() {
    let home = Home::new();
    let socket = home.path("s");
    let server = bandy("rpc serve -l :0 -l").arg(format!("unix:{}", socket.display())).home(&home).starts();
    greets(&client(TcpStream::connect(tcp(&server.url)).await.unwrap()).await).await;
    let client = client(UnixStream::connect(&socket).await.unwrap()).await;
    greets(&client).await;

    let table = client.table().await.unwrap();
    let sum = table.by_path("demo.Calc/Sum").expect("the built-in service");
    assert_eq!((sum.id, sum.client_streams, sum.server_streams), (method_id("demo.Calc/Sum"), true, false));
    let reply = client.unary(1, Bytes::new(), &CallOptions::default()).await;
    assert_eq!(reply.ending.status.code, Code::Unimplemented);
}

#[tokio::test]
async fn behind_tls_too() {
    let server = bandy("rpc serve -l :0 --tls-self-signed").starts();
    let address = server.url.strip_prefix("grpcs://").expect("a TLS listener");
    let options = TlsClientOptions { insecure: true, ..TlsClientOptions::default() };
    let stream = Stream::connect(&address.parse::<Address>().unwrap()).await.unwrap();
    let stream = TlsClient::new(&options).unwrap().upgrade(stream, "localhost").await.unwrap();
    greets(&client(stream).await).await;
}

#[tokio::test]
async fn a_stopping_server_finishes_what_runs() {
    let server = bandy("rpc serve -l :0").starts();
    let client = client(TcpStream::connect(tcp(&server.url)).await.unwrap()).await;
    let ticks = method_id("demo.Clock/Ticks");
    let request = Bytes::from(Ticks { count: 3, interval_ms: 100 }.encode_to_vec());
    let mut receiver = client.server_stream(ticks, request, &CallOptions::default()).await.unwrap();
    assert!(receiver.message().await.is_some());
    server.signal(Signal::TERM);
    let mut rest = 0;
    while receiver.message().await.is_some() {
        rest += 1;
    }
    assert_eq!(rest, 2);
    assert!(receiver.ending().unwrap().status.is_ok());
    server.ends().exits(0);
}

/// Deposits a cent ten times, all at once, where half of the replies get lost; returns how many have arrived.
async fn deposits_made_by_ten(options: CallOptions) -> i64 {
    let server = bandy("rpc serve -l udp:127.0.0.1:0 --drop-reply 50% --seed 7").starts();
    let address: Address = server.url.replacen("udp://", "udp:", 1).parse().unwrap();
    let socket = Datagrams::connect(&address).await.unwrap();
    let client = DatagramClient::new(socket, &Shutdown::new());
    let deposit = method_id("demo.Account/Deposit");
    let cent = Bytes::from(Cents { cents: 1 }.encode_to_vec());
    let calls = (0..10).map(|_| client.unary(deposit, cent.clone(), &options));
    for reply in join_all(calls).await {
        assert!(reply.ending.status.is_ok(), "{}", reply.ending.status);
    }
    let show = method_id("demo.Account/Show");
    let balance = client.unary(show, Bytes::new(), &options).await;
    Cents::decode(balance.message.unwrap()).unwrap().cents - BALANCE_AT_START
}

#[tokio::test]
async fn a_lost_reply_is_given_again_and_the_call_not_executed_again() {
    let options = CallOptions { timeout: Some(Duration::from_secs(30)), ..CallOptions::default() };
    assert_eq!(deposits_made_by_ten(options).await, 10);
}

#[tokio::test]
async fn at_least_once_executes_again() {
    let timeout = Some(Duration::from_secs(30));
    let options = CallOptions { at_least_once: true, timeout, ..CallOptions::default() };
    let made = deposits_made_by_ten(options).await;
    assert!(made > 10, "half of the replies were lost, and {made} deposits made");
}
