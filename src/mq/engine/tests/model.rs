//! Random histories: beside a simple model that says what has to come, and of nonsense, which must not panic.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::support::*;
use crate::mq::engine::{At, Compat, Config, ConnectionId, Content, Loaded, Reply, Send};
use crate::mq::wire::{Fields, Method, Table};

/// A generator of random numbers: the same seed, the same history.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn heads(&mut self) -> bool {
        self.below(2) == 0
    }
}

const QUEUES: [&str; 3] = ["durable", "transient", "served"];

/// A message as the model knows it.
#[derive(Debug, Clone)]
struct Known {
    body: String,
    persistent: bool,
    redelivered: bool,
}

/// What should be where.
#[derive(Default)]
struct Model {
    /// By their order in the queue.
    ready: HashMap<&'static str, BTreeMap<u64, Known>>,
    unacked: BTreeMap<u64, (&'static str, u64, Known)>,
    published: u64,
    confirmed: u64,
}

struct Play {
    world: World,
    model: Model,
    publisher: ConnectionId,
    taker: ConnectionId,
    /// The queue of the basic.get that is being answered.
    asked: Option<(&'static str, bool)>,
    /// How many messages the queue.purge drops that is being answered.
    purging: Option<u32>,
}

const PREFETCH: u16 = 7;

impl Play {
    fn new() -> Self {
        let mut world = World::with(Config { page_above: 20_000, spill_above: 60_000, ..Config::default() });
        let (publisher, taker) = (world.open(), world.open());
        world.tell(publisher, 1, queue::Declare { durable: true, ..declare("durable") });
        world.tell(publisher, 1, declare("transient"));
        world.tell(publisher, 1, queue::Declare { durable: true, ..declare("served") });
        world.tell(publisher, 1, confirm::Select { nowait: false });
        let mut play = Self { world, model: Model::default(), publisher, taker, asked: None, purging: None };
        play.consume();
        play
    }

    fn consume(&mut self) {
        self.world.tell(self.taker, 1, qos(PREFETCH, false));
        self.world.tell(self.taker, 1, consume("served", "served"));
        self.watch();
    }

    /// Takes in what came out, reads included, until nothing more does.
    fn watch(&mut self) {
        loop {
            for send in self.world.out.to(self.taker).to_vec() {
                self.check(send);
            }
            for send in self.world.out.to(self.publisher) {
                match send {
                    Send::Ack { tag, multiple: true, .. } => {
                        self.model.confirmed = self.model.confirmed.max(*tag)
                    }
                    Send::Ack { tag, .. } => {
                        assert!(*tag <= self.model.published);
                        self.model.confirmed = self.model.confirmed.max(*tag);
                    }
                    other => panic!("to the publisher: {other:?}"),
                }
            }
            let mut cost = 0;
            for lane in self.world.out.connections() {
                cost += lane.cost;
            }
            let loads = self.world.loads();
            self.world.out.clear();
            if loads.is_empty() && cost == 0 {
                return;
            }
            let (now, taker) = (self.world.now, self.taker);
            for (queue, number, runs) in loads {
                let mut messages = self.world.stored_messages(queue, &runs);
                let count: u32 = runs.iter().map(|(_, count)| count).sum();
                assert_eq!(messages.len(), count as usize, "what is asked for is stored");
                self.world.engine.loaded(now, queue, number, &mut messages, &mut self.world.out);
            }
            self.world.engine.written(now, taker, cost, &mut self.world.out);
            self.world.journal.extend(self.world.out.journal.iter().cloned());
        }
    }

