//! ListGroups (16): which groups there are.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for ListGroupsRequest {
    const KEY: ApiKey = ApiKey::ListGroups;
    const VERSIONS: Versions = Versions { min: 0, max: 5, flexible: 3 };
    type Response = ListGroupsResponse;
}

message! {
    /// Asks for the groups that this broker coordinates.
    pub struct ListGroupsRequest {
        /// Only groups in these states; empty for all.
        states_filter: Vec<String> [4..; strict],
        /// Only groups of these types; empty for all.
        types_filter: Vec<String> [5..; strict],
    }

    /// The groups.
    pub struct ListGroupsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// The groups.
        groups: Vec<ListedGroup> [0..],
    }

    /// One of [`ListGroupsResponse::groups`].
    pub struct ListedGroup {
        /// Name of the group.
        group_id: String [0..],
        /// What kind of group it is: `consumer`, or a word of somebody's own.
        protocol_type: String [0..],
        /// State of the group, as `Stable` or `Empty`.
        group_state: String [4..],
        /// `classic` or `consumer`.
        group_type: String [5..],
    }
}
