//! CreateAcls (30): adds access rules.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for CreateAclsRequest {
    const KEY: ApiKey = ApiKey::CreateAcls;
    const VERSIONS: Versions = Versions { min: 1, max: 3, flexible: 2 };
    type Response = CreateAclsResponse;
}

message! {
    /// Adds access rules.
    pub struct CreateAclsRequest {
        /// The rules to add.
        creations: Vec<AclCreation> [0..],
    }

    /// One of [`CreateAclsRequest::creations`].
    pub struct AclCreation {
        /// Kind of resource: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user; 1
        /// any, in filters.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// 3 the name itself, 4 all names that begin with it.
        resource_pattern_type: i8 [1..] = 3,
        /// Who, as `User:name`.
        principal: String [0..],
        /// Host that the rule is for, or `*`.
        host: String [0..],
        /// What may be done, as a number: see [`AclOperation`](crate::log::wire::api::AclOperation).
        operation: i8 [0..],
        /// 2 deny, 3 allow; 1 any, in filters.
        permission_type: i8 [0..],
    }

    /// Which were added.
    pub struct CreateAclsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The outcome for each of them.
        results: Vec<AclCreationResult> [0..],
    }

    /// One of [`CreateAclsResponse::results`].
    pub struct AclCreationResult {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
    }
}
