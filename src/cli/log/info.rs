//! `bandy log info`: the partitions of a topic; how far a group has read.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::complete;
use super::connect::Log;
use super::position::Ends;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::{Cluster, admin};
use crate::log::wire::api::describe_groups::DescribedGroup;
use crate::log::wire::{Field as _, Reader};
use crate::output::Column;
use crate::shutdown::Shutdown;

/// Arguments of `log info`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy log info orders              leader, replicas, first and last offset of each partition
  bandy log info orders --configs    settings, and where they come from
  bandy log info -g billing          members, offsets, lag
  bandy log info -g billing --json | jq -s 'map(.lag) | add'

Exit: 0 shown · 5 no such topic or group · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to show
    #[arg(required_unless_present = "group", conflicts_with = "group", add = completions::remote(complete::topics))]
    pub topic: Option<String>,
    /// Show a group instead
    #[arg(short, long, value_name = "NAME", add = completions::remote(complete::groups))]
    pub group: Option<String>,
    /// Show the topic's settings
    #[arg(long, conflicts_with = "group")]
    pub configs: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such topic or group.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let log = Log::resolve(&args.connect, app, "info")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        match (&args.topic, &args.group) {
            (Some(name), _) if args.configs => configs(name, app, &log, &cluster).await,
            (Some(name), _) => topic(name, app, &log, &cluster).await,
            (None, Some(name)) => group(name, app, &log, &cluster).await,
            (None, None) => Err(Failure::new(Exit::Usage, "which topic?").into()),
        }
    })
}

#[derive(Serialize)]
struct Partition<'a> {
    partition: i32,
    leader: i32,
    replicas: &'a [i32],
    isr: &'a [i32],
    start: i64,
    end: i64,
    bytes: Option<i64>,
}

fn numbers(value: &Value) -> String {
    let numbers = value.as_array().map(Vec::as_slice).unwrap_or_default();
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn topic(name: &str, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    let topic = match cluster.topic(name, false).await {
        Ok(topic) => topic,
        Err(error) => return Err(log.about(&error, name, cluster).await.into()),
    };
    let places: Vec<_> = topic.partitions.iter().map(|it| (name.to_owned(), it.index)).collect();
    let ends = Ends::of(cluster, &places, false).await.map_err(|error| log.failure(&error))?;
    let sizes = admin::sizes(cluster).await.ok();
    let columns = [
        Column::right("partition"),
        Column::right("leader"),
        Column::left("replicas").shown(numbers),
        Column::left("isr").shown(numbers),
        Column::right("start"),
        Column::right("end"),
        Column::right("bytes"),
    ];
    let mut list = app.printer.list(&columns);
    for (partition, place) in topic.partitions.iter().zip(&places) {
        list.row(&Partition {
            partition: partition.index,
            leader: partition.leader,
            replicas: &partition.replicas,
            isr: &partition.in_sync,
            start: ends.start[place],
            end: ends.end[place],
            bytes: sizes.as_ref().and_then(|sizes| sizes.get(place).copied()),
        })?;
    }
    list.finish()?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Setting<'a> {
    name: &'a str,
    value: Option<&'a str>,
    source: String,
}

async fn configs(name: &str, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    if let Err(error) = cluster.topic(name, false).await {
        return Err(log.about(&error, name, cluster).await.into());
    }
    let mut configs = admin::topic_configs(cluster, name).await.map_err(|error| log.failure(&error))?;
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    let columns = [Column::left("name"), Column::left("value"), Column::left("source")];
    let mut list = app.printer.list(&columns);
    for config in &configs {
        let source = crate::log::wire::api::ConfigSource::from_code(config.config_source);
        list.row(&Setting {
            name: &config.name,
            value: config.value.as_deref(),
            source: source.map_or_else(|| config.config_source.to_string(), |source| source.to_string()),
        })?;
    }
    list.finish()?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    current: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    member: Option<&'a str>,
    client: Option<&'a str>,
    host: Option<&'a str>,
}

async fn group(name: &str, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    let failed = |error| log.failure(&error);
    let described = admin::describe_group(cluster, name).await.map_err(failed)?;
    let offsets = admin::group_offsets(cluster, name).await.map_err(failed)?;
    if described.group_state == "Dead" && offsets.is_empty() {
        let text = format!("no group '{name}' at {}", log.url);
        return Err(Failure::new(Exit::NotFound, text).tip("see all of them: bandy log ls groups").into());
    }
    let members = members(&described);
    let mut places: Vec<(String, i32)> = offsets.keys().chain(members.keys()).cloned().collect();
    places.sort();
    places.dedup();
    let ends = admin::offsets(cluster, &places, admin::At::End).await.unwrap_or_default();
    let columns = [
        Column::left("topic"),
        Column::right("partition"),
        Column::right("current"),
        Column::right("end"),
        Column::right("lag"),
        Column::left("member"),
        Column::left("host"),
    ];
    let mut list = app.printer.list(&columns);
    for place in &places {
        let (current, end) = (offsets.get(place).copied(), ends.get(place).map(|it| it.offset));
        let member = members.get(place).and_then(|at| described.members.get(*at));
        list.row(&Place {
            topic: &place.0,
            partition: place.1,
            current,
            end,
            lag: current.zip(end).map(|(current, end)| (end - current).max(0)),
            member: member.map(|it| it.member_id.as_str()),
            client: member.map(|it| it.client_id.as_str()),
            host: member.map(|it| it.client_host.trim_start_matches('/')),
        })?;
    }
    list.finish()?;
    app.printer.status(&format!("group {name} is {}", described.group_state.to_lowercase()));
    Ok(Exit::Done)
}

/// Which member reads what, as far as the group is one of consumers.
fn members(group: &DescribedGroup) -> HashMap<(String, i32), usize> {
    let mut members = HashMap::new();
    for (at, member) in group.members.iter().enumerate() {
        for (topic, partitions) in assignment(&member.member_assignment).unwrap_or_default() {
            members.extend(partitions.into_iter().map(|partition| ((topic.clone(), partition), at)));
        }
    }
    members
}

/// The assignment of a member of a group of consumers: version, then topics with their partitions (ConsumerProtocolAssignment).
fn assignment(bytes: &Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    let mut reader = Reader::new(bytes.clone(), 0, false);
    i16::read(&mut reader, "version").ok()?;
    let count = i32::read(&mut reader, "topics").ok()?;
    // Each takes six bytes at least: what is left bounds their number.
    let count = usize::try_from(count).ok().filter(|count| *count <= reader.left() / 6)?;
    (0..count)
        .map(|_| {
            let topic = String::read(&mut reader, "topic").ok()?;
            Some((topic, Vec::<i32>::read(&mut reader, "partitions").ok()?))
        })
        .collect()
}
