//! What `ping` does in every pillar: round trips at an interval, as ping(8) shows them, and a summary however it ends.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::app::App;
use super::errors::before_colon;
use super::exit::{Exit, Failure};
use crate::output::Format;
use crate::units::{parse_count, parse_duration};

/// Longest wait for one answer, unless --timeout says less.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How often, and how long.
#[derive(Debug, clap::Args)]
pub struct PingArgs {
    /// Stop after N round trips
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// Pause between round trips
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
}

/// What came back.
pub struct Answer {
    /// A word for it, such as `OK`.
    pub status: &'static str,
    /// How long it took.
    pub time: Duration,
    /// Why no other answer is worth asking for.
    pub end: Option<Failure>,
}

/// Why nothing came back.
pub enum Missed {
    /// The next may come.
    Once(Failure),
    /// None will: nothing is counted, and the command fails.
    ForGood(Failure),
}

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

/// Says the summary however the command ends: Ctrl-C drops it where it waits.
struct Tally<'a> {
    app: &'a App,
    url: &'a str,
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

    fn show(&self, status: &str, time_ms: Option<f64>) -> anyhow::Result<()> {
        let (printer, seq) = (&self.app.printer, self.sent);
        let place = before_colon(self.url);
        if printer.look().format == Format::Json {
            printer.json(&Row { seq, status, time_ms })?;
        } else if let Some(time_ms) = time_ms {
            printer.line(&format!("{status} from {place}: seq={seq} time={time_ms:.3} ms"))?;
        } else {
            printer.line(&format!("no answer from {place}: seq={seq}"))?;
        }
        Ok(printer.flush()?)
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if self.sent == 0 || self.app.printer.look().format == Format::Json {
            return;
        }
        let summary = self.summary();
        let lost = (summary.sent - summary.received) as f64 / summary.sent as f64 * 100.0;
        let mut text = format!(
            "{}: {} sent, {} answered, {lost:.0} % lost",
            before_colon(self.url),
            summary.sent,
            summary.received
        );
        if let (Some(min), Some(avg), Some(max)) = (summary.min_ms, summary.avg_ms, summary.max_ms) {
            text.push_str(&format!(", min/avg/max {min:.3}/{avg:.3}/{max:.3} ms"));
        }
        self.app.printer.note(&text);
    }
}

/// Makes round trips to `url`; `trip` makes one, by its number from 1 on.
///
/// # Errors
/// None was answered; an answer said that it is the last; output that cannot be written.
pub async fn round_trips(
    args: &PingArgs,
    url: &str,
    app: &App,
    mut trip: impl AsyncFnMut(u64) -> Result<Answer, Missed>,
) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let until = args.duration.and_then(|duration| started.checked_add(duration));
    let mut tally = Tally { app, url, sent: 0, times: Vec::new() };
    let mut next = started;
    let mut missed = None;
    while args.count.is_none_or(|count| tally.sent < count) && until.is_none_or(|until| next < until) {
        tokio::time::sleep_until(next).await;
        let at = Instant::now();
        let outcome = trip(tally.sent + 1).await;
        if let Err(Missed::ForGood(failure)) = outcome {
            return Err(failure.into());
        }
        tally.sent += 1;
        match outcome {
            Ok(Answer { status, time, end }) => {
                let time_ms = (time.as_secs_f64() * 1e6).round() / 1000.0;
                tally.times.push(time_ms);
                tally.show(status, Some(time_ms))?;
                if let Some(failure) = end {
                    return Err(failure.into());
                }
            }
            Err(Missed::Once(failure) | Missed::ForGood(failure)) => {
                tally.show("UNREACHABLE", None)?;
                missed = Some(failure);
            }
        }
        next = next.checked_add(args.interval).unwrap_or(next).max(at);
    }
    if app.printer.look().format == Format::Json {
        app.printer.json(&tally.summary())?;
    }
    match missed {
        None => Ok(Exit::Done),
        Some(_) if !tally.times.is_empty() => Ok(Exit::Partly),
        Some(failure) => Err(failure.into()),
    }
}
