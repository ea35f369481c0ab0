//! The command line: what can be said, and who does it.

pub mod app;
pub mod completions;
pub mod connect;
pub mod context;
pub mod demo;
pub mod endpoint;
pub mod errors;
pub mod exit;
pub mod logging;
pub mod rpc;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod stage;

use std::process::ExitCode;

use clap::Parser;

use app::App;
use exit::Exit;

/// Everything that programs say to each other: RPC, queues, logs, gossip.
#[derive(Debug, Parser)]
#[command(name = "bandy", version, infer_subcommands = false, arg_required_else_help = true)]
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
    /// Keep named sets of endpoints
    Context(context::ContextArgs),
    /// Two-minute tour, nothing to set up
    Demo(demo::Args),
}

/// Parses the arguments of the process, runs the command, returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let app = match App::new(&cli.global) {
        Ok(app) => app,
        Err(failure) => return errors::early(&failure).into(),
    };
    logging::start(&app);
    let result = match cli.command {
        Command::Rpc(args) => rpc::run(args, &app),
        Command::Context(args) => context::run(args, &app),
        Command::Demo(args) => demo::run(&args, &app),
    };
    let exit = app.finish(result);
    if let Exit::Signal(signal) = exit {
        drop(app);
        signals::reraise(signal);
    }
    exit.into()
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}
