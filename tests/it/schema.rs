//! `docs/schema.json` describes what is written with `--json`: every pillar's output is held against it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Cmd, Home, Running, bandy};

/// The schema, and what of it has been used.
struct Schema {
    root: Value,
    used: BTreeSet<String>,
}

impl Schema {
    fn read() -> Self {
        let text = include_str!("../../docs/schema.json");
        Self { root: serde_json::from_str(text).unwrap(), used: BTreeSet::new() }
    }

    fn definition(&self, name: &str) -> &Value {
        let found = &self.root["$defs"][name];
        assert!(found.is_object(), "docs/schema.json has no definition {name}");
        found
    }

    /// Holds what a command wrote against a definition: at least one line, and each in order.
    #[track_caller]
    fn fits(&mut self, name: &str, text: &str) {
        self.used.insert(name.to_owned());
        assert!(!text.is_empty(), "nothing was written for {name}");
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if let Err(why) = self.check(&value, self.definition(name), name) {
                panic!("{why}\n{line}");
            }
        }
    }

    /// The keywords that the schema has; another one is a mistake in the schema. A member that is not described
    /// is one here, too: readers ignore what they do not know, but the schema is to know all that is written.
    fn check(&self, value: &Value, schema: &Value, at: &str) -> Result<(), String> {
        for (keyword, rule) in schema.as_object().ok_or_else(|| format!("{at}: no schema"))? {
            match keyword.as_str() {
                "description" => {}
                "$ref" => {
                    let name = rule.as_str().and_then(|rule| rule.strip_prefix("#/$defs/")).unwrap();
                    self.check(value, self.definition(name), at)?;
                }
                "type" => {
                    let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                    if !types.iter().any(|wanted| is(value, wanted.as_str().unwrap())) {
                        return Err(format!("{at}: {value} is not of type {rule}"));
                    }
                }
                "enum" => {
                    if !rule.as_array().unwrap().contains(value) {
                        return Err(format!("{at}: {value} is none of {rule}"));
                    }
                }
                "anyOf" => {
                    let tried = rule.as_array().unwrap().iter().map(|rule| self.check(value, rule, at));
                    if tried.clone().all(|tried| tried.is_err()) {
                        return Err(tried.filter_map(Result::err).collect::<Vec<_>>().join(", or "));
                    }
                }
                "required" if !value.is_object() => {}
                "required" => {
                    let missing = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                    if let Some(name) = missing.into_iter().find(|name| value.get(name).is_none()) {
                        return Err(format!("{at}: {name} is missing"));
                    }
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.check(item, rule, at)?;
                    }
                }
                "properties" | "additionalProperties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        let known = &schema["properties"][name];
                        let rule = if known.is_object() { known } else { &schema["additionalProperties"] };
                        if !rule.is_object() {
                            return Err(format!("{at}: {name} is not described"));
                        }
                        self.check(value, rule, &format!("{at}.{name}"))?;
                    }
                }
                other => return Err(format!("{at}: this test does not know the keyword {other}")),
            }
        }
        Ok(())
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{wanted} is no type"),
    }
}

/// Runs a command at a server and holds its output against a definition.
struct At<'a> {
    schema: Schema,
    server: &'a Running,
    pillar: &'static str,
}

impl At<'_> {
    fn command(&self, words: &str) -> Cmd {
        bandy(&format!("{} {words}", self.pillar)).endpoint(self.server)
    }

    #[track_caller]
    fn fits(&mut self, name: &str, words: &str) {
        let ran = self.command(&format!("{words} --json")).runs().exits(0);
        self.schema.fits(name, &ran.out());
    }

    #[track_caller]
    fn refuses(&mut self, words: &str) {
        let ran = self.command(&format!("{words} --json")).runs();
        assert_ne!(ran.code(), 0);
        self.schema.fits("error", &ran.err());
    }

    /// All definitions whose names begin so were used, and these.
    #[track_caller]
    fn uses_all(&self, prefix: &str, more: &[&str]) {
        let all = self.schema.root["$defs"].as_object().unwrap().keys();
        let all = all.filter(|name| name.starts_with(prefix) || more.contains(&name.as_str()));
        let unused: Vec<&String> = all.filter(|name| !self.schema.used.contains(*name)).collect();
        assert!(unused.is_empty(), "no output was held against {unused:?}");
    }
}

