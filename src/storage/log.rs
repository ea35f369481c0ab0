//! One log: appending, how far it is safe, and going offline when the disk fails.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use super::checkpoint::Flushed;
use super::disk::{DiskFile, put_file, read_file};
use super::epochs::Epochs;
use super::error::{Error, Result};
use super::flush::{self, Job, Observer, Queued, Synced};
use super::id::LogId;
use super::index::Index;
use super::recovery::{self, Recovery};
use super::segment::Segment;
use super::store::{FileKey, Shared};

mod append;
mod cut;
mod read;

pub use read::{Chunk, Reader, StoredBatch, StoredRecord};

/// Segments larger than this would not fit the index.
const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// Files that are not synced and stay open at the same time.
const PINNED_MAX: usize = 256;

/// Most bytes of what is kept beside a log: far more than anybody keeps.
const BESIDE_BYTES_MAX: usize = 64 << 20;

/// How one log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is finished when the next batch would make it larger, in bytes; at most 2 GiB.
    pub segment_bytes: u64,
    /// The log is compacted: between its batches there may be holes.
    pub compact: bool,
}

impl Default for LogConfig {
    /// For queues; partitions use larger segments.
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, compact: false }
    }
}

/// Whether an append may use the space that is kept for when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Refused when the disk is full.
    Normal,
    /// Leads to space being freed, or is small and must not fail: acknowledgements, offsets.
    Essential,
    /// The same, and nobody waits until it is on disk: it goes there with what somebody waits for, or a little later.
    Patient,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base: i64,
    /// Offset after the last record.
    pub end: i64,
    /// It is as safe as the store's durability says. Otherwise wait for [`Observer::synced`] or [`Log::wait`].
    pub safe: bool,
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// First offset held.
    pub start: i64,
    /// Offset of the next record.
    pub end: i64,
    /// Up to here it is as safe as the store's durability says.
    pub safe_end: i64,
    /// Up to here it is on disk.
    pub flushed_end: i64,
    /// What the owner last set.
    pub high_watermark: i64,
    /// Newest leader epoch.
    pub leader_epoch: Option<i32>,
    /// Bytes of batches.
    pub size: u64,
    /// Segments.
    pub segments: usize,
    /// Newest time of a record, in ms since 1970; -1 when there is none.
    pub max_timestamp: i64,
}

/// A segment that was written to since the last sync.
#[derive(Debug)]
struct Unsynced {
    key: FileKey,
    file: Option<Arc<dyn DiskFile>>,
}

/// Why a log is offline.
#[derive(Debug, Clone)]
struct Poison {
    what: &'static str,
    reason: Arc<str>,
}

#[derive(Debug)]
struct State {
    /// In order; the last one is written to. Empty until the first append.
    segments: Vec<Segment>,
    /// Index of the last segment.
    index: Index,
    epochs: Epochs,
    epochs_changed: bool,
    /// There is a file of epochs; without one there is a single epoch, and the batches tell it.
    epochs_file: bool,
    start: i64,
    end: i64,
    flushed: i64,
    high_watermark: i64,
    /// Bytes of the last segment's file that are reserved.
    allocated: u64,
    unsynced: Vec<Unsynced>,
    /// Bytes in them since the last sync began.
    unsynced_bytes: u64,
    log_dir_new: bool,
    files_new: bool,
    queued: Queued,
    poison: Option<Poison>,
    waiters: Vec<(i64, Thread)>,
    generation: u32,
    /// Compaction has seen everything before this offset.
    compacted: i64,
    /// Counts cuts of the end: a sync that began before one says nothing about what was appended after it.
    truncations: u64,
}

/// What stands behind the handles of one log.
pub(crate) struct LogInner {
    id: LogId,
    shared: Arc<Shared>,
    segment_bytes: AtomicU64,
    compact: AtomicBool,
    recovery: Recovery,
    state: Mutex<State>,
    /// Held by whoever replaces or removes files: compaction, truncation, trimming.
    reshaping: Mutex<()>,
    end: AtomicI64,
    safe: AtomicI64,
    /// Where damage was told of last, or -1.
    corrupt_at: AtomicI64,
    retired: AtomicBool,
    observer: OnceLock<Arc<dyn Observer>>,
}

impl std::fmt::Debug for LogInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("id", &self.id).field("end", &self.end).finish_non_exhaustive()
    }
}

/// A handle of an open log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log(pub(crate) Arc<LogInner>);

