//! Asks before something is gone: yes or no, on the terminal of whoever types.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

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
