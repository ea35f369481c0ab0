//! `bandy gossip join --metrics`: what Prometheus reads of a node.

use std::io::{Read as _, Write as _};

use rustix::process::Signal;

use crate::support::{Home, Running, bandy, until};

/// Where its metrics are.
fn place(node: &Running) -> String {
    node.says("metrics at http://");
    let said = node.stderr();
    let at = said.split("metrics at http://").nth(1).and_then(|rest| rest.split('/').next());
    at.unwrap().to_owned()
}

fn page(place: &str) -> String {
    let mut stream = std::net::TcpStream::connect(place).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A number of the page; what has not happened yet is not there.
fn number(place: &str, name: &str) -> u64 {
    let page = page(place);
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn a_node_counts_its_members_and_what_it_does() {
    let home = Home::new();
    let gossip = |words: &str| bandy(&format!("gossip {words}")).home(&home);
    let join = |words: &str| gossip(&format!("join -l 127.0.0.1:0 --profile local {words}")).starts();
    let first = join("--name a --alone --metrics 127.0.0.1:0");
    let place = place(&first);
    let is =
        |name: &str, wanted: u64| until(format!("{name} is {wanted}"), || number(&place, name) == wanted);
    is("bandy_gossip_members{state=\"alive\"}", 1);
    let second = join("--name b");
    let third = join("--name c");
    gossip("wait --members 3 --timeout 30s -e local:a").runs().exits(0);
    is("bandy_gossip_members{state=\"alive\"}", 3);
    is("bandy_gossip_events_total{event=\"join\"}", 2);
    for (key, value) in [("one", "1"), ("two", "22")] {
        gossip(&format!("set {key} {value} -e local:a")).runs().exits(0);
    }
    gossip("del two -e local:a").runs().exits(0);
    gossip("event deploy -e local:b").runs().exits(0);
    gossip("query load --wait 0.2s -e local:c").runs().exits(6);
    is("bandy_gossip_keys", 1);
    is("bandy_gossip_tombstones", 1);
    is("bandy_gossip_data_bytes", 7);
    is("bandy_gossip_events_total{event=\"event\"}", 1);
    is("bandy_gossip_events_total{event=\"query\"}", 1);
    is("bandy_gossip_clock{clock=\"events\"}", 2);
    for grows in [
        "bandy_gossip_probes_total",
        "bandy_gossip_datagrams_in_total",
        "bandy_gossip_datagrams_out_total",
        "bandy_gossip_datagram_bytes_in_total",
        "bandy_gossip_datagram_bytes_out_total",
        "bandy_gossip_messages_in_total{kind=\"ack\"}",
        "bandy_gossip_messages_out_total{kind=\"ping\"}",
        "bandy_gossip_streams_in_total",
        "bandy_gossip_stream_bytes_in_total",
        "bandy_gossip_stream_bytes_out_total",
    ] {
        until(format!("{grows} grows"), || number(&place, grows) > 0);
    }
    // What is no gossip is counted as that.
    let address = first.url.trim_start_matches("gossip://");
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"\x04nonsense", address).unwrap();
    is("bandy_gossip_datagrams_malformed_total", 1);
    second.signal(Signal::KILL);
    drop(second);
    third.signal(Signal::INT);
    third.ends().exits(0);
    is("bandy_gossip_members{state=\"left\"}", 1);
    is("bandy_gossip_members{state=\"failed\"}", 1);
    is("bandy_gossip_members{state=\"suspect\"}", 0);
    for counted in ["suspect", "failed", "leave"] {
        assert!(
            number(&place, &format!("bandy_gossip_events_total{{event=\"{counted}\"}}")) > 0,
            "{counted}"
        );
    }
    until("a probe has failed", || number(&place, "bandy_gossip_probes_failed_total") > 0);
    // All of it is told in docs/gossip.md.
    let told = include_str!("../../docs/gossip.md");
    let page = page(&place);
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names.filter(|name| name.starts_with("bandy_gossip_")) {
        assert!(told.contains(&format!("`{name}")), "{name} is not in docs/gossip.md");
    }
}

#[test]
fn a_server_that_registers_with_a_cluster_counts_as_a_node_of_it() {
    let home = Home::new();
    let seed = bandy("gossip join -l 127.0.0.1:0 --alone").home(&home).starts();
    // Of two clusters the first: a name is told once.
    let other = bandy("gossip join -l 127.0.0.1:0 --alone --cluster other").home(&home).starts();
    let server = bandy("rpc serve -l 127.0.0.1:0 --metrics 127.0.0.1:0 upper=tr --register")
        .arg(&seed.url)
        .arg("--register")
        .arg(format!("{}?cluster=other", other.url))
        .home(&home)
        .starts();
    let place = place(&server);
    let alive = "bandy_gossip_members{state=\"alive\"}";
    until("it knows two members", || number(&place, alive) == 2);
    until("it probes", || number(&place, "bandy_gossip_probes_total") > 0);
    let told = page(&place).matches("# TYPE bandy_gossip_probes_total ").count();
    assert_eq!(told, 1);
}

#[test]
fn a_watcher_that_stands_still_misses_events_by_their_bytes_and_is_told() {
    let home = Home::new();
    let gossip = |words: &str| bandy(&format!("gossip {words}")).home(&home);
    let node = gossip("join -l 127.0.0.1:0 --alone --quiet-events --metrics 127.0.0.1:0").starts();
    let place = place(&node);
    let value = vec![b'x'; 1 << 20];
    let set = || drop(gossip("set k -").stdin(&value).runs().exits(0));
    set();
    let mut watchers =
        ["watch --replay -o %k", "watch --replay --event data -o %k"].map(|words| gossip(words).spawns());
    for watcher in &mut watchers {
        // It is told from now on.
        while watcher.line() != "k" {}
        watcher.signal(Signal::STOP);
    }
    for _ in 0..40 {
        set();
    }
    let missed = "bandy_gossip_events_missed_total";
    until("events are missed", || number(&place, missed) > 0);
    for watcher in &watchers {
        watcher.signal(Signal::CONT);
        watcher.says("events came too fast to be told");
    }
    node.says("a watcher is too slow");
}

#[test]
fn one_that_encrypts_otherwise_is_told_of_once_and_counted() {
    let home = Home::new();
    for name in ["one", "two"] {
        home.file(name, bandy("gossip keygen").runs().exits(0).out());
    }
    let join = |words: &str| {
        bandy(&format!("gossip join -l 127.0.0.1:0 --alone --metrics 127.0.0.1:0 {words}"))
            .home(&home)
            .starts()
    };
    let keys = |name: &str| format!("--key-file {}", home.path(name).display());
    let cases = [
        (String::new(), keys("one"), "no_key", "this node has no key"),
        (keys("one"), String::new(), "plain", "does not encrypt"),
        (keys("one"), keys("two"), "other_key", "a key that this node does not have"),
    ];
    for (ours, theirs, kind, text) in cases {
        let node = join(&ours);
        let place = place(&node);
        let counted =
            || number(&place, &format!("bandy_gossip_encryption_mismatches_total{{kind=\"{kind}\"}}"));
        let address = node.url.trim_start_matches("gossip://");
        // By a stream.
        for times in 1..=2 {
            bandy(&format!("gossip join -l 127.0.0.1:0 {address} {theirs}")).home(&home).runs().exits(3);
            until("it is counted", || counted() >= times);
        }
        node.says(text);
        assert_eq!(node.stderr().matches(text).count(), 1, "{}", node.stderr());
    }
}
