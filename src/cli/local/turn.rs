//! Whose turn it is to start or to end the server of a name: clients that find none, and a server that nobody needs.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::cli::settings::Home;

/// Held while one starts a server or ends it; ends with the process at the latest.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Turn {
    /// Waits for it.
    ///
    /// # Errors
    /// The directory of the socket cannot be made, or is somebody else's.
    pub fn take(socket: &Path) -> io::Result<Self> {
        let file = open(socket)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
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
