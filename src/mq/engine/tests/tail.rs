//! The ends of queues: limits, expiry, dead letters, and what lives on disk.

use super::support::*;
use crate::mq::engine::{Compat, Config, Gone, Journal, Place, QueueKind, Recovered, Reply, Send};
use crate::mq::wire::{Array, Fields, Table, Value};

fn queue_with(name: &'static str, entries: &[(&str, Value<'_>)]) -> queue::Declare<'static> {
    queue::Declare { arguments: table(entries), ..declare(name) }
}

fn dead_to<'a>(queue: &'a str) -> [(&'static str, Value<'a>); 2] {
    [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text(queue))]
}

fn deaths(headers: Table<'_>) -> Vec<(String, String, i64)> {
    let Some(Value::Array(array)) = headers.get("x-death") else { return Vec::new() };
    let array: Array<'_> = array;
    let death = |value: Value<'_>| {
        let Value::Table(death) = value else { panic!("a death is a table") };
        let text = |name: &str| death.get(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap();
        (text("queue"), text("reason"), death.get("count").and_then(|count| count.as_integer()).unwrap())
    };
    array.iter().map(death).collect()
}

// Limits

#[test]
fn the_oldest_goes_when_a_queue_is_full_in_messages_or_bytes() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("count", &[("x-max-length", Value::U8(2))]));
    world.tell(me, 1, queue_with("bytes", &[("x-max-length-bytes", Value::U8(5))]));
    world.fill(me, "count", &["1", "2", "3"]);
    world.fill(me, "bytes", &["aa", "bb", "cc", "toolarge"]);
    assert_eq!((world.take(me, "count"), world.take(me, "bytes")), (vec!["2".into(), "3".into()], vec![]));
    // What is unacknowledged does not count.
    world.fill(me, "count", &["1", "2"]);
    let [(_, _, tag)] = delivered(&world.call(me, 1, get("count")))[..] else { panic!("one message") };
    world.fill(me, "count", &["3"]);
    assert_eq!(world.counts("count"), (2, 1));
    world.tell(me, 1, nack(tag, false, true));
    assert_eq!(world.take(me, "count"), ["2", "3"], "what comes back to a full queue is the oldest");
}

#[test]
fn a_queue_without_room_still_hands_on_to_a_consumer() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-max-length", Value::U8(0))]));
    world.fill(me, "q", &["lost"]);
    world.tell(me, 1, basic::Consume { no_ack: true, ..consume("q", "t") });
    assert_eq!(bodies(&world.publish(me, "", "q", Fields::default(), "through")), ["through"]);
}

#[test]
fn reject_publish_dlx_refuses_and_dead_letters() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("dead"));
    let mut arguments = dead_to("dead").to_vec();
    arguments.extend([("x-max-length", Value::U8(1)), ("x-overflow", Value::text("reject-publish-dlx"))]);
    world.tell(me, 1, queue_with("q", &arguments));
    world.tell(me, 1, confirm::Select { nowait: false });
    world.fill(me, "q", &["1"]);
    let sends = world.publish(me, "", "q", Fields::default(), "2");
    assert_eq!(sends, [Send::Nack { channel: 1, tag: 2 }]);
    let dead = world.take_messages(me, "dead");
    assert_eq!(deaths(dead[0].headers()), [("q".into(), "maxlen".into(), 1)]);
}

// Expiry

#[test]
fn the_smaller_time_to_live_holds_and_expiry_is_at_the_front() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-message-ttl", Value::U16(100))]));
    let own = |text: &'static [u8]| Fields { expiration: Some(text), ..Fields::default() };
    world.publish(me, "", "q", Fields::default(), "queue's");
    world.publish(me, "", "q", own(b"30"), "own");
    world.publish(me, "", "q", own(b"500"), "longer");
    world.pass(50);
    assert_eq!(world.counts("q").0, 3, "the second waits behind the first, as in RabbitMQ's classic queues");
    world.pass(49);
    assert_eq!(world.counts("q").0, 3);
    world.pass(1);
    assert_eq!(world.counts("q").0, 0);
}

