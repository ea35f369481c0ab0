//! DescribeTopicPartitions (75): topics in detail, page by page.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for DescribeTopicPartitionsRequest {
    const KEY: ApiKey = ApiKey::DescribeTopicPartitions;
    const VERSIONS: Versions = Versions { min: 0, max: 0, flexible: 0 };
    type Response = DescribeTopicPartitionsResponse;
}

message! {
    /// Asks for topics and their partitions.
    pub struct DescribeTopicPartitionsRequest {
        /// The topics.
        topics: Vec<TopicRequest> [0..],
        /// Most partitions in the answer.
        response_partition_limit: i32 [0..] = 2000,
        /// Where to begin; null for the start.
        cursor: Option<Cursor> [0..],
    }

    /// One of [`DescribeTopicPartitionsRequest::topics`].
    pub struct TopicRequest {
        /// Name of the topic.
        name: String [0..],
    }

    /// See [`DescribeTopicPartitionsRequest::cursor`].
    pub struct Cursor {
        /// Name of the topic.
        topic_name: String [0..],
        /// Number of the partition.
        partition_index: i32 [0..],
    }

    /// A page of topics.
    pub struct DescribeTopicPartitionsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0..],
        /// Where to go on; null at the end.
        next_cursor: Option<Cursor> [0..],
    }

    /// One of [`DescribeTopicPartitionsResponse::topics`].
    pub struct DescribeTopicPartitionsResponseTopic {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Name of the topic.
        name: Option<String> [0..] = Some(String::new()),
        /// Id of the topic; zero for none.
        topic_id: Uuid [0..],
        /// The broker keeps its own state in it.
        is_internal: bool [0..],
        /// The partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        /// What the user may do to the topic, as bits; `i32::MIN` when that was not asked for.
        topic_authorized_operations: i32 [0..] = i32::MIN,
    }

    /// One of [`DescribeTopicPartitionsResponseTopic::partitions`].
    pub struct DescribeTopicPartitionsResponsePartition {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Node that leads the partition, or -1.
        leader_id: i32 [0..],
        /// Epoch of the leader, or -1.
        leader_epoch: i32 [0..] = -1,
        /// All replicas.
        replica_nodes: Vec<i32> [0..],
        /// Replicas in sync.
        isr_nodes: Vec<i32> [0..],
        /// Replicas that may lead without loss although they are not in sync (KIP-966).
        eligible_leader_replicas: Option<Vec<i32>> [0..],
        /// The last replicas that were known to be eligible.
        last_known_elr: Option<Vec<i32>> [0..],
        /// Replicas that cannot be reached.
        offline_replicas: Vec<i32> [0..],
    }
}
