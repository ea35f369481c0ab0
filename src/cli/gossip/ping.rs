//! `bandy gossip ping`: round trips to a node, or what coordinates predict between two.

use std::time::Duration;

use serde::Serialize;

use super::connect::Node;
use super::{complete, ls};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::ping::{self, Answer, Missed, PingArgs};
use crate::gossip::client::Error;
use crate::gossip::engine::distance;
use crate::gossip::wire::Coordinate;
use crate::gossip::wire::ipc::{Request, read_coordinate, read_number};
use crate::output::Format;

/// Arguments of `gossip ping`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip ping n2    # from this user's node to n2, until Ctrl-C
  bandy gossip ping n2 -n 3
  bandy gossip rtt n2 n3  # what their coordinates predict: nothing is sent
  bandy gossip rtt web1 web2 -e serf://10.0.0.7

Exit: 0 all answered · 3 none answered · 5 no such member · 7 some did not · see 'bandy help exit-codes'")]
pub struct Args {
    /// The node
    #[arg(value_name = "NODE", add = completions::remote(complete::nodes))]
    pub node: String,
    /// Another one: tell what their coordinates predict
    #[arg(value_name = "OTHER", add = completions::remote(complete::nodes))]
    pub other: Option<String>,
    #[command(flatten)]
    often: PingArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize)]
struct Predicted<'a> {
    node: &'a str,
    other: &'a str,
    rtt_ms: f64,
}

/// Runs the command.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "ping").await?;
        if let Some(other) = &args.other {
            return predict(&mut node, &args.node, other, app).await;
        }
        let name = args.node.clone();
        ping::round_trips(&args.often, &name, app, async |seq| {
            let request = Request::Ping { node: name.clone() };
            match node.client.ask(&request, |reader| read_number(reader, "RttUs")).await {
                Ok(time) => {
                    let time = Duration::from_micros(time.unwrap_or(0));
                    Ok(Answer { status: "OK", time, end: None })
                }
                Err(error) => {
                    let silent = matches!(&error, Error::Refused(why) if why.contains("no answer"));
                    let failure = why_not(&error, args, &mut node, app).await;
                    Err(if silent || seq > 1 {
                        let exit = if silent { Exit::Unreachable } else { failure.exit };
                        Missed::Once(Failure { exit, ..failure })
                    } else {
                        Missed::ForGood(failure)
                    })
                }
            }
        })
        .await
    })
}

async fn predict(node: &mut Node, one: &str, other: &str, app: &App) -> anyhow::Result<Exit> {
    let (a, b) = (coordinate(node, one).await?, coordinate(node, other).await?);
    let rtt_ms = (distance(&a, &b) * 1e6).round() / 1000.0;
    if app.printer.look().format == Format::Json {
        app.printer.json(&Predicted { node: one, other, rtt_ms })?;
    } else {
        app.printer.line(&format!("{one} {other} {rtt_ms:.3} ms"))?;
    }
    Ok(Exit::Done)
}

async fn coordinate(node: &mut Node, name: &str) -> Result<Coordinate, Failure> {
    let found = node.ask(&Request::Coordinate { node: name.to_owned() }, read_coordinate).await?;
    let Some(found) = found else {
        known(node, name).await?;
        let message =
            format!("{} knows no coordinate of {name} yet: it comes with the first probe", node.url);
        return Err(Failure::new(Exit::Nothing, message));
    };
    Ok(found)
}

/// Nothing, if there is such a member.
async fn known(node: &mut Node, name: &str) -> Result<(), Failure> {
    ls::named(&[name.to_owned()], node).await.map(drop)
}

/// What it means that a node does not ping: that it knows nobody of that name comes before all else.
async fn why_not(error: &Error, args: &Args, node: &mut Node, app: &App) -> Failure {
    let failure = node.failure(error);
    if error.is_unsupported() {
        let other = "bandy gossip rtt NODE OTHER";
        let failure = failure.there_for(other, "what coordinates predict: a Serf agent tells that");
        // An agent hangs up on whoever asks what it does not know.
        let Ok(mut node) = Node::open(&args.connect, app, "ping").await else { return failure };
        return known(&mut node, &args.node).await.err().unwrap_or(failure);
    }
    match failure.exit {
        Exit::NotFound => known(node, &args.node).await.err().unwrap_or(failure),
        _ => failure,
    }
}
