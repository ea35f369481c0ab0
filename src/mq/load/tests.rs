//! Producers and consumers on the broker of this program, in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::mq::client::{Config, Connection};
use crate::mq::engine;
use crate::mq::server::{Broker, Limits, Users};
use crate::mq::wire::method::{exchange, queue};
use crate::shutdown::Shutdown;
use crate::transport::{Address, Listener, mem};

/// A broker, and how to reach it.
async fn broker() -> Config {
    let address = Address::Mem(mem::Network::new(1).name("broker"));
    let listener = Listener::bind(&address).await.unwrap();
    let shutdown = Shutdown::new();
    let broker = Broker::new(
        Users::default(),
        Limits::like(engine::Compat::V3),
        &engine::Config::default(),
        None,
        shutdown.clone(),
    );
    let tasks = shutdown.clone();
    shutdown.spawn(async move {
        while let Ok(stream) = listener.accept().await {
            let broker = Arc::clone(&broker);
            tasks.spawn(async move { broker.serve(stream).await });
        }
    });
    Config::new(address)
}

/// What a run does.
struct Run {
    routes: Vec<(String, String)>,
    size: usize,
    count: u64,
    window: Option<u64>,
    acks: Acks,
    /// Deliveries of a message.
    copies: u64,
}

fn route(exchange: &str, key: &str) -> (String, String) {
    (exchange.to_owned(), key.to_owned())
}

impl Run {
    /// One producer, and a consumer of the queues a and b; at a rate if there is one.
    async fn on(self, config: &Config, rate: Option<&str>) -> Shared {
        let message = Message { routes: self.routes, size: self.size, persistent: false };
        let pace = Pace { count: Some(self.count), window: self.window, index: 0, of: 1 };
        let mut producer = Producer::open(config, &message, pace, 0, false).await.unwrap();
        let queues = ["a".to_owned(), "b".to_owned()];
        let mut consumer = Consumer::open(config, &queues, self.acks, 0, 16).await.unwrap();
        let clock = Clock::new();
        let now = Instant::now();
        let shared = Shared::new(clock, now, now, 1);
        let sending = async {
            match rate {
                None => producer.run(&shared).await.unwrap(),
                Some(rate) => {
                    paced(std::slice::from_mut(&mut producer), &rate.parse().unwrap(), None, &shared)
                        .await
                        .unwrap();
                }
            }
            shared.receive_all(self.count * self.copies).await;
        };
        tokio::select! {
            () = sending => {}
            ended = consumer.run(&shared) => panic!("{ended:?}"),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{} received", shared.received_ever()),
        }
        shared
    }
}

async fn declared(config: &Config) -> Connection {
    let connection = Connection::open(config, &Shutdown::new()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    for name in ["a", "b"] {
        channel.queue_declare(queue::Declare { queue: name, ..Default::default() }).await.unwrap();
    }
    connection
}

#[tokio::test]
async fn every_message_arrives_and_is_acknowledged() {
    let config = broker().await;
    let connection = declared(&config).await;
    let run = Run {
        routes: vec![route("", "a"), route("", "b")],
        size: 100,
        count: 5_000,
        window: Some(300),
        acks: Acks::Every { deliveries: 50, prefetch: 200 },
        copies: 1,
    };
    let shared = run.on(&config, None).await;
    let (received, confirmed) = (shared.meter.report(), shared.confirms.report());
    assert_eq!((received.messages, received.bytes, received.latency.len()), (5_000, 500_000, 5_000));
    assert_eq!((confirmed.messages, shared.sent_ever()), (5_000, 5_000));
    // Less than an acknowledgement's worth comes back.
    let channel = connection.channel().await.unwrap();
    for name in ["a", "b"] {
        let left = channel.queue_declare(queue::Declare { queue: name, ..Default::default() }).await.unwrap();
        assert!(left.messages < 50, "{left:?}");
    }
}

#[tokio::test]
async fn bodies_of_many_frames_are_sent_and_read() {
    let config = broker().await;
    let connection = declared(&config).await;
    let channel = connection.channel().await.unwrap();
    let all = exchange::Declare { exchange: "all", kind: "fanout", ..Default::default() };
    channel.exchange_declare(all).await.unwrap();
    for queue in ["a", "b"] {
        channel.queue_bind(queue::Bind { queue, exchange: "all", ..Default::default() }).await.unwrap();
    }
    let run = Run {
        routes: vec![route("all", "")],
        size: 300_000,
        count: 20,
        window: None,
        acks: Acks::Auto,
        copies: 2,
    };
    let received = run.on(&config, None).await.meter.report();
    assert_eq!((received.messages, received.bytes, received.latency.len()), (40, 40 * 300_000, 40));
}

#[tokio::test]
async fn a_rate_is_kept_and_latencies_count_from_when_messages_were_meant() {
    let config = broker().await;
    let _connection = declared(&config).await;
    let run = Run {
        routes: vec![route("", "a")],
        size: 8,
        count: 200,
        window: Some(1000),
        acks: Acks::Auto,
        copies: 1,
    };
    let shared = run.on(&config, Some("1000")).await;
    let received = shared.meter.report();
    assert_eq!(received.messages, 200);
    assert!(received.elapsed >= Duration::from_millis(199), "{:?}", received.elapsed);
}

#[tokio::test]
async fn a_refusal_ends_the_run_in_the_words_of_the_broker() {
    let config = broker().await;
    let message = Message { routes: vec![route("nowhere", "")], size: 8, persistent: false };
    let pace = Pace { count: Some(10), window: Some(1), index: 0, of: 1 };
    let mut producer = Producer::open(&config, &message, pace, 0, true).await.unwrap();
    let now = Instant::now();
    let error = producer.run(&Shared::new(Clock::new(), now, now, 1)).await.unwrap_err();
    assert!(error.to_string().contains("no exchange 'nowhere'"), "{error}");
}
