//! Words that stand where others should: flags before the verb, lines of tools that have no verbs, an address for a name.

use std::ffi::OsString;

use clap::CommandFactory as _;

use super::foreign::{self, is_address};
use super::word;
use crate::cli::Cli;
use crate::cli::endpoint::{Endpoint, Pillar};

/// Flags that say that a line is kcat's.
const KCAT: [&str; 6] = ["-b", "-t", "-C", "-P", "-G", "-L"];

/// The same words with pillar and verb before all others; `None` if they stand there, or are not known.
pub fn verb_first(words: &[OsString]) -> Option<Vec<OsString>> {
    let root = Cli::command();
    let end = words.iter().take_while(|word| *word != "--").count();
    let (at, command) = (1..end).find_map(|at| Some((at, root.find_subcommand(&words[at])?)))?;
    let mut front = vec![words[0].clone(), words[at].clone()];
    let mut moved = words[1..at].to_vec();
    let is_verb = |at: &usize| command.find_subcommand(&words[*at]).is_some();
    let behind = match (at + 1..end).find(is_verb) {
        _ if !command.has_subcommands() => &words[at + 1..],
        Some(verb) => {
            moved.extend_from_slice(&words[at + 1..verb]);
            front.push(words[verb].clone());
            &words[verb + 1..]
        }
        None => {
            moved.extend_from_slice(&words[at + 1..end]);
            front.push(guessed(command.get_name(), &moved)?.into());
            moved.retain(|word| word != "-L");
            &words[end..]
        }
    };
    if moved.is_empty() {
        return None;
    }
    if command.get_name() == "rpc" {
        name_host(&mut moved);
    }
    Some([&front[..], &moved, behind].concat())
}

/// The verb that a line without one means.
fn guessed(pillar: &str, words: &[OsString]) -> Option<&'static str> {
    let says = |flag: &str| words.iter().any(|word| word == flag);
    match pillar {
        "log" if says("-L") => Some(if says("-t") { "info" } else { "ls" }),
        "log" if says("-P") => Some("produce"),
        "log" if KCAT.iter().any(|flag| says(flag)) => Some("consume"),
        "rpc" if words.iter().any(is_method) => Some("call"),
        _ if says("-e") || says("--endpoint") => Some("ls"),
        _ => None,
    }
}

fn is_method(word: &OsString) -> bool {
    word.to_str().is_some_and(|word| word.contains('/') && !word.contains([':', '{', ' ']))
}

/// grpcurl's host stands before the method or the verb, and needs no port to be one.
fn name_host(words: &mut Vec<OsString>) {
    let is_word = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
    let at = words.iter().position(is_method).unwrap_or(words.len());
    let Some(host) = at.checked_sub(1).filter(|host| is_word(&words[*host])) else { return };
    let is_value = host
        .checked_sub(1)
        .and_then(|before| words[before].to_str())
        .is_some_and(|before| before.starts_with('-') && !foreign::is_switch("rpc", before));
    if !is_value {
        words.insert(host, "-e".into());
    }
}

