//! A file system in memory: `--memory`, and tests that need no faults.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Disk, DiskFile, Mode};

/// Bytes of a file that grow together: a large file is never copied as a whole, a small one takes no more than it holds.
const PART_LEN: usize = 64 << 10;

/// Files and directories by path.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    tree: Mutex<BTreeMap<PathBuf, Option<Arc<MemoryFile>>>>,
}

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn tree(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<Arc<MemoryFile>>>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        for above in dir.ancestors() {
            tree.entry(above.to_owned()).or_insert(None);
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree();
        let found = match (tree.get(path), mode) {
            (Some(None), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (None, Mode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Some(file)), Mode::Existing | Mode::Create) => Arc::clone(file),
            (None | Some(Some(_)), _) => {
                if !path.parent().is_some_and(|dir| matches!(tree.get(dir), Some(None))) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let file = Arc::new(MemoryFile::default());
                tree.insert(path.to_owned(), Some(Arc::clone(&file)));
                file
            }
        };
        Ok(found)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let tree = self.tree();
        if !matches!(tree.get(dir), Some(None)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = tree.range(dir.to_owned()..).take_while(|(path, _)| path.starts_with(dir));
        let children = inside.filter(|(path, _)| path.parent() == Some(dir));
        Ok(children.filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        if !tree.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside: Vec<_> = tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in inside {
            let Some(entry) = tree.remove(&path) else { continue };
            let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
            let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            tree.insert(new, entry);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.tree().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.tree().retain(|path, _| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _path: &Path, _content: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn boot_id(&self) -> String {
        String::new()
    }
}

/// A file that is a list of parts, each but the last full.
#[derive(Debug, Default)]
struct MemoryFile(RwLock<Vec<Vec<u8>>>);

fn len_of(parts: &[Vec<u8>]) -> usize {
    parts.last().map_or(0, |last| (parts.len() - 1) * PART_LEN + last.len())
}

/// Cuts, or lengthens with zeros.
fn resize(parts: &mut Vec<Vec<u8>>, len: usize) {
    let full = len.div_ceil(PART_LEN);
    parts.truncate(full);
    let grows = parts.len() < full;
    if let Some(last) = parts.last_mut().filter(|_| grows) {
        last.resize(PART_LEN, 0);
    }
    while parts.len() < full {
        parts.push(vec![0; if parts.len() + 1 < full { PART_LEN } else { 0 }]);
    }
    let in_last = len - full.saturating_sub(1) * PART_LEN;
    if let Some(last) = parts.last_mut() {
        last.resize(in_last, 0);
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut at = usize::try_from(position).map_err(io::Error::other)?;
        let mut written = 0;
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                if len_of(&held) < at {
                    resize(&mut held, at);
                }
                let (number, inside) = (at / PART_LEN, at % PART_LEN);
                if number == held.len() {
                    held.push(Vec::new());
                }
                let (now, later) = rest.split_at(rest.len().min(PART_LEN - inside));
                let Some(target) = held.get_mut(number) else { return Err(io::ErrorKind::WriteZero.into()) };
                let over = now.len().min(target.len() - inside);
                target[inside..inside + over].copy_from_slice(&now[..over]);
                target.extend_from_slice(&now[over..]);
                (rest, at, written) = (later, at + now.len(), written + now.len());
            }
        }
        Ok(written)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = usize::try_from(position).map_err(io::Error::other)?;
        let mut read = 0;
        while read < buffer.len() {
            let Some(part) = held.get(at / PART_LEN).and_then(|part| part.get(at % PART_LEN..)) else {
                break;
            };
            let some = part.len().min(buffer.len() - read);
            if some == 0 {
                break;
            }
            buffer[read..read + some].copy_from_slice(&part[..some]);
            (read, at) = (read + some, at + some);
        }
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(len_of(&self.0.read().unwrap_or_else(PoisonError::into_inner)) as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        resize(&mut self.0.write().unwrap_or_else(PoisonError::into_inner), len);
        Ok(())
    }

    fn allocate(&self, _position: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn files_behave_as_one_vector(operations in proptest::collection::vec((0u8..3, 0usize..200_000, 0usize..100_000), 1..12)) {
            let disk = MemoryDisk::new();
            disk.create_dir(Path::new("/d")).unwrap();
            let file = disk.open(Path::new("/d/f"), Mode::Create).unwrap();
            let mut model: Vec<u8> = Vec::new();
            for (number, (kind, at, len)) in operations.into_iter().enumerate() {
                match kind {
                    0 => {
                        let bytes = vec![number as u8 + 1; len];
                        let (one, two) = bytes.split_at(len / 3);
                        file.write_at(&[IoSlice::new(one), IoSlice::new(two)], at as u64).unwrap();
                        if len > 0 {
                            model.resize(model.len().max(at + len), 0);
                            model[at..at + len].copy_from_slice(&bytes);
                        }
                    }
                    1 => { file.set_len(at as u64).unwrap(); model.resize(at, 0); }
                    _ => {
                        let mut buffer = vec![9; len];
                        let read = file.read_at(&mut buffer, at as u64).unwrap();
                        let expected = model.get(at..).unwrap_or_default();
                        let expected = &expected[..expected.len().min(len)];
                        prop_assert_eq!(&buffer[..read], expected);
                    }
                }
                prop_assert_eq!(file.len().unwrap(), model.len() as u64);
            }
        }
    }
}
