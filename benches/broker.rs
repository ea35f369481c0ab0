//! What the broker does in one second on this machine, over loopback: one publisher, one consumer, 100-byte messages.
//!
//! `cargo bench --bench broker -- [--millions N] [flags of mq broker]`: transient and durable with confirms, then a backlog
//! of N million durable messages filled, the broker started anew, killed, started again, and drained; and 10,000 durable queues,
//! declared and found again by a start. Memory is that of the broker's process.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its figures or fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bandy::mq::wire::method::{Long, basic, channel, confirm, connection, queue};
use bandy::mq::wire::{self, Assembler, BODY_SIZE_MAX, Event, FRAME_SIZE_DEFAULT, Fields, Method, Table};

const BODY: [u8; 100] = [b'x'; 100];
/// Publishes without an answer.
const WINDOW: u64 = 20_000;
/// Durable queues that are declared.
const QUEUES: u64 = 10_000;
/// Publishes that are written at once.
const BURST: u64 = 500;

struct Broker {
    child: Child,
    url: String,
}

impl Broker {
    fn start(dir: &std::path::Path, flags: &[String]) -> Self {
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bandy"));
        command.args(["mq", "broker", "-l", "127.0.0.1:0", "--dir"]).arg(dir).args(flags);
        let mut child = command.env("BANDY_HOME", dir.join("home")).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        println!("{:<44} {:>9.0} ms", "  start to ready", start.elapsed().as_secs_f64() * 1e3);
        Self { child, url: url.trim().to_owned() }
    }

    /// Memory in use and at most, in MB.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1000
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let start = Instant::now();
        self.child.wait().unwrap();
        println!("{:<44} {:>9.0} ms", "  stop", start.elapsed().as_secs_f64() * 1e3);
    }
}

struct Client {
    socket: TcpStream,
    assembler: Assembler,
    buffer: Vec<u8>,
    part: Vec<u8>,
}

impl Client {
    fn open(url: &str) -> Self {
        let socket = TcpStream::connect(url.strip_prefix("amqp://").unwrap()).unwrap();
        socket.set_nodelay(true).unwrap();
        let assembler = Assembler::new(FRAME_SIZE_DEFAULT, BODY_SIZE_MAX);
        let mut client = Self { socket, assembler, buffer: Vec::new(), part: vec![0; 1 << 18] };
        client.socket.write_all(&wire::PROTOCOL_HEADER).unwrap();
        client.read(|_| {});
        client.say(
            0,
            connection::StartOk {
                client_properties: Table::default(),
                mechanism: "PLAIN",
                response: Long(b"\0guest\0guest"),
                locale: "en_US",
            },
        );
        client.read(|_| {});
        client.say(0, connection::TuneOk { channel_max: 1, frame_max: FRAME_SIZE_DEFAULT, heartbeat: 0 });
        client.say(0, connection::Open { virtual_host: "/", capabilities: "", insist: false });
        client.read(|_| {});
        client.ask(channel::Open { out_of_band: "" });
        client
    }

    fn say<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, channel, &method.into());
        self.socket.write_all(&bytes).unwrap();
    }

    fn ask<'a>(&mut self, method: impl Into<Method<'a>>) {
        self.say(1, method);
        self.read(|_| {});
    }

    /// Reads once at least, until something whole came.
    fn read(&mut self, mut shown: impl FnMut(&Event<'_>)) {
        let mut any = false;
        while !any {
            let count = self.socket.read(&mut self.part).unwrap();
            assert!(count > 0, "the broker is gone");
            self.buffer.extend_from_slice(&self.part[..count]);
            let mut input = &self.buffer[..];
            while let Some(event) = self.assembler.next(&mut input).unwrap() {
                if let Event::Method { method: Method::ChannelClose(close), .. } = &event {
                    panic!("{}", close.reply_text);
                }
                shown(&event);
                any = true;
            }
            let used = self.buffer.len() - input.len();
            self.buffer.drain(..used);
        }
    }
}

/// Publishes so many, confirmed; the time until the last confirm.
fn publish(url: &str, queue: &str, count: u64, persistent: bool) -> Duration {
    let mut client = Client::open(url);
    client.ask(confirm::Select { nowait: false });
    let method = basic::Publish { routing_key: queue.as_bytes(), ..basic::Publish::default() };
    let properties = Fields { delivery_mode: persistent.then_some(2), ..Fields::default() }.to_vec();
    let mut burst = Vec::new();
    for _ in 0..BURST {
        wire::content(&mut burst, 1, &method.into(), &properties, &BODY, FRAME_SIZE_DEFAULT);
    }
    let start = Instant::now();
    let (mut sent, mut confirmed) = (0, 0);
    while confirmed < count {
        while sent < count && sent - confirmed + BURST <= WINDOW {
            client.socket.write_all(&burst).unwrap();
            sent += BURST;
        }
        client.read(|event| match event {
            Event::Method { method: Method::BasicAck(ack), .. } => {
                confirmed = if ack.multiple { confirmed.max(ack.delivery_tag) } else { confirmed + 1 };
            }
            other => panic!("{other:?}"),
        });
    }
    start.elapsed()
}

