//! Metadata (3): brokers, topics, partitions and their leaders.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: Versions = Versions { min: 0, max: 13, flexible: 9 };
    type Response = MetadataResponse;
}

message! {
    /// Asks who leads which partition.
    pub struct MetadataRequest {
        /// The topics.
        topics: Option<Vec<MetadataRequestTopic>> [0..; null 1..] = Some(Vec::new()),
        /// The broker may create topics that are asked for and do not exist.
        allow_auto_topic_creation: bool [4..; strict] = true,
        /// Say what the user may do to the cluster.
        include_cluster_authorized_operations: bool [8..=10; strict],
        /// Say what the user may do to each topic.
        include_topic_authorized_operations: bool [8..; strict],
    }

    /// One of [`MetadataRequest::topics`].
    pub struct MetadataRequestTopic {
        /// Id of the topic; zero for none.
        topic_id: Uuid [10..],
        /// Name of the topic.
        name: Option<String> [0..; null 10..] = Some(String::new()),
    }

    /// The cluster as the broker sees it.
    pub struct MetadataResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [3..],
        /// The brokers of the cluster.
        brokers: Vec<MetadataResponseBroker> [0..],
        /// Id of the cluster, if known.
        cluster_id: Option<String> [2..],
        /// Node that administers the cluster, or -1.
        controller_id: i32 [1..] = -1,
        /// The topics.
        topics: Vec<MetadataResponseTopic> [0..],
        /// What the user may do to the cluster, as bits; `i32::MIN` when that was not asked for.
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        /// What went wrong, or 0.
        error_code: ErrorCode [13..],
    }

    /// One of [`MetadataResponse::brokers`].
    pub struct MetadataResponseBroker {
        /// Id of the node; -1 for none.
        node_id: i32 [0..],
        /// Host name or address.
        host: String [0..],
        /// Port.
        port: i32 [0..],
        /// Rack or zone that it stands in, or null.
        rack: Option<String> [1..],
    }

    /// One of [`MetadataResponse::topics`].
    pub struct MetadataResponseTopic {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Name of the topic.
        name: Option<String> [0..; null 12..] = Some(String::new()),
        /// Id of the topic; zero for none.
        topic_id: Uuid [10..],
        /// The broker keeps its own state in it.
        is_internal: bool [1..],
        /// The partitions.
        partitions: Vec<MetadataResponsePartition> [0..],
        /// What the user may do to the topic, as bits; `i32::MIN` when that was not asked for.
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// One of [`MetadataResponseTopic::partitions`].
    pub struct MetadataResponsePartition {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Number of the partition.
        partition_index: i32 [0..],
        /// Node that leads the partition, or -1.
        leader_id: i32 [0..],
        /// Epoch of the leader, or -1.
        leader_epoch: i32 [7..] = -1,
        /// All replicas.
        replica_nodes: Vec<i32> [0..],
        /// Replicas in sync.
        isr_nodes: Vec<i32> [0..],
        /// Replicas that cannot be reached.
        offline_replicas: Vec<i32> [5..],
    }
}
