//! What the benches of all pillars share: thresholds, files, the live line, rows and histogram.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::app::App;
use super::exit::{Exit, Failure};
use super::figures::readable;
use crate::bench::{Report, Sample, Threshold};
use crate::output::{Column, Format, Printer, Talk};

/// Rows of the histogram.
const ROWS: u16 = 12;
/// Its longest bar.
const BAR: u64 = 40;

/// What becomes of the result.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Result")]
pub struct ResultArgs {
    /// Exit with 7 if this holds: p99>20ms, errors>1%, rate<1000
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// Write what every second measured to a file, one JSON object per line
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub series: Option<PathBuf>,
    /// Write the latencies to a file in HdrHistogram's percentile format
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
}

impl ResultArgs {
    /// Judges the run by the thresholds. `nothing` is what to say if nothing succeeded.
    ///
    /// # Errors
    /// A threshold that holds.
    pub fn verdict(&self, report: &Report, nothing: &str) -> anyhow::Result<Exit> {
        let violated: Vec<String> =
            self.fail_if.iter().filter_map(|threshold| threshold.violated(report)).collect();
        if !violated.is_empty() {
            return Err(Failure::new(Exit::Partly, violated.join("; ")).into());
        }
        if report.calls > 0 && report.latency.is_empty() {
            return Err(Failure::new(Exit::Partly, nothing).into());
        }
        Ok(Exit::Done)
    }

    /// Writes the file of latencies, if one was asked for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_hgrm(&self, report: &Report) -> anyhow::Result<()> {
        let Some(path) = &self.hgrm else { return Ok(()) };
        std::fs::write(path, report.hgrm()).map_err(|error| cannot_write(path, &error).into())
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
}

/// The columns that every bench begins with.
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

/// What every bench tells of its run, to be flattened into a pillar's row; its keys are a promise. Latencies are
/// milliseconds.
#[derive(Debug, Serialize)]
pub struct Figures {
    rate: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    errors: u64,
    seconds: f64,
    mean: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    bytes: u64,
}

impl From<&Report> for Figures {
    fn from(report: &Report) -> Self {
        Self {
            rate: tenths(report.rate()),
            p50: millis(report.quantile(0.5)),
            p90: millis(report.quantile(0.9)),
            p99: millis(report.quantile(0.99)),
            max: millis(report.quantile(1.0)),
            errors: report.failed(),
            seconds: seconds(report.elapsed),
            mean: millis(report.mean()),
            p999: millis(report.quantile(0.999)),
            bytes: report.bytes,
        }
    }
}

/// How often each class of error came, in one run or in several that belong together.
pub fn error_classes<'a>(reports: impl IntoIterator<Item = &'a Report>) -> serde_json::Map<String, Value> {
    let errors = reports.into_iter().flat_map(|report| &report.errors);
    errors.map(|(class, count)| (class.to_string(), (*count).into())).collect()
}

/// Writes the row of a run, which has its [`Figures`], and for people the histogram of `report`.
///
/// # Errors
/// Output that cannot be written.
pub fn show<R: Serialize>(printer: &Printer, row: &R, report: &Report) -> anyhow::Result<()> {
    let mut list = printer.list(COLUMNS);
    list.row(row)?;
    list.finish()?;
    histogram_for_people(printer, report)
}

/// Says what went wrong, by class.
pub fn show_errors(printer: &Printer, classes: &serde_json::Map<String, Value>) {
    for (class, count) in classes {
        printer.note(&format!("{count} × {class}"));
    }
}

/// Milliseconds, exact to a microsecond.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds, exact to a microsecond.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// With one digit behind the point.
pub fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// On a terminal.
fn histogram_for_people(printer: &Printer, report: &Report) -> anyhow::Result<()> {
    if printer.is_terminal() && matches!(printer.look().format, Format::Auto | Format::Table) {
        for line in histogram(report) {
            printer.line(&line)?;
        }
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

/// The file of what every second measured, if one was asked for.
#[derive(Debug)]
pub struct Series(Option<std::fs::File>);

impl Series {
    /// Creates the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(args: &ResultArgs) -> anyhow::Result<Self> {
        let create = |path: &PathBuf| std::fs::File::create(path).map_err(|error| cannot_write(path, &error));
        Ok(Self(args.series.as_ref().map(create).transpose()?))
    }

    /// Writes one line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, sample: &Sample) -> anyhow::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
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
}

/// The line on a terminal's stderr that is written over itself every second.
pub struct Progress<'a> {
    app: &'a App,
    /// What is counted: calls, messages.
    what: &'static str,
    live: bool,
    calls: u64,
    errors: u64,
    shown: bool,
}

impl<'a> Progress<'a> {
    /// Silent unless a person looks at stderr.
    pub fn new(app: &'a App, what: &'static str) -> Self {
        let look = app.printer.look();
        let live = look.err.width.is_some() && look.talk > Talk::Quiet;
        Self { app, what, live, calls: 0, errors: 0, shown: false }
    }

    /// Shows what the last second measured.
    pub fn show(&mut self, sample: &Sample) {
        self.calls += sample.calls;
        self.errors += sample.errors;
        if self.live {
            self.shown = true;
            self.app.printer.say_own(&format!(
                "\r\x1b[K{:.0} s  {} {}  {}/s  p50 {}  p99 {}  {} errors",
                sample.at.as_secs_f64(),
                self.calls,
                self.what,
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
