//! Group commit without linger: one flusher a data directory syncs whatever is dirty, again and again, and tells who waits.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{DiskFile, Mode};
use super::error::{Error, Result};
use super::id::LogId;
use super::log::LogInner;
use super::store::{Durability, Flushing, Shared};

/// Pause between two checkpoints while there is something new.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long what was written may stay in memory under `os`; about the kernel's own time.
const OS_SYNC_INTERVAL: Duration = Duration::from_secs(30);
/// How long what nobody waits for may wait for something that is, under `group`.
const PATIENT_INTERVAL: Duration = Duration::from_millis(200);
/// A sync of the whole file system that takes longer is worth a word: it waits for other programs too.
const SLOW_SYNC: Duration = Duration::from_millis(100);

/// Is told by the flusher's thread, with no lock held, how far a log is on disk. Must not block.
pub trait Observer: Send + Sync {
    /// Everything of the log before `end` is as safe as the store's durability says.
    fn synced(&self, synced: Synced);
    /// The log is offline for as long as this process runs; nothing that was not yet synced may be acknowledged.
    fn failed(&self, log: LogId, error: &Error);
}

/// How far a log is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// The log.
    pub log: LogId,
    /// The first offset that is not yet synced.
    pub end: i64,
}

/// Logs with something to sync, and whether there is something new to write down.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    queue: Mutex<Queue>,
    wake: Condvar,
    notes: Mutex<Notes>,
    noted: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    dirty: Vec<Arc<LogInner>>,
    since: Option<Instant>,
    hurry: bool,
    stop: bool,
}

#[derive(Debug, Default)]
struct Notes {
    checkpoint: bool,
    stop: bool,
}

/// Whether a log is in line to be synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queued {
    No,
    Later,
    Now,
}

/// What one log has to sync.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) end: i64,
    /// What was appended since the one before.
    pub(crate) bytes: u64,
    pub(crate) truncations: u64,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    /// Files that were closed meanwhile, to be opened again.
    pub(crate) closed: Vec<PathBuf>,
    pub(crate) dirs: Vec<PathBuf>,
}

impl Job {
    fn run(&self, shared: &Shared) -> io::Result<()> {
        // Trimmed or discarded meanwhile.
        let unless_gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        for file in &self.files {
            file.sync()?;
        }
        for path in &self.closed {
            unless_gone(shared.disk.open(path, Mode::Existing).and_then(|file| file.sync()))?;
        }
        self.dirs.iter().try_for_each(|dir| unless_gone(shared.disk.sync_dir(dir)))
    }
}

