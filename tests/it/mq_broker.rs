//! `bandy mq broker` through the binary, spoken to in frames made by the wire layer.

mod golden;
mod hostile;
mod limits;
mod management;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use bandy::mq::wire::method::{Long, basic, channel, confirm, connection, queue};
use bandy::mq::wire::{
    self, Assembler, BODY_SIZE_MAX, Event, FRAME_SIZE_DEFAULT, Method, Table, TableBuf, Value,
};
use rustix::process::Signal;

use crate::support::{DEADLINE, Home, Running, bandy, until};

pub trait Socket: Read + Write + Send {}
impl<T: Read + Write + Send> Socket for T {}

/// A client that sends what it is told and shows every answer as a line.
pub struct Client {
    pub socket: Box<dyn Socket>,
    assembler: Assembler,
    buffer: Vec<u8>,
    /// Shows closes as the recordings of RabbitMQ have them.
    exact: bool,
}

/// What a client says of itself.
pub struct Login {
    mechanism: &'static str,
    response: &'static [u8],
    vhost: &'static str,
    heartbeat: u16,
    frame_max: u32,
    channel_max: u16,
    /// Announces what RabbitMQ's clients do.
    capable: bool,
}

pub const GUEST: Login = Login {
    mechanism: "PLAIN",
    response: b"\0guest\0guest",
    vhost: "/",
    heartbeat: 0,
    frame_max: FRAME_SIZE_DEFAULT,
    channel_max: 2047,
    capable: true,
};

impl Client {
    pub fn over(socket: impl Read + Write + Send + 'static) -> Self {
        let assembler = Assembler::new(FRAME_SIZE_DEFAULT, BODY_SIZE_MAX);
        let mut client = Self { socket: Box::new(socket), assembler, buffer: Vec::new(), exact: false };
        client.socket.write_all(&wire::PROTOCOL_HEADER).unwrap();
        assert!(client.next().starts_with("connection.start"));
        client
    }

    pub fn to(server: &Running) -> Self {
        Self::over(dial(server))
    }

