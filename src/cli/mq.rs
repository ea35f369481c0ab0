//! The mq commands.

pub mod broker;
pub mod connect;
pub mod envelope;
pub mod header;

use clap::Args as _;

use super::app::App;
use super::exit::{Exit, Failure};

/// Verbs that this version does not have yet.
const LATER: &[&str] = &[
    "pub", "sub", "send", "recv", "peek", "ls", "list", "info", "create", "bind", "unbind", "purge", "rm",
    "ping", "wait", "top", "bench", "demo", "tap", "move", "record", "replay", "apply", "request",
];

/// Arguments of `bandy mq`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct MqArgs {
    /// Which verb.
    #[command(subcommand)]
    pub command: MqCommand,
}

/// The verbs of the pillar.
#[derive(Debug, clap::Subcommand)]
pub enum MqCommand {
    /// Run an AMQP 0-9-1 broker that RabbitMQ's clients can use
    #[command(visible_alias = "serve")]
    Broker(Box<broker::Args>),
}

/// A verb's command without the others'; `None` for one that is not called often.
pub fn verb(name: &str) -> Option<clap::Command> {
    (name == "broker").then(|| broker::Args::augment_args(clap::Command::new(name.to_owned())))
}

/// What to say of a verb that is not there yet.
pub fn later(given: &str) -> Option<Failure> {
    LATER.contains(&given).then(|| {
        Failure::new(Exit::Usage, format!("'bandy mq {given}' is not in this version yet"))
            .tip("bandy mq broker    run a broker; RabbitMQ's clients and amqp-tools can use it")
    })
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub fn run(args: MqArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        MqCommand::Broker(args) => broker::run(*args, app),
    }
}
