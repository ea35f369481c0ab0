//! Fetch: waits until there is enough, and sends it from where it lies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::answer::{Head, Outgoing, Pending, encode_with};
use super::partition::{Partition, storage_error};
use super::session::Session;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::log::wire::{ErrorCode, Records, Uuid};
use crate::storage::Chunk;

/// From this version on topics are named by their ids.
const IDS_FROM: i16 = 13;

/// What is asked of one partition.
struct Wanted {
    partition: Result<Arc<Partition>, ErrorCode>,
    asked: FetchPartition,
}

struct WantedTopic {
    name: String,
    id: Uuid,
    partitions: Vec<Wanted>,
}

/// A fetch that is under way.
struct Fetch {
    session: Arc<Session>,
    head: Head,
    topics: Vec<WantedTopic>,
    bytes_min: usize,
    bytes_max: usize,
    wait_max: Duration,
    /// Only what is not part of an open transaction.
    is_committed: bool,
}

/// What there is of one partition.
struct Found {
    error: ErrorCode,
    high_watermark: i64,
    stable: i64,
    start: i64,
    chunk: Option<Chunk>,
    aborted: Vec<AbortedTransaction>,
}

impl Found {
    fn failed(error: ErrorCode) -> Self {
        Self { error, high_watermark: -1, stable: -1, start: -1, chunk: None, aborted: Vec::new() }
    }
}

