//! The management API of `mq broker` beside RabbitMQ's: the same requests to both, and RabbitMQ's own rabbitmqadmin.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::peers::{script, succeeds};
use super::rabbitmq::RabbitMq;
use crate::support::{Home, Running, bandy, until};

struct Brokers {
    rabbit: RabbitMq,
    ours: Running,
    /// Port of our API.
    admin: u16,
    home: Home,
}

impl Brokers {
    async fn start() -> Self {
        let rabbit = RabbitMq::start_with_management().await;
        let home = Home::new();
        let mut ours = bandy("mq broker -l :0 --memory --admin :0").home(&home).starts();
        let url = ours.line();
        let admin = url.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { rabbit, ours, admin, home }
    }
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and python3"]
async fn mq_admin_answers_as_rabbitmq_does() {
    let brokers = Brokers::start().await;
    script("mq-broker-management.py")
        .arg(format!("http://127.0.0.1:{}", brokers.rabbit.management()))
        .arg(format!("http://127.0.0.1:{}", brokers.admin))
        .runs()
        .prints("112 requests, 0 differences\n");
}

/// RabbitMQ's tool, as RabbitMQ hands it out.
struct RabbitmqAdmin {
    program: PathBuf,
    home: PathBuf,
}

impl RabbitmqAdmin {
    fn download(brokers: &Brokers) -> Self {
        let address = format!("http://127.0.0.1:{}/cli/rabbitmqadmin", brokers.rabbit.management());
        let text = succeeds(Command::new("curl").args(["--fail", "--silent", "--show-error", &address]));
        assert!(text.contains("VERSION = '3.10.8'"), "{text}");
        Self { program: brokers.home.file("rabbitmqadmin", text), home: brokers.home.path("") }
    }

    fn output(&self, port: u16, words: &[&str]) -> Output {
        Command::new("python3")
            .arg(&self.program)
            .args(["-H", "127.0.0.1", "-P", &port.to_string()])
            .args(words)
            .env("HOME", &self.home)
            .current_dir(&self.home)
            .output()
            .unwrap()
    }

