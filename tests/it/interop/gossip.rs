//! Real Serf agents, of the generation that Debian has and of the newer one, in clusters with ours.

use std::process::Command;

use rustix::process::Signal;

use super::gossip_complaints::Expected;
use super::peers::succeeds;
use crate::support::{Cmd, Home, Running, bandy, command, until};

/// Debian's, and the one that `.ci/run` builds: their numbers look different on the wire.
pub(super) const GENERATIONS: [&str; 2] = ["serf", "serf-0.10.2"];

/// A real agent.
pub(super) struct Agent {
    program: &'static str,
    name: String,
    pub(super) bind: String,
    pub(super) rpc: String,
    running: Running,
}

fn free_address() -> String {
    // For streams and datagrams; the agent cannot say which port it took.
    loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if std::net::UdpSocket::bind(address).is_ok() {
            return address.to_string();
        }
    }
}

impl Agent {
    pub(super) fn start(home: &Home, program: &'static str, name: &str, words: &str) -> Self {
        let (bind, rpc) = (free_address(), free_address());
        let handler = home.path("load.sh");
        let words = format!(
            "agent -node={name} -bind={bind} -rpc-addr={rpc} -log-level=warn -event-handler=query:load={} {words}",
            handler.display()
        );
        // Its log is on stdout: from stderr it can be read as often as one likes.
        let agent = command("sh", "-c").arg("exec \"$0\" \"$@\" >&2").arg(program).with(&words);
        let running = agent.home(home).spawns();
        let agent = Self { program, name: name.to_owned(), bind, rpc, running };
        until(format!("{name} answers"), || {
            Command::new(program)
                .args(["info", &format!("-rpc-addr={}", agent.rpc)])
                .output()
                .unwrap()
                .status
                .success()
        });
        agent
    }

    fn serf(&self, words: &[&str]) -> String {
        let (verb, rest) = words.split_first().unwrap();
        let rpc = format!("-rpc-addr={}", self.rpc);
        succeeds(Command::new(self.program).arg(verb).arg(rpc).args(rest))
    }

    /// How it says that a member is.
    fn status(&self, member: &str) -> String {
        let members = self.serf(&["members"]);
        let line = members.lines().find(|line| line.split_whitespace().next() == Some(member));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("").to_owned()
    }

    /// What it complains of.
    fn complaints(&mut self) -> Vec<String> {
        self.running.signal(Signal::KILL);
        let text = self.running.stderr();
        text.lines()
            .filter(|line| line.contains("[WARN]") || line.contains("[ERR]"))
            .map(str::to_owned)
            .collect()
    }
}

pub(super) fn gossip(home: &Home, words: &str) -> Cmd {
    bandy(&format!("gossip {words}")).home(home)
}

fn ours(home: &Home, name: &str, words: &str) -> Running {
    let handler = home.path("load.sh");
    let words = format!(
        "gossip join -l 127.0.0.1:0 --name {name} --rpc 127.0.0.1:0 {words} -- {}",
        handler.display()
    );
    let mut node = bandy(&words).home(home).starts();
    assert_eq!(node.line(), format!("local:{name}"));
    let rpc = node.line();
    node.url = format!("{} {rpc}", node.url);
    node
}

/// Where nodes reach it, and where `serf` does.
fn addresses(node: &Running) -> (String, String) {
    let (bind, rpc) = node.url.split_once(' ').unwrap();
    (bind.trim_start_matches("gossip://").to_owned(), rpc.trim_start_matches("serf://").to_owned())
}

/// Queries are answered by handlers, of all nodes the same.
pub(super) fn handler(home: &Home) {
    home.script(
        "load.sh",
        "#!/bin/sh\n[ \"$SERF_EVENT\" = query ] && printf 'load of %s' \"$SERF_SELF_NAME\"\nexit 0\n",
    );
}

