//! The command line: what can be said, and who does it.

pub mod app;
pub mod bench;
pub mod command;
pub mod completions;
pub mod confirm;
pub mod connect;
pub mod context;
pub mod demo;
pub mod endpoint;
pub mod errors;
pub mod exit;
pub mod feed;
mod figures;
mod files;
pub mod filter;
pub mod gossip;
mod greet;
pub mod help;
mod hyphens;
pub mod journal;
mod limits;
pub mod lines;
pub mod local;
pub mod log;
pub mod logging;
pub mod mq;
mod password;
pub mod payload;
pub mod ping;
pub mod pipe;
pub mod records;
pub mod refusals;
pub mod rpc;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod source;
pub mod stage;
pub mod there;
pub mod top;
pub mod wait;
pub mod with;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args as _, FromArgMatches as _, Parser};

use app::App;
use exit::{Exit, Failure};

/// RPC, queues, logs and gossip from one shell command
#[derive(Debug, Parser)]
#[command(
    name = "bandy",
    bin_name = "bandy",
    version,
    infer_subcommands = false,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    help_template = help::TOP,
    after_long_help = help::TOP_AFTER
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: app::GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Top-level commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Call a function somewhere else
    Rpc(rpc::RpcArgs),
    /// Hand out messages: everybody gets a copy, or one taker each
    Mq(mq::MqArgs),
    /// Keep records in order, for many readers
    Log(log::LogArgs),
    /// Spread news and see who is alive
    Gossip(gossip::GossipArgs),
    /// Start servers of your own in the background
    Up(local::up::Args),
    /// Stop your own servers
    Down(local::down::Args),
    /// Show which of your own servers run
    Status(local::status::Args),
    /// Run a command with temporary servers
    With(with::WithArgs),
    /// Wait until servers answer
    Wait(wait::WaitArgs),
    /// Keep named sets of endpoints
    Context(context::ContextArgs),
    /// Two-minute tour, nothing to set up
    Demo(demo::Args),
    /// Show help on a topic or command
    Help(help::HelpArgs),
    /// Print the completion stub of a shell
    Completions(completions::CompletionsArgs),
}

/// Parses the arguments of the process, runs the command, returns its exit code.
pub fn main() -> ExitCode {
    completions::answer();
    let words: Vec<_> = std::env::args_os().collect();
    if let Some((message, tip)) = errors::foreign::misread(&words) {
        let failure = Failure::new(Exit::Usage, message).tip(tip);
        return App::bare(&words).report(&failure.into()).into();
    }
    let cli = match parse(&words) {
        Ok(cli) => cli,
        Err(error) => return errors::answer(&error, &words).into(),
    };
    let app = match App::new(&cli.global) {
        Ok(app) => app,
        Err(failure) => return App::bare(&words).report(&failure.into()).into(),
    };
    logging::start(&app);
    let result = run(cli.command, &app);
    let exit = app.finish(result);
    if let Exit::Signal(signal) = exit {
        drop(app);
        signals::reraise(signal);
    }
    exit.into()
}

/// Understands the words. To put the flags of all commands together takes longer than to parse, so it is first tried
/// with those of the one that is named; what cannot be understood so is explained by the whole.
fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    if matches!(words.get(1).and_then(|word| word.to_str()), Some("--version" | "-V")) {
        let version = clap::Command::new("bandy").version(env!("CARGO_PKG_VERSION"));
        if let Err(error) = version.try_get_matches_from(words)
            && error.kind() == ErrorKind::DisplayVersion
        {
            return Err(error);
        }
    }
    if let Some((command, words)) = hyphens::names_behind(words) {
        return Cli::from_arg_matches(&command.try_get_matches_from(words)?);
    }
    match narrow(words).and_then(|command| command.try_get_matches_from(words).ok()) {
        Some(matches) => understood(&matches).or_else(|_| Cli::try_parse_from(words)),
        None => Cli::try_parse_from(words),
    }
}

/// The command line as far as these words need it: a pillar and its verb, or a verb of its own, which has the flags that
/// every command takes to itself. `None` if more of it may be needed.
fn narrow(words: &[OsString]) -> Option<clap::Command> {
    let first = words.get(1)?.to_str()?;
    let of_pillar = match first {
        "rpc" => Some(rpc::verb as fn(&str) -> Option<clap::Command>),
        "mq" => Some(mq::verb as _),
        "log" => Some(log::verb as _),
        "gossip" => Some(gossip::verb as _),
        _ => None,
    };
    let verb = match of_pillar {
        Some(verb) => verb(words.get(2)?.to_str()?)?,
        None => verb(first)?,
    };
    let verb = app::GlobalArgs::augment_args(verb).mut_args(|flag| flag.global(false));
    Some(clap::Command::new("bandy").subcommand(match of_pillar {
        Some(_) => clap::Command::new(first.to_owned()).subcommand(verb),
        None => verb,
    }))
}

