//! What the tour says and types.

/// How a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// To its end.
    Run,
    /// In the background, until the tour ends.
    Serve,
}

/// One command with the sentence before it.
pub(super) struct Act {
    pub(super) says: &'static str,
    pub(super) command: &'static str,
    pub(super) how: How,
}

const fn run(says: &'static str, command: &'static str) -> Act {
    Act { says, command, how: How::Run }
}

const fn serve(says: &'static str, command: &'static str) -> Act {
    Act { says, command, how: How::Serve }
}

/// The tour.
pub(super) const ACTS: &[Act] = &[
    serve(
        "RPC. A shell command becomes a function that other programs can call.",
        "bandy rpc serve upper='tr a-z A-Z' -l :0",
    ),
    run(
        "On one machine no address is needed. grpcurl, buf and curl can call it too.",
        "bandy rpc call upper hello",
    ),
    serve("Without arguments it serves functions to play with: one of each kind.", "bandy rpc serve -l :0"),
    run("No generated code: the server is asked what it takes.", "bandy rpc info demo.Greeter"),
    run(
        "Arguments are typed as fields. This is what the call is made of.",
        "bandy rpc call Greeter/Hello name=Ada --trace",
    ),
    run(
        "Many calls on one connection, in a pipe like any other.",
        "seq 3 | sed 's/.*/{\"a\": &, \"b\": 1}/' | bandy rpc call Calc/Add --each",
    ),
    run(
        "Every outcome has its exit code: 64 and the gRPC status.",
        "bandy rpc call Calc/Divide a:=1 b:=0; echo \"exit $?\"",
    ),
    serve(
        "MQ. A broker for the clients of RabbitMQ, in memory, ready in milliseconds.",
        "bandy mq broker --memory -l :0 -l local:",
    ),
    run(
        "Three orders are to be packed: each of them by one worker.",
        "printf 'ada\\nbob\\ncem\\n' | bandy mq send orders",
    ),
    run(
        "A message is acknowledged when its command has succeeded.",
        "bandy mq recv orders -n 2 -- xargs echo packed for",
    ),
    run("One is left.", "bandy mq ls"),
    serve("LOG. A broker for the clients of Kafka.", "bandy log broker --memory -l :0 -l local:"),
    run(
        "A log keeps what was written to it.",
        "seq 3 | sed 's/.*/order &/' | bandy log produce sales --create",
    ),
    run(
        "So it can be read again, by everybody, from where they like.",
        "bandy log consume sales; bandy log tail sales -n 1 --for 300ms",
    ),
    run(
        "A group remembers how far it has come.",
        "bandy log consume sales -g billing -n 2; bandy log info -g billing",
    ),
    serve(
        "GOSSIP. Two nodes find each other, as agents of Serf do.",
        "bandy gossip join -l :0 --rpc none --quiet-events",
    ),
    serve("", "bandy gossip join -l :0 --rpc none --quiet-events"),
    run(
        "What one learns all know a moment later.",
        "bandy gossip set price 42; sleep 1; bandy gossip get price -e local:n1",
    ),
    run("They see who is there.", "bandy gossip ls"),
    run(
        "And for one command only: servers that come and go with it.",
        "bandy with rpc mq log gossip -- sh -c 'env | grep _URL= | sort'",
    ),
];

/// A demo and what it shows.
#[derive(serde::Serialize)]
pub(super) struct Demo {
    demo: &'static str,
    shows: &'static str,
}

const fn demo(demo: &'static str, shows: &'static str) -> Demo {
    Demo { demo, shows }
}

/// Every demo.
pub(super) const DEMOS: &[Demo] = &[
    demo("bandy demo", "the tour: real commands against real servers"),
    demo("bandy rpc demo call", "one call, stage by stage, with its bytes"),
    demo("bandy rpc demo lost-reply", "a reply is lost: was the account debited twice?"),
    demo("bandy rpc demo deadline", "a deadline that travels, and one that does not"),
    demo("bandy rpc demo streams", "the four kinds of call"),
    demo("bandy mq demo work", "workers share a queue; one is killed, and nothing is lost"),
    demo("bandy mq demo topics", "a topic exchange: which queues does a routing key reach?"),
    demo("bandy mq demo dead-letter", "a message that no worker can do: tried again, then put aside"),
    demo("bandy log demo partitions", "keys choose partitions, readers of a group share them, lag melts"),
    demo("bandy log demo replay", "a log is no queue: others read it again, and one goes back"),
    demo("bandy gossip demo spread", "one node knows something; a few rounds later all do"),
    demo("bandy gossip demo failure", "a silent node is suspected and objects; a dead one does not"),
    demo("bandy gossip demo split", "the network falls apart, and both sides agree again"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tour_fits_a_narrow_terminal() {
        for act in ACTS {
            // Behind "# " and "$ "; before " &".
            assert!(act.says.chars().count() <= 78, "{}", act.says);
            assert!(act.command.chars().count() <= 76, "{}", act.command);
        }
    }
}
