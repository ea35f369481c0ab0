//! Durable queues through the binary: what survives an orderly stop, `kill -9`, a full or damaged disk.

mod crash;
mod failure;
mod inspect;

use bandy::mq::wire::method::{basic, confirm, queue};
use bandy::mq::wire::{self, FRAME_SIZE_DEFAULT, Fields, Table, TableBuf, Value};
use rustix::process::Signal;

use crate::mq_broker::Client;
use crate::support::{Home, Running, bandy, until};

fn broker_at(home: &Home, flags: &str) -> Running {
    bandy(&format!("mq broker -l :0 {flags}")).home(home).starts()
}

/// A publish of a message, persistent or not.
pub fn publish_bytes(queue: &str, persistent: bool, body: &[u8]) -> Vec<u8> {
    let publish = basic::Publish { routing_key: queue.as_bytes(), ..basic::Publish::default() };
    let properties = Fields { delivery_mode: persistent.then_some(2), ..Fields::default() }.to_vec();
    let mut bytes = Vec::new();
    wire::content(&mut bytes, 1, &publish.into(), &properties, body, FRAME_SIZE_DEFAULT);
    bytes
}

fn declare(client: &mut Client, name: &str, entries: &[(&str, Value<'_>)]) -> String {
    let mut arguments = TableBuf::new();
    entries.iter().for_each(|(name, value)| arguments.push(name, *value));
    let arguments: Table<'_> = arguments.as_table();
    client.ask(queue::Declare { queue: name, durable: true, arguments, ..queue::Declare::default() })
}

fn send(client: &mut Client, queue: &str, persistent: bool, body: &str) {
    client.socket.write_all(&publish_bytes(queue, persistent, body.as_bytes())).unwrap();
}

/// Messages waiting in a queue.
fn count(client: &mut Client, name: &str) -> String {
    client.ask(queue::Declare { queue: name, passive: true, ..queue::Declare::default() })
}

fn get(client: &mut Client, queue: &str) -> String {
    client.ask(basic::Get { queue, no_ack: true, ..basic::Get::default() })
}

fn confirms(client: &mut Client) {
    assert_eq!(client.ask(confirm::Select { nowait: false }), "confirm.select-ok");
}

fn stop(server: Running) {
    server.signal(Signal::TERM);
    server.ends().exits(0);
}

#[test]
fn durable_things_survive_a_restart_and_others_do_not() {
    let home = Home::new();
    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    assert_eq!(declare(&mut client, "kept", &[]), "kept 0");
    assert_eq!(client.declare("fleeting"), "fleeting 0");
    let exchange = wire::method::exchange::Declare {
        exchange: "orders",
        kind: "topic",
        durable: true,
        ..Default::default()
    };
    assert_eq!(client.ask(exchange), "exchange.declare-ok");
    let bind = queue::Bind { queue: "kept", exchange: "orders", routing_key: "#.new", ..Default::default() };
    assert_eq!(client.ask(bind), "queue.bind-ok");
    confirms(&mut client);
    for (number, persistent) in [true, false, true].into_iter().enumerate() {
        send(&mut client, "kept", persistent, &number.to_string());
        assert_eq!(client.next(), format!("ack {} false", number + 1));
    }
    send(&mut client, "fleeting", true, "gone");
    assert_eq!(client.next(), "ack 4 false");
    stop(server);

    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    assert!(count(&mut client, "fleeting").starts_with("channel.close NOT_FOUND"));
    let mut client = Client::ready(&server);
    assert_eq!(count(&mut client, "kept"), "kept 2", "the transient message is gone");
    assert_eq!(declare(&mut client, "kept", &[]), "kept 2");
    let publish = basic::Publish { exchange: "orders", routing_key: b"a.new", ..basic::Publish::default() };
    let mut bytes = Vec::new();
    wire::content(&mut bytes, 1, &publish.into(), &[0x10, 0, 2], b"routed", FRAME_SIZE_DEFAULT);
    client.socket.write_all(&bytes).unwrap();
    for body in ["0", "2", "routed"] {
        assert_eq!(get(&mut client, "kept"), format!("basic.get-ok: {body}"));
    }
    // What was taken stays taken, what was deleted stays deleted, with its bindings.
    let delete = queue::Delete { queue: "kept", ..queue::Delete::default() };
    assert_eq!(client.ask(delete), "queue.delete-ok");
    stop(server);

    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    assert_eq!(declare(&mut client, "kept", &[]), "kept 0");
    let publish = basic::Publish { exchange: "orders", routing_key: b"a.new", ..basic::Publish::default() };
    let mut bytes = Vec::new();
    wire::content(&mut bytes, 1, &publish.into(), &[0x10, 0, 2], b"nowhere", FRAME_SIZE_DEFAULT);
    client.socket.write_all(&bytes).unwrap();
    assert_eq!(get(&mut client, "kept"), "empty");
    stop(server);
    let logs = home.path("state/mq/default/logs");
    until("the log of the deleted queue is gone", || std::fs::read_dir(&logs).unwrap().count() <= 2);
}

#[test]
fn deliveries_and_returns_are_remembered() {
    let home = Home::new();
    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    let quorum = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::U8(2))];
    declare(&mut client, "counted", &quorum);
    declare(&mut client, "plain", &[]);
    confirms(&mut client);
    for queue in ["counted", "plain", "plain"] {
        send(&mut client, queue, true, "m");
        assert!(client.next().starts_with("ack"));
    }
    let get = |queue| basic::Get { queue, ..basic::Get::default() };
    assert_eq!(client.ask(get("counted")), "basic.get-ok: m");
    client.say(1, basic::Nack { delivery_tag: 1, multiple: false, requeue: true });
    assert_eq!(client.ask(get("plain")), "basic.get-ok: m");
    stop(server);

    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    client.consume("plain", true);
    assert_eq!(client.next(), "deliver 1 again: m");
    assert_eq!(client.next(), "deliver 2: m");
    let mut client = Client::ready(&server);
    // The second return is within the limit, the third is not; the stop was one.
    for _ in 0..2 {
        assert_eq!(client.ask(get("counted")), "basic.get-ok: m");
        client.say(1, basic::Nack { delivery_tag: 0, multiple: true, requeue: true });
    }
    assert_eq!(client.ask(get("counted")), "empty");
}

