//! `bandy status`: which of this user's own servers run, since when, for whom, and with how much on disk.

use std::time::Duration;

use serde::Serialize;

use super::owner::Connections;
use super::{Mode, Running, pillars};
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{figures, top};
use crate::output::Column;

/// Between two looks with `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);

/// Show which of your own servers run
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy status
  bandy status --json | jq -r .url
  bandy status mq -q >/dev/null || bandy up mq
  bandy status --watch

Clients are open connections. A server that started by itself stops a minute after the last one has gone.

Exit: 0 they are shown · 6 none of those that were named runs · see 'bandy help exit-codes'")]
pub struct Args {
    /// Which: rpc, mq, log, gossip [default: all]
    #[arg(value_name = "SERVER", add = crate::cli::completions::pillars())]
    pub servers: Vec<String>,
    /// Show it again and again
    #[arg(long)]
    pub watch: bool,
    /// Between two looks [default: 2s]
    #[arg(short, long, value_name = "DURATION", value_parser = top::parse_interval, requires = "watch")]
    pub interval: Option<Duration>,
}

/// Runs the command.
///
/// # Errors
/// A word that is no server; none of those named runs (6).
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let wanted = pillars(&args.servers)?;
    let look = || {
        let mut running = Running::all(&app.home);
        running.retain(|server| wanted.contains(&server.pillar));
        running
    };
    if args.watch {
        return app.client(None, watch(args, app, look));
    }
    let running = look();
    if running.is_empty() && !args.servers.is_empty() {
        let text = format!("no server of yours runs for {}", args.servers.join(", "));
        return Err(Failure::new(Exit::Nothing, text)
            .tip(format!("bandy up {}", args.servers.join(" ")))
            .into());
    }
    show(app, &running, |_| false)?;
    if running.is_empty() {
        app.printer.note("no server of yours is running; 'bandy up' starts them");
    }
    Ok(Exit::Done)
}

async fn watch(args: &Args, app: &App, look: impl Fn() -> Vec<Running>) -> anyhow::Result<Exit> {
    let mut tick = tokio::time::interval(args.interval.unwrap_or(INTERVAL));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0.. {
        tick.tick().await;
        top::begin_table(app, number)?;
        show(app, &look(), |_| false)?;
        app.printer.flush()?;
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct View<'a> {
    service: &'static str,
    name: &'a str,
    pid: u32,
    url: String,
    /// In seconds.
    uptime: Option<f64>,
    clients: usize,
    /// In bytes.
    stored: Option<u64>,
    mode: Option<Mode>,
    urls: &'a [String],
    data: Option<&'a std::path::Path>,
}

const COLUMNS: &[Column] = &[
    Column::left("service"),
    Column::left("name"),
    Column::right("pid"),
    Column::left("url"),
    Column::right("uptime").shown(|value| {
        value.as_f64().map_or_else(String::new, |seconds| figures::age(Duration::from_secs_f64(seconds)))
    }),
    Column::right("clients"),
    Column::right("stored").shown(|value| value.as_f64().map_or_else(String::new, figures::bytes)),
];

/// Prints a row for each; who has only just started has no clients.
///
/// # Errors
/// Output that cannot be written.
pub fn show(app: &App, running: &[Running], is_new: impl Fn(&Running) -> bool) -> anyhow::Result<()> {
    let mut list = app.printer.list(COLUMNS);
    let connections = std::cell::LazyCell::new(Connections::now);
    for server in running {
        let said = server.registration.as_ref();
        list.row(&View {
            service: server.pillar.name(),
            name: &server.name,
            pid: server.pid,
            url: server.url(),
            uptime: server.uptime().map(|uptime| uptime.as_millis() as f64 / 1000.0),
            clients: if is_new(server) { 0 } else { server.clients(&connections) },
            stored: server.stored(),
            mode: server.mode(),
            urls: said.map_or(&[], |said| &said.urls),
            data: said.and_then(|said| said.data.as_deref()),
        })?;
    }
    list.finish()?;
    Ok(())
}
