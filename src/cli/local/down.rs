//! `bandy down`: stops this user's own servers, in order.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Mode, Running, pillars};
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::units::parse_duration;

/// A stop takes as long as the server's own grace, and a bit; then it is told to stop at once.
const IN_ORDER: Duration = Duration::from_secs(8);
/// Between two looks whether it stays.
const LOOK: Duration = Duration::from_millis(10);
/// And this long after that.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Stop your own servers
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy down                    # all that run in the background
  bandy down mq                 # this one
  bandy down --name test --all  # what is called test, in a terminal too

What is on disk stays there. Servers in a terminal are left alone without --all: Ctrl-C stops them.

Exit: 0 they have stopped, or there were none · 1 one does not stop · see 'bandy help exit-codes'")]
pub struct Args {
    /// Which: rpc, mq, log, gossip [default: all]
    #[arg(value_name = "SERVER", add = crate::cli::completions::pillars())]
    pub servers: Vec<String>,
    /// Those in a terminal, too
    #[arg(long)]
    pub all: bool,
    /// Only what is local:NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How long a server may take to stop in order
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Runs the command.
///
/// # Errors
/// A word that is no server; a server that does not stop.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let wanted = pillars(&args.servers)?;
    let is_meant = |server: &Running| {
        wanted.contains(&server.pillar) && args.name.as_ref().is_none_or(|name| *name == server.name)
    };
    let mut meant: Vec<_> = Running::all(&app.home).into_iter().filter(is_meant).collect();
    let in_terminals = meant.iter().filter(|server| !is_in_background(server)).count();
    if !args.all {
        meant.retain(is_in_background);
    }
    if meant.is_empty() {
        app.printer.note(match in_terminals {
            0 => "nothing of yours is running",
            _ => "nothing of yours is running in the background; --all stops those in terminals, too",
        });
        return Ok(Exit::Done);
    }
    // All at once, and then wait for each.
    let mut stopping = Vec::new();
    for server in &meant {
        stopping.push((server, Stopping::start(server, Signal::TERM)?));
    }
    for (server, stop) in stopping {
        if !stop.finish(args.timeout)? {
            return Err(does_not_stop(server).into());
        }
        let (pillar, place) = (server.pillar.name(), server.place());
        app.printer.note(&format!("stopped {pillar} {place} (pid {})", server.pid));
    }
    Ok(Exit::Done)
}

fn is_in_background(server: &Running) -> bool {
    server.mode() != Some(Mode::Foreground)
}

/// Stops a server and returns when it has ended.
///
/// # Errors
/// It does not end, or is not ours to stop.
pub fn stop(server: &Running) -> anyhow::Result<()> {
    if Stopping::start(server, Signal::TERM)?.finish(IN_ORDER)? {
        return Ok(());
    }
    Err(does_not_stop(server).into())
}

/// Asks a server that would stop when idle to end for another one. False if somebody would lose something by that: it stays,
/// and is not idle any more.
///
/// # Errors
/// It does neither, or is not ours to ask.
pub fn give_way(server: &Running, app: &App) -> anyhow::Result<bool> {
    let Some(handle) = Stopping::start(server, Signal::USR2)?.0 else { return Ok(true) };
    let deadline = Instant::now() + IN_ORDER;
    while Instant::now() < deadline {
        if ended(&handle, LOOK)? {
            return Ok(true);
        }
        let now = Running::find(&app.home, server.pillar, &server.name);
        if now.is_some_and(|now| now.pid == server.pid && now.mode() == Some(Mode::Background)) {
            return Ok(false);
        }
    }
    Err(does_not_stop(server).into())
}

fn does_not_stop(server: &Running) -> Failure {
    let (pid, url) = (server.pid, server.place());
    Failure::new(Exit::Failed, format!("{} {url} (pid {pid}) does not stop", server.pillar.name()))
        .tip(format!("kill -9 {pid}"))
}

/// A process that was told to stop; `None` if it had ended by then.
struct Stopping(Option<OwnedFd>);

impl Stopping {
    fn start(server: &Running, signal: Signal) -> anyhow::Result<Self> {
        let Some(pid) = i32::try_from(server.pid).ok().and_then(Pid::from_raw) else { return Ok(Self(None)) };
        // Of this very process: its number may be somebody else's soon.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(Self(None)),
            other => other?,
        };
        tell(&handle, signal)?;
        // One that Ctrl-Z has stopped hears nothing else.
        tell(&handle, Signal::CONT)?;
        Ok(Self(Some(handle)))
    }

    /// True if it has ended: in time, or after it was told to stop at once.
    fn finish(self, in_order: Duration) -> anyhow::Result<bool> {
        let Some(handle) = self.0 else { return Ok(true) };
        if ended(&handle, in_order)? {
            return Ok(true);
        }
        tell(&handle, Signal::TERM)?;
        ended(&handle, AT_ONCE)
    }
}

fn tell(handle: &OwnedFd, signal: Signal) -> anyhow::Result<()> {
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the process has ended, at most so long.
fn ended(handle: &OwnedFd, limit: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        // Readable means ended: pidfd_open(2).
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
