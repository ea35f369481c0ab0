//! Offsets by time and at the ends of partitions, and where epochs of leaders ended.

use std::borrow::Cow;
use std::sync::Arc;

use super::answer::{Head, Pending};
use super::partition::{Partition, storage_error};
use super::session::Session;
use super::topics::Topic;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use crate::log::wire::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use crate::log::wire::{Compression, ErrorCode};
use crate::storage::{Error, Log, Records, StoredBatch};

/// Times that are no times.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The record with the newest time (KIP-734).
const NEWEST: i64 = -3;
/// The first one that is on the broker's own disk (KIP-405): all are.
const EARLIEST_LOCAL: i64 = -4;
/// The last one that is not: none is.
const LATEST_TIERED: i64 = -5;

/// An offset and the time of its record.
type At = (i64, i64);

/// `ListOffsets`.
pub(super) fn list(session: &Session, head: Head, request: ListOffsetsRequest) -> Pending {
    let is_committed = request.isolation_level == 1;
    let topics = request.topics.into_iter().map(|asked| {
        let topic = visible(session, &asked.name);
        let partitions = asked.partitions.iter().map(|asked| {
            let found = partition(&topic, asked.partition_index)
                .and_then(|partition| find(&partition, asked, is_committed));
            let partition_index = asked.partition_index;
            match found {
                Ok(((offset, timestamp), leader_epoch)) => ListOffsetsPartitionResponse {
                    partition_index,
                    timestamp,
                    offset,
                    leader_epoch,
                    ..ListOffsetsPartitionResponse::default()
                },
                Err(error_code) => ListOffsetsPartitionResponse {
                    partition_index,
                    error_code,
                    ..ListOffsetsPartitionResponse::default()
                },
            }
        });
        ListOffsetsTopicResponse { name: asked.name, partitions: partitions.collect() }
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() };
    Pending::ready::<ListOffsetsRequest>(head, &response)
}

/// A topic of which the client may know.
fn visible(session: &Session, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    if !session.may_topic(AclOperation::Describe, name) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    session.broker.topics.get(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn partition(topic: &Result<Arc<Topic>, ErrorCode>, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn find(
    partition: &Arc<Partition>,
    asked: &ListOffsetsPartition,
    is_committed: bool,
) -> Result<(At, i32), ErrorCode> {
    partition.check_epoch(asked.current_leader_epoch)?;
    let log = partition.log()?;
    let bound = if is_committed { partition.last_stable_offset()? } else { log.safe_end() };
    let epoch = partition.leader_epoch();
    let at = match asked.timestamp {
        LATEST => (bound, -1),
        EARLIEST | EARLIEST_LOCAL => (log.start(), -1),
        LATEST_TIERED => (-1, -1),
        NEWEST => newest(log)?.filter(|(offset, _)| *offset < bound).unwrap_or((-1, -1)),
        time if time < 0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        time => by_time(log, time)?.filter(|(offset, _)| *offset < bound).unwrap_or((-1, -1)),
    };
    Ok((at, if at.0 < 0 { -1 } else { epoch }))
}

/// The first record at or after a time.
fn by_time(log: &Log, time: i64) -> Result<Option<At>, ErrorCode> {
    let (start, mut from) = (log.start(), 0);
    while let Some(batch) = log.batch_at_time(time, from).map_err(|error| storage_error(&error))? {
        // The record for which the batch was found may be deleted.
        if let Some(found) = each(&batch, start)?.into_iter().find(|(_, of)| *of >= time) {
            return Ok(Some(found));
        }
        from = batch.header.end_offset();
    }
    Ok(None)
}

/// The first of the records with the newest time (KIP-734). What is known of segments and batches may be of records
/// that are deleted.
fn newest(log: &Log) -> Result<Option<At>, ErrorCode> {
    let failed = |error: Error| storage_error(&error);
    let (start, known) = (log.start(), log.state().max_timestamp);
    let found = if known < 0 { return Ok(None) } else { by_time(log, known)? };
    if found.is_some() {
        return Ok(found);
    }
    let mut first = None;
    if start < log.end() {
        let batch = log.read_batch(start).map_err(failed)?;
        first = each(&batch, start)?.into_iter().max_by_key(|(offset, time)| (*time, -offset));
    }
    let whole = log.max_timestamp_from(start).map_err(failed)?;
    match first {
        Some((_, time)) if time >= whole => Ok(first),
        _ if whole < 0 => Ok(None),
        _ => by_time(log, whole),
    }
}

/// The offsets and times of a batch's records, as far as they are not deleted.
fn each(batch: &StoredBatch, start: i64) -> Result<Vec<At>, ErrorCode> {
    /// Far more than a batch by default holds.
    const UNPACKED_BYTES_MAX: usize = 100 << 20;
    let unpacked = match batch.header.compression() {
        0 => Cow::Borrowed(batch.body()),
        other => {
            let known = Compression::from_code(other).ok_or(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)?;
            let unpacked = known.unpack(batch.body(), UNPACKED_BYTES_MAX);
            Cow::Owned(unpacked.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?)
        }
    };
    let mut all = Vec::new();
    for record in Records::new(&batch.header, &unpacked) {
        let record = record.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        if record.offset >= start {
            all.push((record.offset, record.timestamp));
        }
    }
    Ok(all)
}

/// `OffsetForLeaderEpoch`: consumers look whether what they have read is still there (KIP-320).
pub(super) fn for_epoch(session: &Session, head: Head, request: OffsetForLeaderEpochRequest) -> Pending {
    let topics = request.topics.into_iter().map(|asked| {
        let topic = visible(session, &asked.topic);
        let partitions = asked.partitions.iter().map(|asked| {
            let found = partition(&topic, asked.partition).and_then(|partition| epoch_end(&partition, asked));
            let partition = asked.partition;
            match found {
                Ok((leader_epoch, end_offset)) => {
                    EpochEndOffset { partition, leader_epoch, end_offset, ..EpochEndOffset::default() }
                }
                Err(error_code) => EpochEndOffset { partition, error_code, ..EpochEndOffset::default() },
            }
        });
        OffsetForLeaderTopicResult { topic: asked.topic, partitions: partitions.collect() }
    });
    let response =
        OffsetForLeaderEpochResponse { topics: topics.collect(), ..OffsetForLeaderEpochResponse::default() };
    Pending::ready::<OffsetForLeaderEpochRequest>(head, &response)
}

fn epoch_end(partition: &Arc<Partition>, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    partition.check_epoch(asked.current_leader_epoch)?;
    let log = partition.log()?;
    // An epoch in which nothing was written is not in the log, and ends where the log ends.
    let newest = log.epochs().last().map_or(-1, |(epoch, _)| *epoch);
    if (newest + 1..=partition.leader_epoch()).contains(&asked.leader_epoch)
        || asked.leader_epoch == partition.leader_epoch()
    {
        return Ok((asked.leader_epoch, log.safe_end()));
    }
    Ok(log.end_of_epoch(asked.leader_epoch).unwrap_or((-1, -1)))
}
