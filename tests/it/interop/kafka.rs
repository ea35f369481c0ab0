//! The log commands against Apache Kafka, and what Kafka's other clients make of what they wrote.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Home, Ran, bandy, command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A node of one's own, in a temporary directory on free ports, gone with the test.
struct Kafka {
    directory: tempfile::TempDir,
    port: u16,
    /// For a second listener.
    other: u16,
    child: Child,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Kafka {
    /// Starts one and waits until it leads something. Its jars are in `KAFKA_JARS`, or where `.ci/run` puts them.
    fn start(settings: &[&str]) -> Self {
        Self::start_formatted("", settings)
    }

    /// The same with more words for the formatting of its storage. In settings `{port}`, `{controller}` and `{other}` stand for
    /// ports.
    fn start_formatted(format: &str, settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let jars = std::env::var_os("KAFKA_JARS").map(Into::into);
        let jars = jars.unwrap_or_else(|| Path::new(ROOT).join("target/peers/kafka"));
        let (port, controller, other) = (free_port(), free_port(), free_port());
        let place = |text: &&str| {
            let text = text.replace("{port}", &port.to_string()).replace("{other}", &other.to_string());
            text.replace("{controller}", &controller.to_string())
        };
        let child = Command::new(Path::new(ROOT).join("tests/interop/log-kafka-node.sh"))
            .arg(jars)
            .arg(directory.path())
            .args([port.to_string(), controller.to_string()])
            .args(settings.iter().map(place))
            .env("KAFKA_FORMAT", format)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let kafka = Self { directory, port, other, child };
        // A JVM on a busy machine may take longer to start than anything of ours.
        let is_ready = (0..3).any(|_| kafka.log("wait --timeout 50s").runs().code() == 0);
        assert!(is_ready, "Apache Kafka is not ready after 150 s");
        kafka
    }

    /// A log command at this node.
    fn log(&self, words: &str) -> crate::support::Cmd {
        let home = Home::new();
        let url = format!("kafka://127.0.0.1:{}", self.port);
        bandy(&format!("log {words}")).env("BANDY_LOG_URL", url).home(&home)
    }

    fn kcat(&self, words: &str) -> Ran {
        command("kcat", &format!("-b 127.0.0.1:{} {words}", self.port)).runs().exits(0)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("node.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            for line in last.iter().rev() {
                eprintln!("kafka: {line}");
            }
        }
    }
}

#[test]
#[ignore = "needs java, kafka's jars and kcat"]
fn records_go_round_through_apache_kafka() {
    let kafka = Kafka::start(&[]);
    kafka.log("create orders --partitions 3").runs().exits(0).silently();
    kafka.log("create orders --partitions 3").runs().exits(0);
    kafka.log("create orders --partitions 4").runs().exits(1).complains("with 3 partitions, not 4");
    kafka.log("produce ordres hello").runs().exits(5).complains("did you mean 'orders'?");

    // Keys go where the Java client sends them: 'ada' of three partitions.
    let receipt = kafka.log("produce orders hello -k ada -H a=1 -H b=2 -o json").runs().exits(0).object();
    let partition = receipt["partition"].as_i64().unwrap();
    assert_eq!((receipt["topic"].as_str(), receipt["offset"].as_i64()), (Some("orders"), Some(0)));
    let seen = kafka.kcat(&format!("-C -q -e -t orders -p {partition} -f '%k|%s|%h|%o'"));
    assert_eq!(seen.out(), "ada|hello|a=1,b=2|0");

    // What kcat wrote, with every codec, is read; what bandy packed is read by kcat.
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        kafka.log(&format!("create {codec}")).runs().exits(0);
        let lines: String = (0..500).map(|n| format!("line {n} of many that are alike\n")).collect();
        kafka.log(&format!("produce {codec} -z {codec}")).stdin(&lines).runs().exits(0);
        assert_eq!(kafka.kcat(&format!("-C -q -e -t {codec}")).out(), lines, "{codec}");
        command("kcat", &format!("-b 127.0.0.1:{} -P -t {codec} -z {codec}", kafka.port))
            .stdin(&lines)
            .runs()
            .exits(0);
        kafka.log(&format!("consume {codec}")).runs().exits(0).prints(&lines.repeat(2));
    }
}

