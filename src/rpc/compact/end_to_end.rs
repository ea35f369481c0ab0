//! Client and server against each other over a stream in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::Limits;
use super::client::{CallOptions, Client};
use super::server::Server;
use crate::rpc::backend::{Call, Event, Payload, Reply, Requests};
use crate::rpc::catalog::{Kind, SharedCatalog, method_id};
use crate::rpc::client::Cause;
use crate::rpc::status::{Code, Status};
use crate::rpc::testing::{Function, catalog, echo, peer, share};
use crate::shutdown::Shutdown;

const TEXT: &str = "google.protobuf.StringValue";
const LIMIT: u32 = 100_000;

/// Tells when it is dropped: a cancelled handler is.
struct Dropped(mpsc::Sender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.try_send("dropped");
    }
}

struct Scene {
    client: Client,
    shutdown: Shutdown,
    /// What handlers say.
    said: mpsc::Receiver<&'static str>,
    /// Replies that `Many` has produced and not yet been asked for.
    produced: Arc<Semaphore>,
}

fn ok() -> Event {
    Event::End { status: Status::ok(), trailers: http::HeaderMap::new() }
}

/// Joins all requests into one reply.
async fn join(call: Call) -> Reply {
    let Requests::Stream(mut requests) = call.requests else {
        return Reply::failed(Status::new(Code::Internal, ""));
    };
    let mut all = Vec::new();
    while let Some(request) = requests.next().await {
        match request {
            Ok(request) => all.extend_from_slice(&request.bytes),
            Err(status) => return Reply::failed(status),
        }
    }
    Reply::one(Payload::proto(all))
}

/// Every request comes back.
async fn chat(call: Call) -> Reply {
    let Requests::Stream(requests) = call.requests else {
        return Reply::failed(Status::new(Code::Internal, ""));
    };
    let events = requests.map(|request| match request {
        Ok(request) => Event::Message(request),
        Err(status) => Event::End { status, trailers: http::HeaderMap::new() },
    });
    Reply::stream(events.chain(stream::iter([ok()])).boxed())
}

async fn start() -> Scene {
    let (say, said) = mpsc::channel(16);
    let produced = Arc::new(Semaphore::new(0));
    let counted = Arc::clone(&produced);
    let backend = Function(move |call: Call| -> BoxFuture<'static, Reply> {
        let (say, counted) = (say.clone(), Arc::clone(&counted));
        Box::pin(async move {
            match call.method.name() {
                "Join" => join(call).await,
                "Chat" => chat(call).await,
                "Many" => {
                    let messages = stream::iter(0..1000).map(move |_| {
                        counted.add_permits(1);
                        Event::Message(Payload::proto(vec![7; 10_000]))
                    });
                    Reply::stream(messages.chain(stream::iter([ok()])).boxed())
                }
                _ => {
                    let _dropped = Dropped(say.clone());
                    // The test may be over.
                    let _ = say.try_send("waiting");
                    std::future::pending().await
                }
            }
        })
    });
    let methods = [
        ("d.E/Join", TEXT, Kind::ClientStream),
        ("d.E/Chat", TEXT, Kind::Bidi),
        ("d.E/Many", TEXT, Kind::ServerStream),
        ("d.E/Wait", TEXT, Kind::Unary),
    ];
    let mut catalog = catalog(&methods, &(Arc::new(backend) as _));
    for route in crate::rpc::testing::catalog(&[("d.E/Say", TEXT, Kind::Unary)], &echo()).routes() {
        catalog.insert(route.clone()).unwrap();
    }
    let limits = Limits { message_size_max: LIMIT, ..Limits::default() };
    let shutdown = Shutdown::new();
    let server = Server::new(SharedCatalog::new(catalog), Arc::default(), limits, shutdown.clone());
    let (near, far) = tokio::io::duplex(4096);
    shutdown.spawn(async move { server.serve(far, peer(), share()).await });
    let deadline = Instant::now() + Duration::from_secs(30);
    let client = Client::connect(near, deadline, &shutdown).await.unwrap();
    Scene { client, shutdown, said, produced }
}

fn id(name: &str) -> u32 {
    method_id(&format!("d.E/{name}"))
}

fn options() -> CallOptions {
    CallOptions::default()
}

fn text(size: usize) -> Bytes {
    vec![b'x'; size].into()
}

#[tokio::test]
async fn unary_calls_come_back_with_their_message() {
    let scene = start().await;
    for size in [0, 1, 70_000] {
        let reply = scene.client.unary(id("Say"), text(size), &options()).await;
        assert_eq!(reply.message, Some(text(size)), "{:?}", reply.ending);
    }
    let reply = scene.client.unary(1, text(1), &options()).await;
    assert_eq!(reply.ending.status, Status::new(Code::Unimplemented, "no method has the call id 0x00000001"));
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let scene = start().await;
    let calls = (0..5000).map(|size| {
        let client = scene.client.clone();
        async move {
            client.unary(id("Say"), text(size % 100), &options()).await.message == Some(text(size % 100))
        }
    });
    let right =
        stream::iter(calls).buffer_unordered(2000).filter(|right| std::future::ready(*right)).count().await;
    assert_eq!(right, 5000);
}

