//! JoinGroup (11): a member joins a classic group.

use bytes::Bytes;

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for JoinGroupRequest {
    const KEY: ApiKey = ApiKey::JoinGroup;
    const VERSIONS: Versions = Versions { min: 0, max: 9, flexible: 6 };
    type Response = JoinGroupResponse;
}

message! {
    /// Joins a group, or joins it again when it is divided anew.
    pub struct JoinGroupRequest {
        /// Name of the group.
        group_id: String [0..],
        /// A member that sends no heartbeat for so many ms is out.
        session_timeout_ms: i32 [0..],
        /// How long members have to join again, in ms.
        rebalance_timeout_ms: i32 [1..] = -1,
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [5..; strict],
        /// What kind of group it is: `consumer`, or a word of somebody's own.
        protocol_type: String [0..],
        /// Ways of dividing partitions that the member knows, the preferred first.
        protocols: Vec<JoinGroupRequestProtocol> [0..],
        /// Why, for the broker's log.
        reason: Option<String> [8..],
    }

    /// One of [`JoinGroupRequest::protocols`].
    pub struct JoinGroupRequestProtocol {
        /// Name of the protocol.
        name: String [0..],
        /// What the member says in that protocol.
        metadata: Bytes [0..],
    }

    /// Who is in the group; the leader is told everybody's subscription.
    pub struct JoinGroupResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [2..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// Generation of the group: counts its rebalances.
        generation_id: i32 [0..] = -1,
        /// What kind of group it is: `consumer`, or a word of somebody's own.
        protocol_type: Option<String> [7..],
        /// The protocol that all members have in common.
        protocol_name: Option<String> [0..; null 7..] = Some(String::new()),
        /// Member that divides the partitions.
        leader: String [0..],
        /// The leader need not divide: nothing has changed.
        skip_assignment: bool [9..],
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// The members.
        members: Vec<JoinGroupResponseMember> [0..],
    }

    /// One of [`JoinGroupResponse::members`].
    pub struct JoinGroupResponseMember {
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [5..],
        /// What the member said in the chosen protocol.
        metadata: Bytes [0..],
    }
}
