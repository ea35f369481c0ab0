//! CreateTopics (19): creates topics.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for CreateTopicsRequest {
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: Versions = Versions { min: 2, max: 7, flexible: 5 };
    type Response = CreateTopicsResponse;
}

message! {
    /// Creates topics.
    pub struct CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic> [0..],
        /// How long the broker may take, in ms.
        timeout_ms: i32 [0..] = 60000,
        /// Only check whether it could be done.
        validate_only: bool [1..],
    }

    /// One of [`CreateTopicsRequest::topics`].
    pub struct CreatableTopic {
        /// Name of the topic.
        name: String [0..],
        /// How many partitions; -1 for the broker's default.
        num_partitions: i32 [0..],
        /// How many replicas each partition has; -1 for the broker's default.
        replication_factor: i16 [0..],
        /// Where its partitions go; empty: the broker decides.
        assignments: Vec<CreatableReplicaAssignment> [0..],
        /// Settings by name.
        configs: Vec<CreatableTopicConfig> [0..],
    }

    /// One of [`CreatableTopic::assignments`].
    pub struct CreatableReplicaAssignment {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Brokers that hold the partition, the leader to be first.
        broker_ids: Vec<i32> [0..],
    }

    /// One of [`CreatableTopic::configs`].
    pub struct CreatableTopicConfig {
        /// Name of the setting.
        name: String [0..],
        /// The value; null for the default.
        value: Option<String> [0..] = Some(String::new()),
    }

    /// Which were created.
    pub struct CreateTopicsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [2..],
        /// The topics.
        topics: Vec<CreatableTopicResult> [0..],
    }

    /// One of [`CreateTopicsResponse::topics`].
    pub struct CreatableTopicResult {
        /// Name of the topic.
        name: String [0..],
        /// Id of the topic; zero for none.
        topic_id: Uuid [7..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [1..] = Some(String::new()),
        /// Why the settings are not told, or 0.
        topic_config_error_code: ErrorCode [5..; tag 0],
        /// How many partitions; -1 for the broker's default.
        num_partitions: i32 [5..] = -1,
        /// How many replicas each partition has; -1 for the broker's default.
        replication_factor: i16 [5..] = -1,
        /// Settings by name.
        configs: Option<Vec<CreatableTopicConfigs>> [5..] = Some(Vec::new()),
    }

    /// One of [`CreatableTopicResult::configs`].
    pub struct CreatableTopicConfigs {
        /// Name of the setting.
        name: String [5..],
        /// The value; null for the default.
        value: Option<String> [5..] = Some(String::new()),
        /// It cannot be changed.
        read_only: bool [5..],
        /// Where the value comes from: see [`ConfigSource`](crate::log::wire::api::ConfigSource).
        config_source: i8 [5..] = -1,
        /// The value is secret, and not told.
        is_sensitive: bool [5..],
    }
}
