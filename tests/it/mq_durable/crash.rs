//! `kill -9` under load, again and again, and a history of it: nothing confirmed is lost, nothing is invented.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bandy::mq::wire::method::{basic, channel, confirm, connection, queue};
use bandy::mq::wire::{
    self, Assembler, BODY_SIZE_MAX, Event, FRAME_SIZE_DEFAULT, Method, Table, TableBuf, Value,
};
use rustix::process::Signal;

use super::{broker_at, publish_bytes};
use crate::mq_broker::Client;
use crate::support::{DEADLINE, Home, Running, until};

/// Queues: one that is consumed all the time, one that nobody looks at until the end, one whose messages die after a
/// moment, and where those go.
const QUEUES: [&str; 3] = ["worked", "left", "mortal"];
const GRAVE: &str = "grave";
/// Publishes without an answer.
const WINDOW: u64 = 400;
/// Deliveries without an acknowledgement.
const PREFETCH: u16 = 100;
/// Confirmed messages of each queue before most lives end: from few to far more than the window.
const CONFIRMED: std::ops::Range<u64> = 10..600;
/// Acknowledgements that may be forgotten: those of the last moments.
const FORGOTTEN_MAX: usize = 4000;

/// A connection that says what comes, as long as it lasts.
struct Wire {
    socket: TcpStream,
    assembler: Assembler,
    buffer: Vec<u8>,
}