impl Flusher {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a log in line; its owner sees to it that it is there once.
    pub(crate) fn push(&self, log: Arc<LogInner>, when: Queued) {
        let mut queue = self.queue();
        let first = queue.dirty.is_empty();
        queue.dirty.push(log);
        if first {
            queue.since = Some(Instant::now());
        }
        let hurries = when == Queued::Now && !std::mem::replace(&mut queue.hurry, true);
        if first || hurries {
            self.wake.notify_one();
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the checkpoint written within its interval.
    pub(crate) fn note_checkpoint(&self) {
        let mut notes = self.notes();
        if !std::mem::replace(&mut notes.checkpoint, true) {
            self.noted.notify_one();
        }
    }

    /// Syncs now what could wait.
    pub(crate) fn hurry(&self) {
        self.queue().hurry = true;
        self.wake.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.queue().stop = true;
        self.notes().stop = true;
        self.wake.notify_one();
        self.noted.notify_one();
    }

    pub(crate) fn take_dirty(&self) -> Vec<Arc<LogInner>> {
        let mut queue = self.queue();
        queue.since = None;
        queue.hurry = false;
        std::mem::take(&mut queue.dirty)
    }

    /// The flusher's thread: until told to stop, syncs whatever there is, and what came together meanwhile, and so on.
    pub(crate) fn run(shared: &Shared) {
        let flusher = &shared.flusher;
        let patience = match shared.options.durability {
            Durability::Os => OS_SYNC_INTERVAL,
            Durability::Group => PATIENT_INTERVAL,
            Durability::Memory | Durability::Each => Duration::ZERO,
        };
        let mut queue = flusher.queue();
        while !queue.stop {
            let waited = queue.since.map(|since| since.elapsed());
            queue = match waited {
                None => flusher.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(waited) if waited < patience && !queue.hurry => {
                    let rest = patience.saturating_sub(waited);
                    flusher.wake.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    drop(queue);
                    cycle(shared, flusher.take_dirty());
                    flusher.queue()
                }
            };
        }
    }

    /// The thread that writes the checkpoint: apart from the other, whose syncs are waited for.
    pub(crate) fn run_checkpoints(shared: &Shared) {
        let flusher = &shared.flusher;
        let mut notes = flusher.notes();
        while !notes.stop {
            if !notes.checkpoint && !shared.is_full() {
                notes = flusher.noted.wait(notes).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let due = std::mem::take(&mut notes.checkpoint);
            drop(notes);
            shared.look_for_space();
            if let Err(error) = if due { shared.write_checkpoint() } else { Ok(()) } {
                // The old one stays, which says less than is true: safe, and a longer scan after a crash.
                tracing::error!(%error, "the checkpoint was not written; trying again");
                flusher.note_checkpoint();
            }
            let written = Instant::now();
            notes = flusher.notes();
            while let Some(rest) = CHECKPOINT_INTERVAL.checked_sub(written.elapsed()).filter(|_| !notes.stop)
            {
                notes = flusher.noted.wait_timeout(notes, rest).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// Syncs these logs in one round and tells their observers.
pub(crate) fn cycle(shared: &Shared, dirty: Vec<Arc<LogInner>>) {
    if dirty.is_empty() {
        return;
    }
    let jobs: Vec<(Arc<LogInner>, Job)> = dirty
        .into_iter()
        .filter_map(|log| {
            let job = log.begin_flush()?;
            Some((log, job))
        })
        .collect();
    shared.counters.cycles.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let all = jobs.len() > shared.options.sync_each_max;
    let whole = all.then(|| {
        let start = Instant::now();
        let done = shared.disk.sync_all();
        let took = start.elapsed();
        if took > SLOW_SYNC {
            tracing::debug!(
                logs = jobs.len(),
                ms = took.as_millis() as u64,
                "slow sync of the whole file system"
            );
        }
        done
    });
    match whole {
        Some(Err(error)) => jobs.iter().for_each(|(log, job)| log.finish_flush(job, Err(copy(&error)))),
        Some(Ok(true)) => jobs.iter().for_each(|(log, job)| log.finish_flush(job, Ok(()))),
        Some(Ok(false)) | None => sync_each(shared, &jobs),
    }
    shared.flusher.note_checkpoint();
}

/// Syncs log by log, up to as many at the same time as are synced without the whole file system.
fn sync_each(shared: &Shared, jobs: &[(Arc<LogInner>, Job)]) {
    // A simulation has one order of events.
    let manual = shared.options.flushing == Flushing::Manual;
    let at_once = if manual { 1 } else { shared.options.sync_each_max.clamp(1, 8) };
    for group in jobs.chunks(at_once) {
        let Some(((log, job), others)) = group.split_first() else { continue };
        std::thread::scope(|scope| {
            for (log, job) in others {
                scope.spawn(|| log.finish_flush(job, job.run(shared)));
            }
            log.finish_flush(job, job.run(shared));
        });
    }
}

/// Syncs one log on the caller's thread.
pub(crate) fn flush_one(shared: &Shared, log: &Arc<LogInner>) -> Result<()> {
    if let Some(job) = log.begin_flush() {
        log.finish_flush(&job, job.run(shared));
        shared.flusher.note_checkpoint();
    }
    log.check()
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
