//! The space that partitions take: asked for, and given back at their starts; and more partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{Head, Pending, encode};
use super::partition::{Partition, storage_error};
use super::session::Session;
use super::topics::{Failed, Topic};
use super::{Broker, NODE_ID};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use crate::log::wire::api::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::log::wire::api::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};

use crate::log::wire::api::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

/// Everything before the high watermark.
const ALL: i64 = -1;

/// `DeleteRecords`.
pub(super) fn delete_records(session: &Arc<Session>, head: Head, request: DeleteRecordsRequest) -> Pending {
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        // It removes files.
        let deleting = move || {
            let topics = request.topics.into_iter().map(|asked| {
                let topic = session.broker.topics.get(&asked.name);
                let may_delete = session.may_topic(AclOperation::Delete, &asked.name);
                let partitions = asked.partitions.iter().map(|asked| {
                    let partition = topic.as_ref().and_then(|topic| topic.partition(asked.partition_index));
                    let trimmed = match (&topic, partition) {
                        _ if !may_delete => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                        (Some(topic), _) if topic.is_internal() => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
                        (Some(topic), _) if !topic.config().deletes => Err(ErrorCode::POLICY_VIOLATION),
                        (_, Some(partition)) => trim(&partition, asked.offset),
                        (_, None) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    };
                    DeleteRecordsPartitionResult {
                        partition_index: asked.partition_index,
                        low_watermark: trimmed.unwrap_or(-1),
                        error_code: trimmed.err().unwrap_or(ErrorCode::NONE),
                    }
                });
                DeleteRecordsTopicResult { partitions: partitions.collect(), name: asked.name }
            });
            DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
        };
        let response = tokio::task::spawn_blocking(deleting).await.ok()?;
        encode::<DeleteRecordsRequest>(head, &response)
    }))
}

fn trim(partition: &Arc<Partition>, offset: i64) -> Result<i64, ErrorCode> {
    let log = partition.log()?;
    let high_watermark = log.safe_end();
    let to = if offset == ALL { high_watermark } else { offset };
    if !(0..=high_watermark).contains(&to) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    log.trim(to).map_err(|error| storage_error(&error))
}

/// `ElectLeaders`: there is one broker, and it leads.
pub(super) fn elect_leaders(session: &Session, head: Head, request: ElectLeadersRequest) -> Pending {
    /// Since this version there is one error for all.
    const ERROR_FROM: i16 = 1;
    let broker = &session.broker;
    let may = session.may_cluster(AclOperation::Alter);
    if !may && head.version >= ERROR_FROM {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        let response = ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() };
        return Pending::ready::<ElectLeadersRequest>(head, &response);
    }
    // Who asks for all is told of those where something was done: none.
    let results = request.topic_partitions.unwrap_or_default().into_iter().map(|asked| {
        let topic = broker.topics.get(&asked.topic);
        let partition_result = asked.partitions.into_iter().map(|partition_id| {
            let is_there = topic.as_ref().is_some_and(|topic| topic.partition(partition_id).is_some());
            let error_code = match is_there {
                _ if !may => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                true => ErrorCode::ELECTION_NOT_NEEDED,
                false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            PartitionResult { partition_id, error_code, error_message: Some(error_code.message().to_owned()) }
        });
        ReplicaElectionResult { partition_result: partition_result.collect(), topic: asked.topic }
    });
    let response = ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    };
    Pending::ready::<ElectLeadersRequest>(head, &response)
}

