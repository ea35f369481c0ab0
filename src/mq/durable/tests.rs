//! Random histories on a disk that loses power: what was confirmed is there, what was not published is not.

mod full;
mod promises;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::cursor::Cursors;
use super::{Durable, Link, Options, Owner, keeper, reader, snapshot, teller};
use crate::mq::engine::{
    Access, At, Config, ConnectionId, Content, Engine, Millis, Outputs, Peer, Reply, Send as Out, Taken,
};
use crate::mq::wire::method::{basic, channel, confirm, queue};
use crate::mq::wire::{Method, Table, TableBuf, Value};
use crate::storage::disk::sim::SimDisk;
use crate::storage::{self, Durability, Flushing, Store};

const ROOT: &str = "/data";
const QUEUES: [&str; 3] = ["plain", "dying", "ranked"];

/// An engine with its storage, which does one thing after the other.
struct World {
    durable: Durable,
    link: Link,
    owner: Arc<Held>,
    me: ConnectionId,
    now: Millis,
    cursors: Cursors,
    /// What became of them, by number.
    published: u64,
    /// Publishes without an answer: their numbers by their tags.
    open: BTreeMap<u64, u64>,
    confirmed: BTreeSet<u64>,
}

struct Held(Mutex<Inner>);

struct Inner {
    engine: Engine,
    out: Outputs,
    sends: Vec<Out>,
    link: Option<Link>,
    changes: u64,
    stored: u64,
    failed: bool,
    short: bool,
    now: Millis,
}

impl Inner {
    fn take(&mut self) {
        self.engine.finish(&mut self.out);
        self.changes += self.out.changes.len() as u64;
        if let Some(link) = &self.link {
            link.submit(&self.engine, &mut self.out, self.changes);
        }
        for lane in self.out.connections() {
            self.sends.append(&mut lane.sends);
        }
        self.out.clear();
    }
}

impl Owner for Held {
    fn with_engine(&self, work: &mut dyn FnMut(&mut Engine, &mut Outputs, Millis)) {
        let mut inner = self.0.lock().unwrap();
        let Inner { engine, out, now, .. } = &mut *inner;
        work(engine, out, *now);
        inner.take();
    }

    fn definitions_stored(&self, changes: u64) {
        self.0.lock().unwrap().stored = changes;
    }

    fn definitions_failed(&self) {
        self.0.lock().unwrap().failed = true;
    }

    fn disk_is_short(&self, short: bool) {
        self.0.lock().unwrap().short = short;
    }
}

