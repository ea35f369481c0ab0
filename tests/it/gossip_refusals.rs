//! `bandy gossip` where something is wrong: words, names, tags, keys, and peers that are something else or nothing.

use std::net::TcpListener;
use std::time::Instant;

use crate::support::{Cmd, Home, Running, bandy, until};

/// A node at a free port, in a home that others share; its first two URLs have been read.
#[track_caller]
fn node(home: &Home, words: &str) -> Running {
    let mut node = bandy(&format!("gossip join -l 127.0.0.1:0 --profile local {words}")).home(home).starts();
    assert!(node.line().starts_with("local:"));
    node
}

fn gossip(home: &Home, words: &str) -> Cmd {
    bandy(&format!("gossip {words}")).home(home)
}

#[test]
fn the_tag_that_brings_keys_is_the_nodes_own() {
    let home = Home::new();
    let _first = node(&home, "--name a --alone");
    let _second = node(&home, "--name b");
    gossip(&home, "wait --members 2 --timeout 30s -e local:a").runs().exits(0);
    for words in ["tag dk=2", "tag role=web dk=1", "join --alone --tag dk=1"] {
        gossip(&home, words).runs().exits(2).complains("the tag dk is the node's own");
    }
    // Whoever deletes it is refused by the node, as the real serf command is.
    gossip(&home, "tag dk= role=web -e local:b").runs().exits(2).complains("the tag dk is the node's own");
    gossip(&home, "tag -e local:b").runs().prints("dk\t1\n");
    gossip(&home, "tag role=web -e local:b").runs().exits(0);
    gossip(&home, "set limit 100 -e local:a").runs().exits(0);
    until("keys come as before", || gossip(&home, "get limit -e local:b").runs().out() == "100\n");
}

#[test]
fn one_who_accepts_and_says_nothing_is_not_waited_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("serf://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let ran = bandy("gossip ls").arg("-e").arg(&url).runs().exits(3);
    ran.complains("it accepts connections, but did not answer").complains("-rpc-addr");
    let waited = began.elapsed().as_secs();
    assert!((9..30).contains(&waited), "{waited} s");
    bandy("gossip ls --timeout 0.2s").arg("-e").arg(&url).runs().exits(124);
    bandy("wait --timeout 0.2s").arg(&url).runs().exits(124);
}

#[test]
fn a_member_that_nobody_knows_is_the_same_error_everywhere() {
    let home = Home::new();
    let _node = node(&home, "--name web1 --alone");
    for words in ["query load --node", "event load --node", "rtt web1", "rtt", "info", "leave -y", "leave"] {
        let ran = gossip(&home, words).arg("wbe1").runs().exits(5);
        if words != "rtt" {
            ran.complains("no member 'wbe1' at local:web1").complains("did you mean 'web1'?");
        }
    }
    // A query that nobody answers says so.
    let ran = gossip(&home, "query load --wait 0.2s").runs().exits(6);
    ran.complains("1 node received it, and nobody answered");
    gossip(&home, "query load --no-ack --wait 0.2s").runs().exits(6).complains("nobody answered");
}

#[test]
fn a_filter_that_is_no_regular_expression_is_told_before_anybody_is_asked() {
    let home = Home::new();
    for verb in ["ls", "query load", "event load", "wait"] {
        let ran = gossip(&home, verb).with("--tag 'role=('").runs().exits(2);
        ran.complains("'(' is no regular expression");
    }
    gossip(&home, "ls --tag role").runs().exits(2).complains("expected TAG=REGEX, got 'role'");
}

#[test]
fn no_node_here_is_told_as_other_servers_are() {
    let home = Home::new();
    for (pillar, words) in [("gossip", "gossip ls"), ("mq", "mq ls"), ("log", "log ls"), ("rpc", "rpc ls")] {
        let ran = bandy(words).home(&home).with("-e local:foo").runs().exits(3);
        ran.complains(&format!("nothing listens at local:foo ({pillar})\n"));
    }
    // Without a name it is any node of this user.
    let _node = node(&home, "--name a --alone");
    gossip(&home, "ls -o %{node} -e local:").runs().prints("a\n");
    let ran = bandy("gossip ping a -n 1 -e local:a").home(&home).runs().exits(0);
    assert!(!ran.err().contains("::"), "{}", ran.err());
}

#[test]
fn where_nodes_meet_and_where_commands_go_are_told_apart() {
    let home = Home::new();
    let mut node = node(&home, "--name a --alone --rpc 127.0.0.1:0");
    let rpc = node.line().trim_start_matches("serf://").to_owned();
    let bind = node.url.trim_start_matches("gossip://").to_owned();
    let ran = gossip(&home, "ls -e").arg(&node.url).runs().exits(2);
    ran.complains(&format!("bandy gossip join {bind} "))
        .complains("bandy gossip ls -e serf://127.0.0.1:7373 ");
    let ran = gossip(&home, "join -l 127.0.0.1:0 --rpc none").arg(&rpc).runs().exits(3);
    ran.complains("no seed answered").complains(&format!("bandy gossip ls -e serf://{rpc} "));
}

