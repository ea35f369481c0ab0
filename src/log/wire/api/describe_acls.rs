//! DescribeAcls (29): access rules.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeAclsRequest {
    const KEY: ApiKey = ApiKey::DescribeAcls;
    const VERSIONS: Versions = Versions { min: 1, max: 3, flexible: 2 };
    type Response = DescribeAclsResponse;
}

message! {
    /// Asks for access rules.
    pub struct DescribeAclsRequest {
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

    /// The rules that match.
    pub struct DescribeAclsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// The resources.
        resources: Vec<DescribeAclsResource> [0..],
    }

    /// One of [`DescribeAclsResponse::resources`].
    pub struct DescribeAclsResource {
        /// Kind of resource: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user; 1
        /// any, in filters.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// 3 the name itself, 4 all names that begin with it.
        pattern_type: i8 [1..] = 3,
        /// The rules.
        acls: Vec<AclDescription> [0..],
    }

    /// One of [`DescribeAclsResource::acls`].
    pub struct AclDescription {
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