#[test]
fn queues_are_written_as_the_schema_says() {
    let server = bandy("mq broker -l :0 --memory").starts();
    let mut at = At { schema: Schema::read(), server: &server, pillar: "mq" };
    at.command("send jobs hello --create -k ada -H a=b -p message_id=7").runs().exits(0);
    at.command("send jobs -").stdin(b"\xff\n").runs().exits(0);
    at.command("bind amq.topic jobs -k orders.#").runs().exits(0);
    let mut held = at.command("sub --json -n 1").spawns();
    // It is there once its queue is bound.
    crate::support::until("the subscriber", || at.command("ls consumers").runs().out().contains("amq.gen"));
    at.command("pub orders.eu -H x=1 -H x=2 news").runs().exits(0);
    let line = held.line();
    at.schema.fits("mq_record", &line);
    at.fits("mq_record", "peek jobs -n 3");
    let receipt = at.command("send jobs more -o json").runs().exits(0).out();
    at.schema.fits("mq_receipt", &receipt);
    at.fits("mq_queue", "ls");
    at.fits("mq_queue", "top --once");
    at.fits("mq_queue_info", "info jobs");
    at.fits("mq_exchange", "ls exchanges");
    at.fits("mq_binding", "ls bindings");
    at.fits("mq_vhost", "ls vhosts");
    at.fits("mq_user", "ls users");
    at.fits("ping", "ping -n 1");
    at.fits("bench", "bench -n 20");
    at.refuses("recv none --no-wait");
    at.uses_all("mq_", &["error", "ping", "bench"]);
}

#[test]
fn logs_are_written_as_the_schema_says() {
    let server = bandy("log broker -l :0 --memory").starts();
    let mut at = At { schema: Schema::read(), server: &server, pillar: "log" };
    at.command("produce orders --create -k ada -H trace=7 hello").runs().exits(0);
    at.command("produce orders --tombstones -k ada -").stdin("\n").runs().exits(0);
    let receipt = at.command("produce orders more -o json").runs().exits(0).out();
    at.schema.fits("log_receipt", &receipt);
    at.fits("log_record", "consume orders -g billing");
    at.fits("log_topic", "ls");
    at.fits("log_node", "ls nodes");
    at.fits("log_group", "ls groups");
    at.fits("log_partition", "info orders");
    at.fits("log_lag", "info -g billing");
    at.fits("log_top", "top --once");
    at.fits("log_setting", "config orders");
    at.fits("log_move", "seek -g billing orders --to start -y");
    at.fits("ping", "ping -n 1");
    at.fits("bench", "bench -n 20");
    at.refuses("info none");
    at.refuses("consume --from nowhere");
    at.uses_all("log_", &["error"]);
}

#[test]
fn calls_are_written_as_the_schema_says() {
    let server = bandy("rpc serve -l :0 -l local:").starts();
    let mut at = At { schema: Schema::read(), server: &server, pillar: "rpc" };
    at.fits("rpc_reply", "call Greeter/Hello name=Ada");
    at.fits("rpc_method", "ls");
    at.fits("rpc_symbol", "info demo.Calc");
    at.fits("rpc_symbol", "info demo.Calc/Add");
    at.fits("rpc_top", "top --once");
    at.fits("ping", "ping -n 1");
    at.fits("bench", "bench Greeter/Hello name=Ada -n 20");
    at.refuses("call Greeter/Helo");
    let failed = at.command("call Calc/Divide a:=1 b:=0 --json").runs();
    at.schema.fits("rpc_reply", &failed.out());
    let status = bandy("status --json").home(&server.home).runs().exits(0).out();
    at.schema.fits("service", &status);
    bandy("context add prod --mq amqp://h").home(&server.home).runs().exits(0);
    let contexts = bandy("context ls --json").home(&server.home).runs().exits(0).out();
    at.schema.fits("context", &contexts);
    at.schema.fits("demo", &bandy("demo --list --json").runs().exits(0).out());
    at.uses_all("rpc_", &["error", "service", "context", "demo"]);
}

