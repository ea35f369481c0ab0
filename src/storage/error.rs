//! What can go wrong with a log, and the state it is left in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::BatchError;
use super::id::LogId;

/// Why storage did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The system refused; whether the log can still be used is what the next call says.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// A write or sync of this log failed before. It stays offline until the process is started anew.
    #[error("log {log} is offline since a failure to {what}: {reason}")]
    Poisoned {
        /// The log.
        log: LogId,
        /// The verb.
        what: &'static str,
        /// The system's answer at that time.
        reason: Arc<str>,
    },
    /// No space left. Nothing of this append was kept; the log is unharmed and readable.
    #[error("no space left in {}: appends are refused until there is", path.display())]
    Full {
        /// The data directory.
        path: PathBuf,
    },
    /// Data that had been on disk is not what was written. Nothing was cut; `Store::salvage` keeps what is good.
    #[error("log {log} is corrupt at offset {offset} ({path}, byte {position}): {why}", path = path.display())]
    Corrupt {
        /// The log.
        log: LogId,
        /// The first offset that is not readable.
        offset: i64,
        /// The segment.
        path: PathBuf,
        /// Where in the segment, in bytes.
        position: u64,
        /// What is wrong there.
        why: String,
    },
    /// An offset that the log does not hold.
    #[error("offset {offset} is outside of the log, which holds {start} to {end} (exclusive)")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// The first offset held.
        start: i64,
        /// The offset that the next record gets.
        end: i64,
    },
    /// A batch with an epoch under the newest of the log: whoever sent it is no longer the leader.
    #[error("leader epoch {given} is older than the log's epoch {newest}")]
    EpochFell {
        /// The epoch of the batch.
        given: i32,
        /// The newest epoch in the log.
        newest: i32,
    },
    /// A replicated batch that does not continue the log.
    #[error("a batch at offset {given} does not continue a log that ends at {end}")]
    NotNext {
        /// The batch's base offset.
        given: i64,
        /// The log's end.
        end: i64,
    },
    /// Bytes that are no batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Another process uses the directory.
    #[error("{} is in use by another process{}", path.display(), holder.map(|id| format!(" (process {id})")).unwrap_or_default())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Its process, if it says so.
        holder: Option<u32>,
    },
    /// A data directory of a version to come, or not ours.
    #[error("{} is no data directory that this version reads: {why}", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// `Result` with storage's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` at a call into the disk.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source: Arc::new(source) }
    }
}

impl Error {
    /// True if the process has no more descriptors: the data are as they were, and served after a start with more.
    pub fn is_short_of_files(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        let number = source.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        matches!(number, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
    }
}

/// Out of space or quota: the only failure to write after which a log goes on.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
