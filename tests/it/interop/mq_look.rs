//! The mq commands that look at a broker and arrange it, and RabbitMQ with its management API.

use rustix::process::Signal;
use serde_json::Value;

use super::rabbitmq::RabbitMq;
use crate::support::{Cmd, Home, Running, bandy, shell, until};

const DEFINITIONS: &str = r#"{
    "vhosts": [{"name": "shop"}],
    "users": [{"name": "ada", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
        "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["monitoring"]}],
    "permissions": [{"user": "ada", "vhost": "shop", "configure": "", "write": ".*", "read": ".*"}],
    "policies": [{"vhost": "/", "name": "short", "pattern": "^tmp", "apply-to": "queues",
        "definition": {"message-ttl": 60000}, "priority": 1}],
    "exchanges": [
        {"name": "orders", "vhost": "/", "type": "topic"}, {"name": "dlx", "vhost": "/", "type": "fanout"},
        {"name": "straight", "vhost": "/", "type": "direct"}, {"name": "heads", "vhost": "/", "type": "headers"}
    ],
    "queues": [
        {"name": "work", "vhost": "/", "arguments": {"x-dead-letter-exchange": "dlx", "x-max-length": 2}},
        {"name": "dead", "vhost": "/"}, {"name": "a/b", "vhost": "shop"}
    ],
    "bindings": [
        {"source": "orders", "vhost": "/", "destination": "work", "destination_type": "queue", "routing_key": "eu.#"},
        {"source": "straight", "vhost": "/", "destination": "work", "destination_type": "queue", "routing_key": "w"},
        {"source": "dlx", "vhost": "/", "destination": "dead", "destination_type": "queue"},
        {"source": "orders", "vhost": "/", "destination": "dlx", "destination_type": "exchange", "routing_key": "x"}
    ]
}"#;

struct Peer {
    rabbit: RabbitMq,
    home: Home,
}

impl Peer {
    fn mq(&self, words: &str) -> Cmd {
        bandy(&format!("mq {words}")).home(&self.home).arg("-e").arg(self.rabbit.url())
    }

    fn publish(&self, lines: &[(&str, &str, &str)]) {
        let line = |(exchange, key, value): &(&str, &str, &str)| {
            let line = serde_json::json!({"exchange": exchange, "routing_key": key, "value": value,
                "headers": {"n": "5"}, "properties": {"content_type": "text/x", "header_types": {"n": "int32"}}});
            line.to_string() + "\n"
        };
        let text: String = lines.iter().map(line).collect();
        self.mq("replay - --speed max").stdin(text).runs().exits(0);
    }

    fn rows(&self, words: &str) -> Vec<Value> {
        let ran = self.mq(&format!("{words} --json")).runs().exits(0);
        ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn rabbitmq_is_looked_at_and_arranged() {
    let peer = Peer { rabbit: RabbitMq::start_with_management().await, home: Home::new() };
    definitions_are_applied(&peer);
    queues_are_listed(&peer);
    messages_are_watched(&peer);
    the_firehose_shows_the_default_exchange(&peer);
    dead_letters_go_back(&peer);
    names_are_completed(&peer);
}

fn definitions_are_applied(peer: &Peer) {
    let dry = peer.mq("apply - --dry-run").stdin(DEFINITIONS).runs().exits(0);
    assert_eq!(dry.out().lines().filter(|line| line.starts_with("create\t")).count(), 15, "{}", dry.out());
    peer.mq("apply -").stdin(DEFINITIONS).runs().exits(0).complains("15 changed, 0 as they should be");
    peer.mq("apply -").stdin(DEFINITIONS).runs().prints("").complains("0 changed, 15 as they should be");
    let changed = DEFINITIONS.replace("60000", "50000").replace("\"x-max-length\": 2", "\"x-max-length\": 3");
    peer.mq("apply -")
        .stdin(changed)
        .runs()
        .exits(7)
        .complains("1 changed, 13 as they should be")
        .complains("1 of 15 objects cannot be as the file says");
    let file = peer.home.path("all.json");
    let name = file.display();
    peer.mq(&format!("export {name} --all-vhosts")).runs().prints("");
    peer.mq(&format!("apply {name}")).runs().prints("").complains("0 changed");
    // RabbitMQ's own tool takes it.
    let exported: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(exported["queues"].as_array().unwrap().len(), 3);
    assert_eq!(exported["policies"][0]["definition"]["message-ttl"], 50000);
}

fn queues_are_listed(peer: &Peer) {
    peer.publish(&[("orders", "eu.de", "one"), ("straight", "w", "two")]);
    until("RabbitMQ counts", || peer.rows("ls queues work").first().is_some_and(|row| row["ready"] == 2));
    assert_eq!(peer.rows("ls").len(), 2);
    assert_eq!(peer.rows("ls queues --all-vhosts").len(), 3);
    assert_eq!(peer.rows("ls queues --vhost shop")[0]["name"], "a/b");
    assert_eq!(peer.rows("ls bindings").len(), 4);
    let users = peer.rows("ls users");
    assert_eq!((&users[0]["name"], &users[0]["vhosts"][0]), (&"ada".into(), &"shop".into()));
    assert_eq!(peer.rows("ls vhosts").len(), 2);
    peer.mq("ls exchanges orders heads")
        .runs()
        .prints("heads\theaders\tdurable\t\t\norders\ttopic\tdurable\t0.0\t0.0\n");
    peer.mq("ls queues nope").runs().exits(5).complains("no queues 'nope' among 2");
    peer.mq("ls --vhost nope").runs().exits(5).complains("there is no virtual host 'nope'");
    peer.mq("ls -u guest:bad").runs().exits(4).complains("wrong user or password");
    let work = &peer.rows("info work")[0];
    assert_eq!(
        (&work["arguments"]["x-max-length"], work["bindings"].as_array().unwrap().len()),
        (&2.into(), 2)
    );
    peer.mq("info wrok").runs().exits(5).complains("did you mean 'work'?");
    peer.mq("info orders").runs().exits(5).complains("bandy mq info -x orders");
    let orders = &peer.rows("info -x orders")[0];
    assert_eq!((&orders["type"], orders["bindings"].as_array().unwrap().len()), (&"topic".into(), 2));
    let top = &peer.rows("top --once")[0];
    assert!(top["timestamp"].is_i64() && top["name"].is_string(), "{top}");
}

/// The next line of a tap that is no dead letter: a queue that is full makes some.
fn heard(tap: &mut Running) -> Value {
    loop {
        let line: Value = serde_json::from_str(&tap.line()).unwrap();
        if line["headers"]["x-first-death-queue"].is_null() {
            return line;
        }
    }
}

fn messages_are_watched(peer: &Peer) {
    let mut tap = peer.mq("tap --json").spawns();
    until("the tap is bound", || peer.rows("ls bindings").iter().any(|row| row["source"] == "heads"));
    peer.publish(&[("orders", "any.thing", "a"), ("straight", "w", "b"), ("heads", "", "c")]);
    let seen: Vec<Value> = (0..3).map(|_| heard(&mut tap)).collect();
    let said: Vec<_> = seen.iter().map(|line| line["value"].as_str().unwrap()).collect();
    assert_eq!(said, ["a", "b", "c"]);
    assert_eq!(
        (&seen[0]["headers"]["n"], &seen[0]["properties"]["header_types"]["n"]),
        (&"5".into(), &"int32".into())
    );
    // One that is made meanwhile is watched, too.
    peer.mq("apply -").stdin(r#"{"exchanges": [{"name": "late", "type": "fanout"}]}"#).runs().exits(0);
    until("the tap follows", || peer.rows("ls bindings").iter().any(|row| row["source"] == "late"));
    peer.publish(&[("late", "", "d")]);
    assert_eq!(heard(&mut tap)["value"], "d");
    tap.signal(Signal::INT);
    tap.ends().dies_by(Signal::INT);
    until("it leaves nothing", || peer.rows("ls").len() == 2);
}

fn the_firehose_shows_the_default_exchange(peer: &Peer) {
    let mut tap = peer.mq("tap --firehose --json -n 2").spawns();
    tap.says("the firehose of virtual host '/' is on");
    until("the tap is bound", || {
        peer.rows("ls bindings").iter().filter(|row| row["source"] == "amq.rabbitmq.trace").count() == 2
    });
    peer.publish(&[("", "dead", "straight in")]);
    let published = heard(&mut tap);
    assert_eq!((&published["event"], &published["value"]), (&"publish".into(), &"straight in".into()));
    assert_eq!((&published["exchange"], &published["routing_key"]), (&"".into(), &"dead".into()));
    assert_eq!(
        (&published["properties"]["content_type"], &published["headers"]["n"]),
        (&"text/x".into(), &"5".into())
    );
    peer.mq("move dead work").runs().exits(0);
    let delivered: Value = serde_json::from_str(&tap.line()).unwrap();
    assert_eq!((&delivered["event"], &delivered["queue"]), (&"deliver".into(), &"dead".into()));
    tap.ends().exits(0).complains("the firehose is off again");
    let shop = peer.rows("ls vhosts");
    assert!(shop.iter().all(|vhost| vhost["tracing"] == false), "{shop:?}");
    assert_eq!(shop[0]["description"], "Default virtual host");
}

fn dead_letters_go_back(peer: &Peer) {
    until("work is full", || peer.rows("ls queues work").first().is_some_and(|row| row["ready"] == 2));
    // Of a queue that holds two, the first goes.
    peer.publish(&[("orders", "eu.fr", "new")]);
    until("one is dead", || peer.rows("ls queues dead").first().is_some_and(|row| row["ready"] != 0));
    let moved = peer.mq("move dead --origin=queue").runs();
    assert_eq!(moved.code(), 0, "{}", moved.err());
    peer.mq("move work nope").runs().exits(5).complains("no queue 'nope'");
}

fn names_are_completed(peer: &Peer) {
    let script = "bandy completions fish | source; complete -C $argv[1]";
    let line = format!("bandy mq info -e '{}' ", peer.rabbit.url());
    // A debug build on a busy machine may be over its budget once.
    until("completion", || {
        let text = shell("fish", script).arg(&line).home(&peer.home).runs().exits(0).out();
        text.lines().any(|line| line.starts_with("work\t"))
    });
}