#[test]
fn clusters_are_written_as_the_schema_says() {
    let home = Home::new();
    let node = |name: &str| {
        let words = format!("gossip join -l 127.0.0.1:0 --profile local --rpc none --name {name}");
        let mut node = bandy(&words).home(&home).starts();
        node.url = node.line();
        node
    };
    let (other, server) = (node("n1"), node("n2"));
    let mut at = At { schema: Schema::read(), server: &server, pillar: "gossip" };
    at.command("wait --members 2 --timeout 30s").runs().exits(0);
    at.command("set limit 100").runs().exits(0);
    at.command("event deploy v1").runs().exits(0);
    at.fits("gossip_event", "watch --replay --idle 500ms");
    at.fits("gossip_member", "ls");
    at.fits("gossip_member", "top --once");
    at.fits("gossip_member", "info n1");
    at.fits("gossip_info", "info");
    at.fits("gossip_key", "keys");
    at.fits("gossip_value", "get limit");
    at.fits("gossip_tag", "tag");
    at.fits("ping", "ping n1 -n 1");
    // Coordinates come with the first probe.
    crate::support::until("coordinates", || at.command("rtt n1 n2").runs().code() == 0);
    at.fits("gossip_rtt", "rtt n1 n2");
    drop(other);
    let words = "gossip join -l 127.0.0.1:0 --profile local --rpc none --name n3 -- echo fine";
    let answering = bandy(words).home(&home).starts();
    at.command("wait --members 2 --timeout 30s").runs().exits(0);
    at.fits("gossip_answer", "query load --node n3");
    drop(answering);
    let alone = |words: &str| bandy(words).home(&home).runs().exits(0).out();
    at.schema.fits("gossip_round", &alone("gossip simulate --nodes 100 --json"));
    let engine = "gossip simulate --engine --nodes 20 --json";
    at.schema.fits("gossip_engine_round", &alone(engine));
    at.schema.fits("gossip_paper", &alone("gossip simulate --paper demers --runs 2 --json"));
    at.schema.fits("gossip_new_key", &alone("gossip keygen --json"));
    let key = home.file("key", alone("gossip keygen"));
    let words = "gossip join -l 127.0.0.1:0 --alone --rpc none --name n4 --key-file";
    let _sealed = bandy(words).arg(key).home(&home).starts();
    at.schema.fits("gossip_keyring", &alone("gossip keyring list -e local:n4 --json"));
    at.refuses("info n77");
    at.uses_all("gossip_", &["error"]);
}

#[test]
fn another_member_or_type_would_be_noticed() {
    let schema = Schema::read();
    let check = |text: &str, name: &str| {
        schema.check(&serde_json::from_str(text).unwrap(), schema.definition(name), name)
    };
    assert_eq!(check(r#"{"tag":"a","value":"b"}"#, "gossip_tag"), Ok(()));
    assert!(check(r#"{"tag":"a"}"#, "gossip_tag").is_err_and(|why| why.contains("value is missing")));
    assert!(check(r#"{"tag":"a","value":7}"#, "gossip_tag").is_err_and(|why| why.contains("not of type")));
    let more = check(r#"{"tag":"a","value":"b","x":1}"#, "gossip_tag");
    assert!(more.is_err_and(|why| why.contains("x is not described")));
    assert!(check(r#"{"key":"a"}"#, "record").is_err_and(|why| why.contains("or ")));
    let header = |header: &str| check(&format!(r#"{{"value":"","headers":{{"h":{header}}}}}"#), "record");
    assert_eq!((header("\"a\""), header("[\"a\",{\"base64\":\"/w==\"}]")), (Ok(()), Ok(())));
    assert!(header("7").is_err() && header("{\"x\":1}").is_err());
    assert!(check(r#"{"error":"odd","message":"","exit":1}"#, "error").is_err());
}
