//! The client against a broker in memory that does what the test tells it, on a clock that can be turned.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::mq::wire::method::{Long, basic, channel, confirm, connection, queue};
use crate::mq::wire::{self, Assembler, Event, Method, PROTOCOL_HEADER, TableBuf, Value};
use crate::shutdown::Shutdown;
use crate::transport::{Listener, Stream, mem};

/// What the broker saw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Heartbeat,
    /// Channel and name of a method.
    Method(u16, &'static str),
    /// Channel and body.
    Publish(u16, Bytes),
    /// Tag, and whether all before it.
    Ack(u64, bool),
    Gone,
}

/// The broker's end of a connection.
struct Peer {
    stream: Stream,
    input: BytesMut,
    assembler: Assembler,
}

impl Peer {
    /// Accepts and greets; the client has sent nothing but its header.
    async fn greet(listener: &Listener, mechanisms: &str) -> Self {
        let mut stream = listener.accept().await.unwrap();
        let mut header = [0; 8];
        stream.read_exact(&mut header).await.unwrap();
        assert_eq!(header, PROTOCOL_HEADER);
        let mut peer = Self { stream, input: BytesMut::new(), assembler: Assembler::new(0, 1 << 20) };
        let properties =
            TableBuf::new().with("product", Value::text("Test")).with("version", Value::text("1"));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties.as_table(),
            mechanisms: Long(mechanisms.as_bytes()),
            locales: Long(b"en_US"),
        };
        peer.send(0, start).await;
        peer
    }

    /// Accepts and lets in, with this heartbeat.
    async fn accept(listener: &Listener, heartbeat: u16) -> Self {
        let mut peer = Self::greet(listener, "PLAIN AMQPLAIN").await;
        assert_eq!(peer.next().await, Seen::Method(0, "connection.start-ok"));
        peer.send(0, connection::Tune { channel_max: 9, frame_max: 8192, heartbeat }).await;
        assert_eq!(peer.next().await, Seen::Method(0, "connection.tune-ok"));
        assert_eq!(peer.next().await, Seen::Method(0, "connection.open"));
        peer.send(0, connection::OpenOk::default()).await;
        peer
    }

    async fn send<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut out = Vec::new();
        wire::method(&mut out, channel, &method.into());
        self.stream.write_all(&out).await.unwrap();
    }

    async fn deliver(&mut self, tag: u64, body: &[u8]) {
        let deliver = basic::Deliver { consumer_tag: "bandy", delivery_tag: tag, ..Default::default() };
        let mut out = Vec::new();
        wire::content(&mut out, 1, &deliver.into(), &[0, 0], body, 8192);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn next(&mut self) -> Seen {
        loop {
            let chunk = self.input.clone().freeze();
            let mut rest = &chunk[..];
            let seen = match self.assembler.next(&mut rest).unwrap() {
                Some(Event::Heartbeat) => Some(Seen::Heartbeat),
                Some(Event::Method { method: Method::BasicAck(ack), .. }) => {
                    Some(Seen::Ack(ack.delivery_tag, ack.multiple))
                }
                Some(Event::Method { channel, method }) => Some(Seen::Method(channel, method.name())),
                Some(Event::Content { channel, content }) => {
                    Some(Seen::Publish(channel, content.body.keep()))
                }
                Some(Event::Oversized { .. }) => panic!("too large"),
                None => None,
            };
            self.input = BytesMut::from(rest);
            match seen {
                Some(seen) => return seen,
                None if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 => return Seen::Gone,
                None => {}
            }
        }
    }

    /// The next that is no heartbeat.
    async fn expect(&mut self, expected: Seen) {
        loop {
            match self.next().await {
                Seen::Heartbeat => {}
                seen => return assert_eq!(seen, expected),
            }
        }
    }

    /// Opens channel 1, in which publishes are to be confirmed.
    async fn publisher(&mut self) {
        self.expect(Seen::Method(1, "channel.open")).await;
        self.send(1, channel::OpenOk::default()).await;
        self.expect(Seen::Method(1, "confirm.select")).await;
        self.send(1, confirm::SelectOk {}).await;
    }

    /// Opens channel 1 with a consumer of the queue that the broker names.
    async fn consumer(&mut self, queue: &str) {
        self.expect(Seen::Method(1, "channel.open")).await;
        self.send(1, channel::OpenOk::default()).await;
        self.expect(Seen::Method(1, "queue.declare")).await;
        self.send(1, queue::DeclareOk { queue, ..Default::default() }).await;
        self.expect(Seen::Method(1, "basic.qos")).await;
        self.send(1, basic::QosOk {}).await;
        self.expect(Seen::Method(1, "basic.consume")).await;
        self.send(1, basic::ConsumeOk { consumer_tag: "bandy" }).await;
    }
}

