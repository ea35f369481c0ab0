//! TxnOffsetCommit (28): stores offsets of a group in a transaction.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for TxnOffsetCommitRequest {
    const KEY: ApiKey = ApiKey::TxnOffsetCommit;
    const VERSIONS: Versions = Versions { min: 0, max: 5, flexible: 3 };
    type Response = TxnOffsetCommitResponse;
}

message! {
    /// Stores how far a group has read, if the transaction is committed.
    pub struct TxnOffsetCommitRequest {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [0..],
        /// Name of the group.
        group_id: String [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..],
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [0..],
        /// Generation of the group: counts its rebalances.
        generation_id: i32 [3..; strict] = -1,
        /// Id of the member; empty before it has one.
        member_id: String [3..; strict],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [3..; strict],
        /// The topics.
        topics: Vec<TxnOffsetCommitRequestTopic> [0..],
    }

    /// One of [`TxnOffsetCommitRequest::topics`].
    pub struct TxnOffsetCommitRequestTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<TxnOffsetCommitRequestPartition> [0..],
    }

    /// One of [`TxnOffsetCommitRequestTopic::partitions`].
    pub struct TxnOffsetCommitRequestPartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// The offset to go on from; -1 if there is none.
        committed_offset: i64 [0..],
        /// Epoch of the leader that the record before the offset was read from, or -1.
        committed_leader_epoch: i32 [2..] = -1,
        /// Text that the client keeps with it.
        committed_metadata: Option<String> [0..] = Some(String::new()),
    }

    /// Whether the offsets were stored.
    pub struct TxnOffsetCommitResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The topics.
        topics: Vec<TxnOffsetCommitResponseTopic> [0..],
    }

    /// One of [`TxnOffsetCommitResponse::topics`].
    pub struct TxnOffsetCommitResponseTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<TxnOffsetCommitResponsePartition> [0..],
    }

    /// One of [`TxnOffsetCommitResponseTopic::partitions`].
    pub struct TxnOffsetCommitResponsePartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
