//! Topics that grow and are trimmed, places that are looked for, and what is said of what is not there.

use crate::log_groups::{Log, lines};
use crate::support::{Home, bandy};

#[test]
fn a_topic_grows_only_when_that_is_asked_for() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    log.log("create t --partitions 3")
        .runs()
        .exits(1)
        .complains("with 2 partitions, not 3")
        .complains("--grow");
    log.log("create t --partitions 3 --grow").runs().exits(0);
    assert_eq!(log.log("info t -o plain").runs().exits(0).out().lines().count(), 3);
    log.log("create t --partitions 3 --grow").runs().exits(0);
    log.log("create t --partitions 1 --grow").runs().exits(1).complains("with 3 partitions, not 1");
    log.log("create new --partitions 4 --grow").runs().exits(0);
    log.log("create new --grow").runs().exits(2);
    log.log("produce t x -p 2").runs().exits(0);
}

#[test]
fn records_are_removed_from_the_start_while_the_topic_stays() {
    let log = Log::starts();
    log.log("create t --partitions 2").runs().exits(0);
    log.log("produce t -p 0").stdin(lines(1..=5)).runs().exits(0);
    log.log("produce t -p 1").stdin(lines(6..=7)).runs().exits(0);
    log.log("trim t --to -1").runs().exits(2).complains("remove about 5 records in 2 partitions of t");
    let dry = log.log("trim t --to -1 --dry-run -o plain").runs().exits(0);
    dry.prints("t\t0\t0\t4\nt\t1\t0\t1\n");
    assert_eq!(log.log("consume t").runs().exits(0).out().lines().count(), 7);
    log.log("trim t --to -1 -y --json -p 0")
        .runs()
        .exits(0)
        .prints("{\"topic\":\"t\",\"partition\":0,\"old\":0,\"new\":4}\n");
    log.log("consume t -p 0").runs().exits(0).prints("5\n");
    log.log("consume t -p 0 --from 1")
        .runs()
        .exits(0)
        .prints("5\n")
        .complains("--from 1 is gone: reading begins at 4");
    log.log("trim t --to 1 -y -o plain").runs().exits(0).prints("t\t0\t4\t4\nt\t1\t0\t1\n");
    log.log("trim t --to @2001-01-01 -y").runs().exits(0);
    log.log("trim t --to end -y").runs().exits(0);
    log.log("consume t").runs().exits(0).prints("");
    log.log("info t -o plain").runs().exits(0).shows("\t5\t5\t").shows("\t2\t2\t");
    log.log("trim tt --to end -y").runs().exits(5).complains("did you mean 't'?");
    log.log("trim t --to end -y -p 9").runs().exits(5);
    log.log("create keyed --compact").runs().exits(0);
    log.log("produce keyed v -k k").runs().exits(0);
    log.log("trim keyed --to end -y")
        .runs()
        .exits(1)
        .complains("topic 'keyed' partition 0")
        .complains("POLICY_VIOLATION");
}

#[test]
fn the_offset_of_a_time_or_a_place_is_looked_for() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    for time in [1_763_884_801_000i64, 1_763_884_802_000, 1_763_884_803_000] {
        let record = format!("{{\"value\":\"{time}\",\"timestamp\":{time}}}\n");
        log.log("produce t --json").stdin(record).runs().exits(0);
    }
    let at =
        |place: &str| log.log(&format!("info t --at {place} --json")).runs().exits(0).object()["at"].as_i64();
    assert_eq!(at("@1763884801500"), Some(1));
    assert_eq!(at("@1763884803000"), Some(2));
    assert_eq!(at("@1763884803001"), Some(3), "the end");
    assert_eq!(at("-1"), Some(2));
    assert_eq!(at("start"), Some(0));
    let row = log.log("info t --json").runs().exits(0).object();
    assert!(row.get("at").is_none(), "{row}");
}

