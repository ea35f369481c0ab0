//! Clients that others wrote against `mq broker`: pika, aio-pika, amqplib, amqp091-go, and rabbitmq-c's amqp-tools.

use std::process::Command;

use crate::interop::peers::{interop, script, succeeds};
use crate::support::{Home, Running, bandy};

const SEEN: &str = "work\ntopics\nreturned\ndead letters\ntransactions\nreplies\nerrors\n";

const FEATURES: &str = "alternate exchanges\nbindings between exchanges\ninternal exchanges\nheaders exchanges\ncopies\n\
    priorities\nsingle active consumers\nconsumer priorities\nlimits of deliveries\nfull queues\n\
    returns to full queues\nhidden copies of dead letters\nthe next single active consumer\n\
    limits of channels at quorum queues\n\
    circles of dead letters\ntimes to live\ndirect replies\nusers in messages\nnew secrets\nlimits agreed on\n\
    heartbeats\nnames of all kinds\ncancel notifications\nhashed exchanges\npermissions by topic\n";

/// Eve may write to topics that begin with her name.
const EVE: &str = r#"{
    "users": [{"name": "guest", "password": "guest"}, {"name": "eve", "password": "secret"}],
    "permissions": [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "eve", "vhost": "/", "configure": "^eve-", "write": "^amq\\.topic$", "read": "^eve-"}],
    "topic_permissions": [
        {"user": "eve", "vhost": "/", "exchange": "amq.topic", "write": "^eve\\.", "read": ".*"}]}"#;

fn port(server: &Running) -> String {
    server.url.rsplit_once(':').unwrap().1.to_owned()
}

#[test]
#[ignore = "needs pika"]
fn pika_works_unchanged() {
    let server = bandy("mq broker -l :0").starts();
    script("mq-broker-pika.py").arg(port(&server)).runs().exits(0).prints(SEEN);
}

#[test]
#[ignore = "needs pika"]
fn pika_works_over_tls() {
    let home = Home::new();
    let folder = home.path("tls");
    let server = bandy(&format!("mq broker -l :0 --tls-self-signed={}", folder.display())).starts();
    assert!(server.url.starts_with("amqps://"), "{}", server.url);
    script("mq-broker-pika.py").arg(port(&server)).arg(folder.join("cert.pem")).runs().exits(0).prints(SEEN);
}

#[test]
#[ignore = "needs pika"]
fn rabbitmqs_extensions_work_as_its_documentation_says() {
    let home = Home::new();
    let users = home.file("users.json", EVE);
    let server = bandy(&format!("mq broker -l :0 --user-file {}", users.display())).starts();
    script("mq-broker-features.py").arg(port(&server)).runs().exits(0).prints(FEATURES);
}

#[test]
#[ignore = "needs aio-pika"]
fn aio_pika_works_unchanged() {
    let server = bandy("mq broker -l :0").starts();
    let seen = "work\ntopics\ncalls\nerrors\ntransactions\n";
    script("mq-broker-aio-pika.py").arg(port(&server)).runs().exits(0).prints(seen);
}

#[test]
#[ignore = "needs amqplib"]
fn amqplib_works_unchanged() {
    let server = bandy("mq broker -l :0").starts();
    let seen = "work\nreturns\ndead letters\nerrors\na close in a hurry\n";
    script("mq-broker-amqplib.cjs").arg(port(&server)).runs().exits(0).prints(seen);
}

#[test]
#[ignore = "needs go"]
fn amqp091_go_works_unchanged() {
    let server = bandy("mq broker -l :0").starts();
    let url = format!("amqp://guest:guest@127.0.0.1:{}/", port(&server));
    let seen = succeeds(Command::new("go").args(["run", ".", &url]).current_dir(interop("amqp091-go")));
    assert_eq!(seen, "work\nreturns\nfailures\ntransactions\ncancels\nframes\n");
}

#[test]
#[ignore = "needs amqp-tools"]
fn amqp_tools_work_unchanged() {
    let server = bandy("mq broker -l :0").starts();
    let url = format!("--url={}", server.url);
    let tool = |name: &str, words: &[&str]| succeeds(Command::new(name).arg(&url).args(words));
    assert_eq!(tool("amqp-declare-queue", &["-q", "jobs"]), "jobs\n");
    for body in ["one", "two", "three"] {
        tool("amqp-publish", &["-r", "jobs", "-b", body]);
    }
    assert_eq!(tool("amqp-get", &["-q", "jobs"]), "one");
    assert_eq!(tool("amqp-consume", &["-q", "jobs", "-c", "2", "cat"]), "twothree");
    let empty = Command::new("amqp-get").arg(&url).args(["-q", "jobs"]).status().unwrap();
    assert_eq!(empty.code(), Some(2));
    assert_eq!(tool("amqp-delete-queue", &["-q", "jobs"]), "0\n");
}