#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn agents_of_both_generations_and_ours_are_one_cluster() {
    let home = Home::new();
    handler(&home);
    let mut agents = vec![
        Agent::start(&home, GENERATIONS[0], "a1", "-tag role=db"),
        Agent::start(&home, GENERATIONS[0], "a2", ""),
        Agent::start(&home, GENERATIONS[1], "b1", "-tag role=web"),
        Agent::start(&home, GENERATIONS[1], "b2", ""),
    ];
    let first = ours(&home, "c1", "--alone --tag role=web");
    let (bind, rpc) = addresses(&first);
    // Joined both ways: they us, we them.
    agents[0].serf(&["join", &bind]);
    agents[2].serf(&["join", &bind]);
    agents[1].serf(&["join", &agents[2].bind.clone()]);
    agents[3].serf(&["join", &agents[0].bind.clone()]);
    let second = ours(&home, "c2", &agents[3].bind.clone());
    for agent in &agents {
        until(format!("{} knows all six", agent.name), || {
            agent.serf(&["members", "-status=alive"]).lines().count() == 6
        });
    }
    for name in ["c1", "c2"] {
        gossip(&home, &format!("wait --members 6 --timeout 60s -e local:{name}")).runs().exits(0);
    }
    members_tags_and_events(&home, &agents, &rpc);
    queries(&home, &agents, &rpc);
    comings_and_goings(&home, &agents, first, second);
    let expected = Expected::new(&[("c1", &bind), ("a2", &agents[1].bind)]);
    for agent in &mut agents {
        let complaints = agent.complaints();
        let strange: Vec<_> =
            complaints.iter().filter(|line| !expected.allows(agent.name.as_str(), line)).collect();
        assert!(strange.is_empty(), "{}: {strange:#?}", agent.name);
    }
}

fn members_tags_and_events(home: &Home, agents: &[Agent], rpc: &str) {
    // The real command drives our node.
    for program in GENERATIONS {
        let members = succeeds(Command::new(program).args([
            "members",
            &format!("-rpc-addr={rpc}"),
            "-tag",
            "role=web",
        ]));
        assert!(members.contains("b1") && members.contains("c1") && !members.contains("a1"), "{members}");
        let event = succeeds(Command::new(program).args([
            "event",
            &format!("-rpc-addr={rpc}"),
            "from-serf",
            program,
        ]));
        assert!(event.contains("dispatched"), "{event}");
        // And what happened lately is in our log.
        let mut monitor = command(program, &format!("monitor -rpc-addr={rpc} -log-level=info")).spawns();
        while !monitor.line().ends_with("[INFO] agent: Received event: user-event: from-serf") {}
        // A query: like every piece of news it may miss a node, see `queries`.
        until("all are reached", || {
            let asked = Command::new(program).args(["reachability", &format!("-rpc-addr={rpc}")]).output();
            asked.unwrap().status.success()
        });
    }
    // What we refuse is refused at once, as by an agent.
    for program in GENERATIONS {
        for refused in ["join RPC 127.0.0.1:1", "members RPC -status (", "keys RPC -list"] {
            let words = refused.replace("RPC", &format!("-rpc-addr={rpc}"));
            command("timeout", "20").arg(program).with(&words).runs().exits(1);
        }
    }
    gossip(home, "tag role=cache -e local:c2").runs().exits(0);
    agents[3].serf(&["tags", "-set", "zone=eu"]);
    for agent in agents {
        until(format!("{} sees the tag", agent.name), || agent.serf(&["members"]).contains("role=cache"));
    }
    until("we see theirs", || gossip(home, "ls --tag zone=eu -o %{node} -e local:c1").runs().out() == "b2\n");
    // Ours ask a real agent as well as a node of ours.
    let serf = format!("serf://{}", agents[2].rpc);
    gossip(home, &format!("ls --tag role=db -o %{{node}} -e {serf}")).runs().prints("a1\n");
    gossip(home, &format!("set k v -e {serf}")).runs().exits(1).complains("not a node of bandy");

    // An agent knows nothing of our kinds of events: all of its own are told.
    gossip(home, &format!("watch --for 1s -e {serf}")).runs().exits(0);
    gossip(home, &format!("watch --event failed --for 1s -e {serf}")).runs().exits(0);
    gossip(home, &format!("watch --replay -e {serf}")).runs().exits(2).complains("tells neither");

    // What came before somebody watched is told again.
    until("an event of a real agent is told", || {
        agents[0].serf(&["event", "-coalesce=false", "deploy", "v1"]);
        let told = gossip(home, "watch --event event --replay --for 1s -e local:c2").runs().out();
        told.lines().any(|line| line == "event\tdeploy\tv1")
    });
}

