//! Whose turn it is to start or to end the server of a name: clients that find none, and a server that nobody needs.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::Home;

/// `sun_path` of sockaddr_un has 108 bytes, a NUL at its end: unix(7).
const SOCKET_PATH_MAX: usize = 107;

/// Refuses what no socket can be named.
///
/// # Errors
/// The path is too long.
pub fn fits(socket: &Path) -> Result<(), Failure> {
    if socket.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let text = format!("{} is too long for a socket: over {SOCKET_PATH_MAX} bytes", socket.display());
    Err(Failure::new(Exit::Failed, text).tip("export BANDY_HOME=/tmp/bandy    or another short directory"))
}

/// Held while one starts a server or ends it; ends with the process at the latest.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Turn {
    /// Waits for it.
    ///
    /// # Errors
    /// The directory of the socket cannot be made, or is somebody else's; no socket can have that path.
    pub fn take(socket: &Path) -> Result<Self, Failure> {
        let folder = socket.parent().unwrap_or(socket).display();
        fits(socket)?;
        let take = || {
            let file = open(socket)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(Self(file))
        };
        take().map_err(|error: io::Error| {
            Failure::new(Exit::Failed, format!("cannot keep a socket in {folder}: {error}"))
                .tip("export BANDY_HOME=DIR    with a directory of your own")
        })
    }

    /// Keeps it for as long as the process lives.
    pub fn until_exit(self) {
        std::mem::forget(self);
    }

    /// Takes it if nobody has it.
    pub fn try_take(socket: &Path) -> Option<Self> {
        let file = open(socket).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self(file))
    }
}

fn open(socket: &Path) -> io::Result<File> {
    if let Some(folder) = socket.parent() {
        Home::create_private(folder)?;
    }
    File::options().create(true).append(true).open(socket.with_extension("lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("mq/default.sock");
        let held = Turn::take(&socket).unwrap();
        assert!(Turn::try_take(&socket).is_none());
        drop(held);
        assert!(Turn::try_take(&socket).is_some());
    }
}
