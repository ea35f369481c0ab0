//! Fetch (1): reads records of partitions.

use crate::log::wire::{ApiKey, ErrorCode, Records, Request, Uuid, Versions};

impl Request for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: Versions = Versions { min: 4, max: 18, flexible: 12 };
    type Response = FetchResponse;
}

message! {
    /// Reads records from offsets on, and may wait for some.
    pub struct FetchRequest {
        /// Id of the cluster, if known.
        cluster_id: Option<String> [12..; tag 0],
        /// Broker that fetches as a follower; -1 for a client.
        replica_id: i32 [0..=14; strict] = -1,
        /// Who fetches, if it is a broker.
        replica_state: ReplicaState [15..; tag 1; strict],
        /// How long the broker may wait for `min_bytes`, in ms.
        max_wait_ms: i32 [0..],
        /// Answer as soon as there are so many bytes of records.
        min_bytes: i32 [0..],
        /// Most bytes of records in the answer; one batch is sent even if it is larger (KIP-74).
        max_bytes: i32 [3..] = i32::MAX,
        /// 0: all records up to the high watermark; 1: those of committed transactions only.
        isolation_level: i8 [4..],
        /// The fetch session (KIP-227); 0 for none.
        session_id: i32 [7..],
        /// Number of the request in the fetch session; 0 opens one, -1 does without.
        session_epoch: i32 [7..] = -1,
        /// The topics.
        topics: Vec<FetchTopic> [0..],
        /// Partitions that leave the fetch session.
        forgotten_topics_data: Vec<ForgottenTopic> [7..; strict],
        /// Rack or zone that the client stands in.
        rack_id: String [11..],
    }

    /// See [`FetchRequest::replica_state`].
    pub struct ReplicaState {
        /// Broker that fetches as a follower; -1 for a client.
        replica_id: i32 [15..] = -1,
        /// Epoch of the broker that fetches, or -1.
        replica_epoch: i64 [15..] = -1,
    }

    /// One of [`FetchRequest::topics`].
    pub struct FetchTopic {
        /// Name of the topic.
        topic: String [0..=12],
        /// Id of the topic; zero for none.
        topic_id: Uuid [13..],
        /// The partitions.
        partitions: Vec<FetchPartition> [0..],
    }

    /// One of [`FetchTopic::partitions`].
    pub struct FetchPartition {
        /// Number of the partition.
        partition: i32 [0..],
        /// Epoch of the leader that the client knows, or -1; a leader of another epoch refuses.
        current_leader_epoch: i32 [9..] = -1,
        /// The first offset that is wanted.
        fetch_offset: i64 [0..],
        /// Leader epoch of the record before the offset, or -1: shows a log that has diverged.
        last_fetched_epoch: i32 [12..; strict] = -1,
        /// Offset of the first record that is kept; -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// Most bytes of records of this partition; one batch is sent even if it is larger (KIP-74).
        partition_max_bytes: i32 [0..],
        /// Directory that a follower keeps the partition in.
        replica_directory_id: Uuid [17..; tag 0],
        /// Offset up to which records are on all replicas in sync.
        high_watermark: i64 [18..; tag 1] = i64::MAX,
    }

    /// One of [`FetchRequest::forgotten_topics_data`].
    pub struct ForgottenTopic {
        /// Name of the topic.
        topic: String [7..=12],
        /// Id of the topic; zero for none.
        topic_id: Uuid [13..],
        /// The partitions.
        partitions: Vec<i32> [7..],
    }

    /// Records, as the log has them: a batch may begin before the offset that was asked for.
    pub struct FetchResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// What went wrong, or 0.
        error_code: ErrorCode [7..],
        /// The fetch session (KIP-227); 0 for none.
        session_id: i32 [7..],
        /// The outcome for each topic.
        responses: Vec<FetchableTopicResponse> [0..],
        /// Where the new leaders are.
        node_endpoints: Vec<NodeEndpoint> [16..; tag 0],
    }

    /// One of [`FetchResponse::responses`].
    pub struct FetchableTopicResponse {
        /// Name of the topic.
        topic: String [0..=12],
        /// Id of the topic; zero for none.
        topic_id: Uuid [13..],
        /// The partitions.
        partitions: Vec<PartitionData> [0..],
    }

    /// One of [`FetchableTopicResponse::partitions`].
    pub struct PartitionData {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Offset up to which records are on all replicas in sync.
        high_watermark: i64 [0..],
        /// Offset before which all transactions are decided; -1 if unknown.
        last_stable_offset: i64 [4..] = -1,
        /// Offset of the first record that is kept; -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// Where the reader's log parts from the leader's, if it does.
        diverging_epoch: EpochEndOffset [12..; tag 0],
        /// The leader, if it is not the node that answers.
        current_leader: LeaderIdAndEpoch [12..; tag 1],
        /// Snapshot to fetch instead, in the metadata log.
        snapshot_id: SnapshotId [12..; tag 2],
        /// Transactions that were aborted in this range, for readers of committed records to leave out.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..] = Some(Vec::new()),
        /// Replica that is nearer and should be read from instead, or -1.
        preferred_read_replica: i32 [11..] = -1,
        /// Record batches, back to back.
        records: Records [0..],
    }

    /// See [`PartitionData::diverging_epoch`].
    pub struct EpochEndOffset {
        /// The epoch, or -1.
        epoch: i32 [12..] = -1,
        /// Offset after the last record of that epoch; -1 if unknown.
        end_offset: i64 [12..] = -1,
    }

    /// See [`PartitionData::current_leader`].
    pub struct LeaderIdAndEpoch {
        /// Node that leads the partition, or -1.
        leader_id: i32 [12..] = -1,
        /// Epoch of the leader, or -1.
        leader_epoch: i32 [12..] = -1,
    }

    /// See [`PartitionData::snapshot_id`].
    pub struct SnapshotId {
        /// Offset after the last record of that epoch; -1 if unknown.
        end_offset: i64 [0..] = -1,
        /// The epoch, or -1.
        epoch: i32 [0..] = -1,
    }

    /// One of [`PartitionData::aborted_transactions`].
    pub struct AbortedTransaction {
        /// Id of the producer; -1 for none.
        producer_id: i64 [4..],
        /// Offset of the transaction's first record.
        first_offset: i64 [4..],
    }

    /// One of [`FetchResponse::node_endpoints`].
    pub struct NodeEndpoint {
        /// Id of the node; -1 for none.
        node_id: i32 [16..],
        /// Host name or address.
        host: String [16..],
        /// Port.
        port: i32 [16..],
        /// Rack or zone that it stands in, or null.
        rack: Option<String> [16..],
    }
}
