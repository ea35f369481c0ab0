//! Flags that fingers know from other tools, and the command line that does the same here.

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches};

use super::{order, verbs, word};
use crate::cli::Cli;

/// Where RabbitMQ's management API is by default.
const RABBITMQ_MANAGEMENT_PORT: &str = "15672";

/// What becomes of a foreign flag.
#[derive(Clone, Copy, Debug)]
enum Ours {
    /// It is what happens anyway.
    Nothing,
    /// Another name for one of our flags, or several words.
    Words(&'static str),
    /// Its value stands behind all other words.
    Last,
    /// Its value follows a flag of ours, behind what it begins with here: `@` of a time, the scheme of an address.
    Prefixed(&'static str, &'static str),
    /// Its value is a tag that goes: here one that is set to nothing.
    Unset,
    /// The port of the address in the line.
    Port,
    /// The password of the user in the line.
    Password,
    /// A name of a format: `json` is one of ours, and text comes anyway.
    Format,
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
    row("rpc", "-p", true, Ours::Port),
    row("rpc", "--port", true, Ours::Port),
    // mosquitto's, kcat's and amqp-tools'.
    row("mq", "-t", true, Ours::Words("")),
    row("mq", "--topic", true, Ours::Words("")),
    row("mq", "-m", true, Ours::Last),
    row("mq", "--message", true, Ours::Last),
    row("mq", "--body", true, Ours::Last),
    row("mq sub", "--queue", true, Ours::Words("-g")),
    row("mq bench", "-c", true, Ours::Instead("--producers N and --consumers N are how many clients there are")),
    row("mq", "--queue", true, Ours::Words("")),
    row("mq", "--payload", true, Ours::Last),
    row("mq send", "-b", true, Ours::Last),
    row("mq pub", "-b", true, Ours::Last),
    row("mq bind", "--source", true, Ours::Words("")),
    row("mq bind", "--destination", true, Ours::Last),
    row("mq sub", "-C", true, Ours::Words("-n")),
    row("mq send", "-C", true, Ours::Words("--content-type")),
    row("mq pub", "-C", true, Ours::Words("--content-type")),
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
    row("mq", "--qos", true, Ours::Instead("a message is acknowledged when it was printed")),
    row("mq send", "-f", true, Ours::Instead("--input FILE sends its lines; with --whole, it is one message")),
    row("mq pub", "-f", true, Ours::Instead("--input FILE sends its lines; with --whole, it is one message")),
    row("mq send", "-r", true, Ours::Words("")),
    row("mq send", "--routing-key", true, Ours::Words("")),
    row("mq pub", "-r", true, Ours::Words("")),
    row("mq pub", "--routing-key", true, Ours::Words("")),
    row("mq", "-r", true, Ours::Instead("a routing key is the first word of pub, and -k of bind")),
    row("mq", "--routing-key", true, Ours::Instead("a routing key is the first word of pub, and -k of bind")),
    row("mq", "--url", true, Ours::Words("-e")),
    row("mq", "--server", true, Ours::Words("-e")),
    row("mq", "--host", true, Ours::Words("-e")),
    row("mq", "--port", true, Ours::Port),
    row("mq", "--username", true, Ours::Words("-u")),
    row("mq", "--password", true, Ours::Password),
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
    row("log", "-G", true, Ours::Words("-f -g")),
    row("log consume", "-s", true, Ours::Instead("-o '%k{unpack[>i]} %v{unpack[<q$]}' reads numbers; --registry URL reads Avro")),
    row("log", "-Q", false, Ours::Instead("bandy log info TOPIC --at @TIME")),
    row("log", "-c", true, Ours::Words("-n")),
    row("log", "--max-messages", true, Ours::Words("-n")),
    row("log", "-X", true, Ours::Instead("a context keeps settings: bandy context add NAME --kafka-config FILE; -u USER logs in, --cacert FILE trusts")),
    row("log", "-F", true, Ours::Instead("bandy context add NAME --kafka-config FILE reads kcat's configuration; -o TEMPLATE is a format")),
    row("log produce", "-f", true, Ours::Words("--input")),
    row("log", "-f", true, Ours::Words("-o")),
    row("log", "-J", false, Ours::Words("--json")),
    row("log", "-l", false, Ours::Nothing),
    row("log", "--num", true, Ours::Words("-n")),
    row("log produce", "-Z", false, Ours::Words("--tombstones")),
    row("log consume", "-Z", false, Ours::Instead("--json tells an empty value from none")),
    row("log", "--describe", false, Ours::Nothing),
    row("log", "--reset-offsets", false, Ours::Nothing),
    row("log", "--execute", false, Ours::Words("-y")),
    row("log", "--all-topics", false, Ours::Nothing),
    row("log", "--to-datetime", true, Ours::Prefixed("--to", "@")),
    row("log", "--to-earliest", false, Ours::Words("--to start")),
    row("log", "--to-latest", false, Ours::Words("--to end")),
    row("log", "--to-offset", true, Ours::Words("--to")),
    row("log", "--shift-by", true, Ours::Words("--by")),
    row("log", "--replication-factor", true, Ours::Words("--replicas")),
    row("log", "--consumer.config", true, Ours::Instead("bandy context add NAME --kafka-config FILE")),
    row("log", "--command-config", true, Ours::Instead("bandy context add NAME --kafka-config FILE")),
    row("log", "--property", true, Ours::Instead("keys and headers are part of a format: -o '%k %v %h', or -K : between key and value")),
    // serf's.
    row("gossip", "-rpc-addr", true, Ours::Prefixed("-e", "serf://")),
    row("gossip keys", "-list", false, Ours::Words("list")),
    row("gossip keys", "-install", true, Ours::Words("install")),
    row("gossip keys", "-use", true, Ours::Words("use")),
    row("gossip keys", "-remove", true, Ours::Words("remove")),
    row("gossip tags", "-set", true, Ours::Words("")),
    row("gossip tags", "-delete", true, Ours::Unset),
    row("gossip", "-rpc-auth", true, Ours::Instead("-u agent:KEY, or --token-file FILE")),
    row("gossip", "-format", true, Ours::Format),
    row("gossip", "-tag", true, Ours::Words("--tag")),
    row("gossip", "-status", true, Ours::Words("--status")),
    row("gossip", "-detailed", false, Ours::Nothing),
    row("gossip", "-bind", true, Ours::Words("-l")),
    row("gossip", "-join", true, Ours::Words("")),
    row("gossip query", "-node", true, Ours::Words("--node")),
    row("gossip event", "-node", true, Ours::Words("--node")),
    row("gossip query", "-timeout", true, Ours::Words("--wait")),
    row("gossip query", "-no-ack", false, Ours::Words("--no-ack")),
    row("gossip query", "-relay-factor", true, Ours::Words("--relay-factor")),
    row("gossip", "-node", true, Ours::Words("--name")),
    row("gossip", "-profile", true, Ours::Words("--profile")),
    row("gossip", "-encrypt", true, Ours::Instead("--key-file FILE: bandy gossip keygen > FILE")),
    row("gossip", "-log-level", true, Ours::Instead("-v says more, -q less")),
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

/// A line in which clap would take a word of another tool for one of ours: what is wrong with it, and the tip for it. That
/// is `-plaintext` or `-emit-defaults` as a heap of short flags (an endpoint `mit-defaults`), and what follows kcat's `-f`.
pub fn misread(words: &[OsString]) -> Option<(String, String)> {
    if let Some(told) = order::address_for_name(words) {
        return Some(told);
    }
    let pillar = pillar(words)?;
    let verb = words.get(2).and_then(|word| word.to_str());
    if pillar == "log" && matches!(verb, Some("consume" | "tail")) {
        let is_format = |pair: &&[OsString]| pair[0] == "-f" && pair[1].to_string_lossy().contains('%');
        let before: Vec<OsString> = words.iter().take_while(|word| *word != "--").cloned().collect();
        if let Some(pair) = before.windows(2).find(is_format) {
            let format = pair[1].to_string_lossy();
            let line = rewrite(pillar, words).line();
            let line = line.unwrap_or_else(|| {
                format!("bandy log {} TOPIC -o {}", verb.unwrap_or_default(), word(&format))
            });
            return Some((format!("'{format}' is a format, and -f is to follow"), line));
        }
    }
    let before = words.iter().skip(2).map_while(|word| word.to_str().filter(|word| *word != "--"));
    let long = |word: &&str| word.len() > 3 && word.starts_with('-') && !word.starts_with("--");
    let (word, row) = before.filter(long).find_map(|word| Some((word, find(pillar, words, word)?)))?;
    Some((format!("unexpected argument '{word}'"), tip_of(row, words)))
}

/// The whole line in our words, where its verb is another tool's and a verb of ours does the same.
pub fn line_of_verb(words: &[OsString]) -> Option<String> {
    rewrite(pillar(words)?, words).line()
}

/// The whole line in our words with its verb in front, where that stands behind other words, or is missing.
pub fn line_in_order(words: &[OsString]) -> Option<String> {
    let words = order::verb_first(words)?;
    let rewritten = rewrite(pillar(&words)?, &words);
    Rewritten { changed: true, ..rewritten }.line()
}

/// True for a flag of another tool that takes no value.
pub fn is_switch(pillar: &str, flag: &str) -> bool {
    find(pillar, &[], flag).is_some_and(|row| !row.takes_value)
}

/// kcat's `-Q -b HOST -t TOPIC:PARTITION:TIME`, which asks for offsets by time in milliseconds.
fn kcat_query(words: &[OsString]) -> Option<String> {
    words.iter().find(|word| *word == "-Q")?;
    let value = |flags: &[&str]| {
        let pair = words.windows(2).find(|pair| flags.iter().any(|flag| pair[0] == *flag))?;
        pair[1].to_str()
    };
    let (rest, time) = value(&["-t"])?.rsplit_once(':')?;
    let (topic, _) = rest.rsplit_once(':')?;
    let at = time.parse::<i64>().ok()?;
    let broker =
        value(&["-b", "-e", "--endpoint"]).map_or_else(String::new, |host| format!("-e {} ", word(host)));
    Some(format!("bandy log info {broker}{} --at @{at}", word(topic)))
}

/// The tip for an argument that clap does not know.
pub fn tip(words: &[OsString], command: &Command, flag: &str) -> Option<String> {
    let pillar = pillar(words)?;
    if pillar == "log"
        && let Some(line) = kcat_query(words)
    {
        return Some(line);
    }
    if let Some(line) = line_in_order(words) {
        return Some(line);
    }
    let Some(row) = find(pillar, words, flag) else {
        // It may be another word that is theirs, such as the command behind a queue of amqp-consume's.
        return rewrite(pillar, words).line().filter(|_| !flag.starts_with("--"));
    };
    let tip = tip_of(row, words);
    // Not where it would name a flag that this very command has not got.
    let known = |word: &str| command.get_arguments().any(|arg| arg.get_long() == word.strip_prefix("--"));
    match row.ours {
        Ours::Words(ours) => {
            let name = ours.split(' ').next().unwrap_or(ours);
            (!name.starts_with("--") || known(name)).then_some(tip)
        }
        _ => Some(tip),
    }
}

/// The whole command line in our words, if it can be parsed; what to do instead if not.
fn tip_of(row: &Foreign, words: &[OsString]) -> String {
    if let Some(line) = line_in_order(words).or_else(|| rewrite(row.place().0, words).line()) {
        return line;
    }
    match row.ours {
        Ours::Instead(text) => text.to_owned(),
        Ours::Words(ours) if !ours.is_empty() => format!("here it is {ours}"),
        Ours::Prefixed(ours, prefix) => format!("here it is {ours} {prefix}…"),
        Ours::Unset => "bandy gossip tag NAME=".to_owned(),
        Ours::Last | Ours::Words(_) => "its value is a word without a flag".to_owned(),
        Ours::Port => "the port is part of the endpoint: -e HOST:PORT".to_owned(),
        Ours::Password => "-u USER:PASSWORD, or --password-file FILE".to_owned(),
        Ours::Format => "--json is the machine-readable output".to_owned(),
        Ours::Nothing => "leave it out".to_owned(),
    }
}

/// A line of another tool in our words.
#[derive(Debug, Default)]
struct Rewritten {
    words: Vec<OsString>,
    last: Vec<OsString>,
    port: Option<String>,
    password: Option<String>,
    /// What became of words that could not be translated.
    notes: Vec<&'static str>,
    changed: bool,
}

impl Rewritten {
    /// As it is typed, with what is missing behind it; none if nothing is left of it, or it is no command line.
    fn line(self) -> Option<String> {
        let parsed = Cli::command()
            .try_get_matches_from(&self.words)
            .and_then(|matches| Cli::from_arg_matches(&matches));
        // A line that says no more than the note is the note.
        if parsed.is_err() || !self.changed {
            return None;
        }
        let words = self.words.iter().skip(1).map(|given| word(&given.to_string_lossy()));
        let line = words.collect::<Vec<_>>().join(" ");
        let notes =
            if self.notes.is_empty() { String::new() } else { format!("    {}", self.notes.join("; ")) };
        Some(format!("bandy {line}{notes}"))
    }

    fn take(&mut self, ours: Ours, takes_value: bool, value: Option<OsString>) {
        let text = || value.as_ref().map(|value| value.to_string_lossy().into_owned());
        match ours {
            // Go's flags: -coalesce=false is what happens anyway.
            _ if !takes_value && text().as_deref() == Some("false") => self.changed = true,
            Ours::Instead(note) => {
                self.notes.push(note);
                return;
            }
            Ours::Nothing => {}
            Ours::Words(flag) => {
                self.words.extend(flag.split_whitespace().map(OsString::from));
                self.words.extend(value.filter(|_| takes_value));
            }
            Ours::Prefixed(flag, prefix) => {
                self.words.push(flag.into());
                self.words.extend(text().map(|value| OsString::from(format!("{prefix}{value}"))));
            }
            Ours::Unset => self.words.extend(text().map(|name| OsString::from(format!("{name}=")))),
            Ours::Last => self.last.extend(value),
            Ours::Port => self.port = text(),
            Ours::Password => self.password = text(),
            Ours::Format if text().as_deref() == Some("json") => self.words.push("--json".into()),
            Ours::Format => {}
        }
        self.changed = true;
    }

    /// Ports to their addresses, passwords to their users, bodies to the end.
    fn put_together(mut self) -> Self {
        // That of RabbitMQ's management API is looked for there anyway; an endpoint is where AMQP is spoken.
        if let Some(port) = self.port.take().filter(|port| port != RABBITMQ_MANAGEMENT_PORT) {
            match self.value_of(&["-e", "--endpoint"]) {
                Some(host) => host.push(format!(":{port}")),
                None => self.words.extend(["-e".into(), format!(":{port}").into()]),
            }
        }
        if let Some(password) = self.password.take() {
            match self.value_of(&["-u", "--user"]) {
                Some(user) => user.push(format!(":{password}")),
                None => self.notes.push("-u USER:PASSWORD, or --password-file FILE"),
            }
        }
        self.words.append(&mut self.last);
        self
    }

    fn value_of(&mut self, flags: &[&str]) -> Option<&mut OsString> {
        let at = self.words.iter().position(|word| flags.iter().any(|flag| word == flag))?;
        self.words.get_mut(at + 1)
    }
}

/// What stands in the line tells which tool's letters they are.
struct Dialect {
    /// kcat has a mode, or a broker, in every line.
    kcat: bool,
    /// amqp-tools have a URL where a user stands here.
    amqp: bool,
}

impl Dialect {
    fn of(pillar: &str, words: &[OsString]) -> Self {
        let url = |word: &OsString| word.to_str().is_some_and(|word| word.contains("://"));
        Self {
            kcat: pillar == "log"
                && words.iter().any(|word| ["-b", "-C", "-P", "-G"].iter().any(|flag| word == flag)),
            amqp: pillar == "mq" && words.windows(2).any(|pair| pair[0] == "-u" && url(&pair[1])),
        }
    }

    /// A letter that means something else there than here, and whether it takes a value.
    fn row(&self, pillar: &str, verb: &str, text: &str, next: Option<&str>) -> Option<(Ours, bool)> {
        let names_a_file = next.is_some_and(|next| !next.starts_with('-'));
        Some(match (text, verb) {
            ("-e", _) if self.kcat => (Ours::Nothing, false),
            ("-o", "consume") if self.kcat && next.is_some_and(is_place) => match next? {
                "beginning" => (Ours::Words("--from start"), false),
                time if time.starts_with("s@") => (Ours::Words("--from"), true),
                time if time.starts_with("e@") => (Ours::Words("--to"), true),
                _ => (Ours::Words("--from"), true),
            },
            // Ours follows.
            ("-f", "consume") if pillar == "log" && !next.is_some_and(|next| next.contains('%')) => {
                return None;
            }
            ("-l", "produce" | "send" | "pub") if names_a_file => (Ours::Words("--input"), true),
            ("-u", _) if self.amqp => (Ours::Words("-e"), true),
            ("-q", "recv") if self.amqp => (Ours::Words(""), true),
            _ => return None,
        })
    }
}

/// Where kcat begins, behind its -o.
fn is_place(text: &str) -> bool {
    matches!(text, "beginning" | "end")
        || text.starts_with("s@")
        || text.starts_with("e@")
        || text.parse::<i64>().is_ok()
}

/// Every word of another tool replaced; an address that stands before the method becomes `-e`.
fn rewrite(pillar: &str, words: &[OsString]) -> Rewritten {
    let mut ours = Rewritten::default();
    let mut addressed = words.iter().any(|word| word == "-e" || word == "--endpoint");
    let dialect = Dialect::of(pillar, words);
    let verb = words.get(2).and_then(|word| word.to_str()).unwrap_or_default();
    let (mut named, mut rest) = (false, words.iter().peekable());
    let (mut at, verb_here) = (0, verb_of(pillar, verb, words));
    while let Some(word) = rest.next() {
        at += 1;
        if at == 3 && verb_here != verb {
            ours.words.push(verb_here.into());
            ours.changed = true;
            continue;
        }
        let Some(text) = word.to_str() else {
            ours.words.push(word.clone());
            continue;
        };
        if text == "--" {
            ours.words.push(word.clone());
            ours.words.extend(rest.by_ref().cloned());
            break;
        }
        let next = rest.peek().and_then(|word| word.to_str());
        let letter = dialect.row(pillar, verb, text, next);
        let ours_follows = text == "-f"
            && pillar == "log"
            && verb == "consume"
            && letter.is_none()
            && !next.is_some_and(|next| next.contains('%'));
        let row = find(pillar, words, text).filter(|_| !ours_follows).map(|row| (row.ours, row.takes_value));
        if let Some((becomes, takes_value)) = letter.or(row) {
            let mut value = match text.split_once('=') {
                Some((_, value)) => Some(OsString::from(value)),
                None if takes_value => rest.next().cloned(),
                None => None,
            };
            if letter.is_some() && !takes_value && text == "-o" {
                rest.next();
            }
            if text == "-o"
                && let Some(time) = value.as_ref().and_then(|value| value.to_str())
            {
                value =
                    Some(time.trim_start_matches(['s', 'e']).into()).filter(|_| time.contains('@')).or(value);
            }
            named |= dialect.amqp && text == "-q";
            ours.take(becomes, takes_value, value);
        } else if named && dialect.amqp && verb == "recv" && !text.starts_with('-') {
            // What amqp-consume runs for each message.
            ours.words.extend(["-f".into(), "--".into(), word.clone()]);
            ours.words.extend(rest.by_ref().cloned());
        } else if ours.words.len() > 2 && !addressed && is_address(text) && !follows_flag(&ours.words) {
            addressed = true;
            ours.words.push("-e".into());
            ours.words.push(word.clone());
        } else {
            ours.words.push(word.clone());
        }
    }
    ours.put_together()
}

/// The verb of ours that does what theirs does.
fn verb_of<'a>(pillar: &str, verb: &'a str, words: &[OsString]) -> &'a str {
    let is_keyring =
        |word: &OsString| ["-list", "-install", "-use", "-remove"].iter().any(|flag| word == flag);
    if pillar == "gossip" && verb == "keys" && words.iter().any(is_keyring) {
        return "keyring";
    }
    verbs::same(pillar, verb).unwrap_or(verb)
}