    /// What it printed and complained, and how it ended.
    fn says(&self, port: u16, words: &[&str]) -> (String, String, Option<i32>) {
        let output = self.output(port, words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }
}

/// What is done with both brokers in this order, words parted by blanks: what the tool says must be the same.
const STEPS: &str = r#"
declare vhost name=shop
declare vhost name=shop
declare user name=ada password=secret tags=monitoring
declare user name=eve password_hash=kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR tags=
declare permission vhost=shop user=ada configure=.* write=.* read=.*
declare permission vhost=shop user=guest configure=.* write=.* read=.*
declare permission vhost=shop user=nobody configure=.* write=.* read=.*
-V shop declare queue name=jobs durable=true
-V shop declare queue name=jobs durable=false
-V shop declare queue name=big arguments={"x-max-length":3,"x-overflow":"reject-publish"} auto_delete=false
-V shop declare queue name=bad arguments={"x-max-length":"many"}
-V shop declare exchange name=orders type=topic
-V shop declare exchange name=inner type=fanout internal=true durable=false
-V shop declare exchange name=odd type=nope
-V shop declare binding source=orders destination=jobs routing_key=eu.#
-V shop declare binding source=orders destination=jobs routing_key=eu.# arguments={"a":"b"}
-V shop declare binding source=orders destination_type=exchange destination=inner routing_key=us
-V shop declare binding source=orders destination=nowhere routing_key=x
-V shop declare policy name=short pattern=^jobs definition={"max-length":1000} priority=2 apply-to=queues
-V shop declare policy name=wrong pattern=^jobs definition={"max-length":"x"}
-V shop declare operator_policy name=limit pattern=.* definition={"message-ttl":600000} apply-to=queues
declare vhost_limit vhost=shop name=max-queues value=5
declare parameter component=nonsense name=x value={}
-f tsv list vhosts name
-f tsv list users name tags
-f tsv list permissions
-f tsv -V shop list queues name durable auto_delete arguments
-f tsv -V shop list exchanges name type durable internal
-f tsv -V shop list bindings source destination destination_type routing_key
-f tsv list policies
-f tsv list operator_policies
-f tsv list vhost_limits
-f tsv list parameters
-f tsv list nodes type running
-f tsv show overview rabbitmq_version management_version
-f long -V shop list queues name durable
-f bash -V shop list queues name
-f kvp -V shop list queues name durable
-f pretty_json -V shop list exchanges name type
-V shop publish exchange=orders routing_key=eu.de payload=one properties={"content_type":"text/plain","headers":{"n":5}}
-V shop publish routing_key=jobs payload=two
-V shop publish routing_key=nowhere payload=lost
-V shop publish exchange=nope routing_key=x payload=lost
-V shop publish routing_key=jobs payload=dGhyZWU= payload_encoding=base64
-V shop get queue=jobs
-f tsv -V shop get queue=jobs count=2 ackmode=ack_requeue_false
-V shop get queue=jobs payload_file=body ackmode=ack_requeue_false
-V shop get queue=jobs
-V shop get queue=nope
-V shop publish routing_key=jobs payload=four
-V shop purge queue name=jobs
-V shop get queue=jobs
close connection name=nobody
-V shop delete binding source=orders destination_type=queue destination=jobs properties_key=eu.%23
-f tsv -V shop list bindings source destination destination_type routing_key
-V shop delete policy name=short
-V shop delete operator_policy name=limit
delete vhost_limit vhost=shop name=max-queues
-V shop delete exchange name=inner
-V shop delete exchange name=nope
-V shop delete queue name=big
-V shop delete queue name=big
delete permission vhost=shop user=ada
delete user name=eve
-u ada -p secret list vhosts name
-u ada -p wrong list vhosts name
list nonsense
"#;

/// Lists in one order, and the members of objects in one order, for neither means anything.
fn alike(text: &str) -> String {
    let cell = |cell: &str| match serde_json::from_str::<BTreeMap<String, Value>>(cell) {
        Ok(members) => format!("{members:?}"),
        Err(_) => cell.to_owned(),
    };
    let line = |line: &str| line.split('\t').map(cell).collect::<Vec<_>>().join("\t");
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
#[ignore = "needs rabbitmq-server, python3 and curl"]
async fn mq_admin_serves_rabbitmqadmin_unchanged() {
    let brokers = Brokers::start().await;
    let tool = RabbitmqAdmin::download(&brokers);
    let mut differences = Vec::new();
    for line in STEPS.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [theirs, ours] = [brokers.rabbit.management(), brokers.admin].map(|port| {
            let (out, err, code) = tool.says(port, &words);
            let body = std::fs::read_to_string(tool.home.join("body")).unwrap_or_default();
            (alike(&out), err, code, body)
        });
        if theirs != ours {
            differences.push(format!("{line}\n  RabbitMQ: {theirs:?}\n  here:     {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    definitions_are_exported_and_imported(&brokers, &tool);
    connections_are_listed_and_closed(&brokers, &tool);
}

/// What RabbitMQ exports we import, and the other way round.
fn definitions_are_exported_and_imported(brokers: &Brokers, tool: &RabbitmqAdmin) {
    let [theirs, ours] = [brokers.rabbit.management(), brokers.admin];
    let export = |port, name: &str| -> Value {
        let (out, err, code) = tool.says(port, &["export", name]);
        assert_eq!(code, Some(0), "{out}{err}");
        serde_json::from_str(&std::fs::read_to_string(tool.home.join(name)).unwrap()).unwrap()
    };
    export(theirs, "theirs.json");
    export(ours, "ours.json");
    for port in [theirs, ours] {
        for name in ["jobs", "big"] {
            tool.says(port, &["-V", "shop", "delete", "queue", &format!("name={name}")]);
        }
        tool.says(port, &["-V", "shop", "delete", "exchange", "name=orders"]);
    }
    for (port, name) in [(ours, "theirs.json"), (theirs, "ours.json")] {
        let (out, err, code) = tool.says(port, &["import", name]);
        assert_eq!(code, Some(0), "{name}: {out}{err}");
    }
    let names = |definitions: &Value, what: &str| {
        let mut names: Vec<String> = definitions[what]
            .as_array()
            .unwrap_or_else(|| panic!("no {what} in {definitions}"))
            .iter()
            .map(|it| format!("{} {} {}", it["vhost"], it["name"], it["routing_key"]))
            .collect();
        names.sort();
        names
    };
    let (theirs, ours) = (export(theirs, "theirs.json"), export(ours, "ours.json"));
    for what in ["users", "vhosts", "permissions", "queues", "exchanges", "bindings", "policies"] {
        assert_eq!(names(&theirs, what), names(&ours, what), "{what}");
    }
    assert!(names(&ours, "queues").iter().any(|name| name.contains("jobs")), "{ours}");
}

fn connections_are_listed_and_closed(brokers: &Brokers, tool: &RabbitmqAdmin) {
    let port = brokers.admin;
    let consumer = bandy("mq recv waiting --create -f").endpoint(&brokers.ours).spawns();
    let list = |what: &str| tool.says(port, &["-f", "tsv", "list", what, "name"]).0;
    until("its connection is there", || list("connections").lines().count() == 2);
    assert_eq!(list("channels").lines().count(), 2);
    until("its consumer is there", || {
        tool.says(port, &["list", "consumers", "queue.name"]).0.contains("waiting")
    });
    let listed = list("connections");
    let name = listed.lines().nth(1).unwrap();
    let (out, err, code) = tool.says(port, &["close", "connection", &format!("name={name}")]);
    assert_eq!((out.as_str(), err.as_str(), code), ("connection closed\n", "", Some(0)));
    until("it is gone", || !list("connections").contains(name));
    consumer.says("CONNECTION_FORCED");
}

/// Values of a page of Prometheus by name, those of all labels together; with the types.
fn metrics(page: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut values, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in page.lines().filter(|line| line.contains("rabbitmq_")) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap().to_owned();
            *values.entry(name).or_insert(0.0) += value.parse::<f64>().unwrap();
        }
    }
    (values, types)
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and curl"]
async fn mq_admin_numbers_for_prometheus_are_rabbitmqs() {
    let rabbit = RabbitMq::start_with_management().await;
    let home = Home::new();
    let mut ours = bandy("mq broker -l :0 --memory --metrics 127.0.0.1:0").home(&home).spawns();
    ours.says("metrics at http://");
    let said = ours.stderr();
    let at = said.split("metrics at http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    ours.url = ours.line();
    let places = [format!("http://127.0.0.1:{}", rabbit.prometheus()), format!("http://{at}")];
    for url in [rabbit.url(), ours.url.clone()] {
        let mq = |words: &str| bandy(&format!("mq {words}")).home(&home).arg("-e").arg(&url);
        mq("create jobs").runs().exits(0);
        mq("send jobs").stdin("one\ntwo\nthree\nfour\n").runs().exits(0);
        mq("peek jobs -n 2").runs().prints("one\ntwo\n");
        // All of them: what else is on its way to a consumer that leaves is a matter of time.
        mq("recv jobs -n 4").runs().prints("one\ntwo\nthree\nfour\n");
        mq("send jobs").stdin("five\nsix\n").runs().exits(0);
        mq("pub nobody lost").runs().exits(0);
        mq("pub nobody lost --require-route").runs().exits(6);
    }
    let pages = |path: &str| {
        let page = |place: &String| {
            let address = format!("{place}{path}");
            metrics(&succeeds(Command::new("curl").args(["--fail", "--silent", "--show-error", &address])))
        };
        [page(&places[0]), page(&places[1])]
    };
    for path in ["/metrics", "/metrics/per-object"] {
        let [(_, theirs), (_, ours)] = pages(path);
        assert!(ours.len() > 40, "{ours:?}");
        let foreign: Vec<_> = ours.iter().filter(|(name, kind)| theirs.get(*name) != Some(kind)).collect();
        assert!(foreign.is_empty(), "{path}: names or types that RabbitMQ does not have: {foreign:?}");
    }
    let same = [
        "rabbitmq_queue_messages_ready",
        "rabbitmq_queue_messages_unacked",
        "rabbitmq_queue_messages",
        "rabbitmq_queue_messages_bytes",
        "rabbitmq_queue_consumers",
        "rabbitmq_queues",
        "rabbitmq_consumers",
        "rabbitmq_connections",
        "rabbitmq_queues_created_total",
        "rabbitmq_auth_attempts_failed_total",
        "rabbitmq_global_messages_received_total",
        "rabbitmq_global_messages_confirmed_total",
        "rabbitmq_global_messages_delivered_total",
        "rabbitmq_global_messages_acknowledged_total",
        "rabbitmq_global_messages_redelivered_total",
        "rabbitmq_global_messages_unroutable_dropped_total",
        "rabbitmq_global_messages_unroutable_returned_total",
        "rabbitmq_global_messages_delivered_get_manual_ack_total",
        "rabbitmq_global_messages_delivered_consume_manual_ack_total",
        "rabbitmq_global_messages_delivered_consume_auto_ack_total",
        "rabbitmq_alarms_memory_used_watermark",
    ];
    let values = || pages("/metrics").map(|(values, _)| same.map(|name| (name, values.get(name).copied())));
    // RabbitMQ gathers some of them by the second.
    let mut last = values();
    until("the values are the same", || {
        last = values();
        if last[0] != last[1] {
            let different: Vec<_> = last[0].iter().zip(&last[1]).filter(|(a, b)| a != b).collect();
            eprintln!("{different:?}");
        }
        last[0] == last[1]
    });
    assert!(last[0].iter().all(|(_, value)| value.is_some()), "{last:?}");
}
