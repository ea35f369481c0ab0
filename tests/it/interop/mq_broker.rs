//! Clients that others wrote against `mq broker`: pika, and rabbitmq-c's amqp-tools.

use std::process::Command;

use crate::interop::peers::{script, succeeds};
use crate::support::{Home, Running, bandy};

const SEEN: &str = "work\ntopics\nreturned\ndead letters\ntransactions\nreplies\nerrors\n";

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