fn queries(home: &Home, agents: &[Agent], rpc: &str) {
    let all = |answers: &str, from: &[&str]| {
        from.iter().all(|node| answers.contains(&format!("load of {node}")))
            && answers.matches("load of").count() == from.len()
    };
    let everybody = ["a1", "a2", "b1", "b2", "c1", "c2"];
    // In a small cluster each piece of news is sent four times: one time in some dozens a node does not hear of it.
    for agent in agents {
        until(format!("all answer {}", agent.name), || {
            let answers = agent.serf(&["query", "load"]);
            all(&answers, &everybody) && answers.contains("Total Acks: 6")
        });
    }
    let relayed = || {
        succeeds(Command::new("serf").args(["query", &format!("-rpc-addr={rpc}"), "-relay-factor=2", "load"]))
    };
    until("all answer our node, driven by serf", || all(&relayed(), &everybody));
    let asked = |words: &str| gossip(home, &format!("query load {words} -e local:c2")).runs().out();
    until("all answer us", || all(&asked(""), &everybody));
    until("those with a tag answer", || all(&asked("--relay-factor 2 --tag role=^web"), &["b1", "c1"]));
    until("those that are named answer", || all(&asked("--node a1 --node c1"), &["a1", "c1"]));
    gossip(home, "query load --node nobody --wait 0.5s -e local:c2").runs().exits(5);
}

fn comings_and_goings(home: &Home, agents: &[Agent], first: Running, second: Running) {
    // In order: left, on both sides.
    second.signal(Signal::INT);
    second.ends().exits(0);
    for agent in agents {
        until(format!("c2 has left, to {}", agent.name), || agent.status("c2") == "left");
    }
    agents[3].serf(&["leave"]);
    until("b2 has left, to us", || gossip(home, "ls --status left -o %{node}").runs().out() == "b2\nc2\n");

    // Stopped: suspected or failed, and back with a newer incarnation.
    let incarnation = || gossip(home, "ls c1 --json -e local:c1").runs().exits(0).object()["inc"].as_u64();
    let before = incarnation();
    first.signal(Signal::STOP);
    until("it is missed", || agents[0].running.stderr().contains("c1") || agents[0].status("c1") == "failed");
    first.signal(Signal::CONT);
    until("it has objected", || incarnation() > before);
    until("it is back", || agents[..3].iter().all(|agent| agent.status("c1") == "alive"));

    // Killed: failed, on both sides.
    agents[1].running.signal(Signal::KILL);
    gossip(home, "wait --status failed --members 1 --timeout 60s -e local:c1").runs().exits(0);
    gossip(home, "ls --status failed -o %{node} -e local:c1").runs().prints("a2\n");
    first.signal(Signal::KILL);
    drop(first);
    for agent in [&agents[0], &agents[2]] {
        until(format!("c1 has failed, to {}", agent.name), || agent.status("c1") == "failed");
    }
}

