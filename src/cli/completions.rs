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

/// What a command asks its server for has to be there after this.
const ASKING: Duration = Duration::from_millis(150);

/// What `find` found in time, in the order of the words; nothing if it did not.
pub fn found(app: &App, find: impl Future<Output = Option<Vec<Candidate>>>) -> Vec<Candidate> {
    let Ok(runtime) = app.client_runtime() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(ASKING, find).await });
    let mut candidates = found.ok().flatten().unwrap_or_default();
    candidates.sort_by(|a, b| a.word.cmp(&b.word));
    candidates
}

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
  source <(bandy completions bash)         # in ~/.bashrc
  source <(bandy completions zsh)          # in ~/.zshrc, after compinit
  bandy completions fish > ~/.config/fish/completions/bandy.fish
  eval (bandy completions elvish | slurp)  # in ~/.config/elvish/rc.elv
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
    #[value(help = "PowerShell")]
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
            Self::Bash => BASH,
            Self::Zsh => "#compdef bandy\n# bandy: completion for zsh\nsource <(COMPLETE=zsh bandy)\n",
            Self::Fish => "# bandy: completion for fish\nCOMPLETE=fish bandy | source\n",
            Self::Elvish => "# bandy: completion for elvish\neval (E:COMPLETE=elvish bandy | slurp)\n",
            Self::Powershell => {
                "# bandy: completion for PowerShell\n$env:COMPLETE = \"powershell\"; bandy | Out-String | Invoke-Expression; Remove-Item Env:\\COMPLETE\n"
            }
        }
    }
}

/// bash splits words at `:` and `=`, too, so that `-e :50051` would be three: they are put together again, and of
/// what is found only that goes back which follows the last of these.
const BASH: &str = r#"# bandy: completion for bash
source <(COMPLETE=bash bandy)
_bandy() {
    local line=${COMP_LINE:0:COMP_POINT} words=() current=$2 kept
    if [[ $line != *[\'\"\\]* ]]; then
        IFS=$' \t\n' read -ra words <<<"$line"
        [[ $line == *' ' ]] && words+=('')
        current=${words[-1]}
        COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
    fi
    _clap_complete_bandy "$1" "$current" "$3"
    kept=${current##*[:=]}
    if [[ $kept != "$current" && $COMP_WORDBREAKS == *[:=]* && ${#words[@]} -gt 0 ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"$kept"}"}")
    fi
}
complete -o nospace -o bashdefault -o nosort -F _bandy bandy
"#;

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

/// What was typed so far.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// All words, the first one the program.
    words: Vec<String>,
    /// What the words say about the server.
    pub connect: ConnectArgs,
    /// Words that are neither commands nor flags nor their values, but the current one.
    pub positionals: Vec<String>,
    /// The word that is being completed.
    pub current: String,
}

impl Typed {
    fn new(words: &[OsString], current: &OsStr) -> Self {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let current = current.to_string_lossy().into_owned();
        let mut before = &words[..];
        if before.last() == Some(&current) {
            before = &before[..before.len() - 1];
        }
        let positionals = positionals(before);
        Self { connect: connect_args(&words), positionals, words, current }
    }

    /// The values of a flag that may be repeated.
    pub fn values<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        self.words.iter().enumerate().filter_map(move |(at, word)| {
            if word == flag {
                return self.words.get(at + 1).map(String::as_str);
            }
            word.strip_prefix(flag)?.strip_prefix('=')
        })
    }
}

/// The words that stand for themselves: not commands, flags, or values of flags.
fn positionals(words: &[String]) -> Vec<String> {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    let mut found = Vec::new();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        if word.starts_with('-') && word.len() > 1 {
            let takes = |arg: &clap::Arg| {
                let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
                let short = arg.get_short().is_some_and(|short| *word == format!("-{short}"));
                (long || short) && arg.get_action().takes_values()
            };
            if command.get_arguments().any(takes) {
                words.next();
            }
        } else if let Some(inner) = command.find_subcommand(word).filter(|_| found.is_empty()) {
            command = inner;
        } else {
            found.push(word.clone());
        }
    }
    found
}

/// Asks a server for candidates. It may take its time: the shell is answered without it then.
pub type Remote = fn(&App, &Typed) -> Vec<Candidate>;

/// Completes what the server of the words so far offers, such as methods.
pub fn remote(find: Remote) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let (send, answer) = mpsc::channel();
        let typed = Typed::new(&typed(), current);
        // Not a task: this thread is left alone with whatever it waits for when the time is over.
        std::thread::spawn(move || {
            let quiet = GlobalArgs { quiet: true, ..GlobalArgs::default() };
            if let Ok(mut app) = App::new(&quiet) {
                app.asks = false;
                let _ = send.send(find(&app, &typed));
            }
        });
        matching(current, answer.recv_timeout(BUDGET).unwrap_or_default())
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

/// Completes one of some words, each with what is said about it.
pub fn words(words: &'static [(&'static str, &'static str)]) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| matching(current, known(words)))
}

fn known(words: &[(&str, &str)]) -> Vec<Candidate> {
    let candidate = |(word, about): &(&str, &str)| Candidate { word: (*word).into(), about: (*about).into() };
    words.iter().map(candidate).collect()
}

/// Output formats, for `-o`.
pub const FORMATS: &[(&str, &str)] = &[
    ("auto", "for a person on a terminal, for programs in a pipe"),
    ("table", "aligned, with a header"),
    ("plain", "columns with tabs between them, no header"),
    ("value", "the value and nothing else"),
    ("json", "one object a line"),
    ("csv", "with a header"),
];

/// Places in a log, for `--from` and `--to`.
pub const POSITIONS: &[(&str, &str)] = &[
    ("start", "the first record that is kept"),
    ("end", "after the last record"),
    ("-10", "so many records before the end"),
    ("+10", "so many records after the start"),
    ("@-15m", "a time ago"),
    ("@2026-11-23T07:00", "a local time"),
];

/// Completes what `wait` waits for: pillars, and beginnings of endpoints.
pub fn waited_for() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let schemes = Pillar::ALL.into_iter().flat_map(Scheme::prefixes);
        let schemes = schemes.filter(|word| word.contains("://"));
        let mut words: Vec<String> = Pillar::ALL.map(|pillar| pillar.name().to_owned()).into();
        for word in schemes {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        matching(current, words.into_iter().map(|word| Candidate { word, about: String::new() }).collect())
    })
}

/// Completes the name of a pillar.
pub fn pillars() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let word = |pillar: Pillar| Candidate { word: pillar.name().to_owned(), about: String::new() };
        matching(current, Pillar::ALL.into_iter().map(word).collect())
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
fn connect_args(words: &[String]) -> ConnectArgs {
    let value = |short: Option<&str>, long: &str| {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if short.is_some_and(|short| word == short) || word == long {
                return words.next().cloned();
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
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(connect_args(&words).endpoint.as_deref(), Some(":1"), "{line}");
        }
    }

    #[test]
    fn words_that_stand_for_themselves_are_found() {
        for (line, expected) in [
            ("bandy rpc call -e :1 Greeter/Hello name=Ada", &["Greeter/Hello", "name=Ada"][..]),
            ("bandy rpc call --timeout 1s -v --proto=x Greeter/Hello", &["Greeter/Hello"]),
            ("bandy -o json rpc call call", &["call"]),
            ("bandy rpc bench -c 5", &[]),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(positionals(&words), expected, "{line}");
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
