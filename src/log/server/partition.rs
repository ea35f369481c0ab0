//! One partition: a log in the storage, who waits for it, and the producers that write to it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use super::vault::Vault;
use super::waiters::Waiters;
use super::writers::{self, Aborted, Writers};
use crate::log::engine::producer::{Producers, Sent, Verdict};
use crate::log::engine::transaction::Mark;
use crate::log::wire::ErrorCode;
use crate::storage::{
    Appended, BatchBuilder, Checked, Error, Header, Importance, Log, LogConfig, LogId, Observer, Synced,
};

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
    writers: Mutex<Option<Writers>>,
    waiters: Waiters,
    /// Its topic is deleted.
    gone: AtomicBool,
    /// What was said of it.
    told: AtomicU8,
    /// Up to where it is kept beside the log who writes.
    kept_up_to: AtomicI64,
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
            writers: Mutex::default(),
            waiters: Waiters::default(),
            gone: AtomicBool::new(false),
            told: AtomicU8::new(0),
            kept_up_to: AtomicI64::new(0),
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
            // Once: whoever asks again is refused without a word.
            let opened = self.vault.with(|store| store.log(self.log_id, config)).inspect_err(|error| {
                if !matches!(error, Error::Closed) {
                    tracing::error!(topic = self.topic, partition = self.index, %error, "a partition cannot be opened");
                    self.vault.cannot_open(1);
                }
            });
            let log = opened?;
            log.recovery().warn_of_cut(format_args!("topic {}, partition {}", self.topic, self.index));
            log.observe(Arc::new(Watch(Arc::downgrade(self))));
            Ok(log)
        });
        match opened {
            Ok(log) if !self.is_gone() => Ok(log),
            Ok(_) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Err(_) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
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

    /// Who writes, locked: appends of idempotent producers come one after another.
    fn writers(&self, log: &Log) -> Result<MutexGuard<'_, Option<Writers>>, ErrorCode> {
        let mut guard = self.lock_writers();
        if guard.is_none() {
            let (writers, kept) = writers::restore(log).map_err(|error| storage_error(&error))?;
            *guard = Some(writers);
            self.kept_up_to.store(kept, Ordering::Relaxed);
        }
        Ok(guard)
    }

    fn lock_writers(&self) -> MutexGuard<'_, Option<Writers>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a batch belongs to a transaction that is open here already.
    pub(super) fn continues_transaction(self: &Arc<Self>, header: &Header) -> Result<bool, ErrorCode> {
        let guard = self.writers(self.log()?)?;
        let producer = guard.as_ref().and_then(|writers| writers.producers.get(header.producer_id));
        Ok(producer.is_some_and(|producer| {
            producer.transaction_start.is_some() && producer.epoch == header.producer_epoch
        }))
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
        let mut guard = self.writers(log)?;
        let Some(writers) = guard.as_mut() else { return Err(ErrorCode::UNKNOWN_SERVER_ERROR) };
        match writers.producers.check(&sent) {
            Verdict::Refused(error) => Err(error),
            Verdict::Known { base_offset, .. } => {
                let end = base_offset + i64::from(header.last_offset_delta) + 1;
                Ok(Placed { base: base_offset, end })
            }
            Verdict::New => {
                let placed = self.write(log, batches)?;
                writers.producers.append(&sent, placed.base);
                Ok(placed)
            }
        }
    }

    /// Appends the end of a transaction, which goes on a full disk too; where the log has to be safe for it.
    pub(super) fn append_marker(self: &Arc<Self>, mark: &Mark) -> Result<i64, ErrorCode> {
        /// Transactional, control.
        const ATTRIBUTES: i16 = 16 | 32;
        let log = self.log()?;
        let now = super::produce::now_ms();
        let mut batch = BatchBuilder::new();
        // KIP-98: version and type; version and epoch of the coordinator.
        let key = [0, 0, 0, u8::from(mark.commits)];
        let pushed = batch.push_copied(now, Some(&key), Some(&[0; 6]), &[]);
        pushed.map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        batch.set_producer(mark.producer_id, mark.epoch, -1);
        batch.set_attributes(ATTRIBUTES);
        let mut guard = self.writers(log)?;
        let end = self.append_own(&mut batch)?;
        if let Some(writers) = guard.as_mut() {
            writers.end((mark.producer_id, mark.epoch), mark.commits, end - 1, now);
        }
        drop(guard);
        // Readers of what is committed may go on.
        self.wake();
        Ok(end)
    }

    /// Appends what the broker writes in the name of a producer's transaction.
    pub(super) fn append_in_transaction(
        self: &Arc<Self>,
        producer: (i64, i16),
        batch: &mut BatchBuilder,
    ) -> Result<i64, ErrorCode> {
        const TRANSACTIONAL: i16 = 16;
        let (producer_id, epoch) = producer;
        batch.set_producer(producer_id, epoch, -1);
        batch.set_attributes(TRANSACTIONAL);
        let count = i32::try_from(batch.count()).unwrap_or(i32::MAX);
        let mut guard = self.writers(self.log()?)?;
        let end = self.append_own(batch)?;
        let sent = Sent {
            producer_id,
            epoch,
            base_sequence: -1,
            last_delta: count - 1,
            max_timestamp: super::produce::now_ms(),
            is_transactional: true,
        };
        if let Some(writers) = guard.as_mut() {
            writers.producers.append(&sent, end - i64::from(count));
        }
        Ok(end)
    }

    fn write(&self, log: &Log, batches: Checked<'_>) -> Result<Placed, ErrorCode> {
        let appended = log.append(batches, self.leader_epoch, Importance::Normal);
        let Appended { base, end, safe } = appended.map_err(|error| {
            self.tell_of(&error);
            storage_error(&error)
        })?;
        if safe {
            self.waiters.wake();
        }
        Ok(Placed { base, end })
    }

    /// Says what is wrong with the disk under it, each thing once.
    pub(super) fn tell_of(&self, error: &Error) {
        let (bit, what) = match error {
            Error::Poisoned { .. } => (1, "a partition is offline"),
            Error::Corrupt { .. } => (2, "a partition is damaged"),
            _ => return,
        };
        if self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::error!(topic = self.topic, partition = self.index, %error, "{what}");
        }
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

    /// Up to here nothing is part of a transaction that is open.
    pub(super) fn last_stable_offset(self: &Arc<Self>) -> Result<i64, ErrorCode> {
        let log = self.log()?;
        let guard = self.writers(log)?;
        let open = guard.as_ref().and_then(|writers| writers.producers.first_open());
        // After the lock: what was safe before a transaction began is stable.
        Ok(open.unwrap_or(i64::MAX).min(log.safe_end()))
    }

    /// The same for those who do not read by it: what is not known is not looked for.
    pub(super) fn stable_as_known(&self, high_watermark: i64) -> i64 {
        let open = self.lock_writers().as_ref().and_then(|writers| writers.producers.first_open());
        open.unwrap_or(high_watermark).min(high_watermark)
    }

    /// Transactions that were given up, of which records lie between two offsets: producer and first offset of each.
    pub(super) fn aborted_in(self: &Arc<Self>, from: i64, to: i64) -> Result<Vec<(i64, i64)>, ErrorCode> {
        let guard = self.writers(self.log()?)?;
        let Some(writers) = guard.as_ref() else { return Ok(Vec::new()) };
        let after = writers.aborted.partition_point(|one| one.last < from);
        let found = writers.aborted.iter().skip(after).filter(|one| one.first < to);
        Ok(found.map(|one| (one.producer_id, one.first)).collect())
    }

    /// Producers that wrote here and are remembered.
    pub(super) fn producers<T>(self: &Arc<Self>, look: impl FnOnce(&Producers) -> T) -> Result<T, ErrorCode> {
        let guard = self.writers(self.log()?)?;
        guard.as_ref().map(|writers| look(&writers.producers)).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)
    }

    /// For how long there have been so many segments, as far as was seen, in ms.
    pub(super) fn segment_age_ms(&self, segments: usize, now_ms: i64) -> i64 {
        let mut seen = self.segments_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != segments {
            *seen = (segments, now_ms);
        }
        now_ms.saturating_sub(seen.1)
    }

    /// Whether compaction may drop a batch of a transaction as a whole: it was given up. Markers stay.
    pub(super) fn is_void(&self, header: &Header) -> bool {
        let is_of = |one: &Aborted| {
            one.producer_id == header.producer_id && (one.first..one.last).contains(&header.base_offset)
        };
        let guard = self.lock_writers();
        !header.is_control() && guard.as_ref().is_some_and(|writers| writers.aborted.iter().any(is_of))
    }

    /// Forgets producers that were silent since then, and what was given up of records that are gone.
    pub(super) fn forget_producers(&self, before_ms: i64, start: i64) {
        if let Some(writers) = self.lock_writers().as_mut() {
            writers.producers.expire(before_ms);
            writers.aborted.retain(|one| one.last >= start);
        }
    }

    /// Keeps beside the log who writes to it, so that the next start need not read so much of it. Waits for the disk.
    pub(super) fn keep_writers(&self) -> Result<(), Error> {
        /// Of so many bytes of the log the headers may have to be read again.
        const BYTES_MAX: u64 = 64 << 20;
        let Some(log) = self.opened_log() else { return Ok(()) };
        if log.bytes_from(self.kept_up_to.load(Ordering::Relaxed)) < BYTES_MAX {
            return Ok(());
        }
        let (end, writers) = {
            let guard = self.lock_writers();
            let Some(writers) = guard.as_ref() else { return Ok(()) };
            // Under the lock: all that producers wrote before the end is known.
            (log.end(), writers.clone())
        };
        // What is kept must not say more than the log after a power cut.
        log.wait(end)?;
        log.keep_beside(&writers.to_bytes(end, self.leader_epoch))?;
        self.kept_up_to.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// Waits on this thread until the log is safe up to `end`.
    pub(super) fn wait(self: &Arc<Self>, end: i64) -> Result<(), ErrorCode> {
        self.log()?.wait(end).map_err(|error| storage_error(&error))
    }

    /// Its topic is deleted: whoever waits hears of it.
    pub(super) fn retire(&self) {
        self.gone.store(true, Ordering::Release);
        if matches!(self.log.get(), Some(Err(error)) if !matches!(error, Error::Closed)) {
            self.vault.cannot_open(-1);
        }
        self.waiters.wake();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

pub(super) fn sent(header: &Header) -> Sent {
    Sent {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_delta: header.last_offset_delta,
        max_timestamp: header.max_timestamp,
        is_transactional: header.is_transactional(),
    }
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

    fn failed(&self, _log: LogId, error: &Error) {
        if let Some(partition) = self.0.upgrade() {
            partition.tell_of(error);
            partition.waiters.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Options, Store};

    fn batch(value: &[u8], count: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        (0..count).for_each(|_| builder.push_copied(1, None, Some(value), &[]).unwrap());
        builder.to_vec(0, -1)
    }

    #[test]
    fn who_writes_is_kept_when_there_is_much_to_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let vault = Arc::new(Vault::new(store));
        let config = LogConfig { segment_bytes: 16 << 20, compact: false };
        let place = Place { vault: Arc::clone(&vault), config, leader_epoch: 0 };
        let partition = Partition::new("t", 0, LogId::from_bytes([7; 16]), &place);
        let append = |bytes: &[u8]| {
            let checked = Checked::new(bytes).unwrap();
            let header = checked.batches().next().unwrap().header;
            partition.append(checked, &header).unwrap();
        };
        partition.last_stable_offset().unwrap();
        append(&batch(b"small", 20_000));
        partition.keep_writers().unwrap();
        assert_eq!(partition.opened_log().unwrap().kept_beside(), None);
        let large = batch(&vec![b'x'; 8 << 20], 1);
        (0..8).for_each(|_| append(&large));
        partition.keep_writers().unwrap();
        let log = partition.opened_log().unwrap();
        let kept = log.kept_beside().unwrap();
        // There are no producers, and a start need not look for them again.
        assert_eq!(writers::restore(log).unwrap().1, 20_008);
        append(&large);
        partition.keep_writers().unwrap();
        assert_eq!(log.kept_beside(), Some(kept));
        vault.close().unwrap();
    }
}
