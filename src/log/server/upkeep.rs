//! What has to be done now and then: old segments go, keyed logs are compacted, files that nobody knows are removed.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::config::TopicConfig;
use super::definitions::Definitions;
use super::partition::Partition;
use super::produce::now_ms;
use crate::log::wire::{Compression, CompressionError};
use crate::storage::{Compaction, Error, Header, LogId, Packing, Retention};

/// Between two looks at all partitions. Kafka looks every 5 minutes; small disks want it sooner.
const INTERVAL: Duration = Duration::from_secs(30);
/// Between two looks at those that are compacted: Kafka's `log.cleaner.backoff.ms` is 15 s.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(5);
/// Keys that one compaction remembers, 40 bytes each.
const KEYS_MAX: usize = 1 << 20;
/// What was taken out of service is kept for so long, for an operator who wants it back.
const TRASH_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A producer that was silent for so long is forgotten: Kafka's `producer.id.expiration.ms`.
const PRODUCER_AGE_MS: i64 = 24 * 3_600_000;

impl Broker {
    /// Does what has to be done now and then, off the threads that serve.
    pub(super) async fn keep_up(self: &Arc<Self>) {
        self.blocking(|broker| broker.remove_strangers()).await;
        if !self.was_clean {
            // A crash is what tears and damages: what is not whole is told of now, and not when somebody needs it.
            self.blocking(|broker| broker.open_all()).await;
        }
        let rounds = INTERVAL.as_secs().div_euclid(COMPACTION_INTERVAL.as_secs()).max(1);
        for round in (0..rounds).cycle() {
            tokio::time::sleep(COMPACTION_INTERVAL).await;
            if round == rounds - 1 {
                self.blocking(|broker| broker.look_after_all()).await;
            } else {
                self.blocking(|broker| broker.look_after_partitions(|config| config.compacts)).await;
            }
        }
    }

    async fn blocking(self: &Arc<Self>, work: fn(&Self)) {
        let broker = Arc::clone(self);
        // Its panic was printed.
        let _ = tokio::task::spawn_blocking(move || work(&broker)).await;
    }

    /// Logs of topics whose deletion was cut short.
    fn remove_strangers(&self) {
        // In this order: a topic that is made meanwhile has no files in the list.
        let Ok(found) = self.vault.with(|store| store.list()) else { return };
        let known: HashSet<LogId> = self
            .topics
            .all()
            .iter()
            .flat_map(|topic| topic.partitions().iter().map(|partition| partition.log_id).collect::<Vec<_>>())
            .collect();
        for id in found.into_iter().filter(|id| !known.contains(id) && !Definitions::is_own(*id)) {
            tracing::info!(log = %id, "files of a deleted topic are removed");
            if let Err(error) = self.vault.with(|store| store.remove(id)) {
                tracing::warn!(log = %id, %error, "files of a deleted topic are left behind");
            }
        }
    }

    fn open_all(&self) {
        let topics = self.topics.all();
        for partition in topics.iter().flat_map(|topic| topic.partitions().to_vec()) {
            if self.shutdown.phase() != crate::shutdown::Phase::Running {
                return;
            }
            // What is wrong with it is said there.
            let _ = partition.log();
        }
    }

    fn look_after_partitions(&self, is_meant: fn(&TopicConfig) -> bool) {
        for topic in self.topics.all() {
            let config = topic.config();
            if !is_meant(&config) {
                continue;
            }
            for partition in topic.partitions().iter() {
                if self.shutdown.phase() != crate::shutdown::Phase::Running {
                    return;
                }
                // Why a log cannot be opened was said when it was tried.
                if let Err(error) = look_after(partition, &config)
                    && !matches!(error, Error::Closed)
                {
                    let (topic, partition) = (&partition.topic, partition.index);
                    tracing::warn!(topic, partition, %error, "old records cannot be removed");
                }
            }
        }
    }

    fn look_after_all(&self) {
        self.look_after_partitions(|_| true);
        self.keep_writers();
        let age = u64::try_from(TRASH_AGE.as_millis()).unwrap_or(u64::MAX);
        if let Err(error) = self.vault.with(|store| store.empty_trash(age)) {
            tracing::warn!(%error, "what was taken out of service cannot be removed");
        }
    }
}

impl Broker {
    /// Keeps beside the logs who writes to them.
    pub(super) fn keep_writers(&self) {
        for topic in self.topics.all() {
            for partition in topic.partitions().iter() {
                // The next start finds it out, if it has to.
                if let Err(error) = partition.keep_writers() {
                    let (topic, partition) = (&partition.topic, partition.index);
                    tracing::debug!(topic, partition, %error, "who writes is not kept");
                }
            }
        }
    }
}

fn look_after(partition: &Arc<Partition>, config: &TopicConfig) -> Result<(), Error> {
    let Ok(log) = partition.log() else { return Ok(()) };
    let (now, state) = (now_ms(), log.state());
    let is_old =
        |max_ms: u64| state.max_timestamp >= 0 && now.saturating_sub_unsigned(max_ms) > state.max_timestamp;
    let retention = Retention { age_max_ms: config.retention_ms, bytes_max: config.retention_bytes };
    let expired = config.deletes && retention.age_max_ms.is_some_and(is_old);
    if state.size > 0 && (expired || partition.segment_age_ms(state.segments, now) > config.segment_ms) {
        // The segment that is written to goes too, when all in it is too old.
        log.roll()?;
    }
    if config.deletes {
        log.retain(&retention, now, log.safe_end())?;
    }
    if config.compacts {
        let bound = partition.last_stable_offset().unwrap_or(0);
        let (dirty, all) = log.compactable_bytes(bound)?;
        if dirty > 0 && dirty.saturating_mul(100) >= all.saturating_mul(config.dirty_percent_min) {
            let mut compaction = Compaction {
                bound,
                now_ms: now,
                delete_retention_ms: config.delete_retention_ms,
                keys_max: KEYS_MAX,
                discard: &mut |header: &Header| partition.is_void(header),
                packing: &mut Packed,
            };
            let done = log.compact(&mut compaction)?;
            tracing::debug!(topic = partition.topic, partition = partition.index, ?done, "compacted");
        }
    }
    partition.forget_producers(now.saturating_sub(PRODUCER_AGE_MS), log.start());
    Ok(())
}

/// The compressions of the protocol, for compaction.
struct Packed;

impl Packing for Packed {
    fn unpack(&mut self, compression: u8, body: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
        let known = Compression::from_code(compression);
        let known = known.ok_or_else(|| io::Error::other(CompressionError::Unknown(compression)))?;
        known.unpack(body, bytes_max).map_err(io::Error::other)
    }

    fn pack(&mut self, compression: u8, records: &[u8]) -> io::Result<Vec<u8>> {
        let known = Compression::from_code(compression);
        let known = known.ok_or_else(|| io::Error::other(CompressionError::Unknown(compression)))?;
        let mut out = Vec::with_capacity(records.len() / 2);
        known.pack(records, None, &mut out)?;
        Ok(out)
    }
}
