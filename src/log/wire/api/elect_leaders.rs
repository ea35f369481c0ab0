//! ElectLeaders (43): elects leaders of partitions.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for ElectLeadersRequest {
    const KEY: ApiKey = ApiKey::ElectLeaders;
    const VERSIONS: Versions = Versions { min: 0, max: 2, flexible: 2 };
    type Response = ElectLeadersResponse;
}

message! {
    /// Has leaders elected.
    pub struct ElectLeadersRequest {
        /// 0: the preferred replica; 1: any replica, records may be lost.
        election_type: i8 [1..; strict],
        /// Partitions by topic.
        topic_partitions: Option<Vec<TopicPartitions>> [0..] = Some(Vec::new()),
        /// How long the broker may take, in ms.
        timeout_ms: i32 [0..] = 60000,
    }

    /// One of [`ElectLeadersRequest::topic_partitions`].
    pub struct TopicPartitions {
        /// Name of the topic.
        topic: String [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }

    /// Which were.
    pub struct ElectLeadersResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [1..],
        /// The outcome for each topic.
        replica_election_results: Vec<ReplicaElectionResult> [0..],
    }

    /// One of [`ElectLeadersResponse::replica_election_results`].
    pub struct ReplicaElectionResult {
        /// Name of the topic.
        topic: String [0..],
        /// The outcome for each partition.
        partition_result: Vec<PartitionResult> [0..],
    }

    /// One of [`ReplicaElectionResult::partition_result`].
    pub struct PartitionResult {
        /// Number of the partition.
        partition_id: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
    }
}