#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn an_encrypted_cluster_rotates_its_keys_from_either_side() {
    let home = Home::new();
    handler(&home);
    // Of the lengths that `serf keygen` does not make, one rotates to the other.
    let key = |bits| gossip(&home, &format!("keygen --bits {bits}")).runs().exits(0).out().trim().to_owned();
    let (old, new) = (key(256), key(192));
    let file = |name: &str| home.file(name, format!("[\"{old}\"]")).display().to_string();
    let agents = [(0, "a1"), (1, "b1"), (0, "a2"), (1, "b2")].map(|(generation, name)| {
        let keys = format!("-keyring-file={}", file(&format!("{name}.json")));
        Agent::start(&home, GENERATIONS[generation], name, &keys)
    });
    agents[1..].iter().for_each(|agent| drop(agent.serf(&["join", &agents[0].bind])));
    let _ours = ours(&home, "c1", &format!("{} --key-file {}", agents[0].bind, file("c1.json")));
    for agent in &agents {
        until(format!("{} knows all five", agent.name), || {
            agent.serf(&["members"]).matches("alive").count() == 5
        });
    }
    agents[0].serf(&["keys", "-install", &new]);
    agents[1].serf(&["keys", "-use", &new]);
    agents[0].serf(&["keys", "-remove", &old]);
    let listed = agents[1].serf(&["keys", "-list"]);
    assert!(listed.contains(&new) && listed.contains("[5/5]") && !listed.contains(&old), "{listed}");
    // A query is not promised to reach everybody: on a busy machine, serf's own command misses one in a hundred or two as
    // well. The step can be taken again, and what all have in the end is looked at.
    let all_five = |step: String| {
        until(&step, || gossip(&home, &format!("keyring {step}")).runs().code() == 0);
    };
    [format!("install {old}"), format!("use {old}"), format!("remove {new}")].into_iter().for_each(all_five);
    let listed = agents[0].serf(&["keys", "-list"]);
    assert!(listed.contains(&old) && listed.contains("[5/5]") && !listed.contains(&new), "{listed}");
    let asked = "query load --relay-factor 2 --node a1 --node b1 --node b2";
    let answered = || gossip(&home, asked).runs().out().matches("load of").count();
    until("they understand each other", || answered() == 3);
    let short = key(128);
    [format!("install {short}"), format!("use {short}"), format!("remove {old}")]
        .into_iter()
        .for_each(all_five);
    let listed = agents[0].serf(&["keys", "-list"]);
    assert!(listed.contains(&short) && listed.contains("[5/5]") && !listed.contains(&old), "{listed}");
    until("they still do", || answered() == 3);
}

/// Each joins the other under a key of 24 bytes, which no other agent of the cluster has had before.
#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn agents_and_ours_are_a_cluster_under_a_key_of_24_bytes() {
    let home = Home::new();
    handler(&home);
    let key = gossip(&home, "keygen --bits 192").runs().exits(0).out().trim().to_owned();
    let file = home.file("key", &key).display().to_string();
    let first = ours(&home, "c1", &format!("--alone --key-file {file}"));
    let (bind, rpc) = addresses(&first);
    let mut agents =
        GENERATIONS.map(|program| Agent::start(&home, program, program, &format!("-encrypt={key}")));
    agents.iter().for_each(|agent| drop(agent.serf(&["join", &bind])));
    let _second = ours(&home, "c2", &format!("{} --key-file {file}", agents[0].bind));
    for agent in &agents {
        until(format!("{} knows all four", agent.name), || {
            agent.serf(&["members"]).matches("alive").count() == 4
        });
    }
    let answers = || succeeds(Command::new("serf").args(["query", &format!("-rpc-addr={rpc}"), "load"]));
    until("all answer", || answers().matches("load of").count() == 4);
    for agent in &mut agents {
        assert_eq!(agent.complaints(), [""; 0], "{}", agent.name);
    }
}

/// Where an agent says that a member is, if it is alive.
fn alive_at(agent: &Agent, member: &str) -> Option<String> {
    let members = agent.serf(&["members"]);
    let line = members.lines().find(|line| line.split_whitespace().next() == Some(member))?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    (fields[2] == "alive").then(|| fields[1].to_owned())
}

/// And where a node of ours says that it is.
fn we_know(home: &Home, node: &str, member: &str) -> Option<String> {
    let known = gossip(home, &format!("ls {member} -e local:{node} --json")).runs();
    (known.code() == 0)
        .then(|| known.object())
        .filter(|row| row["status"] == "alive")
        .and_then(|row| row["addr"].as_str().map(str::to_owned))
}

