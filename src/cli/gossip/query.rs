//! `bandy gossip query`: ask nodes something, and print their answers as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::connect::Node;
use super::event::payload;
use super::tag;
use super::{complete, ls};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::gossip::wire::ipc::{QueryRecord, Request};
use crate::output::{Format, Separators};
use crate::record::{Embed, Record};
use crate::units::parse_duration;

/// Arguments of `gossip query`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip query load                 # everybody whom a handler answers for: NODE TAB answer
  bandy gossip query load --tag role=web  # those whose tag matches; a regular expression
  bandy gossip query restart nginx --node web1 --node web2 --wait 3s
  bandy gossip join -- ./handle.sh        # a node whose handler answers: its stdout is the answer

Exit: 0 answered · 5 no such member · 6 nobody answered · 7 a node that was named did not · see 'bandy help exit-codes'")]
pub struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it says; - for stdin
    #[arg(value_name = "PAYLOAD")]
    pub payload: Option<String>,
    /// Ask only this node (repeatable)
    #[arg(long, value_name = "NODE", add = completions::remote(complete::nodes), help_heading = "Who")]
    pub node: Vec<String>,
    /// Ask only those whose tag matches a regular expression (repeatable: all have to)
    #[arg(long, value_name = "TAG=REGEX", value_parser = tag::filter, help_heading = "Who")]
    pub tag: Vec<(String, String)>,
    /// How long answers are taken [default: as long as a cluster of that size needs]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "How")]
    pub wait: Option<Duration>,
    /// Send answers through N other nodes as well, should datagrams get lost
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "How")]
    pub relay_factor: u8,
    /// Do not ask for acknowledgements
    #[arg(long, help_heading = "How")]
    pub no_ack: bool,
    /// Stop after N answers
    #[arg(short = 'n', long, value_name = "N", value_parser = crate::units::parse_count, help_heading = "How")]
    pub count: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let payload = payload(args.payload.as_deref())?;
    app.client(args.connect.timeout, ask(args, payload, app))
}

async fn ask(args: &Args, payload: Bytes, app: &App) -> anyhow::Result<Exit> {
    let mut node = Node::open(&args.connect, app, "query").await?;
    if !args.node.is_empty() {
        ls::named(&args.node, &mut node).await?;
    }
    let request = Request::Query {
        nodes: args.node.clone(),
        tags: args.tag.iter().cloned().collect::<BTreeMap<_, _>>(),
        acks: !args.no_ack,
        relay_factor: args.relay_factor,
        timeout: args.wait.unwrap_or_default(),
        name: args.name.clone(),
        payload,
    };
    node.client.start(&request).await.map_err(|error| node.failure(&error))?;
    let (mut acks, mut responses) = (0, Vec::new());
    loop {
        let record = node.client.next_record(QueryRecord::read).await;
        let record = record.map_err(|error| node.failure(&error))?;
        match record.kind.as_str() {
            // Old agents pass on what nobody has signed.
            "ack" | "response" if record.from.is_empty() => {}
            "ack" => {
                acks += 1;
                app.printer.detail(&format!("{} has it", record.from));
            }
            "response" => {
                show(app, args, &record)?;
                responses.push(record.from);
                let all = !args.node.is_empty() && args.node.iter().all(|node| responses.contains(node));
                if all || args.count.is_some_and(|count| responses.len() as u64 >= count) {
                    break;
                }
            }
            _ => break,
        }
    }
    let received = if args.no_ack { String::new() } else { format!("{acks} received it, ") };
    app.printer.status(&format!("{received}{} answered", responses.len()));
    let missing: Vec<&str> =
        args.node.iter().filter(|node| !responses.contains(node)).map(String::as_str).collect();
    if responses.is_empty() {
        return Err(nobody_answered(args, acks).into());
    }
    if !missing.is_empty() && responses.len() < args.count.unwrap_or(u64::MAX) as usize {
        app.printer.note(&format!("no answer from {}", missing.join(", ")));
        return Ok(Exit::Partly);
    }
    Ok(Exit::Done)
}

/// To receive a query is not to answer it: for that there has to be a handler.
fn nobody_answered(args: &Args, acks: usize) -> Failure {
    let message = match (args.no_ack, acks) {
        (true, _) => "nobody answered".to_owned(),
        (false, 0) => "nobody received it".to_owned(),
        (false, acks) => format!("{} received it, and nobody answered", counted(acks as u64, "node")),
    };
    Failure::new(Exit::Nothing, message)
        .tip("bandy gossip join -- ./handle.sh    a node whose handler answers")
}

fn show(app: &App, args: &Args, answer: &QueryRecord) -> anyhow::Result<()> {
    let printer = &app.printer;
    match printer.look().format {
        Format::Auto | Format::Table | Format::Plain => {
            let mut line = answer.from.replace(['\t', '\n'], " ").into_bytes();
            line.push(b'\t');
            line.extend_from_slice(answer.payload.strip_suffix(b"\n").unwrap_or(&answer.payload));
            line.push(b'\n');
            printer.bytes(&line)?;
        }
        Format::Json | Format::Csv | Format::Value | Format::Template(_) => {
            let record = Record {
                key: Some(Bytes::from(answer.from.clone())),
                value: Some(answer.payload.clone()),
                headers: Vec::new(),
                timestamp: Some(jiff::Timestamp::now().as_millisecond()),
                provenance: vec![
                    ("event", json!("response")),
                    ("node", json!(answer.from)),
                    ("query", json!(args.name)),
                ],
            };
            printer.records(Separators::default(), Embed::Never).write(&record)?;
        }
    }
    Ok(printer.flush()?)
}
