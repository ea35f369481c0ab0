//! `bandy gossip event`: tell all nodes something, or some of them.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;

use super::connect::Node;
use super::tag;
use super::{complete, ls};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::gossip::wire::ipc::{QueryRecord, Request};
use crate::units::parse_duration;

/// Arguments of `gossip event`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip event deploy v1.2.3
  date | bandy gossip event tick -  # the payload from stdin
  bandy gossip event -e serf://10.0.0.7 deploy v1.2.3

  bandy gossip event reload --tag role=web          # only to those whose tag matches
  bandy gossip event drain --node web1 --node web2  # only to these
  bandy gossip event probe --to 3                   # to three at random

Name and payload have 512 bytes together at most: what is larger does not spread. To some only it is sent as a query that \
wants no answer: they are told 'query NAME', and say that they have it.

Exit: 0 it is on its way, or all that it is for have it · 1 refused · 3 no node · 5 no such member · 6 nobody has it · 7 not all have it")]
pub struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it says; - for stdin
    #[arg(value_name = "PAYLOAD")]
    pub payload: Option<String>,
    /// Let handlers make one of several events of this name that come together
    #[arg(long)]
    pub coalesce: bool,
    /// Only to this node (repeatable)
    #[arg(long, value_name = "NODE", add = completions::remote(complete::nodes), help_heading = "To whom", conflicts_with = "coalesce")]
    pub node: Vec<String>,
    /// Only to those whose tag matches all of a regular expression (repeatable: all have to)
    #[arg(long, value_name = "TAG=REGEX", value_parser = tag::filter, help_heading = "To whom", conflicts_with = "coalesce")]
    pub tag: Vec<(String, String)>,
    /// Only to so many, chosen at random
    #[arg(long, value_name = "N", help_heading = "To whom", conflicts_with_all = ["coalesce", "node"], value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// How long to wait until they have it [default: as long as a cluster of that size needs]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "To whom")]
    pub wait: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The payload of a command line; `-` is stdin.
///
/// # Errors
/// stdin cannot be read.
pub fn payload(text: Option<&str>) -> anyhow::Result<Bytes> {
    match text {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(1024 * 1024 + 1).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        }
        text => Ok(Bytes::from(text.unwrap_or_default().to_owned())),
    }
}

/// Runs the command.
///
/// # Errors
/// The node's.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let payload = payload(args.payload.as_deref())?;
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "event").await?;
        if !(args.node.is_empty() && args.tag.is_empty() && args.to.is_none()) {
            return to_some(args, payload, &mut node, app).await;
        }
        let (name, coalesce) = (args.name.clone(), args.coalesce);
        node.ask(&Request::Event { name, payload, coalesce }, |_| Ok(())).await?;
        Ok(Exit::Done)
    })
}

/// Who is to be told: living members that match.
async fn wanted(args: &Args, node: &mut Node) -> Result<Vec<String>, Failure> {
    if !args.node.is_empty() {
        ls::named(&args.node, node).await?;
    }
    let members = ls::members(node, &args.tag).await?;
    let mut names: Vec<String> = members
        .into_iter()
        .filter(|member| {
            member.status == "alive" && (args.node.is_empty() || args.node.contains(&member.name))
        })
        .map(|member| member.name)
        .collect();
    if let Some(missing) = args.node.iter().find(|name| !names.contains(name)) {
        return Err(Failure::new(
            Exit::NotFound,
            format!("no living member that matches is called {missing}"),
        )
        .there_for("bandy gossip ls", "who is there"));
    }
    if let Some(count) = args.to {
        fastrand::shuffle(&mut names);
        names.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }
    if names.is_empty() {
        return Err(Failure::new(Exit::Nothing, "no living member matches"));
    }
    Ok(names)
}

/// A query to those only, until all of them have it.
async fn to_some(args: &Args, payload: Bytes, node: &mut Node, app: &App) -> anyhow::Result<Exit> {
    let mut waiting: HashSet<String> = wanted(args, node).await?.into_iter().collect();
    let all = waiting.len();
    let request = Request::Query {
        nodes: waiting.iter().cloned().collect(),
        tags: BTreeMap::new(),
        acks: true,
        relay_factor: 0,
        timeout: args.wait.unwrap_or_default(),
        name: args.name.clone(),
        payload,
    };
    node.client.start(&request).await.map_err(|error| node.failure(&error))?;
    while !waiting.is_empty() {
        let record = node.client.next_record(QueryRecord::read).await;
        let record = record.map_err(|error| node.failure(&error))?;
        match record.kind.as_str() {
            "ack" => {
                waiting.remove(&record.from);
                app.printer.detail(&format!("{} has it", record.from));
            }
            "response" => {}
            _ => break,
        }
    }
    let has = all - waiting.len();
    app.printer.status(&format!("{has} of {all} have it"));
    if has < all {
        let mut names: Vec<String> = waiting.into_iter().collect();
        names.sort();
        app.printer.note(&format!("no word from {}", names.join(", ")));
    }
    Ok(match has {
        0 => Exit::Nothing,
        _ if has < all => Exit::Partly,
        _ => Exit::Done,
    })
}
