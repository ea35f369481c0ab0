//! `bandy mq ping`: round trips of a message through the broker, as ping(8) shows them.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::connect::Broker;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::{ConsumeOptions, Consumer, Message, Step, Topology};
use crate::mq::wire::TableBuf;
use crate::output::Format;
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration};

/// Arguments of `mq ping`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy mq ping              until Ctrl-C
  bandy mq ping -n 3 --json

A message goes through a queue of this command's own, which is gone with it.

Exit: 0 all answered · 3 none answered · 7 some did not · see 'bandy help exit-codes'")]
pub struct Args {
    /// Stop after N round trips
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    /// Pause between round trips
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Longest wait for one message.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Row<'a> {
    seq: u64,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<f64>,
}

#[derive(Serialize)]
struct Summary {
    sent: u64,
    received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ms: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, ping(args, app))
}

/// Says the summary however the command ends: Ctrl-C drops it where it waits.
struct Tally<'a> {
    app: &'a App,
    url: String,
    sent: u64,
    times: Vec<f64>,
}

impl Tally<'_> {
    fn summary(&self) -> Summary {
        let received = self.times.len() as u64;
        let sum: f64 = self.times.iter().sum();
        Summary {
            sent: self.sent,
            received,
            min_ms: self.times.iter().copied().reduce(f64::min),
            avg_ms: (received > 0).then(|| (sum / self.times.len() as f64 * 1000.0).round() / 1000.0),
            max_ms: self.times.iter().copied().reduce(f64::max),
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if self.sent == 0 || self.app.printer.look().format == Format::Json {
            return;
        }
        let summary = self.summary();
        let lost = (summary.sent - summary.received) as f64 / summary.sent as f64 * 100.0;
        let mut text =
            format!("{}: {} sent, {} came back, {lost:.0} % lost", self.url, summary.sent, summary.received);
        if let (Some(min), Some(avg), Some(max)) = (summary.min_ms, summary.avg_ms, summary.max_ms) {
            text.push_str(&format!(", min/avg/max {min:.3}/{avg:.3}/{max:.3} ms"));
        }
        self.app.printer.note(&text);
    }
}

async fn ping(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let broker = Broker::resolve(&args.connect, app, "ping")?;
    let shutdown = Shutdown::new();
    let mut line = None;
    let json = app.printer.look().format == Format::Json;
    let started = Instant::now();
    let until = args.duration.and_then(|duration| started.checked_add(duration));
    let mut tally = Tally { app, url: broker.url.clone(), sent: 0, times: Vec::new() };
    let mut next = started;
    let mut last_failure = None;
    while args.count.is_none_or(|count| tally.sent < count) && until.is_none_or(|until| next < until) {
        tokio::time::sleep_until(next).await;
        if line.is_none() {
            match connect(&broker, &shutdown).await {
                Ok(connected) => line = Some(connected),
                // The first attempt says why nothing can come of it.
                Err(failure) if tally.sent == 0 => return Err(failure.into()),
                Err(failure) => last_failure = Some(failure),
            }
        }
        let at = Instant::now();
        tally.sent += 1;
        let seq = tally.sent;
        let answer = match &mut line {
            Some(line) => round_trip(line, seq, &broker).await,
            None => Err(Failure::new(Exit::Unreachable, format!("{} cannot be reached", broker.url))),
        };
        let time_ms = (at.elapsed().as_secs_f64() * 1e6).round() / 1000.0;
        match answer {
            Ok(()) => {
                tally.times.push(time_ms);
                if json {
                    app.printer.json(&Row { seq, status: "OK", time_ms: Some(time_ms) })?;
                } else {
                    app.printer.line(&format!("OK from {}: seq={seq} time={time_ms:.3} ms", broker.url))?;
                }
            }
            Err(failure) => {
                line = None;
                if json {
                    app.printer.json(&Row { seq, status: "UNREACHABLE", time_ms: None })?;
                } else {
                    app.printer.line(&format!("no answer from {}: seq={seq}", broker.url))?;
                }
                last_failure = Some(failure);
            }
        }
        app.printer.flush()?;
        next = next.checked_add(args.interval).unwrap_or(next).max(at);
    }
    if json {
        app.printer.json(&tally.summary())?;
    }
    if let Some(line) = line {
        let _ = line.close().await;
    }
    match last_failure {
        None => Ok(Exit::Done),
        Some(_) if !tally.times.is_empty() => Ok(Exit::Partly),
        Some(failure) => Err(failure.into()),
    }
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
