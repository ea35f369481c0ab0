//! Servers in the background that listen at addresses of their own and at no `local:`: a file each, locked for as long as
//! the server runs, so that one that was killed leaves nothing that could be believed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Registration;
use crate::cli::endpoint::Pillar;
use crate::cli::settings::Home;

/// The end of the names of the files.
const SUFFIX: &str = ".pid";

/// A server's word about itself, which goes with it.
#[derive(Debug)]
pub struct Unnamed {
    path: PathBuf,
    #[expect(dead_code, reason = "closing it unlocks")]
    file: File,
}

impl Unnamed {
    /// Leaves word of this process.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub fn post(home: &Home, pillar: Pillar, registration: &Registration) -> io::Result<Self> {
        let folder = home.runtime.join(pillar.name());
        Home::create_private(&home.runtime)?;
        Home::create_private(&folder)?;
        let mut file = tempfile::Builder::new().prefix(".bandy-").tempfile_in(&folder)?;
        flock(file.as_file(), FlockOperation::LockExclusive)?;
        file.write_all(&serde_json::to_vec(registration)?)?;
        let path = folder.join(format!("{}{SUFFIX}", registration.pid));
        // What was there is of a process that is no more: its number is ours now.
        let file = file.persist(&path)?;
        Ok(Self { path, file })
    }

    /// The words of those of a pillar that run, by process.
    pub fn all(home: &Home, pillar: Pillar) -> Vec<Registration> {
        let folder = std::fs::read_dir(home.runtime.join(pillar.name()));
        let paths = folder.into_iter().flatten().flatten().map(|entry| entry.path());
        let is_ours = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        let mut found: Vec<_> = paths.filter(is_ours).filter_map(|path| living(&path)).collect();
        found.sort_by_key(|said| said.pid);
        found
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What the server of that file says, if it runs; the file of one that does not is taken away.
fn living(path: &Path) -> Option<Registration> {
    let mut file = File::open(path).ok()?;
    // Somebody else's word is not believed: it would tell `down` what to end.
    if file.metadata().ok()?.uid() != rustix::process::getuid().as_raw() {
        return None;
    }
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        let _ = std::fs::remove_file(path);
        return None;
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    #[test]
    fn one_is_known_for_as_long_as_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::below(folder.path());
        let said = Registration {
            pid: 4242,
            urls: vec!["amqp://127.0.0.1:5600".to_owned()],
            started_ms: 1,
            mode: Mode::Background,
            data: None,
        };
        let here = Unnamed::post(&home, Pillar::Mq, &said).unwrap();
        assert_eq!(Unnamed::all(&home, Pillar::Mq), std::slice::from_ref(&said));
        assert_eq!(Unnamed::all(&home, Pillar::Log), []);
        let path = here.path.clone();
        drop(here);
        assert_eq!((Unnamed::all(&home, Pillar::Mq), path.exists()), (vec![], false));
        // As kill -9 leaves it.
        std::fs::write(&path, serde_json::to_vec(&said).unwrap()).unwrap();
        assert_eq!((Unnamed::all(&home, Pillar::Mq), path.exists()), (vec![], false));
    }
}
