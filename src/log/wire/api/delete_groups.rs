//! DeleteGroups (42): deletes groups.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DeleteGroupsRequest {
    const KEY: ApiKey = ApiKey::DeleteGroups;
    const VERSIONS: Versions = Versions { min: 0, max: 2, flexible: 2 };
    type Response = DeleteGroupsResponse;
}

message! {
    /// Deletes groups that have no members.
    pub struct DeleteGroupsRequest {
        /// The groups.
        groups_names: Vec<String> [0..],
    }

    /// Which were deleted.
    pub struct DeleteGroupsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The outcome for each of them.
        results: Vec<DeletableGroupResult> [0..],
    }

    /// One of [`DeleteGroupsResponse::results`].
    pub struct DeletableGroupResult {
        /// Name of the group.
        group_id: String [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
