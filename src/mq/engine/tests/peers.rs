//! What the suites of RabbitMQ's clients ask for beyond the specification's rules.

use super::support::*;
use crate::mq::engine::{Access, Compat, Config, Pattern, Reply, Send};
use crate::mq::wire::{Fields, Value};

/// The tags of the consumers that were given something.
fn takers(sends: &[Send]) -> Vec<String> {
    sends
        .iter()
        .filter_map(|send| match send {
            Send::Deliver(delivery) => Some(delivery.consumer.to_string()),
            _ => None,
        })
        .collect()
}

/// The highest tag that was given.
fn last_tag(sends: &[Send]) -> u64 {
    let tags = sends.iter().filter_map(|send| match send {
        Send::Deliver(delivery) => Some(delivery.tag),
        _ => None,
    });
    tags.max().unwrap()
}

#[test]
fn consumers_that_share_the_limit_of_a_channel_take_turns() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, qos(1, true));
    world.tell(me, 1, consume("q", "one"));
    world.tell(me, 1, consume("q", "two"));
    world.fill(me, "q", &["1", "2", "3", "4", "5"]);
    let turns: Vec<String> = (1..5).flat_map(|tag| takers(&world.call(me, 1, ack(tag, false)))).collect();
    assert_eq!(turns, ["two", "one", "two", "one"]);
}

#[test]
fn queues_that_share_the_limit_of_a_channel_take_turns() {
    let mut world = World::new();
    let me = world.open();
    for name in ["a", "b", "c"] {
        world.tell(me, 1, declare(name));
        world.fill(me, name, &["1", "2", "3"]);
    }
    world.tell(me, 1, qos(1, true));
    let mut tag = last_tag(&world.call(me, 1, consume("a", "a")));
    world.tell(me, 1, consume("b", "b"));
    world.tell(me, 1, consume("c", "c"));
    let mut turns = Vec::new();
    for _ in 0..5 {
        let sends = world.call(me, 1, ack(tag, false));
        turns.extend(takers(&sends));
        tag = last_tag(&sends);
    }
    // The first stood in line for its second message before the others came.
    assert_eq!(turns, ["a", "b", "c", "a", "b"]);
}

#[test]
fn queues_that_share_the_credit_of_a_connection_take_turns() {
    let mut world = World::with(Config { credit: 1000, ..Config::default() });
    let me = world.open();
    let body = "x".repeat(100);
    for name in ["busy", "also", "third"] {
        world.tell(me, 1, declare(name));
        world.fill(me, name, &[body.as_str(); 30]);
    }
    for name in ["busy", "also", "third"] {
        world.tell(me, 1, basic::Consume { no_ack: true, ..consume(name, name) });
    }
    // The first took all the credit there was, and stood in line first.
    assert_eq!((world.counts("also").0, world.counts("third").0), (30, 30));
    let mut turns = Vec::new();
    for _ in 0..4 {
        world.out.clear();
        world.engine.written(world.now, me, 1000, &mut world.out);
        let mut served = takers(world.out.to(me));
        served.dedup();
        turns.push(served.join(" "));
    }
    assert_eq!(turns, ["busy", "also", "third", "busy"]);
}

#[test]
fn the_limit_of_a_channel_holds_up_consumers_that_acknowledge_nothing() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("a"));
    world.tell(me, 1, declare("b"));
    world.tell(me, 1, qos(1, true));
    world.tell(me, 1, consume("a", "careful"));
    world.tell(me, 1, basic::Consume { no_ack: true, ..consume("b", "careless") });
    world.fill(me, "b", &["1", "2"]);
    assert_eq!(world.counts("b"), (0, 0));
    world.fill(me, "a", &["3"]);
    world.fill(me, "b", &["4"]);
    assert_eq!(world.counts("b"), (1, 0));
    assert_eq!(takers(&world.call(me, 1, ack(3, false))), ["careless"]);
}

#[test]
fn a_consumer_that_leaves_does_not_stand_in_line_any_more() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, qos(1, true));
    world.tell(me, 1, consume("q", "one"));
    world.tell(me, 1, consume("q", "two"));
    world.fill(me, "q", &["1", "2"]);
    world.tell(me, 1, basic::Cancel { consumer_tag: "two", nowait: false });
    assert_eq!(takers(&world.call(me, 1, ack(1, false))), ["one"]);
}

