//! `bandy gossip info`: everything about a node.

use serde_json::{Map, Value, json};

use super::connect::Node;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::gossip::wire::ipc::{Request, Stats, read_stats};
use crate::output::{Column, Format};

/// Arguments of `gossip info`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy gossip info
  bandy gossip info -e serf://10.0.0.7 --json | jq .serf.members

Exit: 0 shown · 3 no node · see 'bandy help exit-codes'")]
pub struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "info").await?;
        let stats = node.ask(&Request::Stats, read_stats).await?;
        show(&stats, app)?;
        Ok(Exit::Done)
    })
}

fn show(stats: &Stats, app: &App) -> anyhow::Result<()> {
    if app.printer.look().format == Format::Json {
        let group = |figures: &std::collections::BTreeMap<String, String>| {
            Value::Object(figures.iter().map(|(name, value)| (name.clone(), figure(name, value))).collect())
        };
        let all: Map<String, Value> =
            stats.iter().map(|(name, figures)| (name.clone(), group(figures))).collect();
        return Ok(app.printer.json(&all)?);
    }
    let columns = [Column::left("of"), Column::left("name"), Column::left("value")];
    let mut list = app.printer.list(&columns);
    for (group, figures) in stats {
        for (name, value) in figures {
            list.row(&json!({"of": group, "name": name, "value": value}))?;
        }
    }
    Ok(list.finish()?)
}

/// Agents tell everything as text; a number is one, except in tags.
fn figure(name: &str, value: &str) -> Value {
    match (name, value.parse::<u64>()) {
        (_, Ok(number)) if name != "name" => json!(number),
        _ => json!(value),
    }
}