    /// Logs in; what is answered last: open-ok, or why not.
    pub fn login(&mut self, login: &Login) -> String {
        let mut capabilities = TableBuf::new();
        for name in ["authentication_failure_close", "consumer_cancel_notify", "connection.blocked"] {
            capabilities.push(name, Value::Bool(login.capable));
        }
        let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
        let start_ok = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: login.mechanism,
            response: Long(login.response),
            locale: "en_US",
        };
        self.say(0, start_ok);
        let tune = self.next();
        if !tune.starts_with("connection.tune") {
            return tune;
        }
        let Login { channel_max, frame_max, heartbeat, .. } = *login;
        self.say(0, connection::TuneOk { channel_max, frame_max, heartbeat });
        self.say(0, connection::Open { virtual_host: login.vhost, capabilities: "", insist: false });
        self.next()
    }

    /// With channel 1 open.
    pub fn ready(server: &Running) -> Self {
        let mut client = Self::to(server);
        assert_eq!(client.login(&GUEST), "connection.open-ok");
        assert_eq!(client.ask(channel::Open { out_of_band: "" }), "channel.open-ok");
        client
    }

    pub fn say<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, channel, &method.into());
        self.socket.write_all(&bytes).unwrap();
    }

    pub fn ask<'a>(&mut self, method: impl Into<Method<'a>>) -> String {
        self.say(1, method);
        self.next()
    }

    pub fn declare(&mut self, name: &str) -> String {
        self.ask(queue::Declare { queue: name, ..queue::Declare::default() })
    }

    pub fn publish_bytes(queue: &str, body: &[u8]) -> Vec<u8> {
        let publish = basic::Publish { routing_key: queue.as_bytes(), ..basic::Publish::default() };
        let mut bytes = Vec::new();
        wire::content(&mut bytes, 1, &publish.into(), &[0, 0], body, FRAME_SIZE_DEFAULT);
        bytes
    }

    pub fn publish(&mut self, queue: &str, body: &[u8]) {
        self.socket.write_all(&Self::publish_bytes(queue, body)).unwrap();
    }

    pub fn consume(&mut self, queue: &str, no_ack: bool) {
        let consume = basic::Consume { queue, consumer_tag: "t", no_ack, ..basic::Consume::default() };
        assert_eq!(self.ask(consume), "basic.consume-ok");
    }

    /// What comes next, as a line; `end` when the broker has closed the socket.
    pub fn next(&mut self) -> String {
        loop {
            let mut input = &self.buffer[..];
            let shown = self.assembler.next(&mut input).unwrap().map(|event| match &event {
                Event::Method { method: Method::ConnectionClose(close), .. } if self.exact => {
                    let connection::Close { reply_code, reply_text, class_id, method_id } = close;
                    format!("Connection.Close {reply_code} \"{reply_text}\" class={class_id} method={method_id} (ch 0)")
                }
                event => show(event),
            });
            let used = self.buffer.len() - input.len();
            self.buffer.drain(..used);
            if let Some(shown) = shown {
                return shown;
            }
            let mut part = vec![0; 1 << 16];
            match self.socket.read(&mut part) {
                Ok(0) => return "end".to_owned(),
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return "end".to_owned(),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }
}

/// The part of an answer that tests look at.
fn show(event: &Event<'_>) -> String {
    match event {
        Event::Heartbeat => "heartbeat".to_owned(),
        Event::Method { method, .. } => match method {
            Method::ConnectionClose(close) => format!("{} {}", method.name(), close.reply_text),
            Method::ChannelClose(close) => format!("{} {}", method.name(), close.reply_text),
            Method::ConnectionBlocked(blocked) => format!("{} {}", method.name(), blocked.reason),
            Method::QueueDeclareOk(ok) => format!("{} {}", ok.queue, ok.message_count),
            Method::BasicAck(ack) => format!("ack {} {}", ack.delivery_tag, ack.multiple),
            Method::BasicGetEmpty(_) => "empty".to_owned(),
            _ => method.name().to_owned(),
        },
        Event::Content { content, .. } => {
            let body = match content.body.len() {
                0..100 => String::from_utf8_lossy(&content.body).into_owned(),
                length => {
                    assert!(content.body.iter().all(|byte| *byte == content.body[0]));
                    format!("{length} times {}", content.body[0])
                }
            };
            match content.method() {
                Method::BasicDeliver(deliver) => {
                    let again = if deliver.redelivered { " again" } else { "" };
                    format!("deliver {}{again}: {body}", deliver.delivery_tag)
                }
                other => format!("{}: {body}", other.name()),
            }
        }
        Event::Oversized { body_size, .. } => format!("oversized {body_size}"),
    }
}

fn dial(server: &Running) -> TcpStream {
    let socket = TcpStream::connect(server.url.strip_prefix("amqp://").unwrap()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

fn broker(flags: &str) -> Running {
    bandy(&format!("mq broker -l :0 {flags}")).starts()
}

#[test]
fn what_is_published_is_confirmed_and_delivered_in_order() {
    let server = broker("");
    let mut taker = Client::ready(&server);
    assert_eq!(taker.declare("jobs"), "jobs 0");
    taker.consume("jobs", false);
    let mut giver = Client::ready(&server);
    assert_eq!(giver.ask(confirm::Select { nowait: false }), "confirm.select-ok");
    giver.publish("jobs", b"first");
    assert_eq!(giver.next(), "ack 1 false");
    assert_eq!(taker.next(), "deliver 1: first");
    // A body of several frames, an empty one, and many at a time.
    giver.publish("jobs", &vec![7; 300_000]);
    giver.publish("jobs", b"");
    let many: Vec<u8> =
        (0..5000).flat_map(|n| Client::publish_bytes("jobs", format!("{n}").as_bytes())).collect();
    giver.socket.write_all(&many).unwrap();
    assert_eq!(taker.next(), "deliver 2: 300000 times 7");
    assert_eq!(taker.next(), "deliver 3: ");
    for n in 0..5000 {
        assert_eq!(taker.next(), format!("deliver {}: {n}", n + 4));
    }
    taker.say(1, basic::Ack { delivery_tag: 0, multiple: true });
    assert_eq!(taker.declare("jobs"), "jobs 0");
    let mut acked = 1;
    while acked < 5003 {
        let ack = giver.next();
        let tag: u64 =
            ack.split(' ').nth(1).and_then(|tag| tag.parse().ok()).unwrap_or_else(|| panic!("{ack}"));
        assert!(tag > acked && (ack.ends_with("true") || tag == acked + 1), "{ack} after {acked}");
        acked = tag;
    }
    let get = basic::Get { queue: "jobs", ..basic::Get::default() };
    assert_eq!(giver.ask(get), "empty");
    taker.publish("jobs", b"last");
    assert_eq!(taker.next(), "deliver 5004: last");
    // What was not acknowledged goes to the next one, marked.
    drop(taker);
    giver.consume("jobs", true);
    assert_eq!(giver.next(), "deliver 1 again: last");
}

#[test]
fn bytes_may_come_one_by_one() {
    let server = broker("");
    let mut client = Client::ready(&server);
    assert_eq!(client.declare("q"), "q 0");
    for byte in Client::publish_bytes("q", b"slowly") {
        client.socket.write_all(&[byte]).unwrap();
    }
    assert_eq!(
        client.ask(basic::Get { queue: "q", no_ack: true, ..basic::Get::default() }),
        "basic.get-ok: slowly"
    );
}

#[test]
fn who_is_not_known_does_not_come_in() {
    let home = Home::new();
    let users = home.file(
        "users.json",
        r#"{"users":[{"name":"eve","password":"s3cret"}],"vhosts":[{"name":"shop"},{"name":"back"}],
           "permissions":[{"user":"eve","vhost":"shop","configure":"^eve","write":"","read":".*"}]}"#,
    );
    let server = bandy("mq broker -l :0 --user-file").arg(users).starts();
    let login = |login: Login| Client::to(&server).login(&login);
    let refused = "connection.close ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
        For details see the broker logfile.";
    assert_eq!(login(GUEST), refused);
    assert_eq!(login(Login { response: b"\0eve\0secret", ..GUEST }), refused);
    assert_eq!(login(Login { mechanism: "EXTERNAL", ..GUEST }), "end");
    let eve = || Login { response: b"\0eve\0s3cret", vhost: "shop", ..GUEST };
    assert_eq!(
        login(Login { vhost: "back", ..eve() }),
        "connection.close NOT_ALLOWED - access to vhost 'back' refused for user 'eve'"
    );
    assert_eq!(
        login(Login { vhost: "nope", ..eve() }),
        "connection.close NOT_ALLOWED - vhost nope not found"
    );
    let mut client = Client::to(&server);
    assert_eq!(client.login(&eve()), "connection.open-ok");
    assert_eq!(client.ask(channel::Open { out_of_band: "" }), "channel.open-ok");
    assert_eq!(client.declare("eve.q"), "eve.q 0");
    let denied = client.declare("bob.q");
    assert!(denied.starts_with("channel.close ACCESS_REFUSED"), "{denied}");
    bandy("mq broker -l :0 --user-file")
        .arg(home.file("bad.json", "[]"))
        .runs()
        .exits(2)
        .complains("definitions");
}

#[test]
fn another_protocol_is_answered_with_ours() {
    let server = broker("");
    let mut socket = dial(&server);
    socket.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    let mut answer = Vec::new();
    // Closing on what was not read resets the connection.
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, wire::PROTOCOL_HEADER);
    // Whatever is broken, everyone else is served on.
    let mut bad = Client::ready(&server);
    bad.socket.write_all(&[9, 0, 1, 0, 0, 0, 0, 0xce, 1, 2, 3]).unwrap();
    assert!(bad.next().starts_with("connection.close FRAME_ERROR"));
    bad.say(0, connection::CloseOk {});
    assert_eq!(bad.next(), "end");
    assert_eq!(Client::ready(&server).declare("q"), "q 0");
}

#[test]
fn a_client_may_close_while_others_go_on() {
    let server = broker("");
    let mut client = Client::ready(&server);
    client.say(0, connection::Close { reply_code: 200, ..connection::Close::default() });
    assert_eq!(client.next(), "connection.close-ok");
    assert_eq!(client.next(), "end");
    let mut client = Client::ready(&server);
    let missing = client.ask(queue::Purge { queue: "nope", ..queue::Purge::default() });
    assert_eq!(missing, "channel.close NOT_FOUND - no queue 'nope' in vhost '/'");
    client.say(1, channel::CloseOk {});
    assert_eq!(client.ask(channel::Open { out_of_band: "" }), "channel.open-ok");
}

#[test]
fn a_consumer_that_does_not_read_is_not_fed() {
    const COUNT: u8 = 64;
    let server = broker("");
    let mut lazy = Client::ready(&server);
    lazy.declare("flood");
    lazy.consume("flood", true);
    let mut other = Client::ready(&server);
    other.ask(confirm::Select { nowait: false });
    let body = |n: u8| vec![n; 1 << 20];
    for n in 0..COUNT {
        other.publish("flood", &body(n));
        assert!(other.next().starts_with("ack"));
    }
    // What fits the sockets' buffers and the credit has left the queue, no more.
    let left = other.declare("flood");
    let ready: u8 = left.strip_prefix("flood ").and_then(|count| count.parse().ok()).unwrap();
    assert!(ready > COUNT / 2, "{left}");
    for n in 0..COUNT {
        assert_eq!(lazy.next(), format!("deliver {}: {} times {n}", n + 1, 1 << 20));
    }
}

#[test]
fn a_client_that_reads_no_answers_is_not_read() {
    let server = broker("");
    let mut greedy = dial(&server);
    let mut client = Client::over(greedy.try_clone().unwrap());
    client.login(&GUEST);
    client.ask(channel::Open { out_of_band: "" });
    client.declare("one");
    client.publish("one", &vec![1; 1 << 20]);
    let mut asks = Vec::new();
    for tag in 1..=1000 {
        wire::method(&mut asks, 1, &basic::Get { queue: "one", ..basic::Get::default() }.into());
        wire::method(&mut asks, 1, &basic::Reject { delivery_tag: tag, requeue: true }.into());
    }
    // A thousand answers of a megabyte: all come, and the broker has but a few of them at a time.
    let asking = std::thread::spawn(move || greedy.write_all(&asks).is_ok());
    for n in 0..1000 {
        assert_eq!(client.next(), format!("basic.get-ok: {} times 1", 1 << 20), "{n}");
    }
    assert!(asking.join().unwrap());
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200_000, "{peak} kB at its peak");
}

