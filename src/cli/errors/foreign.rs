//! Flags that fingers know from other tools, and the command line that does the same here.

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches};

use crate::cli::Cli;

/// What becomes of a foreign flag.
#[derive(Clone, Copy, Debug)]
enum Ours {
    /// It is what happens anyway.
    Nothing,
    /// Another name for one of our flags, or several words.
    Words(&'static str),
    /// It and its value are dropped, for there is nothing like it; the text says what to do.
    Instead(&'static str),
}

/// A flag of another tool.
struct Foreign {
    /// The pillar it is used with here; with a verb, only with that.
    command: &'static str,
    /// How it is written there.
    flag: &'static str,
    /// True if the next word is its value.
    takes_value: bool,
    ours: Ours,
}

impl Foreign {
    /// The pillar, and the verb if it is only for that.
    fn place(&self) -> (&'static str, Option<&'static str>) {
        self.command.split_once(' ').map_or((self.command, None), |(pillar, verb)| (pillar, Some(verb)))
    }
}

const fn row(command: &'static str, flag: &'static str, takes_value: bool, ours: Ours) -> Foreign {
    Foreign { command, flag, takes_value, ours }
}

/// grpcurl writes long flags with one dash; ghz and buf curl have names of their own, and so have the clients of queues.
#[rustfmt::skip]
const TABLE: &[Foreign] = &[
    row("rpc", "-plaintext", false, Ours::Nothing),
    row("rpc", "--plaintext", false, Ours::Nothing),
    row("rpc", "--http2-prior-knowledge", false, Ours::Nothing),
    row("rpc", "-use-reflection", false, Ours::Nothing),
    row("rpc", "-insecure", false, Ours::Words("--insecure")),
    row("rpc", "-cacert", true, Ours::Words("--cacert")),
    row("rpc", "-cert", true, Ours::Words("--cert")),
    row("rpc", "-key", true, Ours::Words("--cert-key")),
    row("rpc", "--key", true, Ours::Words("--cert-key")),
    row("rpc", "-servername", true, Ours::Words("--server-name")),
    row("rpc", "--servername", true, Ours::Words("--server-name")),
    row("rpc", "-proto", true, Ours::Words("--proto")),
    row("rpc", "-protoset", true, Ours::Words("--protoset")),
    row("rpc", "-import-path", true, Ours::Words("--proto-path")),
    row("rpc", "--import-path", true, Ours::Words("--proto-path")),
    row("rpc", "--import-paths", true, Ours::Words("--proto-path")),
    row("rpc", "-max-time", true, Ours::Words("--timeout")),
    row("rpc", "--max-time", true, Ours::Words("--timeout")),
    row("rpc", "-connect-timeout", true, Ours::Words("--timeout")),
    row("rpc", "--connect-timeout", true, Ours::Words("--timeout")),
    row("rpc", "-rpc-header", true, Ours::Words("-H")),
    row("rpc", "--rpc-header", true, Ours::Words("-H")),
    row("rpc", "-emit-defaults", false, Ours::Words("--emit-defaults")),
    row("rpc", "-vv", false, Ours::Words("-v")),
    row("rpc", "-format", true, Ours::Instead("--json is the machine-readable output")),
    row("rpc", "-msg-template", false, Ours::Instead("bandy rpc info TYPE --example")),
    row("rpc", "-authority", true, Ours::Instead("--server-name is checked in TLS; -H 'authority: NAME' is not sent")),
    row("rpc", "--schema", true, Ours::Words("--proto")),
    row("rpc", "--reflect", false, Ours::Nothing),
    row("rpc", "--call", true, Ours::Words("")),
    row("rpc", "--total", true, Ours::Words("-n")),
    row("rpc", "--connections", true, Ours::Words("-c")),
    row("rpc", "--duration", true, Ours::Words("--for")),
    row("rpc", "-z", true, Ours::Words("--for")),
    row("rpc", "--rps", true, Ours::Words("--rate")),
    row("rpc", "-r", true, Ours::Words("--rate")),
    row("rpc", "--host", true, Ours::Words("-e")),
    row("rpc", "-p", true, Ours::Instead("the port is part of the endpoint: -e HOST:PORT")),
    row("rpc", "--port", true, Ours::Instead("the port is part of the endpoint: -e HOST:PORT")),
    // mosquitto's, kcat's and amqp-tools'.
    row("mq", "-t", true, Ours::Words("")),
    row("mq", "--topic", true, Ours::Words("")),
    row("mq", "-m", true, Ours::Words("")),
    row("mq", "--message", true, Ours::Words("")),
    row("mq", "--body", true, Ours::Words("")),
    row("mq sub", "--queue", true, Ours::Words("-g")),
    row("mq bench", "-c", true, Ours::Instead("--producers N and --consumers N are how many clients there are")),
    row("mq", "--queue", true, Ours::Words("")),
    row("mq", "-b", true, Ours::Instead("a broker is -e amqp://HOST; a body stands after the name: bandy mq send QUEUE BODY")),
    row("mq", "-c", true, Ours::Words("-n")),
    row("mq", "-C", true, Ours::Instead("-n N stops after N messages; --content-type TYPE says what a body is")),
    row("mq", "-E", true, Ours::Instead("-p content_encoding=ENCODING")),
    row("mq", "-W", true, Ours::Words("--timeout")),
    row("mq", "-F", true, Ours::Words("-o")),
    row("mq", "-N", false, Ours::Instead("a template that ends in \\c prints no newline: -o '%v\\c'")),
    row("mq", "-J", false, Ours::Words("--json")),
    row("mq", "-Z", false, Ours::Words("-0")),
    row("mq", "-P", false, Ours::Nothing),
    row("mq", "-l", false, Ours::Nothing),
    row("mq", "--line-buffered", false, Ours::Nothing),
    row("mq", "-s", false, Ours::Instead("--whole sends all of stdin as one message; a broker is -e amqp://HOST")),
    row("mq", "-d", false, Ours::Words("--create")),
    row("mq", "--declare", false, Ours::Words("--create")),
    row("mq", "-A", false, Ours::Instead("messages are acknowledged when they were printed; --requeue puts them back")),
    row("mq", "--no-ack", false, Ours::Instead("messages are acknowledged when they were printed; --requeue puts them back")),
    row("mq", "--qos", true, Ours::Nothing),
    row("mq send", "-f", true, Ours::Instead("--input FILE sends its lines; with --whole, it is one message")),
    row("mq pub", "-f", true, Ours::Instead("--input FILE sends its lines; with --whole, it is one message")),
    row("mq send", "-r", true, Ours::Words("")),
    row("mq send", "--routing-key", true, Ours::Words("")),
    row("mq", "-r", true, Ours::Instead("a routing key is the first word of pub, and -k of bind")),
    row("mq", "--routing-key", true, Ours::Instead("a routing key is the first word of pub, and -k of bind")),
    row("mq", "--url", true, Ours::Words("-e")),
    row("mq", "--server", true, Ours::Words("-e")),
    row("mq", "--host", true, Ours::Words("-e")),
    row("mq", "--port", true, Ours::Instead("the port is part of the endpoint: -e amqp://HOST:PORT")),
    row("mq", "--username", true, Ours::Words("-u")),
    row("mq", "--password", true, Ours::Instead("-u USER:PASSWORD, or --password-file FILE")),
    // kcat's, rpk's, and those of Kafka's own commands.
    row("log", "-t", true, Ours::Words("")),
    row("log", "--topic", true, Ours::Words("")),
    row("log", "-b", true, Ours::Words("-e")),
    row("log", "--brokers", true, Ours::Words("-e")),
    row("log", "--bootstrap-server", true, Ours::Words("-e")),
    row("log", "--bootstrap-servers", true, Ours::Words("-e")),
    row("log", "--broker-list", true, Ours::Words("-e")),
    row("log", "-C", false, Ours::Nothing),
    row("log", "-P", false, Ours::Nothing),
    row("log", "-L", false, Ours::Instead("bandy log ls, and bandy log info TOPIC")),
    row("log", "-G", true, Ours::Words("-g")),
    row("log", "-c", true, Ours::Words("-n")),
    row("log", "--max-messages", true, Ours::Words("-n")),
    row("log", "-X", true, Ours::Instead("a context keeps settings: bandy context add NAME --kafka-config FILE; -u USER logs in, --cacert FILE trusts")),
    row("log", "-F", true, Ours::Instead("bandy context add NAME --kafka-config FILE reads kcat's configuration; -o TEMPLATE is a format")),
    row("log produce", "-f", true, Ours::Words("--input")),
    row("log", "-f", true, Ours::Words("-o")),
    row("log", "-J", false, Ours::Words("--json")),
    row("log", "-l", false, Ours::Nothing),
    row("log", "--consumer.config", true, Ours::Instead("bandy context add NAME --kafka-config FILE")),
    row("log", "--command-config", true, Ours::Instead("bandy context add NAME --kafka-config FILE")),
    row("log", "--property", true, Ours::Instead("keys and headers are part of a format: -o '%k %v %h', or -K : between key and value")),
    // serf's.
    row("gossip", "-rpc-addr", true, Ours::Instead("-e serf://HOST:PORT")),
    row("gossip", "-rpc-auth", true, Ours::Instead("-u agent:KEY, or --token-file FILE")),
    row("gossip", "-format", true, Ours::Instead("--json is the machine-readable output")),
    row("gossip", "-tag", true, Ours::Words("--tag")),
    row("gossip", "-status", true, Ours::Words("--status")),
    row("gossip", "-detailed", false, Ours::Nothing),
    row("gossip", "-bind", true, Ours::Words("-l")),
    row("gossip", "-join", true, Ours::Words("")),
    row("gossip", "-node", true, Ours::Words("--name")),
    row("gossip", "-profile", true, Ours::Words("--profile")),
    row("gossip", "-encrypt", true, Ours::Instead("--key-file FILE: bandy gossip keygen > FILE")),
    row("gossip", "-log-level", true, Ours::Nothing),
    row("gossip", "-coalesce", false, Ours::Words("--coalesce")),
    row("gossip", "--node", true, Ours::Instead("-e local:NAME asks the node of that name")),
    row("mq", "--vhost", true, Ours::Instead("the virtual host is part of the endpoint: -e amqp://HOST/VHOST, with %2F for a slash")),
];

fn pillar(words: &[OsString]) -> Option<&str> {
    words.get(1)?.to_str()
}

fn find(pillar: &str, words: &[OsString], word: &str) -> Option<&'static Foreign> {
    let verb = words.get(2).and_then(|verb| verb.to_str());
    let flag = word.split_once('=').map_or(word, |(flag, _)| flag);
    TABLE.iter().find(|row| {
        let (of, only) = row.place();
        of == pillar && (only.is_none() || only == verb) && row.flag == flag
    })
}

/// A word that clap would take for a heap of short flags, such as `-plaintext` or `-emit-defaults`
/// (an endpoint `mit-defaults`), and the tip for it.
pub fn single_dash(words: &[OsString]) -> Option<(String, String)> {
    let pillar = pillar(words)?;
    let before = words.iter().skip(2).map_while(|word| word.to_str().filter(|word| *word != "--"));
    let long = |word: &&str| word.len() > 3 && word.starts_with('-') && !word.starts_with("--");
    let (word, row) = before.filter(long).find_map(|word| Some((word, find(pillar, words, word)?)))?;
    Some((word.to_owned(), tip_of(row, words)))
}

/// The tip for a flag that clap does not know.
pub fn tip(words: &[OsString], command: &Command, flag: &str) -> Option<String> {
    let pillar = pillar(words)?;
    let row = find(pillar, words, flag)?;
    let tip = tip_of(row, words);
    // Not where it would name a flag that this very command has not got.
    let known = |word: &str| command.get_arguments().any(|arg| arg.get_long() == word.strip_prefix("--"));
    match row.ours {
        Ours::Words(ours) if ours.starts_with("--") && !known(ours) => None,
        _ => Some(tip),
    }
}

/// The whole command line in our words, if it can be parsed; what to do instead if not.
fn tip_of(row: &Foreign, words: &[OsString]) -> String {
    if let Ours::Instead(text) = row.ours {
        return text.to_owned();
    }
    let ours = rewrite(row.place().0, words);
    let parsed =
        Cli::command().try_get_matches_from(&ours).and_then(|matches| Cli::from_arg_matches(&matches));
    match (parsed, row.ours) {
        (Ok(_), _) => {
            let ours = ours.iter().skip(1).map(|word| word.to_string_lossy());
            format!("bandy {}", shell_words::join(ours))
        }
        (Err(_), Ours::Words(ours)) if !ours.is_empty() => format!("here it is {ours}"),
        (Err(_), _) => "leave it out".to_owned(),
    }
}

/// Every word of another tool replaced; an address that stands before the method becomes `-e`.
fn rewrite(pillar: &str, words: &[OsString]) -> Vec<OsString> {
    let mut ours: Vec<OsString> = Vec::new();
    let mut addressed = words.iter().any(|word| word == "-e" || word == "--endpoint");
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(text) = word.to_str() else {
            ours.push(word.clone());
            continue;
        };
        if let Some(row) = find(pillar, words, text) {
            let value = match text.split_once('=') {
                Some((_, value)) => Some(OsString::from(value)),
                None if row.takes_value => rest.next().cloned(),
                None => None,
            };
            if let Ours::Words(flag) = row.ours {
                ours.extend(flag.split_whitespace().map(OsString::from));
                ours.extend(value.filter(|_| row.takes_value));
            }
        } else if ours.len() > 2 && !addressed && is_address(text) && !follows_flag(&ours) {
            addressed = true;
            ours.push("-e".into());
            ours.push(word.clone());
        } else {
            ours.push(word.clone());
        }
    }
    ours
}

