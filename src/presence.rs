//! What a process says about itself in a file, for as long as it runs.
//!
//! It holds a lock on the file, so a file without one belongs to a process that is gone, however it went and whoever has its
//! number now. Whoever reads it removes it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

/// Most bytes that are read of a file: more than ten thousand methods with long names.
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file that says something. Dropping it takes the file away.
#[derive(Debug)]
pub struct Presence {
    path: PathBuf,
    /// Open for its lock.
    file: File,
}

impl Presence {
    /// Says `text` in a file of that path, whose directory is there.
    ///
    /// # Errors
    /// The file system's.
    pub fn post(path: &Path, text: &[u8]) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: write(path, text)? })
    }

    /// Says something else from now on.
    ///
    /// # Errors
    /// The file system's; what was said then stays.
    pub fn update(&mut self, text: &[u8]) -> io::Result<()> {
        self.file = write(&self.path, text)?;
        Ok(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Unlinked while it is still locked, so no reader takes it for a dead one. If it cannot be removed the next reader does.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes beside the final name, locks, then renames: readers see a whole text of a live process.
fn write(path: &Path, text: &[u8]) -> io::Result<File> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    flock(&file, FlockOperation::LockExclusive)?;
    file.write_all(text)?;
    std::fs::rename(&draft, path)?;
    Ok(file)
}

/// What a process that runs says.
#[derive(Debug)]
pub struct Word {
    /// The file's name without its extension.
    pub name: String,
    /// When it was said.
    pub since: SystemTime,
    /// The text.
    pub text: Vec<u8>,
}

/// Makes a directory for this user alone, unless it is there.
///
/// # Errors
/// The file system's.
pub fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A directory that others can write could say things of theirs as ours.
///
/// # Errors
/// It is none, or not this user's alone.
pub fn check(directory: &Path) -> io::Result<()> {
    let about = std::fs::symlink_metadata(directory)?;
    let ours = about.uid() == rustix::process::geteuid().as_raw();
    if about.is_dir() && ours && about.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = "it must be a directory of yours that nobody else can write";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// What is said in the files of that extension in a directory, the oldest first. No directory is nobody.
///
/// # Errors
/// The directory cannot be read, or is not this user's alone.
pub fn all(directory: &Path, extension: &str) -> io::Result<Vec<Word>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    check(directory)?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let ours = paths.filter(|path| path.extension().is_some_and(|it| it == extension));
    let mut words: Vec<_> = ours.filter_map(|path| read(&path)).collect();
    words.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
    Ok(words)
}

/// What is said in that file; `None` if it cannot be read, or the process is gone, and then so is the file.
fn read(path: &Path) -> Option<Word> {
    let file = File::open(path).ok()?;
    // A shared lock is only to be had if the owner is gone, and readers do not keep each other out.
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        let _ = std::fs::remove_file(path);
        return None;
    }
    let since = file.metadata().and_then(|about| about.modified()).ok()?;
    let mut text = Vec::new();
    file.take(TEXT_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(Word { name: path.file_stem()?.to_str()?.to_owned(), since, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(directory: &Path) -> Vec<(String, Vec<u8>)> {
        all(directory, "word").unwrap().into_iter().map(|word| (word.name, word.text)).collect()
    }

    #[test]
    fn a_process_is_heard_for_as_long_as_it_runs() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("words");
        assert_eq!(said(&directory), []);
        create(&directory).unwrap();
        let path = directory.join("7.word");
        let mut here = Presence::post(&path, b"a").unwrap();
        std::fs::write(directory.join("other"), "b").unwrap();
        assert_eq!(said(&directory), [("7".to_owned(), b"a".to_vec())]);
        here.update(b"c").unwrap();
        assert_eq!(said(&directory), [("7".to_owned(), b"c".to_vec())]);
        drop(here);
        assert_eq!((said(&directory), path.exists()), (vec![], false));
        // As kill -9 leaves it.
        std::fs::write(&path, "a").unwrap();
        assert_eq!((said(&directory), path.exists()), (vec![], false));
    }

    #[test]
    fn where_others_can_write_nothing_is_believed() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let _here = Presence::post(&home.path().join("7.word"), b"a").unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(all(home.path(), "word").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
