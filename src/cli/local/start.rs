//! Starting a server in the background: the same program once more, in a session of its own, until it is ready.
//!
//! A fork of a process with threads is not safe, so the program is started anew, with `--detached` among its words, and
//! its URLs are read from its stdout; an empty line ends them. Up to then its errors go to our stderr.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context;

use super::{Turn, local_url, what, words};
use crate::cli::app::App;
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::transport;
use crate::units::parse_duration;

/// How long a server that started by itself stays without a client, unless `BANDY_IDLE_EXIT` says otherwise.
const IDLE: &str = "60s";

/// A server that starts.
#[derive(Debug)]
pub struct Starting {
    child: Child,
    stdout: ChildStdout,
}

/// A server that is ready.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub urls: Vec<String>,
}

/// Starts this program with these words, `--detached` among them.
///
/// # Errors
/// The operating system's.
pub fn spawn(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Starting> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start in the background")?;
    let stdout = child.stdout.take().context("the child has no stdout")?;
    Ok(Starting { child, stdout })
}

impl Starting {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// Its exit code, if it is not 0, when it ended before it was ready: it has said why on our stderr.
    pub fn ready(mut self) -> anyhow::Result<Result<Started, u8>> {
        let mut urls: Vec<String> = Vec::new();
        for line in BufReader::new(self.stdout).lines() {
            let line = line.context("cannot hear from the server in the background")?;
            if line.is_empty() {
                return Ok(Ok(Started { pid: self.child.id(), urls }));
            }
            urls.push(line);
        }
        let status = self.child.wait().context("cannot wait for the server in the background")?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
        Ok(Err(code.unwrap_or(1)))
    }
}

/// Sees to it that something listens at `local:`, for a command that was told of no other place: starts a broker that
/// stops when nobody needs it. One process at a time looks and starts.
///
/// Only `mq` and `log` can start by themselves: nobody knows which functions `rpc` should serve, and a node of `gossip`
/// is there to be seen.
///
/// # Errors
/// It could not be started (3).
pub fn ensure(app: &App, pillar: Pillar) -> Result<(), Failure> {
    let wanted = app.asks && app.environment.get("BANDY_AUTOSTART").as_deref() != Some("0");
    if !wanted || !matches!(pillar, Pillar::Mq | Pillar::Log) {
        return Ok(());
    }
    let socket = app.home.socket(pillar, LOCAL_DEFAULT);
    let failed = |why: String| {
        Failure::new(Exit::Unreachable, format!("cannot start a local {}: {why}", what(pillar)))
    };
    let _turn = Turn::take(&socket).map_err(|failure| Failure { exit: Exit::Unreachable, ..failure })?;
    if transport::answers(&socket) {
        return Ok(());
    }
    let idle = app.environment.get("BANDY_IDLE_EXIT").unwrap_or_else(|| IDLE.to_owned());
    parse_duration(&idle).map_err(|error| Failure::new(Exit::Usage, format!("BANDY_IDLE_EXIT: {error}")))?;
    let server =
        words(pillar).into_iter().chain(["--background", "--detached", "--quiet", "--idle-exit", &idle]);
    let starting = spawn(server.map(OsString::from)).map_err(|error| failed(format!("{error:#}")))?;
    match starting.ready().map_err(|error| failed(format!("{error:#}")))? {
        Ok(started) => {
            app.printer.note(&format!(
                "started a local {} (pid {}); it stops when idle — 'bandy status', 'bandy down'",
                what(pillar),
                started.pid
            ));
            Ok(())
        }
        // It has said why on stderr, and what helps.
        Err(_) => Err(failed(format!("it did not listen at {}", local_url(LOCAL_DEFAULT)))),
    }
}
