//! `bandy gossip ls`: who is there, who is suspected, who is gone.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::connect::Node;
use super::{complete, envelope, info, tag};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::gossip::wire::ipc::{MemberRow, Request, read_members};
use crate::output::Column;

/// Arguments of `gossip ls`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip ls                     # all members
  bandy gossip ls --status alive --tag role=web
  bandy gossip ls n1 n2
  bandy gossip ls --json | jq -r 'select(.status == \"failed\") | .node'
  bandy gossip ls -e serf://10.0.0.7  # the members that a Serf agent knows

Statuses: alive, suspect (only nodes of bandy tell), leaving, left, failed.

Exit: 0 listed · 3 no node · 6 none that matches · see 'bandy help exit-codes'")]
pub struct Args {
    /// Only these
    #[arg(value_name = "NODE", add = completions::remote(complete::nodes))]
    pub nodes: Vec<String>,
    /// Only those that are so (repeatable)
    #[arg(long, value_name = "STATUS", value_parser = ["alive", "suspect", "leaving", "left", "failed"])]
    pub status: Vec<String>,
    /// Only those whose tag matches all of a regular expression (repeatable: all have to)
    #[arg(long, value_name = "TAG=REGEX", value_parser = tag::filter)]
    pub tag: Vec<(String, String)>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A member as JSON has it.
#[derive(Serialize)]
pub struct Row {
    node: String,
    addr: Option<String>,
    status: String,
    inc: Option<u32>,
    tags: Value,
    rtt_ms: Option<f64>,
    age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
}

/// Columns; what has no value is empty.
const COLUMNS: [Column; 7] = [
    Column::left("node"),
    Column::left("addr"),
    Column::left("status").shown(symbol),
    Column::right("inc"),
    Column::left("tags").shown(tags),
    Column::right("rtt_ms"),
    Column::right("age_ms").shown(age),
];

fn symbol(status: &Value) -> String {
    let status = status.as_str().unwrap_or_default();
    let symbol = match status {
        "alive" => "●",
        "suspect" | "leaving" => "◐",
        "failed" => "✕",
        _ => "○",
    };
    format!("{symbol} {status}")
}

fn tags(tags: &Value) -> String {
    let pairs = tags.as_object().into_iter().flatten();
    let pairs = pairs.map(|(tag, value)| format!("{tag}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

fn age(age: &Value) -> String {
    age.as_u64().map_or_else(String::new, age_text)
}

/// So many milliseconds, as people say it.
pub fn age_text(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// The status as a command shows it.
pub fn status(row: &MemberRow) -> &str {
    if row.suspect && row.status == "alive" { "suspect" } else { &row.status }
}

/// Runs the command.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "ls").await?;
        let rows = members(&mut node, &args.tag).await?;
        let total = rows.len();
        let wanted = |row: &MemberRow| {
            (args.status.is_empty() || args.status.iter().any(|wanted| wanted == status(row)))
                && (args.nodes.is_empty() || args.nodes.contains(&row.name))
        };
        let mut rows: Vec<MemberRow> = rows.into_iter().filter(|row| wanted(row)).collect();
        if rows.is_empty() {
            let filtered = !(args.status.is_empty() && args.nodes.is_empty() && args.tag.is_empty());
            let of = if filtered && args.tag.is_empty() { format!(" of {total}") } else { String::new() };
            return Err(Failure::new(Exit::Nothing, format!("no member{of} matches")).into());
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        print(app, &rows.iter().collect::<Vec<_>>(), None)?;
        Ok(Exit::Done)
    })
}

/// Writes members as a list; at a time, if there are several lists.
///
/// # Errors
/// Output that cannot be written.
pub fn print(app: &App, rows: &[&MemberRow], timestamp: Option<i64>) -> anyhow::Result<()> {
    let mut list = app.printer.list(&COLUMNS);
    for row in rows {
        list.row(&self::row(row, timestamp))?;
    }
    list.finish()?;
    Ok(())
}

/// The row of a member.
pub fn row(member: &MemberRow, timestamp: Option<i64>) -> Row {
    Row {
        node: member.name.clone(),
        addr: member.address.map(|address| address.to_string()),
        status: status(member).to_owned(),
        inc: member.incarnation,
        tags: envelope::tags(member),
        rtt_ms: member.rtt_us.map(|rtt| rtt as f64 / 1000.0),
        age_ms: member.age_ms,
        timestamp,
    }
}

/// All members, if those that were named are among them.
///
/// # Errors
/// One is not; the node's.
pub async fn named(names: &[String], node: &mut Node) -> Result<Vec<MemberRow>, Failure> {
    let members = members(node, &[]).await?;
    match names.iter().find(|name| !members.iter().any(|member| member.name == **name)) {
        Some(missing) => Err(info::unknown(missing, &node.url, &members)),
        None => Ok(members),
    }
}

/// Members, of these tags if there are any.
///
/// # Errors
/// The node's.
pub async fn members(node: &mut Node, tags: &[(String, String)]) -> Result<Vec<MemberRow>, Failure> {
    let request = if tags.is_empty() {
        Request::Members
    } else {
        let tags: BTreeMap<String, String> = tags.iter().cloned().collect();
        Request::MembersFiltered { tags, status: String::new(), name: String::new() }
    };
    node.ask(&request, read_members).await
}
