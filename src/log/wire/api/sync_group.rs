//! SyncGroup (14): the division of a classic group.

use bytes::Bytes;

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for SyncGroupRequest {
    const KEY: ApiKey = ApiKey::SyncGroup;
    const VERSIONS: Versions = Versions { min: 0, max: 5, flexible: 4 };
    type Response = SyncGroupResponse;
}

message! {
    /// Asks for what the member is to read; the leader hands in the division.
    pub struct SyncGroupRequest {
        /// Name of the group.
        group_id: String [0..],
        /// Generation of the group: counts its rebalances.
        generation_id: i32 [0..],
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [3..; strict],
        /// What kind of group it is: `consumer`, or a word of somebody's own.
        protocol_type: Option<String> [5..],
        /// The protocol that all members have in common.
        protocol_name: Option<String> [5..],
        /// What each member gets; only the leader sends it.
        assignments: Vec<SyncGroupRequestAssignment> [0..],
    }

    /// One of [`SyncGroupRequest::assignments`].
    pub struct SyncGroupRequestAssignment {
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// What the member is to read, in the words of the group's protocol.
        assignment: Bytes [0..],
    }

    /// What the member is to read.
    pub struct SyncGroupResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What kind of group it is: `consumer`, or a word of somebody's own.
        protocol_type: Option<String> [5..],
        /// The protocol that all members have in common.
        protocol_name: Option<String> [5..],
        /// What the member is to read, in the words of the group's protocol.
        assignment: Bytes [0..],
    }
}
