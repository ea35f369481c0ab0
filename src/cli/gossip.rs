//! The gossip commands.

mod coalesce;
mod complete;
mod connect;
mod data;
mod demo;
mod discover;
mod envelope;
mod event;
mod handler;
mod info;
mod join;
mod keyring;
mod leave;
mod ls;
mod ping;
mod query;
mod simulate;
mod tag;
mod top;
mod wait;
mod watch;

use clap::Args as _;

use super::app::App;
use super::exit::Exit;
pub use connect::{greet, newest};

/// Arguments of `bandy gossip`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct GossipArgs {
    /// Which verb.
    #[command(subcommand)]
    pub command: GossipCommand,
}

/// The verbs of the pillar.
#[derive(Debug, clap::Subcommand)]
pub enum GossipCommand {
    /// Be a node of a Serf cluster, until Ctrl-C
    #[command(visible_alias = "serve")]
    Join(Box<join::Args>),
    /// List members: who is there, who is suspected, who is gone
    #[command(visible_aliases = ["members", "list"])]
    Ls(Box<ls::Args>),
    /// Tell all nodes something
    Event(Box<event::Args>),
    /// Ask nodes something, and print their answers
    Query(Box<query::Args>),
    /// Watch what happens: members, events, queries, keys and values
    Watch(Box<watch::Args>),
    /// Set a key to a value, on all nodes of bandy
    Set(Box<data::SetArgs>),
    /// Print the value of a key
    Get(Box<data::GetArgs>),
    /// Delete a key
    Del(Box<data::DelArgs>),
    /// List keys and their values
    Keys(Box<data::KeysArgs>),
    /// Show or change the tags of a node
    Tag(Box<tag::Args>),
    /// Let a node leave, or force one that failed out
    Leave(Box<leave::Args>),
    /// Show everything about a node
    Info(Box<info::Args>),
    /// Measure round trips to a node, or tell what coordinates predict between two
    #[command(visible_alias = "rtt")]
    Ping(Box<ping::Args>),
    /// Wait until a cluster has so many members
    Wait(Box<wait::Args>),
    /// Simulate how news spread: a model for millions of nodes, or the engine itself
    #[command(visible_alias = "sim")]
    Simulate(Box<simulate::Args>),
    /// Watch the members of a cluster come and go
    Top(Box<top::Args>),
    /// Watch gossip at work: spread, failure, split
    Demo(demo::Args),
    /// Print a new key for encryption
    Keygen(keyring::KeygenArgs),
    /// Rotate the keys that encrypt a cluster
    Keyring(Box<keyring::Args>),
}

/// A verb's command without the others'; `None` for one that is not called often.
pub fn verb(name: &str) -> Option<clap::Command> {
    let augment = match name {
        "join" => join::Args::augment_args,
        "ls" => ls::Args::augment_args,
        "event" => event::Args::augment_args,
        "query" => query::Args::augment_args,
        "watch" => watch::Args::augment_args,
        "set" => data::SetArgs::augment_args,
        "get" => data::GetArgs::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(name.to_owned())))
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub fn run(args: GossipArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        GossipCommand::Join(args) => join::run(*args, app),
        GossipCommand::Ls(args) => ls::run(&args, app),
        GossipCommand::Event(args) => event::run(&args, app),
        GossipCommand::Query(args) => query::run(&args, app),
        GossipCommand::Watch(args) => watch::run(&args, app),
        GossipCommand::Set(args) => data::set(&args, app),
        GossipCommand::Get(args) => data::get(&args, app),
        GossipCommand::Del(args) => data::del(&args, app),
        GossipCommand::Keys(args) => data::keys(&args, app),
        GossipCommand::Tag(args) => tag::run(&args, app),
        GossipCommand::Leave(args) => leave::run(&args, app),
        GossipCommand::Info(args) => info::run(&args, app),
        GossipCommand::Ping(args) => ping::run(&args, app),
        GossipCommand::Wait(args) => wait::run(&args, app),
        GossipCommand::Simulate(args) => simulate::run(&args, app),
        GossipCommand::Top(args) => top::run(&args, app),
        GossipCommand::Demo(args) => demo::run(&args, app),
        GossipCommand::Keygen(args) => keyring::keygen(&args, app),
        GossipCommand::Keyring(args) => keyring::run(&args, app),
    }
}
