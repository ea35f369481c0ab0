//! DescribeTransactions (65): transactions in detail.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeTransactionsRequest {
    const KEY: ApiKey = ApiKey::DescribeTransactions;
    const VERSIONS: Versions = Versions { min: 0, max: 0, flexible: 0 };
    type Response = DescribeTransactionsResponse;
}

message! {
    /// Asks for transactions in detail.
    pub struct DescribeTransactionsRequest {
        /// The transactional ids.
        transactional_ids: Vec<String> [0..],
    }

    /// The transactions.
    pub struct DescribeTransactionsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The transactions.
        transaction_states: Vec<TransactionState> [0..],
    }

    /// One of [`DescribeTransactionsResponse::transaction_states`].
    pub struct TransactionState {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [0..],
        /// State of the transaction, as `Ongoing`.
        transaction_state: String [0..],
        /// The coordinator aborts a transaction that is open for so many ms.
        transaction_timeout_ms: i32 [0..],
        /// When it began, in ms since 1970, or -1.
        transaction_start_time_ms: i64 [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..],
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [0..],
        /// The topics.
        topics: Vec<TopicData> [0..],
    }

    /// One of [`TransactionState::topics`].
    pub struct TopicData {
        /// Name of the topic.
        topic: String [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }
}
