//! `bandy gossip` through the binary: nodes that find each other, and the commands that ask them.

use rustix::process::Signal;

use crate::support::{Cmd, Home, Running, bandy, until};

/// A node at a free port, in a home that others share; its second and following URLs have been read.
#[track_caller]
fn node(home: &Home, words: &str) -> Running {
    let mut node = bandy(&format!("gossip join -l 127.0.0.1:0 --profile local {words}")).home(home).starts();
    assert!(node.url.starts_with("gossip://127.0.0.1:"), "{}", node.url);
    assert!(node.line().starts_with("local:"));
    node
}

fn gossip(home: &Home, words: &str) -> Cmd {
    bandy(&format!("gossip {words}")).home(home)
}

/// Reads lines until one that is wanted.
#[track_caller]
fn reads(node: &mut Running, wanted: &str) -> String {
    loop {
        let line = node.line();
        if line.starts_with(wanted) {
            return line;
        }
    }
}

#[test]
fn two_terminals_without_an_address_are_a_cluster() {
    let home = Home::new();
    let mut first = bandy("gossip join --rpc none").home(&home).starts();
    assert_eq!(first.line(), "local:n1");
    let mut second = bandy("gossip join --rpc none").home(&home).starts();
    assert_eq!(second.line(), "local:n2");
    assert!(reads(&mut first, "join\tn2").starts_with("join\tn2\t127.0.0.1:"));
    assert!(reads(&mut second, "join\tn1").starts_with("join\tn1\t127.0.0.1:"));
    // The newest is asked.
    assert_eq!(gossip(&home, "info --json").runs().exits(0).object()["agent"]["name"], "n2");
    gossip(&home, "ls -o %{node}").runs().prints("n1\nn2\n");
    gossip(&home, "wait --members 2 --timeout 30s").runs().exits(0);

    gossip(&home, "event deploy v1.2").runs().exits(0).silently();
    reads(&mut first, "event\tdeploy\tv1.2");
    reads(&mut second, "event\tdeploy\tv1.2");
    gossip(&home, "tag role=web zone=eu").runs().exits(0);
    gossip(&home, "tag zone=").runs().exits(0);
    gossip(&home, "tag").runs().prints("dk\t1\nrole\tweb\n");
    until("the other one sees the tag", || {
        gossip(&home, "ls --tag role=web -o %{node} -e local:n1").runs().out() == "n2\n"
    });
    gossip(&home, "ping n1 -n 2 -i 0.01s").runs().exits(0).complains("2 answered");
    gossip(&home, "ping n9 -n 1").runs().exits(5).complains("no member 'n9' at local:n2");

    second.signal(Signal::INT);
    let ended = second.ends().exits(0);
    assert!(!ended.out().contains("failed"), "{}", ended.out());
    reads(&mut first, "leave\tn2");
    gossip(&home, "ls --status left -o %{node}").runs().prints("n2\n");
    gossip(&home, "leave").runs().exits(0);
    first.ends().exits(0);
    gossip(&home, "ls").runs().exits(3).complains("bandy gossip join");
}

/// Anybody could have put it there, so it is not joined; who meant it is told how.
#[test]
fn a_node_that_somebody_else_has_started_is_told_of() {
    let (theirs, home) = (Home::new(), Home::new());
    let port = |node: &Running| node.url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let stranger = bandy("gossip join --alone --rpc none").home(&theirs).starts();
    // Other tests may leave a port before it meanwhile.
    let alone = loop {
        let alone = bandy("gossip join --rpc none").home(&home).starts();
        if port(&alone) > port(&stranger) {
            break alone;
        }
    };
    alone.says("this node is alone, and a ");
    alone.says("  tip: bandy gossip join 127.0.0.1:79");
    gossip(&home, "ls -o value").runs().exits(0).prints("n1\n");
}

