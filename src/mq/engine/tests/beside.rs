//! What RabbitMQ does where the words of AMQP and of its documentation leave room: seen by the same steps to both.

use super::support::*;
use crate::mq::engine::{Compat, Config, Send};
use crate::mq::wire::{Array, ArrayBuf, Fields, TableBuf, Value};

fn queue_with(name: &'static str, entries: &[(&str, Value<'_>)]) -> queue::Declare<'static> {
    queue::Declare { arguments: table(entries), ..declare(name) }
}

fn with_priority<'a>(queue: &'a str, tag: &'a str, priority: i8) -> basic::Consume<'a> {
    basic::Consume { arguments: table(&[("x-priority", Value::I8(priority))]), ..consume(queue, tag) }
}

#[test]
fn what_comes_back_to_a_full_queue_that_rejects_stays() {
    let mut world = World::new();
    let me = world.open();
    let limits = [("x-max-length", Value::U8(2)), ("x-overflow", Value::text("reject-publish"))];
    world.tell(me, 1, queue_with("q", &limits));
    world.fill(me, "q", &["1", "2"]);
    world.tell(me, 1, get("q"));
    world.fill(me, "q", &["3"]);
    world.tell(me, 1, nack(1, false, true));
    world.fill(me, "q", &["refused"]);
    assert_eq!(world.take(me, "q"), ["1", "2", "3"]);
}

#[test]
fn the_next_single_active_consumer_has_the_highest_priority_but_in_a_quorum_queue() {
    for (kind, next) in [("classic", "high"), ("quorum", "second")] {
        let mut world = World::new();
        let me = world.open();
        let arguments =
            [("x-single-active-consumer", Value::Bool(true)), ("x-queue-type", Value::text(kind))];
        world.tell(me, 1, queue::Declare { durable: true, ..queue_with("q", &arguments) });
        for (tag, priority) in [("first", 0), ("second", 1), ("high", 2), ("too", 2)] {
            world.tell(me, 1, with_priority("q", tag, priority));
        }
        let active = |world: &World| world.engine.queue("q").and_then(|queue| queue.active_consumer);
        assert_eq!(active(&world).as_deref(), Some("first"));
        world.tell(me, 1, basic::Cancel { consumer_tag: "first", nowait: true });
        assert_eq!(active(&world).as_deref(), Some(next), "{kind}");
    }
}

#[test]
fn a_quorum_queue_serves_no_channel_with_a_limit_for_all_its_consumers() {
    let mut world = World::new();
    let me = world.open();
    let arguments = [("x-queue-type", Value::text("quorum"))];
    world.tell(me, 1, queue::Declare { durable: true, ..queue_with("q", &arguments) });
    world.tell(me, 1, consume("q", "before"));
    world.tell(me, 1, qos(5, true));
    let (code, text, _) = refusal(&world.call(me, 1, consume("q", "after")));
    assert_eq!(code, 540);
    assert_eq!(text, "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos");
}

#[test]
fn an_address_for_replies_is_no_queue_to_version_3() {
    for (compat, returned) in [(Compat::V3, true), (Compat::V4, false)] {
        let mut world = World::with(Config { compat, ..Config::default() });
        let (client, server) = (world.open(), world.open());
        world.tell(server, 1, queue::Declare { durable: true, ..declare("work") });
        world.tell(client, 1, basic::Consume { no_ack: true, ..consume("amq.rabbitmq.reply-to", "t") });
        let ask = Fields { reply_to: Some(b"amq.rabbitmq.reply-to"), ..Fields::default() };
        world.publish(client, "", "work", ask, "question");
        let messages = world.take_messages(server, "work");
        let address = String::from_utf8_lossy(messages[0].properties().reply_to().unwrap()).into_owned();
        let mandatory = basic::Publish { mandatory: true, ..publish("", &address) };
        let sends = world.publish_as(server, mandatory, Fields::default(), "answer");
        assert_eq!(sends.iter().any(|send| matches!(send, Send::Return { .. })), returned, "{compat:?}");
        assert_eq!(bodies(world.out.to(client)), ["answer"], "and there it is");
        let bind = bind("amq.rabbitmq.reply-to", "amq.direct", "key");
        assert_eq!(refusal(&world.call(server, 1, bind)).0, if returned { 404 } else { 403 });
    }
}

#[test]
fn version_4_takes_messages_of_16_mib() {
    for (compat, size, taken) in [
        (Compat::V3, (16 << 20) + 1, true),
        (Compat::V4, 16 << 20, true),
        (Compat::V4, (16 << 20) + 1, false),
    ] {
        let mut world = World::with(Config::like(compat));
        let me = world.open();
        world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
        let sends = world.publish(me, "", "q", Fields::default(), &"m".repeat(size));
        assert_eq!(sends.is_empty(), taken, "{compat:?} {size}");
        if !taken {
            let text =
                "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216";
            assert_eq!(refusal(&sends).1, text);
        }
    }
}

#[test]
fn a_dead_letter_is_routed_by_the_keys_that_nobody_sees_and_does_not_tell_them() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-dead-letter-exchange", Value::text("amq.direct"))]));
    for name in ["one", "hidden"] {
        world.tell(me, 1, declare(name));
    }
    world.tell(me, 1, bind("one", "amq.direct", "q"));
    world.tell(me, 1, bind("hidden", "amq.direct", "blind"));
    let keys: ArrayBuf = [Value::text("blind")].into_iter().collect();
    let keys: Array<'_> = keys.as_array();
    let headers = TableBuf::new().with("BCC", Value::Array(keys));
    let fields = Fields { headers: Some(headers.as_table()), ..Fields::default() };
    world.publish(me, "", "q", fields, "m");
    world.tell(me, 1, get("q"));
    world.tell(me, 1, nack(0, true, false));
    for name in ["one", "hidden"] {
        let messages = world.take_messages(me, name);
        let headers = messages[0].headers();
        assert!(headers.get("BCC").is_none());
        let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("{name}: no x-death") };
        let Some(Value::Table(death)) = deaths.iter().next() else { panic!("{name}: no death") };
        let Some(Value::Array(keys)) = death.get("routing-keys") else { panic!("{name}: no keys") };
        assert_eq!(keys.iter().collect::<Vec<_>>(), [Value::text("q")]);
    }
}
