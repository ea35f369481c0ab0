//! `bandy gossip tag`: tags of a node, which all others see.

use serde::Serialize;

use super::connect::Node;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::gossip::wire::ipc::{Request, read_stats};
use crate::output::Column;

/// Arguments of `gossip tag`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip tag                   # which tags the node has
  bandy gossip tag role=web zone=eu  # set two; the others see it within a second
  bandy gossip tag zone=             # delete one
  bandy gossip tag -e local:n2 role=db

All tags of a node have 512 bytes together at most.

Exit: 0 done · 1 refused · 3 no node · see 'bandy help exit-codes'")]
pub struct Args {
    /// Tags to set; without a value, to delete
    #[arg(value_name = "TAG=VALUE", value_parser = assignment)]
    pub tags: Vec<(String, String)>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `TAG=VALUE`, where the value may be empty.
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((tag, value)) if !tag.is_empty() => Ok((tag.to_owned(), value.to_owned())),
        _ => Err(format!("expected TAG=VALUE, or TAG= to delete it, got '{text}'")),
    }
}

/// `TAG=VALUE`, both there.
///
/// # Errors
/// Anything else.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((tag, value)) if !tag.is_empty() && !value.is_empty() => Ok((tag.to_owned(), value.to_owned())),
        _ => Err(format!("expected TAG=VALUE, got '{text}'")),
    }
}

#[derive(Serialize)]
struct Row {
    tag: String,
    value: String,
}

/// Runs the command.
///
/// # Errors
/// The node's.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "tag").await?;
        if args.tags.is_empty() {
            let stats = node.ask(&Request::Stats, read_stats).await?;
            let columns = [Column::left("tag"), Column::left("value")];
            let mut list = app.printer.list(&columns);
            for (tag, value) in stats.get("tags").into_iter().flatten() {
                list.row(&Row { tag: tag.clone(), value: value.clone() })?;
            }
            list.finish()?;
            return Ok(Exit::Done);
        }
        let (delete, set): (Vec<_>, Vec<_>) =
            args.tags.iter().cloned().partition(|(_, value)| value.is_empty());
        let delete = delete.into_iter().map(|(tag, _)| tag).collect();
        node.ask(&Request::Tags { set: set.into_iter().collect(), delete }, |_| Ok(())).await?;
        Ok(Exit::Done)
    })
}
