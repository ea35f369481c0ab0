//! The command line: what can be said, and who does it.

pub mod app;
pub mod completions;
pub mod connect;
pub mod context;
pub mod demo;
pub mod endpoint;
pub mod errors;
pub mod exit;
pub mod help;
pub mod logging;
pub mod payload;
pub mod records;
pub mod rpc;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod stage;
pub mod wait;
pub mod with;

use std::process::ExitCode;

use clap::Parser;

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
    if let Some((word, tip)) = errors::foreign::single_dash(&words) {
        let failure = Failure::new(Exit::Usage, format!("unexpected argument '{word}'")).tip(tip);
        return App::bare(&words).report(&failure.into()).into();
    }
    let cli = match Cli::try_parse_from(&words) {
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

fn run(command: Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::Rpc(args) => rpc::run(args, app),
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