impl LogInner {
    /// Opens and recovers a log.
    pub(crate) fn open(shared: &Arc<Shared>, id: LogId, config: LogConfig) -> Result<Arc<Self>> {
        let segment_bytes = config.segment_bytes.clamp(1, SEGMENT_BYTES_MAX);
        let config = LogConfig { segment_bytes, ..config };
        let found = recovery::open(shared, id, &config)?;
        let flushed = Flushed { start: found.start, end: found.end, high_watermark: found.high_watermark };
        if !found.segments.is_empty() {
            shared.note(id, flushed);
            shared.flusher.note_checkpoint();
        }
        let generation = found.segments.iter().map(|segment| segment.generation).max().unwrap_or(0);
        let state = State {
            index: found.index,
            epochs: found.epochs,
            epochs_changed: false,
            epochs_file: found.epochs_file,
            start: found.start,
            end: found.end,
            flushed: found.end,
            high_watermark: found.high_watermark,
            allocated: found.allocated,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            // After a crash it is not known whether their names are on disk.
            log_dir_new: found.segments.is_empty() || !shared.found_clean,
            files_new: !shared.found_clean,
            segments: found.segments,
            queued: Queued::No,
            poison: None,
            waiters: Vec::new(),
            generation,
            compacted: 0,
            truncations: 0,
        };
        Ok(Arc::new(Self {
            id,
            shared: Arc::clone(shared),
            segment_bytes: AtomicU64::new(config.segment_bytes),
            compact: AtomicBool::new(config.compact),
            recovery: found.report,
            end: AtomicI64::new(state.end),
            safe: AtomicI64::new(state.end),
            corrupt_at: AtomicI64::new(-1),
            retired: AtomicBool::new(false),
            observer: OnceLock::new(),
            reshaping: Mutex::new(()),
            state: Mutex::new(state),
        }))
    }

