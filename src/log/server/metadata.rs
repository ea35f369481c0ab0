//! What clients are told of the cluster: brokers, topics, partitions, coordinators.

use std::sync::Arc;

use super::NODE_ID;
use super::admin;
use super::answer::{Head, Pending, encode};
use super::session::Session;
use super::topics::{Topic, check_name, is_internal};
use crate::log::wire::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::log::wire::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::log::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
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
    let Some(asked) = asked else {
        let topics = session.broker.topics.all().iter().map(|topic| described(topic)).collect();
        return Pending::ready::<MetadataRequest>(head, &response(session, topics));
    };
    let mut created = None;
    let mut topics = Vec::with_capacity(asked.len());
    for asked in asked {
        let (topic, end) = one(session, &asked, makes);
        topics.push(topic);
        created = created.max(end);
    }
    let response = response(session, topics);
    let Some(end) = created else { return Pending::ready::<MetadataRequest>(head, &response) };
    let definitions = Arc::clone(&session.broker.definitions);
    Pending::Later(Box::pin(async move {
        // A topic that someone was told of is still there after a crash.
        definitions.safe(end).await.ok()?;
        encode::<MetadataRequest>(head, &response)
    }))
}

/// One topic, and until where the definitions have to be safe if it was made now.
fn one(session: &Session, asked: &MetadataRequestTopic, makes: bool) -> (MetadataResponseTopic, Option<i64>) {
    let broker = &session.broker;
    let failed = |error_code, name: Option<String>, topic_id| {
        (MetadataResponseTopic { error_code, name, topic_id, ..MetadataResponseTopic::default() }, None)
    };
    if !asked.topic_id.is_zero() {
        return match broker.topics.by_id(asked.topic_id) {
            Some(topic) => (described(&topic), None),
            None => failed(ErrorCode::UNKNOWN_TOPIC_ID, None, asked.topic_id),
        };
    }
    let name = asked.name.clone().unwrap_or_default();
    if let Some(topic) = broker.topics.get(&name) {
        return (described(&topic), None);
    }
    let error = match check_name(&name) {
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        Ok(()) if makes && !is_internal(&name) => {
            match admin::create(broker, &name, broker.options.partitions, Default::default()) {
                Ok((topic, end)) => return (described(&topic), Some(end)),
                // Somebody else was quicker.
                Err(_) if broker.topics.get(&name).is_some() => ErrorCode::LEADER_NOT_AVAILABLE,
                Err(failed) => failed.error,
            }
        }
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    failed(error, Some(name), Uuid::ZERO)
}

fn described(topic: &Topic) -> MetadataResponseTopic {
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
        ..MetadataResponseTopic::default()
    }
}

fn response(session: &Session, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let (host, port) = session.advertised();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: NODE_ID, host, port, rack: None }],
        cluster_id: Some(session.broker.cluster_id.clone()),
        controller_id: NODE_ID,
        topics,
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
    let known = KINDS.contains(&request.key_type);
    let error_code = if known { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
    let error_message = (!known).then(|| format!("there is no coordinator of kind {}", request.key_type));
    let node_id = if known { NODE_ID } else { -1 };
    let response = if head.version < BATCH_FROM {
        FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() }
    } else {
        let one = |key| Coordinator {
            key,
            node_id,
            host: host.clone(),
            port,
            error_code,
            error_message: error_message.clone(),
        };
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
