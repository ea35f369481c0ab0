//! What the client commands of `bandy log` do beside reading in groups, through the binary, against our own broker.

use std::os::unix::fs::FileExt as _;

use rustix::process::Signal;

use crate::log_groups::{Log, lines};
use crate::support::{Home, Running, bandy, until};

#[test]
fn a_group_is_moved_to_where_it_is_told() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    log.log("produce t -p 0").stdin(lines(1..=5)).runs().exits(0);
    log.log("produce t -p 1").stdin(lines(1..=3)).runs().exits(0);
    log.log("consume t -g g").runs().exits(0);
    let dry = log.log("seek -g g t --to start --dry-run -o plain").runs().exits(0);
    dry.prints("t\t0\t5\t0\nt\t1\t3\t0\n").complains("would move group g in 2 partitions");
    log.log("consume t -g g").runs().exits(0).prints("");
    log.log("seek -g g t --to start").runs().exits(2).complains("nobody is here to be asked");
    log.log("seek -g g t --to -1 -p 0 -y -o plain").runs().exits(0).prints("t\t0\t5\t4\n");
    log.log("consume t -g g -o '%p %v'").runs().exits(0).prints("0 5\n");
    log.log("seek -g g --by -2 -y -o plain").runs().exits(0).prints("t\t0\t5\t3\nt\t1\t3\t1\n");
    log.log("seek -g g t -p 1 --by 1 -y --json")
        .runs()
        .prints("{\"topic\":\"t\",\"partition\":1,\"old\":1,\"new\":2}\n");
    log.log("info -g g -o plain").runs().exits(0).shows("t\t0\t3\t5\t2\t").shows("t\t1\t2\t3\t1\t");
    log.log("info -g g --max-lag 3").runs().exits(0);
    log.log("info -g g --max-lag 2").runs().exits(1).complains("group 'g' is 3 records behind, more than 2");
    log.log("wait -g g --lag 3 --timeout 10s").runs().exits(0);
    log.log("wait -g g --lag 0 --timeout 0.3s").runs().exits(124).complains("3 records behind");
    // Beyond the end there is nothing to go on from; a group that is not there yet is made.
    log.log("seek -g new t --to 99 -y -o plain").runs().exits(0).prints("t\t0\t\t5\nt\t1\t\t3\n");
    log.log("consume t -g new").runs().exits(0).prints("");
    log.log("seek -g nope --to end").runs().exits(5).complains("no group 'nope'");
    log.log("seek -g g tt --to end").runs().exits(5).complains("did you mean 't'?");
    log.log("seek -g g t -p 7 --to end").runs().exits(5);
    log.log("seek -g g t").runs().exits(2);
    let reader = log.log("consume t -g g -f").spawns();
    crate::support::until("it is in", || log.members("g") == 1);
    log.log("seek -g g t --to start -y").runs().exits(1).complains("has 1 member");
    log.log("rm -g g -y").runs().exits(1).complains("NON_EMPTY_GROUP");
    reader.signal(Signal::INT);
    reader.ends().dies_by(Signal::INT);
    log.log("rm -g g -y").runs().exits(0);
    log.log("info -g g").runs().exits(5);
    log.log("ls groups -o plain").runs().exits(0).shows("new\t");
}

#[test]
fn settings_are_shown_and_changed_one_by_one() {
    let log = Log::starts();
    log.log("create t -c cleanup.policy=compact").runs().exits(0);
    log.log("config t cleanup.policy").runs().exits(0).prints("compact\n");
    log.log("config t retention.ms=60000 max.message.bytes=5000").runs().exits(0).prints("");
    log.log("config t retention.ms").runs().exits(0).prints("60000\n");
    log.log("config t cleanup.policy").runs().exits(0).prints("compact\n");
    log.log("config t retention.ms=1 --dry-run").runs().exits(0);
    log.log("config t --unset retention.ms").runs().exits(0);
    let all = log.log("config t --json").runs().exits(0).out();
    assert!(all.contains("{\"name\":\"max.message.bytes\",\"value\":\"5000\","), "{all}");
    assert!(!all.contains("\"retention.ms\",\"value\":\"60000\""), "{all}");
    log.log("config t retention.mz").runs().exits(5).complains("did you mean 'retention.ms'?");
    log.log("config t retention.ms=soon").runs().exits(1);
    log.log("config t retention.ms max.message.bytes=1").runs().exits(2);
    log.log("config nope").runs().exits(5);
}