#[test]
fn a_message_with_no_time_at_all_reaches_a_consumer_that_is_ready() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-message-ttl", Value::U8(0))]));
    world.fill(me, "q", &["lost"]);
    assert_eq!(world.counts("q").0, 0);
    world.tell(me, 1, basic::Consume { no_ack: true, ..consume("q", "t") });
    assert_eq!(bodies(&world.publish(me, "", "q", Fields::default(), "taken")), ["taken"]);
}

#[test]
fn a_message_with_no_time_at_all_does_not_come_back() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("q", &[("x-message-ttl", Value::U8(0))]));
    world.tell(me, 1, consume("q", "t"));
    assert_eq!(bodies(&world.publish(me, "", "q", Fields::default(), "once")), ["once"]);
    assert_eq!(bodies(&world.call(me, 1, basic::Reject { delivery_tag: 1, requeue: true })), [""; 0]);
    assert_eq!(world.counts("q").0, 0);
}

#[test]
fn an_unused_queue_is_deleted_and_use_starts_its_time_anew() {
    let mut world = World::new();
    let me = world.open();
    let declared = queue_with("q", &[("x-expires", Value::U16(1000))]);
    world.tell(me, 1, declared);
    world.pass(900);
    world.tell(me, 1, declared);
    world.pass(900);
    world.tell(me, 1, get("q"));
    world.pass(900);
    world.tell(me, 1, consume("q", "t"));
    world.pass(5000);
    world.tell(me, 1, basic::Cancel { consumer_tag: "t", nowait: false });
    world.pass(999);
    assert!(world.engine.queue("q").is_some());
    world.pass(1);
    assert!(world.engine.queue("q").is_none());
}

#[test]
fn who_never_acknowledges_loses_the_channel() {
    let mut world = World::with(Config { consumer_timeout_ms: Some(120_000), ..Config::default() });
    let me = world.open();
    world.tell(me, 1, declare("q"));
    world.tell(me, 1, consume("q", "t"));
    world.fill(me, "q", &["1"]);
    world.pass(120_000);
    assert_eq!(world.out.to(me), []);
    world.pass(60_000);
    let (code, text, _) = refusal(world.out.to(me));
    assert!(code == 406 && text.contains("delivery acknowledgement on channel 1 timed out"), "{text}");
    assert_eq!(world.counts("q"), (1, 0));
}

// Dead letters

#[test]
fn deaths_are_counted_by_queue_and_reason_the_latest_first() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue_with("work", &dead_to("wait")));
    let mut wait = dead_to("work").to_vec();
    wait.push(("x-message-ttl", Value::U8(10)));
    world.tell(me, 1, queue_with("wait", &wait));
    world.fill(me, "work", &["job"]);
    for _ in 0..3 {
        world.tell(me, 1, get("work"));
        world.tell(me, 1, nack(0, true, false));
        world.pass(10);
    }
    let messages = world.take_messages(me, "work");
    let headers = messages[0].headers();
    assert_eq!(
        deaths(headers),
        [("wait".into(), "expired".into(), 3), ("work".into(), "rejected".into(), 3)]
    );
    let first = |name: &str| headers.get(name).and_then(|value| value.as_str());
    assert_eq!(first("x-first-death-queue"), Some("work"));
    assert_eq!(first("x-first-death-reason"), Some("rejected"));
    assert_eq!(first("x-last-death-reason"), None, "3.x in the recorded version does not write it");
}

