//! `bandy log info`: the partitions of a topic; how far a group has read.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::complete;
use super::config;
use super::connect::Log;
use super::position::{self, Ends, Position};
use super::unwell::{self, Unwell};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::top;
use crate::log::client::admin::{Configured, GroupMember};
use crate::log::client::{Cluster, admin};
use crate::output::Column;
use crate::shutdown::Shutdown;
use crate::units::parse_duration;

/// Between two looks with `--watch`.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(2);

/// Arguments of `log info`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log info orders             # leader, replicas, first and last offset of each partition
  bandy log info orders --configs   # settings, and where they come from
  bandy log info orders --at @-15m  # which offset each partition had a quarter of an hour ago
  bandy log info -g billing         # members, offsets, lag
  bandy log info -g billing --json | jq -s 'map(.lag) | add'
  bandy log info -g billing --max-lag 1000 -q >/dev/null || alert
  bandy log info -g billing --watch -i 10s

Exit: 0 shown · 1 more than --max-lag behind · 5 no such topic or group · 7 some partitions cannot be looked at · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to show
    #[arg(required_unless_present = "group", conflicts_with = "group", value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topic: Option<String>,
    /// Show the offset of this place in each partition, too: -10 +10 @-15m @2026-11-23T07:00
    #[arg(long, value_name = "POS", value_parser = position::parse, add = completions::words(completions::POSITIONS), allow_hyphen_values = true, conflicts_with_all = ["group", "configs"])]
    pub at: Option<Position>,
    /// Show a group instead
    #[arg(short, long, value_name = "NAME", add = completions::remote(complete::groups))]
    pub group: Option<String>,
    /// Show the topic's settings
    #[arg(long, conflicts_with = "group")]
    pub configs: bool,
    /// Show the group again and again
    #[arg(short, long, requires = "group", conflicts_with = "topic")]
    pub watch: bool,
    /// Time between two looks [default: 2s]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration, requires = "watch")]
    pub interval: Option<Duration>,
    /// Fail when the group is more than N records behind
    #[arg(long, value_name = "N", requires = "group")]
    pub max_lag: Option<u64>,
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
            (Some(name), _) if args.configs => {
                let of = Configured::Topic(name.clone());
                let configs = config::settings(&of, &log, &cluster).await?;
                config::show(&of, &[], &configs, app)?;
                Ok(Exit::Done)
            }
            (Some(name), _) => topic(name, args.at, app, (&log, &cluster)).await,
            (None, Some(name)) => watch(name, args, app, (&log, &cluster)).await,
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
    start: Option<i64>,
    end: Option<i64>,
    bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn numbers(value: &Value) -> String {
    let numbers = value.as_array().map(Vec::as_slice).unwrap_or_default();
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn topic(
    name: &str,
    at: Option<Position>,
    app: &App,
    (log, cluster): (&Log, &Cluster),
) -> anyhow::Result<Exit> {
    let topic = match cluster.topic(name, false).await {
        Ok(topic) => topic,
        Err(error) => return Err(log.about(&error, name, cluster).await.into()),
    };
    let places: Vec<_> = topic.partitions.iter().map(|it| (name.to_owned(), it.index)).collect();
    let ends = Ends::of(cluster, &places, false).await.map_err(|error| log.failure(&error))?;
    let found = match at {
        Some(at) => ends.resolve(cluster, &places, at).await.map_err(|error| log.failure(&error))?,
        None => HashMap::new(),
    };
    let sizes = admin::sizes(cluster).await.ok();
    let mut columns = vec![
        Column::right("partition"),
        Column::right("leader"),
        Column::left("replicas").shown(numbers),
        Column::left("isr").shown(numbers),
        Column::right("start"),
        Column::right("end"),
        Column::right("bytes"),
    ];
    columns.extend(at.map(|_| Column::right("at")));
    columns.extend((!ends.failed.is_empty()).then(|| Column::left("error")));
    let mut list = app.printer.list(&columns);
    for (partition, place) in topic.partitions.iter().zip(&places) {
        list.row(&Partition {
            partition: partition.index,
            leader: partition.leader,
            replicas: &partition.replicas,
            isr: &partition.in_sync,
            start: ends.start.get(place).copied(),
            end: ends.end.get(place).copied(),
            bytes: sizes.as_ref().and_then(|sizes| sizes.get(place).copied()),
            at: found.get(place).copied(),
            error: ends.failed.get(place).map(unwell::why),
        })?;
    }
    list.finish()?;
    Ok(unwell::end(&ends.failed, places.len(), &log.url)?)
}

#[derive(Serialize)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    current: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    member: Option<&'a str>,
    instance: Option<&'a str>,
    client: Option<&'a str>,
    host: Option<&'a str>,
    metadata: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How far a group is.
struct Standing {
    /// How many records it is behind, if that is known of all that it has stored.
    lag: Option<i64>,
    /// Partitions that it reads or has read.
    partitions: usize,
    /// Those whose ends are not known.
    unwell: Unwell,
}

/// Shows a group, once or again and again, until it lags too far.
async fn watch(name: &str, args: &Args, app: &App, to: (&Log, &Cluster)) -> anyhow::Result<Exit> {
    let interval = args.interval.unwrap_or(INTERVAL_DEFAULT);
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tick.tick().await;
        top::begin_table(app, number)?;
        let Standing { lag, partitions, unwell } = group(name, app, to).await?;
        app.printer.flush()?;
        match (args.max_lag, lag) {
            (Some(most), Some(lag)) if u64::try_from(lag).is_ok_and(|lag| lag > most) => {
                let text = format!(
                    "group '{name}' is {} behind, more than {most}",
                    counted(lag.unsigned_abs(), "record")
                );
                return Err(Failure::new(Exit::Failed, text).into());
            }
            (Some(_), None) => {
                let why = match unwell::end(&unwell, partitions, &to.0.url) {
                    Ok(_) => String::new(),
                    Err(failure) => format!(": {}", failure.message),
                };
                let text =
                    format!("how far group '{name}' is behind is not known of all its partitions{why}");
                return Err(Failure::new(Exit::Failed, text).into());
            }
            _ => {}
        }
        if !args.watch {
            return Ok(unwell::end(&unwell, partitions, &to.0.url)?);
        }
    }
    Ok(Exit::Done)
}