impl World {
    /// A start on a disk; none if the power goes meanwhile.
    fn start(disk: &SimDisk, now: Millis) -> Option<Self> {
        let options = storage::Options {
            durability: Durability::Group,
            flushing: Flushing::Manual,
            reserve_bytes: 0,
            ..storage::Options::default()
        };
        let store = Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options).ok()?;
        let dir = ROOT.into();
        let durable =
            Durable::on(store, Options { dir, durability: Durability::Group, disk_free_min: 0 }).ok()?;
        let link = durable.link("/");
        let config = Config { page_above: 2000, spills: false, ..Config::default() };
        let mut state = 7_u64;
        let random = Box::new(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        });
        let mut inner = Inner {
            engine: Engine::new("/", config, random),
            out: Outputs::default(),
            sends: Vec::new(),
            link: Some(link.clone()),
            changes: 0,
            stored: 0,
            failed: false,
            short: false,
            now,
        };
        durable.recover(&link, &mut inner.engine, now, &mut inner.out);
        let me = inner.engine.connect(Peer {
            name: "test".into(),
            user: "guest".into(),
            access: Access::full().into(),
            channel_max: 0,
            allowance: Arc::default(),
            cancel_notify: true,
        });
        inner.take();
        let owner = Arc::new(Held(Mutex::new(inner)));
        let weak: Arc<dyn Owner> = owner.clone();
        durable.own(&link, Arc::downgrade(&weak));
        let mut world = Self {
            durable,
            link,
            owner,
            me,
            now,
            cursors: Cursors::default(),
            published: 0,
            open: BTreeMap::new(),
            confirmed: BTreeSet::new(),
        };
        assert_eq!(world.link.host, 0);
        world.tell(channel::Open { out_of_band: "" });
        world.tell(confirm::Select { nowait: true });
        Some(world)
    }

    fn declare_all(&mut self) {
        for name in QUEUES {
            let arguments = match name {
                "dying" => TableBuf::new()
                    .with("x-dead-letter-exchange", Value::text(""))
                    .with("x-dead-letter-routing-key", Value::text("plain")),
                "ranked" => TableBuf::new().with("x-max-priority", Value::U8(3)),
                _ => TableBuf::new(),
            };
            let arguments: Table<'_> = arguments.as_table();
            let declare =
                queue::Declare { queue: name, durable: true, arguments, ..queue::Declare::default() };
            self.tell(declare);
        }
    }

    fn give(&mut self, method: &Method<'_>, content: Option<Content>) {
        let at = At { now: self.now, connection: self.me, channel: 1 };
        let mut inner = self.owner.0.lock().unwrap();
        let Inner { engine, out, .. } = &mut *inner;
        assert_eq!(engine.handle(at, method, content, out), Taken::Now);
        inner.take();
    }

    fn tell<'a>(&mut self, method: impl Into<Method<'a>>) {
        self.give(&method.into(), None);
    }

    fn publish(&mut self, queue: &str, number: u64, priority: u8) {
        self.published += 1;
        self.open.insert(self.published, number);
        let publish = basic::Publish { routing_key: queue.as_bytes(), ..basic::Publish::default() };
        // Delivery mode 2 and a priority.
        let properties = vec![0x18, 0, 2, priority].into();
        let body = format!("{number:>40}").into_bytes().into();
        self.give(&publish.into(), Some(Content { properties, body }));
    }

    /// Everything that has been left for another thread is done, but for syncing.
    fn work(&mut self) {
        let shared = Arc::clone(&self.link.shared);
        loop {
            let (mut batches, mut loads, mut told, mut chores) = (vec![], vec![], vec![], vec![]);
            shared.inbox.take_now(&mut batches);
            shared.loads.take_now(&mut loads);
            shared.told.take_now(&mut told);
            shared.chores.take_now(&mut chores);
            if batches.is_empty() && loads.is_empty() && told.is_empty() && chores.is_empty() {
                return;
            }
            if let Some(writer) = shared.lock(&self.durable.writer).as_mut() {
                writer.round(&mut batches);
            }
            loads.iter().for_each(|load| reader::answer(&shared, &mut self.cursors, load));
            teller::tell(&shared, &mut told);
            if chores.iter().any(|chore| matches!(chore, keeper::Chore::Remove { .. })) {
                // To wait for a sync here would be to wait for ever.
                let _ = shared.with_store(Store::flush);
            }
            keeper::work(&shared, &mut chores);
        }
    }

    fn sync(&mut self) {
        self.work();
        let _ = self.link.shared.with_store(Store::flush);
        self.work();
        self.hear();
    }

    fn close(mut self) {
        self.owner.with_engine(&mut |engine, out, _| engine.write_logs(out));
        self.sync();
        self.durable.close().unwrap();
    }

    fn hear(&mut self) -> Vec<Out> {
        let sends = std::mem::take(&mut self.owner.0.lock().unwrap().sends);
        let mut closed = false;
        for send in &sends {
            match send {
                Out::Ack { tag, multiple, .. } => {
                    let from = if *multiple { 1 } else { *tag };
                    let tags: Vec<u64> = self.open.range(from..=*tag).map(|(tag, _)| *tag).collect();
                    self.confirmed.extend(tags.iter().filter_map(|tag| self.open.remove(tag)));
                }
                Out::Nack { tag, .. } => _ = self.open.remove(tag),
                // A queue that cannot be read any more.
                Out::CloseChannel { code: 404, text, .. } if text.contains("has crashed") => closed = true,
                Out::CloseChannel { text, .. } | Out::CloseConnection { text, .. } => panic!("{text}"),
                _ => {}
            }
        }
        if closed {
            self.tell(channel::CloseOk {});
            self.open.clear();
            self.published = 0;
            self.tell(channel::Open { out_of_band: "" });
            self.tell(confirm::Select { nowait: true });
        }
        sends
    }

    /// Takes a message without acknowledging it.
    fn get(&mut self, queue: &str) -> Option<(u64, u64)> {
        self.tell(basic::Get { queue, ..basic::Get::default() });
        for _ in 0..10 {
            self.work();
            for send in self.hear() {
                match send {
                    Out::GetOk { tag, message, .. } => {
                        let text = String::from_utf8_lossy(&message.body).into_owned();
                        return Some((tag, text.trim().parse().unwrap()));
                    }
                    // Or the power went while it was read.
                    Out::Reply { reply: Reply::BasicGetEmpty, .. } | Out::CloseChannel { .. } => return None,
                    _ => {}
                }
            }
        }
        panic!("basic.get from {queue} is not answered");
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
        let now = self.now;
        self.owner.0.lock().unwrap().now = now;
        self.owner.with_engine(&mut |engine, out, _| engine.tick(now, out));
    }

    /// Numbers in the queues, in order.
    fn contents(&mut self) -> BTreeMap<&'static str, Vec<u64>> {
        let mut all = BTreeMap::new();
        for queue in QUEUES {
            let numbers: Vec<u64> =
                std::iter::from_fn(|| self.get(queue)).map(|(_, number)| number).collect();
            all.insert(queue, numbers);
        }
        all
    }
}

