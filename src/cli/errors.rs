//! The words of errors and their tips: clap's and ours look alike.

pub mod foreign;
mod order;
mod verbs;

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use serde::Serialize;

use super::Cli;
use super::app::{App, GlobalArgs};
use super::exit::{Exit, Failure, within};
use super::hyphens;
pub use crate::spelling::near_miss;

/// A place before a colon: `local:` has one of its own.
pub fn before_colon(url: &str) -> &str {
    url.strip_suffix(':').unwrap_or(url)
}

/// An error in one line: its own words, and those of its causes that it does not quote itself.
pub fn one_line(error: &anyhow::Error) -> String {
    // What is said about a place follows behind a colon, and this place has one of its own.
    let mut text = error.to_string().replace("local:: ", "local: ");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    // A name that somebody chose may have a line's end in it.
    without_number(&text).replace('\n', "\\n")
}

/// A text without the numbers that the system's words for errors end with: `(os error 2)` tells nobody more than the
/// words before it.
pub fn without_number(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        kept.push_str(before);
        rest = match after.split_once(')') {
            Some((number, later)) if number.bytes().all(|byte| byte.is_ascii_digit()) => later,
            _ => {
                kept.push_str(" (os error ");
                after
            }
        };
    }
    kept + rest
}

/// An error as `--json` has it.
#[derive(Serialize)]
pub struct JsonError<'a> {
    error: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    exit: u8,
}

impl<'a> JsonError<'a> {
    /// The view of a failure.
    pub fn new(exit: Exit, message: &'a str, tips: &[String]) -> Self {
        let hint = (!tips.is_empty()).then(|| tips.join("\n"));
        Self { error: exit.word(), message, hint, exit: exit.number() }
    }
}

/// Answers what clap could not turn into a command: help, version, or an error with a tip.
pub fn answer(error: &clap::Error, words: &[OsString]) -> Exit {
    let app = App::bare(words);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => app
            .finish(app.printer.own(&styled(&error.render(), &app)).map(|()| Exit::Done).map_err(Into::into)),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            app.printer.say_own(&styled(&error.render(), &app));
            Exit::Usage
        }
        _ => app.report(&usage(error, words).into()),
    }
}

fn styled(text: &StyledStr, app: &App) -> String {
    if app.printer.look().out.colour { text.ansi().to_string() } else { text.to_string() }
}

/// An error of clap's as one of ours.
fn usage(error: &clap::Error, words: &[OsString]) -> Failure {
    let mut root = Cli::command();
    root.build();
    let command = command_of(&root, words);
    if let Some(failure) = explained(error, command, words) {
        return failure;
    }
    let mut text = error.render().to_string();
    // Paragraphs are told by their lines, and what was given may have some of its own.
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidValue)
        && given.contains(['\r', '\n'])
    {
        text = text.replace(given.as_str(), &given.replace('\r', "\\r").replace('\n', "\\n"));
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // The first paragraph says what is wrong; usage and the pointer to --help follow it.
    let message: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let mut failure = Failure::new(Exit::Usage, message.join(" "));
    failure.tips = tips.map(|tip| tip.replace("a similar value exists: ", "did you mean ")).collect();
    if failure.tips.is_empty() {
        let name = command.get_bin_name().unwrap_or("bandy");
        failure = match hyphens::line(words, None) {
            Some(line) => hyphened(failure, &line, name),
            None => failure.tip(format!("{name} --help")),
        };
    }
    failure
}

/// What helps with a word that was read as flags, and may be a name or a value: the line in which it is.
fn hyphened(failure: Failure, line: &str, name: &str) -> Failure {
    failure.tip(format!("{line}    if it is a name")).tip(format!("{name} --help    shows the flags"))
}

