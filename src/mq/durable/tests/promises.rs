//! What an answer promises, and what costs the disk nothing.

use super::*;
use crate::mq::durable::{Batch, Edit, metadata};
use crate::mq::wire::method::exchange;
use crate::storage::disk::sim::Faults;

const START: Millis = 1_700_000_000_000;

impl World {
    /// All that is appended is synced, and what is said then.
    fn hear_synced(&mut self) -> Vec<Out> {
        self.work();
        let _ = self.link.shared.with_store(Store::flush);
        self.work();
        self.hear()
    }

    fn bytes_appended(&self) -> u64 {
        self.durable.counts().bytes_appended
    }

    /// Publishes a message with a delivery mode.
    fn publish_as(&mut self, exchange: &str, routing_key: &[u8], mode: u8) {
        self.published += 1;
        self.open.insert(self.published, self.published);
        let publish = basic::Publish { exchange, routing_key, ..basic::Publish::default() };
        let content = Content { properties: vec![0x10, 0, mode].into(), body: "1".into() };
        self.give(&publish.into(), Some(content));
    }
}

fn purged(sends: &[Out]) -> Option<u32> {
    sends.iter().find_map(|send| match send {
        Out::Reply { reply: Reply::QueuePurgeOk { messages }, .. } => Some(*messages),
        _ => None,
    })
}

#[test]
fn a_purge_is_answered_once_it_is_on_disk_and_nothing_comes_back() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.declare_all();
    (1..=50).for_each(|number| world.publish("plain", number, 0));
    world.sync();
    world.tell(queue::Purge { queue: "plain", nowait: false, ..queue::Purge::default() });
    world.work();
    assert_eq!(purged(&world.hear()), None, "nothing is synced");
    assert_eq!(purged(&world.hear_synced()), Some(50));
    // The channel goes on, and an empty queue has nothing to wait for.
    world.tell(queue::Purge { queue: "plain", nowait: false, ..queue::Purge::default() });
    assert_eq!(purged(&world.hear()), Some(0));
    drop(world);
    disk.power_cut(&mut fastrand::Rng::with_seed(1));
    let mut world = World::start(&disk, START + 1000).unwrap();
    assert_eq!(world.contents_of("plain"), [] as [u64; 0]);
}

#[test]
fn definitions_that_cannot_be_stored_are_told_and_never_count_as_stored() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.declare_all();
    world.sync();
    let stored = world.owner.0.lock().unwrap().stored;
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    world.tell(queue::Declare { queue: "late", durable: true, ..queue::Declare::default() });
    world.hear_synced();
    let inner = world.owner.0.lock().unwrap();
    assert_eq!((inner.stored, inner.failed), (stored, true));
    assert!(world.durable.failure().is_some());
}

#[test]
fn what_is_in_a_log_is_safe_once_the_queue_is_defined_on_disk() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.tell(queue::Declare { queue: "late", durable: true, ..queue::Declare::default() });
    world.publish("late", 1, 0);
    world.work();
    let id = world.owner.0.lock().unwrap().engine.queue_id("late").unwrap();
    // The flusher takes one log after the other, and may take this one first.
    let shared = Arc::clone(&world.link.shared);
    teller::tell(&shared, &mut vec![teller::Told::Stored(0, id, 1)]);
    world.hear();
    assert!(world.confirmed.is_empty(), "without its definition a start would not find it");
    let _ = shared.with_store(Store::flush);
    let mut told = vec![];
    shared.told.take_now(&mut told);
    told.retain(|one| matches!(one, teller::Told::Definitions(_)));
    teller::tell(&shared, &mut told);
    world.hear();
    assert_eq!(world.confirmed.len(), 1, "what was told before counts now");
    world.publish("late", 2, 0);
    world.sync();
    assert_eq!(world.confirmed.len(), 2);
    assert!(shared.lock(&shared.undefined).is_empty());
}

