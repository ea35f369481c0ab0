//! What fingers know from other tools: every line of the README's table is answered with ours.

use std::path::Path;

use bandy::cli::Cli;
use clap::{CommandFactory as _, Parser as _};

use crate::support::bandy;

/// What is typed in the place of the tool's name, whose flags stay.
const TYPED: &[(&str, &str)] = &[
    ("grpcurl ", "rpc call "),
    ("buf curl ", "rpc curl "),
    ("ghz ", "rpc bench "),
    ("amqp-publish ", "mq send "),
    ("amqp-consume ", "mq recv "),
    ("rabbitmqadmin list ", "mq ls "),
    ("rabtap tap ", "mq tap "),
    ("kcat ", "log consume "),
    ("kafka-consumer-groups.sh --describe ", "log info --describe "),
    ("kafka-consumer-groups.sh --reset-offsets ", "log seek --reset-offsets "),
    ("serf ", "gossip "),
];

/// The two cells of each row, without their quotes.
fn rows() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let table = readme.lines().skip_while(|line| *line != "| you would type | with bandy |").skip(2);
    let cells = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [left, right] = cells[..] else { panic!("{line} has two cells") };
        (left.to_owned(), right.trim_matches('`').to_owned())
    };
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Pillar and verb, by their own names.
fn command(line: &str) -> Vec<String> {
    let root = Cli::command();
    let mut words = line.split(' ').skip(1);
    let pillar = root.find_subcommand(words.next().unwrap()).unwrap();
    let verb = words.next().and_then(|verb| pillar.find_subcommand(verb));
    [Some(pillar), verb].into_iter().flatten().map(|command| command.get_name().to_owned()).collect()
}

fn is_understood(line: &str) -> bool {
    Cli::try_parse_from(shell_words::split(line).unwrap()).is_ok()
}

#[test]
fn every_line_of_another_tool_in_the_readme_is_answered_with_ours() {
    let rows = rows();
    assert!(rows.len() > 15, "{rows:?}");
    for (theirs, ours) in rows {
        assert!(is_understood(&ours), "{ours}");
        // What is no command line is in words.
        let Some(theirs) = theirs.strip_prefix('`').and_then(|line| line.strip_suffix('`')) else { continue };
        let (tool, typed) = TYPED
            .iter()
            .find(|(tool, _)| theirs.starts_with(tool))
            .unwrap_or_else(|| panic!("what is typed for {theirs}?"));
        let line = format!("{typed}{}", theirs[tool.len()..].trim_end_matches(" …"));
        if is_understood(&format!("bandy {line}")) {
            assert_eq!(command(&format!("bandy {line}")), command(&ours), "{theirs}");
            continue;
        }
        let ran = bandy(&line).runs().exits(2);
        let said = ran.err();
        let tip = said.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let tip = tip.unwrap_or_else(|| panic!("{line}: {said}"));
        assert!(is_understood(tip), "{line}: {tip}");
        assert_eq!(command(tip), command(&ours), "{line}: {tip}");
    }
}

#[test]
fn a_tool_that_is_typed_has_rows() {
    let rows = rows();
    for (tool, _) in TYPED {
        assert!(rows.iter().any(|(theirs, _)| theirs.starts_with(&format!("`{tool}"))), "{tool}");
    }
}

#[test]
fn words_that_mean_something_else_here_are_told_so() {
    let tells = |words: &str, tip: &str| {
        bandy(words).runs().exits(2).complains(&format!("tip: {tip}"));
    };
    tells("log consume orders -f '%k'", "bandy log consume orders -o '%k'\n");
    tells("log consume -f '%k'", "bandy log consume TOPIC -o '%k'\n");
    tells("log consume -G g -b h orders", "bandy log consume -f -g g -e h orders\n");
    tells("gossip keys -list", "bandy gossip keyring list\n");
    tells("gossip tags -set role=web", "bandy gossip tag role=web\n");
    tells("gossip tags", "bandy gossip tag\n");
    tells("rpc curl a.B/C -d '{}' -e :1", "bandy rpc call a.B/C -d {} -e :1\n");
    tells("mq ls jobs", "bandy mq ls queues jobs    # a name stands behind what it is: one of queues, ");
    tells(
        "log ls orders",
        "bandy log ls topics orders    # a name stands behind what it is: one of topics, ",
    );
    tells("completions fsh", "did you mean 'fish'?\n");
    tells("mq ls -e amqp:/h", "did you mean 'amqp://h'?\n");
    tells("demo -o csv", "bandy rpc demo call --json ");
}
