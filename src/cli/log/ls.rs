//! `bandy log ls`: topics, groups, nodes.

use std::collections::{BTreeMap, HashMap};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use super::complete;
use super::connect::Log;
use super::position::Ends;
use super::unwell::{self, Unwell};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::{Cluster, Error, admin};
use crate::log::wire::ErrorCode;
use crate::output::Column;
use crate::shutdown::Shutdown;

/// Arguments of `log ls`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log ls                # topics: partitions, records, bytes, oldest and newest record
  bandy log ls topics orders  # one of them
  bandy log ls groups
  bandy log ls nodes --json

Records are counted by offsets: compaction and transactions leave holes that count, too.

Exit: 0 listed · 5 none of that name · 7 some partitions cannot be looked at · see 'bandy help exit-codes'")]
pub struct Args {
    /// What to list
    #[arg(default_value = "topics", hide_default_value = false)]
    pub what: What,
    /// Only these
    #[arg(value_name = "NAME", add = completions::remote(complete::topics))]
    pub names: Vec<String>,
    /// Topics that the brokers keep their own state in, too
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Topics
    Topics,
    /// Groups of readers
    Groups,
    /// Brokers
    Nodes,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; none of that name.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let log = Log::resolve(&args.connect, app, "ls")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        match args.what {
            What::Topics => topics(args, app, &log, &cluster).await,
            What::Groups => groups(args, app, &log, &cluster).await,
            What::Nodes => nodes(args, app, &log, &cluster).await,
        }
    })
}

#[derive(Serialize)]
struct Topic<'a> {
    topic: &'a str,
    parts: usize,
    records: Option<i64>,
    bytes: Option<i64>,
    oldest: Option<i64>,
    newest: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn time(value: &Value) -> String {
    let time = value.as_i64().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn bytes(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), |bytes| bytes.to_string())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// What is wrong with partitions of a topic: those with the same error together.
fn unwell_of(topic: &str, unwell: &Unwell) -> Option<String> {
    let mut by_error: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((of, partition), error) in unwell {
        if of == topic {
            by_error.entry(unwell::why(error)).or_default().push(partition.to_string());
        }
    }
    let one = |(why, numbers): (String, Vec<String>)| {
        let noun = if numbers.len() == 1 { "partition" } else { "partitions" };
        format!("{noun} {}: {why}", numbers.join(","))
    };
    let all: Vec<String> = by_error.into_iter().map(one).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

async fn topics(args: &Args, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    let failed = |error: Error| log.failure(&error);
    let named: Vec<&str> = args.names.iter().map(String::as_str).collect();
    let response =
        cluster.metadata((!named.is_empty()).then_some(&named[..]), false).await.map_err(failed)?;
    let mut names: Vec<String> = Vec::new();
    for topic in response.topics {
        let name = topic.name.unwrap_or_default();
        if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            || topic.error_code == ErrorCode::INVALID_TOPIC_EXCEPTION
        {
            let error = Error::NoTopic(name.clone());
            let failure = log.about(&error, &name, cluster).await;
            let failure = Failure { tips: Vec::new(), ..failure };
            return Err(failure.there("see all of them: bandy log ls").into());
        }
        if !topic.is_internal || args.all || !named.is_empty() {
            names.push(name);
        }
    }
    names.sort();
    let known = names.iter().filter_map(|name| cluster.known(name));
    let places: Vec<(String, i32)> = known
        .flat_map(|topic| {
            topic.partitions.iter().map(|it| (topic.name.clone(), it.index)).collect::<Vec<_>>()
        })
        .collect();
    let (ends, oldest) = futures_util::future::try_join(
        Ends::of(cluster, &places, false),
        admin::offsets_of_each(cluster, &places, admin::At::Time(0)),
    )
    .await
    .map_err(failed)?;
    // Not all brokers know these two, and not everybody may ask.
    let newest = admin::offsets_of_each(cluster, &places, admin::At::Newest).await.unwrap_or_default();
    let sizes = admin::sizes(cluster).await.ok();
    let mut columns = vec![
        Column::left("topic"),
        Column::right("parts"),
        Column::right("records"),
        Column::right("bytes").shown(bytes),
        Column::left("oldest").shown(time),
        Column::left("newest").shown(time),
    ];
    columns.extend((!ends.failed.is_empty()).then(|| Column::left("error").shown(text)));
    let mut list = app.printer.list(&columns);
    let mut by_topic: HashMap<&str, Vec<&(String, i32)>> = HashMap::new();
    for place in &places {
        by_topic.entry(&place.0).or_default().push(place);
    }
    for name in &names {
        let own = || by_topic.get(name.as_str()).into_iter().flatten().copied();
        let of = |place: &(String, i32)| Some(ends.end.get(place)? - ends.start.get(place)?);
        let known: Vec<i64> = own().filter_map(of).collect();
        let times = |found: &HashMap<(String, i32), admin::Found>| {
            own()
                .filter_map(|it| found.get(it))
                .map(|it| it.timestamp)
                .filter(|it| *it >= 0)
                .collect::<Vec<_>>()
        };
        list.row(&Topic {
            topic: name,
            parts: own().count(),
            records: (!known.is_empty()).then(|| known.iter().sum()),
            bytes: sizes.as_ref().map(|sizes| own().filter_map(|place| sizes.get(place)).sum()),
            oldest: times(&oldest.found).into_iter().min(),
            newest: times(&newest.found).into_iter().max(),
            error: unwell_of(name, &ends.failed),
        })?;
    }
    list.finish()?;
    Ok(unwell::end(&ends.failed, places.len(), &log.url)?)
}

#[derive(Serialize)]
struct Group<'a> {
    group: &'a str,
    state: &'a str,
    r#type: &'a str,
    protocol: &'a str,
}

