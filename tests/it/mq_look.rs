//! The mq commands that look at a broker, arrange it, and move, record and replay its messages: where AMQP has to do.

use rustix::process::Signal;

use crate::support::{Home, Running, bandy, shell};

/// A broker that nobody else knows.
fn broker(home: &Home) -> Running {
    bandy("mq broker -l :0 --memory").home(home).starts()
}

const DEFINITIONS: &str = r#"{
    "exchanges": [{"name": "orders", "type": "topic"}, {"name": "dlx", "type": "fanout"}],
    "queues": [
        {"name": "work", "arguments": {"x-dead-letter-exchange": "dlx", "x-max-length": 2}},
        {"name": "dead"}, {"name": "short", "durable": false, "arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}
    ],
    "bindings": [
        {"source": "orders", "destination": "work", "destination_type": "queue", "routing_key": "eu.#"},
        {"source": "dlx", "destination": "dead", "destination_type": "queue"}
    ]
}"#;

/// A place where nobody has a management API.
fn apart(broker: &Running) -> String {
    format!("{}?admin=http://127.0.0.1:1", broker.url)
}

fn mq(words: &str, broker: &Running) -> crate::support::Cmd {
    bandy(&format!("mq {words}")).home(&broker.home).arg("-e").arg(apart(broker))
}

/// Publishes through replay.
fn publish(broker: &Running, envelopes: &str) {
    mq("replay - --speed max", broker).stdin(envelopes).runs().exits(0);
}

fn envelope(exchange: &str, key: &str, value: &str) -> String {
    serde_json::json!({"exchange": exchange, "routing_key": key, "value": value,
        "headers": {"n": "5"}, "properties": {"content_type": "text/x", "priority": 3, "header_types": {"n": "int32"}}})
    .to_string()
        + "\n"
}

fn ready(broker: &Running, queue: &str) -> String {
    mq(&format!("ls queues {queue} --columns ready"), broker).runs().exits(0).out().trim().to_owned()
}