    fn check(&mut self, send: Send) {
        let (queue, tag, redelivered, message, acks) = match send {
            Send::Deliver(delivery) => ("served", delivery.tag, delivery.redelivered, delivery.message, true),
            Send::GetOk { tag, redelivered, remaining, message, .. } => {
                let (queue, no_ack) = self.asked.take().expect("somebody asked");
                assert_eq!(remaining as usize + 1, self.model.ready[queue].len(), "remaining in {queue}");
                (queue, tag, redelivered, message, !no_ack)
            }
            Send::Reply { reply: Reply::BasicGetEmpty, .. } => {
                let (queue, _) = self.asked.take().expect("somebody asked");
                assert!(self.model.ready.get(queue).is_none_or(BTreeMap::is_empty), "{queue} is not empty");
                return;
            }
            Send::Reply { reply: Reply::QueuePurgeOk { messages }, .. } => {
                assert_eq!(self.purging.take(), Some(messages), "what a purge drops");
                return;
            }
            Send::CloseChannel { text, .. } => panic!("{text}"),
            _ => return,
        };
        let (seq, known) = self.model.ready.get_mut(queue).and_then(BTreeMap::pop_first).expect("invented");
        assert_eq!((body_of(&message), redelivered), (known.body.clone(), known.redelivered), "in {queue}");
        if acks {
            self.model.unacked.insert(tag, (queue, seq, known));
        }
    }

    fn publish(&mut self, dice: &mut Dice) {
        let queue = dice.pick(&QUEUES);
        let persistent_ones = dice.heads();
        let burst = if dice.below(8) == 0 { dice.below(1500) } else { 1 + dice.below(5) };
        for _ in 0..burst {
            self.model.published += 1;
            let seq = self.model.published;
            let persistent = persistent_ones ^ (dice.below(50) == 0);
            let fields = if persistent { super::support::persistent() } else { Fields::default() };
            let body = seq.to_string();
            let known = Known { body: body.clone(), persistent, redelivered: false };
            self.model.ready.entry(queue).or_default().insert(seq, known);
            self.world.publish(self.publisher, "", queue, fields, &body);
            self.watch();
        }
    }

    fn settle(&mut self, dice: &mut Dice) {
        let tags: Vec<u64> = self.model.unacked.keys().copied().collect();
        if tags.is_empty() {
            return;
        }
        let tag = dice.pick(&tags);
        let (multiple, requeue, nacks) = (dice.heads(), dice.heads(), dice.heads());
        let settled: Vec<u64> =
            tags.into_iter().filter(|held| *held == tag || (multiple && *held < tag)).collect();
        for held in settled {
            let (queue, seq, known) = self.model.unacked.remove(&held).unwrap();
            if nacks && requeue {
                let known = Known { redelivered: true, ..known };
                self.model.ready.entry(queue).or_default().insert(seq, known);
            }
        }
        if nacks {
            self.world.tell(self.taker, 1, nack(tag, multiple, requeue));
        } else {
            self.world.tell(self.taker, 1, ack(tag, multiple));
        }
        self.watch();
    }

    fn purge(&mut self, queue: &'static str) {
        self.purging = Some(self.model.ready.remove(queue).map_or(0, |ready| ready.len() as u32));
        self.world.tell(self.taker, 1, queue::Purge { ticket: 0, queue, nowait: false });
        self.watch();
        if self.purging.is_some() {
            // Something of it has to be stored first.
            let id = self.world.engine.queue_id(queue).unwrap();
            self.world.stored(id, self.world.records(id));
            self.watch();
        }
        assert!(self.purging.is_none(), "queue.purge was answered");
    }