/// What a history has done to messages, over all lives.
#[derive(Default)]
struct Model {
    next: u64,
    confirmed: BTreeSet<u64>,
    /// Acknowledged or purged: may be gone.
    gone: BTreeSet<u64>,
}

fn step(world: &mut World, model: &mut Model, random: &mut fastrand::Rng) {
    match random.u32(0..14) {
        12..=13 => world.keep_snapshot(QUEUES[random.usize(0..3)]),
        0..=4 => {
            let queue = QUEUES[random.usize(0..3)];
            for _ in 0..random.u64(1..40) {
                model.next += 1;
                world.publish(queue, model.next, random.u8(0..5));
            }
        }
        5..=7 => {
            let queue = QUEUES[random.usize(0..3)];
            for _ in 0..random.u64(1..30) {
                let Some((tag, number)) = world.get(queue) else { break };
                match random.u32(0..4) {
                    0 => world.tell(basic::Nack { delivery_tag: tag, multiple: false, requeue: true }),
                    // Dead letters go on to another queue.
                    1 if queue == "dying" => {
                        world.tell(basic::Nack { delivery_tag: tag, multiple: false, requeue: false });
                    }
                    _ => {
                        model.gone.insert(number);
                        world.tell(basic::Ack { delivery_tag: tag, multiple: false });
                    }
                }
            }
        }
        8 => world.pass(random.u64(0..1500)),
        9 if random.u32(0..3) == 0 => {
            let queue = QUEUES[random.usize(0..3)];
            let mut inner = world.owner.0.lock().unwrap();
            let Inner { engine, out, .. } = &mut *inner;
            if let Some(id) = engine.queue_id(queue) {
                engine.compact(id, random.u64(0..300), out);
            }
            inner.take();
        }
        10 => world.work(),
        _ => world.sync(),
    }
}

/// One life, up to the power cut or its end.
fn live(
    disk: &SimDisk,
    model: &mut Model,
    random: &mut fastrand::Rng,
    now: Millis,
    steps: usize,
) -> Option<World> {
    let mut world = World::start(disk, now)?;
    if world.durable.refused() > 0 {
        // The power went while logs were opened.
        return None;
    }
    world.declare_all();
    world.sync();
    if world.owner.0.lock().unwrap().stored == 0 && model.next == 0 {
        return None;
    }
    for _ in 0..steps {
        step(&mut world, model, random);
    }
    model.confirmed.append(&mut world.confirmed);
    Some(world)
}

/// Compares what is there after a start with what must be.
fn check(contents: &BTreeMap<&'static str, Vec<u64>>, model: &Model, what: &str) {
    let mut found = BTreeSet::new();
    for (queue, numbers) in contents {
        for number in numbers {
            assert!((1..=model.next).contains(number), "{what}: {number} in {queue} was never published");
            found.insert(*number);
        }
    }
    let lost: Vec<_> =
        model.confirmed.iter().filter(|one| !model.gone.contains(one) && !found.contains(one)).collect();
    assert!(lost.is_empty(), "{what}: confirmed and lost: {lost:?}");
}

