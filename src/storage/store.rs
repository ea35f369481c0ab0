//! A data directory: its logs by UUID, the flusher, the checkpoint, and what is shared by all logs.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use super::cache::Cache;
use super::checkpoint::{self, Checkpoint, Flushed};
use super::disk::memory::MemoryDisk;
use super::disk::{self, Disk, DiskFile, Mode, OsDisk, list_or_none, put_file, read_file, replace_file};
use super::error::{Error, Result};
use super::flush::{self, Flusher};
use super::id::LogId;
use super::index::Index;
use super::lock::{self, NodeInfo, Reserve};
use super::log::{Log, LogConfig, LogInner};
use super::salvage::{self, Salvage, Salvaged};
use super::segment::Paths;

/// Characters of a log's name.
const ID_LEN: usize = 36;

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The store has it in memory; there are no files.
    Memory,
    /// Written to the file: survives the end of the process, not of the machine.
    Os,
    /// On disk, by a sync that all writers of one cycle share.
    #[default]
    Group,
    /// On disk, by a sync of its own.
    Each,
}

/// Who syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flushing {
    /// A thread of the store.
    #[default]
    Thread,
    /// Whoever calls [`Store::flush`]: simulations, where every step has its place.
    Manual,
}

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Up to so many dirty logs are synced one by one, more by one sync of the whole file system.
    pub sync_each_max: usize,
    /// Most files kept open between uses.
    pub open_files_max: usize,
    /// Most memory for indexes of finished segments, in bytes.
    pub index_bytes_max: usize,
    /// Largest step, in bytes, by which space is reserved ahead of writing; 0 reserves none.
    pub allocate_max: u64,
    /// Size of the file that is given up when the disk is full, in bytes; 0 for none. At most the 64th part of the disk.
    pub reserve_bytes: u64,
    /// Who syncs.
    pub flushing: Flushing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Group,
            sync_each_max: 4,
            open_files_max: disk::open_files_max(),
            index_bytes_max: 64 << 20,
            // On ext4, reserved space made synced appends no faster on a quiet disk and slower on a busy one.
            allocate_max: 0,
            reserve_bytes: 64 << 20,
            flushing: Flushing::Thread,
        }
    }
}

/// How the directory was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Whose it is.
    pub node: NodeInfo,
    /// The last process stopped in order.
    pub clean: bool,
    /// The machine has not been started anew since. After an unclean stop on another boot, what was written but not
    /// synced may be gone.
    pub same_boot: bool,
}

/// Numbers since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rounds of the flusher.
    pub flushes: u64,
    /// Bytes appended to logs.
    pub bytes_appended: u64,
    /// Tails that were cut when logs were opened.
    pub torn_tails: u64,
    /// Logs that went offline because of a failed write or sync.
    pub offline_logs: u64,
    /// Appends refused for want of space.
    pub refused_full: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) cycles: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) torn: AtomicU64,
    pub(crate) offline: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// Names a segment's file among all logs.
pub(crate) type FileKey = (LogId, i64, u32);

/// The checkpoint as it should be, and what may be removed once it is written.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) logs: Checkpoint,
    pub(crate) doomed: Vec<(LogId, i64)>,
    pub(crate) changed: bool,
}

/// What all logs of a store use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) paths: Paths,
    pub(crate) options: Options,
    pub(crate) flusher: Flusher,
    pub(crate) known: Mutex<Known>,
    /// Held while the checkpoint is written, so that an older one never replaces a newer.
    checkpoint_file: Mutex<()>,
    pub(crate) counters: Counters,
    files: Cache<FileKey, Arc<dyn DiskFile>>,
    pub(crate) indexes: Cache<FileKey, Arc<Index>>,
    /// Files held open because they are not synced.
    pub(crate) pinned: AtomicUsize,
    /// Bytes that were appended and are not synced.
    pub(crate) unsynced: AtomicU64,
    /// Epochs of logs that are to be written before the next checkpoint.
    epochs_due: Mutex<HashMap<LogId, Vec<u8>>>,
    logs: Mutex<HashMap<LogId, Weak<LogInner>>>,
    full: AtomicBool,
    reserve: Reserve,
    closed: AtomicBool,
    /// The last process was killed on this boot: a sync of its that failed left pages that look clean.
    pub(crate) rewrite_tails: bool,
    /// The last process stopped in order.
    pub(crate) found_clean: bool,
    /// There is a checkpoint, so that a log it does not know has never been flushed. An operator may have removed it.
    pub(crate) found_checkpoint: bool,
}