/// `DescribeLogDirs`: there is one.
pub(super) fn log_dirs(session: &Session, head: Head, request: DescribeLogDirsRequest) -> Pending {
    if !session.may_cluster(AclOperation::Describe) {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        let response = DescribeLogDirsResponse { error_code, ..DescribeLogDirsResponse::default() };
        return Pending::ready::<DescribeLogDirsRequest>(head, &response);
    }
    let broker = &session.broker;
    let mut wanted: BTreeMap<String, (Arc<Topic>, Option<Vec<i32>>)> = BTreeMap::new();
    match request.topics {
        None => {
            wanted.extend(broker.topics.all().into_iter().map(|topic| (topic.name.clone(), (topic, None))))
        }
        Some(topics) => {
            for asked in topics {
                if let Some(topic) = broker.topics.get(&asked.topic) {
                    wanted.insert(asked.topic, (topic, Some(asked.partitions)));
                }
            }
        }
    }
    let topics = wanted.into_iter().map(|(name, (topic, indexes))| {
        let all = topic.partitions();
        let is_wanted = |partition: &&Arc<Partition>| {
            indexes.as_ref().is_none_or(|indexes| indexes.contains(&partition.index))
        };
        let partitions = all.iter().filter(is_wanted).map(|partition| DescribeLogDirsPartition {
            partition_index: partition.index,
            partition_size: partition
                .log()
                .map_or(0, |log| i64::try_from(log.state().size).unwrap_or(i64::MAX)),
            offset_lag: 0,
            is_future_key: false,
        });
        DescribeLogDirsTopic { partitions: partitions.collect(), name }
    });
    let topics = topics.collect();
    let (log_dir, usable) = broker.vault.place();
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::NONE,
        log_dir,
        topics,
        total_bytes: -1,
        usable_bytes: usable.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
    };
    let response = DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() };
    Pending::ready::<DescribeLogDirsRequest>(head, &response)
}

/// `CreatePartitions`.
pub(super) fn create_partitions(
    session: &Arc<Session>,
    head: Head,
    request: CreatePartitionsRequest,
) -> Pending {
    let mut end = None;
    let results = request.topics.into_iter().map(|asked| {
        let grown = match session.may_topic(AclOperation::Alter, &asked.name) {
            true => grow(&session.broker, &asked, request.validate_only),
            false => {
                Err(Failed::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, "The topic authorization is failed."))
            }
        };
        let (error_code, error_message) = match grown {
            Ok(safe) => {
                end = end.max(safe);
                (ErrorCode::NONE, None)
            }
            Err(Failed { error, message }) => (error, Some(message)),
        };
        CreatePartitionsTopicResult { name: asked.name, error_code, error_message }
    });
    let response =
        CreatePartitionsResponse { results: results.collect(), ..CreatePartitionsResponse::default() };
    Pending::when_defined::<CreatePartitionsRequest>(&session.broker.definitions, end, head, response)
}

fn grow(broker: &Broker, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<Option<i64>, Failed> {
    let topic = broker.topics.get(&asked.name).ok_or_else(|| {
        Failed::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    })?;
    if topic.is_internal() {
        return Err(Failed::new(ErrorCode::INVALID_TOPIC_EXCEPTION, "the topic is the broker's own"));
    }
    let before = topic.partitions().len();
    let count = usize::try_from(asked.count).unwrap_or(0);
    let invalid = |message: String| Err(Failed::new(ErrorCode::INVALID_PARTITIONS, message));
    if count == before {
        broker.topics.check_lasting()?;
        return invalid(format!("Topic already has {before} partition(s)."));
    }
    if count < before {
        return invalid(format!(
            "The topic {} currently has {before} partition(s); {} would not be an increase.",
            asked.name, asked.count
        ));
    }
    if count - before > broker.options.limits.partitions_max {
        return invalid(format!(
            "one request makes at most {} partitions",
            broker.options.limits.partitions_max
        ));
    }
    if let Some(assignments) = &asked.assignments
        && (assignments.len() != count - before || assignments.iter().any(|one| one.broker_ids != [NODE_ID]))
    {
        let message = format!("there is one broker, {NODE_ID}, and each new partition is to name it");
        return Err(Failed::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    if validate_only {
        return Ok(None);
    }
    broker.topics.grow(&topic, count).map(Some)
}
