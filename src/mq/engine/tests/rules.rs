//! The rules of AMQP 0-9-1 and RabbitMQ one by one: what goes in and what comes out.

use super::support::*;
use crate::mq::engine::{Access, Compat, Config, Journal, Pattern, PolicyDefinition, Reply, Send};
use crate::mq::wire::{Fields, Value};

fn queue_with(name: &'static str, entries: &[(&str, Value<'_>)]) -> queue::Declare<'static> {
    queue::Declare { arguments: table(entries), ..declare(name) }
}

fn priority(priority: u8) -> Fields<'static> {
    Fields { priority: Some(priority), ..Fields::default() }
}

fn no_ack<'a>(queue: &'a str, tag: &'a str) -> basic::Consume<'a> {
    basic::Consume { no_ack: true, ..consume(queue, tag) }
}

// Consumers

#[test]
fn consumers_of_a_queue_take_turns_and_prefetch_bounds_each() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, qos(2, false));
    world.tell(me, 1, consume("q", "one"));
    world.tell(me, 1, consume("q", "two"));
    world.fill(me, "q", &["1", "2", "3", "4"]);
    let busy = |world: &World| {
        let mut held: Vec<(String, u32)> =
            world.engine.consumers().map(|consumer| (consumer.tag.to_string(), consumer.unacked)).collect();
        held.sort();
        held
    };
    assert_eq!(busy(&world), [("one".into(), 2), ("two".into(), 2)]);
    world.fill(me, "q", &["5", "6"]);
    assert_eq!(world.counts("q"), (2, 4));
    // The one that is acknowledged makes room for the next message; no other does.
    let sends = world.call(me, 1, ack(1, false));
    assert_eq!(delivered(&sends), [("5".into(), false, 5)]);
    let sends = world.call(me, 1, ack(0, true));
    assert_eq!(bodies(&sends), ["6"]);
}

#[test]
fn a_channels_prefetch_bounds_all_its_consumers_and_not_basic_get() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, qos(3, true));
    world.tell(me, 1, consume("q", "one"));
    world.tell(me, 1, consume("q", "two"));
    world.fill(me, "q", &["1", "2", "3", "4", "5"]);
    assert_eq!(world.counts("q"), (2, 3));
    assert_eq!(bodies(&world.call(me, 1, get("q"))), ["4"]);
    assert_eq!(world.counts("q"), (1, 4));
    assert_eq!(bodies(&world.call(me, 1, ack(1, false))), ["5"]);
    // As of 4.3 the same words count per consumer.
    let mut world = World::with(Config { compat: Compat::V4, ..Config::default() });
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.tell(me, 1, qos(1, true));
    world.tell(me, 1, consume("q", "one"));
    world.tell(me, 1, consume("q", "two"));
    world.fill(me, "q", &["1", "2", "3"]);
    assert_eq!(world.counts("q"), (1, 2));
}

/// RabbitMQ 3.10 was asked the same, step by step.
#[test]
fn a_limit_of_a_channel_begins_with_what_basic_get_took_and_never_lets_go_of_it() {
    let begin = || {
        let mut world = World::new();
        let me = world.open();
        world.tell(me, 1, declare("taken"));
        world.tell(me, 1, declare("q"));
        world.fill(me, "taken", &["a", "b", "c"]);
        world.fill(me, "q", &["1", "2", "3", "4", "5", "6"]);
        world.tell(me, 1, get("taken"));
        world.tell(me, 1, get("taken"));
        (world, me)
    };
    let (mut world, me) = begin();
    world.tell(me, 1, qos(3, true));
    assert_eq!(bodies(&world.call(me, 1, consume("q", "one"))), ["1"]);
    assert_eq!(bodies(&world.call(me, 1, ack(1, false))), Vec::<&str>::new(), "what was got");
    assert_eq!(bodies(&world.call(me, 1, ack(2, false))), Vec::<&str>::new());
    assert_eq!(bodies(&world.call(me, 1, ack(3, false))), ["2"], "what was delivered");
    // Another limit leaves the count alone; none at all forgets it.
    assert_eq!(bodies(&world.call(me, 1, qos(4, true))), ["3"]);
    assert_eq!(bodies(&world.call(me, 1, qos(0, true))), ["4", "5", "6"]);
    // As many as the limit: nothing comes, whatever is acknowledged.
    let (mut world, me) = begin();
    world.tell(me, 1, qos(2, true));
    assert_eq!(bodies(&world.call(me, 1, consume("q", "one"))), Vec::<&str>::new());
    assert_eq!(bodies(&world.call(me, 1, ack(0, true))), Vec::<&str>::new());
    // What is taken under the limit never counts.
    let (mut world, me) = begin();
    world.tell(me, 1, ack(0, true));
    world.tell(me, 1, qos(2, true));
    world.tell(me, 1, get("taken"));
    assert_eq!(bodies(&world.call(me, 1, consume("q", "one"))), ["1", "2"]);
    assert_eq!(bodies(&world.call(me, 1, ack(3, false))), Vec::<&str>::new());
    assert_eq!(bodies(&world.call(me, 1, ack(4, false))), ["3"]);
}

