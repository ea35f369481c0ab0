//! One partition: a log in the storage, who waits for it, and the producers that write to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use super::vault::Vault;
use super::waiters::Waiters;
use crate::log::engine::producer::{Producers, Sent, Verdict};
use crate::log::wire::ErrorCode;
use crate::storage::{Appended, Checked, Error, Header, Importance, Log, LogConfig, LogId, Observer, Synced};

/// One partition of a topic. Its log is opened when somebody needs it: a start does not wait for thousands of them.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) index: i32,
    pub(super) log_id: LogId,
    config: Mutex<LogConfig>,
    vault: Arc<Vault>,
    leader_epoch: i32,
    log: OnceLock<Result<Log, Error>>,
    producers: Mutex<Option<Producers>>,
    waiters: Waiters,
    /// Its topic is deleted.
    gone: AtomicBool,
    /// How many segments there were when somebody looked, and since when, in ms since 1970.
    segments_seen: Mutex<(usize, i64)>,
}

/// What is needed to make one.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) vault: Arc<Vault>,
    pub(super) config: LogConfig,
    pub(super) leader_epoch: i32,
}

/// What an append came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Offset of the first record.
    pub(super) base: i64,
    /// The answer may be sent when the log is safe up to here.
    pub(super) end: i64,
}

impl Partition {
    pub(super) fn new(topic: &str, index: i32, log_id: LogId, place: &Place) -> Arc<Self> {
        Arc::new(Self {
            topic: topic.to_owned(),
            index,
            log_id,
            config: Mutex::new(place.config),
            vault: Arc::clone(&place.vault),
            leader_epoch: place.leader_epoch,
            log: OnceLock::new(),
            producers: Mutex::default(),
            waiters: Waiters::default(),
            gone: AtomicBool::new(false),
            segments_seen: Mutex::default(),
        })
    }