#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn one_that_comes_back_at_another_address_is_the_member_it_was() {
    let home = Home::new();
    handler(&home);
    let [a1, b1] =
        [(0, "a1"), (1, "b1")].map(|(at, name)| Agent::start(&home, GENERATIONS[at], name, "-profile=local"));
    b1.serf(&["join", &a1.bind]);
    let words = format!("{} --profile local", a1.bind);
    let _witness = ours(&home, "c2", &words);
    let first = ours(&home, "c1", &words);
    let is_at = |address: &str, member: &str, agents: &[&Agent]| {
        let address = address.to_owned();
        until(format!("{member} is at {address}, to all"), || {
            agents.iter().all(|agent| alive_at(agent, member).as_deref() == Some(&address))
                && we_know(&home, "c2", member).as_deref() == Some(&address)
        });
    };
    is_at(&addresses(&first).0, "c1", &[&a1, &b1]);
    is_at(&b1.bind, "b1", &[&a1]);

    // Killed: known as failed, and then as alive elsewhere, when its old address is no longer kept for it.
    first.signal(Signal::KILL);
    drop(first);
    until("c1 has failed", || [&a1, &b1].iter().all(|agent| agent.status("c1") == "failed"));
    let again = ours(&home, "c1", &words);
    is_at(&addresses(&again).0, "c1", &[&a1, &b1]);
    // As a real one does.
    let old = b1.bind.clone();
    b1.running.signal(Signal::KILL);
    drop(b1);
    until("b1 has failed", || a1.status("b1") == "failed" && we_know(&home, "c2", "b1").is_none());
    let b1 = Agent::start(&home, GENERATIONS[1], "b1", "-profile=local");
    assert_ne!(b1.bind, old);
    b1.serf(&["join", &a1.bind]);
    is_at(&b1.bind, "b1", &[&a1, &b1]);

    // Left in order: it may be back anywhere at once.
    again.signal(Signal::INT);
    again.ends().exits(0);
    until("c1 has left", || [&a1, &b1].iter().all(|agent| agent.status("c1") == "left"));
    let last = ours(&home, "c1", &words);
    is_at(&addresses(&last).0, "c1", &[&a1, &b1]);
}

#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn of_two_with_one_name_the_younger_goes_whichever_it_is() {
    let home = Home::new();
    handler(&home);
    let [a1, b1] = [0, 1].map(|at| Agent::start(&home, GENERATIONS[at], ["a1", "b1"][at], ""));
    b1.serf(&["join", &a1.bind]);
    let ours_is = ours(&home, "c1", &a1.bind);
    let (bind, _) = addresses(&ours_is);
    let knows = || [&a1, &b1].iter().all(|agent| agent.serf(&["members"]).matches("alive").count() == 3);
    until("all know all", knows);
    let second = gossip(&home, &format!("join {} --name b1 -l 127.0.0.1:0", a1.bind)).runs();
    second.exits(1).complains("another node of the cluster has the name b1");
    let second = Agent::start(&home, GENERATIONS[0], "c1", "");
    // It goes as soon as it knows, which may be while it still joins.
    let rpc = format!("-rpc-addr={}", second.rpc);
    let _ = Command::new(second.program).args(["join", &rpc, &bind]).output();
    until("the real one has gone", || second.running.stderr().contains("inority"));
    until("all are who they were", || {
        [&a1, &b1].iter().all(|agent| {
            alive_at(agent, "c1").as_deref() == Some(&bind)
                && alive_at(agent, "b1").as_deref() == Some(&b1.bind)
        })
    });
}

#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn one_that_stands_still_is_suspected_and_objects_as_a_real_agent_does() {
    let home = Home::new();
    handler(&home);
    let [a1, b1] = [0, 1]
        .map(|at| Agent::start(&home, GENERATIONS[at], ["a1", "b1"][at], "-profile=local -log-level=info"));
    b1.serf(&["join", &a1.bind]);
    let mut witness = ours(&home, "c2", &format!("{} --profile local", a1.bind));
    let still = ours(&home, "c1", &format!("{} --profile local", a1.bind));
    gossip(&home, "wait --members 4 --timeout 60s -e local:c2").runs().exits(0);
    let incarnation = |member: &str| {
        gossip(&home, &format!("ls {member} --json -e local:c2")).runs().exits(0).object()["inc"].as_u64()
    };
    let before = [incarnation("b1"), incarnation("c1")];
    let mut sees = |word: &str, other: &str| {
        let mut of = std::collections::BTreeSet::new();
        while of.len() < 2 {
            let line = witness.line();
            let mut fields = line.split('\t');
            if fields.next().is_some_and(|event| event == word || event == other) {
                of.extend(fields.next().filter(|member| ["b1", "c1"].contains(member)).map(str::to_owned));
            }
        }
    };
    sees("join", "join");
    still.signal(Signal::STOP);
    b1.running.signal(Signal::STOP);
    sees("suspect", "suspect");
    for member in ["b1", "c1"] {
        let suspected = format!("Suspect {member} has failed");
        let failed = |agent: &Agent| agent.status(member) == "failed";
        until(format!("{member} is missed by the real one"), || {
            a1.running.stderr().contains(&suspected) || failed(&a1)
        });
    }
    still.signal(Signal::CONT);
    b1.running.signal(Signal::CONT);
    sees("alive", "join");
    for member in ["b1", "c1"] {
        until(format!("{member} is back"), || [&a1, &b1].iter().all(|agent| agent.status(member) == "alive"));
    }
    assert!(incarnation("b1") > before[0] && incarnation("c1") > before[1], "{before:?}");
}

