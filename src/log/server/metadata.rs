//! What clients are told of the cluster: brokers, topics, partitions, coordinators.

use std::sync::Arc;

use super::NODE_ID;
use super::admin;
use super::answer::{Head, Pending};
use super::guard::authorized;
use super::session::Session;
use super::topics::{Topic, check_name, is_internal};
use crate::log::wire::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::log::wire::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::log::wire::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::log::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::log::wire::api::{AclOperation, ResourceType};
use crate::log::wire::{ErrorCode, Uuid};

/// `Metadata`. Topics that are not there are made, if both sides want that.
pub(super) fn metadata(session: &Arc<Session>, head: Head, request: MetadataRequest) -> Pending {
    let makes = session.broker.options.auto_create && request.allow_auto_topic_creation;
    let asked = match request.topics {
        // An empty list is everything in version 0, and nothing later.
        None => None,
        Some(topics) if topics.is_empty() && head.version == 0 => None,
        Some(topics) => Some(topics),
    };
    let operations = Operations {
        of_topics: request.include_topic_authorized_operations,
        of_cluster: request.include_cluster_authorized_operations,
    };
    let Some(asked) = asked else {
        let all = session.broker.topics.all().into_iter();
        let visible = all.filter(|topic| session.may_topic(AclOperation::Describe, &topic.name));
        let topics = visible.map(|topic| described(session, &topic, operations)).collect();
        return Pending::ready::<MetadataRequest>(head, &response(session, topics, operations));
    };
    let mut created = None;
    let mut topics = Vec::with_capacity(asked.len());
    for asked in asked {
        let (topic, end) = one(session, &asked, makes, operations);
        topics.push(topic);
        created = created.max(end);
    }
    let response = response(session, topics, operations);
    // A topic that someone was told of is still there after a crash.
    Pending::when_defined::<MetadataRequest>(&session.broker.definitions, created, head, response)
}

/// One topic, and until where the definitions have to be safe if it was made now.
fn one(
    session: &Session,
    asked: &MetadataRequestTopic,
    makes: bool,
    operations: Operations,
) -> (MetadataResponseTopic, Option<i64>) {
    let broker = &session.broker;
    let failed = |error_code, name: Option<String>, topic_id| {
        (MetadataResponseTopic { error_code, name, topic_id, ..MetadataResponseTopic::default() }, None)
    };
    if !asked.topic_id.is_zero() {
        let found = broker.topics.by_id(asked.topic_id);
        return match found.filter(|topic| session.may_topic(AclOperation::Describe, &topic.name)) {
            Some(topic) => (described(session, &topic, operations), None),
            None => failed(ErrorCode::UNKNOWN_TOPIC_ID, None, asked.topic_id),
        };
    }
    let name = asked.name.clone().unwrap_or_default();
    if !session.may_topic(AclOperation::Describe, &name) {
        return failed(ErrorCode::TOPIC_AUTHORIZATION_FAILED, Some(name), Uuid::ZERO);
    }
    if let Some(topic) = broker.topics.get(&name) {
        return (described(session, &topic, operations), None);
    }
    let error = match check_name(&name) {
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        Ok(()) if makes && !is_internal(&name) && !admin::may_create(session, &name) => {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED
        }
        Ok(()) if makes && !is_internal(&name) => {
            match admin::create(broker, &name, broker.options.partitions, Default::default()) {
                Ok((topic, end)) => return (described(session, &topic, operations), Some(end)),
                // Somebody else was quicker.
                Err(_) if broker.topics.get(&name).is_some() => ErrorCode::LEADER_NOT_AVAILABLE,
                Err(failed) => failed.error,
            }
        }
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    failed(error, Some(name), Uuid::ZERO)
}

/// What the client wants to know of its own rights.
#[derive(Debug, Clone, Copy)]
struct Operations {
    of_topics: bool,
    of_cluster: bool,
}

/// Rights that were not asked for.
const NOT_ASKED: i32 = i32::MIN;

fn rights(session: &Session, topic: &str) -> i32 {
    authorized(ResourceType::Topic, |operation| session.may_topic(operation, topic))
}

fn cluster_rights(session: &Session) -> i32 {
    authorized(ResourceType::Cluster, |operation| session.may_cluster(operation))
}

fn described(session: &Session, topic: &Topic, operations: Operations) -> MetadataResponseTopic {
    let partitions = topic.partitions();
    let partitions = partitions.iter().map(|partition| MetadataResponsePartition {
        partition_index: partition.index,
        leader_id: NODE_ID,
        leader_epoch: partition.leader_epoch(),
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..MetadataResponsePartition::default()
    });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        topic_authorized_operations: match operations.of_topics {
            true => rights(session, &topic.name),
            false => NOT_ASKED,
        },
        ..MetadataResponseTopic::default()
    }
}

