//! `bandy gossip wait`: until a cluster has so many members.

use super::connect::Node;
use super::ls::{members, status};
use super::tag;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::cli::wait;

/// Arguments of `gossip wait`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip wait              # until a node of yours answers
  bandy gossip wait --members 5  # until it knows five that are alive
  bandy gossip wait --members 2 --tag role=web --timeout 10s
  bandy gossip wait --members 1 --status failed

Exit: 0 it is so · 124 --timeout passed · see 'bandy help exit-codes'")]
pub struct Args {
    /// How many, at least
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub members: usize,
    /// How they are
    #[arg(long, value_name = "STATUS", default_value = "alive")]
    #[arg(value_parser = ["alive", "suspect", "leaving", "left", "failed"])]
    pub status: String,
    /// Only those whose tag matches all of a regular expression (repeatable: all have to)
    #[arg(long, value_name = "TAG=REGEX", value_parser = tag::filter)]
    pub tag: Vec<(String, String)>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// No endpoint of a node; the timeout.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut node = None;
    wait::until(app, args.connect.timeout, async || {
        let looked = look(args, app, &mut node).await;
        if looked.is_err() {
            node = None;
        }
        looked
    })
}

/// What is missing; nothing if it is so.
async fn look(args: &Args, app: &App, node: &mut Option<Node>) -> anyhow::Result<Option<String>> {
    let node = match node {
        Some(node) => node,
        none => none.insert(Node::open(&args.connect, app, "wait").await?),
    };
    let rows = members(node, &args.tag).await?;
    let count = rows.iter().filter(|row| status(row) == args.status).count();
    let is_so = count >= args.members;
    Ok((!is_so).then(|| format!("{count} of {} are {}", args.members, args.status)))
}
