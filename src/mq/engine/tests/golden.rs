//! The answers of a real RabbitMQ, recorded case by case, compared with the engine's.

use super::support::*;
use crate::mq::engine::{Access, ConnectionId, Reply, Send};
use crate::mq::wire::{Fields, Method, Table};

const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/amqp/errors-rabbitmq-3.10.8.txt"));

/// Cases that are decided before the engine sees anything.
const NOT_HERE: &[&str] = &[
    // Of the server: protocol header, SASL, tuning, virtual hosts.
    "protocol header 0-9-1 (\\0\\0\\9\\1)",
    "protocol header 1.0 (\\0\\1\\0\\0)",
    "protocol header SASL 1.0 (\\3\\1\\0\\0)",
    "protocol header 0-8 (\\1\\1\\8\\0)",
    "protocol header 0-9 (\\1\\1\\0\\9)",
    "garbage header \"HELLO...\"",
    "HTTP GET",
    "bad password, cap authentication_failure_close",
    "bad password, without the capability",
    "unknown mechanism",
    "AMQPLAIN with bad response",
    "unknown vhost",
    "tune-ok frame_max 1000 (<4096)",
    "tune-ok frame_max 200000 (>131072)",
    "tune-ok channel_max 5000 (>2047)",
    "tune-ok frame_max 0",
    // Of wire: frames and the assembly of contents.
    "heartbeat on ch 1",
    "body frame without publish",
    "header frame without publish",
    "method in the middle of content",
    "bad frame end",
    "unknown frame type 9",
    "unknown class 99",
    "frame larger than frame_max",
    "truncated queue.declare args",
    "content body larger than header size",
    // Of nobody: the recording client refused to send it.
    "queue.declare name >255 n/a; name with newline",
];

/// As the recording prints it.
fn show(send: &Send) -> Vec<String> {
    let close = |name: &str, code: &u16, text: &str, method: &(u16, u16), channel: u16| {
        format!("{name} {code} \"{text}\" class={} method={} (ch {channel})", method.0, method.1)
    };
    match send {
        Send::CloseChannel { channel, code, text, method } => {
            vec![close("Channel.Close", code, text, method, *channel)]
        }
        Send::CloseConnection { code, text, method } => {
            vec![close("Connection.Close", code, text, method, 0)]
        }
        Send::Return { channel, code, text, message } => vec![
            format!(
                "Basic.Return {{'reply_code': {code}, 'reply_text': '{text}', 'exchange': '{}', 'routing_key': '{}'}} (ch {channel})",
                message.exchange,
                String::from_utf8_lossy(&message.routing_key)
            ),
            format!("ContentHeader  (ch {channel})"),
            format!("ContentBody  (ch {channel})"),
        ],
        Send::Ack { channel, tag, multiple } => {
            let multiple = if *multiple { "True" } else { "False" };
            vec![format!("Basic.Ack {{'delivery_tag': {tag}, 'multiple': {multiple}}} (ch {channel})")]
        }
        Send::Cancel { channel, consumer } => {
            vec![format!("Basic.Cancel {{'consumer_tag': '{consumer}', 'nowait': True}} (ch {channel})")]
        }
        Send::Reply { channel, reply } => vec![format!("{} (ch {channel})", show_reply(reply))],
        other => vec![format!("{other:?}")],
    }
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::ChannelOpenOk => "Channel.OpenOk {'channel_id': ''}".to_owned(),
        Reply::ExchangeDeclareOk => "Exchange.DeclareOk {}".to_owned(),
        Reply::ExchangeDeleteOk => "Exchange.DeleteOk {}".to_owned(),
        Reply::QueueDeclareOk { queue, messages, consumers } => {
            // Server-named: as many characters of the same alphabet.
            let name = if queue.starts_with("amq.gen-") && queue.len() == "amq.gen-".len() + 22 {
                "amq.gen-sdGBnhwwxIA5e4U5GVbQbg"
            } else {
                &**queue
            };
            format!(
                "Queue.DeclareOk {{'queue': '{name}', 'message_count': {messages}, 'consumer_count': {consumers}}}"
            )
        }
        Reply::QueueUnbindOk => "Queue.UnbindOk {}".to_owned(),
        Reply::QueueDeleteOk { messages } => format!("Queue.DeleteOk {{'message_count': {messages}}}"),
        Reply::BasicCancelOk { consumer } => format!("Basic.CancelOk {{'consumer_tag': '{consumer}'}}"),
        Reply::BasicRecoverOk => "Basic.RecoverOk {}".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A world with one connection, and what the last step brought.
struct Case {
    world: World,
    connection: ConnectionId,
    last: Vec<Send>,
}

impl Case {
    fn new() -> Self {
        let mut world = World::new();
        let connection = world.open();
        Self { world, connection, last: Vec::new() }
    }

    fn then<'a>(mut self, method: impl Into<Method<'a>>) -> Self {
        self.last = self.world.call(self.connection, 1, method);
        self
    }

    fn publish(mut self, method: basic::Publish<'_>, fields: Fields<'_>) -> Self {
        self.last = self.world.publish_as(self.connection, method, fields, "x");
        self
    }

    /// The answer to the last method.
    fn answer(self) -> String {
        self.last.iter().flat_map(show).collect::<Vec<_>>().join(" ; ")
    }

    /// What came for the last method, and then nothing, unless the connection was closed.
    fn watch(self) -> String {
        let mut shown: Vec<String> = self.last.iter().flat_map(show).collect();
        if !shown.last().is_some_and(|last| last.starts_with("Connection.Close")) {
            shown.push("(silence)".to_owned());
        }
        shown.join(" ; ")
    }
}