#[test]
fn a_directory_serves_one_broker_at_a_time() {
    let home = Home::new();
    let server = broker_at(&home, "");
    let said = format!("is in use by another process (process {})", server.id());
    let dir = home.path("state/mq/default");
    bandy(&format!("mq broker -l :0 --dir {}", dir.display())).home(&home).runs().exits(1).complains(&said);
    // The same data, and so the same place, which is asked for first.
    let there = format!("a server of yours is already at local: bandy (pid {})", server.id());
    bandy("mq broker -l :0").home(&home).runs().exits(1).complains(&there);
    let _other = broker_at(&home, "--memory");
    let _third = broker_at(&home, "--name third");
    bandy("mq broker -l :0 --dir d --durability memory").runs().exits(2).complains("has no use");
}

#[test]
fn transient_messages_never_touch_the_disk() {
    let home = Home::new();
    let server = broker_at(&home, "");
    let mut client = Client::ready(&server);
    declare(&mut client, "durable", &[]);
    client.declare("fleeting");
    confirms(&mut client);
    for number in 1..=200 {
        send(&mut client, if number % 2 == 0 { "durable" } else { "fleeting" }, number % 2 == 1, "x");
        assert_eq!(client.next(), format!("ack {number} false"));
    }
    let logs = home.path("state/mq/default/logs");
    // One log: that of the definitions.
    assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 1);
    assert!(!home.path("state/mq/default/spill").exists());
}