#[test]
fn a_broker_is_set_while_it_runs_and_stays_so() {
    let home = Home::new();
    let starts = || bandy(&format!("log broker -l :0 --dir {}", home.path("data").display())).starts();
    let at = |server: &Running, words: &str| {
        bandy(&format!("log {words}")).env("BANDY_LOG_URL", &server.url).home(&home).runs()
    };
    let server = starts();
    at(&server, "create t").exits(0);
    at(&server, "create own --config max.message.bytes=9000").exits(0);
    at(&server, "config --broker all message.max.bytes=500 log.retention.ms=60000").exits(0);
    at(&server, "config --broker 1 message.max.bytes=300 num.io.threads=2").exits(0);
    let record = "x".repeat(350);
    at(&server, &format!("produce t {record}")).exits(1).complains("MESSAGE_TOO_LARGE");
    at(&server, &format!("produce own {record}")).exits(0);
    let server = {
        server.signal(Signal::KILL);
        let _ = server.ends().dies_by(Signal::KILL);
        starts()
    };
    at(&server, "config --broker all -o plain")
        .exits(0)
        .prints("log.retention.ms\t60000\tall-brokers\nmessage.max.bytes\t500\tall-brokers\n");
    let all = at(&server, "config t -o plain").exits(0).out();
    assert!(all.contains("max.message.bytes\t300\tbroker\n"), "{all}");
    assert!(all.contains("retention.ms\t60000\tall-brokers\n"), "{all}");
    at(&server, "config --broker 1 num.io.threads").exits(0).prints("2\n");
    at(&server, "config --broker 1 --unset message.max.bytes").exits(0);
    at(&server, &format!("produce t {record}")).exits(0);
    // What cannot be set, and what is none.
    at(&server, "config --broker 1 listeners=x")
        .exits(1)
        .complains("Cannot update these configs dynamically");
    at(&server, "config --broker 1 log.retention.ms=soon").exits(1).complains("expected a number");
    at(&server, "config --broker 7").exits(5).complains("there is no broker 7").complains("there is: 1");
    at(&server, "config --broker x").exits(2);
    at(&server, "config").exits(2);
}

#[test]
fn topics_that_are_compacted_by_the_brokers_default_start_again_with_their_holes() {
    let home = Home::new();
    let starts = || bandy(&format!("log broker -l :0 --dir {}", home.path("data").display())).starts();
    let at = |server: &Running, words: &str| {
        bandy(&format!("log {words}")).env("BANDY_LOG_URL", &server.url).home(&home).runs()
    };
    let server = starts();
    at(&server, "create t --config segment.bytes=200 --config min.cleanable.dirty.ratio=0").exits(0);
    at(&server, "config --broker all log.cleanup.policy=compact").exits(0);
    for n in 0..20 {
        at(&server, &format!("produce t {n} -k same")).exits(0);
    }
    until("it is compacted", || at(&server, "consume t").out().lines().count() < 15);
    at(&server, "config --broker all --unset log.cleanup.policy").exits(0);
    server.signal(Signal::KILL);
    let _ = server.ends().dies_by(Signal::KILL);
    let server = starts();
    let left = at(&server, "consume t").exits(0).out();
    assert!(left.ends_with("19\n"), "{left}");
}