#[test]
fn what_is_not_to_be_kept_never_touches_the_disk() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.declare_all();
    world.sync();
    let before = world.bytes_appended();
    world.tell(queue::Declare { queue: "fleeting", ..queue::Declare::default() });
    for _ in 0..200 {
        world.publish_as("", b"plain", 1);
        world.publish_as("", b"fleeting", 2);
    }
    world.work();
    world.hear();
    assert_eq!(world.confirmed.len(), 400);
    for queue in ["plain", "fleeting"] {
        for _ in 0..100 {
            let (tag, _) = world.get(queue).unwrap();
            world.tell(basic::Nack { delivery_tag: tag, multiple: false, requeue: true });
            let (tag, _) = world.get(queue).unwrap();
            world.tell(basic::Ack { delivery_tag: tag, multiple: false });
        }
        world.tell(queue::Purge { queue, nowait: false, ..queue::Purge::default() });
        assert_eq!(purged(&world.hear()), Some(100), "nothing to wait for");
    }
    world.sync();
    assert_eq!(world.bytes_appended(), before);
    // The measure measures.
    world.publish_as("", b"plain", 2);
    world.sync();
    assert!(world.bytes_appended() > before);
}

#[test]
fn arguments_that_json_cannot_say_survive_a_restart() {
    const KEY: &str = "key";
    let mode =
        |value: u32| TableBuf::new().with("x-queue-master-locator", Value::Decimal { scale: 1, value });
    let declare = |world: &mut World, arguments: &TableBuf| {
        let arguments: Table<'_> = arguments.as_table();
        let name = queue::Declare { queue: "typed", durable: true, arguments, ..Default::default() };
        world.tell(name);
    };
    let bind = |world: &mut World, key: &str| {
        let arguments = TableBuf::new().with("x", Value::Bytes(b"\x80")).with("n", Value::U8(5));
        let arguments: Table<'_> = arguments.as_table();
        let routing_key = key;
        let bind =
            queue::Bind { queue: "typed", exchange: "ex", routing_key, arguments, ..Default::default() };
        world.tell(bind);
    };
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.tell(exchange::Declare { exchange: "ex", kind: "direct", durable: true, ..Default::default() });
    declare(&mut world, &mode(5));
    bind(&mut world, KEY);
    bind(&mut world, "other");
    world.close();

    let mut world = World::start(&disk, START + 1000).unwrap();
    declare(&mut world, &mode(5));
    world.hear();
    world.publish_as("ex", KEY.as_bytes(), 2);
    world.publish_as("ex", b"other", 2);
    world.sync();
    assert_eq!(world.contents_of("typed").len(), 2);
    let arguments = TableBuf::new().with("n", Value::I64(5)).with("x", Value::Bytes(b"\x80"));
    let arguments: Table<'_> = arguments.as_table();
    world.tell(queue::Unbind {
        queue: "typed",
        exchange: "ex",
        routing_key: KEY,
        arguments,
        ..Default::default()
    });
    world.close();

    let mut world = World::start(&disk, START + 2000).unwrap();
    world.publish_as("ex", KEY.as_bytes(), 2);
    world.publish_as("ex", b"other", 2);
    world.sync();
    assert_eq!(world.contents_of("typed").len(), 3, "the other binding only");
    declare(&mut world, &mode(6));
    let sends = std::mem::take(&mut world.owner.0.lock().unwrap().sends);
    assert!(sends.iter().any(|send| matches!(send, Out::CloseChannel { code: 406, .. })), "{sends:?}");
}

#[test]
fn a_sync_that_is_over_before_the_writer_looks_again_is_heard_of() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.declare_all();
    world.sync();
    let stored = world.owner.0.lock().unwrap().stored;
    world.tell(queue::Delete { queue: "plain", ..queue::Delete::default() });
    // On a disk in memory a sync takes no time: the flusher is done, and the teller has told, before the writer has
    // noted who waits for it.
    let shared = Arc::clone(&world.link.shared);
    let (mut batches, mut told) = (vec![], vec![]);
    shared.inbox.take_now(&mut batches);
    {
        let mut writer = shared.lock(&world.durable.writer);
        let writer = writer.as_mut().unwrap();
        let bytes = writer.gather(&mut batches);
        assert!(writer.append_definitions());
        shared.with_store(Store::flush).unwrap();
        shared.told.take_now(&mut told);
        assert!(!told.is_empty(), "it is synced");
        teller::tell(&shared, &mut told);
        writer.await_definitions();
        shared.written(bytes);
    }
    world.work();
    let inner = world.owner.0.lock().unwrap();
    assert_eq!((inner.stored, inner.changes), (stored + 1, stored + 1), "queue.delete-ok may go out");
}

