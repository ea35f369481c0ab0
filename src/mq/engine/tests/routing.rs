//! The rules of routing one by one: exchanges of every kind, what they bind, and copies.

use super::support::*;
use crate::mq::engine::{Change, Compat, Config, DefinitionError, Reply, Send};
use crate::mq::wire::{Fields, Table, Value};

fn exchange_with(
    name: &'static str,
    kind: &'static str,
    entries: &[(&str, Value<'_>)],
) -> exchange::Declare<'static> {
    exchange::Declare { arguments: table(entries), ..declare_x(name, kind) }
}

fn with_headers(entries: &[(&str, Value<'_>)]) -> Fields<'static> {
    Fields { headers: Some(table(entries)), ..Fields::default() }
}

#[test]
fn each_kind_of_exchange_routes_by_its_rule_and_each_queue_gets_a_message_once() {
    let mut world = World::new();
    let me = world.open();
    for name in ["a", "b"] {
        world.tell(me, 1, declare(name));
    }
    for (queue, exchange, key) in [
        ("a", "amq.direct", "x"),
        ("a", "amq.direct", "y"),
        ("b", "amq.direct", "y"),
        ("a", "amq.fanout", ""),
        ("a", "amq.fanout", "again"),
        ("b", "amq.topic", "order.*"),
        ("b", "amq.topic", "order.#"),
        ("a", "amq.topic", "#.paid"),
    ] {
        assert_eq!(
            world.call(me, 1, bind(queue, exchange, key)),
            [Send::Reply { channel: 1, reply: Reply::QueueBindOk }]
        );
    }
    for (exchange, key, in_a, in_b) in [
        ("amq.direct", "x", 1, 0),
        ("amq.direct", "y", 1, 1),
        ("amq.direct", "z", 0, 0),
        ("amq.fanout", "whatever", 1, 0),
        ("amq.topic", "order.new", 0, 1),
        ("amq.topic", "order.eu.paid", 1, 1),
        ("", "a", 1, 0),
    ] {
        world.publish(me, exchange, key, Fields::default(), "m");
        let got = (world.take(me, "a").len(), world.take(me, "b").len());
        assert_eq!(got, (in_a, in_b), "{exchange} {key}");
    }
}

#[test]
fn headers_match_all_any_and_with_x() {
    let mut world = World::new();
    let me = world.open();
    for (name, kind) in [("all", "all"), ("any", "any"), ("allx", "all-with-x"), ("anyx", "any-with-x")] {
        world.tell(me, 1, declare(name));
        let arguments = table(&[
            ("x-match", Value::text(kind)),
            ("region", Value::text("eu")),
            ("amount", Value::U8(5)),
            ("x-tag", Value::Void),
        ]);
        world.tell(me, 1, queue::Bind { arguments, ..bind(name, "amq.headers", "") });
    }
    let mut routes = |headers: &[(&str, Value<'_>)]| {
        world.publish(me, "amq.headers", "", with_headers(headers), "m");
        ["all", "any", "allx", "anyx"].map(|name| world.take(me, name).len())
    };
    // Numbers are the same whatever their type; a void argument asks for the name only.
    assert_eq!(routes(&[("region", Value::text("eu")), ("amount", Value::I64(5))]), [1, 1, 0, 1]);
    let all = [("region", Value::text("eu")), ("amount", Value::I64(5)), ("x-tag", Value::Bool(true))];
    assert_eq!(routes(&all), [1, 1, 1, 1]);
    assert_eq!(routes(&[("x-tag", Value::U8(1))]), [0, 0, 0, 1]);
    assert_eq!(routes(&[("region", Value::text("us"))]), [0; 4]);
    let wrong = queue::Bind {
        arguments: table(&[("x-match", Value::text("some"))]),
        ..bind("all", "amq.headers", "")
    };
    assert_eq!(refusal(&world.call(me, 1, wrong)).0, 406);
}

#[test]
fn exchanges_lead_to_exchanges_and_rounds_end() {
    let mut world = World::new();
    let me = world.open();
    for name in ["one", "two"] {
        world.tell(me, 1, declare_x(name, "fanout"));
    }
    for (source, destination) in [("one", "two"), ("two", "one")] {
        let bind = exchange::Bind {
            ticket: 0,
            destination,
            source,
            routing_key: "",
            nowait: false,
            arguments: Table::default(),
        };
        world.tell(me, 1, bind);
    }
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, bind("q", "two", ""));
    world.publish(me, "one", "", Fields::default(), "m");
    assert_eq!(world.take(me, "q"), ["m"]);
}

#[test]
fn the_alternate_exchange_gets_what_finds_no_binding() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, exchange_with("main", "direct", &[("alternate-exchange", Value::text("rest"))]));
    world.tell(me, 1, exchange_with("rest", "fanout", &[("alternate-exchange", Value::text("main"))]));
    for (queue, exchange, key) in [("known", "main", "k"), ("unknown", "rest", "")] {
        world.tell(me, 1, declare(queue));
        world.tell(me, 1, bind(queue, exchange, key));
    }
    world.publish(me, "main", "k", Fields::default(), "1");
    world.publish(me, "main", "other", Fields::default(), "2");
    assert_eq!((world.take(me, "known"), world.take(me, "unknown")), (vec!["1".into()], vec!["2".into()]));
    // Each is the other's alternate: nobody takes it, and the round ends.
    world.tell(me, 1, delete("unknown"));
    let mandatory = basic::Publish { mandatory: true, ..publish("main", "other") };
    let sends = world.publish_as(me, mandatory, Fields::default(), "3");
    assert!(matches!(&sends[..], [Send::Return { code: 312, .. }]), "{sends:?}");
}

#[test]
fn auto_delete_exchanges_and_queues_go_with_the_last_that_used_them() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, exchange::Declare { auto_delete: true, ..declare_x("x", "fanout") });
    world.tell(me, 1, queue::Declare { auto_delete: true, ..declare("q") });
    world.tell(me, 1, bind("q", "x", ""));
    world.pass(1_000_000);
    assert!(world.engine.queue("q").is_some(), "it never had a consumer");
    world.tell(me, 1, consume("q", "t"));
    world.tell(me, 1, basic::Cancel { consumer_tag: "t", nowait: false });
    assert!(world.engine.queue("q").is_none());
    assert!(world.engine.exchanges().all(|exchange| &*exchange.name != "x"), "its last binding went");
}

