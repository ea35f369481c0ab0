//! `bandy rpc top`: what servers are doing, method by method, live or as a table.

mod board;
mod draw;
mod report;
mod watch;

use std::time::Duration;

use futures_util::future::join_all;

use super::remote::{ProtocolArgs, Remote};
use crate::cli::app::App;
use crate::cli::connect::SeveralConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::logging::Hold;
use crate::cli::stage::theme::Theme;
use crate::cli::top::{self, TopArgs};
use crate::rpc::stats::Stats;
use board::{Board, Foreign, Reading, Seen};
use draw::{News, Picture};
use watch::Watched;

/// Arguments of `rpc top`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    top: TopArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: SeveralConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc top                                # all servers of this user, live
  bandy rpc top -e :50051 -e :50052            # two servers in one view
  bandy rpc top -e consul://127.0.0.1/shop     # all that a registry knows
  bandy rpc top -e :50051 --once               # one table since its start
  bandy rpc top -e :50051 --once -i 5s --json  # of the next five seconds
  bandy rpc top -e :50051 -n 10 -i 1s | cut -f1,2

Into a pipe, or with -o, tables follow each other instead of the live view; the first is since the start.
Servers of bandy count their calls themselves. Of others a client sees health, methods and round trips.

Exit: 0 shown · 3 unreachable · 7 some of several servers do not answer · see 'bandy help exit-codes'";

/// What is said about a server that tells no counters, on a line of 80 columns.
fn only_seen_from_here(foreign: &Foreign) -> String {
    match &foreign.unlisted {
        None => "no counters from this server; health, methods, round trips as seen from here".to_owned(),
        Some(reason) => {
            format!("no counters from this server; health and round trips as seen from here; {reason}")
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The endpoints', no server that answers, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.connect.timeout, look(args, app))
}

async fn look(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut watched = Vec::new();
    for connect in args.connect.each() {
        let remotes = Remote::open_all(&connect, &args.protocol, app).await?;
        watched.extend(remotes.into_iter().map(Watched::new));
    }
    let mut board = Board::new(watched.iter().map(|watched| watched.remote.url.as_str()));
    board.take(first(&watched).await?);
    let mut picture = Picture { board, own: false };
    top::show(&args.top, app, &mut picture, async || news(readings(&watched).await)).await
}

fn news(readings: Vec<Reading>) -> News {
    News { readings, log: Hold::latest() }
}

/// What every server answers at first. If none does, that is an error.
async fn first(watched: &[Watched]) -> Result<Vec<Reading>, Failure> {
    let mut answers = join_all(watched.iter().map(Watched::read)).await;
    if answers.iter().all(Result::is_err)
        && let Some(Err(failure)) = answers.pop()
    {
        return Err(failure);
    }
    Ok(answers.into_iter().map(reading).collect())
}

async fn readings(watched: &[Watched]) -> Vec<Reading> {
    join_all(watched.iter().map(Watched::read)).await.into_iter().map(reading).collect()
}

fn reading(answer: Result<Reading, Failure>) -> Reading {
    answer.unwrap_or_else(|failure| Reading { trip: Duration::ZERO, seen: Err(failure.message) })
}

/// The server's own view in its own terminal: `rpc serve --top`. Ends when the viewer wants the server to end.
///
/// # Errors
/// See [`top::show_own`].
pub async fn show_own(stats: &Stats, url: &str, theme: &Theme) -> anyhow::Result<Exit> {
    let read = || Reading { trip: Duration::ZERO, seen: Ok(Seen::Own(stats.now().into())) };
    let mut board = Board::new([url]);
    board.take(vec![read()]);
    let mut picture = Picture { board, own: true };
    top::show_own(&mut picture, async || news(vec![read()]), theme).await
}