#[test]
fn what_would_come_back_by_itself_is_dropped() {
    let mut world = World::new();
    let me = world.open();
    for (name, next) in [("a", "b"), ("b", "a")] {
        let mut arguments = dead_to(next).to_vec();
        arguments.push(("x-message-ttl", Value::U8(10)));
        world.tell(me, 1, queue_with(name, &arguments));
    }
    world.fill(me, "a", &["m"]);
    world.pass(15);
    assert_eq!((world.counts("a").0, world.counts("b").0), (0, 1));
    world.pass(100);
    assert_eq!((world.counts("a").0, world.counts("b").0), (0, 0));
}

#[test]
fn version_4_believes_no_deaths_of_publishers() {
    for (compat, expected) in [(Compat::V3, 6), (Compat::V4, 1)] {
        let mut world = World::with(Config { compat, ..Config::default() });
        let me = world.open();
        world.tell(me, 1, queue::Declare { durable: true, ..declare("dead") });
        world.tell(me, 1, queue::Declare { durable: true, ..queue_with("q", &dead_to("dead")) });
        let mut forged = crate::mq::wire::ArrayBuf::new();
        let death = table(&[
            ("queue", Value::text("q")),
            ("reason", Value::text("rejected")),
            ("count", Value::I64(5)),
        ]);
        forged.push(Value::Table(death));
        let headers = table(&[("x-death", Value::Array(forged.as_array()))]);
        world.publish(me, "", "q", Fields { headers: Some(headers), ..Fields::default() }, "m");
        world.tell(me, 1, get("q"));
        world.tell(me, 1, nack(1, false, false));
        let messages = world.take_messages(me, "dead");
        assert_eq!(deaths(messages[0].headers()), [("q".into(), "rejected".into(), expected)], "{compat:?}");
    }
}

#[test]
fn a_quorum_queue_counts_returns_and_lets_go_after_its_limit() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, declare("dead"));
    let mut arguments = dead_to("dead").to_vec();
    arguments.extend([("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::U8(2))]);
    world.tell(me, 1, queue::Declare { durable: true, ..queue_with("q", &arguments) });
    assert_eq!(world.engine.queue("q").map(|queue| queue.kind), Some(QueueKind::Quorum));
    world.publish(me, "", "q", persistent(), "poison");
    let mut counts = Vec::new();
    for tag in 1..=3 {
        let sends = world.call(me, 1, get("q"));
        let [Send::GetOk { message, .. }] = &sends[..] else { panic!("{sends:?}") };
        counts.push(message.headers().get("x-delivery-count").and_then(|value| value.as_integer()));
        world.tell(me, 1, nack(tag, false, true));
    }
    assert_eq!(counts, [None, Some(1), Some(2)]);
    let dead = world.take_messages(me, "dead");
    assert_eq!(deaths(dead[0].headers()), [("q".into(), "delivery_limit".into(), 1)]);
    let requeues = world.journal.iter().filter(|op| matches!(op, Journal::Requeue { .. })).count();
    assert_eq!(requeues, 2, "what came back is recorded");
}

#[test]
fn a_stored_dead_letter_is_let_go_of_when_its_new_queue_has_it() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("dead") });
    world.tell(me, 1, queue::Declare { durable: true, ..queue_with("q", &dead_to("dead")) });
    world.publish(me, "", "q", persistent(), "m");
    world.tell(me, 1, get("q"));
    world.tell(me, 1, nack(1, false, false));
    world.pass(100);
    let (q, dead) = (world.engine.queue_id("q").unwrap(), world.engine.queue_id("dead").unwrap());
    assert_eq!((world.live(q).len(), world.live(dead).len()), (1, 1), "in both logs until it is stored");
    world.stored(dead, 1);
    world.pass(100);
    assert_eq!((world.live(q).len(), world.live(dead).len()), (0, 1));
    assert!(world.journal.iter().any(|op| matches!(op, Journal::Ack { reason: Gone::Rejected, .. })));
}

// Disk

/// A broker whose memory is short at once.
fn short_of_memory() -> World {
    World::with(Config { page_above: 0, spill_above: 0, ..Config::default() })
}