/// The errors that clap explains too little.
fn explained(error: &clap::Error, command: &Command, words: &[OsString]) -> Option<Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let name = command.get_bin_name().unwrap_or("bandy");
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let given = context(ContextKind::InvalidSubcommand)?;
            let failure = Failure::new(Exit::Usage, format!("'{given}' is not a command of {name}"));
            if let Some(line) = foreign::line_in_order(words) {
                return Some(failure.tip(line));
            }
            if let Some(pillar) =
                command.get_subcommands().find(|pillar| pillar.find_subcommand(given).is_some())
            {
                return Some(failure.tip(format!("did you mean '{name} {} {given}'?", pillar.get_name())));
            }
            if let Some(ours) = verbs::ours(command.get_name(), given) {
                let line = verbs::same(command.get_name(), given).and_then(|_| foreign::line_of_verb(words));
                return Some(failure.tip(line.unwrap_or_else(|| ours.to_owned())));
            }
            let known: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
            let names = known
                .iter()
                .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_all_aliases()));
            Some(match near_miss(given, names) {
                Some(near) => failure.tip(format!("did you mean '{name} {near}'?")),
                None => failure.tip(format!("{name} --help")),
            })
        }
        ErrorKind::UnknownArgument => {
            let given = context(ContextKind::InvalidArg)?;
            let flag = given.split(['=', ' ']).next().unwrap_or(given);
            let meant = hyphens::line(words, Some(flag));
            // Several letters behind one hyphen are not many flags of another tool.
            if let Some(line) = meant.as_ref().filter(|_| !words.iter().any(|word| word == flag)) {
                let failure = Failure::new(Exit::Usage, format!("{name} has no flag '{flag}'"));
                return Some(hyphened(failure, line, name));
            }
            let failure = Failure::new(Exit::Usage, format!("unexpected argument '{given}'"));
            if let Some(tip) = foreign::tip(words, command, flag) {
                return Some(failure.tip(tip));
            }
            let longs: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
            if let Some(near) =
                flag.strip_prefix("--").and_then(|flag| near_miss(flag, longs.iter().copied()))
            {
                return Some(failure.tip(format!("did you mean '--{near}'?")));
            }
            let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            Some(if flag.strip_prefix('-').is_some_and(is_number) {
                failure.tip("no number, size or duration is less than 0 here")
            } else if let Some(line) = meant {
                hyphened(failure, &line, name)
            } else if flag.starts_with('-') {
                failure.tip(format!(
                    "{name} --help shows its flags; a value that begins with '-' stands after '--'"
                ))
            } else {
                failure.tip(format!("{name} --help"))
            })
        }
        ErrorKind::InvalidValue => {
            let given = context(ContextKind::InvalidValue).filter(|given| !given.is_empty())?;
            let argument = context(ContextKind::InvalidArg)?;
            let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) else { return None };
            let failure = Failure::new(Exit::Usage, format!("'{given}' is not a value of {argument}"));
            let all = format!("one of {}", valid.join(", "));
            Some(match near_miss(given, valid.iter().map(String::as_str)) {
                Some(near) => failure.tip(format!("did you mean '{near}'?")),
                None => match named(command, given, valid, words) {
                    Some(line) => failure.tip(format!("{line}    a name stands behind what it is: {all}")),
                    None => failure.tip(all),
                },
            })
        }
        _ => None,
    }
}

/// The line with what `ls` lists before the name that was given in its place: `mq ls jobs` is `mq ls queues jobs`.
fn named(command: &Command, given: &str, kinds: &[String], words: &[OsString]) -> Option<String> {
    let takes_names = command.get_positionals().count() == 2;
    let kind = kinds.first().filter(|_| command.get_name() == "ls" && takes_names)?;
    let at = words.iter().position(|word| word == given)?;
    let words = words.iter().map(|word| word.to_string_lossy());
    let (before, rest): (Vec<_>, Vec<_>) =
        (words.clone().take(at).skip(1).collect(), words.skip(at).collect());
    let line = shell_words::join(before.into_iter().chain([kind.into()]).chain(rest));
    Some(format!("bandy {line}"))
}

/// The subcommand that the words have reached.
fn command_of<'a>(root: &'a Command, words: &[OsString]) -> &'a Command {
    let mut command = root;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if word == "--" {
            break;
        }
        if let Some(found) = command.find_subcommand(word) {
            command = found;
        }
    }
    command
}

impl App {
    /// For errors that come before the flags could be parsed: takes what it can make out of them.
    pub fn bare(words: &[OsString]) -> Self {
        let global = GlobalArgs::guess(words);
        let auto = GlobalArgs { output: Some("auto".to_owned()), ..global.clone() };
        Self::new(&global)
            .or_else(|_| Self::new(&auto))
            .expect("auto is a format, and overrules BANDY_OUTPUT")
    }
}

/// A name as a shell takes it.
pub fn word(name: &str) -> String {
    // What shell_words quotes and no shell needs: KEY=VALUE behind a command.
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:=@+,".contains(letter);
    match name.chars().all(is_plain) && !name.is_empty() && !name.starts_with('=') {
        true => name.to_owned(),
        false => shell_words::quote(name).into_owned(),
    }
}

/// Why there is no connection, in few words.
pub fn why(error: &crate::transport::Error) -> String {
    use std::io::ErrorKind;

    use crate::transport::{Address, Error};
    let system = |source: &std::io::Error| without_number(&source.to_string()).to_lowercase();
    match error {
        Error::Connect { address: Address::Unix(_), source } if source.kind() == ErrorKind::NotFound => {
            "there is no such socket".to_owned()
        }
        Error::Connect { source, .. } => system(source),
        Error::Resolve { source, .. } => format!("its name has no address: {}", system(source)),
        Error::Timeout { after, .. } => format!("no answer {}", within(*after)),
        Error::Tls { source, .. } => format!("TLS failed: {source}"),
        Error::Listen { .. } | Error::Certificate(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{one_line, without_number};

    #[test]
    fn the_systems_numbers_are_left_out() {
        assert_eq!(without_number("no file (os error 2): x (os error 13)"), "no file: x");
        assert_eq!(
            without_number("(os error 2) (os error x) (os error "),
            "(os error 2) (os error x) (os error "
        );
        let error = anyhow::Error::from(std::io::Error::from_raw_os_error(2)).context("cannot read x");
        assert_eq!(one_line(&error), "cannot read x: No such file or directory");
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::Error::from(std::io::Error::other("refused")).context("cannot reach h: refused");
        assert_eq!(one_line(&error), "cannot reach h: refused");
        let error = anyhow::Error::from(std::io::Error::other("refused")).context("cannot reach h");
        assert_eq!(one_line(&error), "cannot reach h: refused");
    }
}