fn response(
    session: &Session,
    topics: Vec<MetadataResponseTopic>,
    operations: Operations,
) -> MetadataResponse {
    let (host, port) = session.advertised();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: NODE_ID, host, port, rack: None }],
        cluster_id: Some(session.broker.cluster_id.clone()),
        controller_id: NODE_ID,
        topics,
        cluster_authorized_operations: match operations.of_cluster {
            true => cluster_rights(session),
            false => NOT_ASKED,
        },
        ..MetadataResponse::default()
    }
}

/// `FindCoordinator`: it is this broker.
pub(super) fn coordinators(session: &Session, head: Head, request: FindCoordinatorRequest) -> Pending {
    /// Kinds of coordinators: of groups, of transactions.
    const KINDS: std::ops::RangeInclusive<i8> = 0..=1;
    /// From this version on several are asked for at a time.
    const BATCH_FROM: i16 = 4;
    let (host, port) = session.advertised();
    let one = |key: String| {
        let error_code = match request.key_type {
            kind if !KINDS.contains(&kind) => ErrorCode::INVALID_REQUEST,
            0 if !session.may_group(AclOperation::Describe, &key) => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            1 if !session.may_transact(AclOperation::Describe, &key) => {
                ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            }
            _ => ErrorCode::NONE,
        };
        if error_code == ErrorCode::NONE {
            return Coordinator { key, node_id: NODE_ID, host: host.clone(), port, ..Coordinator::default() };
        }
        let error_message = Some(error_code.message().to_owned());
        Coordinator { key, node_id: -1, port: -1, error_code, error_message, ..Coordinator::default() }
    };
    let response = if head.version < BATCH_FROM {
        let Coordinator { node_id, host, port, error_code, error_message, .. } = one(request.key);
        FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() }
    } else {
        let coordinators = request.coordinator_keys.into_iter().map(one).collect();
        FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() }
    };
    Pending::ready::<FindCoordinatorRequest>(head, &response)
}

/// `DescribeCluster`.
pub(super) fn cluster(session: &Session, head: Head, request: &DescribeClusterRequest) -> Pending {
    let (host, port) = session.advertised();
    let response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        cluster_id: session.broker.cluster_id.clone(),
        controller_id: NODE_ID,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => cluster_rights(session),
            false => NOT_ASKED,
        },
        brokers: vec![DescribeClusterBroker {
            broker_id: NODE_ID,
            host,
            port,
            ..DescribeClusterBroker::default()
        }],
        ..DescribeClusterResponse::default()
    };
    Pending::ready::<DescribeClusterRequest>(head, &response)
}

/// `DescribeTopicPartitions`: page by page, in the order of names.
pub(super) fn topic_partitions(
    session: &Session,
    head: Head,
    request: DescribeTopicPartitionsRequest,
) -> Pending {
    /// Partitions in one answer.
    const PARTITIONS_MAX: usize = 2000;
    let broker = &session.broker;
    let mut names: Vec<String> = request.topics.into_iter().map(|topic| topic.name).collect();
    if names.is_empty() {
        names.extend(broker.topics.all().iter().map(|topic| topic.name.clone()));
        names.retain(|name| session.may_topic(AclOperation::Describe, name));
    }
    names.sort_unstable();
    names.dedup();
    let (from, mut first) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => ("", 0),
    };
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names.iter().filter(|name| name.as_str() >= from) {
        if left == 0 {
            next_cursor = Some(Cursor { topic_name: name.clone(), partition_index: 0 });
            break;
        }
        let skipped = if name == from { std::mem::take(&mut first) } else { 0 };
        let failed = |error_code| DescribeTopicPartitionsResponseTopic {
            error_code,
            name: Some(name.clone()),
            ..DescribeTopicPartitionsResponseTopic::default()
        };
        if !session.may_topic(AclOperation::Describe, name) {
            topics.push(failed(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
            continue;
        }
        let Some(topic) = broker.topics.get(name) else {
            let is_name = check_name(name).is_ok();
            topics.push(failed(match is_name {
                true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                false => ErrorCode::INVALID_TOPIC_EXCEPTION,
            }));
            continue;
        };
        let all = topic.partitions();
        let partitions = all.iter().skip(skipped).take(left);
        let partitions = partitions.map(|partition| DescribeTopicPartitionsResponsePartition {
            partition_index: partition.index,
            leader_id: NODE_ID,
            leader_epoch: partition.leader_epoch(),
            replica_nodes: vec![NODE_ID],
            isr_nodes: vec![NODE_ID],
            // Never null, or the Java client breaks.
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..DescribeTopicPartitionsResponsePartition::default()
        });
        let partitions: Vec<_> = partitions.collect();
        left -= partitions.len();
        let reached = skipped + partitions.len();
        topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::NONE,
            name: Some(name.clone()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions,
            topic_authorized_operations: rights(session, name),
        });
        if reached < all.len() {
            let partition_index = i32::try_from(reached).unwrap_or(i32::MAX);
            next_cursor = Some(Cursor { topic_name: name.clone(), partition_index });
            break;
        }
    }
    let response = DescribeTopicPartitionsResponse { throttle_time_ms: 0, topics, next_cursor };
    Pending::ready::<DescribeTopicPartitionsRequest>(head, &response)
}