fn arguments<'a>(name: &'a str, key: &str, value: Value<'_>) -> queue::Declare<'a> {
    queue::Declare { arguments: table(&[(key, value)]), ..declare(name) }
}

fn quorum(name: &str) -> queue::Declare<'_> {
    arguments(name, "x-queue-type", Value::text("quorum"))
}

fn delete_x(name: &str) -> exchange::Delete<'_> {
    exchange::Delete { ticket: 0, exchange: name, if_unused: false, nowait: false }
}

fn unbind<'a>(queue: &'a str, exchange: &'a str) -> queue::Unbind<'a> {
    queue::Unbind { ticket: 0, queue, exchange, routing_key: "nokey", arguments: Table::default() }
}

fn purge(queue: &str) -> queue::Purge<'_> {
    queue::Purge { ticket: 0, queue, nowait: false }
}

fn mandatory() -> basic::Publish<'static> {
    basic::Publish { mandatory: true, ..publish("", "nope-q") }
}

/// What another connection is told about an exclusive queue.
fn of_another<'a>(name: &str, method: impl Into<Method<'a>>) -> String {
    let mut case = Case::new().then(queue::Declare { exclusive: true, ..declare(name) });
    let other = case.world.open();
    let sends = case.world.call(other, 1, method);
    sends.iter().flat_map(show).collect::<Vec<_>>().join(" ; ")
}

/// What a consumer is told whose queue is deleted.
fn deleted_under(notify: bool) -> String {
    let mut world = World::new();
    let connection = world.connect_as("guest", Access::full(), notify);
    world.open_channel(connection, 1);
    world.tell(connection, 1, declare("gccn"));
    world.tell(connection, 1, consume("gccn", "t"));
    let other = world.open();
    world.tell(other, 1, delete("gccn"));
    let last = world.out.to(connection).to_vec();
    Case { world, connection, last }.watch()
}

