//! `bandy log top`: what comes into the topics of a cluster, and how far its groups are behind.

mod board;
mod draw;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::complete;
use super::connect::Log;
use super::position::Ends;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::stage::theme::Theme;
use crate::cli::top::{self, TopArgs};
use crate::log::client::{Cluster, Error, admin};
use crate::log::server::{Broker, GroupGlance};
use crate::output::Column;
use crate::shutdown::Shutdown;
use board::{Board, Reader, Reading, Row, Topic};
use draw::Picture;

/// Groups that are asked for at the same time.
const GROUPS_AT_ONCE: usize = 16;

/// Arguments of `log top`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Only these topics [default: all]
    #[arg(value_name = "TOPIC", value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topics: Vec<String>,
    #[command(flatten)]
    top: TopArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy log top         # topics and the groups that read them, live
  bandy log top orders -i 5s
  bandy log top --once  # one table
  bandy log top -n 10 --json | jq -c '[.timestamp, .topic, .group, .lag]'

A topic has a row for each group that has stored offsets of it. IN is records that came, OUT records that the group \
stored as read, both a second and counted by offsets. Into a pipe, or with -o, tables follow each other.

Exit: 0 shown · 3 unreachable · 4 denied · 5 no such topic · see 'bandy help exit-codes'";

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such topic, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut log = Log::resolve(&args.connect, app, "top")?;
        // It is looked again soon anyway.
        log.config.retry_for = std::time::Duration::ZERO;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        let since = Instant::now();
        let source = Source { log: &log, cluster: &cluster, topics: &args.topics, since };
        let mut board = Board::new(&log.url);
        board.take(Ok(source.read().await?));
        if let Some(missing) = args.topics.iter().find(|name| !board.has(name)) {
            let error = Error::NoTopic(missing.clone());
            return Err(log.about(&error, missing, &cluster).await.into());
        }
        let read = async || source.read().await.map_err(|failure| failure.message);
        top::show(&args.top, app, &mut Picture { board, own: false }, read).await
    })
}

/// The broker's own view in its own terminal: `log broker --top`. Ends when the viewer wants the broker to end.
///
/// # Errors
/// A terminal that cannot be used.
pub async fn show_own(broker: &Broker, url: &str, theme: &Theme) -> anyhow::Result<Exit> {
    let since = Instant::now();
    let read = || {
        let glance = broker.glance();
        let partitions = &glance.partitions;
        let topics = topics(partitions.iter().map(|it| (it.topic.as_str(), it.start, it.end)));
        let ends = partitions.iter().map(|it| ((it.topic.clone(), it.number), it.end)).collect();
        let of = |group: &GroupGlance| readers(&group.name, group.members, &group.stored, &ends);
        Ok(Reading { at: since.elapsed(), topics, readers: glance.groups.iter().flat_map(of).collect() })
    };
    let mut board = Board::new(url);
    board.take(read());
    top::show_own(&mut Picture { board, own: true }, async || read(), theme).await
}

/// Topics of partitions, each with its first offset and the one after its last record.
fn topics<'a>(partitions: impl Iterator<Item = (&'a str, i64, i64)>) -> BTreeMap<String, Topic> {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    for (name, start, end) in partitions {
        let topic = topics.entry(name.to_owned()).or_default();
        topic.partitions += 1;
        topic.start += start;
        topic.end += end;
    }
    topics
}

/// Where the figures come from.
struct Source<'a> {
    log: &'a Log,
    cluster: &'a Cluster,
    topics: &'a [String],
    since: Instant,
}

impl Source<'_> {
    async fn read(&self) -> Result<Reading, Failure> {
        self.ask().await.map_err(|error| self.log.failure(&error))
    }

    async fn ask(&self) -> Result<Reading, Error> {
        let all = self.cluster.metadata(None, false).await?;
        let is_wanted = |name: &str, is_internal: bool| match self.topics {
            [] => !is_internal,
            topics => topics.iter().any(|it| it == name),
        };
        let places: Vec<(String, i32)> = all
            .topics
            .iter()
            .filter_map(|topic| Some((topic.name.as_deref()?, topic)))
            .filter(|(name, topic)| topic.error_code.is_ok() && is_wanted(name, topic.is_internal))
            .flat_map(|(name, topic)| topic.partitions.iter().map(|it| (name.to_owned(), it.partition_index)))
            .collect();
        let ends = Ends::of(self.cluster, &places, false).await?;
        let topics = topics(places.iter().map(|place| {
            let of = |ends: &HashMap<(String, i32), i64>| ends.get(place).copied().unwrap_or(0);
            (place.0.as_str(), of(&ends.start), of(&ends.end))
        }));
        let mut readers = Vec::new();
        // Who may see topics need not see groups.
        let groups = admin::groups(self.cluster).await.unwrap_or_default().into_iter();
        let mut asked = futures_util::stream::iter(groups.map(|group| async move {
            let (stored, info) = futures_util::future::join(
                admin::group_offsets(self.cluster, &group.group_id),
                admin::describe_group(self.cluster, &group.group_id),
            )
            .await;
            (group.group_id, stored.unwrap_or_default(), info.map_or(0, |info| info.members.len()))
        }))
        .buffered(GROUPS_AT_ONCE);
        while let Some((name, stored, members)) = asked.next().await {
            readers.extend(self::readers(&name, members, &stored, &ends.end));
        }
        Ok(Reading { at: self.since.elapsed(), topics, readers })
    }
}

/// What a group has read of each topic.
fn readers(
    group: &str,
    members: usize,
    stored: &HashMap<(String, i32), i64>,
    ends: &HashMap<(String, i32), i64>,
) -> Vec<Reader> {
    let mut topics: BTreeMap<&str, Reader> = BTreeMap::new();
    for (place, offset) in stored {
        let Some(end) = ends.get(place) else { continue };
        let reader = topics.entry(&place.0).or_insert_with(|| Reader {
            group: group.to_owned(),
            topic: place.0.clone(),
            members,
            read: 0,
            lag: 0,
        });
        reader.read += offset;
        reader.lag += (end - offset).max(0);
    }
    topics.into_values().collect()
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    group: Option<&'a str>,
    parts: usize,
    records: i64,
    r#in: Option<f64>,
    out: Option<f64>,
    lag: Option<i64>,
    members: Option<usize>,
    timestamp: i64,
}

fn tenths(rate: Option<f64>) -> Option<f64> {
    rate.map(crate::cli::bench::tenths)
}

/// Writes one table of what is known, `number` counting from 0.
fn table(app: &App, board: &Board, number: u64) -> anyhow::Result<()> {
    if let Some(reason) = &board.lost {
        app.printer.note(reason);
        return Ok(());
    }
    top::begin_table(app, number)?;
    let columns = [
        Column::left("topic"),
        Column::left("group"),
        Column::right("parts"),
        Column::right("records"),
        Column::right("in"),
        Column::right("out"),
        Column::right("lag"),
        Column::right("members"),
    ];
    let mut list = app.printer.list(&columns);
    let timestamp = jiff::Timestamp::now().as_millisecond();
    for Row { topic, group, parts, records, rate_in, rate_out, lag, members } in board.rows() {
        let (topic, group, (parts, records)) = (topic.as_str(), group.as_deref(), (*parts, *records));
        let (r#in, out, lag, members) = (tenths(*rate_in), tenths(*rate_out), *lag, *members);
        list.row(&Line { topic, group, parts, records, r#in, out, lag, members, timestamp })?;
    }
    list.finish()?;
    Ok(())
}
