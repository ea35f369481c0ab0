//! `bandy log wait`: until a cluster answers, a topic is there, has records, or a group has caught up.

use std::time::Duration;

use super::complete;
use super::connect::Log;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::wait;
use crate::log::client::{Cluster, admin};
use crate::shutdown::Shutdown;
use crate::units::parse_count;

/// Arguments of `log wait`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log wait                            # until a broker lets us in
  bandy log wait orders                     # until the topic is there, each partition with a leader
  bandy log wait orders --offset 1000       # until its partitions end at 1000 or more, together
  bandy log wait -g billing --lag 0 --timeout 1m
  bandy log wait orders -g billing --lag 0  # only what it reads of this topic

Exit: 0 it is so · 4 denied · 124 --timeout passed · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to wait for
    #[arg(value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topic: Option<String>,
    /// Until the ends of its partitions add up to N
    #[arg(long, value_name = "N", requires = "topic", conflicts_with = "group", value_parser = parse_count)]
    pub offset: Option<u64>,
    /// Group to wait for
    #[arg(short, long, value_name = "NAME", requires = "lag", add = completions::remote(complete::groups))]
    pub group: Option<String>,
    /// Until the group is N records behind, or fewer
    #[arg(long, value_name = "N", requires = "group")]
    pub lag: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; denied; `--timeout`.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut log = Log::resolve_as_it_is(&args.connect, app, "wait")?;
    // The pauses are elsewhere: no question is asked twice.
    log.config.retry_for = Duration::ZERO;
    let shutdown = Shutdown::new();
    let mut cluster = None;
    wait::until(app, args.connect.timeout, async || Ok(look(args, &log, &mut cluster, &shutdown).await?))
}

/// What is missing; nothing if it is so.
async fn look(
    args: &Args,
    log: &Log,
    cluster: &mut Option<Cluster>,
    shutdown: &Shutdown,
) -> Result<Option<String>, Failure> {
    let cluster = match cluster {
        Some(cluster) => cluster,
        none => none.insert(log.open(shutdown).await?),
    };
    let failed = |error| log.failure(&error);
    if let (Some(group), Some(most)) = (&args.group, args.lag) {
        let mut offsets = admin::group_offsets(cluster, group).await.map_err(failed)?;
        if let Some(topic) = &args.topic {
            offsets.retain(|(of, _), _| of == topic);
        }
        if offsets.is_empty() {
            let of = args.topic.as_ref().map_or(String::new(), |topic| format!(" of {topic}"));
            return Ok(Some(format!("group {group} has stored no offsets{of}")));
        }
        let places: Vec<_> = offsets.keys().cloned().collect();
        let ends = admin::offsets(cluster, &places, admin::At::End).await.map_err(failed)?;
        let lag: i64 = offsets.iter().map(|(place, at)| (ends[place].offset - at).max(0)).sum();
        let is_behind = u64::try_from(lag).is_ok_and(|lag| lag > most);
        return Ok(
            is_behind.then(|| format!("group {group} is {} behind", counted(lag.unsigned_abs(), "record")))
        );
    }
    let Some(name) = &args.topic else {
        return cluster.metadata(Some(&[]), false).await.map(|_| None).map_err(failed);
    };
    let topic = cluster.topic(name, false).await.map_err(failed)?;
    if let Some(partition) = topic.partitions.iter().find(|it| it.leader < 0) {
        return Ok(Some(format!("topic {name} partition {} has no leader", partition.index)));
    }
    let Some(wanted) = args.offset else { return Ok(None) };
    let places: Vec<_> = topic.partitions.iter().map(|it| (name.clone(), it.index)).collect();
    let ends = admin::offsets(cluster, &places, admin::At::End).await.map_err(failed)?;
    let end: i64 = ends.values().map(|found| found.offset).sum();
    let is_short = u64::try_from(end).is_ok_and(|end| end < wanted);
    Ok(is_short.then(|| format!("topic {name} ends at {end}")))
}
