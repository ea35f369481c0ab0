//! The APIs of access rules.

use std::net::IpAddr;
use std::sync::Arc;

use super::answer::{Head, Pending};
use super::guard::Rule;
use super::session::Session;
use crate::log::engine::access::{CLUSTER, Entry, Filter, Pattern, operations};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::create_acls::{
    AclCreation, AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};
use crate::log::wire::api::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest, DeleteAclsResponse,
};
use crate::log::wire::api::describe_acls::{
    AclDescription, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use crate::log::wire::api::{AclOperation, AclPermission, PatternType, ResourceType};

/// Longest name, principal or host in a rule, in bytes.
const WORD_BYTES_MAX: usize = 4096;

type Refusal = (ErrorCode, String);

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err((ErrorCode::INVALID_REQUEST, message.into()))
}

/// Why someone may not look at rules, or change them.
fn refused(operation: AclOperation) -> Refusal {
    (ErrorCode::CLUSTER_AUTHORIZATION_FAILED, format!("needs '{operation}' on the cluster"))
}

/// What is asked for, as numbers of the wire.
struct Asked {
    kind: i8,
    name: Option<String>,
    pattern: i8,
    principal: Option<String>,
    host: Option<String>,
    operation: i8,
    permission: i8,
}

impl Asked {
    fn filter(self) -> Result<Filter, Refusal> {
        let known = (
            ResourceType::from_code(self.kind).filter(|kind| *kind != ResourceType::Unknown),
            PatternType::from_code(self.pattern).filter(|pattern| *pattern != PatternType::Unknown),
            AclOperation::from_code(self.operation).filter(|operation| *operation != AclOperation::Unknown),
            AclPermission::from_code(self.permission).filter(|kind| *kind != AclPermission::Unknown),
        );
        let (Some(kind), Some(pattern), Some(operation), Some(permission)) = known else {
            return invalid("The AclBindingFilter must not contain UNKNOWN elements.");
        };
        let (name, principal) = (self.name, self.principal);
        let host = self.host.map(|host| canonical(&host).unwrap_or(host));
        Ok(Filter { kind, name, pattern, principal, host, operation, permission })
    }
}

/// `DescribeAcls`.
pub(super) fn describe(session: &Session, head: Head, request: DescribeAclsRequest) -> Pending {
    let asked = Asked {
        kind: request.resource_type_filter,
        name: request.resource_name_filter,
        pattern: request.pattern_type_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    };
    let filter = match session.may_cluster(AclOperation::Describe) {
        true => asked.filter(),
        false => Err(refused(AclOperation::Describe)),
    };
    let response = match filter {
        Err((error_code, message)) => DescribeAclsResponse {
            error_code,
            error_message: Some(message),
            ..DescribeAclsResponse::default()
        },
        Ok(filter) => {
            let found = session.broker.guard.find(&filter);
            DescribeAclsResponse { error_message: None, resources: by_pattern(found), ..Default::default() }
        }
    };
    Pending::ready::<DescribeAclsRequest>(head, &response)
}

fn by_pattern(rules: Vec<Rule>) -> Vec<DescribeAclsResource> {
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for (pattern, entry) in rules {
        let (kind, how) = (pattern.kind as i8, pattern.pattern as i8);
        let acl = AclDescription {
            principal: entry.principal,
            host: entry.host,
            operation: entry.operation as i8,
            permission_type: entry.permission as i8,
        };
        match resources.last_mut() {
            Some(last)
                if (last.resource_type, &last.resource_name, last.pattern_type)
                    == (kind, &pattern.name, how) =>
            {
                last.acls.push(acl);
            }
            _ => resources.push(DescribeAclsResource {
                resource_type: kind,
                resource_name: pattern.name,
                pattern_type: how,
                acls: vec![acl],
            }),
        }
    }
    resources
}

/// `CreateAcls`.
pub(super) fn create(session: &Arc<Session>, head: Head, request: CreateAclsRequest) -> Pending {
    let broker = &session.broker;
    let may = session.may_cluster(AclOperation::Alter);
    let read = |creation: &AclCreation| if may { rule(creation) } else { Err(refused(AclOperation::Alter)) };
    let rules: Vec<Result<Rule, Refusal>> = request.creations.iter().map(read).collect();
    let new: Vec<Rule> = rules.iter().filter_map(|rule| rule.as_ref().ok()).cloned().collect();
    let end = broker.guard.add(&new).map_err(|failed| (failed.error, failed.message));
    let result = |rule: Result<Rule, Refusal>| match rule.map(|_| ()).and(end.clone().map(|_| ())) {
        Ok(()) => AclCreationResult { error_code: ErrorCode::NONE, error_message: None },
        Err((error_code, message)) => AclCreationResult { error_code, error_message: Some(message) },
    };
    let response =
        CreateAclsResponse { results: rules.into_iter().map(result).collect(), ..Default::default() };
    Pending::when_defined::<CreateAclsRequest>(&broker.definitions, end.ok(), head, response)
}

