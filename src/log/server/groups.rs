//! The APIs of classic groups: from the wire to the coordinator and back.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::answer::{Head, Outgoing, Pending, encode};
use super::coordinator::{Reply, Safe};
use super::guard::authorized;
use super::session::Session;
use super::view::View;
use crate::log::engine::group::{Caller, Groups, Join, Joined, Leaver, Output, Sync, Synced};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use crate::log::wire::api::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use crate::log::wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::log::wire::api::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::log::wire::api::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use crate::log::wire::api::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use crate::log::wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::log::wire::api::{AclOperation, ResourceType};

/// From this version on a new member gets an id and joins with it (KIP-394).
const MEMBER_IDS_FROM: i16 = 4;
/// From this version on a leader can be told not to assign (KIP-814).
const SKIP_FROM: i16 = 9;
/// From this version on several members leave at a time.
const LEAVERS_FROM: i16 = 3;
/// From this version on a group that is not there is an error (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

/// Waits for the engine's answer, and until what it stands on is safe.
async fn reply(session: &Session, answer: oneshot::Receiver<(Reply, Safe)>) -> Option<Reply> {
    let (reply, safe) = answer.await.ok()?;
    if let Some((partition, end)) = safe
        && let Err(error) = session.safe(&partition, end).await
    {
        return Some(match reply {
            Reply::Joined(joined) => Reply::Joined(Joined::refused(error, &joined.member_id)),
            Reply::Synced(_) => Reply::Synced(Synced::refused(error)),
        });
    }
    Some(reply)
}

/// Sends an answer when what it stands on is safe; `fails` makes it one that says why it never will be.
pub(super) fn when_safe<T: Send + 'static>(
    session: &Arc<Session>,
    safe: Safe,
    response: T,
    finish: impl FnOnce(T, Result<(), ErrorCode>) -> Option<Outgoing> + Send + 'static,
) -> Pending {
    let Some((partition, end)) = safe else {
        return finish(response, Ok(())).map_or(Pending::Close, Pending::Ready);
    };
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        let done = session.safe(&partition, end).await;
        finish(response, done)
    }))
}

/// `JoinGroup`.
pub(super) fn join(
    session: &Arc<Session>,
    head: Head,
    client_id: &str,
    request: JoinGroupRequest,
) -> Pending {
    if !session.may_group(AclOperation::Read, &request.group_id) {
        let response = JoinGroupResponse {
            error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED,
            generation_id: -1,
            protocol_name: Some(String::new()),
            ..JoinGroupResponse::default()
        };
        return Pending::ready::<JoinGroupRequest>(head, &response);
    }
    let rebalance = if request.rebalance_timeout_ms < 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let join = Join {
        group: request.group_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        client_id: client_id.to_owned(),
        client_host: session.peer.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: rebalance,
        protocol_type: request.protocol_type,
        protocols: request.protocols.into_iter().map(|one| (one.name, one.metadata)).collect(),
        needs_member_id: head.version >= MEMBER_IDS_FROM,
        can_skip_assignment: head.version >= SKIP_FROM,
    };
    let topics = View::finding(session, &join.group, None);
    let asked = |groups: &mut Groups, now, ticket, out: &mut Vec<Output>| {
        groups.join(now, ticket, join, &topics, out);
    };
    let answer = session.broker.coordinator.ask(asked);
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        let Reply::Joined(joined) = reply(&session, answer).await? else { return None };
        let member = |one: crate::log::engine::group::JoinedMember| JoinGroupResponseMember {
            member_id: one.member_id,
            group_instance_id: one.instance_id,
            metadata: one.metadata,
        };
        let protocol_name = match joined.protocol {
            // Null is known since version 7 only.
            None if head.version < 7 => Some(String::new()),
            other => other,
        };
        let response = JoinGroupResponse {
            throttle_time_ms: 0,
            error_code: joined.error,
            generation_id: joined.generation,
            protocol_type: joined.protocol_type,
            protocol_name,
            leader: joined.leader,
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id,
            members: joined.members.into_iter().map(member).collect(),
        };
        encode::<JoinGroupRequest>(head, &response)
    }))
}

/// `SyncGroup`.
pub(super) fn sync(session: &Arc<Session>, head: Head, request: SyncGroupRequest) -> Pending {
    if !session.may_group(AclOperation::Read, &request.group_id) {
        let error_code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        let response = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
        return Pending::ready::<SyncGroupRequest>(head, &response);
    }
    let sync = Sync {
        by: Caller {
            group: request.group_id,
            generation: request.generation_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
        },
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request.assignments.into_iter().map(|one| (one.member_id, one.assignment)).collect(),
    };
    let topics = View::new(session);
    let asked = |groups: &mut Groups, now, ticket, out: &mut Vec<Output>| {
        groups.sync(now, ticket, sync, &topics, out);
    };
    let answer = session.broker.coordinator.ask(asked);
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        let Reply::Synced(synced) = reply(&session, answer).await? else { return None };
        let response = SyncGroupResponse {
            throttle_time_ms: 0,
            error_code: synced.error,
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol,
            assignment: synced.assignment,
        };
        encode::<SyncGroupRequest>(head, &response)
    }))
}

