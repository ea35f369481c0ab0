//! FindCoordinator (10): who coordinates a group or transactional id.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for FindCoordinatorRequest {
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VERSIONS: Versions = Versions { min: 0, max: 6, flexible: 3 };
    type Response = FindCoordinatorResponse;
}

message! {
    /// Asks for coordinators. Versions up to 3 ask for one.
    pub struct FindCoordinatorRequest {
        /// Group or transactional id.
        key: String [0..=3; strict],
        /// 0 for groups, 1 for transactions, 2 for share groups.
        key_type: i8 [1..; strict],
        /// Groups or transactional ids whose coordinators are asked for.
        coordinator_keys: Vec<String> [4..; strict],
    }

    /// The coordinators. Versions up to 3 answer for one.
    pub struct FindCoordinatorResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..=3],
        /// What went wrong in words, or null.
        error_message: Option<String> [1..=3] = Some(String::new()),
        /// Id of the node; -1 for none.
        node_id: i32 [0..=3],
        /// Host name or address.
        host: String [0..=3],
        /// Port.
        port: i32 [0..=3],
        /// A coordinator, or an error, for each key.
        coordinators: Vec<Coordinator> [4..; strict],
    }

    /// One of [`FindCoordinatorResponse::coordinators`].
    pub struct Coordinator {
        /// Group or transactional id.
        key: String [4..],
        /// Id of the node; -1 for none.
        node_id: i32 [4..],
        /// Host name or address.
        host: String [4..],
        /// Port.
        port: i32 [4..],
        /// What went wrong, or 0.
        error_code: ErrorCode [4..],
        /// What went wrong in words, or null.
        error_message: Option<String> [4..] = Some(String::new()),
    }
}