/// A rule as it can be: of a known kind, and about operations that the kind has.
fn rule(asked: &AclCreation) -> Result<Rule, Refusal> {
    use AclOperation as Op;
    let kind = match ResourceType::from_code(asked.resource_type) {
        None | Some(ResourceType::Unknown | ResourceType::Any) => return invalid("Invalid resource type"),
        Some(kind) => kind,
    };
    let pattern = match PatternType::from_code(asked.resource_pattern_type) {
        Some(pattern @ (PatternType::Literal | PatternType::Prefixed)) => pattern,
        _ => return invalid("Invalid pattern type"),
    };
    let operation = match Op::from_code(asked.operation) {
        None | Some(Op::Unknown | Op::Any) => return invalid("Invalid operation type"),
        Some(operation) => operation,
    };
    let permission = match AclPermission::from_code(asked.permission_type) {
        Some(permission @ (AclPermission::Allow | AclPermission::Deny)) => permission,
        _ => return invalid("Invalid permission type"),
    };
    if operation != Op::All && !operations(kind).contains(&operation) {
        return invalid(format!("'{operation}' cannot be done to a {kind}"));
    }
    if kind == ResourceType::Cluster && asked.resource_name != CLUSTER {
        return invalid(format!("The only valid name for the CLUSTER resource is {CLUSTER}"));
    }
    if asked.resource_name.is_empty() {
        return invalid("Resource name must not be empty");
    }
    if !asked.principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
        return invalid(format!("a principal is TYPE:NAME, as User:alice; got '{}'", asked.principal));
    }
    let Some(host) = canonical(&asked.host) else {
        return invalid(format!("a host is an address, or * for all; got '{}'", asked.host));
    };
    if [&asked.resource_name, &asked.principal].into_iter().any(|word| word.len() > WORD_BYTES_MAX) {
        return invalid(format!("names in rules have up to {WORD_BYTES_MAX} bytes"));
    }
    let pattern = Pattern { kind, name: asked.resource_name.clone(), pattern };
    Ok((pattern, Entry { principal: asked.principal.clone(), host, operation, permission }))
}

/// A host as a peer's address is written; none if it is neither an address nor `*`.
fn canonical(host: &str) -> Option<String> {
    match host {
        "*" => Some(host.to_owned()),
        _ => host.parse::<IpAddr>().ok().map(|address| address.to_canonical().to_string()),
    }
}

/// `DeleteAcls`.
pub(super) fn delete(session: &Arc<Session>, head: Head, request: DeleteAclsRequest) -> Pending {
    let broker = &session.broker;
    let may = session.may_cluster(AclOperation::Alter);
    let mut end = None;
    let filter_results = request.filters.into_iter().map(|filter| {
        let asked = Asked {
            kind: filter.resource_type_filter,
            name: filter.resource_name_filter,
            pattern: filter.pattern_type_filter,
            principal: filter.principal_filter,
            host: filter.host_filter,
            operation: filter.operation,
            permission: filter.permission_type,
        };
        let removed = match may {
            false => Err(refused(AclOperation::Alter)),
            true => asked.filter().and_then(|filter| {
                let removed = broker.guard.remove(&filter);
                let (gone, safe) = removed.map_err(|failed| (failed.error, failed.message))?;
                end = end.max(Some(safe));
                Ok(gone)
            }),
        };
        match removed {
            Err((error_code, message)) => {
                DeleteAclsFilterResult { error_code, error_message: Some(message), matching_acls: Vec::new() }
            }
            Ok(gone) => DeleteAclsFilterResult {
                error_code: ErrorCode::NONE,
                error_message: None,
                matching_acls: gone.into_iter().map(matching).collect(),
            },
        }
    });
    let response =
        DeleteAclsResponse { filter_results: filter_results.collect(), ..DeleteAclsResponse::default() };
    Pending::when_defined::<DeleteAclsRequest>(&broker.definitions, end, head, response)
}

fn matching((pattern, entry): Rule) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_code: ErrorCode::NONE,
        error_message: None,
        resource_type: pattern.kind as i8,
        resource_name: pattern.name,
        pattern_type: pattern.pattern as i8,
        principal: entry.principal,
        host: entry.host,
        operation: entry.operation as i8,
        permission_type: entry.permission as i8,
    }
}