impl Shared {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file of a segment.
    pub(crate) fn file(&self, key: FileKey, mode: Mode) -> std::io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.files.get(&key) {
            return Ok(file);
        }
        let file = self.disk.open(&self.paths.segment(key.0, key.1), mode)?;
        self.files.insert(key, Arc::clone(&file), 1);
        Ok(file)
    }

    /// Lets go of a segment's file and index.
    pub(crate) fn forget(&self, key: &FileKey) {
        self.files.remove(key);
        self.indexes.remove(key);
    }

    pub(crate) fn in_memory(&self) -> bool {
        self.options.durability == Durability::Memory
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The disk is full: gives up the reserve, so that what is necessary can still be written.
    pub(crate) fn note_full(&self) {
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(path = %self.paths.root.display(), "no space left: appends are refused");
            self.reserve.release(&*self.disk);
            self.flusher.note_checkpoint();
        }
    }

    /// Takes the reserve again if there is space, and appends with it.
    pub(crate) fn look_for_space(&self) {
        if self.is_full() && self.reserve.fill(&*self.disk) {
            self.full.store(false, Ordering::Relaxed);
            tracing::warn!(path = %self.paths.root.display(), "there is space again: appends are taken");
        }
    }

    /// Notes what is on disk of a log.
    pub(crate) fn note(&self, id: LogId, flushed: Flushed) {
        let mut known = self.known();
        if known.logs.insert(id, flushed) != Some(flushed) {
            known.changed = true;
        }
    }

    pub(crate) fn epochs_due(&self) -> MutexGuard<'_, HashMap<LogId, Vec<u8>>> {
        self.epochs_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_epochs(&self) -> Result<()> {
        let due = std::mem::take(&mut *self.epochs_due());
        let mut failed = Ok(());
        for (id, content) in due {
            let path = self.paths.epochs(id);
            match replace_file(&*self.disk, &path, &content) {
                Ok(()) => {}
                // Its log was removed meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    // There may be newer ones by now.
                    self.epochs_due().entry(id).or_insert(content);
                    failed = Err(Error::io("write", &path)(error));
                }
            }
        }
        failed
    }

    /// Writes down what is on disk, then removes the files that nobody needs any more.
    pub(crate) fn write_checkpoint(&self) -> Result<()> {
        let _writing = self.checkpoint_file.lock().unwrap_or_else(PoisonError::into_inner);
        let (content, doomed) = {
            let mut known = self.known();
            let content = (known.changed && !self.in_memory()).then(|| checkpoint::to_file(&known.logs));
            known.changed = false;
            (content, std::mem::take(&mut known.doomed))
        };
        if let Some(content) = content {
            let path = self.paths.flushed();
            // After the content was taken: what it says is on disk has its epochs among these.
            let written = self
                .write_epochs()
                .and_then(|()| replace_file(&*self.disk, &path, &content).map_err(Error::io("write", &path)));
            if let Err(error) = written {
                let mut known = self.known();
                known.changed = true;
                known.doomed.extend(doomed);
                return Err(error);
            }
        }
        for (id, base) in doomed {
            for path in [self.paths.segment(id, base), self.paths.index(id, base)] {
                // A file that stays is removed when the log is opened next.
                let _ = self.disk.remove_file(&path);
            }
        }
        Ok(())
    }
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    held: Option<lock::Held>,
}

impl Store {
    /// Opens a data directory, and makes it if there is none. Logs are opened one by one, by [`Store::log`].
    ///
    /// # Errors
    /// Another process has it, it is of another format, or the system refuses.
    pub fn open(root: &Path, options: Options) -> Result<Self> {
        if options.durability == Durability::Memory {
            return Self::memory(options);
        }
        Self::open_on(Arc::new(OsDisk::new(root)), root, options)
    }

    /// A store without files.
    ///
    /// # Errors
    /// None that is known.
    pub fn memory(options: Options) -> Result<Self> {
        let options = Options { durability: Durability::Memory, flushing: Flushing::Manual, ..options };
        let root = Path::new("/memory");
        Self::open_on(Arc::new(MemoryDisk::new()), root, Options { reserve_bytes: 0, ..options })
    }