#[test]
fn a_limit_of_a_channel_does_not_hold_up_a_quorum_queue() {
    let mut world = World::new();
    let me = world.open();
    let arguments = [("x-queue-type", Value::text("quorum"))];
    world.tell(me, 1, queue::Declare { durable: true, ..queue_with("quorum", &arguments) });
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, consume("quorum", "one"));
    world.tell(me, 1, qos(2, true));
    world.fill(me, "quorum", &["a", "b", "c"]);
    assert_eq!(world.counts("quorum"), (0, 3));
    world.fill(me, "q", &["1", "2", "3", "4"]);
    assert_eq!(bodies(&world.call(me, 1, consume("q", "two"))), ["1", "2"]);
    // And yet RabbitMQ counts its acknowledgements.
    assert_eq!(bodies(&world.call(me, 1, ack(1, false))), ["3"]);
}

#[test]
fn raising_the_limit_of_a_channel_brings_more() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, qos(1, true));
    world.tell(me, 1, consume("q", "one"));
    world.fill(me, "q", &["1", "2", "3"]);
    assert_eq!(bodies(&world.call(me, 1, qos(2, true))), ["2"]);
    assert_eq!(bodies(&world.call(me, 1, qos(0, true))), ["3"]);
}

#[test]
fn a_consumer_with_priority_is_served_first_until_it_is_full() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, qos(1, false));
    world.tell(me, 1, consume("q", "low"));
    let high = basic::Consume { arguments: table(&[("x-priority", Value::I8(5))]), ..consume("q", "high") };
    world.tell(me, 1, high);
    let mut tags = Vec::new();
    for body in ["1", "2", "3"] {
        let sends = world.publish(me, "", "q", Fields::default(), body);
        tags.extend(sends.iter().filter_map(|send| match send {
            Send::Deliver(delivery) => Some(delivery.consumer.to_string()),
            _ => None,
        }));
    }
    assert_eq!(tags, ["high", "low"]);
}

#[test]
fn only_one_consumer_is_active_and_the_next_takes_over() {
    let arguments = [("x-single-active-consumer", Value::Bool(true))];
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &arguments));
    world.tell(me, 1, no_ack("q", "first"));
    world.tell(me, 1, no_ack("q", "second"));
    let active = |world: &World| world.engine.queue("q").and_then(|queue| queue.active_consumer);
    assert_eq!(active(&world).as_deref(), Some("first"));
    world.fill(me, "q", &["1", "2"]);
    world.tell(me, 1, basic::Cancel { consumer_tag: "first", nowait: true });
    assert_eq!(active(&world).as_deref(), Some("second"));
    let high = basic::Consume { arguments: table(&[("x-priority", Value::I8(5))]), ..no_ack("q", "high") };
    world.tell(me, 1, high);
    assert_eq!(active(&world).as_deref(), Some("second"), "3.x keeps the one there is");
    let exclusive = basic::Consume { exclusive: true, ..consume("q", "mine") };
    assert_eq!(refusal(&world.call(me, 1, exclusive)).0, 403);
}

