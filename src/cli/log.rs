//! The log commands.

mod bench;
pub mod broker;
mod codec;
mod complete;
mod config;
pub mod connect;
mod consume;
mod create;
mod deliver;
mod demo;
mod info;
mod inspect;
mod intake;
mod ls;
mod offline;
mod ping;
mod position;
mod produce;
mod reading;
mod rm;
mod seek;
mod top;
mod topic;
mod trim;
mod unwell;
mod wait;
mod ward;
mod work;

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
    /// Append records to a topic
    Produce(Box<produce::Args>),
    /// Read topics from the start to the end
    Consume(Box<consume::ConsumeArgs>),
    /// Show the last records of topics, and what comes
    Tail(Box<consume::TailArgs>),
    /// Create a topic
    Create(Box<create::Args>),
    /// Move where a group goes on
    Seek(Box<seek::Args>),
    /// Show and change the settings of a topic
    Config(Box<config::Args>),
    /// Remove records at the start of a topic's partitions
    Trim(Box<trim::Args>),
    /// Remove a topic or a group
    Rm(Box<rm::Args>),
    /// Measure round trips to the cluster
    Ping(Box<ping::Args>),
    /// Wait for a cluster, a topic, records, or a group that has caught up
    Wait(Box<wait::Args>),
    /// List topics, groups, nodes
    #[command(visible_alias = "list")]
    Ls(Box<ls::Args>),
    /// Show the partitions of a topic, or how far a group has read
    Info(Box<info::Args>),
    /// Watch topics and groups: what comes in, what is read, what waits
    Top(Box<top::Args>),
    /// Measure a cluster: rates, and latencies from end to end
    Bench(Box<bench::Args>),
    /// Look into a broker's data directory: partitions, damage, records
    Dump(Box<inspect::DumpArgs>),
    /// Make damaged partitions of a data directory readable again
    Salvage(Box<inspect::SalvageArgs>),
    /// See it: partitions and groups, reading again
    Demo(demo::Args),
}

/// A verb's command without the others'; `None` for one that is not called often.
pub fn verb(name: &str) -> Option<clap::Command> {
    let augment = match name {
        "broker" => broker::Args::augment_args,
        "produce" => produce::Args::augment_args,
        "consume" => consume::ConsumeArgs::augment_args,
        "tail" => consume::TailArgs::augment_args,
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
pub fn run(args: LogArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        LogCommand::Broker(args) => broker::run(*args, app),
        LogCommand::Produce(args) => produce::run(&args, app),
        LogCommand::Consume(args) => consume::consume(&args, app),
        LogCommand::Tail(args) => consume::tail(&args, app),
        LogCommand::Create(args) => create::run(&args, app),
        LogCommand::Seek(args) => seek::run(&args, app),
        LogCommand::Config(args) => config::run(&args, app),
        LogCommand::Trim(args) => trim::run(&args, app),
        LogCommand::Rm(args) => rm::run(&args, app),
        LogCommand::Ping(args) => ping::run(&args, app),
        LogCommand::Wait(args) => wait::run(&args, app),
        LogCommand::Ls(args) => ls::run(&args, app),
        LogCommand::Info(args) => info::run(&args, app),
        LogCommand::Top(args) => top::run(&args, app),
        LogCommand::Bench(args) => bench::run(&args, app),
        LogCommand::Dump(args) => inspect::dump(&args, app),
        LogCommand::Salvage(args) => inspect::salvage(&args, app),
        LogCommand::Demo(args) => demo::run(&args, app),
    }
}
