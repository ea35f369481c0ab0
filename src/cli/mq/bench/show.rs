//! How a run is shown: the row, what was sent, confirms, errors by class.

use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::Value;

use super::{Args, Measured};
use crate::bench::Report;
use crate::cli::app::App;
use crate::cli::bench::{COLUMNS, histogram_for_people, millis, seconds, tenths};
use crate::cli::figures::readable;

/// The result; its keys are a promise. Latencies are milliseconds.
#[derive(Serialize)]
struct View<'a> {
    rate: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    errors: u64,
    messages: u64,
    seconds: f64,
    mean: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    bytes: u64,
    sent: u64,
    sent_rate: f64,
    confirmed: u64,
    confirm_p50: f64,
    confirm_p99: f64,
    producers: u32,
    consumers: u32,
    queues: u32,
    fan_out: bool,
    size: u64,
    persistent: bool,
    error_classes: &'a serde_json::Map<String, Value>,
}

/// Writes the result.
pub fn report(app: &App, args: &Args, measured: &Measured, report: &Report) -> anyhow::Result<()> {
    let printer = &app.printer;
    let confirms = measured.0.confirms.report();
    let sent = measured.0.sent.load(Ordering::Relaxed);
    let elapsed = report.elapsed.as_secs_f64();
    let sent_rate = if elapsed > 0.0 { tenths(sent as f64 / elapsed) } else { 0.0 };
    let errors = [report, &confirms].into_iter().flat_map(|report| &report.errors);
    let error_classes = errors.map(|(class, count)| (class.to_string(), (*count).into())).collect();
    let mut list = printer.list(COLUMNS);
    list.row(&View {
        rate: tenths(report.rate()),
        p50: millis(report.quantile(0.5)),
        p90: millis(report.quantile(0.9)),
        p99: millis(report.quantile(0.99)),
        max: millis(report.quantile(1.0)),
        errors: report.failed(),
        messages: report.messages,
        seconds: seconds(report.elapsed),
        mean: millis(report.mean()),
        p999: millis(report.quantile(0.999)),
        bytes: report.bytes,
        sent,
        sent_rate,
        confirmed: confirms.messages,
        confirm_p50: millis(confirms.quantile(0.5)),
        confirm_p99: millis(confirms.quantile(0.99)),
        producers: args.load.producers,
        consumers: args.load.consumers,
        queues: args.load.queues,
        fan_out: args.load.fan_out,
        size: args.message.size,
        persistent: args.message.persistent,
        error_classes: &error_classes,
    })?;
    list.finish()?;
    histogram_for_people(printer, report)?;
    printer.status(&format!("sent {sent}, {sent_rate}/s"));
    if confirms.messages > 0 {
        printer.status(&format!(
            "confirmed {}: p50 {}, p99 {}",
            confirms.messages,
            readable(confirms.quantile(0.5)),
            readable(confirms.quantile(0.99))
        ));
    }
    for (class, count) in &error_classes {
        printer.note(&format!("{count} × {class}"));
    }
    Ok(())
}