#[test]
fn a_broker_that_is_not_read_gives_no_more_than_the_credit() {
    let mut world = World::with(Config { credit: 1000, ..Config::default() });
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, no_ack("q", "t"));
    let mut costs = Vec::new();
    for _ in 0..20 {
        world.publish(me, "", "q", Fields::default(), &"x".repeat(100));
        costs.extend(world.out.connections().map(|lane| lane.cost).filter(|cost| *cost > 0));
    }
    let given = costs.len();
    assert!((2..=5).contains(&given), "{given}");
    let all: u64 = costs.iter().sum();
    world.out.clear();
    world.engine.written(world.now, me, all, &mut world.out);
    assert_eq!(bodies(world.out.to(me)).len(), given);
}

// Acknowledgements

#[test]
fn what_comes_back_stands_where_it_stood_and_is_marked() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.fill(me, "q", &["1", "2", "3", "4"]);
    for _ in 0..3 {
        world.tell(me, 1, get("q"));
    }
    world.tell(me, 1, nack(2, false, true));
    world.tell(me, 1, nack(1, false, true));
    assert_eq!(world.counts("q"), (3, 1));
    let got: Vec<_> = (0..3).flat_map(|_| delivered(&world.call(me, 1, get("q")))).collect();
    assert_eq!(got, [("1".into(), true, 4), ("2".into(), true, 5), ("4".into(), false, 6)]);
}

#[test]
fn multiple_settles_all_up_to_a_tag_that_is_outstanding() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.fill(me, "q", &["1", "2", "3", "4", "5"]);
    for _ in 0..5 {
        world.tell(me, 1, get("q"));
    }
    world.tell(me, 1, ack(2, true));
    assert_eq!(world.counts("q"), (0, 3));
    world.tell(me, 1, nack(4, true, true));
    assert_eq!(world.counts("q"), (2, 1));
    let (code, text, _) = refusal(&world.call(me, 1, ack(4, true)));
    assert_eq!((code, &*text), (406, "PRECONDITION_FAILED - unknown delivery tag 4"));
    assert_eq!(world.counts("q"), (3, 0), "a channel that is closed gives back what it had");
}

#[test]
fn a_channel_a_connection_and_recover_give_back_what_was_not_acknowledged() {
    for way in ["channel", "connection", "recover"] {
        let mut world = World::new();
        let (me, other) = (world.open(), world.open());
        world.tell(me, 1, declare("q"));
        world.fill(me, "q", &["1", "2", "3"]);
        world.tell(me, 1, get("q"));
        world.tell(me, 1, get("q"));
        match way {
            "channel" => {
                world.tell(
                    me,
                    1,
                    channel::Close { reply_code: 0, reply_text: "", class_id: 0, method_id: 0 },
                );
            }
            "connection" => world.disconnect(me),
            _ => world.tell(me, 1, basic::Recover { requeue: true }),
        }
        assert_eq!(world.counts("q"), (3, 0), "{way}");
        assert_eq!(delivered(&world.call(other, 1, get("q"))), [("1".into(), true, 1)], "{way}");
    }
}

#[test]
fn methods_behind_a_fault_are_ignored_until_the_close_is_answered() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("q"));
    assert_eq!(refusal(&world.call(me, 1, ack(7, false))).0, 406);
    assert_eq!(world.publish(me, "", "q", Fields::default(), "lost"), []);
    assert_eq!(world.call(me, 1, ack(1, false)), []);
    assert_eq!(world.call(me, 1, declare("r")), []);
    assert_eq!(world.call(me, 1, channel::CloseOk {}), []);
    assert_eq!(world.counts("q"), (0, 0));
    let reopened = world.call(me, 1, channel::Open { out_of_band: "" });
    assert_eq!(reopened, [Send::Reply { channel: 1, reply: Reply::ChannelOpenOk }]);
    assert_eq!(world.engine.channels().count(), 1);
}

// Confirms and transactions

