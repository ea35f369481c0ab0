//! LeaveGroup (13): members leave a classic group.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for LeaveGroupRequest {
    const KEY: ApiKey = ApiKey::LeaveGroup;
    const VERSIONS: Versions = Versions { min: 0, max: 5, flexible: 4 };
    type Response = LeaveGroupResponse;
}

message! {
    /// Leaves a group. Versions up to 2 name one member.
    pub struct LeaveGroupRequest {
        /// Name of the group.
        group_id: String [0..],
        /// Id of the member; empty before it has one.
        member_id: String [0..=2; strict],
        /// The members.
        members: Vec<MemberIdentity> [3..; strict],
    }

    /// One of [`LeaveGroupRequest::members`].
    pub struct MemberIdentity {
        /// Id of the member; empty before it has one.
        member_id: String [3..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [3..],
        /// Why, for the broker's log.
        reason: Option<String> [5..],
    }

    /// Whether they were in it.
    pub struct LeaveGroupResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// The members.
        members: Vec<MemberResponse> [3..; strict],
    }

    /// One of [`LeaveGroupResponse::members`].
    pub struct MemberResponse {
        /// Id of the member; empty before it has one.
        member_id: String [3..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [3..] = Some(String::new()),
        /// What went wrong, or 0.
        error_code: ErrorCode [3..],
    }
}
