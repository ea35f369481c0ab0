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
        "No address needed on one machine. grpcurl, buf and curl can call it too.",
        "bandy rpc call upper hello",
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
];
