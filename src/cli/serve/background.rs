//! `--background`: the same command once more in a session of its own, until it says that it is ready.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::local;

/// Added to the child's words.
pub const DETACHED: &str = "--detached";

/// Starts the child, waits until it serves, prints its URLs. Without success it exits as the child did.
pub fn start(app: &App) -> anyhow::Result<Exit> {
    let starting = local::spawn(with_detached(std::env::args_os().skip(1)))?;
    match starting.ready()? {
        Ok(started) => {
            for url in started.urls {
                app.printer.line(&url)?;
            }
            Ok(Exit::Done)
        }
        // It has said why on our stderr.
        Err(code) => Ok(Exit::Command(code)),
    }
}

/// The words with the flag before the first `--`: what follows that is somebody else's command.
fn with_detached(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = words.collect();
    let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.insert(at, DETACHED.into());
    words
}

/// The child: leaves the terminal's session, so that closing the terminal does not end it.
pub fn detach() {
    // Fails only for a leader of a group, whom a parent of ours is not.
    let _ = rustix::process::setsid();
}

/// The child, when it serves: its words go to a file from now on, and nobody waits for them any more.
pub fn release(log: &Path) -> std::io::Result<()> {
    let log = File::options().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_stands_before_the_users_command() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let added = |text: &str| with_detached(words(text).into_iter());
        assert_eq!(added("rpc serve -b"), words("rpc serve -b --detached"));
        assert_eq!(added("rpc serve -b -- a -- b"), words("rpc serve -b --detached -- a -- b"));
    }
}
