//! OffsetCommit (8): stores offsets of a group.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for OffsetCommitRequest {
    const KEY: ApiKey = ApiKey::OffsetCommit;
    const VERSIONS: Versions = Versions { min: 2, max: 10, flexible: 8 };
    type Response = OffsetCommitResponse;
}

message! {
    /// Stores how far a group has read.
    pub struct OffsetCommitRequest {
        /// Name of the group.
        group_id: String [0..],
        /// Generation of a classic group, epoch of a member of a next-generation one; -1 for a commit from
        /// outside of the group.
        generation_id_or_member_epoch: i32 [1..] = -1,
        /// Id of the member; empty before it has one.
        member_id: String [1..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [7..; strict],
        /// How long the offset is kept, in ms; -1 for the broker's default.
        retention_time_ms: i64 [2..=4] = -1,
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic> [0..],
    }

    /// One of [`OffsetCommitRequest::topics`].
    pub struct OffsetCommitRequestTopic {
        /// Name of the topic.
        name: String [0..=9],
        /// Id of the topic; zero for none.
        topic_id: Uuid [10..],
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition> [0..],
    }

    /// One of [`OffsetCommitRequestTopic::partitions`].
    pub struct OffsetCommitRequestPartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// The offset to go on from; -1 if there is none.
        committed_offset: i64 [0..],
        /// Epoch of the leader that the record before the offset was read from, or -1.
        committed_leader_epoch: i32 [6..] = -1,
        /// Text that the client keeps with it.
        committed_metadata: Option<String> [0..] = Some(String::new()),
    }

    /// Whether the offsets were stored.
    pub struct OffsetCommitResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [3..],
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic> [0..],
    }

    /// One of [`OffsetCommitResponse::topics`].
    pub struct OffsetCommitResponseTopic {
        /// Name of the topic.
        name: String [0..=9],
        /// Id of the topic; zero for none.
        topic_id: Uuid [10..],
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition> [0..],
    }

    /// One of [`OffsetCommitResponseTopic::partitions`].
    pub struct OffsetCommitResponsePartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