#[test]
fn the_key_of_a_dead_letter_queue_stands_for_the_copies_too() {
    let mut world = World::new();
    let me = world.open();
    let to =
        [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))];
    world.tell(me, 1, declare("dead"));
    world.tell(me, 1, declare("copy"));
    world.tell(me, 1, queue::Declare { arguments: table(&to), ..declare("q") });
    let mut copies = crate::mq::wire::ArrayBuf::new();
    copies.push(Value::text("copy"));
    let headers = table(&[("CC", Value::Array(copies.as_array()))]);
    world.publish(me, "", "q", Fields { headers: Some(headers), ..Fields::default() }, "m");
    assert_eq!(world.take(me, "copy"), ["m"]);
    world.tell(me, 1, get("q"));
    world.tell(me, 1, nack(0, true, false));
    let dead = world.take_messages(me, "dead");
    assert!(dead[0].headers().get("CC").is_none() && dead[0].headers().get("x-death").is_some());
    assert_eq!(world.take(me, "copy"), Vec::<String>::new());
}

#[test]
fn deaths_that_old_brokers_wrote_one_by_one_are_counted_together() {
    let mut world = World::new();
    let me = world.open();
    let to =
        [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))];
    world.tell(me, 1, declare("dead"));
    world.tell(me, 1, queue::Declare { arguments: table(&to), ..declare("q") });
    let mut deaths = crate::mq::wire::ArrayBuf::new();
    for name in ["a", "b", "a", "a"] {
        let death = table(&[("queue", Value::text(name)), ("reason", Value::text("expired"))]);
        deaths.push(Value::Table(death));
    }
    let counted =
        [("queue", Value::text("q")), ("reason", Value::text("rejected")), ("count", Value::I64(8))];
    deaths.push(Value::Table(table(&counted)));
    let headers = table(&[("x-death", Value::Array(deaths.as_array()))]);
    world.publish(me, "", "q", Fields { headers: Some(headers), ..Fields::default() }, "m");
    world.tell(me, 1, get("q"));
    world.tell(me, 1, nack(0, true, false));
    let dead = world.take_messages(me, "dead");
    let Some(Value::Array(array)) = dead[0].headers().get("x-death") else { panic!("no deaths") };
    let array: Vec<(String, i64)> = array
        .iter()
        .map(|value| match value {
            Value::Table(death) => (
                death.get("queue").and_then(|name| name.as_str().map(str::to_owned)).unwrap(),
                death.get("count").and_then(|count| count.as_integer()).unwrap(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(array, [("q".to_owned(), 9), ("a".to_owned(), 3), ("b".to_owned(), 1)]);
}

#[test]
fn what_can_be_routed_no_more_when_its_transaction_is_committed_comes_back() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, tx::Select {});
    let mandatory = basic::Publish { mandatory: true, ..publish("", "q") };
    assert_eq!(world.publish_as(me, mandatory, Fields::default(), "m"), []);
    world.tell(me, 1, delete("q"));
    let sends = world.call(me, 1, tx::Commit {});
    assert!(
        matches!(&sends[..], [Send::Return { code: 312, .. }, Send::Reply { reply: Reply::TxCommitOk, .. }]),
        "{sends:?}"
    );
}

#[test]
fn before_version_4_everybody_may_ask_whether_a_queue_exists() {
    for (compat, may) in [(Compat::V3, true), (Compat::V4, false)] {
        let mut world = World::with(Config { compat, ..Config::default() });
        let me = world.open();
        world.tell(me, 1, queue::Declare { durable: true, ..declare("jobs") });
        let none = || Pattern::new("^$").unwrap();
        let access = Access { configure: none(), write: none(), read: none(), ..Access::full() };
        let eve = world.connect_as("eve", access, true);
        world.open_channel(eve, 1);
        let sends = world.call(eve, 1, queue::Declare { passive: true, ..declare("jobs") });
        let told = matches!(&sends[..], [Send::Reply { reply: Reply::QueueDeclareOk { .. }, .. }]);
        assert_eq!(told, may, "{sends:?}");
    }
}

#[test]
fn an_unknown_type_of_exchange_ends_the_channel_since_version_4() {
    let mut world = World::with(Config { compat: Compat::V4, ..Config::default() });
    let me = world.open();
    let sends = world.call(me, 1, declare_x("x", "nonsense"));
    assert_eq!(refusal(&sends).1, "PRECONDITION_FAILED - unknown exchange type 'nonsense'");
}

#[test]
fn a_queue_may_have_a_timeout_of_its_own() {
    let timeout = |name, ms| queue::Declare {
        arguments: table(&[("x-consumer-timeout", Value::I32(ms))]),
        ..declare(name)
    };
    for (own, default, closed) in [(120_000, None, true), (600_000, Some(120_000), false)] {
        let mut world = World::with(Config { consumer_timeout_ms: default, ..Config::default() });
        let me = world.open();
        world.tell(me, 1, timeout("q", own));
        world.tell(me, 1, consume("q", "t"));
        world.fill(me, "q", &["1"]);
        world.pass(120_000);
        assert_eq!(world.out.to(me), []);
        world.pass(60_000);
        assert_eq!(world.counts("q"), if closed { (1, 0) } else { (0, 1) });
    }
}