#[test]
fn one_that_is_stopped_is_suspected_and_objects_when_it_goes_on() {
    let home = Home::new();
    let mut first = node(&home, "--name a --alone");
    let second = node(&home, "--name b");
    reads(&mut first, "join\tb");
    second.signal(Signal::STOP);
    let line = reads(&mut first, "suspect\tb");
    assert!(line.starts_with("suspect\tb\t127.0.0.1:"), "{line}");
    second.signal(Signal::CONT);
    let back = loop {
        let line = first.line();
        // Slow machines let it fail before it goes on: then it joins again.
        if line.starts_with("alive\tb") || line.starts_with("join\tb") {
            break line;
        }
    };
    assert!(back.contains("127.0.0.1:"));
    let incarnation = gossip(&home, "ls b --json -e local:a").runs().exits(0).object()["inc"].clone();
    assert!(incarnation.as_u64() > Some(1), "{incarnation}");
}

#[test]
fn one_that_is_killed_has_failed_and_can_be_forced_out() {
    let home = Home::new();
    let mut first = node(&home, "--name a --alone");
    let second = node(&home, "--name b");
    reads(&mut first, "join\tb");
    second.signal(Signal::KILL);
    drop(second);
    reads(&mut first, "failed\tb");
    gossip(&home, "leave a -y -e local:a").runs().exits(1).complains("a is alive");
    gossip(&home, "leave nobody -y -e local:a").runs().exits(5);
    gossip(&home, "leave b -y -e local:a").runs().exits(0);
    reads(&mut first, "leave\tb");
}

#[test]
fn handlers_get_events_and_answer_queries() {
    let home = Home::new();
    let script = home.script(
        "handle.sh",
        "#!/bin/sh\ncase $SERF_EVENT in\nquery) read x; echo \"$SERF_SELF_NAME $SERF_SELF_ROLE $SERF_QUERY_NAME $x $BANDY_KEY\";;\n\
        user) cat > \"$HOME/$SERF_USER_EVENT\";;\nesac\n",
    );
    let _node = node(&home, &format!("--name a --alone --tag role=web -- {}", script.display()));
    gossip(&home, "query load now").runs().prints("a\ta web load now load\n");
    gossip(&home, "query load now --json --node a").runs().shows(r#""value":"a web load now load\n""#);
    gossip(&home, "query load --node b --wait 0.2s").runs().exits(5);
    gossip(&home, "query load --tag role=db --wait 0.2s").runs().exits(6);
    gossip(&home, "event deploy").arg("v1").runs().exits(0);
    until("the handler has run", || {
        std::fs::read_to_string(home.path("deploy")).is_ok_and(|text| text == "v1\n")
    });
    // One that watches can answer as well: here it is the first.
    gossip(&home, &format!("event big {}", "x".repeat(600))).runs().exits(1).complains("limit of 512");
}

#[test]
fn a_handler_that_fails_is_told_of() {
    let home = Home::new();
    let script = home.script("handle.sh", "#!/bin/sh\n[ \"$SERF_EVENT\" = query ] && exit 3\nexit 0\n");
    let node = node(&home, &format!("--name a --alone -- {}", script.display()));
    gossip(&home, "query load --wait 0.5s").runs();
    node.says("handle.sh, for query load: exit status: 3");
    let watch = gossip(&home, "watch --event user -n 1 -- false").spawns();
    until("it is told there as well", || {
        gossip(&home, "event deploy").runs().exits(0);
        watch.stderr().contains("false, for user deploy: exit status: 1")
    });
    watch.ends().exits(0);
    gossip(&home, "leave").runs().exits(0);
    let said = node.stderr();
    node.ends().exits(0);
    assert!(!said.contains("user deploy"), "it ended well: {said}");
}

/// Somebody else's node, where others may write, would bring this one into a cluster of theirs.
#[test]
fn a_node_that_others_could_have_put_there_is_not_joined() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let _first = node(&home, "--name a --alone");
    let folder = home.path("run/gossip");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let second = node(&home, "--name b");
    second.says("not joining local:a: what is at local: may be somebody else's");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    gossip(&home, "ls -o %{node} -e local:b").runs().prints("b\n");
}

