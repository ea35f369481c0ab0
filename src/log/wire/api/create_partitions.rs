//! CreatePartitions (37): adds partitions to topics.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for CreatePartitionsRequest {
    const KEY: ApiKey = ApiKey::CreatePartitions;
    const VERSIONS: Versions = Versions { min: 0, max: 3, flexible: 2 };
    type Response = CreatePartitionsResponse;
}

message! {
    /// Adds partitions to topics.
    pub struct CreatePartitionsRequest {
        /// The topics.
        topics: Vec<CreatePartitionsTopic> [0..],
        /// How long the broker may take, in ms.
        timeout_ms: i32 [0..],
        /// Only check whether it could be done.
        validate_only: bool [0..],
    }

    /// One of [`CreatePartitionsRequest::topics`].
    pub struct CreatePartitionsTopic {
        /// Name of the topic.
        name: String [0..],
        /// How many partitions the topic is to have.
        count: i32 [0..],
        /// Where the new partitions go; null: the broker decides.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..] = Some(Vec::new()),
    }

    /// One of [`CreatePartitionsTopic::assignments`].
    pub struct CreatePartitionsAssignment {
        /// Brokers that hold the partition, the leader to be first.
        broker_ids: Vec<i32> [0..],
    }

    /// Which topics got them.
    pub struct CreatePartitionsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The outcome for each of them.
        results: Vec<CreatePartitionsTopicResult> [0..],
    }

    /// One of [`CreatePartitionsResponse::results`].
    pub struct CreatePartitionsTopicResult {
        /// Name of the topic.
        name: String [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..],
    }
}