#[test]
fn copies_go_to_cc_and_bcc_and_bcc_is_not_shown() {
    let mut world = World::new();
    let me = world.open();
    for name in ["a", "b", "c"] {
        world.tell(me, 1, declare(name));
    }
    let list = |name: &str| {
        let mut array = crate::mq::wire::ArrayBuf::new();
        array.push(Value::text(name));
        array
    };
    let (cc, bcc) = (list("b"), list("c"));
    let headers = with_headers(&[("CC", Value::Array(cc.as_array())), ("BCC", Value::Array(bcc.as_array()))]);
    world.publish(me, "", "a", headers, "m");
    for name in ["a", "b", "c"] {
        let messages = world.take_messages(me, name);
        let headers = messages[0].headers();
        assert!(headers.get("CC").is_some() && headers.get("BCC").is_none(), "{name}: {headers:?}");
    }
    let wrong = with_headers(&[("CC", Value::text("b"))]);
    assert_eq!(refusal(&world.publish(me, "", "a", wrong, "m")).0, 406);
}

#[test]
fn consistent_hashing_keeps_a_key_on_its_queue_and_spreads_keys_by_weight() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare_x("hash", "x-consistent-hash"));
    for (name, weight) in [("light", "1"), ("heavy", "3")] {
        world.tell(me, 1, declare(name));
        world.tell(me, 1, bind(name, "hash", weight));
    }
    for number in 0..400 {
        for _ in 0..2 {
            world.publish(me, "hash", &format!("key-{number}"), Fields::default(), &number.to_string());
        }
    }
    let (light, heavy) = (world.take(me, "light"), world.take(me, "heavy"));
    assert!(light.chunks(2).chain(heavy.chunks(2)).all(|pair| pair[0] == pair[1]), "pairs stay together");
    assert_eq!(light.len() + heavy.len(), 800);
    assert!((120..=280).contains(&light.len()), "about a quarter: {}", light.len());
    assert_eq!(refusal(&world.call(me, 1, bind("light", "hash", "much"))).0, 406);
}