#[test]
fn an_offset_that_is_not_there_is_told() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.produce("t", &lines(1..=3));
    log.log("consume t --from 99999")
        .runs()
        .exits(0)
        .prints("")
        .complains("--from 99999 is behind the end, which is at 3");
    log.log("consume t --from 3").runs().exits(0).prints("").silently();
    log.log("create two --partitions 2").runs().exits(0);
    log.log("consume two --from 7").runs().exits(0).complains("behind the ends of all partitions");
}

#[test]
fn headers_keep_their_order_through_json_and_csv() {
    let log = Log::starts();
    log.log("create t").runs().exits(0);
    log.log("create copy").runs().exits(0);
    log.log("produce t v -k k -H a=1 -H a=2 -H b=3 -H a=4").runs().exits(0);
    log.log("produce t w -H a=1 -H b=2").runs().exits(0);
    let json = log.log("consume t --json").runs().exits(0).out();
    assert!(json.contains(r#""headers":[["a","1"],["a","2"],["b","3"],["a","4"]]"#), "{json}");
    assert!(json.contains(r#""headers":{"a":"1","b":"2"}"#), "{json}");
    log.log("produce copy --json").stdin(&json).runs().exits(0);
    let headers = "a=1,a=2,b=3,a=4 v\na=1,b=2 w\n";
    log.log("consume copy -o '%h %v'").runs().exits(0).prints(headers);
    let csv = log.log("consume t -o csv").runs().exits(0).out();
    log.log("create third").runs().exits(0);
    log.log("produce third -I csv").stdin(&csv).runs().exits(0);
    log.log("consume third -o '%h %v'").runs().exits(0).prints(headers);
    log.log("consume t -o '%K/%S'").runs().exits(0).prints("1/1\n-1/1\n");
}

#[test]
fn a_topic_that_is_not_there_may_be_another_or_may_be_made_but_not_to_remove_it() {
    let log = Log::starts();
    log.log("create orders").runs().exits(0);
    let tips = "  tip: did you mean 'orders'?\n       create it: bandy log create order";
    log.log("consume order").runs().exits(5).complains(tips);
    let removed = log.log("rm order -y").runs().exits(5).complains("tip: did you mean 'orders'?\n");
    assert!(!removed.err().contains("create it"), "{}", removed.err());
}

#[test]
fn who_is_not_let_in_is_told_so() {
    let home = Home::new();
    let users = r#"{"users": [{"name": "root", "password": "r"}, {"name": "eve", "password": "e"}]}"#;
    let users = home.file("users.json", users);
    let words = format!("--user-file {} --super-user root --deny-by-default", users.display());
    let server = bandy("log broker --memory -l :0").with(&words).starts();
    let log = |words: &str| bandy(&format!("log {words}")).env("BANDY_LOG_URL", &server.url).runs();
    for words in ["ls", "consume t", "produce t x", "info -g g"] {
        log(words).exits(4).complains("wants a login").complains("tip: -u USER --password-file FILE");
    }
    log("create t -u root:r").exits(0);
    log("produce t x -u root:r").exits(0);
    for (words, what) in [
        ("consume t -g g -u eve:e", "topic 't': not allowed on this topic (TOPIC_AUTHORIZATION_FAILED)"),
        ("info -g g -u eve:e", "not allowed on this group (GROUP_AUTHORIZATION_FAILED)"),
    ] {
        let said = log(words).exits(4).complains(what).err();
        assert_eq!(said.matches("AUTHORIZATION_FAILED").count(), 1, "{said}");
    }
    bandy("log broker --memory -l :0 --user-file nosuch").runs().exits(1).complains("cannot read nosuch");
}

#[test]
fn what_is_as_it_is_anyway_is_nobodys_setting() {
    let source = |words: &str| {
        let server = bandy(&format!("log broker --memory -l :0 {words}")).starts();
        let log = |words: &str| bandy(&format!("log {words}")).env("BANDY_LOG_URL", &server.url).runs();
        log("create t").exits(0);
        let all = log("config t --json").exits(0).out();
        let rows = all.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let row = rows.into_iter().find(|row| row["name"] == "retention.ms").unwrap();
        row["source"].as_str().unwrap().to_owned()
    };
    assert_eq!(source(""), "default");
    assert_eq!(source("--retention 8d"), "static");
}
