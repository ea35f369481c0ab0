//! DeleteAcls (31): removes access rules.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DeleteAclsRequest {
    const KEY: ApiKey = ApiKey::DeleteAcls;
    const VERSIONS: Versions = Versions { min: 1, max: 3, flexible: 2 };
    type Response = DeleteAclsResponse;
}

message! {
    /// Removes access rules.
    pub struct DeleteAclsRequest {
        /// Which rules are to go.
        filters: Vec<DeleteAclsFilter> [0..],
    }

    /// One of [`DeleteAclsRequest::filters`].
    pub struct DeleteAclsFilter {
        /// Kind of resource: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user; 1
        /// any.
        resource_type_filter: i8 [0..],
        /// Rules for resources of this name; null for any.
        resource_name_filter: Option<String> [0..] = Some(String::new()),
        /// 1 any, 2 all that apply to the name, 3 the name itself, 4 all names that begin with it.
        pattern_type_filter: i8 [1..] = 3,
        /// Rules for this principal; null for any.
        principal_filter: Option<String> [0..] = Some(String::new()),
        /// Rules for this host; null for any.
        host_filter: Option<String> [0..] = Some(String::new()),
        /// What may be done, as a number: see [`AclOperation`](crate::log::wire::api::AclOperation).
        operation: i8 [0..],
        /// 2 deny, 3 allow; 1 any, in filters.
        permission_type: i8 [0..],
    }

    /// The rules that were removed.
    pub struct DeleteAclsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What each filter removed.
        filter_results: Vec<DeleteAclsFilterResult> [0..],
    }

    /// One of [`DeleteAclsResponse::filter_results`].
    pub struct DeleteAclsFilterResult {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// The rules that were removed.
        matching_acls: Vec<DeleteAclsMatchingAcl> [0..],
    }

    /// One of [`DeleteAclsFilterResult::matching_acls`].
    pub struct DeleteAclsMatchingAcl {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// Kind of resource: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user; 1
        /// any, in filters.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// 3 the name itself, 4 all names that begin with it.
        pattern_type: i8 [1..] = 3,
        /// Who, as `User:name`.
        principal: String [0..],
        /// Host that the rule is for, or `*`.
        host: String [0..],
        /// What may be done, as a number: see [`AclOperation`](crate::log::wire::api::AclOperation).
        operation: i8 [0..],
        /// 2 deny, 3 allow; 1 any, in filters.
        permission_type: i8 [0..],
    }
}