    fn config(&self) -> LogConfig {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps its log otherwise from now on.
    pub(super) fn configure(&self, config: LogConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        if let Some(log) = self.opened_log() {
            log.configure(config);
        }
    }

    /// The log, opened now if it was not.
    pub(super) fn log(self: &Arc<Self>) -> Result<&Log, ErrorCode> {
        let opened = self.log.get_or_init(|| {
            let config = self.config();
            let log = self.vault.with(|store| store.log(self.log_id, config))?;
            log.observe(Arc::new(Watch(Arc::downgrade(self))));
            Ok(log)
        });
        match opened {
            Ok(log) if !self.is_gone() => Ok(log),
            Ok(_) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Err(error) => {
                tracing::error!(topic = self.topic, partition = self.index, %error, "a partition cannot be opened");
                Err(ErrorCode::KAFKA_STORAGE_ERROR)
            }
        }
    }

    /// The log, if somebody needed it already.
    pub(super) fn opened_log(&self) -> Option<&Log> {
        self.log.get().and_then(|log| log.as_ref().ok())
    }

    /// The epoch under which this broker leads it.
    pub(super) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Compares the epoch that a client believes in with the true one.
    pub(super) fn check_epoch(&self, believed: i32) -> Result<(), ErrorCode> {
        match believed {
            -1 => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// The producers, locked: appends of idempotent ones come one after another.
    fn producers(&self, log: &Log) -> Result<MutexGuard<'_, Option<Producers>>, Error> {
        let mut guard = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some(restore(log)?);
        }
        Ok(guard)
    }

    /// Appends batches of a producer, unless they are there already.
    pub(super) fn append(
        self: &Arc<Self>,
        batches: Checked<'_>,
        header: &Header,
    ) -> Result<Placed, ErrorCode> {
        let log = self.log()?;
        if header.producer_id < 0 {
            return self.write(log, batches);
        }
        let sent = sent(header);
        let mut guard = self.producers(log).map_err(|error| storage_error(&error))?;
        let Some(producers) = guard.as_mut() else { return Err(ErrorCode::UNKNOWN_SERVER_ERROR) };
        match producers.check(&sent) {
            Verdict::Refused(error) => Err(error),
            Verdict::Known { base_offset, .. } => {
                let end = base_offset + i64::from(header.last_offset_delta) + 1;
                Ok(Placed { base: base_offset, end })
            }
            Verdict::New => {
                let placed = self.write(log, batches)?;
                producers.append(&sent, placed.base);
                Ok(placed)
            }
        }
    }

    fn write(&self, log: &Log, batches: Checked<'_>) -> Result<Placed, ErrorCode> {
        let appended = log.append(batches, self.leader_epoch, Importance::Normal);
        let Appended { base, end, safe } = appended.map_err(|error| storage_error(&error))?;
        if safe {
            self.waiters.wake();
        }
        Ok(Placed { base, end })
    }

    /// Whether an answer for everything before `end` may be sent; or why never.
    pub(super) fn is_safe(self: &Arc<Self>, end: i64) -> Result<bool, ErrorCode> {
        let log = self.log()?;
        if log.safe_end() >= end {
            return Ok(true);
        }
        // Only here, so that the common case takes no lock.
        log.check().map(|()| false).map_err(|error| storage_error(&error))
    }

    /// The partition has gone on: rings all calls.
    pub(super) fn wake(&self) {
        self.waiters.wake();
    }

    /// Has a call ring when the partition has gone on.
    pub(super) fn call(&self, call: &Arc<Notify>) {
        self.waiters.add(call);
    }

    /// Up to here consumers read: what is as safe as was promised.
    pub(super) fn high_watermark(self: &Arc<Self>) -> Result<i64, ErrorCode> {
        Ok(self.log()?.safe_end())
    }

    /// Up to here nothing is part of a transaction that is open.
    pub(super) fn last_stable_offset(self: &Arc<Self>) -> Result<i64, ErrorCode> {
        self.high_watermark()
    }

    /// Transactions that were given up, of which records lie between two offsets: producer and first offset of each.
    pub(super) fn aborted_in(self: &Arc<Self>, _from: i64, _to: i64) -> Result<Vec<(i64, i64)>, ErrorCode> {
        Ok(Vec::new())
    }

    /// For how long there have been so many segments, as far as was seen, in ms.
    pub(super) fn segment_age_ms(&self, segments: usize, now_ms: i64) -> i64 {
        let mut seen = self.segments_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != segments {
            *seen = (segments, now_ms);
        }
        now_ms.saturating_sub(seen.1)
    }

    /// Whether compaction may drop a batch of a transaction, or a marker, as a whole.
    pub(super) fn is_void(&self, _header: &Header) -> bool {
        false
    }

    /// Forgets producers that were silent since then.
    pub(super) fn forget_producers(&self, before_ms: i64) {
        let mut guard = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producers) = guard.as_mut() {
            producers.expire(before_ms);
        }
    }

    /// Its topic is deleted: whoever waits hears of it.
    pub(super) fn retire(&self) {
        self.gone.store(true, Ordering::Release);
        self.waiters.wake();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

fn sent(header: &Header) -> Sent {
    Sent {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_delta: header.last_offset_delta,
        max_timestamp: header.max_timestamp,
        is_transactional: header.is_transactional(),
    }
}

/// Reads what producers wrote back out of a log.
fn restore(log: &Log) -> Result<Producers, Error> {
    let mut producers = Producers::default();
    let mut reader = log.reader(log.state().start, log.end());
    while let Some(batch) = reader.next_batch()? {
        if batch.header.producer_id >= 0 && !batch.header.is_control() {
            producers.append(&sent(&batch.header), batch.header.base_offset);
        }
    }
    Ok(producers)
}

/// What a client is told of the storage's troubles; the operator reads the log.
pub(super) fn storage_error(error: &Error) -> ErrorCode {
    match error {
        Error::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        Error::Batch(_) => ErrorCode::CORRUPT_MESSAGE,
        Error::EpochFell { .. } | Error::NotNext { .. } => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Error::Full { .. }
        | Error::Io { .. }
        | Error::Poisoned { .. }
        | Error::Corrupt { .. }
        | Error::Locked { .. }
        | Error::Format { .. }
        | Error::Closed => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Hears from the storage.
struct Watch(Weak<Partition>);

impl Observer for Watch {
    fn synced(&self, _synced: Synced) {
        if let Some(partition) = self.0.upgrade() {
            partition.waiters.wake();
        }
    }

    fn failed(&self, _log: LogId, _error: &Error) {
        if let Some(partition) = self.0.upgrade() {
            partition.waiters.wake();
        }
    }
}
