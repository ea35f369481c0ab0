//! DescribeLogDirs (35): log directories and the sizes of partitions.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeLogDirsRequest {
    const KEY: ApiKey = ApiKey::DescribeLogDirs;
    const VERSIONS: Versions = Versions { min: 1, max: 4, flexible: 2 };
    type Response = DescribeLogDirsResponse;
}

message! {
    /// Asks how much room partitions take.
    pub struct DescribeLogDirsRequest {
        /// The topics.
        topics: Option<Vec<DescribableLogDirTopic>> [0..] = Some(Vec::new()),
    }

    /// One of [`DescribeLogDirsRequest::topics`].
    pub struct DescribableLogDirTopic {
        /// Name of the topic.
        topic: String [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }

    /// The directories and what is in them.
    pub struct DescribeLogDirsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [3..],
        /// The outcome for each of them.
        results: Vec<DescribeLogDirsResult> [0..],
    }

    /// One of [`DescribeLogDirsResponse::results`].
    pub struct DescribeLogDirsResult {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Path of the directory.
        log_dir: String [0..],
        /// The topics.
        topics: Vec<DescribeLogDirsTopic> [0..],
        /// Size of the volume in bytes; -1 if unknown.
        total_bytes: i64 [4..] = -1,
        /// Free bytes on the volume; -1 if unknown.
        usable_bytes: i64 [4..] = -1,
    }

    /// One of [`DescribeLogDirsResult::topics`].
    pub struct DescribeLogDirsTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition> [0..],
    }

    /// One of [`DescribeLogDirsTopic::partitions`].
    pub struct DescribeLogDirsPartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Bytes of its segments.
        partition_size: i64 [0..],
        /// How far the replica is behind, in records.
        offset_lag: i64 [0..],
        /// It is being moved here from another directory.
        is_future_key: bool [0..],
    }
}
