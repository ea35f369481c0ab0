//! OffsetForLeaderEpoch (23): where a leader's epoch ended.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for OffsetForLeaderEpochRequest {
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    const VERSIONS: Versions = Versions { min: 2, max: 4, flexible: 4 };
    type Response = OffsetForLeaderEpochResponse;
}

message! {
    /// Asks where epochs ended, to find where logs diverge.
    pub struct OffsetForLeaderEpochRequest {
        /// Broker that fetches as a follower; -1 for a client.
        replica_id: i32 [3..] = -2,
        /// The topics.
        topics: Vec<OffsetForLeaderTopic> [0..],
    }

    /// One of [`OffsetForLeaderEpochRequest::topics`].
    pub struct OffsetForLeaderTopic {
        /// Name of the topic.
        topic: String [0..],
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition> [0..],
    }

    /// One of [`OffsetForLeaderTopic::partitions`].
    pub struct OffsetForLeaderPartition {
        /// Number of the partition.
        partition: i32 [0..],
        /// Epoch of the leader that the client knows, or -1; a leader of another epoch refuses.
        current_leader_epoch: i32 [2..] = -1,
        /// Epoch whose end is asked for.
        leader_epoch: i32 [0..],
    }

    /// The ends of the epochs.
    pub struct OffsetForLeaderEpochResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [2..],
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult> [0..],
    }

    /// One of [`OffsetForLeaderEpochResponse::topics`].
    pub struct OffsetForLeaderTopicResult {
        /// Name of the topic.
        topic: String [0..],
        /// The partitions.
        partitions: Vec<EpochEndOffset> [0..],
    }

    /// One of [`OffsetForLeaderTopicResult::partitions`].
    pub struct EpochEndOffset {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Number of the partition.
        partition: i32 [0..],
        /// The newest epoch that is not newer than the one asked for, or -1.
        leader_epoch: i32 [1..] = -1,
        /// Offset after the last record of that epoch; -1 if unknown.
        end_offset: i64 [0..] = -1,
    }
}