impl Wire {
    /// Logged in, with channel 1 open; none if the broker is gone.
    fn open(url: &str) -> Option<Self> {
        let socket = TcpStream::connect(url.strip_prefix("amqp://")?).ok()?;
        socket.set_read_timeout(Some(DEADLINE)).ok()?;
        socket.set_nodelay(true).ok()?;
        let assembler = Assembler::new(FRAME_SIZE_DEFAULT, BODY_SIZE_MAX);
        let mut wire = Self { socket, assembler, buffer: Vec::new() };
        wire.socket.write_all(&wire::PROTOCOL_HEADER).ok()?;
        wire.until(|event| matches!(event, Event::Method { method: Method::ConnectionStart(_), .. }))?;
        let start_ok = connection::StartOk {
            client_properties: Table::default(),
            mechanism: "PLAIN",
            response: wire::method::Long(b"\0guest\0guest"),
            locale: "en_US",
        };
        let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: FRAME_SIZE_DEFAULT, heartbeat: 0 };
        let open = connection::Open { virtual_host: "/", capabilities: "", insist: false };
        wire.say(&[(0, start_ok.into())])?;
        wire.until(|event| matches!(event, Event::Method { method: Method::ConnectionTune(_), .. }))?;
        wire.say(&[(0, tune_ok.into()), (0, open.into()), (1, channel::Open { out_of_band: "" }.into())])?;
        wire.until(|event| matches!(event, Event::Method { method: Method::ChannelOpenOk(_), .. }))?;
        Some(wire)
    }

    fn say(&mut self, methods: &[(u16, Method<'_>)]) -> Option<()> {
        let mut bytes = Vec::new();
        methods.iter().for_each(|(channel, method)| wire::method(&mut bytes, *channel, method));
        self.socket.write_all(&bytes).ok()
    }

    /// Reads once and shows what came; none when the broker is gone.
    fn read(&mut self, mut shown: impl FnMut(&Event<'_>)) -> Option<()> {
        let mut part = [0; 1 << 16];
        let count = self.socket.read(&mut part).ok().filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&part[..count]);
        let mut input = &self.buffer[..];
        while let Some(event) = self.assembler.next(&mut input).unwrap() {
            shown(&event);
        }
        let used = self.buffer.len() - input.len();
        self.buffer.drain(..used);
        Some(())
    }

    fn until(&mut self, mut is_it: impl FnMut(&Event<'_>) -> bool) -> Option<()> {
        let mut found = false;
        while !found {
            self.read(|event| found |= is_it(event))?;
        }
        Some(())
    }
}

/// What happened to the messages of one queue, each known by its number.
#[derive(Default)]
struct History {
    published: u64,
    confirmed: BTreeSet<u64>,
    /// The highest that was delivered for the first time.
    newest: u64,
    seen: BTreeSet<u64>,
    /// Acknowledgements of earlier lives: those must hold.
    acked: BTreeSet<u64>,
    /// Those of this life, in order: the last ones may be forgotten.
    acking: Vec<u64>,
    forgotten: usize,
    again: usize,
}

impl History {
    /// One delivery; `ordered` if first ones come in the order they were published in.
    fn delivered(&mut self, name: &str, number: u64, redelivered: bool, ordered: bool) {
        assert!((1..=self.published).contains(&number), "{name}: {number} was never published");
        assert!(!self.acked.contains(&number), "{name}: {number} was acknowledged a life ago");
        if self.seen.insert(number) {
            assert!(!ordered || number > self.newest, "{name}: {number} after {}", self.newest);
            self.newest = self.newest.max(number);
        } else {
            self.again += 1;
            assert!(redelivered || !ordered, "{name}: {number} comes again, unmarked");
        }
    }

    /// The broker was killed; what of the acknowledgements it knew shows as the next life delivers.
    fn life_ends(&mut self, redelivered: &BTreeSet<u64>, name: &str) {
        let forgotten = self.acking.iter().position(|number| redelivered.contains(number));
        let last = forgotten.map_or(0, |first| self.acking.len() - first);
        assert!(last <= FORGOTTEN_MAX, "{name}: {last} acknowledgements are forgotten");
        self.forgotten = self.forgotten.max(last);
    }
}

/// What the publisher of one life and whoever kills the broker tell each other.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// Confirmed in this life, by queue.
    confirmed: [AtomicU64; 3],
}

impl Load {
    /// So many messages of each queue are confirmed.
    fn has_confirmed(&self, goal: u64) -> bool {
        self.confirmed.iter().all(|confirmed| confirmed.load(Ordering::Relaxed) >= goal)
    }
}

/// Publishes to all queues, as many at a time as the window takes, until the broker is gone.
fn publishes(url: &str, first: [u64; 3], load: &Load) -> ([u64; 3], Vec<(usize, u64)>) {
    let mut sent = first;
    let mut confirmed = Vec::new();
    let Some(mut wire) = Wire::open(url) else { return (sent, confirmed) };
    if wire.say(&[(1, confirm::Select { nowait: true }.into())]).is_none() {
        return (sent, confirmed);
    }
    let mut order: Vec<(usize, u64)> = Vec::new();
    let mut answered = vec![false; 1];
    let (mut open, mut all_before) = (0, 1);
    while !load.stop.load(Ordering::Relaxed) {
        let mut bytes = Vec::new();
        while open < WINDOW {
            let which = order.len() % QUEUES.len();
            sent[which] += 1;
            let body = sent[which].to_string();
            bytes.extend(publish_bytes(QUEUES[which], true, body.as_bytes()));
            order.push((which, sent[which]));
            answered.push(false);
            open += 1;
        }
        if wire.socket.write_all(&bytes).is_err() {
            break;
        }
        let read = wire.read(|event| {
            let Event::Method { method: Method::BasicAck(ack), .. } = event else { panic!("{event:?}") };
            let tag = ack.delivery_tag as usize;
            let from = if ack.multiple { all_before } else { tag };
            for tag in from..=tag {
                if !std::mem::replace(&mut answered[tag], true) {
                    confirmed.push(order[tag - 1]);
                    load.confirmed[order[tag - 1].0].fetch_add(1, Ordering::Relaxed);
                    open -= 1;
                }
            }
            all_before = if ack.multiple { tag + 1 } else { all_before };
        });
        if read.is_none() {
            break;
        }
    }
    (sent, confirmed)
}

/// Deliveries in order: number and redelivered.
fn consumes(url: &str, queue: &str) -> Vec<(u64, bool)> {
    let mut came = Vec::new();
    let Some(mut wire) = Wire::open(url) else { return came };
    let qos = basic::Qos { prefetch_size: 0, prefetch_count: PREFETCH, global: false };
    let consume = basic::Consume { queue, nowait: true, ..basic::Consume::default() };
    if wire.say(&[(1, qos.into()), (1, consume.into())]).is_none() {
        return came;
    }
    loop {
        let mut last = 0;
        let read = wire.read(|event| {
            if let Event::Content { content, .. } = event
                && let Method::BasicDeliver(deliver) = content.method()
            {
                last = deliver.delivery_tag;
                came.push((number_of(&content.body.keep()), deliver.redelivered));
            }
        });
        if read.is_none() {
            return came;
        }
        // All but the newest few, so that there is always something unacknowledged.
        let tag = last.saturating_sub(3);
        if tag > 0 && wire.say(&[(1, basic::Ack { delivery_tag: tag, multiple: true }.into())]).is_none() {
            return came;
        }
    }
}

fn number_of(body: &[u8]) -> u64 {
    std::str::from_utf8(body).unwrap().parse().unwrap()
}

fn declare_all(server: &Running) {
    let mut client = Client::ready(server);
    let dead = TableBuf::new()
        .with("x-message-ttl", Value::U8(5))
        .with("x-dead-letter-exchange", Value::text(""))
        .with("x-dead-letter-routing-key", Value::text(GRAVE));
    for name in [GRAVE, "worked", "left", "mortal"] {
        let arguments = if name == "mortal" { dead.as_table() } else { Table::default() };
        let declare = queue::Declare { queue: name, durable: true, arguments, ..queue::Declare::default() };
        assert!(client.ask(declare).starts_with(name));
    }
}

/// Takes everything that is left of a queue: asks for many messages at a time until one of the answers is that there is
/// none.
fn drains(server: &Running, queue: &str, mut taken: impl FnMut(u64, bool)) {
    const ASKED: usize = 200;
    let mut wire = Wire::open(&server.url).unwrap();
    let mut is_empty = false;
    while !is_empty {
        let get = basic::Get { queue, no_ack: true, ..basic::Get::default() };
        let asked: Vec<(u16, Method<'_>)> = (0..ASKED).map(|_| (1, get.into())).collect();
        wire.say(&asked).unwrap();
        let mut answers = 0;
        while answers < ASKED {
            let read = wire.read(|event| {
                answers += 1;
                match event {
                    Event::Content { content, .. } => {
                        let Method::BasicGetOk(ok) = content.method() else { panic!("{event:?}") };
                        taken(number_of(&content.body.keep()), ok.redelivered);
                    }
                    Event::Method { method: Method::BasicGetEmpty(_), .. } => is_empty = true,
                    other => panic!("{other:?}"),
                }
            });
            read.unwrap();
        }
    }
}

#[expect(clippy::print_stdout, reason = "figures for whoever asks for them")]
/// So many lives of a broker, each killed after a random moment of load.
fn live_and_die(lives: u64, flags: &str, seed: u64) {
    let home = Home::new();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut histories: HashMap<&str, History> =
        QUEUES.iter().map(|name| (*name, History::default())).collect();
    for life in 0..lives {
        let server = broker_at(&home, flags);
        if life == 0 {
            declare_all(&server);
        }
        let first = QUEUES.map(|name| histories[name].published);
        let (url, load) = (server.url.clone(), Load::default());
        // Most lives are long enough to promise something, however slow the machine is; some end at any moment.
        let goal = if random.u32(0..5) == 0 { 0 } else { random.u64(CONFIRMED) };
        let moment = Duration::from_millis(random.u64(0..120));
        let (published, consumed) = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| publishes(&url, first, &load));
            let consumer = scope.spawn(|| consumes(&url, "worked"));
            until("enough is confirmed", || load.has_confirmed(goal) || publisher.is_finished());
            std::thread::sleep(moment);
            server.signal(Signal::KILL);
            load.stop.store(true, Ordering::Relaxed);
            (publisher.join().unwrap(), consumer.join().unwrap())
        });
        server.ends().dies_by(Signal::KILL);
        let (sent, confirmed) = published;
        for (which, name) in QUEUES.iter().enumerate() {
            histories.get_mut(name).unwrap().published = sent[which];
        }
        for (which, number) in confirmed {
            histories.get_mut(QUEUES[which]).unwrap().confirmed.insert(number);
        }
        let worked = histories.get_mut("worked").unwrap();
        let came: BTreeSet<u64> = consumed.iter().map(|(number, _)| *number).collect();
        worked.life_ends(&came, "worked");
        let before = std::mem::take(&mut worked.acking);
        for (number, redelivered) in &consumed {
            worked.delivered("worked", *number, *redelivered, true);
        }
        // What was acknowledged a life before and did not come again, though later ones did, is gone for good.
        let reach = came.last().copied().unwrap_or(0);
        for number in before.into_iter().filter(|number| !came.contains(number)) {
            if number < reach {
                worked.acked.insert(number);
            } else {
                worked.acking.push(number);
            }
        }
        let acked = consumed.len().saturating_sub(usize::from(PREFETCH));
        worked.acking.extend(consumed[..acked].iter().map(|(number, _)| *number));
    }
    let server = broker_at(&home, flags);
    for name in ["worked", "left"] {
        let history = histories.get_mut(name).unwrap();
        drains(&server, name, |number, redelivered| history.delivered(name, number, redelivered, true));
    }
    // Dead letters come at least once, and perhaps from the queue where they died.
    let history = histories.get_mut("mortal").unwrap();
    for name in ["mortal", GRAVE] {
        drains(&server, name, |number, redelivered| history.delivered(name, number, redelivered, false));
    }
    for (name, history) in &histories {
        let lost: Vec<_> = history.confirmed.difference(&history.seen).collect();
        assert!(
            lost.is_empty(),
            "{name}: {} of {} confirmed are lost: {lost:?}",
            lost.len(),
            history.confirmed.len()
        );
        assert!(history.confirmed.len() as u64 > lives, "{name}: {} confirmed", history.confirmed.len());
        println!(
            "{name}: {} published, {} confirmed, {} seen, {} again, at most {} acknowledgements forgotten",
            history.published,
            history.confirmed.len(),
            history.seen.len(),
            history.again,
            history.forgotten,
        );
    }
}

/// Lives in an ordinary run; more with BANDY_KILLS=500.
fn lives() -> u64 {
    std::env::var("BANDY_KILLS").ok().and_then(|lives| lives.parse().ok()).unwrap_or(50)
}

#[test]
fn killed_again_and_again_it_loses_nothing_that_it_confirmed() {
    live_and_die(lives(), "", 1);
}

#[test]
fn killed_it_keeps_what_was_only_written() {
    live_and_die(lives() / 10, "--durability os", 2);
}

#[test]
fn killed_it_keeps_what_was_synced_alone() {
    live_and_die(lives() / 10, "--durability each", 3);
}