#[test]
fn a_transient_message_is_confirmed_at_once_and_a_persistent_one_when_it_is_stored() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.tell(me, 1, confirm::Select { nowait: false });
    let ack = |tag, multiple| Send::Ack { channel: 1, tag, multiple };
    assert_eq!(world.publish(me, "", "q", Fields::default(), "t"), [ack(1, false)]);
    for body in ["a", "b", "c"] {
        assert_eq!(world.publish(me, "", "q", persistent(), body), []);
    }
    let id = world.engine.queue_id("q").unwrap();
    world.stored(id, 2);
    assert_eq!(world.out.to(me), [ack(3, true)]);
    world.out.clear();
    world.engine.store_failed(world.now, id, &mut world.out);
    world.engine.finish(&mut world.out);
    assert_eq!(world.out.to(me), [Send::Nack { channel: 1, tag: 4 }]);
    assert_eq!(world.publish(me, "", "q", persistent(), "d"), [Send::Nack { channel: 1, tag: 5 }]);
    assert_eq!(world.publish(me, "", "nowhere", persistent(), "e"), [ack(6, false)]);
}

#[test]
fn a_full_queue_that_rejects_answers_nack_and_its_neighbours_keep_the_message() {
    let mut world = World::new();
    let me = world.open();
    let limits = [("x-max-length", Value::U8(1)), ("x-overflow", Value::text("reject-publish"))];
    world.tell(me, 1, queue_with("small", &limits));
    world.tell(me, 1, declare("large"));
    for name in ["small", "large"] {
        world.tell(me, 1, bind(name, "amq.fanout", ""));
    }
    world.tell(me, 1, confirm::Select { nowait: false });
    let first = world.publish(me, "amq.fanout", "", Fields::default(), "1");
    let second = world.publish(me, "amq.fanout", "", Fields::default(), "2");
    assert_eq!(first, [Send::Ack { channel: 1, tag: 1, multiple: false }]);
    assert_eq!(second, [Send::Nack { channel: 1, tag: 2 }]);
    assert_eq!((world.counts("small"), world.counts("large")), ((1, 0), (2, 0)));
}

#[test]
fn a_transaction_happens_at_its_commit_or_not_at_all() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.fill(me, "q", &["old"]);
    world.tell(me, 1, get("q"));
    world.tell(me, 1, tx::Select {});
    world.publish(me, "", "q", persistent(), "new");
    world.tell(me, 1, ack(1, false));
    assert_eq!(world.counts("q"), (0, 1), "nothing has happened");
    assert_eq!(world.call(me, 1, tx::Rollback {}), [Send::Reply { channel: 1, reply: Reply::TxRollbackOk }]);
    assert_eq!(world.counts("q"), (0, 1));
    world.publish(me, "", "q", persistent(), "new");
    world.tell(me, 1, ack(1, false));
    assert_eq!(world.call(me, 1, tx::Commit {}), [], "not before it is stored");
    assert_eq!(world.counts("q"), (1, 0));
    let id = world.engine.queue_id("q").unwrap();
    world.stored(id, 1);
    assert_eq!(world.out.to(me), [Send::Reply { channel: 1, reply: Reply::TxCommitOk }]);
}

#[test]
fn a_method_behind_a_commit_waits_for_it() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.tell(me, 1, tx::Select {});
    world.publish(me, "", "q", persistent(), "m");
    world.tell(me, 1, tx::Commit {});
    let at = crate::mq::engine::At { now: world.now, connection: me, channel: 1 };
    let method = declare("r").into();
    world.out.clear();
    assert_eq!(world.engine.handle(at, &method, None, &mut world.out), crate::mq::engine::Taken::Later);
    let id = world.engine.queue_id("q").unwrap();
    world.stored(id, 1);
    assert_eq!(world.out.to(me), [Send::Resume, Send::Reply { channel: 1, reply: Reply::TxCommitOk }]);
    assert_eq!(world.call(me, 1, declare("r")).len(), 1);
}

// Permissions