/// Consumes so many with acknowledgements.
fn consume(url: &str, queue: &str, count: u64) -> Duration {
    let mut client = Client::open(url);
    client.ask(basic::Qos { prefetch_size: 0, prefetch_count: 2000, global: false });
    client.say(1, basic::Consume { queue, nowait: true, ..basic::Consume::default() });
    let start = Instant::now();
    let (mut got, mut acked) = (0, 0);
    while got < count {
        client.read(|event| got += u64::from(matches!(event, Event::Content { .. })));
        if got - acked >= 500 || got == count {
            client.say(1, basic::Ack { delivery_tag: got, multiple: true });
            acked = got;
        }
    }
    start.elapsed()
}

fn declare(url: &str, name: &str, durable: bool) {
    let declare = queue::Declare { queue: name, durable, ..queue::Declare::default() };
    Client::open(url).ask(declare);
}

/// Declares durable queues with a message each, without waiting for every one.
fn declare_many(url: &str) -> Duration {
    let mut client = Client::open(url);
    let start = Instant::now();
    for number in 0..QUEUES {
        let name = format!("many {number}");
        let mut bytes = Vec::new();
        let new = queue::Declare { queue: &name, durable: true, nowait: true, ..queue::Declare::default() };
        wire::method(&mut bytes, 1, &new.into());
        let publish = basic::Publish { routing_key: name.as_bytes(), ..basic::Publish::default() };
        wire::content(&mut bytes, 1, &publish.into(), &[0x10, 0, 2], &BODY, FRAME_SIZE_DEFAULT);
        client.socket.write_all(&bytes).unwrap();
    }
    client.ask(queue::Declare { queue: "last", durable: true, ..queue::Declare::default() });
    start.elapsed()
}

fn show(what: &str, count: u64, took: Duration, broker: &Broker) {
    let (now, most) = broker.memory();
    println!("{what:<44} {:>9.0} /s   {now} MB, at most {most} MB", count as f64 / took.as_secs_f64());
}

fn main() {
    let mut flags: Vec<String> = std::env::args().skip(1).filter(|flag| flag != "--bench").collect();
    let mut millions = 1;
    if flags.first().is_some_and(|flag| flag == "--millions") {
        millions = flags.remove(1).parse().unwrap();
        flags.remove(0);
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), &flags);
    for (what, durable) in
        [("transient, confirms", false), ("durable, confirms", true), ("durable again", true)]
    {
        let (count, url) = (1_000_000, broker.url.clone());
        declare(&url, what, durable);
        let (took, consumed) = std::thread::scope(|scope| {
            let consumer = scope.spawn(|| consume(&url, what, count));
            (publish(&url, what, count, durable), consumer.join().unwrap())
        });
        show(&format!("{what}: published"), count, took, &broker);
        show(&format!("{what}: consumed"), count, consumed, &broker);
    }
    let mut client = Client::open(&broker.url);
    client.ask(confirm::Select { nowait: false });
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let method = basic::Publish { routing_key: b"durable, confirms", ..basic::Publish::default() };
            let mut bytes = Vec::new();
            wire::content(&mut bytes, 1, &method.into(), &[0x10, 0, 2], &BODY, FRAME_SIZE_DEFAULT);
            let start = Instant::now();
            client.socket.write_all(&bytes).unwrap();
            client.read(|_| {});
            start.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "{:<44} {:>9} us, p99 {} us",
        "a lone durable publish to its confirm",
        times[250].as_micros(),
        times[495].as_micros()
    );
    for (name, durable) in [("deep", true), ("deep and transient", false)] {
        let count = millions * 1_000_000;
        declare(&broker.url, name, durable);
        let took = publish(&broker.url, name, count, durable);
        show(&format!("{name}, {millions} million: filled"), count, took, &broker);
        if !durable {
            let took = consume(&broker.url, name, count);
            show(&format!("{name}, {millions} million: drained"), count, took, &broker);
        }
    }
    broker.stop();
    Broker::start(dir.path(), &flags).kill();
    let broker = Broker::start(dir.path(), &flags);
    let (now, most) = broker.memory();
    println!("{:<44} {now} MB, at most {most} MB", "started with the backlog");
    let took = consume(&broker.url, "deep", millions * 1_000_000);
    show(&format!("deep, {millions} million: drained"), millions * 1_000_000, took, &broker);
    broker.stop();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), &flags);
    let took = declare_many(&broker.url);
    show("durable queues with a message: declared", QUEUES, took, &broker);
    broker.kill();
    // After a crash, and after an orderly stop.
    Broker::start(dir.path(), &flags).stop();
    Broker::start(dir.path(), &flags).stop();
}