#[test]
#[ignore = "needs java and kafka's jars"]
fn positions_ends_and_formats_are_those_of_the_help() {
    let kafka = Kafka::start(&[]);
    kafka.log("create t").runs().exits(0);
    kafka.log("consume t").runs().exits(0).prints("");
    kafka.log("consume t -n 1").runs().exits(6);
    kafka.log("produce t").stdin("a\nb\nc\nd\n").runs().exits(0);
    kafka.log("consume t").runs().exits(0).prints("a\nb\nc\nd\n");
    kafka.log("consume t --from -2").runs().exits(0).prints("c\nd\n");
    kafka.log("consume t --from +1 --to 3").runs().exits(0).prints("b\nc\n");
    kafka.log("consume t --from end").runs().exits(0).prints("");
    kafka.log("consume t --from @-1h -n 2").runs().exits(0).prints("a\nb\n");
    kafka.log("consume t --from @-0s").runs().exits(0).prints("");
    kafka.log("consume t -p 7").runs().exits(5).complains("no partition 7");
    kafka.log("tail t -n 1 --idle 300ms").runs().exits(0).prints("d\n");
    kafka.log("consume t -f -n 4 -o %o:%v").runs().exits(0).prints("0:a\n1:b\n2:c\n3:d\n");

    // Everything of a record comes back: no key, no value, the same header twice, bytes that are no text.
    kafka.log("create u").runs().exits(0);
    let record = r#"{"key":"k","value":null,"headers":{"a":["1","2"],"b":{"base64":"/w=="}},"timestamp":7}"#;
    let binary = r#"{"value_base64":"/wA=","timestamp":8}"#;
    kafka.log("produce u --json").stdin(format!("{record}\n{binary}\n")).runs().exits(0);
    let expected = [
        record.replace("\"timestamp\":7}", "\"timestamp\":7,\"topic\":\"u\",\"partition\":0,\"offset\":0}\n"),
        binary.replace("\"timestamp\":8}", "\"timestamp\":8,\"topic\":\"u\",\"partition\":0,\"offset\":1}\n"),
    ];
    kafka.log("consume u --json").runs().exits(0).prints(&expected.concat());

    kafka.log("ls").with("-o plain").runs().exits(0).shows("t\t1\t4\t");
    kafka.log("info t").with("-o plain").runs().exits(0).shows("0\t1\t1\t1\t0\t4\t");
    kafka.log("wait t --offset 4 --timeout 10s").runs().exits(0);
    kafka.log("create t --partitions 2 --grow").runs().exits(0);
    assert_eq!(kafka.log("info t").with("-o plain").runs().exits(0).out().lines().count(), 2);
    let places = |at: &str| {
        let ran = kafka.log(&format!("info t --at {at} --json")).runs().exits(0).out();
        let rows = ran.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| row["at"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((places("@-1h"), places("@-0s"), places("-1")), (vec![0, 0], vec![4, 0], vec![3, 0]));
    kafka.log("trim t --to +3 -y").with("-o plain").runs().exits(0).prints("t\t0\t0\t3\nt\t1\t0\t0\n");
    kafka.log("consume t").runs().exits(0).prints("d\n");
    kafka.log("rm t -y").runs().exits(0);
    kafka.log("consume t").runs().exits(5);
}

#[test]
#[ignore = "needs java and kafka's jars"]
fn a_batch_that_is_too_large_for_the_topic_is_split_and_a_record_is_refused() {
    let kafka = Kafka::start(&[]);
    kafka.log("create small -c max.message.bytes=2000").runs().exits(0);
    let lines: String = (0..200).map(|n| format!("{n:0>100}\n")).collect();
    kafka.log("produce small").stdin(&lines).runs().exits(0);
    kafka.log("consume small").runs().exits(0).prints(&lines);
    let long = format!("short\n{}\nlast\n", "x".repeat(5000));
    let ran = kafka.log("produce small").stdin(&long).runs().exits(7);
    ran.complains("line 2: ").complains("MESSAGE_TOO_LARGE");
    kafka.log("consume small --from -2").runs().exits(0).prints("short\nlast\n");
}

/// Users that log in by SCRAM at a second listener.
const FORMAT: &str = "--add-scram SCRAM-SHA-256=[name=alice,password=secret] \
                      --add-scram SCRAM-SHA-512=[name=alice,password=secret]";
const WITH_USERS: &[&str] = &[
    "listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{other},CONTROLLER://127.0.0.1:{controller}",
    "advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{other}",
    "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512",
    "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=\
     org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
     org.apache.kafka.common.security.scram.ScramLoginModule required;",
];

#[test]
#[ignore = "needs java, kafka's jars and kcat"]
fn groups_transactions_and_logins_work_with_apache_kafka() {
    let kafka = Kafka::start_formatted(FORMAT, WITH_USERS);
    kafka.log("create t --partitions 2").runs().exits(0);
    for partition in 0..2 {
        kafka.log(&format!("produce t -p {partition}")).stdin("a\nb\n").runs().exits(0);
    }
    let count = |words: &str| kafka.log(words).runs().exits(0).out().lines().count();
    assert_eq!(count("consume t -g g"), 4);
    assert_eq!(count("consume t -g g"), 0);
    kafka.log("seek -g g t -p 1 --to start -y -o plain").runs().prints("t\t1\t2\t0\n");
    kafka.log("consume t -g g -- sh -c 'cat; echo @$BANDY_PARTITION'").runs().prints("a@1\nb@1\n");
    kafka.log("config t retention.ms=60000").runs().exits(0);
    kafka.log("config t retention.ms").runs().prints("60000\n");

    // kcat and bandy in one group: each has a partition. Where they begin is stored: the end that a reader finds when it
    // begins may be after the record that it is to read.
    kafka.log("seek -g s t --to end -y").runs().exits(0);
    let words = format!("-q -u -b 127.0.0.1:{} -G s t", kafka.port);
    let mut other = command("kcat", &words).spawns();
    let own = kafka.log("consume t -g s -f -o %v --session-timeout 6s").spawns();
    let members = || {
        let out = kafka.log("info -g s --json").runs().out();
        let member = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["client"].as_str().unwrap_or_default().to_owned()
        };
        out.lines().map(member).filter(|it| !it.is_empty()).collect::<std::collections::BTreeSet<_>>().len()
    };
    crate::support::until("both have a partition", || members() == 2);
    for partition in 0..2 {
        kafka.log(&format!("produce t x -p {partition}")).runs().exits(0);
    }
    let mut own = own;
    assert_eq!((own.line(), other.line()), ("x".to_owned(), "x".to_owned()));
    other.signal(rustix::process::Signal::KILL);
    other.ends();
    own.signal(rustix::process::Signal::INT);
    own.ends().dies_by(rustix::process::Signal::INT);

    kafka.log("create tx -c max.message.bytes=1000").runs().exits(0);
    kafka.log("produce tx --transaction x").stdin("1\n2\n").runs().exits(0);
    let long = format!("3\n{}\n", "x".repeat(3000));
    kafka.log("produce tx --transaction x").stdin(&long).runs().exits(1).complains("was aborted");
    kafka.log("consume tx").runs().prints("1\n2\n");

    for mechanism in ["scram-sha-256", "scram-sha-512"] {
        let log = |user: &str| {
            let at = format!("-e kafka://127.0.0.1:{}?sasl={mechanism} -u {user}", kafka.other);
            bandy("log ls -o plain").with(&at).runs()
        };
        log("alice:secret").exits(0).shows("tx\t");
        log("alice:wrong").exits(4).complains("does not let alice in");
    }
}