#[test]
fn permissions_are_asked_for_by_name_and_by_what_is_done() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("jobs"));
    let access = Access {
        configure: Pattern::new("^mine-").unwrap(),
        write: Pattern::new("^(amq\\.topic|mine-.*)$").unwrap(),
        read: Pattern::new("^(jobs|mine-.*)$").unwrap(),
        topics: [("amq.topic".into(), (Pattern::new("^mine\\.").unwrap(), Pattern::All))].into(),
        impersonates: false,
    };
    let eve = world.connect_as("eve", access, true);
    let mut refused = |method: crate::mq::wire::Method<'_>, text: &str| {
        world.open_channel(eve, 1);
        let content = method.has_content().then(|| content(Fields::default(), "m"));
        world.give(eve, 1, method, content);
        let sends = world.out.to(eve).to_vec();
        assert_eq!(refusal(&sends).1, format!("ACCESS_REFUSED - {text} refused for user 'eve'"));
        world.tell(eve, 1, channel::CloseOk {});
    };
    refused(declare("x").into(), "configure access to queue 'x' in vhost '/'");
    refused(publish("", "jobs").into(), "write access to exchange 'amq.default' in vhost '/'");
    refused(
        publish("amq.topic", "theirs").into(),
        "write access to topic 'theirs' in exchange 'amq.topic' in vhost '/'",
    );
    refused(get("other").into(), "read access to queue 'other' in vhost '/'");
    refused(bind("jobs", "amq.topic", "k").into(), "write access to queue 'jobs' in vhost '/'");
    world.open_channel(eve, 1);
    assert_eq!(world.publish(eve, "amq.topic", "mine.x", Fields::default(), "m"), []);
    assert_eq!(world.call(eve, 1, declare("mine-q")).len(), 1);
}

// Direct replies

#[test]
fn a_reply_goes_straight_to_who_asked() {
    let mut world = World::new();
    let (client, server) = (world.open(), world.open());
    world.tell(server, 1, declare("work"));
    world.tell(client, 1, no_ack("amq.rabbitmq.reply-to", "answers"));
    let ask = Fields { reply_to: Some(b"amq.rabbitmq.reply-to"), ..Fields::default() };
    world.publish(client, "", "work", ask, "question");
    let messages = world.take_messages(server, "work");
    let address = String::from_utf8_lossy(messages[0].properties().reply_to().unwrap()).into_owned();
    assert!(address.starts_with("amq.rabbitmq.reply-to.") && address.len() > 40, "{address}");
    world.publish(server, "", &address, Fields::default(), "answer");
    assert_eq!(bodies(world.out.to(client)), ["answer"]);
    let passive = world.call(server, 1, queue::Declare { passive: true, ..declare(&address) });
    assert!(matches!(&passive[..], [Send::Reply { reply: Reply::QueueDeclareOk { consumers: 1, .. }, .. }]));
    world.tell(client, 1, basic::Cancel { consumer_tag: "answers", nowait: false });
    let mandatory = basic::Publish { mandatory: true, ..publish("", &address) };
    let sends = world.publish_as(server, mandatory, Fields::default(), "late");
    assert!(matches!(&sends[..], [Send::Return { .. }]), "{sends:?}");
    assert_eq!(refusal(&world.call(server, 1, declare(&address))).0, 404);
}

// Alarms

#[test]
fn who_publishes_while_memory_is_short_is_blocked_until_it_is_not() {
    let mut world = World::new();
    let (producer, consumer) = (world.open(), world.open());
    world.tell(consumer, 1, declare("q"));
    world.engine.set_alarm(Some("low on memory"), &mut world.out);
    assert_eq!(
        world.publish(producer, "", "q", Fields::default(), "1"),
        [Send::Block { reason: "low on memory".into() }]
    );
    assert_eq!(bodies(&world.call(consumer, 1, get("q"))), ["1"], "what was read is taken, consumers go on");
    world.out.clear();
    world.engine.set_alarm(None, &mut world.out);
    assert_eq!((world.out.to(producer), world.out.to(consumer)), (&[Send::Unblock][..], &[][..]));
}

// Policies and definitions

fn policy(
    name: &str,
    pattern: &str,
    priority: impl Into<serde_json::Value>,
    key: &str,
    value: i64,
) -> PolicyDefinition {
    PolicyDefinition {
        name: name.into(),
        pattern: pattern.into(),
        apply_to: "queues".into(),
        priority: serde_json::from_value(priority.into()).unwrap(),
        definition: [(key.to_owned(), value.into())].into_iter().collect(),
    }
}

