//! A disk that loses power, for tests: only what was synced is sure to stay, the rest stays in part, sector by sector.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, Mode};

const SECTOR: u64 = 512;
type Inode = usize;

/// What goes wrong, counted in operations that change something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// At this operation the machine stops; a write may be done in part.
    pub(crate) stop_at: Option<u64>,
    /// This operation fails in this way, once.
    pub(crate) fail_at: Option<(u64, ErrorKind)>,
    /// The next sync of a file or the whole disk fails, and what it should have written never will be.
    pub(crate) fail_sync: bool,
    /// Bytes of all files together.
    pub(crate) capacity: Option<u64>,
    /// Writes do at most so many bytes at once.
    pub(crate) write_max: Option<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Data { position: u64, bytes: Vec<u8> },
    Len(u64),
}

#[derive(Debug, Clone, Default)]
struct Content {
    current: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Naming {
    Link { dir: Inode, name: String, inode: Inode },
    Unlink { dir: Inode, name: String },
    Rename { from: (Inode, String), to: (Inode, String) },
}

impl Naming {
    fn touches(&self, wanted: Inode) -> bool {
        match self {
            Self::Link { dir, .. } | Self::Unlink { dir, .. } => *dir == wanted,
            Self::Rename { from, to } => from.0 == wanted || to.0 == wanted,
        }
    }

    fn apply(&self, tree: &mut Tree) {
        let mut entries = |dir: &Inode| tree.entry(*dir).or_default().clone();
        match self {
            Self::Link { dir, name, inode } => {
                let mut dir_entries = entries(dir);
                dir_entries.insert(name.clone(), *inode);
                tree.insert(*dir, dir_entries);
            }
            Self::Unlink { dir, name } => {
                tree.entry(*dir).or_default().remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = tree.entry(from.0).or_default().remove(&from.1) {
                    tree.entry(to.0).or_default().insert(to.1.clone(), inode);
                }
            }
        }
    }
}

type Tree = BTreeMap<Inode, BTreeMap<String, Inode>>;

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<Inode, Content>,
    tree: Tree,
    durable: Tree,
    naming: Vec<Naming>,
    next: Inode,
    operations: u64,
    faults: Faults,
    dead: bool,
    life: u64,
    boots: u64,
    now_ms: i64,
}

/// The disk; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl Inner {
    /// Counts an operation; fails it as ordered. `Ok(false)` when it is to be done in part before the stop.
    fn operation(&mut self, sync: bool) -> io::Result<bool> {
        if self.dead {
            return Err(off());
        }
        self.operations += 1;
        if self.faults.stop_at == Some(self.operations) {
            self.dead = true;
            return Ok(false);
        }
        if sync && std::mem::take(&mut self.faults.fail_sync) {
            return Err(io::Error::other("input/output error"));
        }
        match self.faults.fail_at {
            Some((at, kind)) if at == self.operations => Err(kind.into()),
            _ => Ok(true),
        }
    }

    /// As `operation`, for what is done as a whole or not at all.
    fn whole(&mut self, sync: bool) -> io::Result<()> {
        if self.operation(sync)? { Ok(()) } else { Err(off()) }
    }

    fn find(&self, path: &Path) -> Option<Inode> {
        path.components().try_fold(0, |dir, part| match part {
            Component::RootDir => Some(0),
            Component::Normal(name) => self.tree.get(&dir)?.get(name.to_str()?).copied(),
            _ => None,
        })
    }

    fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let dir = self.find(path.parent().ok_or(ErrorKind::NotFound)?).ok_or(ErrorKind::NotFound)?;
        Ok((dir, path.file_name().ok_or(ErrorKind::NotFound)?.to_string_lossy().into_owned()))
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.tree);
        self.naming.push(naming);
    }

    fn make(&mut self, path: &Path) -> io::Result<Inode> {
        let (dir, name) = self.place(path)?;
        self.next += 1;
        let inode = self.next;
        self.name(Naming::Link { dir, name, inode });
        Ok(inode)
    }

    fn used(&self) -> u64 {
        let mut live = BTreeSet::new();
        self.tree.values().for_each(|entries| live.extend(entries.values().copied()));
        self.files
            .iter()
            .filter(|(inode, _)| live.contains(inode))
            .map(|(_, file)| file.current.len() as u64)
            .sum()
    }

    /// How far a file may grow.
    fn check_space(&self, grow: u64) -> io::Result<u64> {
        let left = self.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        if grow > 0 && left == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(left) }
    }

    fn change(&mut self, inode: Inode, change: Change) {
        let file = self.files.entry(inode).or_default();
        apply(&mut file.current, &change, |_| true);
        file.pending.push(change);
    }

    fn sync(&mut self, inode: Inode) {
        let file = self.files.entry(inode).or_default();
        for change in file.pending.drain(..) {
            apply(&mut file.synced, &change, |_| true);
        }
    }
}

