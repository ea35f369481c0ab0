//! The mq commands.

pub mod broker;
pub mod connect;
pub mod envelope;
mod get;
pub mod header;
mod incoming;
mod outgoing;
mod ping;
mod publish;
mod queue;
mod recv;
mod request;
mod send;
mod sub;
mod topology;
mod work;

use clap::Args as _;

use super::app::App;
use super::exit::{Exit, Failure};

/// Verbs that this version does not have yet.
const LATER: &[&str] =
    &["ls", "list", "info", "top", "bench", "demo", "tap", "move", "record", "replay", "apply"];

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
    /// Publish to a topic: everybody who subscribes gets a copy
    Pub(Box<publish::Args>),
    /// Subscribe to topics
    Sub(Box<sub::Args>),
    /// Send to a queue: one taker gets each message
    Send(Box<send::Args>),
    /// Take messages from a queue, one taker per message
    Recv(Box<recv::Args>),
    /// Show what is in a queue without taking it
    Peek(Box<get::PeekArgs>),
    /// Send to a queue and wait for the answer
    Request(Box<request::Args>),
    /// Create a queue or an exchange
    Create(Box<topology::CreateArgs>),
    /// Let messages of an exchange go to a queue
    Bind(Box<topology::BindArgs>),
    /// Undo a binding
    Unbind(Box<topology::BindArgs>),
    /// Drop the messages of a queue
    Purge(Box<topology::PurgeArgs>),
    /// Remove a queue or an exchange
    Rm(Box<topology::RemoveArgs>),
    /// Measure round trips of a message
    Ping(Box<ping::Args>),
    /// Wait for a broker, or for what is in a queue
    Wait(Box<topology::WaitArgs>),
}

/// A verb's command without the others'; `None` for one that is not called often.
pub fn verb(name: &str) -> Option<clap::Command> {
    let augment = match name {
        "broker" => broker::Args::augment_args,
        "pub" => publish::Args::augment_args,
        "sub" => sub::Args::augment_args,
        "send" => send::Args::augment_args,
        "recv" => recv::Args::augment_args,
        "peek" => get::PeekArgs::augment_args,
        "request" => request::Args::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(name.to_owned())))
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
        MqCommand::Pub(args) => publish::run(&args, app),
        MqCommand::Sub(args) => sub::run(&args, app),
        MqCommand::Send(args) => send::run(&args, app),
        MqCommand::Recv(args) => recv::run(&args, app),
        MqCommand::Peek(args) => get::peek(&args, app),
        MqCommand::Request(args) => request::run(&args, app),
        MqCommand::Create(args) => topology::create(&args, app),
        MqCommand::Bind(args) => topology::bind(&args, true, app),
        MqCommand::Unbind(args) => topology::bind(&args, false, app),
        MqCommand::Purge(args) => topology::purge(&args, app),
        MqCommand::Rm(args) => topology::remove(&args, app),
        MqCommand::Ping(args) => ping::run(&args, app),
        MqCommand::Wait(args) => topology::wait(&args, app),
    }
}