#[test]
fn an_exchange_that_chooses_at_random_gives_each_message_to_one_queue_of_all() {
    let mut world = World::with(Config::like(Compat::V4));
    let me = world.open();
    world.tell(me, 1, declare_x("any", "x-local-random"));
    for name in ["a", "b", "c"] {
        world.tell(me, 1, queue::Declare { durable: true, ..declare(name) });
        world.tell(me, 1, bind(name, "any", ""));
    }
    for number in 0..300 {
        world.publish(me, "any", "whatever", Fields::default(), &number.to_string());
    }
    let taken = ["a", "b", "c"].map(|name| world.take(me, name));
    assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 300);
    assert!(
        taken.iter().all(|messages| (60..=140).contains(&messages.len())),
        "{:?}",
        taken.map(|all| all.len())
    );
    let refused = refusal(&world.call(me, 1, bind("a", "any", "key")));
    assert_eq!(
        refused,
        (406, "PRECONDITION_FAILED - Non empty binding 'key' key not permitted".into(), false)
    );
    // RabbitMQ 3 has no such kind.
    let mut world = World::new();
    let me = world.open();
    assert_eq!(refusal(&world.call(me, 1, declare_x("any", "x-local-random"))).0, 503);
}

#[test]
fn a_delayed_exchange_lets_messages_go_in_time() {
    let mut world = World::new();
    let me = world.open();
    world.tell(
        me,
        1,
        exchange_with("later", "x-delayed-message", &[("x-delayed-type", Value::text("direct"))]),
    );
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, bind("q", "later", "k"));
    for (delay, body) in [(300, "c"), (100, "a"), (200, "b"), (0, "now")] {
        world.publish(me, "later", "k", with_headers(&[("x-delay", Value::I32(delay))]), body);
    }
    assert_eq!(world.take(me, "q"), ["now"]);
    world.pass(250);
    assert_eq!(world.take(me, "q"), ["a", "b"]);
    world.pass(50);
    assert_eq!(world.take(me, "q"), ["c"]);
    let none = declare_x("bad", "x-delayed-message");
    assert_eq!(refusal(&world.call(me, 1, none)).0, 406);
}

#[test]
fn the_bindings_of_an_exchange_that_goes_are_named_one_by_one() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, exchange::Declare { durable: true, ..declare_x("x", "topic") });
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.tell(me, 1, declare("transient"));
    for (queue, key) in [("q", "a"), ("q", "b"), ("transient", "c")] {
        world.tell(me, 1, bind(queue, "x", key));
    }
    world.changes.clear();
    world.tell(me, 1, exchange::Delete { ticket: 0, exchange: "x", if_unused: false, nowait: false });
    let named = world.changes.iter().map(|change| match change {
        Change::Unbound(binding) => {
            format!("{} -> {} by {}", binding.source, binding.destination, binding.routing_key)
        }
        Change::ExchangeDeleted(name) => name.to_string(),
        other => format!("{other:?}"),
    });
    assert_eq!(named.collect::<Vec<_>>(), ["x -> q by a", "x -> q by b", "x"]);
}

#[test]
fn a_definition_that_makes_no_sense_may_be_left_alone() {
    let mut world = World::new();
    let text = r#"{"queues": [
        {"name": "bad", "durable": true, "auto_delete": false, "arguments": {"x-max-length": -1}},
        {"name": "good", "durable": true, "auto_delete": false, "arguments": {}}
    ], "exchanges": [], "bindings": [], "policies": []}"#;
    let definitions = serde_json::from_str(text).unwrap();
    let mut refused = Vec::new();
    let mut leave = |error: DefinitionError| {
        refused.push(error.name);
        Ok(())
    };
    world.engine.define_unless(world.now, &definitions, &mut world.out, &mut leave).unwrap();
    assert_eq!(refused, ["bad"]);
    assert!(world.engine.queue("good").is_some());
    assert!(world.engine.define(world.now, &definitions, &mut world.out).is_err());
}
