//! The rpc commands.

pub mod demo;
pub mod schema;

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
    /// See what a remote call is, in four scenes
    Demo(demo::Args),
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub fn run(args: RpcArgs, app: &App) -> anyhow::Result<Exit> {
    match args.command {
        RpcCommand::Demo(args) => demo::run(&args, app),
    }
}
