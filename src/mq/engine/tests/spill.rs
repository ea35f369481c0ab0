//! What is in no log and leaves memory: its file is no longer than what waits.

use super::support::*;
use crate::mq::engine::{Config, Journal};
use crate::mq::wire::{Fields, Value};

#[test]
fn the_spill_file_begins_later_as_its_messages_are_read() {
    let mut world = World::with(Config { page_above: 0, spill_above: 0, ..Config::default() });
    let me = world.open();
    world.tell(
        me,
        1,
        queue::Declare { arguments: table(&[("x-max-priority", Value::U8(1))]), ..declare("q") },
    );
    for number in 0..5000 {
        let fields = Fields { priority: Some(u8::from(number % 2 == 1)), ..Fields::default() };
        world.publish(me, "", "q", fields, "m");
    }
    let below = |world: &World| {
        let told = world.journal.iter().filter_map(|op| match op {
            Journal::Unspill { below, .. } => Some(*below),
            _ => None,
        });
        told.max()
    };
    let no_ack = basic::Get { ticket: 0, queue: "q", no_ack: true };
    while below(&world).is_none_or(|below| below < 2000) {
        world.call(me, 1, no_ack);
        world.read_back(me);
    }
    // Not before all of the higher priority was read, which stood between what has the lower.
    assert!(world.counts("q").0 < 2500);
    let spilled = world.journal.iter().filter(|op| matches!(op, Journal::Spill { .. })).count() as u64;
    assert!(below(&world).unwrap() < spilled, "{:?} of {spilled}", below(&world));
    world.tell(me, 1, queue::Purge { ticket: 0, queue: "q", nowait: false });
    assert!(below(&world).unwrap() >= spilled);
}
