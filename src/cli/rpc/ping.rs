//! `bandy rpc ping`: round trips of the health check, as ping(8) shows them.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::complete;
use super::health::{self, Health};
use super::remote::{ProtocolArgs, Remote, Wanted};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::output::Format;
use crate::units::parse_duration;

/// Arguments of `rpc ping`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Ask about this service, not the whole server
    #[arg(add = completions::remote(complete::services))]
    pub service: Option<String>,
    /// Stop after N round trips
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Pause between round trips
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc ping -e :50051              until Ctrl-C
  bandy rpc ping -e :50051 -n 3 --json

Exit: 0 all answered · 3 none answered · 7 some did not · see 'bandy help exit-codes'";

/// Longest wait for one answer, unless --timeout says less.
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
    /// Without the colon of `local:`: another follows.
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
            format!("{}: {} sent, {} answered, {lost:.0} % lost", self.url, summary.sent, summary.received);
        if let (Some(min), Some(avg), Some(max)) = (summary.min_ms, summary.avg_ms, summary.max_ms) {
            text.push_str(&format!(", min/avg/max {min:.3}/{avg:.3}/{max:.3} ms"));
        }
        self.app.printer.note(&text);
    }
}

async fn ping(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let remote =
        Remote::open(&args.connect, &args.protocol, Wanted::service(args.service.as_deref()), app).await?;
    let json = app.printer.look().format == Format::Json;
    let started = Instant::now();
    let until = args.duration.and_then(|duration| started.checked_add(duration));
    let mut tally =
        Tally { app, url: remote.url.trim_end_matches(':').to_owned(), sent: 0, times: Vec::new() };
    let mut next = started;
    let mut last_failure = None;
    while args.count.is_none_or(|count| tally.sent < count) && until.is_none_or(|until| next < until) {
        tokio::time::sleep_until(next).await;
        let at = Instant::now();
        tally.sent += 1;
        let answer = health::check(&remote, args.service.as_deref().unwrap_or(""), ANSWER_MAX).await;
        let time_ms = (at.elapsed().as_secs_f64() * 1e6).round() / 1000.0;
        let seq = tally.sent;
        match answer {
            Ok(health) => {
                // A server without the health service answers all the same.
                tally.times.push(time_ms);
                if json {
                    app.printer.json(&Row { seq, status: health.name(), time_ms: Some(time_ms) })?;
                } else {
                    app.printer.line(&format!(
                        "{} from {}: seq={seq} time={time_ms:.3} ms",
                        health.name(),
                        tally.url
                    ))?;
                }
                if health == Health::NotFound {
                    return Err(health::not_found(args.service.as_deref().unwrap_or(""), &remote).into());
                }
            }
            Err(failure) => {
                if json {
                    app.printer.json(&Row { seq, status: "UNREACHABLE", time_ms: None })?;
                } else {
                    app.printer.line(&format!("no answer from {}: seq={seq}", tally.url))?;
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
    match last_failure {
        None => Ok(Exit::Done),
        Some(_) if !tally.times.is_empty() => Ok(Exit::Partly),
        Some(failure) => Err(failure.into()),
    }
}
