//! The log commands.

pub mod broker;

use clap::Args as _;

use super::app::App;
use super::exit::Exit;

/// Arguments of `bandy log`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct LogArgs {
    /// Which verb.
    #[command(subcommand)]
    pub command: LogCommand,
}

/// The verbs of the pillar.
#[derive(Debug, clap::Subcommand)]
pub enum LogCommand {
    /// Run a broker that Kafka's clients can use
    #[command(visible_alias = "serve")]
    Broker(Box<broker::Args>),
}

/// A verb's command without the others'; `None` for one that is not called often.
pub fn verb(name: &str) -> Option<clap::Command> {
    let augment = match name {
        "broker" => broker::Args::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(name.to_owned())))
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub fn run(args: LogArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        LogCommand::Broker(args) => broker::run(*args, app),
    }
}
