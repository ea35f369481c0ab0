//! AddOffsetsToTxn (25): a group's offsets become part of a transaction.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for AddOffsetsToTxnRequest {
    const KEY: ApiKey = ApiKey::AddOffsetsToTxn;
    const VERSIONS: Versions = Versions { min: 0, max: 4, flexible: 3 };
    type Response = AddOffsetsToTxnResponse;
}

message! {
    /// Makes the offsets of a group part of a transaction.
    pub struct AddOffsetsToTxnRequest {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: String [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..],
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [0..],
        /// Name of the group.
        group_id: String [0..],
    }

    /// Whether they are.
    pub struct AddOffsetsToTxnResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
