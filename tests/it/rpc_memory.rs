//! What peers make a server hold is bounded, whatever they speak, however small the pieces are, and however slow
//! they take the replies; and those who behave are served meanwhile.

use bandy::rpc::catalog::method_id;
use bandy::rpc::compact::wire::{Frame, Hello, Kind, PREFACE, next_frame, take_preface};
use bandy::rpc::server::Limits;
use bandy::rpc::wire::envelope;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rpc_server::{Answer, Served, request, serve_with, still_serves};

/// What all connections may hold, and what one of them may.
const HELD: usize = 1 << 20;
const HELD_BY_ONE: usize = HELD / 4;

async fn serve() -> Served {
    serve_with(Limits { held_size_max: HELD, message_size_max: 64 << 10, ..Limits::default() }).await
}

/// Waits until nothing is held any more.
async fn forgets(server: &Served) {
    while server.server.held() > 0 {
        tokio::task::yield_now().await;
    }
}

const FULL: &str = "the server holds requests and replies of 1048576 bytes already, its limit: try again";
const FULL_ONE: &str =
    "this connection holds requests and replies of 262144 bytes already, its limit: try again";

#[tokio::test]
async fn many_small_calls_of_one_connection() {
    let server = serve().await;
    let client = server.http2().await;
    let small = envelope::encode(0, b"\x0a\x01x");
    let mut calls: FuturesUnordered<_> = (0..300)
        .map(|_| client.clone().send_request(request("Never", "application/grpc", small.clone(), &[])))
        .collect();
    // Those that have room never end; the others are refused.
    let refused = Answer::read(calls.next().await.unwrap().unwrap()).await;
    assert_eq!(refused.grpc_status(), ("8", FULL_ONE));
    assert!(server.server.held() <= HELD_BY_ONE, "{}", server.server.held());
    still_serves(&server).await;
    drop((calls, client));
    forgets(&server).await;
}

