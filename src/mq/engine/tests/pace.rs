//! Publishers that run ahead of consumers.

use super::support::*;

/// More than a queue may fall behind without anybody waiting.
const MANY: usize = 10_100;

#[test]
fn publishers_owe_what_consumers_have_not_come_to_until_it_is_delivered_or_time_passes() {
    let mut world = World::new();
    let (publisher, consumer) = (world.open(), world.open());
    world.tell(consumer, 1, declare("q"));
    world.fill(publisher, "q", &vec!["x"; MANY]);
    assert_eq!(world.engine.ran_ahead(), 0, "a queue without consumers is for keeping messages");
    world.tell(consumer, 1, qos(300, false));
    assert_eq!(delivered(&world.call(consumer, 1, consume("q", "c"))).len(), 300);
    world.fill(publisher, "q", &["x"; 500]);
    let ahead = world.engine.ran_ahead();
    // All but those that brought it to the limit.
    assert_eq!(ahead, 300);
    assert_eq!(world.engine.pace(ahead, world.now), Some(3));
    world.tell(consumer, 1, ack(250, true));
    assert!(!world.engine.take_paced());
    assert_eq!(world.engine.pace(ahead, world.now), Some(1), "250 more were delivered");
    world.tell(consumer, 1, ack(350, true));
    assert!(world.engine.take_paced());
    assert_eq!(world.engine.pace(ahead, world.now), None);
    // A consumer that takes nothing does not stop publishers.
    world.fill(publisher, "q", &["x"; 1000]);
    let ahead = world.engine.ran_ahead();
    let wait = world.engine.pace(ahead, world.now).unwrap();
    assert!((1..=10).contains(&wait), "{wait} ms");
    assert_eq!(world.engine.pace(ahead, world.now + wait), None);
}
