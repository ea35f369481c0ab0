//! Produce (0): appends records to partitions.

use crate::log::wire::{ApiKey, ErrorCode, Records, Request, Uuid, Versions};

impl Request for ProduceRequest {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: Versions = Versions { min: 3, max: 13, flexible: 9 };
    type Response = ProduceResponse;
}

message! {
    /// Appends record batches to partitions. With `acks` 0 there is no response.
    pub struct ProduceRequest {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: Option<String> [3..],
        /// Who must have the records before the answer: 0 nobody (there is no answer), 1 the leader, -1 all
        /// replicas in sync.
        acks: i16 [0..],
        /// How long the broker may take, in ms.
        timeout_ms: i32 [0..],
        /// Records for each topic.
        topic_data: Vec<TopicProduceData> [0..],
    }

    /// One of [`ProduceRequest::topic_data`].
    pub struct TopicProduceData {
        /// Name of the topic.
        name: String [0..=12],
        /// Id of the topic; zero for none.
        topic_id: Uuid [13..],
        /// Records for each partition.
        partition_data: Vec<PartitionProduceData> [0..],
    }

    /// One of [`TopicProduceData::partition_data`].
    pub struct PartitionProduceData {
        /// Number of the partition.
        index: i32 [0..],
        /// Record batches, back to back.
        records: Records [0..],
    }

    /// Where the records went.
    pub struct ProduceResponse {
        /// The outcome for each topic.
        responses: Vec<TopicProduceResponse> [0..],
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// Where the new leaders are.
        node_endpoints: Vec<NodeEndpoint> [10..; tag 0],
    }

    /// One of [`ProduceResponse::responses`].
    pub struct TopicProduceResponse {
        /// Name of the topic.
        name: String [0..=12],
        /// Id of the topic; zero for none.
        topic_id: Uuid [13..],
        /// The outcome for each partition.
        partition_responses: Vec<PartitionProduceResponse> [0..],
    }

    /// One of [`TopicProduceResponse::partition_responses`].
    pub struct PartitionProduceResponse {
        /// Number of the partition.
        index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// The offset that the first record got; -1 if there was an error.
        base_offset: i64 [0..],
        /// When the records were appended, in ms since 1970, if the topic takes the time of the append; or
        /// -1.
        log_append_time_ms: i64 [2..] = -1,
        /// Offset of the first record that is kept; -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// Records that made the broker refuse the batch.
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        /// What went wrong in words, or null.
        error_message: Option<String> [8..],
        /// The leader, if it is not the node that answers.
        current_leader: LeaderIdAndEpoch [10..; tag 0],
    }

    /// One of [`PartitionProduceResponse::record_errors`].
    pub struct BatchIndexAndErrorMessage {
        /// Place of the record in the batch.
        batch_index: i32 [8..],
        /// What is wrong with it.
        batch_index_error_message: Option<String> [8..],
    }

    /// See [`PartitionProduceResponse::current_leader`].
    pub struct LeaderIdAndEpoch {
        /// Node that leads the partition, or -1.
        leader_id: i32 [10..] = -1,
        /// Epoch of the leader, or -1.
        leader_epoch: i32 [10..] = -1,
    }

    /// One of [`ProduceResponse::node_endpoints`].
    pub struct NodeEndpoint {
        /// Id of the node; -1 for none.
        node_id: i32 [10..],
        /// Host name or address.
        host: String [10..],
        /// Port.
        port: i32 [10..],
        /// Rack or zone that it stands in, or null.
        rack: Option<String> [10..],
    }
}