#[test]
fn what_comes_in_a_burst_is_one_event_if_the_node_coalesces() {
    let home = Home::new();
    let script = home.script(
        "handle.sh",
        "#!/bin/sh\n[ \"$SERF_EVENT\" = member-join ] && cut -f 1 | tr '\\n' ' ' >> \"$HOME/joins\"\nexit 0\n",
    );
    let words = format!("--name a --alone --coalesce=9s -- {}", script.display());
    let mut first = node(&home, &words);
    let _second = node(&home, "--name b");
    let mut third = node(&home, "--name c");
    // Told at once, while those that joined wait.
    gossip(&home, "event plain x -e local:a").runs().exits(0);
    assert_eq!(first.line(), "event\tplain\tx");
    for version in 1..=4 {
        gossip(&home, &format!("event deploy v{version} --coalesce -e local:a")).runs().exits(0);
    }
    let mut lines: Vec<String> = (0..3).map(|_| first.line()).collect();
    lines.sort();
    assert!(lines[0].starts_with("event\tdeploy\tv4"), "{lines:?}");
    assert!(lines[1].starts_with("join\tb") && lines[2].starts_with("join\tc"), "{lines:?}");
    until("the handler has run, once for both", || {
        std::fs::read_to_string(home.path("joins")).is_ok_and(|text| text == "b c ")
    });
    // Who does not coalesce is told all of them.
    let mut all: Vec<String> = (1..=4).map(|_| reads(&mut third, "event\tdeploy")).collect();
    all.sort();
    assert_eq!(all, [1, 2, 3, 4].map(|version| format!("event\tdeploy\tv{version}")));
    // What waits when it leaves is told.
    third.signal(Signal::INT);
    third.ends().exits(0);
    until("it has left", || gossip(&home, "ls c -o %{status} -e local:a").runs().out() == "left\n");
    first.signal(Signal::INT);
    let ended = first.ends().exits(0).out();
    assert!(ended.contains("leave\tc\t"), "{ended}");
}

