//! The commands of `bandy mq` with a real RabbitMQ between them and clients that others wrote.

use std::process::Command;

use rustix::process::Signal;

use super::peers::{script, succeeds};
use super::rabbitmq::RabbitMq;
use crate::support::{Cmd, bandy, shell, until};

/// RabbitMQ's port, and commands that go there.
struct At(u16);

impl At {
    fn mq(&self, words: &str) -> Cmd {
        bandy(&format!("mq {words}")).env("BANDY_MQ_URL", format!("amqp://127.0.0.1:{}", self.0))
    }

    fn sh(&self, text: &str) -> Cmd {
        shell("bash", text).env("BANDY_MQ_URL", format!("amqp://127.0.0.1:{}", self.0))
    }
}

#[tokio::test]
#[ignore = "needs rabbitmq-server, amqp-tools and pika"]
async fn the_commands_work_with_rabbitmq() {
    let rabbit = RabbitMq::start().await;
    let at = At(rabbit.port());
    queues(&at);
    tools(&at);
    topics(&at);
    refusals(&at);
    requests(&at);
    pika(&at);
}

fn queues(at: &At) {
    at.mq("send jobs x").runs().exits(5).complains("no queue 'jobs'").complains("add --create");
    at.mq("send jobs --create").stdin("1\n2\n3\n").runs().exits(0).silently();
    at.mq("peek jobs").runs().exits(0).prints("1\n2\n3\n");
    at.mq("recv jobs -n 2 --requeue").runs().prints("1\n2\n");
    at.sh("bandy mq recv jobs -f | head -2").runs().exits(0).prints("1\n2\n");
    at.mq("recv jobs -- cat").runs().exits(0).prints("3");
    at.mq("recv jobs --no-wait").runs().exits(6);
    at.mq("create dead").runs().exits(0);
    at.mq("send jobs bad").runs().exits(0);
    at.mq("recv jobs --retries 0 --dead-letter dead -- false").runs().exits(1);
    at.mq("recv dead -o '%v %H{x-first-death-queue}'").runs().prints("bad jobs\n");
    at.mq("ping -n 2 -i 0.01s").runs().exits(0).complains("2 answered");
    at.mq("purge jobs -y").runs().exits(0);
    at.mq("rm jobs -y").runs().exits(0);
}

fn tools(at: &At) {
    let url = format!("--url=amqp://127.0.0.1:{}", at.0);
    let tool = |name: &str, words: &[&str]| succeeds(Command::new(name).arg(&url).args(words));
    at.mq("send tools --create -k ada hello").runs().exits(0);
    assert_eq!(tool("amqp-get", &["-q", "tools"]), "hello");
    tool("amqp-publish", &["-r", "tools", "-C", "text/plain", "-b", "theirs"]);
    at.mq("recv tools -o '%v %{properties.content_type}'").runs().prints("theirs text/plain\n");
    at.sh("seq 20000 | bandy mq send tools").runs().exits(0);
    let sum = at.sh("bandy mq recv tools -n 20000 | awk '{ sum += $1 } END { print sum }'");
    sum.runs().exits(0).prints("200010000\n");
}

fn topics(at: &At) {
    let mut sub = at.mq("sub -g eu '+.eu.'").spawns();
    until("it has subscribed", || at.mq("wait eu").runs().code() == 0);
    at.mq("pub orders.eu.paid yes --require-route").runs().exits(0);
    at.mq("pub orders.us no").runs().exits(0).complains("nobody is subscribed to 'orders.us'");
    assert_eq!(sub.line(), "yes");
    sub.signal(Signal::INT);
    sub.ends().dies_by(Signal::INT);
    at.mq("pub orders.eu.later kept --require-route").runs().exits(0);
    at.mq("sub -g eu '+.eu.' -n 1 -o '%k %v'").runs().prints("orders.eu.later kept\n");
}

fn refusals(at: &At) {
    at.mq("create set --ttl 1s").runs().exits(0);
    at.mq("create set --ttl 2s").runs().exits(1).complains("its x-message-ttl is 1000, not 2000");
    at.mq("create set").runs().exits(1).complains("its x-message-ttl is 1000, not none");
    at.mq("create -x ex --type topic").runs().exits(0);
    at.mq("create -x ex --type fanout").runs().exits(1).complains("its type is topic, not fanout");
    at.mq("send set x --delay 1s")
        .runs()
        .exits(1)
        .complains("cannot delay messages")
        .complains("rabbitmq-plugins enable");
    at.mq("send set x -p user_id=eve").runs().exits(1).complains("-p user_id=");
    at.mq("recv set -u guest:wrong").runs().exits(4).complains("does not let guest in");
    let nowhere = format!("amqp://127.0.0.1:{}/nope", at.0);
    bandy("mq recv set -e").arg(nowhere).runs().exits(5).complains("vhost nope not found");
    at.mq("create tiny --max-length 1 --overflow reject-publish").runs().exits(0);
    at.mq("send tiny")
        .stdin("1\n2\n")
        .runs()
        .exits(7)
        .complains("line 2: the broker did not take the message");
}

fn requests(at: &At) {
    at.mq("create upper").runs().exits(0);
    let worker = at.mq("recv upper -f --reply -- tr a-z A-Z").spawns();
    at.mq("request upper hello").runs().exits(0).prints("HELLO\n");
    worker.signal(Signal::INT);
    worker.ends().dies_by(Signal::INT);
}

fn pika(at: &At) {
    let words = "send to-pika --create -H s=text -H n:int32=5 -H 'l:=[true,\"a\"]' -H b:bytes=raw -H t:timestamp=86400 \
                 --content-type text/plain --priority 3 -p timestamp=7 hello";
    at.mq(words).runs().exits(0);
    script("mq-commands-pika.py").arg(at.0.to_string()).runs().exits(0).prints(
        "b'hello' text/plain 3 2 7\n\
         {'b': b'raw', 'l': [True, 'a'], 'n': 5, 's': 'text', 't': 86400}\n",
    );
    // Through JSON and back, nothing is lost.
    at.mq("create copy").runs().exits(0);
    at.sh("bandy mq recv from-pika --json --requeue | bandy mq send copy --json").runs().exits(0);
    let envelope = |queue: &str| {
        let out = at.mq(&format!("recv {queue} --json")).runs().exits(0).out();
        out.replace(&format!("\"{queue}\""), "\"\"").replace("\"redelivered\":true", "\"redelivered\":false")
    };
    let (theirs, copy) = (envelope("from-pika"), envelope("copy"));
    for part in [
        "\"value_base64\":\"AP8=\"",
        "\"timestamp\":1767323045000",
        "\"decimal\":\"1.25\"",
        "\"time\":\"timestamp\"",
        "\"list\":\"[1,\\\"two\\\",{\\\"three\\\":null}]\"",
        "\"type\":\"order\"",
        "\"none\":null",
    ] {
        assert!(theirs.contains(part), "{part} in {theirs}");
    }
    assert_eq!(theirs, copy);
    at.mq("recv from-pika").runs().prints("last\n");
}