fn follows_flag(ours: &[OsString]) -> bool {
    let last = ours.last().and_then(|word| word.to_str()).unwrap_or("");
    last.starts_with('-') && last.len() == 2
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let words: Vec<OsString> =
            shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
        shell_words::join(rewrite("rpc", &words).iter().map(|word| word.to_string_lossy()))
    }

    #[test]
    fn a_grpcurl_line_becomes_ours() {
        assert_eq!(
            rewritten("bandy rpc call -plaintext -max-time=5 -d '{\"a\": 1}' localhost:50051 a.B/C"),
            "bandy rpc call --timeout 5 -d '{\"a\": 1}' -e localhost:50051 a.B/C"
        );
        assert_eq!(
            rewritten("bandy rpc ls -e :1 -key k.pem -cert c.pem"),
            "bandy rpc ls -e :1 --cert-key k.pem --cert c.pem"
        );
        assert_eq!(rewritten("bandy rpc call -H a:1 x:2 y"), "bandy rpc call -H a:1 -e x:2 y");
    }

    #[test]
    fn a_ghz_line_becomes_ours() {
        assert_eq!(
            rewritten("bandy rpc bench --call a.B/C --total 100 -z 5s --host h:1"),
            "bandy rpc bench a.B/C -n 100 --for 5s -e h:1"
        );
    }

    #[test]
    fn no_row_hides_a_flag_of_ours() {
        let mut root = Cli::command();
        root.build();
        for row in TABLE {
            let pillar = root.find_subcommand(row.place().0).expect("a row is for a command that exists");
            for verb in pillar
                .get_subcommands()
                .filter(|verb| row.place().1.is_none_or(|only| only == verb.get_name()))
            {
                let ours = verb.get_arguments().any(|arg| match row.flag.strip_prefix("--") {
                    Some(long) => arg.get_long() == Some(long),
                    None => row.flag.len() == 2 && arg.get_short() == row.flag.chars().nth(1),
                });
                let single_dash = !row.flag.starts_with("--") && row.flag.len() > 3;
                assert!(!(ours && single_dash), "{} of {}", row.flag, verb.get_name());
            }
        }
    }
}
