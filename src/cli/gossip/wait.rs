//! `bandy gossip wait`: until a cluster has so many members.

use std::time::Duration;

use super::connect::Node;
use super::ls::{members, status};
use super::tag::pair;
use crate::backoff::Backoff;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};

/// Between two looks.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(250) };

/// Arguments of `gossip wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy gossip wait                          until a node of yours answers
  bandy gossip wait --members 5              until it knows five that are alive
  bandy gossip wait --members 2 --tag role=web --timeout 10s
  bandy gossip wait --members 1 --status failed

Exit: 0 it is so · 124 --timeout passed · see 'bandy help exit-codes'")]
pub struct Args {
    /// How many, at least
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub members: usize,
    /// How they are
    #[arg(long, value_name = "STATUS", default_value = "alive")]
    #[arg(value_parser = ["alive", "suspect", "leaving", "left", "failed"])]
    pub status: String,
    /// Only those whose tag matches all of a regular expression (repeatable: all have to)
    #[arg(long, value_name = "TAG=REGEX", value_parser = pair)]
    pub tag: Vec<(String, String)>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// No endpoint of a node; the timeout.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let why = std::cell::RefCell::new(String::new());
    let waiting = async {
        let mut pauses = PAUSE.delays(0);
        let mut node = None;
        loop {
            let looked = async {
                let node = match &mut node {
                    Some(node) => node,
                    none => none.insert(Node::open(&args.connect, app, "wait").await?),
                };
                let rows = members(node, &args.tag).await?;
                anyhow::Ok(rows.iter().filter(|row| status(row) == args.status).count())
            };
            match looked.await {
                Ok(count) if count >= args.members => return Ok(Exit::Done),
                Ok(count) => *why.borrow_mut() = format!("{count} of {} are {}", args.members, args.status),
                Err(error) => match error.downcast::<Failure>() {
                    Ok(failure) if failure.exit == Exit::Unreachable => {
                        *why.borrow_mut() = failure.message;
                        node = None;
                    }
                    Ok(failure) => return Err(failure.into()),
                    Err(error) => return Err(error),
                },
            }
            tokio::time::sleep(pauses.next().unwrap_or(PAUSE.max)).await;
        }
    };
    app.client(args.connect.timeout, waiting).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) if failure.exit == Exit::Timeout => {
            Failure { message: format!("{}: {}", failure.message, why.borrow()), ..failure }.into()
        }
        Ok(failure) => failure.into(),
        Err(error) => error,
    })
}