    fn compacts(&self) -> bool {
        self.compact.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poisoned(&self, poison: &Poison) -> Error {
        Error::Poisoned { log: self.id, what: poison.what, reason: Arc::clone(&poison.reason) }
    }

    fn check_state(&self, state: &State) -> Result<()> {
        match &state.poison {
            Some(poison) => Err(self.poisoned(poison)),
            None if self.retired.load(Ordering::Relaxed) || self.shared.is_closed() => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Fails when the log is offline.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.state().poison {
            Some(poison) => Err(self.poisoned(poison)),
            None => Ok(()),
        }
    }

    /// Takes the log offline, loudly and for good. Returns the error to give to the caller.
    fn poison(&self, state: &mut State, what: &'static str, error: &std::io::Error) -> Error {
        if state.poison.is_none() {
            tracing::error!(log = %self.id, %error, "cannot {what}: the log is offline until a new start");
            self.shared.counters.offline.fetch_add(1, Ordering::Relaxed);
            state.poison = Some(Poison { what, reason: error.to_string().into() });
            self.forget_unsynced(state);
            state.waiters.drain(..).for_each(|(_, waiter)| waiter.unpark());
        }
        let poison = Poison { what, reason: error.to_string().into() };
        self.poisoned(state.poison.as_ref().unwrap_or(&poison))
    }

    /// Nothing of it will be synced any more, or it need not be.
    fn forget_unsynced(&self, state: &mut State) {
        self.unpin(std::mem::take(&mut state.unsynced));
        self.shared.unsynced.fetch_sub(std::mem::take(&mut state.unsynced_bytes), Ordering::SeqCst);
    }

    fn unpin(&self, unsynced: Vec<Unsynced>) {
        let held = unsynced.iter().filter(|one| one.file.is_some()).count();
        self.shared.pinned.fetch_sub(held, Ordering::Relaxed);
    }

    /// What has to be synced so that everything up to now is safe; `None` when there is nothing or the log is offline.
    pub(crate) fn begin_flush(&self) -> Option<Job> {
        let mut state = self.state();
        state.queued = Queued::No;
        if state.poison.is_some() || self.retired.load(Ordering::Relaxed) {
            return None;
        }
        let unsynced = std::mem::take(&mut state.unsynced);
        if unsynced.is_empty() {
            return None;
        }
        let paths = &self.shared.paths;
        let mut job = Job {
            end: state.end,
            bytes: std::mem::take(&mut state.unsynced_bytes),
            truncations: state.truncations,
            files: Vec::new(),
            closed: Vec::new(),
            dirs: Vec::new(),
        };
        for one in &unsynced {
            match &one.file {
                Some(file) => job.files.push(Arc::clone(file)),
                None => job.closed.push(paths.segment(self.id, one.key.1)),
            }
        }
        self.unpin(unsynced);
        if std::mem::take(&mut state.files_new) {
            job.dirs.push(paths.log(self.id));
        }
        if std::mem::take(&mut state.log_dir_new) {
            job.dirs.push(paths.logs());
        }
        Some(job)
    }

    /// Notes how a sync ended, and tells.
    pub(crate) fn finish_flush(&self, job: &Job, done: std::io::Result<()>) {
        self.shared.unsynced.fetch_sub(job.bytes, Ordering::SeqCst);
        let outcome = {
            let mut state = self.state();
            if self.retired.load(Ordering::Relaxed) {
                return;
            }
            match done {
                Err(error) => Err(self.poison(&mut state, "sync", &error)),
                Ok(()) if state.poison.is_some() || state.truncations != job.truncations => return,
                Ok(()) => {
                    let end = job.end;
                    state.flushed = state.flushed.max(end);
                    self.note_epochs(&mut state);
                    self.shared.note(self.id, flushed(&state));
                    self.raise_safe(&mut state, end);
                    Ok(Synced { log: self.id, end })
                }
            }
        };
        match (self.observer.get(), outcome) {
            (Some(observer), Ok(synced)) => observer.synced(synced),
            (Some(observer), Err(error)) => observer.failed(self.id, &error),
            (None, _) => {}
        }
    }

    fn raise_safe(&self, state: &mut State, end: i64) {
        self.safe.fetch_max(end, Ordering::Release);
        state.waiters.retain(|(wanted, waiter)| {
            let waits = *wanted > end;
            if !waits {
                waiter.unpark();
            }
            waits
        });
    }

    /// Has the epochs written down, if there is more to tell than the batches tell at once. Before the checkpoint says
    /// that what they describe is on disk: up to there recovery believes the file, and behind it the batches.
    fn note_epochs(&self, state: &mut State) {
        let needed = state.epochs_file || state.epochs.list().len() > 1;
        if std::mem::take(&mut state.epochs_changed) && needed && !self.shared.in_memory() {
            state.epochs_file = true;
            self.shared.epochs_due().insert(self.id, state.epochs.to_file());
        }
    }

    fn epochs_path(&self) -> std::path::PathBuf {
        self.shared.paths.epochs(self.id)
    }

    fn key(&self, segment: Option<&Segment>) -> FileKey {
        segment.map_or((self.id, 0, 0), |segment| (self.id, segment.base, segment.generation))
    }

    /// Wakes whoever waits: the store is closed.
    pub(crate) fn wake(&self) {
        self.state().waiters.drain(..).for_each(|(_, waiter)| waiter.unpark());
    }

    /// Takes the log out of use; its files may go.
    pub(crate) fn retire(&self) {
        let _reshaping = self.reshaping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        self.retired.store(true, Ordering::Relaxed);
        self.forget_unsynced(&mut state);
        state.waiters.drain(..).for_each(|(_, waiter)| waiter.unpark());
        for segment in &state.segments {
            self.shared.forget(&self.key(Some(segment)));
        }
    }

    /// Writes down what makes the next opening quick; `false` when the log is offline.
    pub(crate) fn close(&self) -> bool {
        /// Smaller segments are scanned sooner than their index is read.
        const INDEX_FROM: u64 = 256 << 10;
        let mut state = self.state();
        state.waiters.drain(..).for_each(|(_, waiter)| waiter.unpark());
        if let Some(last) = state.segments.last().filter(|last| last.size >= INDEX_FROM)
            && state.poison.is_none()
        {
            self.keep_index(&state.index, last);
        }
        state.poison.is_none() && state.flushed == state.end
    }
}

/// What the checkpoint may say. It never starts after what is on disk.
fn flushed(state: &State) -> Flushed {
    Flushed {
        start: state.start.min(state.flushed),
        end: state.flushed,
        high_watermark: state.high_watermark,
    }
}

impl Log {
    /// Its name.
    pub fn id(&self) -> LogId {
        self.0.id
    }

    /// What opening it found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    /// Keeps it otherwise from now on. What was compacted once has holes: say so for as long as it lives.
    pub fn configure(&self, config: LogConfig) {
        let segment_bytes = config.segment_bytes.clamp(1, SEGMENT_BYTES_MAX);
        self.0.segment_bytes.store(segment_bytes, Ordering::Relaxed);
        self.0.compact.store(config.compact, Ordering::Relaxed);
    }

    /// Offset of the next record. Takes no lock.
    pub fn end(&self) -> i64 {
        self.0.end.load(Ordering::Acquire)
    }

    /// Up to here the log is as safe as the store's durability says. Takes no lock.
    pub fn safe_end(&self) -> i64 {
        self.0.safe.load(Ordering::Acquire)
    }

    /// First offset held.
    pub fn start(&self) -> i64 {
        self.0.state().start
    }

    /// Where the log begins and ends.
    pub fn state(&self) -> LogState {
        let state = self.0.state();
        LogState {
            start: state.start,
            end: state.end,
            safe_end: self.safe_end(),
            flushed_end: state.flushed,
            high_watermark: state.high_watermark,
            leader_epoch: state.epochs.newest(),
            size: state.segments.iter().map(|segment| segment.size).sum(),
            segments: state.segments.len(),
            max_timestamp: state.segments.iter().map(|segment| segment.max_timestamp).max().unwrap_or(-1),
        }
    }

    /// About how many bytes of batches there are from an offset on.
    pub fn bytes_from(&self, offset: i64) -> u64 {
        let of_segment = |segment: &Segment| {
            let records = segment.end.abs_diff(segment.base).max(1);
            let before = offset.clamp(segment.base, segment.end).abs_diff(segment.base);
            let share = u128::from(segment.size) * u128::from(before) / u128::from(records);
            segment.size - u64::try_from(share).unwrap_or(segment.size)
        };
        self.0.state().segments.iter().map(of_segment).sum()
    }

    /// Says who is told when the log becomes safe or fails. Once; `false` when somebody is told already.
    pub fn observe(&self, observer: Arc<dyn Observer>) -> bool {
        self.0.observer.set(observer).is_ok()
    }

    /// Keeps a number for the owner, written down with the checkpoint.
    pub fn set_high_watermark(&self, offset: i64) {
        let mut state = self.0.state();
        if state.high_watermark != offset && self.0.check_state(&state).is_ok() {
            state.high_watermark = offset;
            self.0.shared.note(self.0.id, flushed(&state));
            drop(state);
            self.0.shared.flusher.note_checkpoint();
        }
    }

    /// Waits until everything before `end` is safe.
    ///
    /// # Errors
    /// The log went offline or was closed before.
    pub fn wait(&self, end: i64) -> Result<()> {
        while self.safe_end() < end {
            let mut state = self.0.state();
            self.0.check_state(&state)?;
            if self.safe_end() >= end {
                break;
            }
            state.waiters.push((end, std::thread::current()));
            drop(state);
            std::thread::park();
        }
        Ok(())
    }

    /// Tells whether it can still be written: what was not safe when it went offline never will be.
    ///
    /// # Errors
    /// [`Error::Poisoned`] since when it cannot; [`Error::Closed`].
    pub fn check(&self) -> Result<()> {
        self.0.check_state(&self.0.state())
    }

    /// Syncs this log now, on this thread.
    ///
    /// # Errors
    /// The log is offline, perhaps since now.
    pub fn sync(&self) -> Result<()> {
        flush::flush_one(&self.0.shared, &self.0)?;
        self.0.check()
    }

    /// Finishes the segment that is written to, so that retention and compaction can have it. Nothing for an empty one.
    ///
    /// # Errors
    /// The log is offline, perhaps since now.
    pub fn roll(&self) -> Result<()> {
        let mut state = self.0.state();
        self.0.check_state(&state)?;
        if state.segments.last().is_none_or(|last| last.size == 0) {
            return Ok(());
        }
        self.0.roll(&mut state).map_err(|error| self.0.write_failed(&mut state, None, &error))
    }

    /// Leader epochs and the offsets at which they began, oldest first.
    pub fn epochs(&self) -> Vec<(i32, i64)> {
        self.0.state().epochs.list().to_vec()
    }

    /// The largest epoch at or under `epoch` and where it ends; `None` when `epoch` is newer than the log.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let state = self.0.state();
        state.epochs.end_of(epoch, state.end).map(|(known, end)| (known, end.max(state.start)))
    }

    /// Keeps something beside the log that can be found out from it again, only more slowly. After a power cut it may be an
    /// older one, or none: it has to say itself up to where it is true.
    ///
    /// # Errors
    /// It is more than would be read back, or the system's; the log is unharmed.
    pub fn keep_beside(&self, content: &[u8]) -> Result<()> {
        let shared = &self.0.shared;
        if shared.in_memory() {
            return Ok(());
        }
        let path = shared.paths.beside(self.0.id);
        if content.len() + size_of::<u32>() > BESIDE_BYTES_MAX {
            return Err(Error::io("write", &path)(io::ErrorKind::FileTooLarge.into()));
        }
        let mut bytes = content.to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
        put_file(&*shared.disk, &path, &bytes).map_err(Error::io("write", &path))
    }

    /// What was kept beside it; none if there is nothing, or it is damaged.
    pub fn kept_beside(&self) -> Option<Vec<u8>> {
        let shared = &self.0.shared;
        let path = shared.paths.beside(self.0.id);
        let mut bytes = read_file(&*shared.disk, &path, BESIDE_BYTES_MAX as u64).ok()??;
        let at = bytes.len().checked_sub(4)?;
        let crc = bytes.split_off(at);
        (crc32c::crc32c(&bytes).to_be_bytes()[..] == crc[..]).then_some(bytes)
    }

    /// Where its files are.
    pub fn path(&self) -> impl AsRef<Path> + use<> {
        self.0.shared.paths.log(self.0.id)
    }
}