/// Answers when there is enough, something is wrong, or the time is up.
pub(super) fn fetch(session: &Arc<Session>, head: Head, request: FetchRequest) -> Pending {
    if request.session_id != 0 && request.session_epoch > 0 {
        // No sessions are given out (KIP-227), so this one is not ours.
        let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return Pending::ready::<FetchRequest>(
            head,
            &FetchResponse { error_code, ..FetchResponse::default() },
        );
    }
    let limits = &session.broker.options.limits;
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let topics = &session.broker.topics;
    let wanted = request.topics.into_iter().map(|asked| {
        let (topic, missing) = match head.version >= IDS_FROM {
            true => (topics.by_id(asked.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
            false => (topics.get(&asked.topic), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let name = topic.as_ref().map_or(&asked.topic, |topic| &topic.name);
        let may_read = session.may_topic(AclOperation::Read, name);
        let partitions = asked.partitions.into_iter().map(|asked| {
            let partition = match &topic {
                // That no topic has an id is no secret.
                None if missing == ErrorCode::UNKNOWN_TOPIC_ID => Err(missing),
                _ if !may_read => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                None => Err(missing),
                Some(topic) => topic.partition(asked.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            let partition = partition
                .and_then(|partition| partition.check_epoch(asked.current_leader_epoch).map(|()| partition));
            Wanted { partition, asked }
        });
        WantedTopic { name: asked.topic, id: asked.topic_id, partitions: partitions.collect() }
    });
    let fetch = Fetch {
        session: Arc::clone(session),
        head,
        topics: wanted.collect(),
        bytes_min: size(request.min_bytes),
        bytes_max: size(request.max_bytes).min(limits.fetch_bytes_max),
        wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0))
            .min(limits.fetch_wait_max),
        is_committed: request.isolation_level == 1,
    };
    Pending::Later(Box::pin(fetch.run()))
}

impl Fetch {
    async fn run(self) -> Option<Outgoing> {
        let found = self.look();
        if self.is_enough(&found) || self.wait_max.is_zero() {
            return self.answer(found);
        }
        let deadline = Instant::now() + self.wait_max;
        let shutdown = self.session.broker.shutdown.clone();
        loop {
            for wanted in self.topics.iter().flat_map(|topic| &topic.partitions) {
                if let Ok(partition) = &wanted.partition {
                    partition.call(&self.session.call);
                }
            }
            // After the calls are in: what came before them is seen here, what comes after them rings.
            let found = self.look();
            if self.is_enough(&found) {
                return self.answer(found);
            }
            tokio::select! {
                () = self.session.call.notified() => {}
                () = tokio::time::sleep_until(deadline) => return self.answer(self.look()),
                () = shutdown.draining() => return self.answer(found),
            }
        }
    }

    /// What there is of each partition, in the order asked for.
    fn look(&self) -> Vec<Found> {
        let mut left = self.bytes_max;
        let mut any = false;
        let mut found = Vec::with_capacity(self.topics.iter().map(|topic| topic.partitions.len()).sum());
        for wanted in self.topics.iter().flat_map(|topic| &topic.partitions) {
            let one = match &wanted.partition {
                Err(error) => Found::failed(*error),
                Ok(partition) => {
                    self.look_at(partition, &wanted.asked, left, any).unwrap_or_else(Found::failed)
                }
            };
            if let Some(chunk) = &one.chunk {
                left = left.saturating_sub(chunk.len);
                any = true;
            }
            found.push(one);
        }
        found
    }

    fn look_at(
        &self,
        partition: &Arc<Partition>,
        asked: &FetchPartition,
        left: usize,
        any: bool,
    ) -> Result<Found, ErrorCode> {
        let log = partition.log()?;
        let high_watermark = log.safe_end();
        let stable = match self.is_committed {
            true => partition.last_stable_offset()?.min(high_watermark),
            false => partition.stable_as_known(high_watermark),
        };
        let bound = if self.is_committed { stable } else { high_watermark };
        let start = log.start();
        if asked.fetch_offset < start || asked.fetch_offset > log.end() {
            return Ok(Found {
                error: ErrorCode::OFFSET_OUT_OF_RANGE,
                high_watermark,
                stable,
                start,
                chunk: None,
                aborted: Vec::new(),
            });
        }
        let max = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(left);
        let mut chunk = None;
        if asked.fetch_offset < bound && !(any && max == 0) {
            let read = log.read(asked.fetch_offset, max, bound).map_err(|error| {
                partition.tell_of(&error);
                storage_error(&error)
            })?;
            // KIP-74: a batch that is too large is sent if there is nothing else.
            chunk = read.filter(|chunk| chunk.len <= max || !any);
        }
        let aborted = match &chunk {
            Some(_) if self.is_committed => partition.aborted_in(asked.fetch_offset, bound)?,
            _ => Vec::new(),
        };
        let aborted = aborted
            .into_iter()
            .map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset })
            .collect();
        Ok(Found { error: ErrorCode::NONE, high_watermark, stable, start, chunk, aborted })
    }

    fn is_enough(&self, found: &[Found]) -> bool {
        let bytes: usize = found.iter().filter_map(|one| one.chunk.as_ref()).map(|chunk| chunk.len).sum();
        bytes >= self.bytes_min || found.iter().any(|one| one.error != ErrorCode::NONE) || found.is_empty()
    }

    fn answer(&self, found: Vec<Found>) -> Option<Outgoing> {
        let mut found = found.into_iter();
        let mut chunks = Vec::new();
        let responses = self.topics.iter().map(|topic| FetchableTopicResponse {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: topic
                .partitions
                .iter()
                .zip(found.by_ref())
                .map(|(wanted, found)| self.partition_data(wanted.asked.partition, found, &mut chunks))
                .collect(),
        });
        let response = FetchResponse { responses: responses.collect(), ..FetchResponse::default() };
        encode_with::<FetchRequest>(self.head, &response, chunks)
    }

    fn partition_data(&self, partition_index: i32, found: Found, chunks: &mut Vec<Chunk>) -> PartitionData {
        let records = match found.chunk {
            Some(chunk) => {
                let records = Records::Hole(chunk.len);
                chunks.push(chunk);
                records
            }
            // Old clients do not read null.
            None => Records::Here(Bytes::new()),
        };
        PartitionData {
            partition_index,
            error_code: found.error,
            high_watermark: found.high_watermark,
            last_stable_offset: found.stable,
            log_start_offset: found.start,
            aborted_transactions: self.is_committed.then_some(found.aborted),
            records,
            ..PartitionData::default()
        }
    }
}