async fn broker() -> (Listener, Config, Shutdown) {
    let address = Address::Mem(mem::Network::new(0).name("broker"));
    let listener = Listener::bind(&address).await.unwrap();
    (listener, Config::new(address), Shutdown::new())
}

fn message(body: &'static str) -> Message {
    Message { body: Bytes::from_static(body.as_bytes()), mandatory: true, ..Default::default() }
}

fn own_queue() -> Topology {
    Topology(vec![Step::Queue {
        name: String::new(),
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: false,
        arguments: TableBuf::new(),
    }])
}

#[tokio::test(start_paused = true)]
async fn limits_are_the_lower_ones_and_the_server_is_known() {
    let (listener, config, shutdown) = broker().await;
    let (connection, mut peer) =
        tokio::join!(Connection::open(&config, &shutdown), Peer::accept(&listener, 7));
    let connection = connection.unwrap();
    assert_eq!((connection.frame_max(), connection.heartbeat()), (8192, Duration::from_secs(7)));
    assert_eq!(connection.server().product, "Test");
    let close = async {
        peer.expect(Seen::Method(0, "connection.close")).await;
        peer.send(0, connection::CloseOk {}).await;
    };
    let (closed, ()) = tokio::join!(connection.close(), close);
    closed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_let_in_is_told_why() {
    let (listener, config, shutdown) = broker().await;
    // RabbitMQ says why; others just leave.
    let refuse = async {
        let mut peer = Peer::greet(&listener, "PLAIN").await;
        peer.expect(Seen::Method(0, "connection.start-ok")).await;
        let reply_text = "ACCESS_REFUSED - Login was refused";
        peer.send(0, connection::Close { reply_code: 403, reply_text, ..Default::default() }).await;
        peer.expect(Seen::Method(0, "connection.close-ok")).await;
        let mut peer = Peer::greet(&listener, "PLAIN").await;
        peer.expect(Seen::Method(0, "connection.start-ok")).await;
    };
    let tries = async {
        let told = Connection::open(&config, &shutdown).await.unwrap_err();
        let silent = Connection::open(&config, &shutdown).await.unwrap_err();
        (told, silent)
    };
    let ((told, silent), ()) = tokio::join!(tries, refuse);
    assert_eq!(told.to_string(), "ACCESS_REFUSED - Login was refused");
    assert_eq!(silent.to_string(), "login of guest was refused");
    assert_eq!([told.kind(), silent.kind()], [ErrorKind::Denied; 2]);
    assert!(!told.is_transient() && !silent.is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stays_silent_is_told_with_what_it_left_unanswered() {
    let (listener, config, shutdown) = broker().await;
    let mute = async {
        let error = Connection::open(&config, &shutdown).await.unwrap_err();
        (error.to_string(), error.kind(), error.is_transient())
    };
    let (told, _held) = tokio::join!(mute, listener.accept());
    let words = "it accepts connections, but did not answer the first words of AMQP 0-9-1 within 10s";
    assert_eq!(told, (words.to_owned(), ErrorKind::Unreachable, true));
    let stops = Peer::greet(&listener, "PLAIN");
    let (error, _held) = tokio::join!(Connection::open(&config, &shutdown), stops);
    assert_eq!(error.unwrap_err().to_string(), "no answer to connection.start-ok within 30s");
    let stops = async {
        let mut peer = Peer::greet(&listener, "PLAIN").await;
        peer.expect(Seen::Method(0, "connection.start-ok")).await;
        peer.send(0, connection::Tune { channel_max: 9, frame_max: 8192, heartbeat: 60 }).await;
        peer
    };
    let (error, _held) = tokio::join!(Connection::open(&config, &shutdown), stops);
    assert_eq!(error.unwrap_err().to_string(), "no answer to connection.open within 30s");
}

#[tokio::test(start_paused = true)]
async fn old_and_other_ways_in_are_chosen_by_what_is_offered() {
    let (listener, config, shutdown) = broker().await;
    let external = Config { credentials: Credentials::External, ..config.clone() };
    let offers = async {
        let mut peer = Peer::greet(&listener, "AMQPLAIN").await;
        let mut bytes = [0; 512];
        let read = peer.stream.read(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
        drop(peer);
        Peer::greet(&listener, "PLAIN AMQPLAIN").await;
        text
    };
    let tries = async {
        let _ = Connection::open(&config, &shutdown).await.unwrap_err();
        Connection::open(&external, &shutdown).await.unwrap_err()
    };
    let (refused, text) = tokio::join!(tries, offers);
    assert!(text.contains("\u{8}AMQPLAIN") && text.contains("LOGINS\0\0\0\u{5}guest"), "{text:?}");
    assert_eq!(refused.to_string(), "the broker offers PLAIN AMQPLAIN, not EXTERNAL");
}

#[tokio::test(start_paused = true)]
async fn other_servers_are_no_brokers() {
    for (said, expected) in [
        (b"AMQP\0\x01\0\0".as_slice(), "the server speaks another version of AMQP, not 0-9-1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server speaks HTTP, not AMQP 0-9-1"),
        (b"\x15\x03\x03\0\x02\x02\x46\0", "the server speaks TLS: use amqps://"),
        (b"\0\0\0\0\0\0\0\0", "the server does not speak AMQP 0-9-1"),
    ] {
        let (listener, config, shutdown) = broker().await;
        let answer = async {
            let mut stream = listener.accept().await.unwrap();
            stream.write_all(said).await.unwrap();
            stream
        };
        let (opened, _stream) = tokio::join!(Connection::open(&config, &shutdown), answer);
        let error = opened.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Protocol));
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_sent_and_silence_is_the_end() {
    let (listener, config, shutdown) = broker().await;
    let (connection, mut peer) =
        tokio::join!(Connection::open(&config, &shutdown), Peer::accept(&listener, 10));
    let connection = connection.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(peer.next().await, Seen::Heartbeat);
    assert_eq!(start.elapsed().as_secs(), 5);
    while peer.next().await != Seen::Gone {}
    // At most the time to say goodbye beyond two heartbeats.
    assert!((20..=25).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let error = connection.ended().unwrap();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("the broker was silent for 20s", ErrorKind::Unreachable)
    );
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_ends_its_channel_only() {
    let (listener, config, shutdown) = broker().await;
    let (connection, mut peer) =
        tokio::join!(Connection::open(&config, &shutdown), Peer::accept(&listener, 0));
    let connection = connection.unwrap();
    let serve = async {
        peer.expect(Seen::Method(1, "channel.open")).await;
        peer.send(1, channel::OpenOk::default()).await;
        peer.expect(Seen::Method(1, "queue.purge")).await;
        let (class_id, method_id) = queue::Purge::ID;
        let reply_text = "NOT_FOUND - no queue 'x' in vhost '/'";
        peer.send(1, channel::Close { reply_code: 404, reply_text, class_id, method_id }).await;
        peer.expect(Seen::Method(1, "channel.close-ok")).await;
        // The number is free again.
        peer.expect(Seen::Method(1, "channel.open")).await;
        peer.send(1, channel::OpenOk::default()).await;
    };
    let ask = async {
        let channel = connection.channel().await.unwrap();
        let error = channel.queue_purge("x").await.unwrap_err();
        assert_eq!(error.to_string(), "NOT_FOUND - no queue 'x' in vhost '/' (queue.purge)");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let again = channel.get("x", true).await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        drop(channel);
        connection.channel().await.unwrap()
    };
    let (_channel, ()) = tokio::join!(ask, serve);
    assert!(connection.ended().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_question_does_not_take_the_next_answer() {
    let (listener, config, shutdown) = broker().await;
    let (connection, mut peer) =
        tokio::join!(Connection::open(&config, &shutdown), Peer::accept(&listener, 0));
    let connection = connection.unwrap();
    let open = async {
        peer.expect(Seen::Method(1, "channel.open")).await;
        peer.send(1, channel::OpenOk::default()).await;
    };
    let (channel, ()) = tokio::join!(connection.channel(), open);
    let channel = channel.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(1), channel.queue_purge("slow")).await;
    assert!(dropped.is_err());
    let serve = async {
        peer.expect(Seen::Method(1, "queue.purge")).await;
        peer.expect(Seen::Method(1, "queue.purge")).await;
        peer.send(1, queue::PurgeOk { message_count: 1 }).await;
        peer.send(1, queue::PurgeOk { message_count: 2 }).await;
    };
    let (count, ()) = tokio::join!(channel.queue_purge("quick"), serve);
    assert_eq!(count.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_confirmed_is_published_again_after_a_loss() {
    let (listener, config, shutdown) = broker().await;
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.publisher().await;
        for body in ["a", "b", "c"] {
            peer.expect(Seen::Publish(1, body.into())).await;
        }
        peer.send(1, basic::Ack { delivery_tag: 2, multiple: false }).await;
        // Nobody listens while the broker is down.
        drop(peer);
        let mut peer = Peer::accept(&listener, 0).await;
        peer.publisher().await;
        for body in ["a", "c"] {
            peer.expect(Seen::Publish(1, body.into())).await;
        }
        peer.send(1, basic::Ack { delivery_tag: 2, multiple: true }).await;
        peer
    };
    let publish = async {
        let options = PublishOptions::default();
        let mut publisher = Publisher::start(config, Topology::default(), options, &shutdown).await.unwrap();
        for (body, id) in [("a", 0), ("b", 1), ("c", 2)] {
            assert_eq!(publisher.publish(message(body)).await.unwrap(), id);
        }
        publisher.flush().await.unwrap();
        assert_eq!((publisher.settled(), publisher.waiting(), publisher.reconnects()), (3, 0, 1));
        assert_eq!(publisher.take_failures(), []);
    };
    tokio::join!(publish, serve);
}

#[tokio::test(start_paused = true)]
async fn what_no_queue_takes_is_told_by_its_number() {
    let (listener, config, shutdown) = broker().await;
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.publisher().await;
        for body in ["a", "b", "c"] {
            peer.expect(Seen::Publish(1, body.into())).await;
        }
        let returned = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", ..Default::default() };
        let mut out = Vec::new();
        wire::content(&mut out, 1, &returned.into(), &[0, 0], b"b", 8192);
        peer.stream.write_all(&out).await.unwrap();
        peer.send(1, basic::Ack { delivery_tag: 2, multiple: true }).await;
        peer.send(1, basic::Nack { delivery_tag: 3, ..Default::default() }).await;
        peer
    };
    let publish = async {
        let options = PublishOptions::default();
        let mut publisher = Publisher::start(config, Topology::default(), options, &shutdown).await.unwrap();
        for body in ["a", "b", "c"] {
            publisher.publish(message(body)).await.unwrap();
        }
        publisher.flush().await.unwrap();
        let unroutable = Reason::Unroutable { code: 312, text: "NO_ROUTE".to_owned() };
        let expected = [
            Failure { id: 1, message: message("b"), reason: unroutable },
            Failure { id: 2, message: message("c"), reason: Reason::Rejected },
        ];
        assert_eq!(publisher.take_failures(), expected);
    };
    tokio::join!(publish, serve);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_broker_makes_publishers_wait_and_a_full_window_too() {
    let (listener, config, shutdown) = broker().await;
    let options = PublishOptions { waiting_max: 2, ..Default::default() };
    let start = Publisher::start(config, Topology::default(), options, &shutdown);
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.publisher().await;
        peer
    };
    let (publisher, mut peer) = tokio::join!(start, serve);
    let mut publisher = publisher.unwrap();
    peer.send(0, connection::Blocked { reason: "low on disk" }).await;
    while publisher.connection().unwrap().blocked().is_none() {
        tokio::task::yield_now().await;
    }
    // The clock is paused: it moves on when there is nothing else to do.
    let wait = Duration::from_secs(100);
    assert!(tokio::time::timeout(wait, publisher.publish(message("a"))).await.is_err());
    assert_eq!(publisher.connection().unwrap().blocked().as_deref(), Some("low on disk"));
    peer.send(0, connection::Unblocked {}).await;
    publisher.publish(message("a")).await.unwrap();
    publisher.publish(message("b")).await.unwrap();
    assert!(tokio::time::timeout(wait, publisher.publish(message("c"))).await.is_err());
    // What was given up was not sent.
    peer.expect(Seen::Publish(1, "a".into())).await;
    peer.expect(Seen::Publish(1, "b".into())).await;
    peer.send(1, basic::Ack { delivery_tag: 1, multiple: false }).await;
    publisher.publish(message("d")).await.unwrap();
    peer.expect(Seen::Publish(1, "d".into())).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_channel_ends_a_publisher_for_good() {
    let (listener, config, shutdown) = broker().await;
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.publisher().await;
        peer.expect(Seen::Publish(1, "a".into())).await;
        let reply_text = "NOT_FOUND - no exchange 'x' in vhost '/'";
        let (class_id, method_id) = basic::Publish::ID;
        peer.send(1, channel::Close { reply_code: 404, reply_text, class_id, method_id }).await;
        peer
    };
    let publish = async {
        let options = PublishOptions::default();
        let mut publisher = Publisher::start(config, Topology::default(), options, &shutdown).await.unwrap();
        publisher.publish(message("a")).await.unwrap();
        let error = publisher.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let again = publisher.publish(message("b")).await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(publisher.waiting(), 1);
    };
    tokio::join!(publish, serve);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_comes_back_and_forgets_what_comes_again() {
    let (listener, config, shutdown) = broker().await;
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.consumer("amq.gen-1").await;
        for (tag, body) in [(1, b"a"), (2, b"b"), (3, b"c")] {
            peer.deliver(tag, body).await;
        }
        peer.expect(Seen::Ack(2, true)).await;
        drop(peer);
        let mut peer = Peer::accept(&listener, 0).await;
        peer.consumer("amq.gen-2").await;
        peer.deliver(1, b"c").await;
        peer.expect(Seen::Ack(1, false)).await;
        peer
    };
    let consume = async {
        let options = ConsumeOptions::default();
        let mut consumer = Consumer::start(config, own_queue(), options, &shutdown).await.unwrap();
        assert_eq!(consumer.queue(), "amq.gen-1");
        let mut bodies = Vec::new();
        for _ in 0..2 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert!(consumer.ack(&delivery));
            bodies.push(delivery.body);
        }
        let lost = consumer.next().await.unwrap().unwrap();
        // Nothing else has come: what is done is told, and the loss is seen.
        let again = consumer.next().await.unwrap().unwrap();
        assert_eq!((consumer.queue(), consumer.reconnects()), ("amq.gen-2", 1));
        assert!(!consumer.ack(&lost));
        assert!(consumer.ack(&again));
        consumer.flush().unwrap();
        bodies.push(again.body);
        assert_eq!(bodies, ["a", "b", "c"]);
        consumer
    };
    let (_consumer, _peer) = tokio::join!(consume, serve);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_of_a_deleted_queue_ends() {
    let (listener, config, shutdown) = broker().await;
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.consumer("mine").await;
        peer.deliver(1, b"a").await;
        peer.send(1, basic::Cancel { consumer_tag: "bandy", nowait: true }).await;
        peer
    };
    let consume = async {
        let options = ConsumeOptions::default();
        let mut consumer = Consumer::start(config, own_queue(), options, &shutdown).await.unwrap();
        assert_eq!(consumer.next().await.unwrap().unwrap().body, "a");
        let error = consumer.next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("queue 'mine'"), "{error}");
    };
    let ((), _peer) = tokio::join!(consume, serve);
}

#[tokio::test(start_paused = true)]
async fn coming_back_has_an_end() {
    let (listener, config, shutdown) = broker().await;
    let config = Config { reconnect_for: Duration::from_secs(20), ..config };
    let options = PublishOptions::default();
    let start = Publisher::start(config, Topology::default(), options, &shutdown);
    let serve = async {
        let mut peer = Peer::accept(&listener, 0).await;
        peer.publisher().await;
        peer
    };
    let (publisher, peer) = tokio::join!(start, serve);
    let mut publisher = publisher.unwrap();
    publisher.publish(message("a")).await.unwrap();
    drop((peer, listener));
    let start = tokio::time::Instant::now();
    let error = publisher.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!((10..=20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!((publisher.waiting(), publisher.settled()), (1, 0));
}
