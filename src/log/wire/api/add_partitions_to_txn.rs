//! AddPartitionsToTxn (24): partitions become part of a transaction.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for AddPartitionsToTxnRequest {
    const KEY: ApiKey = ApiKey::AddPartitionsToTxn;
    const VERSIONS: Versions = Versions { min: 0, max: 5, flexible: 3 };
    type Response = AddPartitionsToTxnResponse;
}

message! {
    /// Adds partitions to transactions: one of them up to version 3, several from version 4 on.
    pub struct AddPartitionsToTxnRequest {
        /// The transactions, from version 4 on.
        transactions: Vec<AddPartitionsToTxnTransaction> [4..; strict],
        /// The transactional id, up to version 3.
        v3_and_below_transactional_id: String [0..=3; strict],
        /// Id of the producer, up to version 3.
        v3_and_below_producer_id: i64 [0..=3; strict],
        /// Epoch of the producer, up to version 3.
        v3_and_below_producer_epoch: i16 [0..=3; strict],
        /// The partitions to add, up to version 3.
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [0..=3; strict],
    }

    /// One of [`AddPartitionsToTxnRequest::transactions`].
    pub struct AddPartitionsToTxnTransaction {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [4..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [4..],
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [4..],
        /// Only check whether they are in the transaction.
        verify_only: bool [4..],
        /// The topics.
        topics: Vec<AddPartitionsToTxnTopic> [4..],
    }

    /// One of [`AddPartitionsToTxnTransaction::topics`].
    pub struct AddPartitionsToTxnTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }

    /// Which were added.
    pub struct AddPartitionsToTxnResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [4..],
        /// The outcome for each transaction.
        results_by_transaction: Vec<AddPartitionsToTxnResult> [4..; strict],
        /// The outcome for each topic, up to version 3.
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [0..=3; strict],
    }

    /// One of [`AddPartitionsToTxnResponse::results_by_transaction`].
    pub struct AddPartitionsToTxnResult {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [4..],
        /// The outcome for each topic.
        topic_results: Vec<AddPartitionsToTxnTopicResult> [4..],
    }

    /// One of [`AddPartitionsToTxnResult::topic_results`].
    pub struct AddPartitionsToTxnTopicResult {
        /// Name of the topic.
        name: String [0..],
        /// The outcome for each partition.
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> [0..],
    }

    /// One of [`AddPartitionsToTxnTopicResult::results_by_partition`].
    pub struct AddPartitionsToTxnPartitionResult {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        partition_error_code: ErrorCode [0..],
    }
}
