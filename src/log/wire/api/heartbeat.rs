//! Heartbeat (12): a member of a classic group is alive.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for HeartbeatRequest {
    const KEY: ApiKey = ApiKey::Heartbeat;
    const VERSIONS: Versions = Versions { min: 0, max: 4, flexible: 4 };
    type Response = HeartbeatResponse;
}

message! {
    /// Shows that a member is alive.
    pub struct HeartbeatRequest {
        /// Name of the group.
        group_id: String [0..],
        /// Generation of the group: counts its rebalances.
        generation_id: i32 [0..],
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [3..; strict],
    }

    /// Whether the member is still in, or has to join again.
    pub struct HeartbeatResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
