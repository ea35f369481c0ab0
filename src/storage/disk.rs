//! The seam to the disk: what storage needs of a file system, the real one, and (in `disk/`) one in memory.

use std::any::Any;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

pub mod memory;
#[cfg(test)]
pub mod sim;

/// Files that a store keeps open between uses: a quarter of what the process may have, for others need some too. With one
/// file fewer than there are logs in use, each append would open its own.
pub(crate) fn open_files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files_of(limit.unwrap_or(u64::MAX))
}

fn files_of(limit: u64) -> usize {
    (limit / 4).clamp(512, 65_536) as usize
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It must be there.
    Existing,
    /// It is made when it is not there.
    Create,
    /// It is made anew, empty.
    Truncate,
}

/// A directory tree with the promises of POSIX: what was not synced may be gone, in part, after a power cut.
///
/// Every error counts as final for what it was about: storage never tries again as if nothing had happened.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The system's; `NotFound` for a file that is not there.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>>;
    /// Names of the entries of a directory, in no order.
    ///
    /// # Errors
    /// The system's; `NotFound` for a directory that is not there.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames a file or directory; replaces a file of the new name in one step.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; open handles can go on reading.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes entries of a directory that were created, renamed or removed permanent.
    ///
    /// # Errors
    /// The system's. It is then not known what is permanent.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything of the whole file system permanent; `false` when this system cannot say whether that worked.
    ///
    /// # Errors
    /// Something could not be written, perhaps of another program. It is then not known what is permanent.
    fn sync_all(&self) -> io::Result<bool>;
    /// Bytes that can still be written.
    ///
    /// # Errors
    /// The system's.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Bytes that it has in all, free or not.
    ///
    /// # Errors
    /// The system's.
    fn total_bytes(&self) -> io::Result<u64>;
    /// Takes a file for this process until the value is dropped, and writes `content` into it.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it, and the system's.
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn Any + Send + Sync>>;
    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
    /// Differs after every start of the machine; empty when unknown.
    fn boot_id(&self) -> String;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Writes at a place; may write less than all.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Reads at a place; 0 is the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;
    /// Nothing in it.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space, which reads as zeros. Does nothing where the file system cannot.
    ///
    /// # Errors
    /// No space.
    fn allocate(&self, position: u64, len: u64) -> io::Result<()>;
    /// Makes what was written permanent.
    ///
    /// # Errors
    /// The system's. It is then not known what is permanent, and another call does not tell.
    fn sync(&self) -> io::Result<()>;
    /// The file itself, for `sendfile`; none in memory.
    fn file(&self) -> Option<&Arc<File>>;
}

/// Writes all parts, in as many calls as it takes.
pub(crate) fn write_all(file: &dyn DiskFile, parts: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
    /// `IOV_MAX` of every system we know.
    const PARTS_MAX: usize = 1024;
    let mut rest = parts;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let some = rest.len().min(PARTS_MAX);
        match file.write_at(&rest[..some], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the buffer as far as the file goes; the bytes read.
pub(crate) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A whole small file, or `None` when it is not there. Over `size_max` bytes is an error.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, size_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Mode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > size_max {
        return Err(io::Error::other(format!("{len} bytes are over the limit of {size_max}")));
    }
    let mut bytes = vec![0; len as usize];
    let read = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Replaces a small file so that after a power cut it is the old or the new one, whole.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    put_file(disk, path, content)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// The same, but for a sync of the directory: without it a power cut may bring the old one back.
pub(crate) fn put_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    put_parts(disk, path, &mut [IoSlice::new(content)])
}

/// The same of what stands in several places.
pub(crate) fn put_parts(disk: &dyn Disk, path: &Path, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    let new = path.with_extension("tmp");
    let file = disk.open(&new, Mode::Truncate)?;
    write_all(&*file, parts, 0)?;
    file.sync()?;
    disk.rename(&new, path)
}

/// Names in a directory, none when it is not there.
pub(crate) fn list_or_none(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// The machine's file system under one directory.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
    /// Opened once: a file system tells each handle of an error only if it was open when that happened.
    handle: OnceLock<File>,
}

impl OsDisk {
    /// For files at or below `root`, which need not exist yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), handle: OnceLock::new() }
    }

    fn handle(&self) -> io::Result<&File> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let handle = File::open(&self.root)?;
        Ok(self.handle.get_or_init(|| handle))
    }
}

impl Disk for OsDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // What is in it is nobody else's business.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let create = mode != Mode::Existing;
        let truncate = mode == Mode::Truncate;
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(truncate).open(path)?;
        Ok(Arc::new(OsFile(Arc::new(file))))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn sync_all(&self) -> io::Result<bool> {
        if !syncfs_tells_errors() {
            return Ok(false);
        }
        rustix::fs::syncfs(self.handle()?)?;
        Ok(true)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_all(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(self.handle()?)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(self.handle()?)?;
        Ok(found.f_blocks.saturating_mul(found.f_frsize))
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0)?;
        file.write_all_at(content.as_bytes(), 0)?;
        Ok(Box::new(file))
    }

    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn boot_id(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    }
}

/// Before Linux 5.8, `syncfs` says nothing of failed writes: syncfs(2).
#[cfg(target_os = "linux")]
fn syncfs_tells_errors() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
    })
}

#[derive(Debug)]
struct OsFile(Arc<File>);

impl DiskFile for OsFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        match parts {
            [one] => self.0.write_at(one, position),
            many => Ok(rustix::io::pwritev(&self.0, many, position)?),
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), position, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn allocate(&self, _position: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_made_for_this_user_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        OsDisk::new(&dir).create_dir(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn more_files_stay_open_where_more_may_be() {
        assert_eq!([1024, 4096, u64::MAX].map(files_of), [512, 1024, 65_536]);
    }
}