#[test]
fn a_sync_that_has_failed_before_the_writer_looks_again_is_heard_of() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.sync();
    let shared = Arc::clone(&world.link.shared);
    let (done, stored) = tokio::sync::oneshot::channel();
    let edit = Edit::Keep { key: metadata::key("kind", &["name"]), value: Some(1.into()), done };
    let mut batches = vec![Batch { host: usize::MAX, edits: vec![edit], ..Batch::default() }];
    let mut told = vec![];
    let mut writer = shared.lock(&world.durable.writer);
    let writer = writer.as_mut().unwrap();
    writer.gather(&mut batches);
    assert!(writer.append_definitions());
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    let _ = shared.with_store(Store::flush);
    shared.told.take_now(&mut told);
    teller::tell(&shared, &mut told);
    assert!(shared.failure.borrow().is_some());
    writer.await_definitions();
    assert!(stored.blocking_recv().is_err(), "whoever waits is told that it is not kept");
}

#[test]
fn publishers_wait_for_a_disk_that_does_not_sync() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, START).unwrap();
    world.declare_all();
    world.sync();
    let body = vec![b'1'; 1 << 20];
    let mut sent = 0;
    // The writer writes; nothing is synced.
    while !world.link.is_behind() {
        sent += 1;
        assert!(sent < 80, "nobody waits");
        let publish = basic::Publish { routing_key: b"plain", ..basic::Publish::default() };
        let content = Content { properties: vec![0x10, 0, 2].into(), body: body.clone().into() };
        world.give(&publish.into(), Some(content));
        world.work();
    }
    assert!(sent > 60, "{sent} MiB");
    world.sync();
    assert!(!world.link.is_behind(), "it is synced");
}

#[test]
fn every_start_is_a_new_leader() {
    let disk = SimDisk::default();
    let mut ends = Vec::new();
    for life in 0..3 {
        let mut world = World::start(&disk, START + life).unwrap();
        world.declare_all();
        world.publish("plain", life + 1, 0);
        world.sync();
        let log = world.log_of("plain");
        let log = world.link.shared.with_store(|store| store.log(log, Default::default())).unwrap();
        let epochs: Vec<(i32, i64)> = (0..).zip(std::iter::once(0).chain(ends.iter().copied())).collect();
        assert_eq!(log.epochs(), epochs);
        ends.push(log.end());
        // The second is killed, the others stop in order.
        if life == 1 {
            drop((world, log));
            disk.kill();
        } else {
            drop(log);
            world.close();
        }
    }
    // A start that writes nothing is no news, a broker from before had 0 for ever.
    assert_eq!(ends.len(), 3);
}

#[test]
fn consumers_of_a_queue_that_cannot_be_written_are_cancelled() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, 1_700_000_000_000).unwrap();
    world.declare_all();
    for queue in ["plain", "ranked"] {
        world.tell(basic::Consume { queue, consumer_tag: queue, ..basic::Consume::default() });
    }
    world.sync();
    world.publish("plain", 1, 0);
    world.work();
    disk.set_faults(storage::disk::sim::Faults { fail_sync: true, ..Default::default() });
    let _ = world.link.shared.with_store(Store::flush);
    world.work();
    let sends = world.hear();
    let cancelled: Vec<_> = sends.iter().filter(|send| matches!(send, Out::Cancel { .. })).collect();
    assert!(
        matches!(cancelled[..], [Out::Cancel { consumer, .. }] if **consumer == *"plain"),
        "{cancelled:?}"
    );
    world.tell(queue::Declare { queue: "plain", passive: true, ..queue::Declare::default() });
    let sends = std::mem::take(&mut world.owner.0.lock().unwrap().sends);
    let told = |send: &Out| matches!(send, Out::CloseChannel { code: 404, text, .. } if text.contains("has crashed"));
    assert!(sends.iter().any(told), "{sends:?}");
}
