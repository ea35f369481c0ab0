//! Completion: the only module that knows `clap_complete`, whose dynamic part is still unstable.
//!
//! The shell asks the binary for candidates each time, so they are never out of date; what is installed
//! is a stub of one line. Candidates that need a server come from [`Remote`] functions of the commands.

use std::ffi::{OsStr, OsString};
use std::sync::mpsc;
use std::time::Duration;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::Cli;
use super::app::{App, GlobalArgs};
use super::connect::ConnectArgs;
use super::endpoint::{Pillar, Scheme};
use super::exit::Exit;
use super::help::TOPICS;
use super::settings::{Config, Environment, Home};

/// The variable that makes the binary answer a shell instead of running a command.
const VARIABLE: &str = "COMPLETE";

/// A server has this long to say what it offers: a person waits.
const BUDGET: Duration = Duration::from_millis(300);

/// Answers the shell and ends the process, if it is the shell that asks.
pub fn answer() {
    // Checked first, so that a normal start does not pay for it.
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
    }
}

/// Arguments of `bandy completions`.
#[derive(Debug, Args)]
#[command(after_long_help = INSTALL)]
pub struct CompletionsArgs {
    /// Your shell
    pub shell: Shell,
}

const INSTALL: &str = "Examples:
  source <(bandy completions bash)                                        # in ~/.bashrc
  source <(bandy completions zsh)                                         # in ~/.zshrc, after compinit
  bandy completions fish > ~/.config/fish/completions/bandy.fish
  eval (bandy completions elvish | slurp)                                 # in ~/.config/elvish/rc.elv
  bandy completions powershell >> $PROFILE

The stub asks the binary at each start of the shell: it does not have to be renewed.";

/// Shells with completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
    /// Elvish
    Elvish,
    /// `PowerShell`
    Powershell,
}

impl Shell {
    /// Name of its file in `completions/`, as the shell looks for it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Bash => "bandy.bash",
            Self::Zsh => "_bandy",
            Self::Fish => "bandy.fish",
            Self::Elvish => "bandy.elv",
            Self::Powershell => "bandy.ps1",
        }
    }

    /// What the shell runs.
    pub fn stub(self) -> &'static str {
        match self {
            Self::Bash => "# bandy: completion for bash\nsource <(COMPLETE=bash bandy)\n",
            Self::Zsh => "#compdef bandy\n# bandy: completion for zsh\nsource <(COMPLETE=zsh bandy)\n",
            Self::Fish => "# bandy: completion for fish\nCOMPLETE=fish bandy | source\n",
            Self::Elvish => "# bandy: completion for elvish\neval (E:COMPLETE=elvish bandy | slurp)\n",
            Self::Powershell => {
                "# bandy: completion for PowerShell\n$env:COMPLETE = \"powershell\"; bandy | Out-String | Invoke-Expression; Remove-Item Env:\\COMPLETE\n"
            }
        }
    }
}

/// Prints the stub.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: CompletionsArgs, app: &App) -> anyhow::Result<Exit> {
    app.printer.own(args.shell.stub())?;
    Ok(Exit::Done)
}

/// A candidate and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The word.
    pub word: String,
    /// A few words about it; may be empty.
    pub about: String,
}

/// Asks a server for candidates, in groups: the first in which anything fits is offered. It may take its time:
/// the shell is answered without it then.
pub type Remote = fn(&App, &ConnectArgs) -> Vec<Vec<Candidate>>;

/// Completes what the server of the words so far offers, such as methods.
pub fn remote(find: Remote) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let (send, answer) = mpsc::channel();
        // Not a task: this thread is left alone with whatever it waits for when the time is over.
        std::thread::spawn(move || {
            let words = typed();
            let quiet = GlobalArgs { quiet: true, ..GlobalArgs::default() };
            if let Ok(app) = App::new(&quiet) {
                let _ = send.send(find(&app, &connect_args(&words)));
            }
        });
        let groups = answer.recv_timeout(BUDGET).unwrap_or_default();
        let groups = groups.into_iter().map(|candidates| matching(current, candidates));
        groups.into_iter().find(|fitting| !fitting.is_empty()).unwrap_or_default()
    })
}

/// Completes the beginning of an endpoint of the pillar that was typed.
pub fn endpoints() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let words = typed();
        let typed_pillar = |pillar: &Pillar| words.iter().any(|word| word == pillar.name());
        let pillar = Pillar::ALL.into_iter().find(typed_pillar).unwrap_or(Pillar::Rpc);
        let schemes = Scheme::prefixes(pillar).map(|word| Candidate { word, about: String::new() });
        matching(current, schemes.collect())
    })
}

/// Completes the name of a context.
pub fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        // Completion is silent: without a readable file there is nothing to offer.
        let config = Config::load(&Home::new(&Environment::Process).config).unwrap_or_default();
        let about = |pillars: Vec<&str>| pillars.join(" ");
        let candidates = config.contexts.iter().map(|(name, context)| {
            let has = Pillar::ALL.into_iter().filter(|pillar| context.endpoint(*pillar).is_some());
            Candidate { word: name.clone(), about: about(has.map(Pillar::name).collect()) }
        });
        matching(current, candidates.collect())
    })
}

/// Completes topics and commands.
pub fn help_words() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let topics =
            TOPICS.iter().map(|topic| Candidate { word: topic.name.into(), about: topic.title().into() });
        let root = Cli::command();
        let commands =
            root.get_subcommands().filter(|command| !command.is_hide_set()).map(|command| Candidate {
                word: command.get_name().to_owned(),
                about: command.get_about().map(ToString::to_string).unwrap_or_default(),
            });
        matching(current, topics.chain(commands).collect())
    })
}

fn matching(current: &OsStr, candidates: Vec<Candidate>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let fitting = candidates.into_iter().filter(|candidate| candidate.word.starts_with(&*current));
    fitting
        .map(|candidate| {
            let about = (!candidate.about.is_empty()).then(|| candidate.about.into());
            CompletionCandidate::new(candidate.word).help(about)
        })
        .collect()
}

/// The words on the command line that is being completed: what follows `--` in ours.
fn typed() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// What the words say about the server.
fn connect_args(words: &[OsString]) -> ConnectArgs {
    let value = |short: Option<&str>, long: &str| {
        let mut words = words.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            if short.is_some_and(|short| word == short) || word == long {
                return words.next().map(|value| value.into_owned());
            }
            if let Some(value) = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_owned());
            }
            if let Some(value) =
                short.and_then(|short| word.strip_prefix(short)).filter(|_| !word.starts_with("--"))
            {
                return Some(value.to_owned());
            }
        }
        None
    };
    let context = value(None, "--context").or_else(|| Environment::Process.get("BANDY_CONTEXT"));
    ConnectArgs { endpoint: value(Some("-e"), "--endpoint"), context, ..ConnectArgs::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_typed_so_far_is_found() {
        for line in
            ["rpc call -e :1 x", "rpc call -e:1", "rpc ls --endpoint=:1", "rpc ls --endpoint :1 --context a"]
        {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(connect_args(&words).endpoint.as_deref(), Some(":1"), "{line}");
        }
    }

    #[test]
    fn candidates_begin_with_what_was_typed() {
        let candidates = |words: &[&str]| {
            words
                .iter()
                .map(|word| Candidate { word: (*word).into(), about: String::new() })
                .collect::<Vec<_>>()
        };
        let found = matching(OsStr::new("gr"), candidates(&["grpc://", "tcp://", "grpcs://"]));
        assert_eq!(found.iter().map(|found| found.get_value()).collect::<Vec<_>>(), ["grpc://", "grpcs://"]);
    }
}
