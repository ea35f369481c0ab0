//! `bandy gossip leave`: a node leaves in order, or one that failed is forced out.

use super::complete;
use super::connect::Node;
use super::{info, ls};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::confirm::confirm;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::gossip::wire::ipc::Request;

/// Arguments of `gossip leave`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip leave                # this user's newest node leaves its cluster and ends
  bandy gossip leave -e local:n2    # that one
  bandy gossip leave n7 -y          # n7 has failed and will not come back: it counts as left
  bandy gossip leave n7 -y --prune  # and is forgotten at once

Exit: 0 done · 1 refused · 3 no node · 5 no such member · see 'bandy help exit-codes'")]
pub struct Args {
    /// A member that failed, to be forced out
    #[arg(value_name = "NODE", add = completions::remote(complete::nodes))]
    pub node: Option<String>,
    /// Forget it at once
    #[arg(long, requires = "node")]
    pub prune: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The node's.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "leave").await?;
        let Some(name) = &args.node else {
            node.ask(&Request::Leave, |_| Ok(())).await?;
            app.printer.status(&format!("{} has left", node.url));
            return Ok(Exit::Done);
        };
        can_be_forced(name, &mut node).await?;
        if !args.yes {
            confirm(&format!("force {name} out of the cluster of {}", node.url))?;
        }
        node.ask(&Request::ForceLeave { node: name.clone(), prune: args.prune }, |_| Ok(())).await?;
        Ok(Exit::Done)
    })
}

/// Nobody is asked about what the node refuses anyway, and a Serf agent would take any name.
async fn can_be_forced(name: &str, node: &mut Node) -> Result<(), Failure> {
    let members = ls::members(node, &[]).await?;
    match members.iter().find(|member| member.name == name) {
        None => Err(info::unknown(name, &node.url, &members)),
        Some(member) if member.status == "alive" => {
            let why = format!("{}: {name} is alive: only one that failed can be made to leave", node.url);
            Err(Failure::new(Exit::Failed, why))
        }
        Some(_) => Ok(()),
    }
}