#[test]
fn watch_tells_what_happens_as_lines_and_as_records() {
    let home = Home::new();
    let _node = node(&home, "--name a --alone");
    let mut lines = gossip(&home, "watch").spawns();
    let mut records = gossip(&home, "watch --json --event data").spawns();
    until("both watch", || {
        gossip(&home, "set probe x").runs().exits(0);
        records.stderr();
        gossip(&home, "event tick").runs().exits(0);
        true
    });
    // What was said before they watched is not told: it is said until it is.
    let line = loop {
        gossip(&home, "set k one").runs().exits(0);
        let line = records.line();
        if line.contains(r#""key":"k""#) {
            break line;
        }
    };
    assert!(line.contains(r#""value":"one""#) && line.contains(r#""event":"data""#), "{line}");
    reads(&mut lines, "set\tk\tone");
    gossip(&home, "del k").runs().exits(0);
    reads(&mut lines, "del\tk");
    gossip(&home, "watch --for 0.05s").runs().exits(0);
    gossip(&home, "watch --for 0.05s -n 1").runs().exits(6);
    gossip(&home, "watch --event nonsense").runs().exits(2).complains("expected join");
}

#[test]
fn keys_spread_to_nodes_of_bandy_and_deleted_ones_stay_deleted() {
    for mode in ["push", "pull", "push-pull"] {
        let home = Home::new();
        let _first = node(&home, &format!("--name a --alone --mode {mode}"));
        let _second = node(&home, &format!("--name b --mode {mode}"));
        gossip(&home, "set limit 100 -e local:a").runs().exits(0).silently();
        let large = "v".repeat(200_000);
        gossip(&home, "set large - -e local:a").stdin(&large).runs().exits(0);
        let has = |key: &str, value: &str| {
            until(format!("{key} is at b, by {mode}"), || {
                gossip(&home, &format!("get {key} -e local:b")).runs().out().trim_end() == value
            });
        };
        has("limit", "100");
        has("large", &large);
        gossip(&home, "keys lim -o %{key} -e local:b").runs().prints("limit\n");
        gossip(&home, "del limit -e local:b").runs().exits(0);
        until(format!("it is gone at a, by {mode}"), || {
            gossip(&home, "get limit -e local:a").runs().code() == 5
        });
        gossip(&home, "del limit -e local:b").runs().exits(5).complains("no key 'limit'");
    }
}

#[test]
fn a_cluster_is_encrypted_and_its_keys_are_rotated() {
    let home = Home::new();
    let key = || gossip(&home, "keygen").runs().exits(0).out().trim().to_owned();
    let (old, new) = (key(), key());
    assert_eq!(old.len(), 44);
    for (bits, length) in [("128", 24), ("192", 32), ("256", 44)] {
        let key = gossip(&home, &format!("keygen --bits {bits}")).runs().exits(0).out();
        assert_eq!(key.trim_end().len(), length, "{key}");
    }
    let file = |name: &str| home.file(name, format!("[\"{old}\"]"));
    let (a, b) = (file("a.json"), file("b.json"));
    let _first = node(&home, &format!("--name a --alone --key-file {}", a.display()));
    let _second = node(&home, &format!("--name b --key-file {}", b.display()));
    gossip(&home, "wait --members 2 -e local:a --timeout 30s").runs().exits(0);
    let plain = bandy("gossip join -l 127.0.0.1:0 --rpc none").arg(&_first.url).home(&home).runs();
    plain.exits(3).complains("it is not encrypted, and this cluster is");
    gossip(&home, "keyring list").runs().prints(&format!("{old}\t2\t2\n"));
    for step in [format!("install {new}"), format!("use {new}"), format!("remove {old}")] {
        gossip(&home, &format!("keyring {step}")).runs().exits(0);
    }
    gossip(&home, "keyring list").runs().prints(&format!("{new}\t2\t2\n"));
    gossip(&home, &format!("keyring remove {new}")).runs().exits(1).complains("primary");
    let kept = std::fs::read_to_string(&a).unwrap();
    assert!(kept.contains(&new) && !kept.contains(&old), "{kept}");
    home.file("bad", "c2hvcnQ=");
    let bad = bandy("gossip join -l 127.0.0.1:0 --key-file bad").folder(home.path("")).home(&home).runs();
    bad.exits(2).complains("a key of 5 bytes");
}

#[test]
fn a_snapshot_brings_a_killed_node_back_to_its_cluster() {
    let home = Home::new();
    let mut first = node(&home, "--name a --alone");
    let file = home.path("b.snapshot");
    let second = node(&home, &format!("--name b --snapshot {}", file.display()));
    reads(&mut first, "join\tb");
    until("it is written", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("alive: a ")));
    let port = second.url.rsplit(':').next().unwrap().to_owned();
    second.signal(Signal::KILL);
    drop(second);
    reads(&mut first, "failed\tb");
    // At its old address, and told of nobody.
    let words = format!(
        "gossip join -l 127.0.0.1:{port} --profile local --name b --alone --snapshot {}",
        file.display()
    );
    let _second = bandy(&words).home(&home).starts();
    reads(&mut first, "join\tb");
}

#[test]
fn wrong_words_are_explained() {
    let home = Home::new();
    gossip(&home, "ls").runs().exits(3).complains("no node of yours is running here");
    gossip(&home, "ls -e gossip://127.0.0.1:1").runs().exits(2).complains("serf://127.0.0.1");
    gossip(&home, "ls -e serf://127.0.0.1:1").runs().exits(3).complains("cannot reach the node");
    gossip(&home, "join 127.0.0.1:1 -l 127.0.0.1:0").runs().exits(3).complains("no seed answered");
    gossip(&home, "join kafka://x").runs().exits(2);
    gossip(&home, "join -l 127.0.0.1:0 --tls-self-signed").runs().exits(2).complains("--key-file");
    let tags = format!("join -l 127.0.0.1:0 --tag big={}", "x".repeat(600));
    gossip(&home, &tags).runs().exits(2).complains("limit of 512");
    let node = node(&home, "--name a --alone");
    gossip(&home, "ls nobody").runs().exits(6).complains("no member of 1 matches");
    gossip(&home, "get nothing").runs().exits(5);
    bandy("wait gossip --timeout 20s").home(&home).env("BANDY_GOSSIP_URL", "local:a").runs().exits(0);
    bandy("wait --timeout 20s").arg(&node.url).home(&home).runs().exits(0);
}

#[test]
fn garbage_at_its_ports_does_not_take_a_node_down() {
    use std::io::{Read as _, Write as _};
    let home = Home::new();
    let node = node(&home, "--name a --alone");
    let address = node.url.trim_start_matches("gossip://").to_owned();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    for length in 0..400 {
        let mut bytes = vec![0; length * 3];
        rng.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first %= 14;
        }
        udp.send_to(&bytes, &address).unwrap();
    }
    for first in 0u8..14 {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let mut bytes = vec![0; 500];
        rng.fill(&mut bytes);
        bytes[0] = first;
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 64]);
    }
    // Silent peers, and one that claims to be about to send gigabytes.
    let _silent: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    let mut liar = std::net::TcpStream::connect(&address).unwrap();
    liar.write_all(b"\x06\x83\xa4Join\xc3\xa5Nodes\xce\x7f\xff\xff\xff\xacUserStateLen\x00").unwrap();
    gossip(&home, "set alive yes").runs().exits(0);
    gossip(&home, "get alive").runs().prints("yes\n");
    gossip(&home, "ls -o %{node}").runs().prints("a\n");
}

