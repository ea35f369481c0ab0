//! What clients do that break the rules, or keep them in the worst way: the right answer, bounded memory, and everybody
//! else served on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bandy::mq::wire::frame::{END, Kind};
use bandy::mq::wire::frame_header;
use bandy::mq::wire::method::exchange;

use super::*;

/// How long the broker waits for a handshake: RabbitMQ's ten seconds.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// Memory of the broker now, in kB.
fn resident(server: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn framed(kind: Kind, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_header(kind, channel, payload.len() as u32).to_vec();
    bytes.extend_from_slice(payload);
    bytes.push(END);
    bytes
}

/// `queue.declare` with argument bytes that a sane encoder would not write.
fn declare_with(arguments: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    payload.extend_from_slice(&(arguments.len() as u32).to_be_bytes());
    payload.extend_from_slice(arguments);
    framed(Kind::Method, 1, &payload)
}

/// Somebody who does nothing wrong is served.
#[track_caller]
fn serves(client: &mut Client, name: &str) {
    assert_eq!(client.declare(name), format!("{name} 0"));
    client.publish(name, b"x");
    until("the message is there", || client.declare(name) == format!("{name} 1"));
    let get = basic::Get { queue: name, no_ack: true, ..basic::Get::default() };
    assert_eq!(client.ask(get), "basic.get-ok: x");
}

#[test]
fn tables_nested_without_end_are_refused() {
    let server = broker("");
    let mut bystander = Client::ready(&server);
    // Arrays in arrays, ten thousand deep; each says that it holds all that follows.
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![b'A'];
        outer.extend_from_slice(&(nested.len() as u32).to_be_bytes());
        outer.append(&mut nested);
        nested = outer;
    }
    let arguments = [&[1, b'a'], &nested[..]].concat();
    let mut client = Client::ready(&server);
    client.socket.write_all(&declare_with(&arguments)).unwrap();
    let answer = client.next();
    assert!(answer.starts_with("connection.close SYNTAX_ERROR"), "{answer}");
    serves(&mut bystander, "after-nesting");
}

#[test]
fn lengths_that_are_not_true_are_refused() {
    let server = broker("");
    let mut bystander = Client::ready(&server);
    for arguments in [
        // A table of four gigabytes in one entry, a string longer than all, a name longer than all, a type nobody has.
        b"\x01aF\xff\xff\xff\xff".as_slice(),
        b"\x01aS\x7f\xff\xff\xff",
        b"\xff",
        b"\x01a\x01",
    ] {
        let mut client = Client::ready(&server);
        client.socket.write_all(&declare_with(arguments)).unwrap();
        let answer = client.next();
        assert!(answer.starts_with("connection.close SYNTAX_ERROR"), "{arguments:?}: {answer}");
    }
    serves(&mut bystander, "after-lies");
}

#[test]
fn a_body_that_is_announced_takes_no_memory_before_it_comes() {
    const WAITING: u16 = 2000;
    let server = broker("");
    let mut bystander = Client::ready(&server);
    let before = resident(&server);
    let mut client = Client::to(&server);
    client.login(&GUEST);
    let mut bytes = Vec::new();
    for channel in 1..=WAITING {
        wire::method(&mut bytes, channel, &channel::Open { out_of_band: "" }.into());
        let publish = basic::Publish { routing_key: b"q", ..basic::Publish::default() };
        wire::method(&mut bytes, channel, &publish.into());
        // 128 MiB each are to follow, and never do.
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(128_u64 << 20).to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&framed(Kind::Header, channel, &header));
    }
    client.socket.write_all(&bytes).unwrap();
    for _ in 1..=WAITING {
        assert_eq!(client.next(), "channel.open-ok");
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 50_000, "{grown} kB more");
    serves(&mut bystander, "after-headers");
}

/// A publish whose body is to have `size` bytes, and the first `sent` of them.
fn begins(channel: u16, size: u64, sent: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let publish = basic::Publish { routing_key: b"q", ..basic::Publish::default() };
    wire::method(&mut bytes, channel, &publish.into());
    let header = [&[0, 60, 0, 0], &size.to_be_bytes()[..], &[0, 0]].concat();
    bytes.extend_from_slice(&framed(Kind::Header, channel, &header));
    let part = framed(Kind::Body, channel, &[7; 64 << 10]);
    (0..sent / (64 << 10)).for_each(|_| bytes.extend_from_slice(&part));
    bytes
}

