//! Nodes of Serf's library with a label, which agents have no flag for, in clusters with ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::peers::{interop, succeeds};
use crate::support::{Cmd, Home, Running, bandy, command, until};

const LABEL: &str = "blue";

fn built(home: &Home) -> PathBuf {
    let program = home.path("serf-label");
    let build = |command: &mut Command| succeeds(command.current_dir(interop("serf-label")));
    build(Command::new("go").args(["build", "-o"]).arg(&program).arg("."));
    program
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn real(program: &Path, home: &Home, name: &str, key: &str, seed: Option<&str>) -> (Running, String) {
    let address = free_address();
    let mut node = command(program, "").arg(name).arg(&address).arg(LABEL).arg(key);
    if let Some(seed) = seed {
        node = node.arg(seed);
    }
    let mut node = node.home(home).spawns();
    assert_eq!(node.line(), "ready");
    (node, address)
}

fn gossip(home: &Home, words: &str) -> Cmd {
    bandy(&format!("gossip {words}")).home(home)
}

fn ours(home: &Home, name: &str, words: &str) -> (Running, String) {
    let answer = home.path("answer.sh");
    let words = format!(
        "join -l 127.0.0.1:0 --name {name} --cluster {LABEL} --rpc none {words} -- {}",
        answer.display()
    );
    let mut node = gossip(home, &words).starts();
    assert_eq!(node.line(), format!("local:{name}"));
    let address = node.url.trim_start_matches("gossip://").to_owned();
    (node, address)
}

fn reads(node: &mut Running, wanted: &str) {
    while node.line() != wanted {}
}

fn are_one_cluster(key: &str) {
    let home = Home::new();
    let program = built(&home);
    home.script(
        "answer.sh",
        "#!/bin/sh\n[ \"$SERF_EVENT\" = query ] && printf 'answer of %s' \"$SERF_SELF_NAME\"\nexit 0\n",
    );
    let words = if key.is_empty() {
        String::new()
    } else {
        format!("--key-file {}", home.file("key", key).display())
    };
    // Joined both ways: they us, we them.
    let (mut first, address) = ours(&home, "c1", &format!("--alone {words}"));
    let (mut a1, theirs) = real(&program, &home, "a1", key, Some(&address));
    let (mut a2, _) = real(&program, &home, "a2", key, Some(&theirs));
    let (second, _) = ours(&home, "c2", &format!("{theirs} {words}"));
    let (a3, _) = real(&program, &home, "a3", key, Some(&theirs));
    for name in ["c1", "c2"] {
        gossip(&home, &format!("wait --members 5 --timeout 60s -e local:{name}")).runs().exits(0);
    }
    let mut missing = vec!["member-join a3", "member-join c2"];
    while !missing.is_empty() {
        let line = a1.line();
        missing.retain(|joined| *joined != line);
    }
    // One without the label, or with another one, does not get in.
    for cluster in ["", "--cluster green"] {
        let stranger = format!("join {theirs} --name x -l 127.0.0.1:0 --rpc none {cluster} {words}");
        gossip(&home, &stranger).runs().exits(3).complains("no seed answered");
    }
    until("their event is told", || {
        a2.writes("event theirs v1\n");
        first.line() == "event\ttheirs\tv1"
    });
    gossip(&home, "event ours v2 -e local:c2").runs().exits(0);
    reads(&mut a1, "user ours v2");
    // Like every piece of news a query may miss a node.
    until("all answer us", || {
        let answers = gossip(&home, "query load --relay-factor 2 -e local:c1").runs().out();
        ["a1", "a2", "a3", "c1", "c2"].iter().all(|node| answers.contains(&format!("answer of {node}")))
    });
    until("all answer them", || {
        a2.writes("query load\n");
        let mut answers = Vec::new();
        loop {
            match a2.line() {
                line if line == "answered" => break answers.len() == 5,
                line if line.starts_with("answer ") => answers.push(line),
                _ => {}
            }
        }
    });
    second.signal(Signal::INT);
    second.ends().exits(0);
    reads(&mut a1, "member-leave c2");
    drop(a3);
    until("the killed one has failed", || {
        gossip(&home, "ls --status failed -o %{node} -e local:c1").runs().out() == "a3\n"
    });
    for node in [&a1, &a2] {
        let said = node.stderr();
        let strange = ["ecrypt", "ecode", "unknown type", "not supported", "invalid"];
        // The strangers were told off by their labels, and by nothing else.
        let is = |line: &&str| line.contains("[ERR]") && strange.iter().any(|it| line.contains(it));
        assert_eq!(said.lines().filter(is).find(|line| !line.contains("label")), None);
    }
}

#[test]
#[ignore = "needs go"]
fn nodes_with_a_label_and_ours_are_one_cluster() {
    are_one_cluster("");
}

/// Then the label is part of what is authenticated.
#[test]
#[ignore = "needs go"]
fn encrypted_nodes_with_a_label_and_ours_are_one_cluster() {
    let home = Home::new();
    let key = gossip(&home, "keygen").runs().exits(0).out().trim().to_owned();
    are_one_cluster(&key);
}