/// Consul's agents gossip as Serf's do: ours is a member among them, without a part in what they serve.
#[test]
#[ignore = "needs consul"]
fn a_consul_agent_takes_ours_for_a_member() {
    let home = Home::new();
    handler(&home);
    let [http, bind] = [free_address(), free_address()];
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let ports = format!(
        "ports {{ http = {} serf_lan = {} server = {} dns = -1 serf_wan = -1 grpc = -1 }}",
        port(&http),
        port(&bind),
        port(&free_address()),
    );
    let _consul = command("consul", "agent -dev -node con -hcl").arg(ports).home(&home).spawns();
    let consul = |verb: &str| {
        let output = Command::new("consul").args(verb.split(' ')).env("CONSUL_HTTP_ADDR", &http).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    until("consul runs", || consul("members").contains("con "));
    let mut node = ours(&home, "c1", &bind);
    let (ours_is, _) = addresses(&node);
    let says = |status: &str| {
        let is = |line: &str| line.split_whitespace().take(3).eq(["c1", &ours_is, status]);
        until(format!("c1 is {status} to consul"), || consul("members").lines().any(is));
    };
    says("alive");
    assert_eq!(we_know(&home, "c1", "con"), Some(bind));
    consul("event -name deploy v1");
    while !node.line().starts_with("event\tconsul:event:deploy\t") {}
    node.signal(Signal::INT);
    node.ends().exits(0);
    says("left");
}

/// A real agent of either generation is the registry: servers are members beside it, callers ask it.
#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn servers_are_found_at_real_agents_and_followed_when_they_die() {
    let home = Home::new();
    handler(&home);
    let agents =
        [Agent::start(&home, GENERATIONS[0], "a1", ""), Agent::start(&home, GENERATIONS[1], "b1", "")];
    agents[1].serf(&["join", &agents[0].bind.clone()]);
    let [first, second] = [0, 1].map(|at: usize| format!("gossip://{}", agents[at].bind));
    let serve = |registry: &str, answer: &str| {
        bandy("rpc serve -l 127.0.0.1:0")
            .arg(format!("who=printf {answer}"))
            .arg("--register")
            .arg(registry)
            .home(&home)
    };
    let one = serve(&first, "one").starts();
    let two = serve(&second, "two").starts();
    for agent in &agents {
        until(format!("{} knows both", agent.name), || {
            let members = agent.serf(&["members"]);
            members.contains(&format!("rpc={}", one.url)) && members.contains(&format!("rpc={}", two.url))
        });
    }
    let call = |registry: &str| bandy("rpc call bandy.Functions/who").arg("-e").arg(registry).home(&home);
    let answers = |registry: &str| (0..4).map(|_| call(registry).runs().exits(0).out()).collect::<Vec<_>>();
    for registry in [&first, &second] {
        until("both are called", || {
            let answers = answers(registry);
            ["one\n", "two\n"].iter().all(|wanted| answers.iter().any(|answer| answer == *wanted))
        });
    }
    one.signal(Signal::KILL);
    drop(one);
    until("the killed one has failed", || agents[1].serf(&["members", "-status=failed"]).contains("rpc-127"));
    call(&second).runs().exits(0).prints("two\n");
    two.signal(Signal::TERM);
    two.ends().exits(0);
    until("the other one has left", || agents[0].serf(&["members", "-status=left"]).contains("rpc-127"));
    call(&first).runs().exits(5).complains("no healthy instance of bandy.Functions");
    for mut agent in agents {
        let complaints = agent.complaints();
        let ours = |line: &&String| {
            line.contains("ecode") || line.contains("push/pull") || line.contains("Remote state")
        };
        assert_eq!(complaints.iter().find(ours), None, "{}: {complaints:?}", agent.name);
    }
}
