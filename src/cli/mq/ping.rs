//! `bandy mq ping`: round trips of a message through the broker, as ping(8) shows them.

use std::time::Duration;

use tokio::time::Instant;

use super::connect::Broker;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::ping::{self, ANSWER_MAX, Answer, Missed, PingArgs};
use crate::mq::client::{ConsumeOptions, Consumer, Message, Step, Topology};
use crate::mq::wire::TableBuf;
use crate::shutdown::Shutdown;

/// Arguments of `mq ping`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq ping  # until Ctrl-C
  bandy mq ping -n 3 --json

A message goes through a queue of this command's own, which is gone with it.

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
    let broker = Broker::resolve_as_it_is(&args.connect, app, "ping")?;
    let shutdown = Shutdown::new();
    let mut line = None;
    let exit = ping::round_trips(&args.often, &broker.url, app, async |seq| {
        let connected = match line.take() {
            Some(connected) => Ok(connected),
            None => connect(&broker, &shutdown).await,
        };
        let mut connected = connected.map_err(|failure| match seq {
            // The first attempt says why nothing can come of it.
            1 => Missed::ForGood(failure),
            _ => Missed::Once(failure),
        })?;
        let at = Instant::now();
        round_trip(&mut connected, seq, &broker).await.map_err(Missed::Once)?;
        line = Some(connected);
        Ok(Answer { status: "OK", time: at.elapsed(), end: None })
    })
    .await;
    if let Some(line) = line {
        let _ = line.close().await;
    }
    exit
}

/// A queue of one's own, and whoever takes from it.
async fn connect(broker: &Broker, shutdown: &Shutdown) -> Result<Consumer, Failure> {
    let queue = Step::Queue {
        name: String::new(),
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: true,
        arguments: TableBuf::new(),
    };
    let config = crate::mq::client::Config { reconnect_for: Duration::ZERO, ..broker.config.clone() };
    let options = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
    let consumer = Consumer::start(config, Topology(vec![queue]), options, shutdown).await;
    consumer.map_err(|error| broker.failure(&error))
}

async fn round_trip(line: &mut Consumer, seq: u64, broker: &Broker) -> Result<(), Failure> {
    let silent =
        || Failure::new(Exit::Unreachable, format!("{}: no answer within {ANSWER_MAX:?}", broker.url));
    let body = seq.to_string().into_bytes();
    let routing_key = line.queue().to_owned().into();
    let message = Message { routing_key, body: body.clone().into(), ..Message::default() };
    line.send(&message).map_err(|error| broker.failure(&error))?;
    let back = async {
        while let Some(delivery) = line.next().await? {
            if delivery.body[..] == body[..] {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match tokio::time::timeout(ANSWER_MAX, back).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) | Err(_) => Err(silent()),
        Ok(Err(error)) => Err(broker.failure(&error)),
    }
}
