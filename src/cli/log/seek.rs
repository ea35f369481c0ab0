//! `bandy log seek`: where a group goes on.

use std::collections::HashMap;

use serde::Serialize;

use super::complete;
use super::connect::Log;
use super::ls::near_group;
use super::position::{self, Ends, Position};
use super::unwell;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::confirm::SureArgs;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::{Cluster, Error, admin};
use crate::log::wire::ErrorCode;
use crate::output::Column;
use crate::shutdown::Shutdown;

/// Arguments of `log seek`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log seek -g billing orders --to start      # read everything again; asks first
  bandy log seek -g billing orders --to @-2h --dry-run
  bandy log seek -g billing orders -p 3 --by 1 -y  # leave one record out
  bandy log seek -g billing --to end -y            # all topics that the group has read

Prints for each partition where the group was, and where it goes on. Nobody may be reading in it meanwhile.

Exit: 0 moved · 1 the group has members · 5 no such group or topic · 7 some partitions cannot be looked at · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topics [default: all that the group has read]
    #[arg(value_name = "TOPIC", value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topics: Vec<String>,
    /// Group to move
    #[arg(short, long, value_name = "NAME", add = completions::remote(complete::groups))]
    pub group: String,
    /// Where to go on: start end 42 -10 +10 @-15m @2026-11-23T07:00
    #[arg(long, value_name = "POS", value_parser = position::parse, add = completions::words(completions::POSITIONS), allow_hyphen_values = true, required_unless_present = "by", conflicts_with = "by")]
    pub to: Option<Position>,
    /// So many records after where it was; before, with a minus
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub by: Option<i64>,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N", value_delimiter = ',', requires = "topics")]
    pub partition: Vec<i32>,
    #[command(flatten)]
    sure: SureArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such group or topic; the group has members; nobody to ask.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let log = Log::resolve(&args.connect, app, "seek")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        seek(args, app, &log, &cluster).await
    })
}

#[derive(Serialize)]
struct Move<'a> {
    topic: &'a str,
    partition: i32,
    old: Option<i64>,
    new: i64,
}

async fn seek(args: &Args, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    let failed = |error: Error| log.failure(&error);
    let group = &args.group;
    let info = admin::describe_group(cluster, group).await.map_err(failed)?;
    let stored = admin::group_offsets(cluster, group).await.map_err(failed)?;
    if !info.members.is_empty() {
        return Err(has_members(group, info.members.len(), log).into());
    }
    let places = places(args, &stored, log, cluster).await?;
    // It is made: a misspelt name has to show.
    if stored.is_empty()
        && let Some(near) = near_group(cluster, group).await
    {
        app.printer.note(&format!("group {group} has stored nothing yet; {near}"));
    }
    let ends = Ends::of(cluster, &places, false).await.map_err(failed)?;
    let wanted: HashMap<(String, i32), i64> = match (args.to, args.by) {
        (Some(to), _) => ends.resolve(cluster, &places, to).await.map_err(failed)?,
        (None, by) => {
            let by = by.unwrap_or(0);
            let moved = |place: &(String, i32)| Some((place.clone(), stored.get(place)?.saturating_add(by)));
            ends.well(&places).filter_map(moved).collect()
        }
    };
    if wanted.is_empty() {
        unwell::end(&ends.failed, places.len(), &log.url)?;
        let text = format!("group '{group}' at {} has stored nothing there to be moved by --by", log.url);
        return Err(Failure::new(Exit::NotFound, text)
            .tip("--to start, or another position, makes it begin")
            .into());
    }
    let columns =
        [Column::left("topic"), Column::right("partition"), Column::right("old"), Column::right("new")];
    let mut list = app.printer.list(&columns);
    let mut moves: Vec<(String, i32, i64)> = Vec::new();
    for place in &places {
        let Some(new) = wanted.get(place) else { continue };
        let new = (*new).clamp(ends.start[place], ends.end[place].max(ends.start[place]));
        let old = stored.get(place).copied();
        list.row(&Move { topic: &place.0, partition: place.1, old, new })?;
        if old != Some(new) {
            moves.push((place.0.clone(), place.1, new));
        }
    }
    list.finish()?;
    if moves.is_empty() {
        app.printer.status(&format!("group {group} is there already"));
        return Ok(unwell::end(&ends.failed, places.len(), &log.url)?);
    }
    let noun = if moves.len() == 1 { "partition" } else { "partitions" };
    // Whoever is asked has to see what for.
    app.printer.flush()?;
    let what = format!("move group {group} in {} {noun} at {}", moves.len(), log.url);
    if args.sure.is_sure(&what, app)? {
        let moved = admin::commit(cluster, group, &admin::Committer::default(), &moves).await;
        moved.map_err(|error| match error.code() {
            // Somebody has joined since it was looked at.
            Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION) => has_members(group, 1, log),
            _ => log.failure(&error),
        })?;
        app.printer.status(&format!("moved group {group} in {} {noun}", moves.len()));
    }
    Ok(unwell::end(&ends.failed, places.len(), &log.url)?)
}

fn has_members(group: &str, count: usize, log: &Log) -> Failure {
    let (noun, verb) = if count == 1 { ("member", "goes") } else { ("members", "go") };
    let text = format!(
        "group '{group}' at {} has {count} {noun}, which {verb} on from where they are: stop them first",
        log.url
    );
    Failure::new(Exit::Failed, text).there_for(format!("bandy log info -g {}", word(group)), "shows them")
}

/// The partitions that are moved.
async fn places(
    args: &Args,
    stored: &HashMap<(String, i32), i64>,
    log: &Log,
    cluster: &Cluster,
) -> Result<Vec<(String, i32)>, Failure> {
    let mut places: Vec<(String, i32)> = Vec::new();
    if args.topics.is_empty() {
        places.extend(stored.keys().cloned());
        if places.is_empty() {
            let text = format!("no group '{}' at {}", args.group, log.url);
            let failure = Failure::new(Exit::NotFound, text);
            let near = near_group(cluster, &args.group).await;
            let failure = near.into_iter().fold(failure, Failure::tip);
            return Err(failure.there("name topics to make one; see all of them: bandy log ls groups"));
        }
    }
    places.extend(log.places(cluster, &args.topics, &args.partition).await?);
    places.sort();
    places.dedup();
    Ok(places)
}