    fn return_all(&mut self) {
        for (queue, seq, known) in std::mem::take(&mut self.model.unacked).into_values() {
            let known = Known { redelivered: true, ..known };
            self.model.ready.entry(queue).or_default().insert(seq, known);
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.below(20) {
            0..=6 => self.publish(dice),
            7..=10 => {
                let (queue, no_ack) = (dice.pick(&QUEUES), dice.heads());
                self.asked = Some((queue, no_ack));
                self.world.tell(self.taker, 1, basic::Get { ticket: 0, queue, no_ack });
                self.watch();
                assert!(self.asked.is_none(), "basic.get was answered");
            }
            11..=15 => self.settle(dice),
            16 => {
                self.return_all();
                self.world.tell(self.taker, 1, basic::Recover { requeue: true });
                self.watch();
            }
            17 if dice.below(4) == 0 => {
                let queue = dice.pick(&QUEUES);
                self.purge(queue);
            }
            18 if dice.below(4) == 0 => {
                self.return_all();
                self.world.disconnect(self.taker);
                self.taker = self.world.open();
                self.consume();
            }
            19 if dice.below(4) == 0 => {
                let id = self.world.engine.queue_id("durable").unwrap();
                let end = self.world.live(id).last().map_or(0, |(offset, _)| *offset);
                self.world.out.clear();
                self.world.engine.compact(id, dice.below(end + 1), &mut self.world.out);
                self.world.journal.extend(self.world.out.journal.iter().cloned());
                self.watch();
            }
            _ => {
                self.world.pass(dice.below(20));
                self.watch();
            }
        }
        self.compare();
    }

    /// Counts, credit and memory are what they should be.
    fn compare(&mut self) {
        for name in QUEUES {
            let ready = self.model.ready.get(name).map_or(0, BTreeMap::len) as u64;
            let unacked = self.model.unacked.values().filter(|(queue, ..)| *queue == name).count() as u64;
            assert_eq!(self.world.counts(name), (ready, unacked), "{name}");
        }
        let held = self.world.engine.consumers().map(|consumer| consumer.unacked).sum::<u32>();
        let (ready, _) = self.world.counts("served");
        assert!(ready == 0 || held == u32::from(PREFETCH), "a consumer with room is served: {held}");
        assert_eq!(self.world.engine.resident(), self.world.engine.resident_counted(), "memory in use");
    }

    /// Everything stored is what should survive; everything is there to be taken; then nothing is left.
    fn end(mut self) {
        for name in ["durable", "served"] {
            let id = self.world.engine.queue_id(name).unwrap();
            self.world.stored(id, u64::MAX);
            self.watch();
            self.world.pass(10);
            self.watch();
            let mut live: Vec<u64> =
                self.world.live(id).iter().map(|(_, message)| body_of(message).parse().unwrap()).collect();
            live.sort_unstable();
            let ready =
                self.model.ready.get(name).into_iter().flatten().map(|(seq, known)| (*seq, known.persistent));
            let unacked = self.model.unacked.values().filter(|(queue, ..)| *queue == name);
            let mut expected: Vec<u64> = ready
                .chain(unacked.map(|(_, seq, known)| (*seq, known.persistent)))
                .filter_map(|(seq, persistent)| persistent.then_some(seq))
                .collect();
            expected.sort_unstable();
            assert_eq!(live, expected, "the log of {name}");
        }
        assert_eq!(self.model.confirmed, self.model.published, "every publish is confirmed");
        self.return_all();
        self.world.disconnect(self.taker);
        self.taker = self.world.open();
        for queue in QUEUES {
            while self.model.ready.get(queue).is_some_and(|ready| !ready.is_empty()) {
                self.asked = Some((queue, true));
                self.world.tell(self.taker, 1, basic::Get { ticket: 0, queue, no_ack: true });
                self.watch();
            }
            assert_eq!(self.world.counts(queue), (0, 0));
        }
        assert_eq!(self.world.engine.resident(), 0);
    }
}

#[test]
fn nothing_is_lost_invented_or_out_of_order() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let mut play = Play::new();
        for step in 0..150 {
            let before = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play.step(&mut dice)));
            assert!(before.is_ok(), "seed {seed}, step {step}");
        }
        play.end();
    }
}

const NAMES: [&str; 10] = [
    "",
    "a",
    "b",
    "amq.topic",
    "amq.gen-x",
    "amq.rabbitmq.reply-to",
    "amq.rabbitmq.reply-to.x",
    "x",
    "y\n",
    "#.*.#",
];