#[test]
fn some_are_told_and_what_happened_is_told_again() {
    let home = Home::new();
    let mut first = node(&home, "--name a --alone");
    let mut second = node(&home, "--name b --tag role=web");
    reads(&mut first, "join\tb");
    reads(&mut second, "join\ta");
    gossip(&home, "event only x --node b -e local:a").runs().exits(0).silently();
    reads(&mut second, "query\tonly\tx");
    gossip(&home, "event web --tag role=w.* -e local:a").runs().exits(0);
    reads(&mut second, "query\tweb");
    gossip(&home, "event one --to 1 -e local:a").runs().exits(0);
    gossip(&home, "event all last -e local:a").runs().exits(0);
    // It has not been told what was for the other one only.
    let told = loop {
        let line = first.line();
        assert!(!line.contains("only") && !line.contains("web"), "{line}");
        if line.starts_with("event\tall") {
            break line;
        }
    };
    assert_eq!(told, "event\tall\tlast");
    gossip(&home, "event x --node nobody").runs().exits(5).complains("no member 'nobody'");
    gossip(&home, "event x --tag role=db").runs().exits(6);
    gossip(&home, "event x --coalesce --to 1").runs().exits(2);

    let again = gossip(&home, "watch --replay -n 2 -e local:a").runs().exits(0);
    assert!(again.out().starts_with("join\tb\t127.0.0.1:"), "{}", again.out());
    assert!(again.out().ends_with("event\tall\tlast\n"), "{}", again.out());
    let ages = gossip(&home, "watch --replay --event event -n 1 --json -e local:a").runs().exits(0).object();
    assert_eq!(ages["value"], "last");

    let top = gossip(&home, "top --once -o plain -e local:a").runs().exits(0);
    assert_eq!(top.out().lines().count(), 2, "{}", top.out());
    gossip(&home, "top -n 2 -i 0.01s --json -e local:a").runs().shows("\"timestamp\":");
}

#[test]
fn servers_register_with_a_cluster_and_are_followed() {
    let home = Home::new();
    let seed = node(&home, "--name a --alone");
    let serve = |answer: &str| {
        bandy("rpc serve -l 127.0.0.1:0")
            .arg(format!("who=printf {answer}"))
            .arg("--register")
            .arg(&seed.url)
            .home(&home)
    };
    let one = serve("one").starts();
    let two = serve("two").starts();
    let call = |words: &str| bandy("rpc call").arg("-e").arg(&seed.url).home(&home).arg(words);
    let both = || {
        let answers: Vec<String> =
            (0..4).map(|_| call("bandy.Functions/who").runs().exits(0).out()).collect();
        ["one\n", "two\n"].iter().all(|wanted| answers.iter().any(|answer| answer == *wanted))
    };
    until("both are called", both);
    gossip(&home, "ls --json").runs().shows("\"rpc-services\":\"bandy.Functions\"");
    one.signal(Signal::KILL);
    drop(one);
    // Whoever is not there is not waited for, even before the others say that it has failed.
    for _ in 0..4 {
        call("bandy.Functions/who").runs().exits(0).prints("two\n");
    }
    call("nobody.Service/method").runs().exits(5).complains("no healthy instance of nobody.Service");
    two.signal(Signal::TERM);
    two.ends().exits(0);
    until("it has left", || call("bandy.Functions/who").runs().code() == 5);
}