#[test]
fn a_long_queue_is_kept_on_disk_and_comes_back_in_order() {
    for fields in [persistent(), Fields::default()] {
        let mut world = short_of_memory();
        let me = world.open();
        world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
        for number in 0..5000 {
            world.publish(me, "", "q", fields, &number.to_string());
        }
        assert!(world.engine.resident() < 300_000, "{}", world.engine.resident());
        assert_eq!(world.counts("q").0, 5000);
        world.tell(me, 1, basic::Consume { no_ack: true, ..consume("q", "t") });
        let mut got = bodies(world.out.to(me));
        let mut cost: u64 = world.out.connections().map(|lane| lane.cost).sum();
        while cost > 0 {
            let (more, read) = world.read_back(me);
            got.extend(more);
            world.out.clear();
            world.engine.written(world.now, me, cost + read, &mut world.out);
            world.journal.extend(world.out.journal.iter().cloned());
            got.extend(bodies(world.out.to(me)));
            cost = world.out.connections().map(|lane| lane.cost).sum();
        }
        let expected: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
        assert_eq!(got, expected);
        assert_eq!(world.engine.resident(), 0);
        let spilled = world.journal.iter().any(|op| matches!(op, Journal::Unspill { .. }));
        assert_eq!(spilled, fields.delivery_mode.is_none(), "the spill file goes when it is read");
    }
}

#[test]
fn basic_get_waits_for_the_disk_and_what_follows_it_waits_too() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    for body in ["1", "2"] {
        world.publish(me, "", "q", persistent(), body);
    }
    let mut world = world.restart(&["q"]);
    let me = world.open();
    assert_eq!(world.call(me, 1, get("q")), [], "on disk");
    let at = crate::mq::engine::At { now: world.now, connection: me, channel: 1 };
    let taken = world.engine.handle(at, &get("q").into(), None, &mut world.out);
    assert_eq!(taken, crate::mq::engine::Taken::Later);
    let id = world.engine.queue_id("q").unwrap();
    let mut messages = world.stored_messages(id, &[(Place::log(0), 2)]);
    world.out.clear();
    world.engine.loaded(world.now, id, 1, &mut messages, &mut world.out);
    let sends = world.out.to(me).to_vec();
    assert_eq!((sends.first(), bodies(&sends)), (Some(&Send::Resume), vec!["1".into()]));
    assert_eq!(bodies(&world.call(me, 1, get("q"))), ["2"]);
    assert_eq!(world.call(me, 1, get("q")), [Send::Reply { channel: 1, reply: Reply::BasicGetEmpty }]);
}

#[test]
fn after_a_restart_there_is_what_was_not_acknowledged() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    for body in ["1", "2", "3", "4"] {
        world.publish(me, "", "q", persistent(), body);
    }
    world.publish(me, "", "q", Fields::default(), "transient");
    for _ in 0..3 {
        world.tell(me, 1, get("q"));
    }
    world.tell(me, 1, ack(2, false));
    let mut world = world.restart(&["q"]);
    let me = world.open();
    world.tell(me, 1, consume("q", "t"));
    let id = world.engine.queue_id("q").unwrap();
    assert_eq!(world.loads(), [(id, 1, vec![(Place::log(0), 1), (Place::log(2), 2)])], "one question");
    let (got, _) = world.read_back(me);
    assert_eq!(got, ["1", "3", "4"]);
}

#[test]
fn compaction_moves_what_lives_and_keeps_its_order() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    for number in 0..10 {
        world.publish(me, "", "q", persistent(), &number.to_string());
    }
    for _ in 0..4 {
        world.tell(me, 1, get("q"));
    }
    world.tell(me, 1, ack(1, false));
    world.tell(me, 1, ack(3, false));
    let id = world.engine.queue_id("q").unwrap();
    world.out.clear();
    world.engine.compact(id, 8, &mut world.out);
    world.journal.extend(world.out.journal.iter().cloned());
    let live = world.live(id);
    assert_eq!(live.len(), 8);
    assert!(live.iter().all(|(offset, _)| *offset >= 8), "nothing is below: {live:?}");
    world.tell(me, 1, nack(0, true, true));
    let left = world.take(me, "q");
    assert_eq!(left, ["1", "3", "4", "5", "6", "7", "8", "9"]);
    world.pass(100);
    assert_eq!(world.live(id).len(), 0);
}