/// Arguments of any kind, sensible or not.
fn nonsense_table(dice: &mut Dice) -> Table<'static> {
    let names = [
        "x-max-length",
        "x-message-ttl",
        "x-expires",
        "x-max-priority",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-match",
        "x-queue-type",
        "x-single-active-consumer",
        "x-priority",
        "alternate-exchange",
        "x-delayed-type",
        "hash-header",
        "x-delivery-limit",
        "x-max-length-bytes",
    ];
    let values = [
        Value::U8(0),
        Value::I64(3),
        Value::I64(-1),
        Value::I64(i64::MAX),
        Value::text("drop-head"),
        Value::text("reject-publish-dlx"),
        Value::text("a"),
        Value::text(""),
        Value::text("any"),
        Value::Bool(true),
        Value::text("quorum"),
        Value::Void,
        Value::text("topic"),
        Value::U8(200),
        Value::I64(i64::MIN),
    ];
    let count = dice.below(4);
    let entries: Vec<(&str, Value<'_>)> =
        (0..count).map(|_| (dice.pick(&names), dice.pick(&values))).collect();
    table(&entries)
}

fn nonsense_properties(dice: &mut Dice) -> Bytes {
    if dice.below(6) == 0 {
        let length = dice.below(20);
        return (0..length).map(|_| dice.below(256) as u8).collect::<Vec<u8>>().into();
    }
    let mut array = crate::mq::wire::ArrayBuf::new();
    array.push(Value::text("a"));
    let death =
        table(&[("queue", Value::text("a")), ("reason", Value::Void), ("count", Value::I64(i64::MAX))]);
    array.push(Value::Table(death));
    let headers = table(&[
        (dice.pick(&["CC", "BCC", "x-death", "x-delay", "k"]), Value::Array(array.as_array())),
        ("x-delay", Value::I64(dice.pick(&[-1, 5, i64::MAX, i64::MIN]))),
    ]);
    let fields = Fields {
        headers: dice.heads().then_some(headers),
        delivery_mode: Some(dice.below(4) as u8),
        priority: dice.heads().then(|| dice.below(256) as u8),
        expiration: dice.pick(&[
            None,
            Some(&b"0"[..]),
            Some(b"5"),
            Some(b"-5"),
            Some(b"99999999999999999999"),
        ]),
        reply_to: dice.pick(&[None, Some(&b"amq.rabbitmq.reply-to"[..]), Some(b"a")]),
        user_id: dice.pick(&[None, None, Some(&b"guest"[..]), Some(b"bob")]),
        ..Fields::default()
    };
    fields.to_vec().into()
}