#[test]
fn a_command_gets_a_cluster_of_several_nodes() {
    let home = Home::new();
    bandy("with gossip=3 -- sh -c")
        .arg("$BANDY gossip wait --members 3 --timeout 30s && $BANDY gossip ls -o %{node}")
        .home(&home)
        .env("BANDY", env!("CARGO_BIN_EXE_bandy"))
        .runs()
        .exits(0)
        .prints("n1\nn2\nn3\n");
    bandy("with gossip=0 -- true").home(&home).runs().exits(125).complains("gossip=N starts 1 to 100 nodes");
}

#[test]
fn a_simulation_breaks_what_it_is_told_to_break() {
    let rows =
        bandy("gossip simulate --engine --nodes 30 --crash 2@1s --join 1@2s --json").runs().exits(0).out();
    let last: serde_json::Value = serde_json::from_str(rows.lines().last().unwrap()).unwrap();
    assert_eq!((&last["informed"], &last["disagree"]), (&29.into(), &0.into()), "{last}");
    assert!(last["failed"].as_u64() >= Some(2 * 27), "{last}");
    let again = bandy("gossip simulate --engine --nodes 30 --crash 2@1s --join 1@2s --json").runs();
    assert_eq!(again.out(), rows, "one seed has one outcome");
    bandy("gossip simulate --crash 2@1s").runs().exits(2);
    bandy("gossip simulate --engine --crash two@1s").runs().exits(2).complains("expected 3@2s");
    bandy("gossip simulate --nodes 10k --live").runs().exits(0).shows("informed=10000/10000");
}

#[test]
fn a_member_is_told_in_full_and_a_misspelled_one_is_named() {
    let home = Home::new();
    let _one = node(&home, "--rpc none --name web1 --tag role=web --tag size=7");
    let _two = node(&home, "--rpc none --name db1");
    gossip(&home, "wait --members 2 --timeout 30s").runs().exits(0);
    // It is asked of another one, once there has been a probe.
    until("the coordinate", || {
        !gossip(&home, "info web1 --json -e local:db1").runs().exits(0).object()["coordinate"].is_null()
    });
    let member = gossip(&home, "info web1 --json -e local:db1").runs().exits(0).object();
    assert_eq!(
        (&member["node"], &member["status"], &member["inc"]),
        (&"web1".into(), &"alive".into(), &1.into())
    );
    // A tag is text, also one of digits.
    assert_eq!((&member["tags"]["role"], &member["tags"]["size"]), (&"web".into(), &"7".into()));
    assert_eq!(gossip(&home, "info --json -e local:web1").runs().object()["tags"]["size"], "7");
    assert_eq!(member["versions"]["protocol"], 2);
    assert!(
        member["rtt_ms"].as_f64().unwrap() >= 0.0 && member["coordinate"]["error"].is_number(),
        "{member}"
    );
    let told = gossip(&home, "info web1").runs().exits(0);
    told.shows("member\tnode\tweb1\n").shows("tags\trole\tweb\n").shows("versions\tprotocol\t2\n");
    let ran = gossip(&home, "info wbe1").runs().exits(5);
    ran.complains("no member 'wbe1' at local:").complains("did you mean 'web1'?");
    gossip(&home, "info nobody").runs().exits(5).complains("bandy gossip ls");
    // Which node is asked is said by -e, in all verbs: --node is a filter.
    gossip(&home, "tag --node web1").runs().exits(2).complains("-e local:NAME");
    let key = gossip(&home, "keygen --json").runs().exits(0).object();
    assert_eq!(key["key"].as_str().unwrap().len(), 44);
}

#[test]
fn nobody_is_asked_about_a_member_that_cannot_be_made_to_leave() {
    let home = Home::new();
    let _node = bandy("gossip join --name n1 --alone -l 127.0.0.1:0").home(&home).starts();
    let leave = |name: &str| bandy(&format!("gossip leave {name} -e local:n1")).home(&home).runs();
    leave("n1").exits(1).complains("n1 is alive: only one that failed can be made to leave");
    leave("nope").exits(5).complains("no member 'nope'");
}
