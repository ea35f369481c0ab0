//! `bandy gossip watch`: what happens in a cluster, as lines, records, or a command for each.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::Node;
use super::envelope::{self, Values};
use super::handler::Handler;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::exec::Program;
use crate::gossip::agent::ipc::MISSED;
use crate::gossip::wire::ipc::{Request, StreamRecord, read_stats};
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration};

/// Arguments of `gossip watch`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip watch                                      # all that happens, until Ctrl-C
  bandy gossip watch --event failed --event leave
  bandy gossip watch --replay --idle 200ms                # what happened lately, and no more
  bandy gossip watch --event event:deploy -- ./deploy.sh  # payload on stdin, SERF_*, BANDY_*
  bandy gossip watch --json | jq -c 'select(.event == \"member-failed\") | .key'

Exit: 0 done · 3 no node, or it ended · 6 fewer than -n · 124 --timeout · see 'bandy help exit-codes'")]
pub struct Args {
    /// Run once per event
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Only these: join leave failed update reap suspect alive event query data, event:NAME, query:NAME (repeatable)
    #[arg(long, value_name = "KIND", value_parser = kind, add = completions::words(KINDS), help_heading = "What")]
    pub event: Vec<String>,
    /// Tell again first what happened lately
    #[arg(long, help_heading = "What")]
    pub replay: bool,
    /// Stop after N
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "What")]
    pub count: Option<u64>,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, help_heading = "What")]
    pub duration: Option<Duration>,
    /// Stop after this long without anything
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "What")]
    pub idle: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What a shell is offered.
const KINDS: &[(&str, &str)] = &[
    ("join", "a member is there"),
    ("leave", "one has left in order"),
    ("failed", "one does not answer"),
    ("update", "one has other tags"),
    ("reap", "one is forgotten"),
    ("suspect", "one may have failed"),
    ("alive", "one was suspected, and objects"),
    ("event", "an event; event:NAME those of a name"),
    ("query", "a query; query:NAME those of a name"),
    ("data", "a key has another value"),
];

/// Serf's word for a kind.
fn kind(text: &str) -> Result<String, String> {
    match text {
        "join" | "leave" | "failed" | "update" | "reap" | "suspect" | "alive" => Ok(format!("member-{text}")),
        "event" | "user" => Ok("user".to_owned()),
        "query" | "data" => Ok(text.to_owned()),
        _ => match text.split_once(':') {
            Some(("event" | "user", name)) => Ok(format!("user:{name}")),
            Some(("query", name)) => Ok(format!("query:{name}")),
            _ => Err(format!(
                "expected join, leave, failed, update, reap, suspect, alive, event, query or data, got '{text}'"
            )),
        },
    }
}

/// Runs the command.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, watch(args, app))
}

async fn watch(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut node = Node::open(&args.connect, app, "watch").await?;
    let handler = handler(args, app, &mut node).await?;
    let wanted = if args.event.is_empty() { "*".to_owned() } else { args.event.join(",") };
    let ours = if args.event.is_empty() { "bandy" } else { "missed" };
    let replay = if args.replay { ",replay" } else { "" };
    let kinds = format!("{wanted},{ours}{replay}");
    let mut started = node.client.start(&Request::Stream { kinds }).await;
    // What only our nodes tell of, a Serf agent takes for a mistake.
    if matches!(&started, Err(error) if error.is_foreign_kind() && !args.replay) {
        started = node.client.start(&Request::Stream { kinds: wanted }).await;
    }
    let started = match started {
        Err(error) if error.is_foreign_kind() => {
            let text = format!("{}: a Serf agent tells neither --replay nor of these events", node.url);
            return Err(Failure::new(Exit::Usage, text).tip("it knows member-join, member-leave, member-failed, member-update, member-reap, user, query").into());
        }
        started => started,
    };
    started.map_err(|error| node.failure(&error))?;
    app.printer.status(&format!("watching {}; Ctrl-C ends", node.url));
    let until = args.duration.map(|duration| Instant::now() + duration);
    let values = if app.printer.is_terminal() { Values::Begun } else { Values::Whole };
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let idle = args.idle.map(|idle| Instant::now() + idle);
        let end = until.into_iter().chain(idle).min();
        let next = node.client.next_record(StreamRecord::read);
        let next = match end {
            Some(end) => match tokio::time::timeout_at(end, next).await {
                Ok(next) => next,
                Err(_) => break,
            },
            None => next.await,
        };
        let record = next.map_err(|error| node.failure(&error))?;
        if record.event == MISSED {
            app.printer.warn(&too_fast(record.id));
            continue;
        }
        seen += 1;
        match &handler {
            None => {
                let now = jiff::Timestamp::now().as_millisecond();
                let happened = now.saturating_sub_unsigned(record.age_ms);
                envelope::write(app, &record, happened, values)?;
            }
            Some(handler) => {
                // In order: one event's command ends before the next one's begins.
                let handled = handler.run(&record).await.map_err(|error| cannot_run(handler, &error))?;
                if let Some(failure) = handled.failure {
                    app.printer.warn(&failure);
                }
                if let Some(payload) = handled.answer {
                    let answered = node.ask(&Request::Respond { id: record.id, payload }, |_| Ok(())).await;
                    if let Err(failure) = answered {
                        app.printer.warn(&failure.message);
                    }
                }
            }
        }
    }
    Ok(if args.count.is_some_and(|count| seen < count) { Exit::Nothing } else { Exit::Done })
}

/// That events came too fast to be told.
pub fn too_fast(count: u64) -> String {
    format!("{count} events came too fast to be told")
}

async fn handler(args: &Args, app: &App, node: &mut Node) -> anyhow::Result<Option<Handler>> {
    let path = app.environment.get("PATH").map(OsString::from);
    let Some(program) = Program::from_words(args.command.clone(), path.as_deref()) else { return Ok(None) };
    let stats = node.ask(&Request::Stats, read_stats).await?;
    let name = stats.get("agent").and_then(|agent| agent.get("name")).cloned().unwrap_or_default();
    let tags = stats.get("tags").cloned().unwrap_or_default().into_iter().collect();
    Ok(Some(Handler { program: Arc::new(program), name, tags, shutdown: Shutdown::new() }))
}

/// The command of a handler cannot be run.
pub fn cannot_run(handler: &Handler, error: &std::io::Error) -> Failure {
    let name = handler.program.argv().first().map(|name| name.to_string_lossy().into_owned());
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Failure::new(Exit::Command(code), format!("cannot run {}: {error}", name.unwrap_or_default()))
}