/// A command of no pillar without the others; `None` for one that is not called often.
fn verb(name: &str) -> Option<clap::Command> {
    let augment = match name {
        "up" => local::up::Args::augment_args,
        "down" => local::down::Args::augment_args,
        "status" => local::status::Args::augment_args,
        "with" => with::WithArgs::augment_args,
        "wait" => wait::WaitArgs::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(name.to_owned())))
}

/// What a narrow command line matched.
fn understood(matches: &clap::ArgMatches) -> Result<Cli, clap::Error> {
    let (_, first) = matches.subcommand().ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
    let flags = first.subcommand().map_or(first, |(_, verb)| verb);
    Ok(Cli {
        global: app::GlobalArgs::from_arg_matches(flags)?,
        command: Command::from_arg_matches(matches)?,
    })
}

fn run(command: Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::Rpc(args) => rpc::run(args, app),
        Command::Mq(args) => mq::run(args, app),
        Command::Log(args) => log::run(args, app),
        Command::Gossip(args) => gossip::run(args, app),
        Command::Up(args) => local::up::run(&args, app),
        Command::Down(args) => local::down::run(&args, app),
        Command::Status(args) => local::status::run(&args, app),
        Command::With(args) => with::run(&args, app),
        Command::Wait(args) => wait::run(&args, app),
        Command::Context(args) => context::run(args, app),
        Command::Demo(args) => demo::run(&args, app),
        Command::Help(args) => help::run(args, app),
        Command::Completions(args) => completions::run(args, app),
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_verb_alone_has_all_its_flags() {
        let mut whole = Cli::command();
        whole.build();
        for verb in whole.find_subcommand("rpc").unwrap().get_subcommands() {
            let Some(mut narrow) = narrow(&words(&format!("bandy rpc {}", verb.get_name()))) else {
                continue;
            };
            narrow.build();
            let narrow = narrow.find_subcommand("rpc").unwrap().find_subcommand(verb.get_name()).unwrap();
            let flags = |command: &clap::Command| -> Vec<String> {
                // What every command takes, the verb has to itself here.
                let own = |flag: &clap::Arg| flag.clone().global(false).display_order(0);
                let mut flags: Vec<String> =
                    command.get_arguments().map(|flag| format!("{:?}", own(flag))).collect();
                flags.sort();
                flags
            };
            assert_eq!(flags(narrow), flags(verb), "{}", verb.get_name());
        }
    }

    #[test]
    fn a_command_is_understood_alone_as_by_the_whole() {
        for line in [
            "bandy rpc call -e :1 a.B/C x=1 -q --json --timeout 3s",
            "bandy rpc ls --json Service",
            "bandy rpc serve -l :0 upper=tr",
            "bandy rpc demo call --seed 3",
            "bandy mq broker -l :0 --memory",
        ] {
            let (short, long) = (parse(&words(line)).unwrap(), Cli::try_parse_from(words(line)).unwrap());
            assert!(narrow(&words(line)).is_some(), "{line}");
            assert_eq!(format!("{short:?}"), format!("{long:?}"), "{line}");
        }
    }

    /// Help is wrapped at the terminal's width, at 100 columns at most: what is wrapped by hand is broken twice.
    #[test]
    fn help_is_wrapped_by_the_terminal_and_examples_fit() {
        fn look(command: &clap::Command, wrong: &mut Vec<String>) {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help.lines().collect();
            for (line, next) in lines.iter().zip(lines.iter().skip(1).chain(["", ""].iter())) {
                let is_prose = |line: &str| line.starts_with(|first: char| first.is_alphabetic());
                let wide = line.starts_with(' ') && line.chars().count() > 100;
                let starts = |word: &str| next.starts_with(word);
                let is_wrapped = is_prose(line)
                    && is_prose(next)
                    && !line.ends_with('.')
                    && line.chars().count() >= 78
                    && !["Exit:", "Examples:", "Positions:"].iter().any(|word| starts(word));
                if wide || is_wrapped {
                    wrong.push(format!("{}: {line}", command.get_name()));
                }
            }
            command.get_subcommands().for_each(|command| look(command, wrong));
        }
        let mut wrong = Vec::new();
        look(&Cli::command(), &mut wrong);
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_said_by_the_whole() {
        for line in
            ["bandy rpc call", "bandy rpc call x --nonsense", "bandy rpc cal x", "bandy rpc call --help"]
        {
            let (short, long) =
                (parse(&words(line)).unwrap_err(), Cli::try_parse_from(words(line)).unwrap_err());
            assert_eq!(short.to_string(), long.to_string(), "{line}");
        }
    }
}