#[test]
fn filters_look_at_key_header_text_and_json() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    let records = "{\"key\":\"user-1\",\"value\":{\"n\":1,\"s\":\"open\"},\"headers\":{\"r\":\"eu\"}}\n\
         {\"key\":\"user-2\",\"value\":{\"n\":2,\"s\":\"paid\"},\"headers\":{\"r\":\"us\"}}\n\
         {\"key\":\"shop-1\",\"value\":{\"n\":30,\"s\":\"paid\"}}\n\
         {\"value\":\"no json\"}\n";
    log.log("produce t --json").stdin(records).runs().exits(0);
    for (flags, offsets) in [
        ("-k user-1", "0"),
        ("-k 'user-*'", "0 1"),
        ("-H r", "0 1"),
        ("-H r=us", "1"),
        ("--grep json", "3"),
        ("--grep paid --where '.n > 2'", "2"),
        ("--where '.s = paid'", "1 2"),
        ("--where '.s != paid'", "0 3"),
        ("--where .n", "0 1 2"),
        ("-k nobody", ""),
    ] {
        let out = log.log(&format!("consume t {flags} -o %o")).runs().exits(0).out();
        assert_eq!(out.split_whitespace().collect::<Vec<_>>().join(" "), offsets, "{flags}");
    }
    log.log("consume t --where '.n > 1' -n 2 -o %o").runs().exits(0).prints("1\n2\n");
    log.log("consume t --where '.n > 1' -n 3").runs().exits(6);
    log.log("consume t --where n=1").runs().exits(2).complains("does not begin with a path");
    // What a group is not shown it has read all the same.
    log.log("consume t -g g --grep paid -o %o").runs().exits(0).prints("1\n2\n");
    log.log("consume t -g g").runs().exits(0).prints("");
    log.log("consume t -g h --grep paid -- sh -c 'echo $BANDY_OFFSET'").runs().exits(0).prints("1\n2\n");
    log.log("tail t -n 4 --grep open --idle 0.2s -o %o").runs().exits(0).prints("0\n");
}

#[test]
fn a_transaction_is_everything_or_nothing() {
    let log = Log::starts();
    log.log("create t --partitions 3 -c max.message.bytes=1000").runs().exits(0);
    log.log("produce t --transaction x").stdin(lines(1..=50)).runs().exits(0);
    assert_eq!(log.log("consume t").runs().exits(0).out().lines().count(), 50);
    let mut input = lines(1..=10);
    input.push_str(&"x".repeat(5000));
    input.push('\n');
    let ran = log.log("produce t --transaction x").stdin(&input).runs().exits(1);
    ran.complains("the transaction was aborted: none of its 11 records counts");
    assert_eq!(log.log("consume t").runs().exits(0).out().lines().count(), 50);
    assert!(log.log("consume t --uncommitted").runs().exits(0).out().lines().count() > 50);
    log.log("produce t --transaction x -K : -z zstd").stdin("a:1\nb:2\nc:3\n").runs().exits(0);
    assert_eq!(log.log("consume t").runs().exits(0).out().lines().count(), 53);
    log.log("produce t --transaction x --acks leader").stdin("a").runs().exits(2);
}

#[test]
fn a_transaction_that_is_interrupted_does_not_hold_readers_up() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    let mut begun = log.log("produce t --transaction x --json").spawns();
    begun.writes("{\"value\":\"1\"}\n");
    until("it has sent something", || log.log("consume t --uncommitted").runs().exits(0).out() == "1\n");
    begun.signal(Signal::INT);
    begun.ends().dies_by(Signal::INT).silently();
    // Behind an open transaction nobody would read this.
    log.log("produce t 2").runs().exits(0);
    log.log("consume t").runs().exits(0).prints("2\n");
}

#[test]
fn what_is_not_there_is_told_and_is_no_success() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.log("ls nodes 1 -o %{node}").runs().exits(0).prints("1\n");
    log.log("ls nodes 1 7").runs().exits(5).complains("no node '7' among 1");
    log.log("seek -g g t --by 1 -y").runs().exits(5).complains("has stored nothing there");
    log.log("consume -e dir:/ t --registry http://127.0.0.1:1").runs().exits(2).complains("--schema FILE");
}

