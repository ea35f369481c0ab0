//! ListOffsets (2): finds offsets by time, and the ends of partitions.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for ListOffsetsRequest {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: Versions = Versions { min: 1, max: 11, flexible: 6 };
    type Response = ListOffsetsResponse;
}

message! {
    /// Looks up offsets by time.
    pub struct ListOffsetsRequest {
        /// Broker that fetches as a follower; -1 for a client.
        replica_id: i32 [0..],
        /// 0: all records up to the high watermark; 1: those of committed transactions only.
        isolation_level: i8 [2..; strict],
        /// The topics.
        topics: Vec<ListOffsetsTopic> [0..],
        /// How long the broker may take, in ms.
        timeout_ms: i32 [10..],
    }

    /// One of [`ListOffsetsRequest::topics`].
    pub struct ListOffsetsTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<ListOffsetsPartition> [0..],
    }

    /// One of [`ListOffsetsTopic::partitions`].
    pub struct ListOffsetsPartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Epoch of the leader that the client knows, or -1; a leader of another epoch refuses.
        current_leader_epoch: i32 [4..] = -1,
        /// The first record of this time (ms since 1970) or later is looked for; -1 the end, -2 the start, -3
        /// the newest record, -4 the first on local disk, -5 the end of tiered storage.
        timestamp: i64 [0..],
    }

    /// The offsets found.
    pub struct ListOffsetsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [2..],
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse> [0..],
    }

    /// One of [`ListOffsetsResponse::topics`].
    pub struct ListOffsetsTopicResponse {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }

    /// One of [`ListOffsetsTopicResponse::partitions`].
    pub struct ListOffsetsPartitionResponse {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Time of the record found, in ms since 1970, or -1.
        timestamp: i64 [1..] = -1,
        /// The offset found, or -1.
        offset: i64 [1..] = -1,
        /// Epoch of the leader, or -1.
        leader_epoch: i32 [4..] = -1,
    }
}