#[test]
fn the_policy_with_the_highest_priority_holds_and_the_smaller_number_wins() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-max-length", Value::U8(5))]));
    world.fill(me, "q", &["1", "2", "3", "4", "5", "6"]);
    assert_eq!(world.counts("q").0, 5);
    for (name, priority, length) in [("wide", 1, 100), ("narrow", 2, 3)] {
        let policy = policy(name, "^q", priority, "max-length", length).policy().unwrap();
        world.engine.set_policy(world.now, policy, &mut world.out);
    }
    let view = world.engine.queue("q").unwrap();
    assert_eq!((view.policy.as_deref(), view.settings.length_max, view.ready), (Some("narrow"), Some(3), 3));
    let between = policy("between", "^q", 1.5, "max-length", 4).policy().unwrap();
    world.engine.set_policy(world.now, between, &mut world.out);
    world.engine.remove_policy(world.now, "narrow", &mut world.out);
    assert_eq!(world.engine.queue("q").unwrap().settings.length_max, Some(4));
    world.engine.remove_policy(world.now, "between", &mut world.out);
    assert_eq!(world.engine.queue("q").unwrap().settings.length_max, Some(5));
    let operator = policy("op", ".*", 0, "max-length", 2).policy().unwrap();
    world.engine.set_operator_policy(world.now, operator, &mut world.out);
    assert_eq!(world.counts("q").0, 2);
    assert!(policy("bad", "(", 0, "max-length", 2).policy().is_err());
}

#[test]
fn definitions_come_out_as_they_went_in() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, exchange::Declare { durable: true, ..declare_x("x", "topic") });
    world.tell(
        me,
        1,
        queue::Declare { durable: true, ..queue_with("q", &[("x-message-ttl", Value::I32(60_000))]) },
    );
    world.tell(me, 1, queue::Declare { exclusive: true, ..declare("mine") });
    world.tell(me, 1, bind("q", "x", "a.#"));
    world.tell(me, 1, bind("mine", "x", "b.#"));
    let definition = policy("ha", "^q", 0, "max-length", 9);
    world.engine.set_policy(world.now, definition.policy().unwrap(), &mut world.out);
    let exported = world.engine.definitions();
    let json = serde_json::to_string(&exported).unwrap();
    let mut other = World::new();
    other.engine.define(0, &serde_json::from_str(&json).unwrap(), &mut other.out).unwrap();
    assert_eq!(other.engine.definitions(), exported);
    assert_eq!((exported.queues.len(), exported.bindings.len(), exported.policies.len()), (1, 1, 1));
    assert_eq!(world.changes.len(), 3, "queue, exchange, binding: {:?}", world.changes);
    let me = other.open();
    other.publish(me, "x", "a.b", Fields::default(), "m");
    assert_eq!(other.take(me, "q"), ["m"]);
}

// Priorities

#[test]
fn higher_priorities_come_first_and_those_above_the_highest_count_as_it() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-max-priority", Value::U8(5))]));
    for (number, body) in [(0, "a"), (3, "b"), (200, "c"), (5, "d"), (3, "e")] {
        world.publish(me, "", "q", priority(number), body);
    }
    assert_eq!(bodies(&world.call(me, 1, get("q"))), ["c"]);
    world.tell(me, 1, nack(1, false, true));
    assert_eq!(world.take(me, "q"), ["c", "d", "b", "e", "a"]);
}

// Versions

#[test]
fn version_4_refuses_transient_queues_that_are_not_exclusive() {
    let mut world = World::with(Config { compat: Compat::V4, ..Config::default() });
    let me = world.open();
    assert_eq!(world.call(me, 1, queue::Declare { exclusive: true, ..declare("mine") }).len(), 1);
    let (code, text, hard) = refusal(&world.call(me, 1, declare("q")));
    assert!(code == 541 && hard && text.contains("transient_nonexcl_queues"), "{text}");
}

#[test]
fn what_passes_straight_through_is_not_stored() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.tell(me, 1, no_ack("q", "t"));
    world.tell(me, 1, confirm::Select { nowait: false });
    let sends = world.publish(me, "", "q", persistent(), "m");
    assert_eq!(bodies(&sends), ["m"]);
    assert_eq!(sends.last(), Some(&Send::Ack { channel: 1, tag: 1, multiple: false }));
    assert!(!world.journal.iter().any(|op| matches!(op, Journal::Append { .. })));
}