    /// Opens a directory on any disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Self> {
        let paths = Paths { root: root.to_owned() };
        let held = lock::take(&*disk, root)?;
        for dir in [paths.logs(), paths.trash()] {
            disk.create_dir(&dir).map_err(Error::io("create", &dir))?;
        }
        let path = paths.flushed();
        let file = read_file(&*disk, &path, checkpoint::FILE_LEN_MAX).map_err(Error::io("read", &path))?;
        if file.is_none() && held.is_new {
            let empty = checkpoint::to_file(&Checkpoint::new());
            put_file(&*disk, &path, &empty).map_err(Error::io("write", &path))?;
        }
        // Once for all that is new: a start waits for every sync.
        disk.sync_dir(root).map_err(Error::io("sync", root))?;
        let found_checkpoint = file.is_some() || held.is_new;
        let logs = file.map_or(Ok(Checkpoint::new()), |bytes| {
            let why = || "it is damaged; without it, every log is checked from its start".to_owned();
            checkpoint::from_file(&bytes).ok_or_else(|| Error::Format { path: path.clone(), why: why() })
        })?;
        let reserve = Reserve::new(&*disk, root, options.reserve_bytes);
        let full = !reserve.fill(&*disk);
        if full {
            tracing::warn!(path = %root.display(), "too little space for the reserve: appends are refused");
        }
        let shared = Arc::new(Shared {
            files: Cache::new(options.open_files_max),
            indexes: Cache::new(options.index_bytes_max),
            disk,
            paths,
            flusher: Flusher::default(),
            known: Mutex::new(Known { logs, ..Known::default() }),
            checkpoint_file: Mutex::new(()),
            counters: Counters::default(),
            pinned: AtomicUsize::new(0),
            unsynced: AtomicU64::new(0),
            epochs_due: Mutex::default(),
            logs: Mutex::new(HashMap::new()),
            full: AtomicBool::new(full),
            reserve,
            closed: AtomicBool::new(false),
            found_clean: held.clean,
            found_checkpoint,
            rewrite_tails: !held.clean && held.same_boot,
            options,
        });
        let mut store = Self { shared, threads: Vec::new(), held: Some(held) };
        if store.shared.options.flushing == Flushing::Thread {
            store.start_thread("flusher", Flusher::run)?;
            store.start_thread("checkpoint", Flusher::run_checkpoints)?;
        }
        Ok(store)
    }

    /// How the directory was found.
    pub fn start(&self) -> Option<Start> {
        let held = self.held.as_ref()?;
        Some(Start { node: held.node.clone(), clean: held.clean, same_boot: held.same_boot })
    }

    /// Opens a log, recovers it if need be, or begins an empty one. Its files are made by the first append.
    /// A log that is open already is given as it is.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when what had been on disk is not all there any more, and what the system refuses.
    pub fn log(&self, id: LogId, config: LogConfig) -> Result<Log> {
        if self.shared.is_closed() {
            return Err(Error::Closed);
        }
        let mut logs = self.logs();
        if let Some(open) = logs.get(&id).and_then(Weak::upgrade) {
            return Ok(Log(open));
        }
        let log = LogInner::open(&self.shared, id, config)?;
        logs.insert(id, Arc::downgrade(&log));
        Ok(Log(log))
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<LogId, Weak<LogInner>>> {
        self.shared.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The logs that have files, in no order.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self) -> Result<Vec<LogId>> {
        let dir = self.shared.paths.logs();
        let names = list_or_none(&*self.shared.disk, &dir).map_err(Error::io("list", &dir))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Moves a log's files to `trash/`, from where [`Store::empty_trash`] removes them.
    ///
    /// # Errors
    /// The system's; the log is offline then.
    pub fn discard(&self, id: LogId) -> Result<()> {
        self.discard_all(&[id])
    }

    /// The same of many logs, at the price of one checkpoint.
    ///
    /// # Errors
    /// The system's; some may be moved then.
    pub fn discard_all(&self, ids: &[LogId]) -> Result<()> {
        let open: Vec<_> = {
            let mut logs = self.logs();
            ids.iter().filter_map(|id| logs.remove(id)?.upgrade()).collect()
        };
        open.iter().for_each(|log| log.retire());
        let set: HashSet<&LogId> = ids.iter().collect();
        {
            let mut known = self.shared.known();
            for id in ids {
                known.logs.remove(id);
            }
            known.changed = true;
            known.doomed.retain(|(doomed, _)| !set.contains(doomed));
        }
        self.shared.epochs_due().retain(|id, _| !set.contains(id));
        // First the checkpoint: one that knows a log without files would call it damaged.
        self.shared.write_checkpoint()?;
        let mut moved = false;
        for id in ids {
            let from = self.shared.paths.log(*id);
            let to = self.shared.paths.trash().join(format!("{id}-{}", self.shared.disk.now_ms()));
            match self.shared.disk.rename(&from, &to) {
                Ok(()) => moved = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("move", &from)(error)),
            }
        }
        if moved {
            for dir in [self.shared.paths.trash(), self.shared.paths.logs()] {
                self.shared.disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
            }
        }
        Ok(())
    }

    /// Removes a log's files, which nobody can want any more. After a crash on the way they are in `trash/`.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, id: LogId) -> Result<()> {
        self.remove_all(&[id])
    }

    /// The same of many logs, at the price of one checkpoint.
    ///
    /// # Errors
    /// The system's; some may be gone then.
    pub fn remove_all(&self, ids: &[LogId]) -> Result<()> {
        self.discard_all(ids)?;
        let trash = self.shared.paths.trash();
        let set: HashSet<&LogId> = ids.iter().collect();
        let names = list_or_none(&*self.shared.disk, &trash).map_err(Error::io("list", &trash))?;
        let is_of_them = |name: &str| match name.split_at_checked(ID_LEN) {
            Some((id, rest)) => rest.starts_with('-') && id.parse().is_ok_and(|id: LogId| set.contains(&id)),
            None => false,
        };
        for name in names.iter().filter(|name| is_of_them(name)) {
            let dir = trash.join(name);
            self.shared.disk.remove_dir(&dir).map_err(Error::io("remove", &dir))?;
        }
        Ok(())
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.shared.paths.root
    }

    /// Bytes that can still be written to the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn free_bytes(&self) -> Result<u64> {
        self.shared.disk.free_bytes().map_err(Error::io("measure", &self.shared.paths.root))
    }

    /// Makes a damaged log readable again, and says what that cost. Everything that is taken out is kept in `trash/`.
    /// For an operator who was told: no other call does this.
    ///
    /// # Errors
    /// The system's. What was done up to then is safe to do again.
    pub fn salvage(&self, id: LogId, config: LogConfig, how: Salvage) -> Result<Salvaged> {
        let mut logs = self.logs();
        if let Some(log) = logs.remove(&id).and_then(|log| log.upgrade()) {
            log.retire();
        }
        let salvaged = salvage::run(&self.shared, id, &config, how)?;
        drop(logs);
        self.shared.write_checkpoint()?;
        Ok(salvaged)
    }

    /// Removes from `trash/` what was put there more than `age_ms` ago. Returns how many things that were.
    ///
    /// # Errors
    /// The system's.
    pub fn empty_trash(&self, age_ms: u64) -> Result<usize> {
        let trash = self.shared.paths.trash();
        let before = self.shared.disk.now_ms().saturating_sub_unsigned(age_ms);
        let names = list_or_none(&*self.shared.disk, &trash).map_err(Error::io("list", &trash))?;
        let mut removed = 0;
        for name in names {
            let time = name.rsplit_once('-').and_then(|(_, time)| time.parse::<i64>().ok());
            if time.is_some_and(|time| time <= before) {
                let dir = trash.join(&name);
                self.shared.disk.remove_dir(&dir).map_err(Error::io("remove", &dir))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Syncs everything now, on this thread, and writes the checkpoint.
    ///
    /// # Errors
    /// The checkpoint's. What fails about a log is told to that log's observer and by its next call.
    pub fn flush(&self) -> Result<()> {
        flush::cycle(&self.shared, self.shared.flusher.take_dirty());
        self.shared.look_for_space();
        self.shared.write_checkpoint()
    }

    /// Appends are refused for want of space.
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// Bytes that were appended and are not on disk. An owner that appends faster than the disk syncs has to stop some
    /// time.
    pub fn unsynced_bytes(&self) -> u64 {
        self.shared.unsynced.load(Ordering::SeqCst)
    }

    /// Numbers since the store was opened.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        Counts {
            flushes: of(&counters.cycles),
            bytes_appended: of(&counters.bytes),
            torn_tails: of(&counters.torn),
            offline_logs: of(&counters.offline),
            refused_full: of(&counters.refused),
        }
    }

    /// Stops in order: syncs everything, writes indexes and checkpoint, and marks the directory as cleanly left.
    ///
    /// # Errors
    /// Something could not be written; the next start then does what it does after a crash.
    pub fn close(mut self) -> Result<()> {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.stop_threads();
        flush::cycle(&self.shared, self.shared.flusher.take_dirty());
        if self.shared.in_memory() {
            return Ok(());
        }
        let open: Vec<_> = self.logs().values().filter_map(Weak::upgrade).collect();
        let mut clean = true;
        for log in &open {
            clean &= log.close();
        }
        self.shared.write_checkpoint()?;
        if clean {
            lock::mark_clean(&*self.shared.disk, &self.shared.paths.root)?;
        }
        Ok(())
    }

    fn start_thread(&mut self, name: &str, run: fn(&Shared)) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        self.threads.push(thread.map_err(Error::io("start a thread for", &self.shared.paths.root))?);
        Ok(())
    }

    fn stop_threads(&mut self) {
        self.shared.flusher.stop();
        for thread in self.threads.drain(..) {
            // Its panic was printed; the logs it had are not acknowledged.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.stop_threads();
        let open: Vec<_> = self.logs().values().filter_map(Weak::upgrade).collect();
        open.iter().for_each(|log| log.wake());
        self.held = None;
    }
}