#[test]
fn definitions_are_declared_and_a_second_time_there_is_nothing_to_do() {
    let broker = broker(&Home::new());
    mq("apply - --dry-run", &broker)
        .stdin(DEFINITIONS)
        .runs()
        .shows("create\texchange\torders\t/\t\n")
        .complains("7 would change, 0 as they should be");
    mq("ls queues work", &broker).runs().exits(5).complains("no queue 'work'");
    mq("apply -", &broker).stdin(DEFINITIONS).runs().exits(0).complains("7 changed, 0 as they should be");
    // Of bindings AMQP does not tell.
    mq("apply -", &broker).stdin(DEFINITIONS).runs().exits(0).complains("2 changed, 5 as they should be");
    let other = DEFINITIONS.replace("\"x-max-length\": 2", "\"x-max-length\": 3");
    mq("apply - --dry-run", &broker)
        .stdin(other)
        .runs()
        .exits(7)
        .complains("1 of 7 objects cannot be as the file says");
    mq("apply -", &broker)
        .stdin(r#"{"users": [{"name": "ada"}], "queues": [{"name": "more"}]}"#)
        .runs()
        .exits(7)
        .complains("1 changed");
    for (text, why) in [("[]", "it is no JSON object"), (r#"{"queus": []}"#, "did you mean 'queues'?")] {
        mq("apply -", &broker).stdin(text).runs().exits(2).complains(why);
    }
    mq("apply nowhere.json", &broker).runs().exits(1).complains("cannot read nowhere.json");
}

#[test]
fn what_cannot_be_known_is_said_and_the_rest_is_shown() {
    let broker = broker(&Home::new());
    mq("apply -", &broker).stdin(DEFINITIONS).runs().exits(0);
    publish(&broker, &envelope("orders", "eu.de", "one"));
    mq("ls queues work dead", &broker)
        .runs()
        .prints("work\t1\t\t0\t\t\ndead\t0\t\t0\t\t\n")
        .complains("no management API");
    mq("ls queues nope work", &broker).runs().exits(5).complains("no queue 'nope'");
    mq("ls", &broker)
        .runs()
        .exits(3)
        .complains("without its management API — http://127.0.0.1:1: connection refused")
        .complains("tip: without ?admin= it is looked for where it is usually");
    mq("ls exchanges --json", &broker).runs().exits(3).complains(r#"{"error":"unreachable""#);
    mq("ls things", &broker).runs().exits(2).complains("'things' is not a value of");
    mq("info work", &broker).runs().shows("ready\t1\n").complains("without its management API");
    mq("info work --json", &broker).runs().shows(r#"{"name":"work","ready":1,"consumers":0,"vhost":"/"}"#);
    mq("info nope", &broker).runs().exits(5).complains("no queue 'nope'");
    mq("info -x orders", &broker).runs().shows("name\torders\n");
    mq("info -x nope", &broker).runs().exits(5).complains("no exchange 'nope'");
    mq("top work --once --json", &broker).runs().shows(r#""name":"work","ready":1"#);
    mq("top --once", &broker).runs().exits(3).complains("bandy mq top QUEUE…");
    mq("top nope --once", &broker).runs().exits(5).complains("no queue 'nope'");
    mq("export", &broker).runs().exits(3).complains("without its management API");
    mq("tap", &broker).runs().exits(3).complains("without its management API");
    bandy("mq tap -e http://127.0.0.1:1").runs().exits(2).complains("hands out no messages");
}

#[test]
fn messages_move_with_everything_they_have() {
    let broker = broker(&Home::new());
    mq("apply -", &broker).stdin(DEFINITIONS).runs().exits(0);
    // Three are one too many: the first is a dead letter.
    let all: String =
        ["one", "two", "three"].iter().map(|value| envelope("orders", "eu.de", value)).collect();
    publish(&broker, &all);
    assert_eq!((ready(&broker, "work"), ready(&broker, "dead")), ("2".to_owned(), "1".to_owned()));
    mq("move work dead -n 1", &broker).runs().exits(0).complains("1 moved from 'work' to 'dead'");
    mq("move dead --origin=queue", &broker)
        .runs()
        .exits(7)
        .complains("1 moved from 'dead' to the queues they died in")
        .complains("1 of 2 messages left in 'dead': a message has no x-death");
    assert_eq!((ready(&broker, "work"), ready(&broker, "dead")), ("2".to_owned(), "1".to_owned()));
    mq("move work dead -n 9", &broker).runs().exits(6).complains("there were 2 of 9 messages");
    // What is moved is seen by nobody else: record it on its way back to the exchange.
    let mut tap = mq("tap orders --json", &broker).spawns();
    wait_for_tap(&broker, "orders", "probe");
    mq("move dead --origin", &broker).runs().exits(7).complains("1 moved");
    let seen = heard(&mut tap);
    assert_eq!((&seen["value"], &seen["routing_key"]), (&"one".into(), &"eu.de".into()), "{seen}");
    assert_eq!(seen["properties"]["content_type"], "text/x", "{seen}");
    assert_eq!(seen["properties"]["priority"], 3, "{seen}");
    assert!(seen["headers"]["x-first-death-queue"] == "work" && seen["headers"]["n"] == "5", "{seen}");
}

#[test]
fn a_message_that_has_no_new_place_stays_where_it_is() {
    let broker = broker(&Home::new());
    mq("apply -", &broker).stdin(DEFINITIONS).runs().exits(0);
    publish(&broker, &(envelope("", "dead", "a") + &envelope("", "dead", "b")));
    mq("move dead short", &broker)
        .runs()
        .exits(7)
        .complains("1 of 2 messages left in 'dead': 'short' refused it: it is full, most likely");
    assert_eq!((ready(&broker, "short"), ready(&broker, "dead")), ("1".to_owned(), "1".to_owned()));
    mq("move dead nope", &broker).runs().exits(5).complains("no queue 'nope'");
    mq("move nope dead", &broker).runs().exits(5).complains("no queue 'nope'");
    mq("move dead dead", &broker).runs().exits(2).complains("'dead' is both");
    mq("move dead", &broker).runs().exits(2);
    assert_eq!(ready(&broker, "dead"), "1");
}

/// Waits until a tap gets what is published: nothing else tells that it is bound.
fn wait_for_tap(broker: &Running, exchange: &str, key: &str) {
    let bound = || {
        let probe = envelope(exchange, key, "probe");
        let ran = mq("replay - --speed max", broker).stdin(probe).runs().exits(0);
        !ran.err().contains("went to no queue")
    };
    crate::support::until("the tap is bound", bound);
}

/// The next message of a tap that is no probe.
fn heard(tap: &mut Running) -> serde_json::Value {
    loop {
        let line: serde_json::Value = serde_json::from_str(&tap.line()).unwrap();
        if line["value"] != "probe" {
            return line;
        }
    }
}

#[test]
fn a_recording_is_played_again_without_loss() {
    let home = Home::new();
    let broker = broker(&home);
    mq("apply -", &broker).stdin(DEFINITIONS).runs().exits(0);
    let file = home.path("rec.ndjson");
    let name = file.display().to_string();
    let recorder = mq(&format!("record {name} amq.topic amq.headers"), &broker).spawns();
    wait_for_tap(&broker, "amq.topic", "probe");
    let odd = r#"{"exchange":"amq.topic","routing_key":"a.b","value_base64":"/wA=","headers":{"b":{"base64":"/w=="}},"properties":{"delivery_mode":2,"message_id":"m"},"timestamp":1763884814123}"#;
    publish(&broker, &(odd.to_owned() + "\n" + &envelope("amq.headers", "", "second")));
    recorder.signal(Signal::INT);
    recorder.ends().dies_by(Signal::INT).complains("messages in");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["value"] != "probe")
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["value_base64"], "/wA=", "{text}");
    assert_eq!(lines[0]["headers"]["b"]["base64"], "/w==", "{text}");
    assert_eq!(
        (&lines[0]["timestamp"], &lines[0]["properties"]["message_id"]),
        (&1_763_884_814_123_i64.into(), &"m".into())
    );
    assert_eq!(
        (&lines[1]["exchange"], &lines[1]["properties"]["priority"]),
        (&"amq.headers".into(), &3.into())
    );
    assert!(lines[1]["recorded_at"].as_f64() >= lines[0]["recorded_at"].as_f64(), "{text}");
    mq(&format!("record {name} amq.topic -n 1"), &broker)
        .runs()
        .exits(1)
        .complains("exists, and is not empty");
    // Again, into a queue.
    mq(&format!("replay {name} --from amq.headers --to ''"), &broker)
        .runs()
        .exits(0)
        .complains("went to no queue");
    let mut tap = mq("tap amq.topic:a.# --json", &broker).spawns();
    wait_for_tap(&broker, "amq.topic", "a.probe");
    mq(&format!("replay {name} --from amq.topic --speed 100x"), &broker).runs().exits(0);
    let again = heard(&mut tap);
    let mut first = lines[0].clone();
    first.as_object_mut().unwrap().remove("recorded_at");
    assert_eq!(again, first);
    for (input, why) in
        [("{\"a\":1}\n", "missing \"value\""), ("nonsense\n", "line 1 of stdin is not an envelope")]
    {
        mq("replay -", &broker).stdin(input).runs().exits(2).complains(why);
    }
    mq("replay nowhere", &broker).runs().exits(1).complains("cannot read nowhere");
    mq("replay - --to nope", &broker).stdin(odd).runs().exits(5).complains("no exchange 'nope'");
    mq("replay - --speed fast", &broker).runs().exits(2).complains("is not a speed");
}

#[test]
fn a_tap_that_hears_nothing_ends_as_it_was_told() {
    let broker = broker(&Home::new());
    mq("tap amq.topic --for 200ms", &broker).runs().prints("");
    mq("tap amq.topic --idle 200ms", &broker).runs().prints("");
    mq("tap amq.topic -n 1 --idle 200ms", &broker).runs().exits(6).complains("0 of 1 message came");
    mq("tap amq.topic --timeout 200ms", &broker).runs().exits(124);
    mq("tap nope", &broker).runs().exits(5).complains("no exchange 'nope'");
    mq("tap :key", &broker).runs().exits(2).complains("--firehose");
    mq("tap amq.direct", &broker).runs().exits(5).complains("name its keys: amq.direct:KEY");
    let tap = mq("tap amq.fanout", &broker).spawns();
    wait_for_tap(&broker, "amq.fanout", "");
    tap.signal(Signal::INT);
    tap.ends().dies_by(Signal::INT);
}

#[test]
#[ignore = "needs fish"]
fn completion_is_silent_and_quick_where_nothing_answers() {
    let home = Home::new();
    let script = "bandy completions fish | source; complete -C $argv[1]";
    let started = std::time::Instant::now();
    shell("fish", script).arg("bandy mq info -e :1 ").home(&home).runs().exits(0).silently();
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

/// With nothing but its local socket.
fn local(home: &Home, words: &str) -> crate::support::Cmd {
    bandy(&format!("mq {words} -e local:")).home(home)
}

#[test]
fn a_local_broker_is_looked_at_and_arranged_without_any_port() {
    let home = Home::new();
    let server = bandy("mq broker -l local: --memory").home(&home).starts();
    assert_eq!(server.url, "local:");
    local(&home, "apply -").stdin(DEFINITIONS).runs().exits(0).complains("7 changed, 0 as they should be");
    local(&home, "apply -").stdin(DEFINITIONS).runs().prints("").complains("0 changed, 7 as they should be");
    let rows = |words: &str| local(&home, &format!("{words} --json")).runs().exits(0).out();
    for (words, count) in [
        ("ls", 3),
        ("ls exchanges orders dlx", 2),
        ("ls bindings", 2),
        ("ls users", 1),
        ("ls vhosts", 1),
        ("ls consumers", 0),
        ("top --once", 3),
    ] {
        assert_eq!(rows(words).lines().count(), count, "{words}");
    }
    let work: serde_json::Value = serde_json::from_str(&rows("info work")).unwrap();
    assert_eq!(
        (&work["arguments"]["x-max-length"], &work["bindings"][0]["key"]),
        (&2.into(), &"eu.#".into())
    );
    local(&home, "info wrok").runs().exits(5).complains("did you mean 'work'?");
    let exported = local(&home, "export").runs().exits(0).out();
    local(&home, "apply -").stdin(exported).runs().exits(0).complains("0 changed");
}

#[test]
fn a_broker_at_any_port_is_looked_at_and_arranged_without_another() {
    let home = Home::new();
    let server = broker(&home);
    let at = |words: &str| bandy(&format!("mq {words}")).home(&home).endpoint(&server);
    at("apply -").stdin(DEFINITIONS).runs().exits(0).complains("7 changed, 0 as they should be");
    assert_eq!(at("ls --json").runs().silently().out().lines().count(), 3);
    at("top --once --json").runs().shows(r#""name":"work","ready":0"#);
    at("info work").runs().shows("x-max-length");
    let exported = at("export").runs().exits(0).out();
    at("apply -").stdin(exported).runs().exits(0).complains("0 changed");
    at("ls -u guest:bad").runs().exits(4);
}

#[test]
fn who_mistypes_a_name_is_told_of_the_right_one() {
    let home = Home::new();
    let server = broker(&home);
    let at = |words: &str| bandy(&format!("mq {words}")).home(&home).endpoint(&server);
    at("apply -").stdin(DEFINITIONS).runs().exits(0);
    for words in ["recv wrok", "peek wrok", "purge wrok", "request wrok x"] {
        let ran = at(words).runs().exits(5);
        assert!(ran.err().contains("tip: did you mean 'work'?"), "{words}: {}", ran.err());
    }
    at("pub k -x odrers x").runs().exits(5).complains("tip: did you mean 'orders'?");
    // Of our own broker the queue is made.
    assert_eq!(at("send short-one x").runs().exits(0).err(), "created the queue short-one\n");
    at("send wrok x").runs().exits(0).complains("did you mean 'work'?");
    let ran = at("recv something-else").runs().exits(5);
    assert!(!ran.err().contains("did you mean"), "{}", ran.err());
}

#[test]
fn a_broker_without_an_api_says_so() {
    let home = Home::new();
    let _server = bandy("mq broker -l local: --memory --admin none").home(&home).starts();
    let ran = local(&home, "ls").runs().exits(3).complains("without its management API");
    ran.complains("tip: bandy mq broker    # without '--admin none'");
    let server = bandy("mq broker -l :0 --memory --admin none").home(&home).starts();
    let ran = bandy("mq ls").home(&home).endpoint(&server).runs().exits(3);
    assert!(!ran.err().contains("rabbitmq-plugins"), "{}", ran.err());
}

#[test]
fn the_firehose_tells_of_the_default_exchange_and_of_deliveries() {
    let home = Home::new();
    let _server = bandy("mq broker -l local: --memory").home(&home).starts();
    local(&home, "apply -").stdin(DEFINITIONS).runs().exits(0);
    let mut tap = local(&home, "tap --firehose --json -n 2").spawns();
    tap.says("the firehose of virtual host '/' is on");
    let bound = || local(&home, "ls bindings").runs().out().matches("amq.rabbitmq.trace").count() == 2;
    crate::support::until("the tap is bound", bound);
    local(&home, "replay - --speed max").stdin(envelope("", "dead", "straight in")).runs().exits(0);
    let published = heard(&mut tap);
    assert_eq!((&published["event"], &published["value"]), (&"publish".into(), &"straight in".into()));
    assert_eq!((&published["exchange"], &published["routing_key"]), (&"".into(), &"dead".into()));
    assert_eq!(
        (&published["routed_queues"], &published["user"]),
        (&serde_json::json!(["dead"]), &"guest".into())
    );
    assert_eq!((&published["properties"]["priority"], &published["headers"]["n"]), (&3.into(), &"5".into()));
    local(&home, "recv dead").runs().exits(0).shows("straight in");
    let delivered = heard(&mut tap);
    assert_eq!((&delivered["event"], &delivered["queue"]), (&"deliver".into(), &"dead".into()));
    assert_eq!(
        (&delivered["vhost"], &delivered["properties"]["content_type"]),
        (&"/".into(), &"text/x".into())
    );
    tap.ends().exits(0).complains("the firehose is off again");
    assert!(local(&home, "ls vhosts --json").runs().out().contains(r#""tracing":false"#));
}
