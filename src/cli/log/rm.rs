//! `bandy log rm`: a topic or a group that is to be gone.

use super::complete;
use super::connect::Log;
use super::position::Ends;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::confirm::SureArgs;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::{Cluster, Error, admin};
use crate::log::wire::ErrorCode;
use crate::shutdown::Shutdown;

/// Arguments of `log rm`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log rm orders      # asks first, and says how many records are in it
  bandy log rm orders -y
  bandy log rm -g billing  # a group without members, with its offsets

Exit: 0 it is gone · 5 no such topic or group · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to remove
    #[arg(required_unless_present = "group", conflicts_with = "group", value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topic: Option<String>,
    /// Remove a group instead
    #[arg(short, long, value_name = "NAME", add = completions::remote(complete::groups))]
    pub group: Option<String>,
    #[command(flatten)]
    sure: SureArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such topic or group; nobody to ask.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let log = Log::resolve(&args.connect, app, "rm")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        match (&args.topic, &args.group) {
            (Some(topic), _) => remove_topic(topic, args, (app, &log, &cluster)).await?,
            (None, Some(group)) => remove_group(group, args, (app, &log, &cluster)).await?,
            (None, None) => return Err(Failure::new(Exit::Usage, "which topic?").into()),
        }
        Ok(Exit::Done)
    })
}

type Place<'a> = (&'a App, &'a Log, &'a Cluster);

async fn remove_topic(topic: &str, args: &Args, (app, log, cluster): Place<'_>) -> Result<(), Failure> {
    let info = match cluster.topic(topic, false).await {
        Ok(info) => info,
        Err(error) => {
            let failure = log.about(&error, topic, cluster).await;
            // To create what is to go is no help.
            let tips = failure.tips.into_iter().filter(|tip| !tip.starts_with("create it")).collect();
            return Err(Failure { tips, ..failure });
        }
    };
    let places: Vec<_> = info.partitions.iter().map(|it| (topic.to_owned(), it.index)).collect();
    let ends = Ends::of(cluster, &places, false).await.map_err(|error| log.failure(&error))?;
    let count: i64 = ends.well(&places).map(|place| ends.end[place] - ends.start[place]).sum();
    let noun = if count == 1 { "record" } else { "records" };
    let what = format!("remove the topic {topic} with about {count} {noun} at {}", log.url);
    if args.sure.is_sure(&what, app)? {
        admin::delete_topic(cluster, topic).await.map_err(|error| log.failure(&error))?;
        app.printer.note(&format!("removed the topic {topic} with about {count} {noun}"));
    }
    Ok(())
}

async fn remove_group(group: &str, args: &Args, (app, log, cluster): Place<'_>) -> Result<(), Failure> {
    let failure = |error: &Error| match error.code() {
        Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
            Failure::new(Exit::NotFound, format!("no group '{group}' at {}", log.url))
                .there("see all of them: bandy log ls groups")
        }
        _ => log.failure(error),
    };
    let offsets = admin::group_offsets(cluster, group).await.map_err(|error| failure(&error))?;
    let noun = if offsets.len() == 1 { "offset" } else { "offsets" };
    let what = format!("remove the group {group} with {} {noun} at {}", offsets.len(), log.url);
    if args.sure.is_sure(&what, app)? {
        admin::delete_group(cluster, group).await.map_err(|error| failure(&error))?;
        app.printer.note(&format!("removed the group {group}"));
    }
    Ok(())
}
