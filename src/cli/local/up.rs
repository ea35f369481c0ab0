//! `bandy up`: servers of this user's own, in the background until `bandy down`.

use std::ffi::OsString;

use super::{Mode, Running, Turn, down, local_url, pillars, spawn, status, variables, words};
use crate::cli::app::App;
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar};
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};

/// Start servers of your own in the background
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy up                        # rpc, mq, log and gossip
  bandy up mq log                 # commands find them at local:, other programs at their ports
  bandy up mq --memory            # nothing on disk
  eval \"$(bandy up mq --export)\"  # and AMQP_URL, BANDY_MQ_URL for what this shell starts
  bandy status                    # which run, and where
  bandy down                      # stop them

A server listens at its protocol's own port of 127.0.0.1 if that is free, else at any that is.
One that runs already is left as it is. rpc serves the demo functions.

Exit: 0 all run · 1 one did not start · see 'bandy help exit-codes'")]
pub struct Args {
    /// Which: rpc, mq, log, gossip [default: all]
    #[arg(value_name = "SERVER", add = crate::cli::completions::pillars())]
    pub servers: Vec<String>,
    /// Print the variables that lead programs there, for eval
    #[arg(long)]
    pub export: bool,
    /// Keep nothing on disk
    #[arg(long)]
    pub memory: bool,
}

/// Runs the command.
///
/// # Errors
/// A word that is no server; a server that does not start.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let wanted = pillars(&args.servers)?;
    let mut turns = Vec::new();
    let mut starting = Vec::new();
    let mut to_start = Vec::new();
    for &pillar in &wanted {
        if pillar != Pillar::Gossip {
            let socket = app.home.socket(pillar, LOCAL_DEFAULT);
            turns.push(Turn::take(&socket)?);
        }
        if !is_up(pillar, app)? {
            to_start.push(pillar);
        } else if args.memory && matches!(pillar, Pillar::Mq | Pillar::Log) {
            app.printer.note(&format!(
                "{} runs already, as it was started: --memory changes nothing",
                pillar.name()
            ));
        }
    }
    // All at once, and then wait for each.
    for pillar in to_start {
        let mut server: Vec<OsString> = words(pillar).map(OsString::from).to_vec();
        server.extend(["--background", "--detached", "--up", "--quiet"].map(OsString::from));
        if args.memory && matches!(pillar, Pillar::Mq | Pillar::Log) {
            server.push("--memory".into());
        }
        starting.push((pillar, spawn(server)?));
    }
    let mut missing = Vec::new();
    let mut new = Vec::new();
    for (pillar, server) in starting {
        // It has said why on stderr.
        match server.ready()? {
            Ok(started) => new.push(started.pid),
            Err(_) => missing.push(pillar.name()),
        }
    }
    drop(turns);
    let running: Vec<_> = wanted.iter().filter_map(|pillar| current(*pillar, app)).collect();
    if args.export {
        for server in &running {
            for (name, value) in variables(server.pillar, &server.url()) {
                app.printer.line(&format!("export {name}={}", word(&value)))?;
            }
        }
    } else {
        status::show(app, &running, |server| new.contains(&server.pid))?;
    }
    match missing.as_slice() {
        [] => Ok(Exit::Done),
        missing => Err(Failure::new(Exit::Failed, format!("{} did not start", missing.join(", "))).into()),
    }
}

/// The server that commands find without being told where.
fn current(pillar: Pillar, app: &App) -> Option<Running> {
    match pillar {
        // Nodes have names of their own.
        Pillar::Gossip => Running::all(&app.home).into_iter().find(|server| server.pillar == pillar),
        Pillar::Rpc | Pillar::Mq | Pillar::Log => Running::find(&app.home, pillar, LOCAL_DEFAULT),
    }
}

/// Whether there is nothing to start. One that would stop when idle is replaced, unless somebody would lose by that: then
/// it stays until `down`.
fn is_up(pillar: Pillar, app: &App) -> anyhow::Result<bool> {
    let Some(server) = current(pillar, app) else { return Ok(false) };
    if server.mode() != Some(Mode::Idle) {
        return Ok(true);
    }
    if down::give_way(&server, app)? {
        return Ok(false);
    }
    app.printer.note(&format!(
        "{} at {} has clients, or what is not on disk, so it stays as it is, with no port",
        pillar.name(),
        local_url(&server.name)
    ));
    Ok(true)
}