#[test]
fn users_log_in_by_every_mechanism_and_the_broker_has_to_know_the_password_too() {
    let home = Home::new();
    let users = home.file("users.json", r#"{"users": [{"name": "alice", "password": "sec,ret=ä"}]}"#);
    let password = home.file("password", "sec,ret=ä\n");
    let wrong = home.file("wrong", "secret\n");
    let server =
        bandy("log broker --memory -l :0").with(&format!("--user-file {}", users.display())).starts();
    let at = server.url.strip_prefix("kafka://").unwrap();
    for mechanism in ["plain", "scram-sha-256", "SCRAM-SHA-512"] {
        let log = |words: &str, file: &std::path::Path, user: &str| {
            bandy(&format!("log {words} -u {user} --password-file {}", file.display()))
                .with(&format!("-e kafka://{at}?sasl={mechanism}"))
                .runs()
        };
        log(&format!("create {mechanism}"), &password, "alice").exits(0);
        log("ls -o plain", &password, "alice").exits(0).shows(mechanism);
        log("ls", &wrong, "alice").exits(4).complains("does not let alice in: wrong user or password");
        log("ls", &password, "bob").exits(4).complains("does not let bob in");
    }
    let other = format!("log ls -e kafka://{at}?sasl=gssapi -u a:b");
    bandy(&other).runs().exits(2).complains("scram-sha-256");
}

#[test]
fn a_data_directory_is_read_without_its_broker_and_damage_is_told() {
    let home = Home::new();
    let server = bandy("log broker -l :0").home(&home).starts();
    let log = |words: &str| bandy(&format!("log {words}")).home(&home).env("BANDY_LOG_URL", &server.url);
    log("create t --partitions 2").runs().exits(0);
    for number in 11..=30 {
        log(&format!("produce t {number} -p 0 -k k -H h=v")).runs().exits(0);
    }
    log("produce t --transaction x -p 1").stdin("a\nb\n").runs().exits(0);
    server.signal(Signal::TERM);
    server.ends().exits(0);
    let dir = home.path("state/log/default");
    let log = |words: &str| bandy(&format!("log {words}")).home(&home);
    let at = |words: &str| log(&format!("consume -e dir:{} {words}", dir.display()));
    at("t -p 0 --from 3 --to 6 -o '%o %k %v'").runs().exits(0).prints("3 k 14\n4 k 15\n5 k 16\n");
    at("t -p 1").runs().exits(0).prints("a\nb\n");
    at("t -n 30").runs().exits(6);
    at("tt").runs().exits(5).complains("did you mean 't'?");
    at("t -f").runs().exits(2);
    let dumped = log("dump t-1").runs().exits(0).out();
    let rows: Vec<serde_json::Value> =
        dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows[0]["value"].as_str(), rows[0]["transactional"].as_bool()), (Some("a"), Some(true)));
    assert_eq!(rows[2]["op"], "commit");
    assert_eq!(log("dump t").runs().exits(0).out().lines().count(), 23);
    let row = log("dump --json").runs().exits(0).out();
    let row = row.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let row = row.into_iter().find(|row| row["name"] == "t-0").unwrap();
    assert_eq!((row["state"].as_str(), row["records"].as_u64()), (Some("whole"), Some(20)));
    // A bit of the fifth record turns over.
    let name = format!("logs/{}/00000000000000000000.log", row["log"].as_str().unwrap());
    let file = std::fs::File::options().read(true).write(true).open(dir.join(name)).unwrap();
    let at_byte = row["bytes"].as_u64().unwrap() / 20 * 4 + 65;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at_byte).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at_byte).unwrap();
    at("t -p 0 -o %o").runs().exits(7).complains("damaged from offset 4 to offset 5");
    log("salvage --dry-run").runs().exits(0).shows("t-0");
    log("salvage t -y").runs().exits(0).shows("skipped");
    assert_eq!(at("t -p 0").runs().exits(0).out().lines().count(), 19);
}

