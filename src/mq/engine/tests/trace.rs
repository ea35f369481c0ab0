//! The firehose, header by header as RabbitMQ 3.10 writes it.

use super::support::*;
use crate::mq::engine::Message;
use crate::mq::wire::{ArrayBuf, Fields, Properties, TableBuf, Value};

/// The routing key, the headers without those of the session, and the body.
fn told(message: &Message) -> (String, String, Vec<u8>) {
    let properties = Properties::parse(&message.properties).unwrap();
    let headers = properties.headers().unwrap().unwrap();
    let key = String::from_utf8_lossy(&message.routing_key).into_owned();
    (key, format!("{headers:?}"), message.body.to_vec())
}

fn expected(keys: &[&str], queues: Option<&[&str]>, redelivered: Option<i32>) -> String {
    let list = |texts: &[&str]| texts.iter().map(|text| Value::text(text)).collect::<ArrayBuf>();
    let copies = list(&["b"]);
    let inner = TableBuf::new().with("CC", Value::Array(copies.as_array()));
    let properties = TableBuf::new()
        .with("content_type", Value::text("text/x"))
        .with("headers", Value::Table(inner.as_table()))
        .with("delivery_mode", Value::I32(2))
        .with("timestamp", Value::I32(1_700_000_000));
    let mut table = TableBuf::new()
        .with("exchange_name", Value::text(""))
        .with("routing_keys", Value::Array(list(keys).as_array()))
        .with("properties", Value::Table(properties.as_table()))
        .with("node", Value::text("bandy@here"));
    if let Some(redelivered) = redelivered {
        table.push("redelivered", Value::I32(redelivered));
    }
    let mut table = table
        .with("vhost", Value::text("/"))
        .with("connection", Value::text("test"))
        .with("channel", Value::I32(1))
        .with("user", Value::text("guest"));
    if let Some(queues) = queues {
        table.push("routed_queues", Value::Array(list(queues).as_array()));
    }
    format!("{:?}", table.as_table())
}

#[test]
fn publishes_and_deliveries_are_told_of_while_it_is_on() {
    let mut world = World::new();
    let me = world.open();
    for name in ["a", "b", "told"] {
        world.tell(me, 1, declare(name));
    }
    world.tell(me, 1, bind("told", "amq.rabbitmq.trace", "#"));
    world.fill(me, "a", &["before"]);
    assert_eq!(world.take(me, "told"), [""; 0]);
    world.engine.set_tracing(Some("bandy@here".into()));
    let copies: ArrayBuf = [Value::text("b")].into_iter().collect();
    let headers = TableBuf::new().with("CC", Value::Array(copies.as_array()));
    let fields = Fields {
        content_type: Some(b"text/x"),
        headers: Some(headers.as_table()),
        delivery_mode: Some(2),
        timestamp: Some(1_700_000_000),
        ..Fields::default()
    };
    world.publish(me, "", "a", fields, "body");
    let seen: Vec<_> = world.take_messages(me, "told").iter().map(|message| told(message)).collect();
    let published = expected(&["a", "b"], Some(&["a", "b"]), None);
    assert_eq!(seen, [("publish.".to_owned(), published, b"body".to_vec())]);
    world.call(me, 1, consume("b", "c"));
    let seen: Vec<_> = world.take_messages(me, "told").iter().map(|message| told(message)).collect();
    assert_eq!(seen, [("deliver.b".to_owned(), expected(&["a", "b"], None, Some(0)), b"body".to_vec())]);
    assert_eq!(world.take(me, "a"), ["before", "body"]);
    let seen = world.take_messages(me, "told");
    assert!(seen.iter().all(|message| &*message.routing_key == b"deliver.a"), "{seen:?}");
    assert_eq!(seen.len(), 2);
    // What nobody takes is told of, and the trace itself is not.
    world.publish(me, "amq.fanout", "nowhere", Fields::default(), "lost");
    assert_eq!(told(&world.take_messages(me, "told")[0]).0, "publish.amq.fanout");
    world.engine.set_tracing(None);
    world.fill(me, "a", &["after"]);
    assert_eq!(world.take(me, "told"), [""; 0]);
}

#[test]
fn nobody_publishes_to_it_but_the_broker() {
    let mut world = World::new();
    let me = world.open();
    let sends = world.publish(me, "amq.rabbitmq.trace", "k", Fields::default(), "m");
    assert_eq!(refusal(&sends).0, 403);
}
