//! InitProducerId (22): an id for an idempotent or transactional producer.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for InitProducerIdRequest {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: Versions = Versions { min: 0, max: 6, flexible: 2 };
    type Response = InitProducerIdResponse;
}

message! {
    /// Asks for a producer id; a transactional producer takes over from the one before it.
    pub struct InitProducerIdRequest {
        /// Lasting name of a transactional producer; null for others.
        transactional_id: Option<String> [0..] = Some(String::new()),
        /// The coordinator aborts a transaction that is open for so many ms.
        transaction_timeout_ms: i32 [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [3..; strict] = -1,
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [3..; strict] = -1,
        /// Transactions are to stay prepared until an outside coordinator decides (KIP-939).
        enable_2pc: bool [6..; strict],
        /// Keep a transaction that is prepared instead of aborting it (KIP-939).
        keep_prepared_txn: bool [6..; strict],
    }

    /// The id and its epoch.
    pub struct InitProducerIdResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Id of the producer; -1 for none.
        producer_id: i64 [0..] = -1,
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 [0..],
        /// Producer of the prepared transaction that was kept, or -1.
        ongoing_txn_producer_id: i64 [6..] = -1,
        /// Epoch in the prepared transaction that was kept, or -1.
        ongoing_txn_producer_epoch: i16 [6..] = -1,
    }
}