#[tokio::test]
async fn many_small_calls_of_many_connections() {
    let server = serve().await;
    let small = envelope::encode(0, b"\x0a\x01x");
    let (mut clients, mut calls) = (Vec::new(), FuturesUnordered::new());
    for _ in 0..40 {
        let client = server.http2().await;
        for _ in 0..100 {
            let mut client = client.clone();
            let call = request("Never", "application/grpc", small.clone(), &[]);
            calls.push(async move { Answer::read(client.send_request(call).await.unwrap()).await });
        }
        clients.push(client);
    }
    let refused = calls.next().await.unwrap();
    assert_eq!(refused.grpc_status(), ("8", FULL));
    assert!(server.server.held() <= HELD);
    // Whoever does little needs nothing that is shared.
    still_serves(&server).await;
    drop((calls, clients));
    forgets(&server).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn headers_count() {
    let server = serve().await;
    let client = server.http2().await;
    let long = "x".repeat(20_000);
    let mut calls: FuturesUnordered<_> = (0..20)
        .map(|_| {
            let headers = [("x-long", long.as_str())];
            client.clone().send_request(request(
                "Never",
                "application/grpc",
                envelope::encode(0, b""),
                &headers,
            ))
        })
        .collect();
    let refused = Answer::read(calls.next().await.unwrap().unwrap()).await;
    assert_eq!(refused.grpc_status(), ("8", FULL_ONE));
}

#[tokio::test]
async fn bodies_that_do_not_end() {
    let server = serve().await;
    let head = "POST /t.T/Echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n";
    let start = [head.as_bytes(), &[b' '; 50_000]].concat();
    let mut peers = Vec::new();
    for _ in 0..30 {
        let mut stream = server.connect().await;
        stream.write_all(&start).await.unwrap();
        peers.push(stream);
    }
    // Somebody is told that there is no room.
    let mut answers: FuturesUnordered<_> = peers
        .iter_mut()
        .map(|stream| async {
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            answer
        })
        .collect();
    assert_eq!(answers.next().await.unwrap(), b"HTTP/1.1 429");
    assert!(server.server.held() <= HELD);
    still_serves(&server).await;
    drop(answers);
    drop(peers);
    forgets(&server).await;
}

#[tokio::test]
async fn replies_that_are_not_read() {
    let server = serve().await;
    let io = TokioIo::new(server.connect().await);
    // What the client would let come ahead is used up by the second reply.
    let (client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_connection_window_size(65_535)
        .handshake::<_, Full<Bytes>>(io)
        .await
        .unwrap();
    server.shutdown.spawn(connection);
    let large = envelope::encode(0, &[0x0a; 60_000]);
    let answers: Vec<_> = (0..20)
        .map(|_| client.clone().send_request(request("Twice", "application/grpc", large.clone(), &[])))
        .collect();
    let answers = futures_util::future::join_all(answers).await;
    assert!(server.server.held() <= HELD_BY_ONE, "{}", server.server.held());
    still_serves(&server).await;
    // Now they are read: the first ones were kept, the last ones were told.
    let read = answers.into_iter().map(|answer| Answer::read(answer.unwrap()));
    let read = futures_util::future::join_all(read).await;
    let codes: Vec<&str> = read.iter().map(|answer| answer.grpc_status().0).collect();
    assert!(codes.contains(&"0") && codes.contains(&"8"), "{codes:?}");
    drop(client);
    forgets(&server).await;
}

#[tokio::test]
async fn json_rpc_documents_that_do_not_end_and_calls_that_wait() {
    let server = serve().await;
    let mut peers = Vec::new();
    for n in 0..30 {
        let mut stream = server.connect().await;
        let framing = if n % 2 == 0 { "" } else { "Content-Length: 60000\r\n\r\n" };
        stream.write_all(format!("{framing}[{}", " ".repeat(50_000)).as_bytes()).await.unwrap();
        peers.push(stream);
    }
    let mut answers: FuturesUnordered<_> = peers
        .iter_mut()
        .map(|stream| async {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        })
        .collect();
    let refused = answers.next().await.unwrap();
    assert!(refused.contains(FULL) && refused.contains("RESOURCE_EXHAUSTED"), "{refused}");
    assert!(server.server.held() <= HELD);
    still_serves(&server).await;
    drop(answers);
    drop(peers);
    forgets(&server).await;
    // A batch of calls that wait, and the same again.
    let batch = vec![r#"{"jsonrpc":"2.0","id":1,"method":"t.T/Never"}"#; 100].join(",");
    let mut stream = server.connect().await;
    stream.write_all(format!("[{batch}]\n[{batch}]\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 200];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().contains(FULL_ONE));
}

#[tokio::test]
async fn compact_calls_that_wait_and_frames_that_do_not_end() {
    let server = serve().await;
    let mut start = BytesMut::from(&PREFACE[..]);
    Frame {
        hello: Some(Box::new(Hello { window: 1 << 20, ..Hello::default() })),
        ..Frame::new(Kind::Hello, 0)
    }
    .write(&mut start);
    let never =
        Frame { method: method_id("t.T/Never"), message: Some(Bytes::new()), end: true, ..Frame::default() };
    let mut stream = server.connect().await;
    let mut bytes = start.clone();
    for request in 1..=200 {
        Frame { request, ..Frame { kind: Kind::Call.into(), ..never.clone() } }.write(&mut bytes);
    }
    stream.write_all(&bytes).await.unwrap();
    let mut input = BytesMut::new();
    let mut greeted = false;
    let refused = loop {
        stream.read_buf(&mut input).await.unwrap();
        greeted = greeted || take_preface(&mut input).unwrap();
        let frames = std::iter::from_fn(|| next_frame(&mut input, 1 << 20).unwrap());
        let mut replies = frames.map(|bytes| Frame::parse(bytes).unwrap()).filter(|frame| frame.request > 0);
        if let Some(reply) = replies.next() {
            break reply;
        }
    };
    let status = refused.status.unwrap();
    assert_eq!((status.code, status.message.as_str()), (8, FULL_ONE));
    assert!(server.server.held() <= HELD_BY_ONE);
    // Frames of which the last byte never comes, from many peers.
    let mut peers = Vec::new();
    for _ in 0..30 {
        let mut stream = server.connect().await;
        let large = Frame {
            message: Some(vec![0; 50_000].into()),
            request: 1,
            kind: Kind::Call.into(),
            ..never.clone()
        };
        let mut bytes = start.clone();
        large.write(&mut bytes);
        stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
        peers.push(stream);
    }
    let mut ends: FuturesUnordered<_> = peers
        .iter_mut()
        .map(|stream| async {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        })
        .collect();
    let end = ends.next().await.unwrap();
    assert!(end.windows(FULL.len()).any(|window| window == FULL.as_bytes()), "{}", end.escape_ascii());
    assert!(server.server.held() <= HELD);
    still_serves(&server).await;
    drop(ends);
    drop((peers, stream));
    forgets(&server).await;
}
