//! Verbs that fingers know from other tools, and what does the same here.

/// Pillar, verb, what is typed here.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    // serf's and consul's.
    ("gossip", "agent", "bandy gossip join"),
    ("gossip", "monitor", "bandy gossip watch"),
    ("gossip", "stream", "bandy gossip watch"),
    ("gossip", "force-leave", "bandy gossip leave NODE"),
    ("gossip", "reachability", "bandy gossip query NAME    asks all and says who did not answer"),
    ("gossip", "tags", "bandy gossip tag KEY=VALUE"),
    // amqp-tools', rabbitmqadmin's, mosquitto's and nats'.
    ("mq", "consume", "bandy mq recv QUEUE    one taker each; bandy mq sub PATTERN for a copy of everything"),
    ("mq", "get", "bandy mq recv QUEUE --no-wait"),
    ("mq", "publish", "bandy mq pub TOPIC BODY    everybody gets a copy; bandy mq send QUEUE BODY for one taker"),
    ("mq", "subscribe", "bandy mq sub PATTERN"),
    ("mq", "declare", "bandy mq create QUEUE"),
    ("mq", "delete", "bandy mq rm QUEUE"),
    ("mq", "show", "bandy mq info QUEUE"),
    ("mq", "reply", "bandy mq recv QUEUE --reply -f -- COMMAND"),
    ("mq", "import", "bandy mq apply FILE"),
    ("mq", "start", "bandy mq broker"),
    // kcat's, rpk's, kaf's, and those of Kafka's own tools.
    ("log", "describe", "bandy log info TOPIC"),
    ("log", "delete", "bandy log rm TOPIC"),
    ("log", "topic", "bandy log ls, info, create, rm: topics are what it is about"),
    ("log", "topics", "bandy log ls"),
    ("log", "groups", "bandy log ls groups"),
    ("log", "group", "bandy log ls groups, bandy log info -g GROUP"),
    ("log", "nodes", "bandy log ls nodes"),
    ("log", "trim-prefix", "bandy log trim TOPIC --to POS"),
    ("log", "delete-records", "bandy log trim TOPIC --to POS"),
    ("log", "add-partitions", "bandy log create TOPIC --partitions N --grow"),
    ("log", "read", "bandy log consume TOPIC"),
    ("log", "cat", "bandy log consume TOPIC"),
    ("log", "write", "bandy log produce TOPIC"),
    // grpcurl's, buf's, evans' and ghz'.
    ("rpc", "invoke", "bandy rpc call METHOD"),
    ("rpc", "curl", "bandy rpc call METHOD"),
    ("rpc", "show", "bandy rpc info SYMBOL"),
    ("rpc", "run", "bandy rpc bench METHOD"),
];

/// Verbs that are ours under another name, flags and all.
#[rustfmt::skip]
const SAME: &[(&str, &str, &str)] = &[
    ("gossip", "agent", "join"),
    ("gossip", "monitor", "watch"),
    ("gossip", "stream", "watch"),
    ("gossip", "force-leave", "leave"),
    ("gossip", "tags", "tag"),
    ("mq", "declare", "create"),
    ("mq", "delete", "rm"),
    ("mq", "show", "info"),
    ("mq", "start", "broker"),
    ("mq", "subscribe", "sub"),
    ("mq", "import", "apply"),
    ("log", "describe", "info"),
    ("log", "delete", "rm"),
    ("log", "read", "consume"),
    ("log", "cat", "consume"),
    ("log", "write", "produce"),
    ("rpc", "invoke", "call"),
    ("rpc", "curl", "call"),
    ("rpc", "show", "info"),
    ("rpc", "run", "bench"),
];

/// The verb that is the same here.
pub fn same(pillar: &str, verb: &str) -> Option<&'static str> {
    SAME.iter().find(|(of, theirs, _)| *of == pillar && *theirs == verb).map(|(_, _, ours)| *ours)
}

/// What is typed here for a verb of another tool.
pub fn ours(pillar: &str, verb: &str) -> Option<&'static str> {
    TABLE.iter().find(|(of, theirs, _)| *of == pillar && *theirs == verb).map(|(_, _, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn what_they_are_told_to_type_is_there_and_what_they_typed_is_not() {
        let root = crate::cli::Cli::command();
        for (pillar, theirs, ours) in SAME {
            let of = root.find_subcommand(pillar).unwrap();
            assert!(of.find_subcommand(ours).is_some() && of.find_subcommand(theirs).is_none(), "{theirs}");
            assert!(super::ours(pillar, theirs).is_some(), "{theirs} without words has no tip");
        }
        for (pillar, theirs, ours) in TABLE {
            let of = root.find_subcommand(pillar).unwrap();
            assert!(of.find_subcommand(theirs).is_none(), "{pillar} {theirs} is a command");
            for command in ours.split("bandy ").skip(1) {
                let mut words = command.split([' ', ',']);
                let (pillar, verb) = (words.next().unwrap(), words.next().unwrap());
                let of = root.find_subcommand(pillar).unwrap();
                assert!(of.find_subcommand(verb).is_some(), "{ours}: no {pillar} {verb}");
            }
        }
    }
}
