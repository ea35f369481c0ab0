//! What a real Serf agent refuses, or does not know: told as if it were a node of bandy.

use super::gossip::{Agent, GENERATIONS, gossip, handler};
use crate::support::Home;

#[test]
#[ignore = "needs serf and serf-0.10.2"]
fn what_a_real_agent_does_not_know_is_told_as_of_ours() {
    let home = Home::new();
    handler(&home);
    let key = || gossip(&home, "keygen").runs().exits(0).out().trim().to_owned();
    let (own, other) = (key(), key());
    for program in GENERATIONS {
        let file = home.file("keyring.json", format!("[\"{own}\"]"));
        let agent = Agent::start(&home, program, "a1", &format!("-keyring-file={}", file.display()));
        let asks = |words: &str| gossip(&home, &format!("{words} -e serf://{}", agent.rpc)).runs();
        for words in [
            "rtt a1 nope",
            "ping nope -n 1",
            "leave nope -y",
            "query load --node nope",
            "event x --node nope",
        ] {
            asks(words).exits(5).complains("no member 'nope' at serf://");
        }
        asks("ping a1 -n 1").exits(1).complains("bandy gossip rtt NODE OTHER -e serf://");
        asks("leave a1 -y").exits(1).complains("a1 is alive: only one that failed can be made to leave");
        let listed = asks("keyring list --json").exits(0).object();
        // Which key is the primary an agent does not tell.
        assert_eq!((&listed["key"], &listed["primary"]), (&own.as_str().into(), &serde_json::Value::Null));
        asks(&format!("keyring use {other}")).exits(1).complains("0 of 1 node did it \u{2014} a1: ");
        let join = gossip(&home, &format!("join {} -l 127.0.0.1:0 --rpc none", agent.bind));
        join.runs().exits(3).complains("no seed takes what is not encrypted").complains("--key-file FILE");
    }
    let plain = Agent::start(&home, GENERATIONS[1], "a2", "");
    let file = home.file("key", &own).display().to_string();
    let join = gossip(&home, &format!("join {} -l 127.0.0.1:0 --rpc none --key-file {file}", plain.bind));
    join.runs().exits(3).complains("no seed encrypts, as --key-file wants it");
}