#[test]
fn contents_before_the_login_are_refused_by_their_first_frame() {
    let server = broker("--memory");
    let started = Instant::now();
    let mut client = Client::to(&server);
    client.socket.write_all(&begins(1, 500 << 20, 0)).unwrap();
    assert_eq!(client.next(), "end");
    let mut client = Client::to(&server);
    client.say(
        0,
        connection::StartOk {
            client_properties: Table::default(),
            mechanism: "PLAIN",
            response: Long(b"\0guest\0guest"),
            locale: "en_US",
        },
    );
    assert_eq!(client.next(), "connection.tune");
    client.socket.write_all(&begins(1, 500 << 20, 0)).unwrap();
    assert_eq!(
        client.next(),
        "connection.close UNEXPECTED_FRAME - frame of a channel before connection.open"
    );
    assert!(started.elapsed() < HANDSHAKE_WAIT);
}

#[test]
fn a_content_on_a_channel_that_is_not_there_is_refused_before_it_has_come() {
    let server = broker("--memory");
    let mut client = Client::ready(&server);
    client.socket.write_all(&begins(7, 100 << 20, 0)).unwrap();
    assert_eq!(client.next(), "connection.close CHANNEL_ERROR - expected 'channel.open'");
}

#[test]
fn a_body_that_is_too_large_is_not_kept() {
    let server = broker("--memory");
    let mut client = Client::ready(&server);
    let before = resident(&server);
    client.socket.write_all(&begins(1, (128 << 20) + 1, 96 << 20)).unwrap();
    client.say(2, channel::Open { out_of_band: "" });
    assert_eq!(client.next(), "channel.open-ok");
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 50_000, "{grown} kB more");
}

#[test]
fn contents_that_never_end_count_as_memory_and_have_a_bound() {
    let server = broker("--memory --memory-max 8M");
    let mut hoarder = Client::ready(&server);
    hoarder.socket.write_all(&begins(1, 100 << 20, 10 << 20)).unwrap();
    hoarder.say(2, channel::Open { out_of_band: "" });
    assert_eq!(hoarder.next(), "channel.open-ok");
    let mut giver = Client::ready(&server);
    giver.publish("q", b"x");
    assert_eq!(giver.next(), "connection.blocked low on memory");
    // One may become as large as a message may be; it is whole then, and waits.
    hoarder.socket.write_all(&begins(2, 128 << 20, 120 << 20)).unwrap();
    assert_eq!(
        hoarder.next(),
        "connection.close RESOURCE_ERROR - contents that have not all come take too much memory"
    );
    drop(hoarder);
    assert_eq!(giver.next(), "connection.unblocked");
}

#[test]
fn a_body_that_cannot_be_ends_the_connection_and_nothing_else() {
    let server = broker("");
    let mut bystander = Client::ready(&server);
    let mut client = Client::ready(&server);
    let publish = basic::Publish { routing_key: b"q", ..basic::Publish::default() };
    client.say(1, publish);
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&u64::MAX.to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    client.socket.write_all(&framed(Kind::Header, 1, &header)).unwrap();
    let answer = client.next();
    assert!(answer.starts_with("connection.close FRAME_ERROR - content body size"), "{answer}");
    serves(&mut bystander, "after-size");
}

#[test]
fn channels_that_are_not_there_or_too_many_end_the_connection() {
    let server = broker("");
    let mut bystander = Client::ready(&server);
    let mut client = Client::ready(&server);
    client.say(7, queue::Declare { queue: "q", ..queue::Declare::default() });
    assert_eq!(client.next(), "connection.close CHANNEL_ERROR - expected 'channel.open'");
    let mut client = Client::to(&server);
    client.login(&Login { channel_max: 3, ..GUEST });
    for channel in 1..=3 {
        client.say(channel, channel::Open { out_of_band: "" });
        assert_eq!(client.next(), "channel.open-ok");
    }
    client.say(4, channel::Open { out_of_band: "" });
    let answer = client.next();
    assert!(answer.starts_with("connection.close NOT_ALLOWED"), "{answer}");
    serves(&mut bystander, "after-channels");
}

