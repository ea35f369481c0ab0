//! `bandy log ping`: round trips of a question to the cluster, as ping(8) shows them.

use tokio::time::{Instant, timeout};

use super::connect::Log;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::ping::{self, ANSWER_MAX, Answer, Missed, PingArgs};
use crate::log::client::Cluster;
use crate::shutdown::Shutdown;

/// Arguments of `log ping`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log ping  # until Ctrl-C
  bandy log ping -n 3 --json

The question is who the brokers are; nothing is written.

Exit: 0 all answered · 3 none answered · 7 some did not · see 'bandy help exit-codes'")]
pub struct Args {
    #[command(flatten)]
    often: PingArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, ping(args, app))
}

async fn ping(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let log = Log::resolve_as_it_is(&args.connect, app, "ping")?;
    let shutdown = Shutdown::new();
    let mut line: Option<Cluster> = None;
    ping::round_trips(&args.often, &log.url, app, async |seq| {
        let cluster = match line.take() {
            Some(cluster) => cluster,
            None => {
                let mut config = log.config.clone();
                config.request_timeout = ANSWER_MAX;
                let opened = timeout(ANSWER_MAX, Cluster::open(config, &shutdown)).await;
                let opened =
                    opened.map_err(|_| silent(&log)).and_then(|it| it.map_err(|it| log.failure(&it)));
                opened.map_err(|failure| match seq {
                    // The first attempt says why nothing can come of it.
                    1 => Missed::ForGood(failure),
                    _ => Missed::Once(failure),
                })?
            }
        };
        let at = Instant::now();
        match timeout(ANSWER_MAX, cluster.metadata(Some(&[]), false)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Missed::Once(log.failure(&error))),
            Err(_) => return Err(Missed::Once(silent(&log))),
        }
        line = Some(cluster);
        Ok(Answer { status: "OK", time: at.elapsed(), end: None })
    })
    .await
}

fn silent(log: &Log) -> Failure {
    Failure::new(Exit::Unreachable, format!("{}: no answer within {ANSWER_MAX:?}", log.url))
}
