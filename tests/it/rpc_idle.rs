//! Connections that rest: kept, closed after --max-idle, and told from peers that begin a request and do not end it.
//! In memory, under a clock that jumps.

use std::sync::Arc;
use std::time::Duration;

use bandy::rpc::Code;
use bandy::rpc::backend::Peer;
use bandy::rpc::catalog::method_id;
use bandy::rpc::compact::client::{CallOptions, Client};
use bandy::rpc::server::{Limits, Server};
use bandy::shutdown::Shutdown;
use bandy::transport::{Address, Listener, Stream, mem};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::rpc_server::{ADA, server_with};

const LONG: Duration = Duration::from_secs(3600);

/// A connection to the server.
async fn connect(server: &Arc<Server>, network: &mem::Network) -> Stream {
    let address = Address::Mem(network.name("server"));
    let listener = Listener::bind(&address).await.unwrap();
    let near = Stream::connect(&address).await.unwrap();
    let far = listener.accept().await.unwrap();
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let peer = Arc::new(Peer { address: "peer".to_owned(), tls_subject: None });
        server.serve_connection(far, peer).await;
    });
    near
}

/// Reads until this text has come.
async fn read_until(stream: &mut Stream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// How long it takes until the server closes the connection.
async fn until_closed(stream: &mut Stream) -> Duration {
    let (begun, mut rest) = (Instant::now(), Vec::new());
    timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it is never closed").unwrap();
    begun.elapsed()
}

/// How long it takes until HTTP/2's GOAWAY comes.
async fn until_told_to_go(stream: &mut Stream) -> Duration {
    let begun = Instant::now();
    loop {
        let mut head = [0; 9];
        timeout(LONG, stream.read_exact(&mut head)).await.expect("it never comes").unwrap();
        if head[3] == 7 {
            return begun.elapsed();
        }
        let mut rest = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut rest).await.unwrap();
    }
}

const POST: &str = "POST /t.T/Echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n\
    {\"text\":\"Ada\"}";

async fn echo_over_http1(stream: &mut Stream) {
    stream.write_all(POST.as_bytes()).await.unwrap();
    let reply = read_until(stream, r#"{"text":"Ada"}"#).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_may_rest_between_requests() {
    let (server, _shutdown, _events) = server_with(Limits::default());
    let network = mem::Network::new(1);
    let mut stream = connect(&server, &network).await;
    for _ in 0..3 {
        echo_over_http1(&mut stream).await;
        sleep(LONG).await;
    }
    // But not in the middle of one.
    stream.write_all(&POST.as_bytes()[..40]).await.unwrap();
    assert_eq!(until_closed(&mut stream).await, Limits::default().first_bytes_wait_max);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_do_not_make_a_head_take_longer() {
    let (server, _shutdown, _events) = server_with(Limits::default());
    let mut stream = connect(&server, &mem::Network::new(1)).await;
    echo_over_http1(&mut stream).await;
    let begun = Instant::now();
    for byte in POST.bytes() {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_if_that_is_wanted_in_every_protocol() {
    let idle_max = Duration::from_secs(30);
    let (server, _shutdown, _events) = server_with(Limits { idle_max: Some(idle_max), ..Limits::default() });
    let network = mem::Network::new(1);

    let mut http1 = connect(&server, &network).await;
    echo_over_http1(&mut http1).await;
    assert_eq!(until_closed(&mut http1).await, idle_max);

    // What has work to do is no idle connection.
    let busy = "POST /t.T/Never HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        connect-timeout-ms: 120000\r\ncontent-length: 2\r\n\r\n{}";
    let mut http1 = connect(&server, &network).await;
    http1.write_all(busy.as_bytes()).await.unwrap();
    assert_eq!(until_closed(&mut http1).await, Duration::from_secs(120) + idle_max);

    let mut http2 = connect(&server, &network).await;
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert_eq!(until_told_to_go(&mut http2).await, idle_max);

    let mut lines = connect(&server, &network).await;
    let call = "{\"jsonrpc\":\"2.0\",\"method\":\"Echo\",\"params\":{\"text\":\"a\"},\"id\":1}\n";
    for _ in 0..3 {
        lines.write_all(call.as_bytes()).await.unwrap();
        assert_eq!(
            read_until(&mut lines, "\n").await,
            "{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"a\"},\"id\":1}\n"
        );
        sleep(idle_max / 2).await;
    }
    let took = until_closed(&mut lines).await;
    assert!((idle_max / 2..idle_max).contains(&took), "{took:?}");
}

/// How long it takes until a client knows that its connection takes no more calls.
async fn until_left(client: &Client) -> Duration {
    let begun = Instant::now();
    while !client.is_closed() {
        assert!(begun.elapsed() < LONG, "it is never closed");
        sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_of_the_compact_protocol_is_left_too() {
    let idle_max = Duration::from_secs(30);
    // The server looks around every five seconds; and the client has to be told.
    let late = Duration::from_secs(6);
    let network = mem::Network::new(1);
    let shutdown = Shutdown::new();
    let greeted = async |server: &Arc<Server>| {
        let stream = connect(server, &network).await;
        Client::connect(stream, Instant::now() + idle_max, &shutdown).await.unwrap()
    };
    let echo = async |client: &Client| {
        client.unary(method_id("t.T/Echo"), Bytes::from_static(ADA), &CallOptions::default()).await
    };

    let (server, _shutdown, _events) = server_with(Limits { idle_max: Some(idle_max), ..Limits::default() });
    let client = greeted(&server).await;
    for _ in 0..3 {
        assert_eq!(echo(&client).await.message.as_deref(), Some(ADA));
        sleep(idle_max * 2 / 3).await;
    }
    let took = until_left(&client).await + idle_max * 2 / 3;
    assert!((idle_max..=idle_max + late).contains(&took), "{took:?}");

    // What has work to do is no idle connection.
    let client = greeted(&server).await;
    let options = CallOptions { timeout: Some(idle_max * 4), ..CallOptions::default() };
    let begun = Instant::now();
    let reply = client.unary(method_id("t.T/Never"), Bytes::new(), &options).await;
    assert_eq!((reply.ending.status.code, begun.elapsed()), (Code::DeadlineExceeded, idle_max * 4));
    assert!(until_left(&client).await <= idle_max + late);

    // Without the flag it is kept.
    let (server, _shutdown, _events) = server_with(Limits::default());
    let client = greeted(&server).await;
    sleep(LONG).await;
    assert_eq!(echo(&client).await.message.as_deref(), Some(ADA));
}