#[test]
fn a_purge_leaves_what_is_unacknowledged_and_nothing_in_the_log() {
    let mut world = short_of_memory();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    for number in 0..3000 {
        world.publish(me, "", "q", persistent(), &number.to_string());
    }
    world.tell(me, 1, get("q"));
    let sends = world.call(me, 1, queue::Purge { ticket: 0, queue: "q", nowait: false });
    assert_eq!(sends, [], "not before it is stored");
    let id = world.engine.queue_id("q").unwrap();
    let records = world.records(id);
    world.stored(id, records - 1);
    assert_eq!(world.out.to(me), [], "not before all of it is stored");
    world.stored(id, records);
    let answer = Send::Reply { channel: 1, reply: Reply::QueuePurgeOk { messages: 2999 } };
    assert_eq!(world.out.to(me), [answer]);
    world.pass(10);
    assert_eq!((world.live(id).len(), world.counts("q")), (1, (0, 1)));
}

#[test]
fn a_durable_delayed_exchange_keeps_its_messages_over_a_restart() {
    let mut world = World::new();
    let me = world.open();
    let kind = table(&[("x-delayed-type", Value::text("fanout"))]);
    let later =
        exchange::Declare { durable: true, arguments: kind, ..declare_x("later", "x-delayed-message") };
    world.tell(me, 1, later);
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    world.tell(me, 1, bind("q", "later", ""));
    world.tell(me, 1, confirm::Select { nowait: false });
    let delayed = Fields { headers: Some(table(&[("x-delay", Value::U16(500))])), ..persistent() };
    assert_eq!(world.publish(me, "later", "", delayed, "m"), [], "not before it is stored");
    let kept = world.engine.delay_queue("later").unwrap();
    world.stored(kept, 1);
    assert_eq!(world.out.to(me), [Send::Ack { channel: 1, tag: 1, multiple: false }]);
    let live = world.live(kept);

    let mut next = World::new();
    next.engine.define(next.now, &world.engine.definitions(), &mut next.out).unwrap();
    let kept = next.engine.delay_queue("later").unwrap();
    let held = live.into_iter().map(|(offset, message)| (offset, START + 500, message));
    next.engine.recover_delayed(kept, held, 1);
    let me = next.open();
    next.pass(499);
    assert_eq!(next.counts("q").0, 0);
    next.pass(1);
    assert_eq!(next.counts("q").0, 1);
    assert_eq!(next.take(me, "q"), ["m"]);
}

#[test]
fn ten_million_waiting_messages_are_a_run() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    let id = world.engine.queue_id("q").unwrap();
    let messages =
        (0..10_000_000).map(|offset| Recovered { offset, count: 1, priority: 0, size: 100, expires: 0 });
    world.out.clear();
    world.engine.recover_queue(world.now, id, messages, 10_000_000, &mut world.out);
    let view = world.engine.queue("q").unwrap();
    assert_eq!((view.ready, view.ready_bytes, world.engine.resident()), (10_000_000, 1_000_000_000, 0));
    assert_eq!(world.out.journal, [], "nobody wants them yet");
    world.tell(me, 1, get("q"));
    assert_eq!(world.loads(), [(id, 1, vec![(Place::log(0), 512)])]);
    let other = world.open();
    world.tell(other, 1, consume("q", "t"));
    // The rest of what is read ahead, none of it twice.
    let mut next = 512;
    for (number, (queue, asked, runs)) in world.loads().into_iter().enumerate() {
        let [(place, count)] = runs[..] else { panic!("one run") };
        assert_eq!((queue, asked, place.as_log()), (id, 2 + number as u64, Some(next)));
        next += u64::from(count);
    }
    assert!((7000..=8192).contains(&next), "{next}");
}

