//! `--background`: the same command once more in a session of its own, until it says that it is ready.
//!
//! A fork of a process with threads is not safe, so the parent starts the program anew, with `--detached` added,
//! and reads the URLs from its stdout; an empty line ends them. Up to then the child's errors go to our stderr.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::cli::app::App;
use crate::cli::exit::Exit;

/// Added to the child's words.
pub const DETACHED: &str = "--detached";

/// Starts the child, waits until it serves, prints its URLs. Without success it exits as the child did.
pub fn start(app: &App) -> anyhow::Result<Exit> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .args(with_detached(std::env::args_os().skip(1)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start in the background")?;
    let stdout = child.stdout.take().context("the child has no stdout")?;
    let mut urls: Vec<String> = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot hear from the server in the background")?;
        if line.is_empty() {
            for url in urls {
                app.printer.line(&url)?;
            }
            return Ok(Exit::Done);
        }
        urls.push(line);
    }
    let status = child.wait().context("cannot wait for the server in the background")?;
    // It has said why on our stderr.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    Ok(Exit::Command(code.unwrap_or(1)))
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
