//! How a run is shown: the row, what was streamed, errors by class.

use serde::Serialize;
use serde_json::Value;

use super::caller::Plan;
use crate::bench::Report;
use crate::cli::app::App;
use crate::cli::bench::{self, Figures, tenths};

/// The result; its keys are a promise.
#[derive(Serialize)]
struct View<'a> {
    method: &'a str,
    #[serde(flatten)]
    figures: Figures,
    calls: u64,
    messages: u64,
    message_rate: f64,
    error_classes: &'a serde_json::Map<String, Value>,
}

/// Writes the result.
pub fn report(app: &App, plan: &Plan, report: &Report) -> anyhow::Result<()> {
    let printer = &app.printer;
    let error_classes = bench::error_classes([report]);
    let view = View {
        method: &plan.method.path,
        figures: report.into(),
        calls: report.calls,
        messages: report.messages,
        message_rate: tenths(report.message_rate()),
        error_classes: &error_classes,
    };
    bench::show(printer, &view, report)?;
    let streams = plan.method.kind != crate::rpc::Kind::Unary;
    if streams {
        printer.note(&format!("{} messages, {:.1}/s", report.messages, report.message_rate()));
    }
    bench::show_errors(printer, &error_classes);
    Ok(())
}