#[test]
fn who_says_nothing_in_the_handshake_is_let_go() {
    let server = broker("");
    let started = Instant::now();
    let patience = HANDSHAKE_WAIT + DEADLINE;
    let mut silent = dial(&server);
    silent.set_read_timeout(Some(patience)).unwrap();
    let half = dial(&server);
    half.set_read_timeout(Some(patience)).unwrap();
    let mut half = Client::over(half);
    let mut byte = [0];
    assert_eq!(silent.read(&mut byte).unwrap(), 0);
    assert_eq!(half.next(), "end");
    assert!(started.elapsed() >= HANDSHAKE_WAIT);
    serves(&mut Client::ready(&server), "after-silence");
}

#[test]
fn frames_before_the_login_are_small() {
    for (compat, size) in [("3", 4096), ("4", 8192)] {
        let server = broker(&format!("--compat {compat}"));
        let mut client = Client::to(&server);
        client.exact = true;
        // A frame that is never sent in full: its header is enough.
        client.socket.write_all(&frame_header(Kind::Method, 0, size + 9)).unwrap();
        let answer = client.next();
        assert!(answer == "end" || answer.contains("frame_too_large"), "{answer}");
        let mut client = Client::to(&server);
        let name = "x".repeat(size as usize - 300);
        let properties = TableBuf::new().with("connection_name", Value::text(&name));
        let start_ok = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: "PLAIN",
            response: Long(b"\0guest\0guest"),
            locale: "en_US",
        };
        client.say(0, start_ok);
        assert_eq!(client.next(), "connection.tune");
    }
}