fn follows_flag(ours: &[OsString]) -> bool {
    let last = ours.last().and_then(|word| word.to_str()).unwrap_or("");
    last.starts_with('-') && last.len() == 2
}

/// `HOST:PORT`, or `:PORT`.
pub fn is_address(text: &str) -> bool {
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
        shell_words::join(
            rewrite(words[1].to_str().unwrap(), &words).words.iter().map(|word| word.to_string_lossy()),
        )
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

    #[track_caller]
    fn becomes(theirs: &str, ours: &str) {
        let words: Vec<OsString> =
            shell_words::split(theirs).unwrap().into_iter().map(OsString::from).collect();
        let line = rewrite(words[1].to_str().unwrap(), &words).line();
        assert_eq!(line.as_deref(), Some(ours), "{theirs}");
    }

    #[test]
    fn no_value_of_a_queues_client_is_lost() {
        becomes("bandy mq send --url amqp://h -r jobs -b hello", "bandy mq send -e amqp://h jobs hello");
        becomes("bandy mq send -b hello -r jobs", "bandy mq send jobs hello");
        becomes("bandy mq send -u amqp://h -r jobs -b hello", "bandy mq send -e amqp://h jobs hello");
        becomes("bandy mq recv -u amqp://h -q jobs ./work", "bandy mq recv -e amqp://h jobs -f -- ./work");
        becomes("bandy mq sub orders. -C 1", "bandy mq sub orders. -n 1");
        becomes("bandy mq send jobs -l file", "bandy mq send jobs --input file");
        becomes("bandy mq send jobs --payload hi", "bandy mq send jobs hi");
        becomes("bandy mq bind --source a --destination b", "bandy mq bind a b");
        becomes("bandy mq ls --host h --port 15672 --username u --password p", "bandy mq ls -e h -u u:p");
        becomes("bandy mq send --host h --port 5673 jobs hi", "bandy mq send -e h:5673 jobs hi");
        becomes(
            "bandy mq sub orders. -t a --qos 1",
            "bandy mq sub orders. a    a message is acknowledged when it was printed",
        );
    }

    #[test]
    fn no_value_of_a_logs_client_is_lost() {
        becomes("bandy log produce orders -l file", "bandy log produce orders --input file");
        becomes("bandy log consume -C -b h -t orders -o -10 -e", "bandy log consume -e h orders --from -10");
        becomes(
            "bandy log consume -b h -t t -o s@1763884814123",
            "bandy log consume -e h t --from @1763884814123",
        );
        becomes("bandy log consume t -C -f '%k'", "bandy log consume t -o '%k'");
        becomes("bandy log info --describe --group g", "bandy log info --group g");
        becomes(
            "bandy log seek --reset-offsets --group g t --to-datetime 2026-11-23T07:00",
            "bandy log seek --group g t --to @2026-11-23T07:00",
        );
        becomes("bandy log seek -g g t --to-earliest --execute", "bandy log seek -g g t --to start -y");
        becomes("bandy log create t --replication-factor 3", "bandy log create t --replicas 3");
        becomes("bandy log consume t --num 5", "bandy log consume t -n 5");
        becomes("bandy log consume -G g -b h orders", "bandy log consume -f -g g -e h orders");
    }

    #[test]
    fn no_value_of_serfs_is_lost() {
        becomes("bandy gossip event -coalesce=false deploy", "bandy gossip event deploy");
        becomes("bandy gossip event -coalesce deploy", "bandy gossip event --coalesce deploy");
        becomes("bandy gossip keys -list", "bandy gossip keyring list");
        becomes("bandy gossip keys -install k -rpc-addr=h:1", "bandy gossip keyring install k -e serf://h:1");
        becomes("bandy gossip tags -set role=web -delete zone", "bandy gossip tag role=web zone=");
        becomes("bandy gossip agent -node n1 -tag role=web", "bandy gossip join --name n1 --tag role=web");
        becomes("bandy gossip query -node n1 load", "bandy gossip query --node n1 load");
        becomes("bandy gossip query -timeout 3s -no-ack load", "bandy gossip query --wait 3s --no-ack load");
        becomes(
            "bandy gossip members -status=alive -format json",
            "bandy gossip members --status alive --json",
        );
    }

    #[test]
    fn a_format_behind_f_is_no_topic() {
        let told = |line: &str| {
            let words: Vec<OsString> =
                shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
            misread(&words).map(|(_, tip)| tip)
        };
        let tip = told("bandy log consume orders -f '%k %v'");
        assert_eq!(tip.as_deref(), Some("bandy log consume orders -o '%k %v'"));
        assert_eq!(told("bandy log consume -f %k").as_deref(), Some("bandy log consume TOPIC -o '%k'"));
        assert_eq!(told("bandy log consume orders -f -o %k"), None);
        assert_eq!(told("bandy log consume orders -f -- printf %s"), None);
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
