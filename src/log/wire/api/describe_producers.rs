//! DescribeProducers (61): idempotent producers of partitions.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeProducersRequest {
    const KEY: ApiKey = ApiKey::DescribeProducers;
    const VERSIONS: Versions = Versions { min: 0, max: 0, flexible: 0 };
    type Response = DescribeProducersResponse;
}

message! {
    /// Asks which producers partitions remember.
    pub struct DescribeProducersRequest {
        /// The topics.
        topics: Vec<TopicRequest> [0..],
    }

    /// One of [`DescribeProducersRequest::topics`].
    pub struct TopicRequest {
        /// Name of the topic.
        name: String [0..],
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> [0..],
    }

    /// The producers.
    pub struct DescribeProducersResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The topics.
        topics: Vec<TopicResponse> [0..],
    }

    /// One of [`DescribeProducersResponse::topics`].
    pub struct TopicResponse {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<PartitionResponse> [0..],
    }

    /// One of [`TopicResponse::partitions`].
    pub struct PartitionResponse {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..],
        /// Producers that the partition remembers.
        active_producers: Vec<ProducerState> [0..],
    }

    /// One of [`PartitionResponse::active_producers`].
    pub struct ProducerState {
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..],
        /// Epoch of the producer; -1 for none.
        producer_epoch: i32 [0..],
        /// Sequence number of its last record, or -1.
        last_sequence: i32 [0..] = -1,
        /// When it last wrote, in ms since 1970, or -1.
        last_timestamp: i64 [0..] = -1,
        /// Epoch of the coordinator that last wrote for it, or -1.
        coordinator_epoch: i32 [0..],
        /// Where its open transaction began, or -1.
        current_txn_start_offset: i64 [0..] = -1,
    }
}