#[test]
fn what_a_start_finds_is_what_the_engine_had() {
    for seed in 0..5 {
        let (disk, mut random, mut model) =
            (SimDisk::default(), fastrand::Rng::with_seed(seed), Model::default());
        let mut before: Option<BTreeMap<&'static str, Vec<u64>>> = None;
        for life in 0..3 {
            let mut world = World::start(&disk, 1_700_000_000_000 + life * 1_000_000).unwrap();
            if let Some(before) = before.take() {
                let now = world.contents();
                assert_eq!(now, before, "seed {seed}, life {life}");
                world.tell(basic::Recover { requeue: true });
            }
            world.declare_all();
            (0..40).for_each(|_| step(&mut world, &mut model, &mut random));
            world.sync();
            assert!(world.open.is_empty(), "seed {seed}: all that is stored is confirmed");
            world.tell(basic::Recover { requeue: true });
            world.sync();
            before = Some(world.contents());
            world.close();
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_confirmed() {
    let mut cuts = 0;
    for seed in 0..4 {
        for cut in (1 + seed..).step_by(2) {
            let mut random = fastrand::Rng::with_seed(seed);
            let (disk, mut model) = (SimDisk::default(), Model::default());
            // The first life makes a few things, the second is cut, the third sees what is left.
            let first = live(&disk, &mut model, &mut random, 1_700_000_000_000, 12).unwrap();
            let clean = random.bool();
            if clean {
                first.close();
            } else {
                drop(first);
            }
            disk.kill();
            disk.stop_after(cut);
            let whole = live(&disk, &mut model, &mut random, 1_700_000_100_000, 25).is_some();
            disk.power_cut(&mut fastrand::Rng::with_seed(seed * 1000 + cut));
            let what = format!("seed {seed}, cut at operation {cut}");
            let mut last =
                World::start(&disk, 1_700_000_200_000).unwrap_or_else(|| panic!("{what}: it does not start"));
            assert_eq!(last.durable.refused(), 0, "{what}: a queue is damaged");
            let contents = last.contents();
            check(&contents, &model, &what);
            cuts += 1;
            // Far beyond what a life does.
            if whole && cut > 60 {
                break;
            }
        }
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn a_failing_sync_takes_a_queue_offline_and_confirms_nothing() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, 1_700_000_000_000).unwrap();
    world.declare_all();
    world.sync();
    world.publish("plain", 1, 0);
    world.work();
    disk.set_faults(storage::disk::sim::Faults { fail_sync: true, ..Default::default() });
    let _ = world.link.shared.with_store(Store::flush);
    world.work();
    let nacks = |sends: Vec<Out>| sends.iter().filter(|send| matches!(send, Out::Nack { .. })).count();
    assert_eq!(nacks(world.hear()), 1);
    world.publish("plain", 2, 0);
    world.publish("ranked", 3, 0);
    world.work();
    let _ = world.link.shared.with_store(Store::flush);
    world.work();
    assert_eq!(nacks(world.hear()), 1, "the queue stays offline, the others do not");
    assert_eq!(world.confirmed, BTreeSet::from([3]));
    assert_eq!(world.get("plain"), None, "404");
    assert_eq!(world.get("ranked").map(|(_, number)| number), Some(3));
}

#[test]
fn a_damaged_log_is_refused_and_the_others_are_served() {
    let disk = SimDisk::default();
    let mut world = World::start(&disk, 1_700_000_000_000).unwrap();
    world.declare_all();
    (1..200).for_each(|number| world.publish("plain", number, 0));
    world.publish("ranked", 1000, 0);
    world.sync();
    let log = world.log_of("plain").to_string();
    world.close();
    let path = Path::new(ROOT).join("logs").join(log).join("00000000000000000000.log");
    disk.flip(&path, 700, 0x20);
    disk.kill();
    let mut world = World::start(&disk, 1_700_000_100_000).unwrap();
    let found = world.contents_of("ranked");
    assert_eq!(found, [1000]);
    // Damage that no start looks for, after an orderly stop, shows when it is read.
    if world.durable.refused() == 0 {
        assert_eq!(world.contents_of("plain"), [] as [u64; 0]);
    }
}

impl World {
    fn log_of(&self, queue: &str) -> storage::LogId {
        self.log_named(queue).unwrap()
    }

    fn log_named(&self, queue: &str) -> Option<storage::LogId> {
        let writer = self.link.shared.lock(&self.durable.writer);
        let metadata = writer.as_ref()?.metadata();
        metadata.get(&super::metadata::key("queue", &["/", queue]))?["log"].as_str()?.parse().ok()
    }

    fn contents_of(&mut self, queue: &str) -> Vec<u64> {
        std::iter::from_fn(|| self.get(queue)).map(|(_, number)| number).collect()
    }
}