#[test]
fn what_is_large_is_read_in_small_numbers() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    let id = world.engine.queue_id("q").unwrap();
    let messages =
        (0..1000).map(|offset| Recovered { offset, count: 1, priority: 0, size: 1 << 20, expires: 0 });
    world.engine.recover_queue(world.now, id, messages, 1000, &mut world.out);
    world.tell(me, 1, consume("q", "t"));
    assert_eq!(world.loads(), [(id, 1, vec![(Place::log(0), 4)])], "four times a megabyte");
}

#[test]
fn answers_that_are_short_or_void_are_asked_for_again_in_order() {
    let mut world = World::new();
    let me = world.open();
    world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
    for number in 0..3000 {
        world.publish(me, "", "q", persistent(), &number.to_string());
    }
    let mut world = world.restart(&["q"]);
    let me = world.open();
    world.tell(me, 1, basic::Consume { no_ack: true, ..consume("q", "t") });
    let loads = world.loads();
    assert_eq!(loads.len(), 3);
    let mut got = Vec::new();
    let mut answer = |world: &mut World, (id, number, runs): &(_, u64, Vec<(Place, u32)>), most: usize| {
        let mut messages = world.stored_messages(*id, runs);
        messages.truncate(most);
        world.out.clear();
        world.engine.loaded(world.now, *id, *number, &mut messages, &mut world.out);
        got.extend(bodies(world.out.to(me)));
        world.loads()
    };
    // The first comes in part: what was asked for behind it is void.
    let again = answer(&mut world, &loads[0], 10);
    assert_eq!(again.first().map(|(_, _, runs)| runs[0].0), Some(Place::log(10)));
    for late in &loads[1..] {
        assert_eq!(answer(&mut world, late, 2000), []);
    }
    for load in &again {
        answer(&mut world, load, 2000);
    }
    assert_eq!(got, (0..3000).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn what_nobody_waits_for_is_no_failure() {
    let appends = |world: &World| world.journal.iter().any(|one| matches!(one, Journal::Append { .. }));
    let recovered = || {
        let mut world = World::new();
        let me = world.open();
        world.tell(me, 1, queue::Declare { durable: true, ..declare("q") });
        let id = world.engine.queue_id("q").unwrap();
        let messages = [Recovered { offset: 0, count: 1, priority: 0, size: 100, expires: 0 }];
        world.engine.recover_queue(world.now, id, messages, 1, &mut world.out);
        (world, me, id)
    };
    let (mut world, me, id) = recovered();
    world.tell(me, 1, consume("q", "t"));
    world.tell(me, 1, queue::Purge { ticket: 0, queue: "q", nowait: true });
    // It was purged while it was read.
    world.engine.loaded(world.now, id, 1, &mut Vec::new(), &mut world.out);
    world.publish(me, "", "q", persistent(), "goes on");
    assert!(appends(&world));
    // What somebody waits for is one: who waits is told, and so is who comes later.
    let (mut world, me, id) = recovered();
    let other = world.open();
    world.tell(other, 1, consume("q", "t"));
    assert_eq!(world.call(me, 1, get("q")), []);
    world.out.clear();
    world.engine.loaded(world.now, id, 1, &mut Vec::new(), &mut world.out);
    let gone = "NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart";
    let closed = |method| Send::CloseChannel { channel: 1, code: 404, text: gone.into(), method };
    assert_eq!(world.out.to(me), [closed((60, 70))]);
    assert_eq!(world.out.to(other), [Send::Cancel { channel: 1, consumer: "t".into() }]);
    world.publish(other, "", "q", persistent(), "refused");
    assert!(!appends(&world));
    assert_eq!(world.call(other, 1, get("q")), [closed((60, 70))]);
}
