//! EndTxn (26): commits or aborts a transaction.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for EndTxnRequest {
    const KEY: ApiKey = ApiKey::EndTxn;
    const VERSIONS: Versions = Versions { min: 0, max: 5, flexible: 3 };
    type Response = EndTxnResponse;
}

message! {
    /// Commits or aborts a transaction.
    pub struct EndTxnRequest {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..],
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [0..],
        /// Commit; otherwise abort.
        committed: bool [0..],
    }

    /// Whether it was; from version 5 on with the epoch of the next one (KIP-890).
    pub struct EndTxnResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [5..] = -1,
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [5..] = -1,
    }
}