#[test]
fn publishers_wait_while_memory_is_short() {
    let server = broker("--memory-max 1M");
    let mut giver = Client::ready(&server);
    giver.declare("big");
    giver.ask(confirm::Select { nowait: false });
    giver.publish("big", &vec![1; 2 << 20]);
    assert_eq!(giver.next(), "ack 1 false");
    // Whoever publishes then is stopped, not before, and what he publishes waits, as does what he says behind it.
    assert_eq!(giver.declare("before"), "before 0");
    giver.publish("big", b"more");
    assert_eq!(giver.next(), "connection.blocked low on memory");
    giver.say(1, queue::Delete { queue: "before", ..queue::Delete::default() });
    let mut taker = Client::ready(&server);
    let get = || basic::Get { queue: "big", no_ack: true, ..basic::Get::default() };
    assert_eq!(taker.ask(get()), format!("basic.get-ok: {} times 1", 2 << 20));
    assert_eq!(giver.next(), "connection.unblocked");
    // The delete is answered at once, the confirm at the end of the batch.
    let answers = [giver.next(), giver.next()];
    assert!(answers.contains(&"ack 2 false".to_owned()), "{answers:?}");
    assert!(answers.contains(&"queue.delete-ok".to_owned()), "{answers:?}");
    giver.publish("big", b"last");
    until("the last one is there", || taker.declare("big") == "big 2");
}