#[test]
fn deliveries_that_nobody_acknowledges_stop_who_publishes_and_nobody_else() {
    let server = broker("--memory-max 8M");
    let mut hoarder = Client::ready(&server);
    hoarder.declare("hoard");
    hoarder.consume("hoard", false);
    let had = Arc::new(AtomicU32::new(0));
    let having = Arc::clone(&had);
    std::thread::spawn(move || {
        while hoarder.next().starts_with("deliver") {
            having.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut giver = Client::ready(&server);
    giver.ask(confirm::Select { nowait: false });
    let mut confirmed = 0;
    while confirmed < 1000 {
        giver.publish("hoard", &[7; 64 << 10]);
        let answer = giver.next();
        if answer.starts_with("connection.blocked") {
            break;
        }
        assert!(answer.starts_with("ack"), "{answer}");
        confirmed += 1;
    }
    assert!((100..300).contains(&confirmed), "{confirmed} of 64 KiB in 8 MiB");
    let mut bystander = Client::ready(&server);
    assert_eq!(bystander.declare("after-hoard"), "after-hoard 0");
    assert!(resident(&server) < 150_000, "{} kB", resident(&server));
    until("everything was delivered", || had.load(Ordering::Relaxed) >= confirmed);
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let server = broker("");
    let churn = |count: usize| {
        for round in 0..count {
            let mut client = Client::ready(&server);
            client.ask(queue::Declare { queue: "mine", exclusive: true, ..queue::Declare::default() });
            client.publish("mine", &[1; 4096]);
            client.consume("mine", false);
            match round % 3 {
                // Closed, or dropped, or in the middle of a frame.
                0 => client.say(0, connection::Close::default()),
                1 => {}
                _ => client.socket.write_all(&Client::publish_bytes("mine", b"never whole")[..20]).unwrap(),
            }
            drop(client);
            until("the name is free", || {
                let mut next = Client::ready(&server);
                let passive = queue::Declare { queue: "mine", passive: true, ..queue::Declare::default() };
                next.ask(passive).starts_with("channel.close NOT_FOUND")
            });
        }
    };
    churn(30);
    let warm = resident(&server);
    churn(90);
    let grown = resident(&server).saturating_sub(warm);
    assert!(grown < 10_000, "{grown} kB after 90 more");
    serves(&mut Client::ready(&server), "after-churn");
}

#[test]
fn who_was_busy_and_is_idle_holds_no_memory_for_it() {
    const CLIENTS: usize = 150;
    let server = broker("--memory");
    let busy = |_| {
        let mut client = Client::ready(&server);
        // Nobody takes them: all that is left is what reading them took.
        let publish = Client::publish_bytes("nowhere", &[7; 1000]);
        client.socket.write_all(&publish.repeat(2000)).unwrap();
        assert_eq!(client.ask(basic::Qos { prefetch_count: 1, ..basic::Qos::default() }), "basic.qos-ok");
        client
    };
    let first: Vec<Client> = (0..10).map(busy).collect();
    let warm = resident(&server);
    let others: Vec<Client> = (0..CLIENTS).map(busy).collect();
    let grown = resident(&server).saturating_sub(warm);
    assert!(grown < 40 * CLIENTS as u64, "{grown} kB for {CLIENTS} that are idle now");
    drop((first, others));
    serves(&mut Client::ready(&server), "after-bursts");
}

#[test]
fn one_who_floods_many_queues_does_not_keep_others_waiting() {
    const QUEUES: usize = 100;
    const MESSAGES: usize = 5000;
    let server = broker("");
    let mut flooder = Client::ready(&server);
    for n in 0..QUEUES {
        let limits = TableBuf::new().with("x-max-length", Value::I32(10));
        let name = format!("flood-{n}");
        let arguments = limits.as_table();
        flooder.ask(queue::Declare { queue: &name, exclusive: true, arguments, ..queue::Declare::default() });
        let bind = queue::Bind { queue: &name, exchange: "amq.fanout", ..queue::Bind::default() };
        assert_eq!(flooder.ask(bind), "queue.bind-ok");
    }
    // So that the broker reads much at a time.
    flooder.publish("nowhere", &vec![0; 4 << 20]);
    let publish = basic::Publish { exchange: "amq.fanout", ..basic::Publish::default() };
    let mut flood = Vec::new();
    for _ in 0..MESSAGES {
        wire::content(&mut flood, 1, &publish.into(), &[0, 0], b"x", FRAME_SIZE_DEFAULT);
    }
    let mut bystander = Client::ready(&server);
    let started = Instant::now();
    flooder.socket.write_all(&flood).unwrap();
    let flooding = std::thread::spawn(move || {
        let count =
            flooder.ask(queue::Declare { queue: "flood-0", passive: true, ..queue::Declare::default() });
        (count, started.elapsed())
    });
    let mut longest = Duration::ZERO;
    while !flooding.is_finished() {
        let asked = Instant::now();
        assert_eq!(bystander.declare("meanwhile"), "meanwhile 0");
        longest = longest.max(asked.elapsed());
    }
    let (count, whole) = flooding.join().unwrap();
    assert_eq!(count, "flood-0 10");
    assert!(longest < whole / 3, "{longest:?} of {whole:?}");
}

#[test]
fn names_may_hold_what_255_bytes_can() {
    let server = broker("");
    let long = "n".repeat(255);
    for name in ["a/b//c", "..", "../../etc/passwd", "a\0b", "\0", " ", "%2f", "*.#", "\u{1f430}", &long] {
        let mut client = Client::ready(&server);
        serves(&mut client, name);
        let declare = exchange::Declare { exchange: name, kind: "direct", ..exchange::Declare::default() };
        assert_eq!(client.ask(declare), "exchange.declare-ok", "{name:?}");
        let bind = queue::Bind { queue: name, exchange: name, routing_key: name, ..queue::Bind::default() };
        assert_eq!(client.ask(bind), "queue.bind-ok", "{name:?}");
        let publish =
            basic::Publish { exchange: name, routing_key: name.as_bytes(), ..basic::Publish::default() };
        let mut bytes = Vec::new();
        wire::content(&mut bytes, 1, &publish.into(), &[0, 0], b"through", FRAME_SIZE_DEFAULT);
        client.socket.write_all(&bytes).unwrap();
        client.consume(name, true);
        assert_eq!(client.next(), "deliver 2: through", "{name:?}");
    }
}