/// A line with an address behind the verb, where a name stands: what is wrong, and the line that is meant.
pub fn address_for_name(words: &[OsString]) -> Option<(String, String)> {
    let (verb, given) = (words.get(2)?.to_str()?, words.get(3)?.to_str()?);
    let pillar = Pillar::ALL.into_iter().find(|pillar| words[1] == pillar.name())?;
    let is_url = given.contains("://") && Endpoint::parse(pillar, given).is_ok();
    let is_place = match (pillar, verb) {
        // What has an address in front of a method, or is one of a node.
        (Pillar::Rpc, "call" | "bench" | "serve") | (Pillar::Gossip, "join" | "serve" | "ping") => false,
        // Services have no colon in their names.
        (Pillar::Rpc, _) | (_, "ls" | "list" | "ping") => is_url || is_address(given),
        _ => is_url,
    };
    let is_said = words.iter().any(|word| word == "-e" || word == "--endpoint");
    if !is_place || is_said {
        return None;
    }
    Cli::command().find_subcommand(pillar.name())?.find_subcommand(verb)?;
    let mut meant = words.to_vec();
    meant.insert(3, "-e".into());
    let line = match crate::cli::parse(&meant) {
        Ok(_) => {
            meant.iter().skip(1).map(|given| word(&given.to_string_lossy())).collect::<Vec<_>>().join(" ")
        }
        Err(_) => format!("{} {verb} … -e {}", pillar.name(), word(given)),
    };
    Some((format!("'{given}' is an address, and no name"), format!("bandy {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        shell_words::split(line).unwrap().into_iter().map(OsString::from).collect()
    }

    #[track_caller]
    fn becomes(given: &str, meant: &str) {
        assert_eq!(foreign::line_in_order(&words(given)).as_deref(), Some(meant), "{given}");
    }

    #[test]
    fn a_verb_comes_first() {
        becomes("bandy -e amqp://h mq ls", "bandy mq ls -e amqp://h");
        becomes("bandy mq -e amqp://h send jobs hi -n 3", "bandy mq send -e amqp://h jobs hi -n 3");
        becomes("bandy --context w log consume t -- a -b", "bandy log consume --context w t -- a -b");
        becomes("bandy log --context w ls", "bandy log ls --context w");
        becomes("bandy mq -e amqp://h", "bandy mq ls -e amqp://h");
        for line in
            ["bandy mq ls -e amqp://h", "bandy status -e x", "bandy mq pbu x", "bandy -e x", "bandy mq"]
        {
            assert_eq!(foreign::line_in_order(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn a_tool_without_verbs_gets_one() {
        becomes("bandy log -C -b h -t orders", "bandy log consume -e h orders");
        becomes("bandy log -b h -t orders -o -10 -e", "bandy log consume -e h orders --from -10");
        becomes("bandy log -P -b h -t orders", "bandy log produce -e h orders");
        becomes("bandy log -L -b h", "bandy log ls -e h");
        becomes("bandy log -b h -L -t orders", "bandy log info -e h orders");
        becomes("bandy log -b h -G g orders", "bandy log consume -e h -f -g g orders");
        becomes("bandy rpc -plaintext h:1 list", "bandy rpc list -e h:1");
        becomes("bandy rpc -plaintext h list a.B", "bandy rpc list -e h a.B");
        becomes("bandy rpc h:1 describe a.B", "bandy rpc describe -e h:1 a.B");
        becomes(
            "bandy rpc -plaintext -d '{\"a\": 1}' h:1 a.B/C",
            "bandy rpc call -d '{\"a\": 1}' -e h:1 a.B/C",
        );
        becomes("bandy rpc -plaintext h a.B/C", "bandy rpc call -e h a.B/C");
    }

    #[test]
    fn an_address_is_no_name() {
        let meant = |line: &str| address_for_name(&words(line)).map(|(_, tip)| tip);
        let is = |line: &str| Some(line.to_owned());
        assert_eq!(meant("bandy rpc ls h:1"), is("bandy rpc ls -e h:1"));
        assert_eq!(meant("bandy rpc info grpc://h a.B"), is("bandy rpc info -e grpc://h a.B"));
        assert_eq!(meant("bandy mq ls amqp://h"), is("bandy mq ls -e amqp://h"));
        assert_eq!(meant("bandy log ping h:1 -n 1"), is("bandy log ping -e h:1 -n 1"));
        assert_eq!(meant("bandy mq info amqp://h"), is("bandy mq info … -e amqp://h"));
        for line in [
            "rpc call h:1/a.B/C",
            "rpc curl h:1 a.B/C",
            "mq send a:1 x",
            "gossip join h:1",
            "mq ls amqp://h -e x",
        ] {
            assert_eq!(meant(&format!("bandy {line}")), None, "{line}");
        }
    }
}