#[test]
fn demos_benches_and_tops_have_a_form_for_pipes() {
    for name in ["partitions", "replay"] {
        let out = bandy(&format!("log demo {name} --json")).runs().exits(0).out();
        assert!(out.lines().count() > 10 && out.starts_with("{\"time_ms\":"), "{name}: {out}");
        let same = bandy(&format!("log demo {name}")).runs().exits(0).out();
        assert_eq!(same, bandy(&format!("log demo {name}")).runs().exits(0).out());
        assert_ne!(same, bandy(&format!("log demo {name} --seed 8")).runs().exits(0).out());
    }
    let log = Log::starts();
    let row = log.log("bench -n 2000 --partitions 2 --consumers 2 --json").runs().exits(0).object();
    assert_eq!((row["sent"].as_u64(), row["messages"].as_u64()), (Some(2000), Some(2000)));
    assert_eq!(row["acknowledged"].as_u64(), Some(2000));
    let row = log.log("bench --consumers 0 --rate 500/s --for 1s --json").runs().exits(0).object();
    assert!(row["acknowledged"].as_u64().is_some_and(|count| (300..=700).contains(&count)), "{row}");
    log.log("bench -n 100 --fail-if 'p50>0ms'").runs().exits(7);
    log.log("ls -o plain").runs().exits(0).prints("");
    log.log("create t").runs().exits(0);
    log.produce("t", &lines(1..=5));
    log.log("consume t -g g -n 2").runs().exits(0);
    let row = log.log("top --once --json").runs().exits(0).object();
    assert_eq!(
        (row["topic"].as_str(), row["group"].as_str(), row["lag"].as_i64()),
        (Some("t"), Some("g"), Some(3))
    );
    log.log("top nope --once").runs().exits(5);
    assert_eq!(log.log("top -n 3 -i 50ms --json").runs().exits(0).out().lines().count(), 3);
}

#[test]
fn lines_go_straight_into_batches_and_are_told_by_number_when_refused() {
    let log = Log::starts();
    log.log("create t -c max.message.bytes=1000").runs().exits(0);
    let long = "x".repeat(5000);
    let ran = log.log("produce t").stdin(format!("a\n\n{long}\nd")).runs().exits(7);
    ran.complains("line 3: ").complains("MESSAGE_TOO_LARGE");
    log.log("consume t").runs().exits(0).prints("a\n\nd\n");
    log.log("produce t -0 --tombstones -K = -H h=1").stdin("k=v\0k=\0=x").runs().exits(0);
    log.log("consume t --from 3 -o '%k|%v|%H{h}'").runs().exits(0).prints("k|v|1\nk||1\n|x|1\n");
    let many: String = (0..50_000).map(|n| format!("{n:0>40}\n")).collect();
    log.log("create big").runs().exits(0);
    log.log("produce big").stdin(&many).runs().exits(0);
    log.log("consume big").runs().exits(0).prints(&many);
    // Of several inputs the one is named, however they are read.
    let (one, two) =
        (log.server.home.file("one", "a\nb"), log.server.home.file("two", format!("c\n{long}\nd")));
    let inputs = format!("--input {} --input {}", one.display(), two.display());
    let place = format!("line 2 of {}: ", two.display());
    log.log(&format!("produce t {inputs}")).runs().exits(7).complains(&place);
    log.log(&format!("produce t {inputs} -T")).runs().exits(7).complains(&place);
    let whole = log.log(&format!("produce t {inputs} --whole")).runs().exits(7);
    whole.complains(&format!("error: {}: ", two.display()));
    let nope = log.server.home.path("nope");
    log.log(&format!("produce t --input {}", nope.display())).runs().exits(1).complains("cannot read");
}

#[test]
fn a_broker_without_a_port_is_named_by_its_socket_and_times_are_readable() {
    let server = bandy("log broker -l local: --memory").starts();
    let log = |words: &str| bandy(&format!("log {words}")).home(&server.home);
    let node = log("ls nodes --json").runs().exits(0).object();
    assert_eq!((&node["host"], &node["port"]), (&"local:".into(), &serde_json::Value::Null));
    log("produce orders --create hello").runs().exits(0);
    let ms = log("consume orders -o %d{ms}").runs().exits(0).out();
    let time = log("consume orders -o '%d{%Y-%m-%d %H:%M:%S}'").runs().exits(0).out();
    log("consume orders -o table").runs().exits(0).shows(&format!("{}.{}", time.trim(), &ms.trim()[10..]));
    log("consume orders -o plain").runs().exits(0).shows(ms.trim());
    assert_eq!(log("consume orders --json").runs().object()["timestamp"].to_string(), ms.trim());
}
