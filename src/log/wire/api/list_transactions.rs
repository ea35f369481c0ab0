//! ListTransactions (66): which transactions there are.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for ListTransactionsRequest {
    const KEY: ApiKey = ApiKey::ListTransactions;
    const VERSIONS: Versions = Versions { min: 0, max: 2, flexible: 0 };
    type Response = ListTransactionsResponse;
}

message! {
    /// Asks for the transactions that this broker coordinates.
    pub struct ListTransactionsRequest {
        /// Only transactions in these states; empty for all.
        state_filters: Vec<String> [0..],
        /// Only transactions of these producers; empty for all.
        producer_id_filters: Vec<i64> [0..],
        /// Only transactions that have been open for more than so many ms; -1 for all.
        duration_filter: i64 [1..; strict] = -1,
        /// Only transactional ids that match this regular expression; null for all.
        transactional_id_pattern: Option<String> [2..; strict],
    }

    /// The transactions.
    pub struct ListTransactionsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// States in the request that the coordinator does not know.
        unknown_state_filters: Vec<String> [0..],
        /// The transactions.
        transaction_states: Vec<TransactionState> [0..],
    }

    /// One of [`ListTransactionsResponse::transaction_states`].
    pub struct TransactionState {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..],
        /// State of the transaction, as `Ongoing`.
        transaction_state: String [0..],
    }
}
