//! Our AMQP client and RabbitMQ.

use std::collections::BTreeSet;
use std::time::Duration;

use bandy::mq::client::{
    Config, Connection, ConsumeOptions, Consumer, Credentials, ErrorKind, Message, PublishOptions, Publisher,
    Reason, Step, Topology,
};
use bandy::mq::wire::method::{exchange, queue};
use bandy::mq::wire::{Fields, TableBuf, Value};
use bandy::secret::Secret;
use bandy::shutdown::Shutdown;
use bytes::Bytes;

use super::rabbitmq::RabbitMq;

fn to_queue(queue: &'static str, body: impl Into<Bytes>) -> Message {
    Message { routing_key: queue.into(), body: body.into(), mandatory: true, ..Message::default() }
}

fn durable(name: &str) -> Topology {
    Topology(vec![Step::Queue {
        name: name.to_owned(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: TableBuf::new(),
    }])
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn rabbitmq_understands_the_client() {
    let rabbit = RabbitMq::start().await;
    let (config, shutdown) = (rabbit.config(), Shutdown::new());
    logins_are_told_apart(&config, &shutdown).await;
    questions_have_answers(&config, &shutdown).await;
    publishes_are_answered(&config, &shutdown).await;
    deliveries_are_taken_once(&config, &shutdown).await;
    assert!(shutdown.finish(Duration::from_secs(20)).await);
}

async fn logins_are_told_apart(config: &Config, shutdown: &Shutdown) {
    let password = Secret::new("wrong");
    let wrong = Credentials::Password { user: "guest".to_owned(), password };
    let error =
        Connection::open(&Config { credentials: wrong, ..config.clone() }, shutdown).await.unwrap_err();
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::Denied, Some(403)), "{error}");
    let error =
        Connection::open(&Config { vhost: "nope".to_owned(), ..config.clone() }, shutdown).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "NOT_ALLOWED - vhost nope not found (connection.open)")
    );
    let connection = Connection::open(config, shutdown).await.unwrap();
    assert_eq!(connection.server().product, "RabbitMQ");
    connection.close().await.unwrap();
}

async fn questions_have_answers(config: &Config, shutdown: &Shutdown) {
    let connection = Connection::open(config, shutdown).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let named = queue::Declare { exclusive: true, ..Default::default() };
    let declared = channel.queue_declare(named).await.unwrap();
    assert!(declared.queue.starts_with("amq.gen-"), "{declared:?}");
    let declare =
        |exchange| exchange::Declare { exchange, kind: "topic", auto_delete: true, ..Default::default() };
    channel.exchange_declare(declare("one")).await.unwrap();
    channel.exchange_declare(declare("two")).await.unwrap();
    let bind = exchange::Bind { destination: "two", source: "one", routing_key: "a.#", ..Default::default() };
    channel.exchange_bind(bind).await.unwrap();
    let bind = queue::Bind { exchange: "two", routing_key: "#.z", ..Default::default() };
    channel.queue_bind(bind).await.unwrap();
    assert_eq!(channel.queue_purge("").await.unwrap(), 0);
    assert_eq!(channel.get("", true).await.unwrap(), None);
    let unbind = queue::Unbind { exchange: "two", routing_key: "#.z", ..Default::default() };
    channel.queue_unbind(unbind).await.unwrap();
    let delete = queue::Delete { queue: &declared.queue, ..Default::default() };
    assert_eq!(channel.queue_delete(delete).await.unwrap(), 0);
    let error = channel.queue_purge("nope").await.unwrap_err();
    let expected = "NOT_FOUND - no queue 'nope' in vhost '/' (queue.purge)";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, expected));
    // The channel is gone, the connection is not.
    assert!(channel.queue_purge("nope").await.is_err());
    connection.channel().await.unwrap().close().await.unwrap();
    connection.close().await.unwrap();
}

