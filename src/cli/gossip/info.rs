//! `bandy gossip info`: everything about a node.

use serde_json::{Map, Value, json};

use super::connect::Node;
use super::{complete, ls};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::gossip::wire::ipc::{MemberRow, Request, Stats, read_coordinate, read_stats};
use crate::output::{Column, Format};

/// Arguments of `gossip info`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip info
  bandy gossip info n2  # what the node knows of this member
  bandy gossip info n2 --json | jq .tags.role
  bandy gossip info -e serf://10.0.0.7 --json | jq .serf.members

Exit: 0 shown · 3 no node · 5 no such member · see 'bandy help exit-codes'")]
pub struct Args {
    /// A member [default: the node itself, with its counters]
    #[arg(value_name = "NODE", add = completions::remote(complete::nodes))]
    pub node: Option<String>,
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
        if let Some(name) = &args.node {
            return member(&mut node, name, app).await;
        }
        let stats = node.ask(&Request::Stats, read_stats).await?;
        show(&stats, app)?;
        Ok(Exit::Done)
    })
}

/// What the node knows of a member: the row of `ls`, its versions, and where it is in the space of round trips.
async fn member(node: &mut Node, name: &str, app: &App) -> anyhow::Result<Exit> {
    let members = ls::members(node, &[]).await?;
    let Some(member) = members.iter().find(|member| member.name == name) else {
        return Err(unknown(name, &node.url, &members).into());
    };
    // There is none before the first probe, and none of a node that is gone.
    let coordinate = node.ask(&Request::Coordinate { node: name.to_owned() }, read_coordinate).await;
    let [protocol_min, protocol_max, protocol, delegate_min, delegate_max, delegate] = member.versions;
    let mut all = match serde_json::to_value(ls::row(member, None))? {
        Value::Object(row) => row,
        _ => Map::new(),
    };
    all.insert(
        "versions".to_owned(),
        json!({
            "protocol_min": protocol_min, "protocol_max": protocol_max, "protocol": protocol,
            "delegate_min": delegate_min, "delegate_max": delegate_max, "delegate": delegate,
        }),
    );
    let coordinate = coordinate.ok().flatten().map(|it| {
        json!({"vector": it.vector, "height": it.height, "adjustment": it.adjustment, "error": it.error})
    });
    all.insert("coordinate".to_owned(), coordinate.unwrap_or(Value::Null));
    if app.printer.look().format == Format::Json {
        app.printer.json(&all)?;
        return Ok(Exit::Done);
    }
    let columns = [Column::left("of"), Column::left("name"), Column::left("value")];
    let mut list = app.printer.list(&columns);
    for (name, value) in &all {
        match value {
            Value::Object(figures) => {
                for (figure, value) in figures {
                    list.row(&json!({"of": name, "name": figure, "value": value}))?;
                }
            }
            Value::Null => {}
            value => list.row(&json!({"of": "member", "name": name, "value": value}))?,
        }
    }
    list.finish()?;
    Ok(Exit::Done)
}

/// There is no such member; perhaps one of nearly that name.
pub fn unknown(name: &str, url: &str, members: &[MemberRow]) -> Failure {
    let failure = Failure::new(Exit::NotFound, format!("no member '{name}' at {url}"));
    match near_miss(name, members.iter().map(|member| member.name.as_str())) {
        Some(near) => failure.tip(format!("did you mean '{near}'?")),
        None => failure.there_for("bandy gossip ls", "who is there"),
    }
}

fn show(stats: &Stats, app: &App) -> anyhow::Result<()> {
    if app.printer.look().format == Format::Json {
        let group = |of: &str, figures: &std::collections::BTreeMap<String, String>| {
            let figures = figures.iter().map(|(name, value)| (name.clone(), figure(of, name, value)));
            Value::Object(figures.collect())
        };
        let all: Map<String, Value> =
            stats.iter().map(|(name, figures)| (name.clone(), group(name, figures))).collect();
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
fn figure(of: &str, name: &str, value: &str) -> Value {
    match (name, value.parse::<u64>()) {
        (_, Ok(number)) if of != "tags" && name != "name" => json!(number),
        _ => json!(value),
    }
}
