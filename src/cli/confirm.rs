//! Asks before something is gone: yes or no, on the terminal of whoever types.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::flag;

use super::app::App;
use super::exit::{Exit, Failure};
use super::signals;

/// Asks whether to do `what` and waits for an answer: returns if it is yes.
///
/// # Errors
/// Usage: nobody is there to be asked. Failed: anything but yes is no.
pub fn confirm(what: &str) -> Result<(), Failure> {
    // `local:` is no end of a sentence.
    let what =
        what.strip_suffix("at local:").map_or_else(|| what.to_owned(), |what| format!("{what}at local"));
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("nobody is here to be asked whether to {what}"))
            .tip("add -y to do it"));
    }
    let mut answer = String::new();
    write!(stderr, "{what}? [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| wait_for_answer())
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")))?;
    if !answer.ends_with('\n') {
        // Ctrl-D: what is said next stands on a line of its own.
        let _ = writeln!(stderr);
    }
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was changed")),
    }
}

/// Returns when there is something to read. Ctrl-C is heard here: what else listens to signals does not run meanwhile.
fn wait_for_answer() -> io::Result<()> {
    const SIGNALS: [i32; 3] = [2, 15, 1];
    /// A signal that comes between a look and the wait is heard after so long.
    const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    let came = Arc::new(AtomicUsize::new(0));
    let registered: Vec<_> = SIGNALS
        .iter()
        .filter_map(|signal| flag::register_usize(*signal, Arc::clone(&came), *signal as usize).ok())
        .collect();
    let stdin = io::stdin();
    let result = loop {
        let signal = came.load(Ordering::SeqCst);
        if signal > 0 {
            let _ = writeln!(io::stderr());
            signals::reraise(signal as u8);
        }
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => {}
            other => break other.map(drop).map_err(io::Error::from),
        }
    };
    for id in registered {
        signal_hook::low_level::unregister(id);
    }
    result
}

/// The failure of a question whose command has `--dry-run`.
pub fn can_be_tried(failure: Failure) -> Failure {
    if failure.exit != Exit::Usage {
        return failure;
    }
    Failure { tips: vec!["add -y to do it, or --dry-run to see what it would do".to_owned()], ..failure }
}

/// What is asked before something is gone.
#[derive(Debug, Clone, clap::Args)]
pub struct SureArgs {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would go, and leave it
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

impl SureArgs {
    /// True if it is to be done, false if only what would go is to be said.
    ///
    /// # Errors
    /// Usage: there is nobody to ask. Failed: the answer is no.
    pub fn is_sure(&self, what: &str, app: &App) -> Result<bool, Failure> {
        if self.dry_run {
            app.printer.note(&format!("would {what}"));
            return Ok(false);
        }
        if !self.yes {
            confirm(what).map_err(can_be_tried)?;
        }
        Ok(true)
    }
}
