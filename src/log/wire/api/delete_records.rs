//! DeleteRecords (21): deletes records at the start of partitions.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DeleteRecordsRequest {
    const KEY: ApiKey = ApiKey::DeleteRecords;
    const VERSIONS: Versions = Versions { min: 0, max: 2, flexible: 2 };
    type Response = DeleteRecordsResponse;
}

message! {
    /// Deletes records before offsets.
    pub struct DeleteRecordsRequest {
        /// The topics.
        topics: Vec<DeleteRecordsTopic> [0..],
        /// How long the broker may take, in ms.
        timeout_ms: i32 [0..],
    }

    /// One of [`DeleteRecordsRequest::topics`].
    pub struct DeleteRecordsTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition> [0..],
    }

    /// One of [`DeleteRecordsTopic::partitions`].
    pub struct DeleteRecordsPartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Records before this offset go; -1 for all up to the high watermark.
        offset: i64 [0..],
    }

    /// Where the partitions begin now.
    pub struct DeleteRecordsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult> [0..],
    }

    /// One of [`DeleteRecordsResponse::topics`].
    pub struct DeleteRecordsTopicResult {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }

    /// One of [`DeleteRecordsTopicResult::partitions`].
    pub struct DeleteRecordsPartitionResult {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Offset of the first record that is left; -1 if unknown.
        low_watermark: i64 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