/// Applies a change as far as `stays` says of each sector.
fn apply(data: &mut Vec<u8>, change: &Change, mut stays: impl FnMut(u64) -> bool) {
    match change {
        Change::Len(len) => data.resize(*len as usize, 0),
        Change::Data { position, bytes } => {
            let mut at = 0;
            while at < bytes.len() {
                let from = position + at as u64;
                let sector = from / SECTOR;
                let len = ((sector + 1) * SECTOR - from).min((bytes.len() - at) as u64) as usize;
                if stays(sector) {
                    let end = from as usize + len;
                    if data.len() < end {
                        data.resize(end, 0);
                    }
                    data[from as usize..end].copy_from_slice(&bytes[at..at + len]);
                }
                at += len;
            }
        }
    }
}

impl SimDisk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// The machine stops at the so many'th operation from now.
    pub(crate) fn stop_after(&self, count: u64) {
        let mut inner = self.inner();
        inner.faults.stop_at = Some(inner.operations + count);
    }

    /// The next operation fails in this way.
    pub(crate) fn fail_next(&self, kind: ErrorKind) {
        let mut inner = self.inner();
        inner.faults.fail_at = Some((inner.operations + 1, kind));
    }

    /// The process ends, the machine goes on: everything written is still there.
    pub(crate) fn kill(&self) {
        let mut inner = self.inner();
        inner.life += 1;
        inner.dead = false;
        inner.faults = Faults::default();
    }

    /// The machine stops and starts: of what was not synced, `random` decides what stays.
    pub(crate) fn power_cut(&self, random: &mut fastrand::Rng) {
        self.kill();
        let mut inner = self.inner();
        inner.boots += 1;
        // Names in the order of a journal up to some point, or, as POSIX allows, in any selection.
        let named = random.usize(0..=inner.naming.len());
        let ordered = random.bool();
        let naming = std::mem::take(&mut inner.naming);
        let Inner { durable, tree, files, .. } = &mut *inner;
        let stay =
            naming.iter().enumerate().filter(|(n, _)| if ordered { *n < named } else { random.bool() });
        stay.for_each(|(_, change)| change.apply(durable));
        *tree = durable.clone();
        for file in files.values_mut() {
            // A sector on disk holds all of its writes up to some point in time.
            let count = file.pending.len();
            let taste = random.u8(0..4);
            let mut until: BTreeMap<u64, usize> = BTreeMap::new();
            for (number, change) in file.pending.drain(..).enumerate() {
                let mut stays = |sector| {
                    *until.entry(sector).or_insert_with(|| match taste {
                        0 => 0,
                        1 => count,
                        _ => random.usize(0..=count),
                    }) > number
                };
                match change {
                    Change::Len(_) if taste == 0 || taste > 1 && number % 2 == 1 => {}
                    change => apply(&mut file.synced, &change, &mut stays),
                }
            }
            file.current = file.synced.clone();
        }
    }

    /// Flips bits of a byte, on disk and in memory.
    pub(crate) fn flip(&self, path: &Path, position: usize, bits: u8) {
        let mut inner = self.inner();
        let inode = inner.find(path).unwrap();
        let file = inner.files.get_mut(&inode).unwrap();
        file.current[position] ^= bits;
        if let Some(byte) = file.synced.get_mut(position) {
            *byte ^= bits;
        }
    }

    /// Whether it has stopped.
    pub(crate) fn is_dead(&self) -> bool {
        self.inner().dead
    }

    /// All of a file, or nothing when it is not there.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner();
        Some(inner.files.get(&inner.find(path)?)?.current.clone())
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let mut path = std::path::PathBuf::new();
        for part in dir.components() {
            path.push(part);
            if inner.find(&path).is_none() {
                inner.whole(false)?;
                let inode = inner.make(&path)?;
                inner.tree.entry(inode).or_default();
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        if inner.dead {
            return Err(off());
        }
        let inode = match (inner.find(path), mode) {
            (Some(inode), Mode::Existing | Mode::Create) => inode,
            (None, Mode::Existing) => return Err(ErrorKind::NotFound.into()),
            (Some(inode), Mode::Truncate) => {
                inner.whole(false)?;
                inner.change(inode, Change::Len(0));
                inode
            }
            (None, Mode::Create | Mode::Truncate) => {
                inner.whole(false)?;
                let inode = inner.make(path)?;
                inner.files.insert(inode, Content::default());
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life: inner.life }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner();
        if inner.dead {
            return Err(off());
        }
        let dir = inner.find(dir).ok_or(ErrorKind::NotFound)?;
        Ok(inner.tree.get(&dir).map(|entries| entries.keys().cloned().collect()).unwrap_or_default())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.whole(false)?;
        inner.find(from).ok_or(ErrorKind::NotFound)?;
        let (from, to) = (inner.place(from)?, inner.place(to)?);
        inner.name(Naming::Rename { from, to });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.find(path).ok_or(ErrorKind::NotFound)?;
        inner.whole(false)?;
        let (dir, name) = inner.place(path)?;
        inner.name(Naming::Unlink { dir, name });
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.remove_file(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.whole(true)?;
        let dir = inner.find(dir).ok_or(ErrorKind::NotFound)?;
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inner.naming).into_iter().partition(|n| n.touches(dir));
        now.iter().for_each(|change| change.apply(&mut inner.durable));
        inner.naming = later;
        Ok(())
    }

    fn sync_all(&self) -> io::Result<bool> {
        let mut inner = self.inner();
        if let Err(error) = inner.whole(true) {
            inner.files.values_mut().for_each(|file| file.pending.clear());
            return Err(error);
        }
        let inodes: Vec<_> = inner.files.keys().copied().collect();
        inodes.into_iter().for_each(|inode| inner.sync(inode));
        let naming = std::mem::take(&mut inner.naming);
        naming.iter().for_each(|change| change.apply(&mut inner.durable));
        Ok(true)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner().check_space(0)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(self.inner().faults.capacity.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = self.open(path, Mode::Truncate)?;
        file.write_at(&[IoSlice::new(content.as_bytes())], 0)?;
        Ok(Box::new(()))
    }

    fn now_ms(&self) -> i64 {
        let mut inner = self.inner();
        inner.now_ms += 1;
        inner.now_ms
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.inner().boots)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: Inode,
    life: u64,
}

impl SimFile {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.dead || inner.life != self.life { Err(off()) } else { Ok(inner) }
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut inner = self.inner()?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let len = inner.files[&self.inode].current.len() as u64;
        let grow = (position + bytes.len() as u64).saturating_sub(len);
        let left = inner.check_space(grow)?;
        bytes.truncate(bytes.len() - grow.saturating_sub(left) as usize);
        bytes.truncate(inner.faults.write_max.unwrap_or(usize::MAX));
        let whole = inner.operation(false)?;
        if !whole {
            bytes.truncate(bytes.len() / 2);
        }
        let written = bytes.len();
        inner.change(self.inode, Change::Data { position, bytes });
        if whole { Ok(written) } else { Err(off()) }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let inner = self.inner()?;
        let data = inner.files[&self.inode].current.get(position as usize..).unwrap_or_default();
        let len = data.len().min(buffer.len());
        buffer[..len].copy_from_slice(&data[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.files[&self.inode].current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.whole(false)?;
        inner.change(self.inode, Change::Len(len));
        Ok(())
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.whole(false)?;
        let now = inner.files[&self.inode].current.len() as u64;
        let grow = (position + len).saturating_sub(now);
        if inner.check_space(grow)? < grow {
            return Err(ErrorKind::StorageFull.into());
        }
        if grow > 0 {
            inner.change(self.inode, Change::Len(position + len));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        if let Err(error) = inner.whole(true) {
            if let Some(file) = inner.files.get_mut(&self.inode) {
                file.pending.clear();
            }
            return Err(error);
        }
        inner.sync(self.inode);
        Ok(())
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}