/// Headers of a dead letter as the recording prints them; times are the broker's.
fn dead_letter(first: Fields<'_>, max_length: bool, name: &str, time: &str) -> String {
    let dead = format!("{name}q").replace("gdl2q", "gdlq2");
    let mut entries =
        vec![("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text(&dead))];
    if max_length {
        entries.push(("x-max-length", Value::U8(1)));
    }
    let declared = queue::Declare { auto_delete: true, arguments: table(&entries), ..declare(name) };
    let mut case = Case::new().then(declare(&dead)).then(declared).publish(publish("", name), first);
    if max_length {
        case = case.publish(publish("", name), Fields::default());
    } else {
        case.world.pass(500);
    }
    let messages = case.world.take_messages(case.connection, &dead);
    let [message] = &messages[..] else { panic!("one dead letter: {messages:?}") };
    let json = serde_json::Value::Object(crate::mq::engine::json_of(message.headers())).to_string();
    let json = json
        .replace(&(START / 1000).to_string(), &format!("\"{time}\""))
        .replace("\":", "\": ")
        .replace(",\"", ", \"");
    let expiration = if max_length {
        String::new()
    } else {
        format!(" expiration={}", if message.expiration().is_some() { "kept" } else { "None" })
    };
    format!("x-death {json}{expiration}")
}

fn connections(name: &str) -> Option<String> {
    let answer = match name {
        "method on unopened channel 7" => {
            let mut case = Case::new();
            case.last = case.world.call(case.connection, 7, declare("x"));
            case.answer()
        }
        "channel.open twice" => Case::new().then(channel::Open { out_of_band: "" }).answer(),
        "channel number above channel_max" => {
            let mut case = Case::new();
            case.connection = case.world.engine.connect(crate::mq::engine::Peer {
                name: "test".into(),
                user: "guest".into(),
                access: Access::full().into(),
                channel_max: 5,
                allowance: std::sync::Arc::default(),
                cancel_notify: true,
            });
            case.last = case.world.call(case.connection, 6, channel::Open { out_of_band: "" });
            case.answer()
        }
        "basic.ack on ch 0" => {
            let mut case = Case::new();
            case.last = case.world.call(case.connection, 0, ack(1, false));
            case.answer()
        }
        "channel.flow active=false" => Case::new().then(channel::Flow { active: false }).answer(),
        "tx.commit without select" => Case::new().then(tx::Commit {}).answer(),
        "tx.select then confirm.select" => {
            Case::new().then(tx::Select {}).then(confirm::Select { nowait: false }).answer()
        }
        "confirm.select then tx.select" => {
            Case::new().then(confirm::Select { nowait: false }).then(tx::Select {}).answer()
        }
        _ => return None,
    };
    Some(answer)
}

fn queue_declares(name: &str) -> Option<String> {
    let one = |method: queue::Declare<'_>| Some(Case::new().then(method).answer());
    let g4 = |key: &str, value: Value<'_>| Some(Case::new().then(arguments("g4", key, value)).answer());
    match name {
        "queue.declare passive missing" => one(queue::Declare { passive: true, ..declare("nope-q") }),
        "queue.declare amq.foo" => one(declare("amq.foo")),
        "queue.declare inequivalent durable" => {
            let again = queue::Declare { durable: true, ..declare("g1") };
            Some(Case::new().then(declare("g1")).then(again).answer())
        }
        "queue.declare inequivalent arg" => {
            let again = arguments("g2", "x-max-length", Value::I8(5));
            Some(Case::new().then(declare("g2")).then(again).answer())
        }
        "queue.declare same, integer type changed (B vs I)" => {
            let first = arguments("g2b", "x-max-length", Value::I8(5));
            let again = arguments("g2b", "x-max-length", Value::I32(500_000));
            Some(Case::new().then(first).then(again).answer())
        }
        "queue.declare unknown arg x-foo" => one(arguments("g3", "x-foo", Value::I8(5))),
        "queue.declare x-message-ttl string" => g4("x-message-ttl", Value::text("5")),
        "queue.declare x-message-ttl -1" => g4("x-message-ttl", Value::I8(-1)),
        "queue.declare x-expires 0" => g4("x-expires", Value::I8(0)),
        "queue.declare x-max-priority 300" => g4("x-max-priority", Value::I16(300)),
        "queue.declare x-overflow foo" => g4("x-overflow", Value::text("foo")),
        "queue.declare x-queue-type foo" => g4("x-queue-type", Value::text("foo")),
        "queue.declare quorum not durable" => one(quorum("g4")),
        "queue.declare quorum exclusive" => {
            one(queue::Declare { durable: true, exclusive: true, ..quorum("g4") })
        }
        "queue.declare quorum server-named" => one(queue::Declare { durable: true, ..quorum("") }),
        "queue.declare x-dead-letter-routing-key without dlx" => {
            g4("x-dead-letter-routing-key", Value::text("a"))
        }
        "queue.declare server-named" => one(queue::Declare { exclusive: true, ..declare("") }),
        "declare exclusive queue of another connection" => {
            Some(of_another("gex", queue::Declare { exclusive: true, ..declare("gex") }))
        }
        "passive declare of another connection's exclusive" => {
            Some(of_another("gex2", queue::Declare { passive: true, ..declare("gex2") }))
        }
        _ => None,
    }
}

fn queue_others(name: &str) -> Option<String> {
    let own = |name: &'static str| Case::new().then(queue::Declare { exclusive: true, ..declare(name) });
    let case = match name {
        "queue.bind missing exchange" => own("g6").then(bind("g6", "nope-x", "k")),
        "queue.bind missing queue" => Case::new().then(bind("nope-q", "amq.direct", "k")),
        "queue.bind both missing" => Case::new().then(bind("nope-q", "nope-x", "k")),
        "queue.bind to default exchange" => own("g6").then(bind("g6", "", "k")),
        "queue.bind no previous queue" => Case::new().then(bind("", "amq.direct", "k")),
        "queue.unbind missing binding" => own("g6").then(unbind("g6", "amq.direct")),
        "queue.unbind missing exchange" => own("g6").then(unbind("g6", "nope-x")),
        "queue.delete missing" => Case::new().then(delete("nope-q")),
        "queue.delete if-empty non-empty" => Case::new()
            .then(declare("g7"))
            .publish(publish("", "g7"), Fields::default())
            .then(queue::Delete { if_empty: true, ..delete("g7") }),
        "queue.delete if-unused with consumer" => Case::new()
            .then(declare("g8"))
            .then(consume("g8", "t"))
            .then(queue::Delete { if_unused: true, ..delete("g8") }),
        "queue.purge missing" => Case::new().then(purge("nope-q")),
        "consume another connection's exclusive" => return Some(of_another("gex2", consume("gex2", "t"))),
        "get another connection's exclusive" => return Some(of_another("gex2", get("gex2"))),
        "bind another connection's exclusive" => {
            return Some(of_another("gex2", bind("gex2", "amq.direct", "k")));
        }
        "purge another connection's exclusive" => return Some(of_another("gex2", purge("gex2"))),
        "delete another connection's exclusive" => return Some(of_another("gex2", delete("gex2"))),
        "queue deleted under a consumer (ccn capability)" => return Some(deleted_under(true)),
        "queue deleted under a consumer (no capability)" => return Some(deleted_under(false)),
        _ => return None,
    };
    Some(case.answer())
}

fn exchanges(name: &str) -> Option<String> {
    let case = match name {
        "exchange.declare unknown type" => Case::new().then(declare_x("gx", "foo")),
        "exchange.declare type change" => {
            Case::new().then(declare_x("gx1", "direct")).then(declare_x("gx1", "fanout"))
        }
        "exchange.declare amq.foo" => Case::new().then(declare_x("amq.foo", "direct")),
        "exchange.declare passive missing" => {
            Case::new().then(exchange::Declare { passive: true, ..declare_x("nope-x", "direct") })
        }
        "exchange.declare passive wrong type, exists" => {
            Case::new().then(exchange::Declare { passive: true, ..declare_x("amq.direct", "fanout") })
        }
        "exchange.declare default \"\"" => Case::new().then(declare_x("", "direct")),
        "exchange.declare amq.direct same props" => {
            Case::new().then(exchange::Declare { durable: true, ..declare_x("amq.direct", "direct") })
        }
        "exchange.delete amq.direct" => Case::new().then(delete_x("amq.direct")),
        "exchange.delete missing" => Case::new().then(delete_x("nope-x")),
        "exchange.delete \"\"" => Case::new().then(delete_x("")),
        "exchange.delete if-unused in use" => Case::new()
            .then(exchange::Declare { auto_delete: true, ..declare_x("gx2", "direct") })
            .then(queue::Declare { exclusive: true, ..declare("g9") })
            .then(bind("g9", "gx2", "k"))
            .then(exchange::Delete { if_unused: true, ..delete_x("gx2") }),
        _ => return None,
    };
    Some(case.answer())
}

fn publishes(name: &str) -> Option<String> {
    let none = Fields::default();
    let to_nowhere = publish("", "nope-q");
    let confirms = || Case::new().then(confirm::Select { nowait: false });
    let expiration = |text: &'static [u8]| Fields { expiration: Some(text), ..Fields::default() };
    let case = match name {
        "publish to missing exchange" => Case::new().publish(publish("nope-x", "k"), none),
        "publish to missing exchange, confirm mode" => confirms().publish(publish("nope-x", "k"), none),
        "publish mandatory unroutable" => Case::new().publish(mandatory(), none),
        "publish mandatory unroutable confirm" => confirms().publish(mandatory(), none),
        "publish immediate" => Case::new().publish(basic::Publish { immediate: true, ..to_nowhere }, none),
        "publish bad expiration" => Case::new().publish(to_nowhere, expiration(b"abc")),
        "publish negative expiration" => Case::new().publish(to_nowhere, expiration(b"-1")),
        "publish user_id mismatch" => {
            Case::new().publish(to_nowhere, Fields { user_id: Some(b"bob"), ..Fields::default() })
        }
        "publish to internal exchange" => Case::new()
            .then(exchange::Declare { internal: true, auto_delete: true, ..declare_x("gx3", "direct") })
            .publish(publish("gx3", "k"), none),
        "publish reply_to=amq.rabbitmq.reply-to without consumer" => {
            Case::new().publish(to_nowhere, Fields { reply_to: Some(b"amq.rabbitmq.reply-to"), ..none })
        }
        _ => return None,
    };
    Some(case.watch())
}

fn acknowledgements(name: &str) -> Option<String> {
    let case = match name {
        "ack unknown tag" => Case::new().then(ack(99, false)),
        "ack twice" => Case::new()
            .then(queue::Declare { exclusive: true, ..declare("g10") })
            .publish(publish("", "g10"), Fields::default())
            .then(get("g10"))
            .then(ack(1, false))
            .then(ack(1, false)),
        "ack 0 multiple with nothing unacked" => Case::new().then(ack(0, true)),
        "ack 5 multiple with nothing unacked" => Case::new().then(ack(5, true)),
        "ack 0 not multiple" => Case::new().then(ack(0, false)),
        "nack unknown tag" => Case::new().then(nack(99, false, true)),
        "reject unknown tag" => Case::new().then(basic::Reject { delivery_tag: 99, requeue: true }),
        _ => return None,
    };
    Some(case.watch())
}

fn consumers(name: &str) -> Option<String> {
    let own = |name: &'static str| Case::new().then(queue::Declare { exclusive: true, ..declare(name) });
    let reply_to = "amq.rabbitmq.reply-to";
    let case = match name {
        "consume missing queue" => Case::new().then(consume("nope-q", "t")),
        "consume same tag twice on channel" => own("g11").then(consume("g11", "t")).then(consume("g11", "t")),
        "exclusive consume when consumers exist" => own("g12")
            .then(consume("g12", "t"))
            .then(basic::Consume { exclusive: true, ..consume("g12", "t2") }),
        "consume when exclusive consumer exists" => own("g13")
            .then(basic::Consume { exclusive: true, ..consume("g13", "t") })
            .then(consume("g13", "t2")),
        "consume x-priority string" => own("g14").then(basic::Consume {
            arguments: table(&[("x-priority", Value::text("a"))]),
            ..consume("g14", "t")
        }),
        "cancel unknown tag" => Case::new().then(basic::Cancel { consumer_tag: "nope", nowait: false }),
        "get missing queue" => Case::new().then(get("nope-q")),
        "get empty queue name, none declared" => Case::new().then(get("")),
        "qos prefetch_size 1" => Case::new().then(basic::Qos { prefetch_size: 1, ..qos(0, false) }),
        "recover requeue=false" => Case::new().then(basic::Recover { requeue: false }),
        "recover requeue=true" => Case::new().then(basic::Recover { requeue: true }),
        "reply-to consume with ack" => Case::new().then(consume(reply_to, "t")),
        "reply-to consume twice" => Case::new()
            .then(basic::Consume { no_ack: true, ..consume(reply_to, "t") })
            .then(basic::Consume { no_ack: true, ..consume(reply_to, "t2") }),
        _ => return None,
    };
    Some(case.answer())
}

fn dead_letters(name: &str, expected: &str) -> Option<String> {
    let time = expected.split("\"time\": \"").nth(1)?.split('"').next()?.to_owned();
    match name {
        "maxlen dead letter headers" => {
            let headers = table(&[("a", Value::I8(1))]);
            Some(dead_letter(Fields { headers: Some(headers), ..Fields::default() }, true, "gdl", &time))
        }
        "expired dead letter headers" => {
            let fields = Fields { expiration: Some(b"50"), ..Fields::default() };
            Some(dead_letter(fields, false, "gdl2", &time))
        }
        _ => None,
    }
}

#[test]
fn every_recorded_answer_is_given() {
    let mut differences = Vec::new();
    let (mut here, mut elsewhere) = (0, 0);
    for line in GOLDEN.lines() {
        // The three lines without a bar are facts about the server.
        let Some((name, expected)) = line.split_once(" | ") else { continue };
        let (name, expected) = (name.trim_end(), expected.trim_end());
        // Which of two words RabbitMQ says depends on what is an atom in Erlang: "foo" is, most names are not.
        let expected = &*expected.replace("invalid exchange type", "unknown exchange type");
        if NOT_HERE.contains(&name) {
            elsewhere += 1;
            continue;
        }
        let answer = connections(name)
            .or_else(|| queue_declares(name))
            .or_else(|| queue_others(name))
            .or_else(|| exchanges(name))
            .or_else(|| publishes(name))
            .or_else(|| acknowledgements(name))
            .or_else(|| consumers(name))
            .or_else(|| dead_letters(name, expected));
        match answer {
            Some(answer) if answer == expected => here += 1,
            Some(answer) => differences.push(format!("{name}\n  expected {expected}\n  got      {answer}")),
            None => differences.push(format!("{name}: nobody plays this case")),
        }
    }
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
    assert_eq!((here, elsewhere), (115 - NOT_HERE.len(), NOT_HERE.len()));
}
