//! `bandy log consume` and `bandy log tail`: records of topics from their leaders.

use std::collections::HashMap;

use tokio::time::Instant;

use super::complete;
use super::connect::Log;
use super::position::{self, Ends, Position};
use super::reading::{End, ReadArgs, Writing};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::{Assignment, Cluster, ConsumeOptions, Consumer, Error};
use crate::shutdown::Shutdown;
use crate::units::parse_count;

/// Arguments of `log consume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy log consume orders                       from the start to the end as it is now
  bandy log consume orders -f --from end         what comes from now on
  bandy log consume orders --from @-15m --json | jq .value
  bandy log consume orders -p 0 --from 42 -n 1   one record
  bandy log consume orders -o '%d{rfc3339} %k %v'

Positions: start end 42 -10 (before the end) +10 (after the start) @-15m @2026-11-23T07:00 @1763884814

Exit: 0 read · 5 no such topic · 6 fewer than -n · see 'bandy help exit-codes'")]
pub struct ConsumeArgs {
    /// Topics to read
    #[arg(required = true, value_name = "TOPIC", add = completions::remote(complete::topics))]
    pub topics: Vec<String>,
    /// Where to begin [default: start]
    #[arg(long, value_name = "POS", value_parser = position::parse, allow_hyphen_values = true, help_heading = "Reading")]
    pub from: Option<Position>,
    /// Where to end [default: the end as it is now]
    #[arg(long, value_name = "POS", value_parser = position::parse, allow_hyphen_values = true, conflicts_with = "follow", help_heading = "Reading")]
    pub to: Option<Position>,
    /// Wait for more at the end
    #[arg(short, long, help_heading = "Reading")]
    pub follow: bool,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N", value_delimiter = ',', help_heading = "Reading")]
    pub partition: Vec<i32>,
    /// Stop after N records
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "Reading")]
    pub count: Option<u64>,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Arguments of `log tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy log tail orders            the last 10 records of each partition, then what comes
  bandy log tail orders -n 20
  bandy log tail orders payments --json

Exit: 0 ended by --for or --idle · 5 no such topic · 130 Ctrl-C · see 'bandy help exit-codes'")]
pub struct TailArgs {
    /// Topics to read
    #[arg(required = true, value_name = "TOPIC", add = completions::remote(complete::topics))]
    pub topics: Vec<String>,
    /// Begin N records before the end of each partition
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = parse_count, help_heading = "Reading")]
    pub lines: u64,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N", value_delimiter = ',', help_heading = "Reading")]
    pub partition: Vec<i32>,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What is read, from where to where.
struct Wanted<'a> {
    topics: &'a [String],
    partitions: &'a [i32],
    from: Position,
    /// None: for ever.
    to: Option<Position>,
    count: Option<u64>,
    read: &'a ReadArgs,
    connect: &'a ConnectArgs,
    verb: &'static str,
}

/// Runs `log consume`.
///
/// # Errors
/// The endpoint's; no such topic or partition; output that cannot be written.
pub fn consume(args: &ConsumeArgs, app: &App) -> anyhow::Result<Exit> {
    let to = if args.follow { None } else { Some(args.to.unwrap_or(Position::End)) };
    let wanted = Wanted {
        topics: &args.topics,
        partitions: &args.partition,
        from: args.from.unwrap_or(Position::Start),
        to,
        count: args.count,
        read: &args.read,
        connect: &args.connect,
        verb: "consume",
    };
    app.client_with_driver(args.connect.timeout, run(wanted, app))
}

/// Runs `log tail`.
///
/// # Errors
/// As [`consume`].
pub fn tail(args: &TailArgs, app: &App) -> anyhow::Result<Exit> {
    let wanted = Wanted {
        topics: &args.topics,
        partitions: &args.partition,
        from: Position::BeforeEnd(i64::try_from(args.lines).unwrap_or(i64::MAX)),
        to: None,
        count: None,
        read: &args.read,
        connect: &args.connect,
        verb: "tail",
    };
    app.client_with_driver(args.connect.timeout, run(wanted, app))
}

async fn run(wanted: Wanted<'_>, app: &App) -> anyhow::Result<Exit> {
    let until = wanted.read.duration.and_then(|duration| Instant::now().checked_add(duration));
    let log = Log::resolve(wanted.connect, app, wanted.verb)?;
    let shutdown = Shutdown::new();
    let cluster = log.open(&shutdown).await?;
    let places = places(&wanted, &log, &cluster).await?;
    let committed = !wanted.read.uncommitted;
    let assignments = assignments(&wanted, &cluster, &places, committed);
    let assignments = assignments.await.map_err(|error| log.failure(&error))?;
    let options = ConsumeOptions { committed, ..ConsumeOptions::default() };
    let mut consumer = Consumer::new(cluster, options, assignments);
    let mut writing = Writing::new(wanted.read, wanted.count, app);
    let end = writing.run(&mut consumer, wanted.read, until, &log).await?;
    match end {
        End::Everything | End::Passed if writing.left().is_some_and(|left| left > 0) => Ok(Exit::Nothing),
        End::Count | End::Everything | End::Passed | End::ReaderGone => Ok(Exit::Done),
    }
}

/// The partitions that are read.
async fn places(wanted: &Wanted<'_>, log: &Log, cluster: &Cluster) -> Result<Vec<(String, i32)>, Failure> {
    let mut places = Vec::new();
    for name in wanted.topics {
        let topic = match cluster.topic(name, false).await {
            Ok(topic) => topic,
            Err(error) => return Err(log.about(&error, name, cluster).await),
        };
        let count = topic.partitions.len();
        if let Some(&partition) =
            wanted.partitions.iter().find(|it| !usize::try_from(**it).is_ok_and(|it| it < count))
        {
            let error = Error::NoPartition { topic: name.clone(), partition, count };
            return Err(Failure::new(Exit::NotFound, format!("{error}, at {}", log.url)));
        }
        let all = topic.partitions.iter().map(|partition| partition.index);
        let chosen = all.filter(|it| wanted.partitions.is_empty() || wanted.partitions.contains(it));
        places.extend(chosen.map(|partition| (name.clone(), partition)));
    }
    Ok(places)
}

async fn assignments(
    wanted: &Wanted<'_>,
    cluster: &Cluster,
    places: &[(String, i32)],
    committed: bool,
) -> Result<Vec<Assignment>, Error> {
    let ends = Ends::of(cluster, places, committed).await?;
    let from = ends.resolve(cluster, places, wanted.from).await?;
    let to = match wanted.to {
        None => None,
        Some(Position::End) => Some(ends.end),
        Some(position) => {
            let to = ends.resolve(cluster, places, position).await?;
            // What is not there yet is not waited for.
            Some(to.into_iter().map(|(place, to)| (place.clone(), to.min(ends.end[&place]))).collect())
        }
    };
    let of = |offsets: &HashMap<(String, i32), i64>, place: &(String, i32)| offsets.get(place).copied();
    let assignment = |place: &(String, i32)| Assignment {
        topic: place.0.as_str().into(),
        partition: place.1,
        from: of(&from, place).unwrap_or(0),
        to: to.as_ref().map(|to| of(to, place).unwrap_or(0)),
    };
    Ok(places.iter().map(assignment).collect())
}
