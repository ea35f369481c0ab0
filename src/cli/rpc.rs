//! The rpc commands.

pub mod demo;
pub mod registry;
pub mod schema;
pub mod serve;

use super::app::App;
use super::exit::Exit;

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
    /// See what a remote call is, in four scenes
    Demo(demo::Args),
    /// Run a service registry with Consul's HTTP API
    Registry(registry::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub fn run(args: RpcArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        RpcCommand::Serve(args) => serve::run(*args, app),
        RpcCommand::Demo(args) => demo::run(&args, app),
        RpcCommand::Registry(args) => registry::run(&args, app),
    }
}
