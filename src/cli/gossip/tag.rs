//! `bandy gossip tag`: tags of a node, which all others see.

use serde::Serialize;

use super::connect::Node;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::gossip::engine::{DATA_TAG, Refusal};
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

All tags of a node have 512 bytes together at most. The tag dk is the node's own: it says that it keeps keys and values.

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
        Some((tag, "")) if !tag.is_empty() => Ok((tag.to_owned(), String::new())),
        Some((tag, value)) if !tag.is_empty() => users(tag, value),
        _ => Err(format!("expected TAG=VALUE, or TAG= to delete it, got '{text}'")),
    }
}

/// A tag of a node, `TAG=VALUE`, both there.
///
/// # Errors
/// Anything else, and a tag that is the node's own.
pub fn of_node(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((tag, value)) if !tag.is_empty() && !value.is_empty() => users(tag, value),
        _ => Err(format!("expected TAG=VALUE, got '{text}'")),
    }
}

/// A tag that users may set.
fn users(tag: &str, value: &str) -> Result<(String, String), String> {
    match tag {
        DATA_TAG => Err(Refusal::OwnTag.to_string()),
        _ => Ok((tag.to_owned(), value.to_owned())),
    }
}

/// `TAG=REGEX`: which members are meant.
///
/// # Errors
/// Anything else.
pub fn filter(text: &str) -> Result<(String, String), String> {
    let (tag, expression) = text
        .split_once('=')
        .filter(|(tag, expression)| !tag.is_empty() && !expression.is_empty())
        .ok_or_else(|| format!("expected TAG=REGEX, got '{text}'"))?;
    match regex_lite::Regex::new(expression) {
        Ok(_) => Ok((tag.to_owned(), expression.to_owned())),
        Err(error) => Err(format!("'{expression}' is no regular expression: {error}")),
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
