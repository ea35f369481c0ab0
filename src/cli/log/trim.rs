//! `bandy log trim`: records at the start of partitions that are to be gone, while the topic stays.

use serde::Serialize;

use super::complete;
use super::connect::{Log, words};
use super::position::{self, Ends, Position};
use super::unwell::{self, Unwell};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::confirm::SureArgs;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::log::client::{Cluster, Error, admin};
use crate::output::Column;
use crate::shutdown::Shutdown;

/// Arguments of `log trim`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log trim orders --to @-7d    # what is older than a week; asks first
  bandy log trim orders --to end -y  # everything there is: the topic stays
  bandy log trim orders -p 0 --to 42 --dry-run

Prints for each partition where it began, and where it begins from now on. What is removed does not come back.

Exit: 0 trimmed · 5 no such topic · 7 some partitions were not · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to trim
    #[arg(value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topic: String,
    /// Remove what comes before: start end 42 -10 +10 @-15m @2026-11-23T07:00
    #[arg(long, value_name = "POS", value_parser = position::parse, add = completions::words(completions::POSITIONS), allow_hyphen_values = true)]
    pub to: Position,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    pub partition: Vec<i32>,
    #[command(flatten)]
    sure: SureArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such topic or partition; nobody to ask; a partition that may not be trimmed.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let log = Log::resolve(&args.connect, app, "trim")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        trim(args, app, &log, &cluster).await
    })
}

#[derive(Serialize)]
struct Move<'a> {
    topic: &'a str,
    partition: i32,
    old: i64,
    new: i64,
}

async fn trim(args: &Args, app: &App, log: &Log, cluster: &Cluster) -> anyhow::Result<Exit> {
    let failed = |error: Error| log.failure(&error);
    let places = log.places(cluster, std::slice::from_ref(&args.topic), &args.partition).await?;
    let ends = Ends::of(cluster, &places, false).await.map_err(failed)?;
    let wanted = ends.resolve(cluster, &places, args.to).await.map_err(failed)?;
    let columns =
        [Column::left("topic"), Column::right("partition"), Column::right("old"), Column::right("new")];
    let mut list = app.printer.list(&columns);
    let mut moves: Vec<((String, i32), i64)> = Vec::new();
    let mut count = 0;
    for place in ends.well(&places) {
        let old = ends.start[place];
        let new = wanted.get(place).copied().unwrap_or(old).clamp(old, ends.end[place].max(old));
        list.row(&Move { topic: &place.0, partition: place.1, old, new })?;
        if new > old {
            moves.push((place.clone(), new));
            count += new - old;
        }
    }
    list.finish()?;
    let end = |unwell: &Unwell| Ok(unwell::end(unwell, places.len(), &log.url)?);
    if moves.is_empty() {
        app.printer.status(&format!("nothing of {} comes before that", args.topic));
        return end(&ends.failed);
    }
    // Whoever is asked has to see what for.
    app.printer.flush()?;
    let (records, partitions) =
        (counted(count.unsigned_abs(), "record"), counted(moves.len() as u64, "partition"));
    let what = format!("remove about {records} in {partitions} of {} at {}", args.topic, log.url);
    if !args.sure.is_sure(&what, app)? {
        return end(&ends.failed);
    }
    let refused = admin::delete_records(cluster, &moves).await.map_err(failed)?;
    if let Some(error) = refused.values().next().filter(|_| refused.len() == moves.len()) {
        return Err(
            Failure { message: format!("{}: {}", log.url, words(error)), ..failed(error.clone()) }.into()
        );
    }
    let done = counted((moves.len() - refused.len()) as u64, "partition");
    app.printer.status(&format!("trimmed {done} of {}", args.topic));
    end(&ends.failed.into_iter().chain(refused).collect())
}