/// Any method with any arguments.
fn nonsense(dice: &mut Dice) -> Method<'static> {
    let (name, other) = (dice.pick(&NAMES), dice.pick(&NAMES));
    let arguments = nonsense_table(dice);
    let tag = dice.pick(&[0, 1, 2, 3, 9, u64::MAX]);
    let (one, two, three) = (dice.heads(), dice.heads(), dice.heads());
    let kinds = ["direct", "fanout", "topic", "headers", "x-consistent-hash", "x-delayed-message", "z"];
    match dice.below(26) {
        0..=1 => channel::Open { out_of_band: "" }.into(),
        2 => channel::Close { reply_code: 0, reply_text: "", class_id: 0, method_id: 0 }.into(),
        3 => channel::CloseOk {}.into(),
        4 => exchange::Declare {
            passive: one,
            durable: two,
            auto_delete: three,
            arguments,
            ..declare_x(name, dice.pick(&kinds))
        }
        .into(),
        5 => exchange::Delete { ticket: 0, exchange: name, if_unused: one, nowait: two }.into(),
        6 => exchange::Bind {
            ticket: 0,
            destination: name,
            source: other,
            routing_key: "#",
            nowait: one,
            arguments,
        }
        .into(),
        7 => exchange::Unbind {
            ticket: 0,
            destination: name,
            source: other,
            routing_key: "#",
            nowait: one,
            arguments,
        }
        .into(),
        8..=9 => {
            queue::Declare { passive: one, durable: two, exclusive: three, arguments, ..declare(name) }.into()
        }
        10 => queue::Delete { if_unused: one, if_empty: two, ..delete(name) }.into(),
        11 => queue::Purge { ticket: 0, queue: name, nowait: one }.into(),
        12 => queue::Bind { arguments, ..bind(name, other, dice.pick(&["a", "3", "#.a", ""])) }.into(),
        13 => queue::Unbind { ticket: 0, queue: name, exchange: other, routing_key: "a", arguments }.into(),
        14 => qos(dice.below(4) as u16, one).into(),
        15..=16 => basic::Consume { no_ack: one, exclusive: two, arguments, ..consume(name, other) }.into(),
        17 => basic::Cancel { consumer_tag: name, nowait: one }.into(),
        18 => basic::Get { ticket: 0, queue: name, no_ack: one }.into(),
        19 => ack(tag, one).into(),
        20 => nack(tag, one, two).into(),
        21 => basic::Recover { requeue: dice.below(9) > 0 }.into(),
        22 => dice.pick(&[Method::from(confirm::Select { nowait: false }), tx::Select {}.into()]),
        23 => dice.pick(&[Method::from(tx::Commit {}), tx::Rollback {}.into()]),
        24 => channel::Flow { active: dice.below(9) > 0 }.into(),
        _ => publish(name, other).into(),
    }
}

#[test]
fn no_history_panics_and_memory_is_accounted_for() {
    for seed in 1..=400 {
        let mut dice = Dice(seed);
        let compat = if seed % 4 == 0 { Compat::V4 } else { Compat::V3 };
        let mut world = World::with(Config {
            compat,
            page_above: 0,
            spill_above: 500,
            credit: 3000,
            ..Config::default()
        });
        let mut connections = [world.connect(), world.connect()];
        for _ in 0..300 {
            let channel = dice.below(3) as u16 + u16::from(dice.below(60) > 0);
            let at = At { now: world.now, connection: dice.pick(&connections), channel };
            match dice.below(30) {
                0 => {
                    let gone = dice.below(2) as usize;
                    world.engine.disconnect(world.now, connections[gone], &mut world.out);
                    connections[gone] = world.connect();
                }
                1 => world.pass(dice.below(50)),
                2 => {
                    for queue in world.engine.queues().map(|queue| queue.id).collect::<Vec<_>>() {
                        world.engine.stored(world.now, queue, dice.below(50), &mut world.out);
                    }
                }
                3 => world.engine.written(world.now, at.connection, dice.below(9000), &mut world.out),
                4 => {
                    for queue in world.engine.queues().map(|queue| queue.id).collect::<Vec<_>>() {
                        world.engine.compact(queue, dice.below(9), &mut world.out);
                        let mut messages: Vec<Loaded> = Vec::new();
                        if dice.below(9) == 0 {
                            world.engine.loaded(
                                world.now,
                                queue,
                                dice.below(4),
                                &mut messages,
                                &mut world.out,
                            );
                        }
                    }
                }
                _ => {
                    let method = match dice.below(3) {
                        0 => publish(dice.pick(&["", "x", "amq.topic", "a"]), dice.pick(&NAMES)).into(),
                        _ => nonsense(&mut dice),
                    };
                    let body = "z".repeat(dice.below(30) as usize);
                    let content = method.has_content().then(|| Content {
                        properties: nonsense_properties(&mut dice),
                        body: body.into_bytes().into(),
                    });
                    let _ = world.engine.handle(at, &method, content, &mut world.out);
                }
            }
            world.engine.finish(&mut world.out);
            assert_eq!(world.engine.resident(), world.engine.resident_counted(), "seed {seed}");
            world.out.clear();
        }
    }
}
