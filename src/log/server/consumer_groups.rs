//! The APIs of next-generation groups (KIP-848): from the wire to the coordinator and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{Head, Pending, encode};
use super::groups::{rights, when_safe};
use super::session::Session;
use super::topics::Topics;
use super::view::View;
use crate::log::engine::group::{Beat, Beaten, DescribedNext, NextMember, Parts};
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::consumer_group_describe::{
    self as describing, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member,
};
use crate::log::wire::api::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::log::wire::{ErrorCode, Uuid};

/// Since this version a member makes its own id (KIP-1082).
const OWN_IDS_FROM: i16 = 1;

/// `ConsumerGroupHeartbeat`.
pub(super) fn heartbeat(
    session: &Arc<Session>,
    head: Head,
    client_id: &str,
    request: ConsumerGroupHeartbeatRequest,
) -> Pending {
    let names = request.subscribed_topic_names.iter().flatten();
    let may_group = session.may_group(AclOperation::Read, &request.group_id);
    let may_topics = names.into_iter().all(|name| session.may_topic(AclOperation::Describe, name));
    if !may_group || !may_topics {
        let error_code = match may_group {
            true => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            false => ErrorCode::GROUP_AUTHORIZATION_FAILED,
        };
        let response = ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
        return Pending::ready::<ConsumerGroupHeartbeatRequest>(head, &response);
    }
    let owned = request.topic_partitions.map(|topics| {
        let mut parts = Parts::new();
        for topic in topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
            parts.entry(topic.topic_id).or_default().extend(topic.partitions);
        }
        parts
    });
    let beat = Beat {
        group: request.group_id,
        member_id: request.member_id,
        epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        client_id: client_id.to_owned(),
        client_host: session.peer.clone(),
        rebalance_timeout_ms: (request.rebalance_timeout_ms >= 0).then_some(request.rebalance_timeout_ms),
        topics: request.subscribed_topic_names,
        regex: request.subscribed_topic_regex,
        assignor: request.server_assignor,
        owned,
        is_given_id: head.version < OWN_IDS_FROM,
    };
    let new = beat.regex.as_ref().filter(|regex| !regex.is_empty());
    let topics = View::finding(session, &beat.group, new);
    let done = session.broker.coordinator.run(|groups, now, out| groups.beat(now, &beat, &topics, out));
    let (beaten, safe) = match done {
        Ok(done) => done,
        Err(error) => {
            let response = ConsumerGroupHeartbeatResponse {
                error_code: error,
                ..ConsumerGroupHeartbeatResponse::default()
            };
            return Pending::ready::<ConsumerGroupHeartbeatRequest>(head, &response);
        }
    };
    when_safe(session, safe, beaten, move |beaten, done| {
        let Beaten { error, message, member_id, epoch, interval_ms, assignment } = beaten;
        let response = ConsumerGroupHeartbeatResponse {
            throttle_time_ms: 0,
            error_code: done.err().unwrap_or(error),
            error_message: message,
            member_id: Some(member_id),
            member_epoch: epoch,
            heartbeat_interval_ms: interval_ms,
            assignment: assignment.map(|parts| Assignment { topic_partitions: topic_partitions(parts) }),
        };
        encode::<ConsumerGroupHeartbeatRequest>(head, &response)
    })
}

fn topic_partitions(parts: Parts) -> Vec<TopicPartitions> {
    let one = |(topic_id, partitions): (Uuid, std::collections::BTreeSet<i32>)| TopicPartitions {
        topic_id,
        partitions: partitions.into_iter().collect(),
    };
    parts.into_iter().map(one).collect()
}

/// `ConsumerGroupDescribe`.
pub(super) fn describe(session: &Arc<Session>, head: Head, request: ConsumerGroupDescribeRequest) -> Pending {
    let broker = &session.broker;
    let with_rights = request.include_authorized_operations;
    let one = |group_id: String| {
        if !session.may_group(AclOperation::Describe, &group_id) {
            let error_code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
            return DescribedGroup { error_code, group_id, ..DescribedGroup::default() };
        }
        let found = broker.coordinator.look(|groups| groups.describe_next(&group_id));
        let Some(DescribedNext { state, epoch, assignment_epoch, assignor, members }) = found else {
            return DescribedGroup {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(format!("Group {group_id} is not a consumer group.")),
                group_id,
                ..DescribedGroup::default()
            };
        };
        let authorized_operations = rights(session, &group_id, with_rights);
        let members: Vec<Member> =
            members.into_iter().map(|member| described(&broker.topics, member)).collect();
        let may_know = |name: &String| session.may_topic(AclOperation::Describe, name);
        if !members.iter().flat_map(names).all(may_know) {
            return DescribedGroup {
                error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                error_message: Some(
                    "The group has described topic(s) that the client is not authorized to describe."
                        .to_owned(),
                ),
                group_id,
                ..DescribedGroup::default()
            };
        }
        DescribedGroup {
            error_code: ErrorCode::NONE,
            error_message: None,
            group_id,
            group_state: state.to_owned(),
            group_epoch: epoch,
            assignment_epoch,
            assignor_name: assignor.to_owned(),
            authorized_operations,
            members,
        }
    };
    let groups = request.group_ids.into_iter().map(one).collect();
    let response = ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() };
    Pending::ready::<ConsumerGroupDescribeRequest>(head, &response)
}

fn described(topics: &Topics, member: NextMember) -> Member {
    /// Of the classic protocol, of the next generation.
    const KINDS: [i8; 2] = [0, 1];
    let [classic, next] = KINDS;
    let wants = member.wants;
    Member {
        member_id: member.member_id,
        instance_id: wants.instance_id,
        rack_id: wants.rack_id,
        member_epoch: member.epoch,
        client_id: wants.client_id,
        client_host: wants.client_host,
        subscribed_topic_names: wants.subscribed_topic_names,
        subscribed_topic_regex: wants.subscribed_topic_regex,
        assignment: named(topics, &member.assigned),
        target_assignment: named(topics, &member.target),
        member_type: if wants.classic.is_some() { classic } else { next },
    }
}

/// All topics that a description tells of.
fn names(member: &Member) -> impl Iterator<Item = &String> {
    let assigned = [&member.assignment, &member.target_assignment];
    let assigned = assigned.into_iter().flat_map(|assignment| &assignment.topic_partitions);
    member.subscribed_topic_names.iter().chain(assigned.map(|one| &one.topic_name))
}

fn named(topics: &Topics, parts: &Parts) -> describing::Assignment {
    let names: BTreeMap<Uuid, String> =
        parts.keys().filter_map(|id| topics.by_id(*id).map(|topic| (*id, topic.name.clone()))).collect();
    // A topic that is gone has no name, and is left out as Kafka does.
    let one = |(topic_id, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        names.get(topic_id).map(|name| describing::TopicPartitions {
            topic_id: *topic_id,
            topic_name: name.clone(),
            partitions: partitions.iter().copied().collect(),
        })
    };
    describing::Assignment { topic_partitions: parts.iter().filter_map(one).collect() }
}
