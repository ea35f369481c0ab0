//! Names that begin with `-`: they stand behind `--`, also where that begins a command.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory as _;

use super::Cli;
use super::errors::word;

/// Verbs with names before the command that stands behind `--`.
const WITH_COMMAND: [[&str; 2]; 3] = [["mq", "recv"], ["mq", "sub"], ["log", "consume"]];

/// Letters at least of a word that rather is a name than a heap of flags: `-x` and `-n5` are flags.
const NAME_MIN: usize = 3;

/// Ends names in place of the second `--`: for clap the first one would end them, too. Nobody types it.
const END: &str = "\u{1}";

fn is_hyphened(word: &OsStr) -> bool {
    word.len() > 1 && word.as_encoded_bytes()[0] == b'-'
}

/// What parses a line in which what stands behind `--` is no command but names, for no program's name begins with `-`; the
/// command stands behind a second `--` then. With the words that it is given. `None` for any other line.
pub fn names_behind(words: &[OsString]) -> Option<(clap::Command, Vec<OsString>)> {
    let [pillar, verb] =
        WITH_COMMAND.into_iter().find(|place| words.get(1..3).is_some_and(|said| said == place))?;
    let at = words.iter().position(|word| word == "--")?;
    words.get(at + 1).filter(|word| is_hyphened(word) && *word != "--")?;
    let mut takes_many = false;
    let command = Cli::command().mut_subcommand(pillar, |pillar| {
        pillar.mut_subcommand(verb, |verb| {
            verb.mut_args(|arg| {
                if arg.is_last_set() {
                    return arg.last(false);
                }
                let is_many =
                    arg.is_positional() && arg.get_num_args().is_some_and(|count| count.max_values() > 1);
                takes_many |= is_many;
                if is_many { arg.value_terminator(END) } else { arg }
            })
        })
    });
    let mut words = words.to_vec();
    let second = words.iter().skip(at + 1).position(|word| word == "--").map(|behind| at + 1 + behind);
    match second {
        Some(second) if takes_many => words[second] = END.into(),
        // One name ends by itself.
        Some(second) => drop(words.remove(second)),
        None => {}
    }
    Some((command, words))
}

/// The line in which a word that was read as flags is a name, or the value of the flag before it, if it looks like one and
/// stands where one does. `flag` is what was not understood, if that is known.
pub fn line(words: &[OsString], flag: Option<&str>) -> Option<String> {
    let is_heap = |word: &OsStr| is_hyphened(word) && word.as_encoded_bytes()[1] != b'-';
    let before = words.iter().take_while(|word| *word != "--").count();
    let at = (3..before).find(|at| {
        let word = words[*at].to_str().filter(|word| is_heap(OsStr::new(word)));
        word.is_some_and(|word| match flag {
            Some(flag) => word.starts_with(flag),
            None => word.chars().skip(1).take_while(|letter| letter.is_alphabetic()).count() >= NAME_MIN,
        })
    })?;
    let mut meant = words.to_vec();
    if at > 3 && is_hyphened(&words[at - 1]) {
        // The value of a flag has to be part of its word.
        let mut pair = words[at - 1].clone();
        pair.push("=");
        pair.push(&words[at]);
        meant.splice(at - 1..=at, [pair]);
    } else if at == 3 && !words[at + 1..before].iter().any(|word| is_hyphened(word)) {
        meant.insert(at, "--".into());
    } else {
        return None;
    }
    super::parse(&meant).ok()?;
    let words = meant.iter().skip(1).map(|given| word(&given.to_string_lossy()));
    Some(format!("bandy {}", words.collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_begins_with_a_hyphen_behind_two_is_a_name_and_no_command() {
        for (line, parts) in [
            ("bandy mq recv -- -jobs", ["queue: \"-jobs\"", "command: []"]),
            ("bandy mq recv -f -- -jobs -- work -x", ["queue: \"-jobs\"", "command: [\"work\", \"-x\"]"]),
            ("bandy mq recv -f jobs -- work -x", ["queue: \"jobs\"", "command: [\"work\", \"-x\"]"]),
            ("bandy mq sub -- -a -b", ["patterns: [\"-a\", \"-b\"]", "command: []"]),
            ("bandy mq sub x -- -a -- work -x", ["patterns: [\"x\", \"-a\"]", "command: [\"work\", \"-x\"]"]),
            ("bandy log consume -- -t -- work", ["topics: [\"-t\"]", "command: [\"work\"]"]),
            ("bandy log consume t -- work -- -x", ["topics: [\"t\"]", "command: [\"work\", \"--\", \"-x\"]"]),
        ] {
            let parsed = format!("{:?}", crate::cli::parse(&words(line)).unwrap());
            assert!(parts.iter().all(|part| parsed.contains(part)), "{line}: {parsed}");
        }
    }

    #[test]
    fn the_line_that_was_meant_has_the_name_where_it_is_taken_for_one() {
        let meant = |given: &str, flag| line(&words(given), flag);
        let is = |line: &str| Some(line.to_owned());
        assert_eq!(meant("bandy mq send -jobs hello", Some("-j")), is("bandy mq send -- -jobs hello"));
        assert_eq!(meant("bandy mq recv -jobs", None), is("bandy mq recv -- -jobs"));
        assert_eq!(meant("bandy log info -g -foo", Some("-f")), is("bandy log info -g=-foo"));
        let line = "bandy log consume -- -foo -- work";
        assert_eq!(meant("bandy log consume -foo -- work", None), is(line));
        assert_eq!(meant("bandy mq recv -n5", None), None);
        assert_eq!(meant("bandy mq send -jobs hello -n 3", Some("-j")), None);
    }
}
