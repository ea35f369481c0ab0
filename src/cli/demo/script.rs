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
        "A shell command becomes a function that other programs can call.",
        "bandy rpc serve upper='tr a-z A-Z' -l :0",
    ),
    run(
        "On one machine no address is needed. grpcurl, buf and curl can call it too.",
        "bandy rpc call upper hello",
    ),
    serve("Without arguments it serves functions to play with: one of each kind.", "bandy rpc serve -l :0"),
    run("No generated code: the server is asked what it takes.", "bandy rpc info demo.Greeter"),
    run(
        "Arguments are typed as fields; a unique end of the name is enough.",
        "bandy rpc call Greeter/Hello name=Ada",
    ),
    run(
        "The anatomy of one call, with its bytes and times.",
        "bandy rpc call Greeter/Hello name=Ada --trace",
    ),
    run("A stream of answers is one line each.", "bandy rpc call Clock/Ticks count:=3 interval_ms:=300"),
    run(
        "Many calls on one connection, in a pipe like any other.",
        "seq 3 | sed 's/.*/{\"a\": &, \"b\": 1}/' | bandy rpc call Calc/Add --each",
    ),
    run(
        "Every outcome has its exit code: 64 and the gRPC status.",
        "bandy rpc call Calc/Divide a:=1 b:=0; echo \"exit $?\"",
    ),
    run(
        "How fast is it? Two seconds will tell.",
        "bandy rpc bench Greeter/Hello name=Ada -c 4 --for 2s -o table",
    ),
    run(
        "And for one command only: a server that comes and goes with it.",
        "bandy with rpc -- bandy rpc call Echo/Say text=hi",
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