/// `Heartbeat`.
pub(super) fn heartbeat(session: &Arc<Session>, head: Head, request: HeartbeatRequest) -> Pending {
    let by = Caller {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
    };
    let beat = match session.may_group(AclOperation::Read, &by.group) {
        true => session.broker.coordinator.run(|groups, now, _| groups.heartbeat(now, &by)),
        false => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
    };
    let error_code = beat.map_or_else(|error| error, |(error, _)| error);
    Pending::ready::<HeartbeatRequest>(head, &HeartbeatResponse { throttle_time_ms: 0, error_code })
}

/// `LeaveGroup`.
pub(super) fn leave(session: &Arc<Session>, head: Head, request: LeaveGroupRequest) -> Pending {
    let single = || MemberIdentity { member_id: request.member_id.clone(), ..MemberIdentity::default() };
    let members = if head.version < LEAVERS_FROM { vec![single()] } else { request.members };
    let leavers: Vec<Leaver> = members
        .iter()
        .map(|one| Leaver { member_id: one.member_id.clone(), instance_id: one.group_instance_id.clone() })
        .collect();
    let group = request.group_id;
    let left = match session.may_group(AclOperation::Read, &group) {
        true => session.broker.coordinator.run(|groups, now, out| groups.leave(now, &group, &leavers, out)),
        false => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
    };
    let response = match left {
        Err(error_code) => LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() },
        Ok((results, _)) if head.version < LEAVERS_FROM => {
            let error_code = results.first().copied().unwrap_or(ErrorCode::NONE);
            LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
        }
        Ok((results, _)) => {
            let one = |(member, error_code): (MemberIdentity, ErrorCode)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code,
            };
            let members = members.into_iter().zip(results).map(one).collect();
            LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
        }
    };
    Pending::ready::<LeaveGroupRequest>(head, &response)
}

/// `DescribeGroups`.
pub(super) fn describe(session: &Arc<Session>, head: Head, request: DescribeGroupsRequest) -> Pending {
    let with_rights = request.include_authorized_operations;
    let one = |group_id: String| {
        if !session.may_group(AclOperation::Describe, &group_id) {
            let error_code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
            return DescribedGroup { error_code, group_id, ..DescribedGroup::default() };
        }
        let found = session.broker.coordinator.look(|groups| groups.describe(&group_id));
        let Some(found) = found else {
            let missing = head.version >= NOT_FOUND_FROM;
            return DescribedGroup {
                error_code: if missing { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
                error_message: missing.then(|| format!("Group {group_id} not found.")),
                group_id,
                group_state: "Dead".to_owned(),
                ..DescribedGroup::default()
            };
        };
        let members = found.members.into_iter().map(|member| DescribedGroupMember {
            member_id: member.member_id,
            group_instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        });
        DescribedGroup {
            authorized_operations: rights(session, &group_id, with_rights),
            group_id,
            group_state: found.state.to_owned(),
            protocol_type: found.protocol_type,
            protocol_data: found.protocol,
            members: members.collect(),
            ..DescribedGroup::default()
        }
    };
    let groups = request.groups.into_iter().map(one).collect();
    let response = DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() };
    Pending::ready::<DescribeGroupsRequest>(head, &response)
}

/// What the client may do to a group, as bits, if it asks for them.
pub(super) fn rights(session: &Session, group: &str, are_asked: bool) -> i32 {
    match are_asked {
        true => authorized(ResourceType::Group, |operation| session.may_group(operation, group)),
        false => i32::MIN,
    }
}

/// `ListGroups`.
pub(super) fn list(session: &Arc<Session>, head: Head, request: &ListGroupsRequest) -> Pending {
    let is_in = |words: &[String], word: &str| {
        words.is_empty() || words.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
    };
    let listed = session.broker.coordinator.look(|groups| groups.list());
    let may_all = session.may_cluster(AclOperation::Describe);
    let wanted = listed.into_iter().filter(|group| {
        (may_all || session.may_group(AclOperation::Describe, &group.group))
            && is_in(&request.states_filter, group.state)
            && is_in(&request.types_filter, group.kind)
    });
    let groups = wanted.map(|group| ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: group.state.to_owned(),
        group_type: group.kind.to_owned(),
    });
    let response = ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() };
    Pending::ready::<ListGroupsRequest>(head, &response)
}

/// `DeleteGroups`.
pub(super) fn delete(session: &Arc<Session>, head: Head, request: DeleteGroupsRequest) -> Pending {
    let names = request.groups_names;
    let delete = |groups: &mut Groups, name: &String, out: &mut Vec<Output>| match session
        .may_group(AclOperation::Delete, name)
    {
        true => groups.delete(name, out),
        false => ErrorCode::GROUP_AUTHORIZATION_FAILED,
    };
    let deleted = session
        .broker
        .coordinator
        .run(|groups, _, out| names.iter().map(|name| delete(groups, name, out)).collect::<Vec<_>>());
    let (results, safe) = match deleted {
        Ok(deleted) => deleted,
        Err(error) => (names.iter().map(|_| error).collect(), None),
    };
    let results: Vec<DeletableGroupResult> = names
        .into_iter()
        .zip(results)
        .map(|(group_id, error_code)| DeletableGroupResult { group_id, error_code })
        .collect();
    when_safe(session, safe, results, move |mut results, done| {
        if let Err(error) = done {
            results.iter_mut().for_each(|result| result.error_code = error);
        }
        encode::<DeleteGroupsRequest>(head, &DeleteGroupsResponse { throttle_time_ms: 0, results })
    })
}