async fn publishes_are_answered(config: &Config, shutdown: &Shutdown) {
    let full =
        TableBuf::new().with("x-max-length", Value::I32(1)).with("x-overflow", Value::text("reject-publish"));
    let topology = Topology(vec![Step::Queue {
        name: "full".to_owned(),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: full,
    }]);
    let mut publisher =
        Publisher::start(config.clone(), topology, PublishOptions::default(), shutdown).await.unwrap();
    publisher.publish(to_queue("full", "taken")).await.unwrap();
    publisher.flush().await.unwrap();
    for body in ["a", "b"] {
        publisher.publish(to_queue("full", body)).await.unwrap();
        publisher.publish(to_queue("nowhere", body)).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut failures = publisher.take_failures();
    failures.sort_by_key(|failure| failure.id);
    let unroutable = Reason::Unroutable { code: 312, text: "NO_ROUTE".to_owned() };
    let reasons: Vec<_> = failures.into_iter().map(|failure| (failure.id, failure.reason)).collect();
    let expected = [(1, Reason::Rejected), (2, unroutable.clone()), (3, Reason::Rejected), (4, unroutable)];
    assert_eq!(reasons, expected);
    let missing = Message { exchange: "nope".into(), ..Message::default() };
    publisher.publish(missing).await.unwrap();
    let error = publisher.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

async fn deliveries_are_taken_once(config: &Config, shutdown: &Shutdown) {
    let headers = TableBuf::new().with("n", Value::I64(-5)).with("t", Value::text("ü"));
    let fields = Fields { headers: Some(headers.as_table()), delivery_mode: Some(2), ..Fields::default() };
    let properties = Bytes::from(fields.to_vec());
    let topology = durable("jobs");
    let mut publisher =
        Publisher::start(config.clone(), topology.clone(), PublishOptions::default(), shutdown)
            .await
            .unwrap();
    // The last one takes more frames than one.
    let bodies = [Bytes::new(), Bytes::from_static(b"one"), Bytes::from(vec![7; 300_000])];
    for body in &bodies {
        let message = Message { properties: properties.clone(), ..to_queue("jobs", body.clone()) };
        publisher.publish(message).await.unwrap();
    }
    publisher.close().await.unwrap();
    assert_eq!(publisher.take_failures(), []);
    let options = ConsumeOptions { queue: "jobs".to_owned(), ..ConsumeOptions::default() };
    let mut consumer =
        Consumer::start(config.clone(), topology.clone(), options.clone(), shutdown).await.unwrap();
    let mut deliveries = Vec::new();
    for body in &bodies {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!((&delivery.body, &delivery.properties), (body, &properties));
        deliveries.push(delivery);
    }
    // Out of order; one goes back.
    assert!(consumer.ack(&deliveries[2]));
    assert!(consumer.nack(&deliveries[1], true));
    assert!(consumer.ack(&deliveries[0]));
    let again = consumer.next().await.unwrap().unwrap();
    assert_eq!((&again.body, again.redelivered), (&bodies[1], true));
    assert!(consumer.ack(&again));
    consumer.cancel().await.unwrap();
    assert_eq!(consumer.next().await.unwrap(), None);
    consumer.close().await.unwrap();
    let connection = Connection::open(config, shutdown).await.unwrap();
    let channel = connection.channel().await.unwrap();
    assert_eq!(channel.get("jobs", true).await.unwrap(), None);
    let mut consumer = Consumer::start(config.clone(), topology, options, shutdown).await.unwrap();
    channel.queue_delete(queue::Delete { queue: "jobs", ..Default::default() }).await.unwrap();
    assert_eq!(consumer.next().await.unwrap_err().kind(), ErrorKind::NotFound);
    connection.close().await.unwrap();
}

/// Messages around the kill: enough that some are on their way.
const MESSAGES: usize = 5000;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn nothing_confirmed_is_lost_when_rabbitmq_is_killed() {
    let mut rabbit = RabbitMq::start().await;
    let shutdown = Shutdown::new();
    let config = Config { reconnect_for: Duration::from_secs(180), ..rabbit.config() };
    let topology = durable("orders");
    let options = PublishOptions { waiting_max: 200, ..Default::default() };
    let mut publisher = Publisher::start(config.clone(), topology.clone(), options, &shutdown).await.unwrap();
    let options = ConsumeOptions { queue: "orders".to_owned(), ..ConsumeOptions::default() };
    let mut consumer = Consumer::start(config, topology, options, &shutdown).await.unwrap();
    let (at_half, half) = tokio::sync::oneshot::channel();
    let properties = Bytes::from(Fields { delivery_mode: Some(2), ..Fields::default() }.to_vec());
    let publish = async {
        let mut at_half = Some(at_half);
        for number in 0..MESSAGES {
            if number == MESSAGES / 2 {
                at_half.take().unwrap().send(()).unwrap();
            }
            let message =
                Message { properties: properties.clone(), ..to_queue("orders", number.to_string()) };
            publisher.publish(message).await.unwrap();
        }
        publisher.flush().await.unwrap();
        (publisher.reconnects(), publisher.take_failures())
    };
    let consume = async {
        let mut seen = BTreeSet::new();
        while seen.len() < MESSAGES {
            let delivery = consumer.next().await.unwrap().unwrap();
            let number: usize = std::str::from_utf8(&delivery.body).unwrap().parse().unwrap();
            seen.insert(number);
            consumer.ack(&delivery);
        }
        consumer.reconnects()
    };
    let kill = async {
        half.await.unwrap();
        rabbit.kill();
        rabbit.restart();
    };
    let ((reconnects, failures), consumer_reconnects, ()) = tokio::join!(publish, consume, kill);
    assert_eq!(failures, []);
    assert!(reconnects >= 1 && consumer_reconnects >= 1, "{reconnects} {consumer_reconnects}");
}