#[test]
fn a_key_that_does_not_fit_is_told_with_what_would() {
    let home = Home::new();
    let keys: Vec<String> =
        (0..2).map(|_| gossip(&home, "keygen").runs().exits(0).out().trim().to_owned()).collect();
    let file = |name: &str, key: &str| home.file(name, format!("[\"{key}\"]")).display().to_string();
    let (key, other) = (file("key", &keys[0]), file("other", &keys[1]));
    let sealed = node(&home, &format!("--name sealed --alone --key-file {key}"));
    let plain = node(&home, "--name plain --alone");
    let joins = |seed: &Running, words: &str| {
        gossip(&home, &format!("join -l 127.0.0.1:0 --rpc none {words}")).arg(&seed.url).runs().exits(3)
    };
    joins(&sealed, "").complains("no seed takes what is not encrypted").complains("--key-file FILE");
    joins(&sealed, &format!("--key-file {other}")).complains("no seed knows the key of --key-file");
    joins(&plain, &format!("--key-file {key}"))
        .complains("no seed encrypts, as --key-file wants it")
        .complains("leave out --key-file");
    let keyring = |words: &str| gossip(&home, &format!("keyring {words} -e local:sealed")).runs();
    keyring(&format!("list {}", keys[0])).exits(2).complains("'list' takes no key");
    for wrong in ["abc", "!!!", "c2hvcnQ="] {
        let ran = keyring(&format!("install {wrong}")).exits(2);
        assert!(!ran.err().contains("padding") && !ran.err().contains(wrong), "{}", ran.err());
    }
    home.file("bad", "no key");
    let bad = gossip(&home, "join --key-file bad").folder(home.path("")).runs().exits(2);
    bad.complains("this is not base64");
    // All nodes that did not do it are named, with what they said.
    let _second = node(&home, &format!("--name second --key-file {key} {}", sealed.url));
    gossip(&home, "wait --members 2 -e local:sealed --timeout 30s").runs().exits(0);
    keyring(&format!("remove {}", keys[0]))
        .exits(1)
        .complains("0 of 2 nodes did it — sealed, second: the primary key");
    keyring(&format!("use {}", keys[1])).exits(1).complains("sealed, second: the key is not in the ring");
    assert_eq!(keyring("list --json").exits(0).object()["primary"], 2);
}

#[test]
fn flags_of_a_simulation_that_would_do_nothing_are_told() {
    for (words, why) in [
        ("--paper demers -N 5", "cannot be used with"),
        ("--paper demers --fanout 2", "cannot be used with"),
        ("--paper demers --cast x", "not drawn"),
        ("--runs 5", "--paper"),
        ("--coin", "--coin says when"),
        ("-k 3", "-k says when"),
        ("--engine -k 3", "cannot be used with"),
        ("--engine --coin", "cannot be used with"),
        ("--engine -N 10 --crash 10@1s", "10 of 10 nodes are to crash"),
        ("--engine -N 10 --crash 6@1s --crash 6@2s --join 1@1s", "12 of 11 nodes are to crash"),
        ("--speed 2x", "--speed is for a picture"),
        ("--ascii", "--ascii is for a picture"),
        ("--for 5s", "--for is for a picture"),
        ("--engine -N 20 --cast x --delay 1s", "--delay has no effect"),
    ] {
        bandy(&format!("gossip simulate {words}")).runs().exits(2).complains(why);
    }
    let rounds =
        bandy("gossip simulate --engine -N 20 --cut 50%@1s..30s --for 5s -o %{round}").runs().exits(0);
    assert_eq!(rounds.out().lines().last(), Some("25"));
    bandy("gossip simulate -N 50 --stop blind --coin -k 2").runs().exits(0);
}

#[test]
fn a_template_for_records_says_which_fields_members_have() {
    let home = Home::new();
    let _node = node(&home, "--name a --alone");
    gossip(&home, "ls -o '%k %s'")
        .runs()
        .exits(0)
        .complains("these rows have no %k; they have %{node} %{addr}");
}

#[test]
fn a_large_value_does_not_fill_the_line_that_tells_of_it() {
    let home = Home::new();
    let mut teller = node(&home, "--name a --alone");
    gossip(&home, "set big -").stdin("v".repeat(1 << 20)).runs().exits(0);
    assert_eq!(teller.line(), format!("set\tbig\t{}… (1048576 bytes)", "v".repeat(200)));
    // Whoever works with it gets all of it.
    let whole = gossip(&home, "watch --replay --event data -n 1").runs().exits(0).out();
    assert_eq!(whole.len(), "set\tbig\t\n".len() + (1 << 20));
    // One that joins is not told that something is gone which it never knew of.
    gossip(&home, "set kept 1").runs().exits(0);
    gossip(&home, "del big").runs().exits(0);
    let mut late = node(&home, "--name b");
    let mut lines = vec![late.line(), late.line()];
    lines.sort();
    assert!(lines[0].starts_with("join\ta\t") && lines[1] == "set\tkept\t1", "{lines:?}");
    gossip(&home, "del kept -e local:b").runs().exits(0);
    assert_eq!(late.line(), "del\tkept");
}
