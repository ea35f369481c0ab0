//! How a run is shown: the row, what was sent, confirms, errors by class.

use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::Value;

use super::{Args, Measured};
use crate::bench::Report;
use crate::cli::app::App;
use crate::cli::bench::{self, Figures, millis, tenths};
use crate::cli::figures::readable;

/// The result; its keys are a promise.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    figures: Figures,
    messages: u64,
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
    let error_classes = bench::error_classes([report, &confirms]);
    let view = View {
        figures: report.into(),
        messages: report.messages,
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
    };
    bench::show(printer, &view, report)?;
    printer.status(&format!("sent {sent}, {sent_rate}/s"));
    if confirms.messages > 0 {
        printer.status(&format!(
            "confirmed {}: p50 {}, p99 {}",
            confirms.messages,
            readable(confirms.quantile(0.5)),
            readable(confirms.quantile(0.99))
        ));
    }
    bench::show_errors(printer, &error_classes);
    Ok(())
}