#[tokio::test]
async fn requests_stream_under_flow_control() {
    let scene = start().await;
    let (mut sender, mut receiver) = scene.client.stream(id("Join"), &options()).await.unwrap();
    // Together over both the window and the pipe between the two.
    for _ in 0..20 {
        sender.send(text(50_000)).await.unwrap();
    }
    sender.finish().await;
    // The reply may be larger than a request: the limit is on either, and says both sizes.
    assert_eq!(receiver.message().await, None);
    let ending = receiver.ending().unwrap();
    let expected =
        Status::new(Code::ResourceExhausted, "a reply of 1000000 bytes is over the limit of 100000");
    assert_eq!((&ending.status, &ending.cause), (&expected, &Cause::Answered));
}

#[tokio::test]
async fn both_sides_stream_at_the_same_time() {
    let scene = start().await;
    let (mut sender, mut receiver) = scene.client.stream(id("Chat"), &options()).await.unwrap();
    for size in [1, 90_000, 3] {
        sender.send(text(size)).await.unwrap();
        assert_eq!(receiver.message().await, Some(text(size)));
    }
    sender.finish().await;
    assert_eq!(receiver.message().await, None);
    assert!(receiver.ending().unwrap().status.is_ok());
}

#[tokio::test]
async fn a_slow_reader_holds_the_handler_and_nobody_else() {
    let scene = start().await;
    let mut receiver = scene.client.server_stream(id("Many"), Bytes::new(), &options()).await.unwrap();
    assert_eq!(receiver.message().await.unwrap().len(), 10_000);
    // Calls go through meanwhile; each gives the stream time to run ahead if nothing held it.
    for _ in 0..200 {
        assert_eq!(scene.client.unary(id("Say"), text(9), &options()).await.message, Some(text(9)));
    }
    let ahead = scene.produced.available_permits();
    assert!(ahead < 60, "{ahead} replies of 10 kB were produced for a reader of one");
    let mut count = 1;
    while receiver.message().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 1000);
    assert!(receiver.ending().unwrap().status.is_ok());
}

#[tokio::test]
async fn dropping_a_call_cancels_it() {
    let mut scene = start().await;
    let call = {
        let client = scene.client.clone();
        scene.shutdown.spawn(async move { client.unary(id("Wait"), Bytes::new(), &options()).await })
    };
    assert_eq!(scene.said.recv().await, Some("waiting"));
    call.abort();
    assert_eq!(scene.said.recv().await, Some("dropped"));
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let mut scene = start().await;
    let options = CallOptions { timeout: Some(Duration::from_millis(30)), ..options() };
    let reply = scene.client.unary(id("Wait"), Bytes::new(), &options).await;
    assert_eq!(reply.ending.status.code, Code::DeadlineExceeded);
    assert_eq!(scene.said.recv().await, Some("waiting"));
    assert_eq!(scene.said.recv().await, Some("dropped"));
}

#[tokio::test]
async fn a_message_over_the_limit_names_size_and_limit_and_breaks_nothing() {
    let scene = start().await;
    let expected = Status::new(
        Code::ResourceExhausted,
        "a request of 100001 bytes is over the server's limit of 100000",
    );
    let reply = scene.client.unary(id("Say"), text(100_001), &options()).await;
    assert_eq!(reply.ending.status, expected);
    let (mut sender, mut receiver) = scene.client.stream(id("Chat"), &options()).await.unwrap();
    assert!(sender.send(text(100_001)).await.is_err());
    assert_eq!(receiver.message().await, None);
    let ending = receiver.ending().unwrap();
    assert_eq!((&ending.status, &ending.cause), (&expected, &Cause::GivenUp));
    let reply = scene.client.unary(id("Say"), text(100_000), &options()).await;
    assert_eq!(reply.message, Some(text(100_000)));
}

#[tokio::test]
async fn the_table_names_every_method_and_its_types() {
    let scene = start().await;
    let table = scene.client.table().await.unwrap();
    let chat = table.by_path("d.E/Chat").unwrap();
    assert_eq!((chat.id, chat.client_streams, chat.server_streams), (id("Chat"), true, true));
    assert_eq!((chat.input.as_str(), table.methods().count()), (TEXT, 5));
    assert!(
        crate::rpc::schema::Schema::from_descriptor_set(&table.descriptor_set)
            .unwrap()
            .message(TEXT)
            .is_some()
    );
    assert_eq!(table.hash, scene.client.hello().description_hash);
}

#[tokio::test]
async fn a_draining_server_ends_what_runs_and_takes_no_more() {
    let mut scene = start().await;
    let (mut sender, mut receiver) = scene.client.stream(id("Chat"), &options()).await.unwrap();
    sender.send(text(1)).await.unwrap();
    assert_eq!(receiver.message().await, Some(text(1)));
    scene.shutdown.drain();
    while scene.client.ping().await.is_ok() {
        let reply = scene.client.unary(id("Say"), text(1), &options()).await;
        if !reply.ending.status.is_ok() {
            assert_eq!(reply.ending.status, Status::new(Code::Unavailable, "the server is shutting down"));
            break;
        }
    }
    sender.send(text(2)).await.unwrap();
    assert_eq!(receiver.message().await, Some(text(2)));
    sender.finish().await;
    assert_eq!(receiver.message().await, None);
    assert!(receiver.ending().unwrap().status.is_ok());
    scene.said.close();
}
