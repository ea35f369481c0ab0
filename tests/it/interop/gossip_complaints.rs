//! Of what real Serf agents complain while a test does what makes them: those words, and no others.

/// What agents may complain of when one of ours was stopped, and one of theirs killed.
pub(super) struct Expected(Vec<(Option<&'static str>, regex_lite::Regex)>);

impl Expected {
    /// Of members that were stopped or killed: their names and where they were.
    pub(super) fn new(gone: &[(&str, &str)]) -> Self {
        let any = |of: Vec<&str>| of.join("|").replace('.', r"\.");
        let name = any(gone.iter().map(|(name, _)| *name).collect());
        let address = any(gone.iter().map(|(_, address)| *address).collect());
        let unreachable = format!(
            r"(read tcp [0-9.:]+->({address}): (i/o timeout|read: connection reset by peer)|dial tcp ({address}): (connect: connection refused|i/o timeout))"
        );
        let expected = [
            // That the ones are gone; the newer generation says how long it has waited.
            (None, format!(r"\[ERR\] memberlist: Failed fallback (TCP )?ping: (timeout [0-9.]+m?s: )?{unreachable}")),
            (None, format!(r"\[ERR\] memberlist: Push/Pull with ({name}) failed: ({unreachable}|EOF)")),
            // The one that was stopped goes on: it answers late, and thinks that others have.
            (
                None,
                r"\[WARN\] memberlist: Was able to connect to c1 (but other|over TCP but UDP) probes failed, network may be misconfigured"
                    .to_owned(),
            ),
            (None, r"\[WARN\] memberlist: Refuting a (suspect|dead) message \(from: c1\)".to_owned()),
            // Handlers that do not read their payload; that there are no keys to be listed.
            (None, r"\[ERR\] Error writing payload: write \|1: (file already closed|broken pipe)".to_owned()),
            (None, r"\[ERR\] serf: Keyring is empty \(encryption not enabled\)".to_owned()),
            // A real agent has no `gossip set`; the one that was told to leave says its farewell as a warning.
            (
                Some("b1"),
                r"\[ERR\] agent\.ipc: Failed to evaluate request: command 'bandy-set' not recognized".to_owned(),
            ),
            (Some("b2"), r"\[WARN\] agent: Serf shutdown detected, quitting".to_owned()),
        ];
        let whole = |pattern| format!(r"^ *[0-9/]{{10}} [0-9:]{{8}} {pattern}$");
        Self(expected.map(|(of, text)| (of, regex_lite::Regex::new(&whole(text)).unwrap())).into())
    }

    /// Whether it is one of them, word for word.
    pub(super) fn allows(&self, agent: &str, line: &str) -> bool {
        self.0.iter().any(|(of, pattern)| of.is_none_or(|of| of == agent) && pattern.is_match(line))
    }
}

#[test]
fn of_what_agents_complain_only_what_is_expected_is_allowed() {
    let expected = Expected::new(&[("c1", "127.0.0.1:4001"), ("a2", "127.0.0.1:4002")]);
    let allows = |agent, said| expected.allows(agent, &format!("    2026/11/29 02:17:35 {said}"));
    for said in [
        "[ERR] memberlist: Failed fallback ping: read tcp 127.0.0.1:48852->127.0.0.1:4001: i/o timeout",
        "[ERR] memberlist: Failed fallback TCP ping: timeout 1s: read tcp 127.0.0.1:48840->127.0.0.1:4001: i/o timeout",
        "[ERR] memberlist: Failed fallback ping: dial tcp 127.0.0.1:4002: connect: connection refused",
        "[ERR] memberlist: Push/Pull with a2 failed: dial tcp 127.0.0.1:4002: connect: connection refused",
        "[WARN] memberlist: Refuting a suspect message (from: c1)",
        "[ERR] serf: Keyring is empty (encryption not enabled)",
    ] {
        assert!(allows("a1", said), "{said}");
    }
    for said in [
        "[ERR] memberlist: Failed fallback ping: read tcp 127.0.0.1:48852->127.0.0.1:4003: i/o timeout",
        "[ERR] memberlist: Conflicting address for c1. Mine: 127.0.0.1:4001 Theirs: 127.0.0.1:4003 Old state: 0",
        "[ERR] memberlist: Failed to decode suspect message: EOF from=127.0.0.1:4001",
        "[WARN] memberlist: Refuting a suspect message (from: a1)",
        "[WARN] memberlist: Got ping for unexpected node 'c1' from=127.0.0.1:4001",
        "[ERR] agent.ipc: Failed to evaluate request: command 'bandy-set' not recognized",
        "[ERR] serf: Keyring is empty (encryption not enabled), and more",
    ] {
        assert!(!allows("a1", said), "{said}");
    }
}