#[test]
fn silence_ends_a_connection_that_agreed_to_heartbeats() {
    let server = broker("");
    let mut client = Client::to(&server);
    assert_eq!(client.login(&Login { heartbeat: 1, ..GUEST }), "connection.open-ok");
    assert_eq!(client.next(), "heartbeat");
    let mut beats = 1;
    while client.next() == "heartbeat" {
        beats += 1;
    }
    assert!((2..10).contains(&beats), "{beats}");
}

#[test]
fn a_broker_that_stops_says_so() {
    let home = Home::new();
    let path = home.path("mq.sock");
    let server = bandy(&format!("mq broker -l unix:{}", path.display())).starts();
    let socket = UnixStream::connect(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = Client::over(socket);
    let table = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    assert!(Table::parse(table).is_ok());
    let login = Login { mechanism: "AMQPLAIN", response: table, ..GUEST };
    assert_eq!(client.login(&login), "connection.open-ok");
    server.signal(Signal::TERM);
    assert_eq!(
        client.next(),
        "connection.close CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    client.say(0, connection::CloseOk {});
    assert_eq!(client.next(), "end");
    server.ends().exits(0);
}

#[test]
fn what_is_not_there_yet_says_so() {
    bandy("mq nonsense").runs().exits(2).complains("not a command of bandy mq");
}

#[test]
fn numbers_have_rabbitmqs_names() {
    let mut server = bandy("mq broker -l :0 --metrics 127.0.0.1:0").spawns();
    server.says("metrics at http://");
    let said = server.stderr();
    let at = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    server.url = server.line();
    let mut client = Client::ready(&server);
    client.declare("q");
    client.publish("q", b"x");
    assert_eq!(client.declare("q"), "q 1");
    let mut socket = TcpStream::connect(at).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    for line in [
        "rabbitmq_connections 1",
        "rabbitmq_channels 1",
        "rabbitmq_queues 1",
        "rabbitmq_queue_messages_ready 1",
        "rabbitmq_global_messages_received_total{protocol=\"amqp091\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}:\n{page}");
    }
}