/// Shows a group.
async fn group(name: &str, app: &App, (log, cluster): (&Log, &Cluster)) -> anyhow::Result<Standing> {
    let failed = |error| log.failure(&error);
    let info = admin::describe_group(cluster, name).await.map_err(failed)?;
    let stored = admin::stored(cluster, name).await.map_err(failed)?;
    if info.is_dead() && stored.is_empty() {
        let text = format!("no group '{name}' at {}", log.url);
        let near = super::ls::near_group(cluster, name).await;
        let failure = near.into_iter().fold(Failure::new(Exit::NotFound, text), Failure::tip);
        return Err(failure.there("see all of them: bandy log ls groups").into());
    }
    let read = info.members.iter().flat_map(|it| it.partitions.iter().map(move |place| (place, it)));
    let members: HashMap<&(String, i32), &GroupMember> = read.collect();
    let mut places: Vec<(String, i32)> = stored.keys().chain(members.keys().copied()).cloned().collect();
    places.sort();
    places.dedup();
    // A partition that is gone, has no leader or is not to be seen does not hide the others.
    let ends = admin::offsets_of_each(cluster, &places, admin::At::End).await.map_err(failed)?;
    let unwell: Unwell = ends.failed.into_iter().collect();
    let mut columns = vec![
        Column::left("topic"),
        Column::right("partition"),
        Column::right("current"),
        Column::right("end"),
        Column::right("lag"),
        Column::left("member"),
        Column::left("host"),
    ];
    columns.extend((!unwell.is_empty()).then(|| Column::left("error")));
    let mut list = app.printer.list(&columns);
    let (mut sum, mut is_known) = (0, true);
    for place in &places {
        let (at, end) = (stored.get(place), ends.found.get(place).map(|it| it.offset));
        let current = at.map(|it| it.offset);
        let lag = current.zip(end).map(|(current, end)| (end - current).max(0));
        sum += lag.unwrap_or(0);
        is_known &= current.is_none() || lag.is_some();
        let member = members.get(place);
        list.row(&Place {
            topic: &place.0,
            partition: place.1,
            current,
            end,
            lag,
            member: member.map(|it| it.id.as_str()),
            instance: member.and_then(|it| it.instance.as_deref()),
            client: member.map(|it| it.client.as_str()),
            host: member.map(|it| it.host.trim_start_matches('/')),
            metadata: at.map(|it| it.metadata.as_str()).filter(|it| !it.is_empty()),
            error: unwell.get(place).map(unwell::why),
        })?;
    }
    list.finish()?;
    let idle = info.members.iter().filter(|it| it.partitions.is_empty()).count();
    let idle = if idle > 0 { format!(", {idle} of them without partitions") } else { String::new() };
    let noun = if info.members.len() == 1 { "member" } else { "members" };
    let state = if info.is_dead() { "empty".to_owned() } else { info.state.to_lowercase() };
    app.printer.status(&format!("group {name} is {state}: {} {noun}{idle}, lag {sum}", info.members.len()));
    Ok(Standing { lag: is_known.then_some(sum), partitions: places.len(), unwell })
}
