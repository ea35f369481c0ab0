//! The table of `top --once`, and its rows for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::board::{Board, Instance, Row, Sort};
use crate::cli::app::App;
use crate::cli::figures::{age, per_second, readable};
use crate::cli::top::begin_table;
use crate::output::Column;

/// A method of a server; its keys are a promise. Latencies are milliseconds, `null` is what only the server knows.
#[derive(Serialize)]
struct View<'a> {
    method: Option<&'a str>,
    rate: Option<f64>,
    in_flight: Option<i64>,
    p50: Option<f64>,
    p99: Option<f64>,
    errors: Option<u64>,
    calls: Option<u64>,
    health: Option<&'a str>,
    endpoint: &'a str,
    p90: Option<f64>,
    max: Option<f64>,
    codes: Option<&'a BTreeMap<String, u64>>,
    /// What rate and latencies are of.
    seconds: Option<f64>,
    uptime: Option<f64>,
    connections: Option<u64>,
    round_trip: Option<f64>,
    timestamp: i64,
}

/// With the endpoint, which a table of one server leaves out.
const COLUMNS: &[Column] = &[
    Column::left("method").shown(word),
    Column::right("rate").shown(rate),
    Column::right("in_flight").shown(number),
    Column::right("p50").shown(latency),
    Column::right("p99").shown(latency),
    Column::right("errors").shown(number),
    Column::right("calls").shown(number),
    Column::left("health").shown(word),
    Column::left("endpoint"),
];

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn rate(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), per_second)
}

fn latency(value: &Value) -> String {
    let time = value.as_f64().and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    time.map_or_else(|| "-".to_owned(), readable)
}

/// Milliseconds, exact to a microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Writes one table of what is known, `number` counting from 0; talk about the servers goes to stderr.
pub fn table(app: &App, board: &Board, number: u64) -> anyhow::Result<()> {
    let printer = &app.printer;
    let for_people = begin_table(app, number)?;
    for instance in &board.instances {
        talk(app, instance, number);
    }
    let columns =
        if for_people && board.instances.len() == 1 { &COLUMNS[..COLUMNS.len() - 1] } else { COLUMNS };
    let mut list = printer.list(columns);
    let timestamp = jiff::Timestamp::now().as_millisecond();
    for instance in board.instances.iter().filter(|instance| instance.lost.is_none()) {
        let mut rows = instance.rows(board.span);
        rows.sort_by(|a, b| a.method.cmp(&b.method));
        // The busiest first, so that head shows what matters.
        rows.sort_by(|a, b| Sort::Rate.value(b).total_cmp(&Sort::Rate.value(a)));
        for row in &rows {
            list.row(&view(row, instance, board, timestamp))?;
        }
    }
    list.finish()?;
    Ok(())
}

fn view<'a>(row: &'a Row, instance: &'a Instance, board: &Board, timestamp: i64) -> View<'a> {
    let numbers = row.numbers.as_ref();
    let time = |quantile| Some(millis(numbers?.times.quantile(quantile)?));
    let own = instance.own();
    View {
        method: row.method.as_deref(),
        rate: numbers.map(|numbers| (numbers.rate * 1000.0).round() / 1000.0),
        in_flight: numbers.map(|numbers| numbers.in_flight),
        p50: time(0.5),
        p99: time(0.99),
        errors: numbers.map(|numbers| numbers.errors()),
        calls: numbers.map(|numbers| numbers.calls()),
        health: Some(row.health.as_str()).filter(|health| !health.is_empty()),
        endpoint: &instance.url,
        p90: time(0.9),
        max: time(1.0),
        codes: numbers.map(|numbers| &numbers.ended),
        seconds: own.map(|_| (instance.seconds(board.span) * 1e3).round() / 1e3),
        uptime: own.map(|own| (own.uptime.as_secs_f64() * 1e3).round() / 1e3),
        connections: own.map(|own| own.connections.0),
        round_trip: instance.trips.back().copied().map(millis),
        timestamp,
    }
}

/// What a person wants to know about a server besides its methods.
fn talk(app: &App, instance: &Instance, number: u64) {
    let url = &instance.url;
    if let Some(reason) = &instance.lost {
        app.printer.note(reason);
    } else if let Some(own) = instance.own() {
        app.printer.status(&format!(
            "{url}  up {}  connections {}  since the start {}  memory {} MiB",
            age(own.uptime),
            own.connections.0,
            own.connections.2,
            own.memory_bytes >> 20
        ));
    } else if let Some(foreign) = instance.foreign() {
        if number == 0 {
            app.printer.note(&format!("{url}: {}", super::only_seen_from_here(foreign)));
        }
        let trip = instance.trips.back().copied().map(readable).unwrap_or_default();
        app.printer.status(&format!("{url}  {}  round trip {trip}", foreign.health));
    }
}
