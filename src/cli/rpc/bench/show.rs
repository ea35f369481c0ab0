//! How a run is shown: the row, what was streamed, errors by class.

use serde::Serialize;
use serde_json::Value;

use super::caller::Plan;
use crate::bench::Report;
use crate::cli::app::App;
use crate::cli::bench::{COLUMNS, histogram_for_people, millis, seconds, tenths};

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
    histogram_for_people(printer, report)?;
    let streams = plan.method.kind != crate::rpc::Kind::Unary;
    if streams {
        printer.note(&format!("{} messages, {:.1}/s", report.messages, report.message_rate()));
    }
    for (class, count) in &report.errors {
        printer.note(&format!("{count} × {class}"));
    }
    Ok(())
}
