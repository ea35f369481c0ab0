//! DescribeGroups (15): classic groups in detail.

use bytes::Bytes;

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeGroupsRequest {
    const KEY: ApiKey = ApiKey::DescribeGroups;
    const VERSIONS: Versions = Versions { min: 0, max: 6, flexible: 5 };
    type Response = DescribeGroupsResponse;
}

message! {
    /// Asks for groups in detail.
    pub struct DescribeGroupsRequest {
        /// The groups.
        groups: Vec<String> [0..],
        /// Say what the user may do to each group.
        include_authorized_operations: bool [3..; strict],
    }

    /// The groups, their members and what these read.
    pub struct DescribeGroupsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// The groups.
        groups: Vec<DescribedGroup> [0..],
    }

    /// One of [`DescribeGroupsResponse::groups`].
    pub struct DescribedGroup {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [6..],
        /// Name of the group.
        group_id: String [0..],
        /// State of the group, as `Stable` or `Empty`.
        group_state: String [0..],
        /// What kind of group it is: `consumer`, or a word of somebody's own.
        protocol_type: String [0..],
        /// The protocol that all members have in common.
        protocol_data: String [0..],
        /// The members.
        members: Vec<DescribedGroupMember> [0..],
        /// What the user may do to the group, as bits; `i32::MIN` when that was not asked for.
        authorized_operations: i32 [3..] = i32::MIN,
    }

    /// One of [`DescribedGroup::members`].
    pub struct DescribedGroupMember {
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Lasting name of a static member (KIP-345), or null.
        group_instance_id: Option<String> [4..],
        /// What the member's client calls itself.
        client_id: String [0..],
        /// Where the member's client is.
        client_host: String [0..],
        /// What the member said when it joined.
        member_metadata: Bytes [0..],
        /// What the member reads, in the words of the group's protocol.
        member_assignment: Bytes [0..],
    }
}
