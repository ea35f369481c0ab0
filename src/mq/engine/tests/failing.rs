//! A disk that fails under one queue: nothing that cannot be kept is promised, and what another log has stays there.

use super::support::*;
use crate::mq::engine::{QueueId, Send};
use crate::mq::wire::{Fields, Value};

fn durable<'a>(name: &'a str, entries: &[(&str, Value<'_>)]) -> queue::Declare<'a> {
    queue::Declare { durable: true, arguments: table(entries), ..declare(name) }
}

fn fail(world: &mut World, queue: QueueId) {
    world.out.clear();
    world.engine.store_failed(world.now, queue, &mut world.out);
}

/// A durable delayed exchange with a durable queue.
fn delaying(world: &mut World, me: crate::mq::engine::ConnectionId) {
    let arguments = table(&[("x-delayed-type", Value::text("direct"))]);
    let later = exchange::Declare { durable: true, arguments, ..declare_x("later", "x-delayed-message") };
    world.tell(me, 1, later);
    world.tell(me, 1, durable("q", &[]));
    world.tell(me, 1, bind("q", "later", "k"));
}

fn later(fields: Fields<'static>) -> Fields<'static> {
    Fields { headers: Some(table(&[("x-delay", Value::I32(100))])), ..fields }
}

#[test]
fn a_delayed_exchange_whose_log_failed_confirms_nothing_that_it_should_store() {
    let mut world = World::new();
    let me = world.open();
    delaying(&mut world, me);
    world.tell(me, 1, confirm::Select { nowait: false });
    let log = world.engine.delay_queue("later").unwrap();
    fail(&mut world, log);
    let kept = world.publish(me, "later", "k", later(persistent()), "kept");
    assert_eq!(kept, [Send::Nack { channel: 1, tag: 1 }]);
    let passing = world.publish(me, "later", "k", later(Fields::default()), "passing");
    assert_eq!(passing, [Send::Ack { channel: 1, tag: 2, multiple: false }]);
    world.pass(100);
    assert_eq!(world.take(me, "q"), ["passing"]);
}

#[test]
fn a_dead_letter_that_cannot_be_stored_stays_in_the_log_of_its_old_queue() {
    let mut world = World::new();
    let me = world.open();
    let dead_letters =
        [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))];
    world.tell(me, 1, durable("dead", &[]));
    world.tell(me, 1, durable("q", &dead_letters));
    world.publish(me, "", "q", persistent(), "m");
    let dead = world.engine.queue_id("dead").unwrap();
    fail(&mut world, dead);
    world.tell(me, 1, get("q"));
    world.tell(me, 1, nack(1, false, false));
    world.pass(100);
    let q = world.engine.queue_id("q").unwrap();
    assert_eq!(world.live(q).len(), 1, "for the next start");
}

#[test]
fn a_dead_letter_that_does_not_fit_is_let_go_of() {
    let mut world = World::new();
    let me = world.open();
    let full = [("x-max-length", Value::U8(0)), ("x-overflow", Value::text("reject-publish"))];
    let dead_letters =
        [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("full"))];
    world.tell(me, 1, durable("full", &full));
    world.tell(me, 1, durable("q", &dead_letters));
    world.publish(me, "", "q", persistent(), "m");
    world.tell(me, 1, get("q"));
    world.tell(me, 1, nack(1, false, false));
    world.pass(100);
    let q = world.engine.queue_id("q").unwrap();
    assert_eq!(world.live(q).len(), 0);
}

#[test]
fn what_was_held_back_for_a_queue_that_cannot_store_it_stays_where_it_was() {
    let mut world = World::new();
    let me = world.open();
    delaying(&mut world, me);
    world.publish(me, "later", "k", later(persistent()), "m");
    let queue = world.engine.queue_id("q").unwrap();
    fail(&mut world, queue);
    world.pass(200);
    let log = world.engine.delay_queue("later").unwrap();
    assert_eq!(world.live(log).len(), 1, "for the next start");
}
