//! Clients that others wrote against `log broker`: kcat, kafka-python, confluent-kafka and aiokafka.

use std::path::Path;

use crate::interop::peers::{interop, script};
use crate::support::{Running, bandy, shell};

fn port(server: &Running) -> String {
    server.url.rsplit_once(':').unwrap().1.to_owned()
}

#[test]
#[ignore = "needs kcat"]
fn kcat_works_unchanged() {
    let server = bandy("log broker -l :0 --partitions 3").starts();
    let at = format!("kcat -q -b 127.0.0.1:{}", port(&server));
    for codec in ["none", "gzip", "snappy", "lz4"] {
        shell("sh", &format!("seq 1 500 | {at} -P -t {codec} -z {codec}")).runs().exits(0);
        // Packed as it was asked for: old librdkafka sends it unpacked when it thinks the broker cannot read it.
        let seen = shell("sh", &format!("{at} -C -e -o beginning -t {codec} | sort -n | uniq | wc -l"));
        seen.runs().exits(0).prints("500\n");
    }
    let group = format!("{at} -G g -e -X auto.offset.reset=earliest gzip lz4 2>/dev/null | wc -l");
    shell("sh", &group).runs().exits(0).prints("1000\n");
    shell("sh", &group).runs().exits(0).prints("0\n");
    shell("sh", &format!("{at} -L | grep -c 'partition 2, leader 1, replicas: 1'"))
        .runs()
        .exits(0)
        .prints("4\n");
}

#[test]
#[ignore = "needs kafka-python"]
fn kafka_python_works_unchanged() {
    let server = bandy("log broker -l :0").starts();
    let seen = "topics\nrecords\ngroups\ndeletions\n";
    script("log-broker-kafka-python.py").arg(port(&server)).runs().exits(0).prints(seen);
}

#[test]
#[ignore = "needs confluent-kafka"]
fn confluent_kafka_works_unchanged() {
    let server = bandy("log broker -l :0").starts();
    let seen = "administration\nidempotence\ntransactions\nfences\n";
    script("log-broker-confluent.py").arg(port(&server)).runs().exits(0).prints(seen);
}

#[test]
#[ignore = "needs aiokafka"]
fn aiokafka_works_unchanged() {
    let server = bandy("log broker -l :0").starts();
    script("log-broker-aiokafka.py")
        .arg(port(&server))
        .runs()
        .exits(0)
        .prints("records\ngroups\ntransactions\n");
}

#[test]
#[ignore = "needs java and Apache Kafka's jars"]
fn tools_of_kafka_work_unchanged() {
    let server = bandy("log broker -l :0").starts();
    let jars = std::env::var_os("KAFKA_JARS").map(std::path::PathBuf::from);
    let jars = jars.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/kafka"));
    let words =
        format!("{} {} {}", interop("log-broker-kafka-tools.sh").display(), jars.display(), port(&server));
    shell("sh", &words).runs().exits(0).prints("topics\ngroups\nverified\nconfigs\nacls\n");
}

#[test]
#[ignore = "needs confluent-kafka"]
fn groups_of_the_next_generation_share_and_move_over_unchanged() {
    let server = bandy("log broker -l :0").starts();
    script("log-broker-next-groups.py").arg(port(&server)).runs().exits(0).prints("shared\nmoved\nback\n");
}