/// What a group that is not there was probably meant to be; none where nobody says which there are.
pub async fn near_group(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.metadata(Some(&[]), false).await.ok()?;
    let groups = admin::groups(cluster).await.ok()?;
    near_miss(name, groups.iter().map(|it| &*it.group_id)).map(|near| format!("did you mean '{near}'?"))
}

async fn groups(args: &Args, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    cluster.metadata(Some(&[]), false).await.map_err(|error| log.failure(&error))?;
    let groups = admin::groups(cluster).await.map_err(|error| log.failure(&error))?;
    if let Some(missing) = args.names.iter().find(|name| !groups.iter().any(|it| it.group_id == **name)) {
        let text = format!("no group '{missing}' among {} at {}", groups.len(), log.url);
        let failure = Failure::new(Exit::NotFound, text);
        let near = near_miss(missing, groups.iter().map(|it| &*it.group_id));
        let failure = near.into_iter().fold(failure, |it, near| it.tip(format!("did you mean '{near}'?")));
        return Err(failure.there("see all of them: bandy log ls groups").into());
    }
    let columns =
        [Column::left("group"), Column::left("state"), Column::left("type"), Column::left("protocol")];
    let mut list = app.printer.list(&columns);
    for group in groups.iter().filter(|it| args.names.is_empty() || args.names.contains(&it.group_id)) {
        list.row(&Group {
            group: &group.group_id,
            state: &group.group_state,
            r#type: &group.group_type,
            protocol: &group.protocol_type,
        })?;
    }
    list.finish()?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Node<'a> {
    node: i32,
    host: &'a str,
    port: Option<u16>,
    rack: Option<&'a str>,
    controller: bool,
}

async fn nodes(args: &Args, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    cluster.metadata(Some(&[]), false).await.map_err(|error| log.failure(&error))?;
    let columns = [
        Column::right("node"),
        Column::left("host"),
        Column::right("port"),
        Column::left("rack"),
        Column::left("controller"),
    ];
    let mut list = app.printer.list(&columns);
    let (mut nodes, controller) = (cluster.nodes(), cluster.controller_id());
    nodes.sort_by_key(|node| node.id);
    if let Some(missing) = args.names.iter().find(|name| !nodes.iter().any(|it| it.id.to_string() == **name))
    {
        let text = format!("no node '{missing}' among {} at {}", nodes.len(), log.url);
        return Err(Failure::new(Exit::NotFound, text).there("see all of them: bandy log ls nodes").into());
    }
    for node in nodes.iter().filter(|it| args.names.is_empty() || args.names.contains(&it.id.to_string())) {
        list.row(&Node {
            node: node.id,
            // Whoever came through a socket is told no other way to a broker without one.
            host: if node.host.is_empty() { &log.url } else { &node.host },
            port: (node.port > 0).then_some(node.port),
            rack: node.rack.as_deref(),
            controller: node.id == controller,
        })?;
    }
    list.finish()?;
    Ok(Exit::Done)
}
