//! The mq commands.

mod api;
pub mod apply;
pub mod bench;
pub mod broker;
mod complete;
pub mod connect;
mod definitions;
pub mod demo;
pub mod envelope;
mod get;
pub mod header;
mod incoming;
pub mod info;
pub mod inspect;
pub mod ls;
mod objects;
mod outgoing;
mod ping;
mod publish;
mod queue;
pub mod recording;
mod recv;
pub mod relocate;
mod request;
mod send;
mod sub;
pub mod tap;
pub mod top;
mod topology;
mod work;

use clap::Args as _;

use super::app::App;
use super::exit::Exit;

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
    /// List queues, exchanges, bindings, consumers, connections, channels, virtual hosts, users
    #[command(visible_alias = "list")]
    Ls(Box<ls::Args>),
    /// Show everything about a queue or an exchange
    Info(Box<info::Args>),
    /// Watch queues: what waits, what comes in and goes out
    Top(Box<top::Args>),
    /// Make a broker have what definitions say: queues, exchanges, bindings, users, policies
    Apply(Box<apply::ApplyArgs>),
    /// Write what a broker has as definitions
    Export(Box<apply::ExportArgs>),
    /// Watch messages as they pass, without taking them from anybody
    Tap(Box<tap::Args>),
    /// Move messages from one queue to another, or dead letters back to where they came from
    Move(Box<relocate::Args>),
    /// Write messages with their times into a file as they pass
    Record(Box<recording::RecordArgs>),
    /// Publish the messages of a recording again, with their pauses
    Replay(Box<recording::ReplayArgs>),
    /// Look into a broker's data directory: logs, damage, records
    Dump(Box<inspect::DumpArgs>),
    /// Make damaged logs of a data directory readable again
    Salvage(Box<inspect::SalvageArgs>),
    /// Measure a broker: rates, and latencies from end to end
    Bench(Box<bench::Args>),
    /// See it: workers, topics, dead letters
    Demo(demo::Args),
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
        "ls" => ls::Args::augment_args,
        "info" => info::Args::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(name.to_owned())))
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
        MqCommand::Ls(args) => ls::run(&args, app),
        MqCommand::Info(args) => info::run(&args, app),
        MqCommand::Top(args) => top::run(&args, app),
        MqCommand::Apply(args) => apply::apply(&args, app),
        MqCommand::Export(args) => apply::export(&args, app),
        MqCommand::Tap(args) => tap::run(&args, app),
        MqCommand::Move(args) => relocate::run(&args, app),
        MqCommand::Record(args) => recording::record(&args, app),
        MqCommand::Replay(args) => recording::replay(&args, app),
        MqCommand::Dump(args) => inspect::dump(&args, app),
        MqCommand::Salvage(args) => inspect::salvage(&args, app),
        MqCommand::Bench(args) => bench::run(&args, app),
        MqCommand::Demo(args) => demo::run(&args, app),
    }
}
