//! Asks before something is gone: yes or no, on the terminal of whoever types.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::app::App;
use super::exit::{Exit, Failure};

/// Asks `question` and waits for an answer; anything but yes is no.
///
/// # Errors
/// Usage: nobody is there to be asked.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("{question} — nobody is here to be asked"))
            .tip("add -y to do it, or --dry-run to see what it would do"));
    }
    let mut answer = String::new();
    write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
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
    /// True if it is to be done.
    ///
    /// # Errors
    /// Usage: there is nobody to ask.
    pub fn is_sure(&self, what: &str, app: &App) -> Result<bool, Failure> {
        if self.dry_run {
            app.printer.note(&format!("would {what}"));
            return Ok(false);
        }
        Ok(self.yes || confirm(&format!("{what}?"))?)
    }
}
