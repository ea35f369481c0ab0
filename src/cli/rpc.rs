//! The rpc commands.

pub mod bench;
pub mod call;
mod complete;
pub mod connector;
pub mod demo;
mod fleet;
mod headers;
mod health;
pub mod info;
mod lookup;
pub mod ls;
mod mistake;
mod openrpc;
pub mod ping;
pub mod registry;
mod remote;
pub mod schema;
pub mod serve;
mod style;
pub mod top;
pub mod wait;

use clap::Args as _;

use super::app::App;
use super::exit::Exit;
pub use remote::newest;

/// Arguments of `bandy rpc`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct RpcArgs {
    /// Which verb.
    #[command(subcommand)]
    pub command: RpcCommand,
}

/// The verbs of the pillar.
#[derive(Debug, clap::Subcommand)]
pub enum RpcCommand {
    /// Answer calls with commands, workers, files, or built-in services
    Serve(Box<serve::Args>),
    /// Call a function
    Call(Box<call::Args>),
    /// List services, or the methods of one
    #[command(visible_alias = "list")]
    Ls(Box<ls::Args>),
    /// Measure round trips of the health check
    Ping(Box<ping::Args>),
    /// Measure how many calls a server takes and how long they last
    Bench(Box<bench::Args>),
    /// Wait until a server or a service is ready
    Wait(Box<wait::Args>),
    /// Watch the calls of servers: rates, latencies, errors
    Top(Box<top::Args>),
    /// Show what a service, method or message is
    #[command(visible_alias = "describe")]
    Info(Box<info::Args>),
    /// See what a remote call is, in four scenes
    Demo(demo::Args),
    /// Run a service registry with Consul's HTTP API
    Registry(Box<registry::Args>),
}

/// A verb's command without the others'; `None` for one that is not called often.
pub fn verb(name: &str) -> Option<clap::Command> {
    let augment = match name {
        "call" => call::Args::augment_args,
        "serve" => serve::Args::augment_args,
        "ls" => ls::Args::augment_args,
        "info" => info::Args::augment_args,
        "ping" => ping::Args::augment_args,
        "wait" => wait::Args::augment_args,
        "demo" => demo::Args::augment_args,
        _ => return None,
    };
    Some(augment(clap::Command::new(name.to_owned())))
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub fn run(args: RpcArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        RpcCommand::Serve(args) => serve::run(*args, app),
        RpcCommand::Call(args) => call::run(*args, app),
        RpcCommand::Ls(args) => ls::run(&args, app),
        RpcCommand::Ping(args) => ping::run(&args, app),
        RpcCommand::Bench(args) => bench::run(&args, app),
        RpcCommand::Wait(args) => wait::run(&args, app),
        RpcCommand::Top(args) => top::run(&args, app),
        RpcCommand::Info(args) => info::run(&args, app),
        RpcCommand::Demo(args) => demo::run(&args, app),
        RpcCommand::Registry(args) => registry::run(*args, app),
    }
}
