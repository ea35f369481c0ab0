//! How a run is shown: the live line, the row, the histogram for people, the series for programs.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::caller::Plan;
use crate::bench::{Report, Sample};
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::readable;
use crate::output::{Column, Format, Talk};

/// Rows of the histogram.
const ROWS: u16 = 12;
/// Its longest bar.
const BAR: u64 = 40;

/// The result; its keys are a promise. Latencies are milliseconds.
#[derive(Serialize)]
struct View<'a> {
    method: &'a str,
    rate: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    errors: u64,
    calls: u64,
    seconds: f64,
    mean: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    messages: u64,
    message_rate: f64,
    bytes: u64,
    error_classes: serde_json::Map<String, Value>,
}

const COLUMNS: &[Column] = &[
    Column::right("rate").shown(per_second),
    Column::right("p50").shown(latency),
    Column::right("p90").shown(latency),
    Column::right("p99").shown(latency),
    Column::right("max").shown(latency),
    Column::right("errors"),
];

fn per_second(value: &Value) -> String {
    format!("{:.1}/s", value.as_f64().unwrap_or_default())
}

fn latency(value: &Value) -> String {
    readable(Duration::try_from_secs_f64(value.as_f64().unwrap_or_default() / 1000.0).unwrap_or_default())
}

/// Milliseconds, exact to a microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds, exact to a microsecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Writes the result.
pub fn report(app: &App, plan: &Plan, report: &Report) -> anyhow::Result<()> {
    let printer = &app.printer;
    let mut list = printer.list(COLUMNS);
    list.row(&View {
        method: &plan.method.path,
        rate: tenths(report.rate()),
        p50: millis(report.quantile(0.5)),
        p90: millis(report.quantile(0.9)),
        p99: millis(report.quantile(0.99)),
        max: millis(report.quantile(1.0)),
        errors: report.failed(),
        calls: report.calls,
        seconds: seconds(report.elapsed),
        mean: millis(report.mean()),
        p999: millis(report.quantile(0.999)),
        messages: report.messages,
        message_rate: tenths(report.message_rate()),
        bytes: report.bytes,
        error_classes: report
            .errors
            .iter()
            .map(|(class, count)| (class.to_string(), (*count).into()))
            .collect(),
    })?;
    list.finish()?;
    if printer.is_terminal() && matches!(printer.look().format, Format::Auto | Format::Table) {
        for line in histogram(report) {
            printer.line(&line)?;
        }
    }
    let streams = plan.method.kind != crate::rpc::Kind::Unary;
    if streams {
        printer.note(&format!("{} messages, {:.1}/s", report.messages, report.message_rate()));
    }
    for (class, count) in &report.errors {
        printer.note(&format!("{count} × {class}"));
    }
    Ok(())
}

fn histogram(report: &Report) -> Vec<String> {
    let bins = report.bins(ROWS);
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let line = |bin: &crate::bench::Bin| {
        let bar = usize::try_from((bin.count * BAR).div_ceil(most)).unwrap_or(0);
        format!("{:>9} {:<width$} {}", readable(bin.to), "█".repeat(bar), bin.count, width = 40)
    };
    bins.iter().map(|bin| line(bin).trim_end().to_owned()).collect()
}

/// One second of the run.
#[derive(Serialize)]
struct Second {
    at: f64,
    calls: u64,
    errors: u64,
    messages: u64,
    p50: f64,
    p99: f64,
    max: f64,
}

/// Writes one line of the series.
pub fn series(file: &mut std::fs::File, sample: &Sample) -> anyhow::Result<()> {
    let second = Second {
        at: seconds(sample.at),
        calls: sample.calls,
        errors: sample.errors,
        messages: sample.messages,
        p50: millis(sample.p50),
        p99: millis(sample.p99),
        max: millis(sample.max),
    };
    let mut line = serde_json::to_vec(&second)?;
    line.push(b'\n');
    file.write_all(&line)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the series: {error}")).into())
}

/// The line on a terminal's stderr that is written over itself every second.
pub struct Progress<'a> {
    app: &'a App,
    live: bool,
    calls: u64,
    errors: u64,
    shown: bool,
}

impl<'a> Progress<'a> {
    /// Silent unless a person looks at stderr.
    pub fn new(app: &'a App) -> Self {
        let look = app.printer.look();
        let live = look.err.width.is_some() && look.talk > Talk::Quiet;
        Self { app, live, calls: 0, errors: 0, shown: false }
    }

    /// Shows what the last second measured.
    pub fn show(&mut self, sample: &Sample) {
        self.calls += sample.calls;
        self.errors += sample.errors;
        if self.live {
            self.shown = true;
            self.app.printer.say_own(&format!(
                "\r\x1b[K{:.0} s  {} calls  {}/s  p50 {}  p99 {}  {} errors",
                sample.at.as_secs_f64(),
                self.calls,
                sample.calls,
                readable(sample.p50),
                readable(sample.p99),
                self.errors
            ));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.shown {
            self.app.printer.say_own("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_no_more_digits_than_they_are_worth() {
        let duration = Duration::from_nanos(819_541_234);
        assert_eq!(
            (seconds(duration).to_string(), millis(duration).to_string()),
            ("0.819541".into(), "819.541".into())
        );
    }
}
