//! Topics are made and deleted.

use std::collections::HashSet;
use std::sync::Arc;

use super::Broker;
use super::answer::{Head, Pending, encode};
use super::config::{self, Values};
use super::session::Session;
use super::topics::{Failed, Topic, is_internal};
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::log::wire::api::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::log::wire::{ErrorCode, Uuid};

/// Makes a topic with so many partitions.
pub(super) fn create(
    broker: &Broker,
    name: &str,
    partitions: usize,
    values: Values,
) -> Result<(Arc<Topic>, i64), Failed> {
    broker.topics.create(name, partitions, values)
}

/// Whether someone may make a topic of that name.
pub(super) fn may_create(session: &Session, name: &str) -> bool {
    session.may_cluster(AclOperation::Create) || session.may_topic(AclOperation::Create, name)
}

/// `CreateTopics`.
pub(super) fn create_topics(session: &Arc<Session>, head: Head, request: CreateTopicsRequest) -> Pending {
    let mut seen = HashSet::new();
    let twice: HashSet<String> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(&topic.name))
        .map(|topic| topic.name.clone())
        .collect();
    let mut end = None;
    let mut left = session.broker.options.limits.partitions_max;
    let topics = request.topics.into_iter().map(|asked| {
        let made = if twice.contains(&asked.name) {
            let message = format!("Topic '{}' is named more than once in the request", asked.name);
            Err(Failed::new(ErrorCode::INVALID_REQUEST, message))
        } else if !may_create(session, &asked.name) {
            Err(Failed::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed."))
        } else {
            make(&session.broker, &asked, request.validate_only, &mut left)
        };
        match made {
            Ok((mut result, made)) => {
                end = end.max(made);
                if !session.may_topic(AclOperation::DescribeConfigs, &result.name) {
                    result.topic_config_error_code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
                    (result.num_partitions, result.replication_factor) = (-1, -1);
                    result.configs = Some(Vec::new());
                }
                result
            }
            Err(Failed { error, message }) => CreatableTopicResult {
                name: asked.name,
                error_code: error,
                error_message: Some(message),
                configs: Some(Vec::new()),
                ..CreatableTopicResult::default()
            },
        }
    });
    let response = CreateTopicsResponse { topics: topics.collect(), ..CreateTopicsResponse::default() };
    let Some(end) = end else { return Pending::ready::<CreateTopicsRequest>(head, &response) };
    let definitions = Arc::clone(&session.broker.definitions);
    Pending::Later(Box::pin(async move {
        let mut response = response;
        if let Err(error) = definitions.safe(end).await {
            for topic in response.topics.iter_mut().filter(|topic| topic.error_code == ErrorCode::NONE) {
                topic.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
                topic.error_message = Some(error.to_string());
            }
        }
        encode::<CreateTopicsRequest>(head, &response)
    }))
}

fn make(
    broker: &Broker,
    asked: &CreatableTopic,
    validate_only: bool,
    left: &mut usize,
) -> Result<(CreatableTopicResult, Option<i64>), Failed> {
    let partitions = partitions_of(broker, asked)?;
    if partitions > *left {
        let max = broker.options.limits.partitions_max;
        let message = format!("one request makes at most {max} partitions");
        return Err(Failed::new(ErrorCode::POLICY_VIOLATION, message));
    }
    let mut values = Values::new();
    for setting in &asked.configs {
        let Some(value) = &setting.value else {
            let message = format!("Null value not supported for topic configs: {}", setting.name);
            return Err(Failed::new(ErrorCode::INVALID_CONFIG, message));
        };
        config::check(&setting.name, value).map_err(|why| Failed::new(ErrorCode::INVALID_CONFIG, why.0))?;
        values.insert(setting.name.clone(), value.clone());
    }
    if is_internal(&asked.name) {
        let message = format!("'{}' is the broker's own", asked.name);
        return Err(Failed::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    let configs = described(broker, &values);
    let (id, end) = if validate_only {
        broker.topics.check_new(&asked.name, partitions)?;
        (Uuid::ZERO, None)
    } else {
        let (topic, end) = create(broker, &asked.name, partitions, values)?;
        (topic.id, Some(end))
    };
    *left -= partitions;
    let result = CreatableTopicResult {
        name: asked.name.clone(),
        topic_id: id,
        error_message: None,
        num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        replication_factor: 1,
        configs: Some(configs),
        ..CreatableTopicResult::default()
    };
    Ok((result, end))
}

fn partitions_of(broker: &Broker, asked: &CreatableTopic) -> Result<usize, Failed> {
    if !asked.assignments.is_empty() {
        if asked.num_partitions != -1 || asked.replication_factor != -1 {
            let message = "Both numPartitions or replicationFactor and replicasAssignments were set";
            return Err(Failed::new(ErrorCode::INVALID_REQUEST, message));
        }
        let mut indexes: Vec<i32> = asked.assignments.iter().map(|one| one.partition_index).collect();
        indexes.sort_unstable();
        if !indexes.iter().copied().eq(0..i32::try_from(indexes.len()).unwrap_or(i32::MAX)) {
            let message = "partitions are numbered from 0 on, without holes";
            return Err(Failed::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
        if asked.assignments.iter().any(|one| one.broker_ids != [super::NODE_ID]) {
            let message = format!("there is one broker, {}", super::NODE_ID);
            return Err(Failed::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
        return Ok(indexes.len());
    }
    match asked.replication_factor {
        -1 | 1 => {}
        other @ ..=0 => {
            let message =
                format!("Replication factor must be larger than 0, or -1 to use the default value: {other}");
            return Err(Failed::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        other => {
            let message = format!("Unable to replicate the partition {other} time(s): there is 1 broker");
            return Err(Failed::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
    }
    match asked.num_partitions {
        -1 => Ok(broker.options.partitions),
        count => usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Failed::new(ErrorCode::INVALID_PARTITIONS, message)
        }),
    }
}

/// All settings of a topic, for those who make one: never null, or the Java client breaks.
fn described(broker: &Broker, values: &Values) -> Vec<CreatableTopicConfigs> {
    let one = |setting: &config::Setting| {
        let (value, config_source) = config::value_of(setting, values, &broker.topics.defaults());
        CreatableTopicConfigs {
            name: setting.name.to_owned(),
            value: Some(value),
            read_only: false,
            config_source,
            is_sensitive: false,
        }
    };
    config::SETTINGS.iter().map(one).collect()
}

/// `DeleteTopics`.
pub(super) fn delete_topics(session: &Arc<Session>, head: Head, request: DeleteTopicsRequest) -> Pending {
    let by_name = |name: String| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
    let asked: Vec<DeleteTopicState> =
        request.topics.into_iter().chain(request.topic_names.into_iter().map(by_name)).collect();
    let mut gone = Vec::new();
    let mut end = None;
    let mut responses = Vec::with_capacity(asked.len());
    for asked in asked {
        let (result, deleted) = delete(session, asked);
        if let Some((topic, safe)) = deleted {
            gone.push(topic);
            end = end.max(Some(safe));
        }
        responses.push(result);
    }
    let mut response = DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() };
    let Some(end) = end else { return Pending::ready::<DeleteTopicsRequest>(head, &response) };
    let broker = Arc::clone(&session.broker);
    Pending::Later(Box::pin(async move {
        match broker.definitions.safe(end).await {
            Ok(()) => broker.remove_logs(gone),
            // Whether a restart finds them is not known.
            Err(error) => {
                for result in
                    response.responses.iter_mut().filter(|result| result.error_code == ErrorCode::NONE)
                {
                    result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
                    result.error_message = Some(error.to_string());
                }
            }
        }
        encode::<DeleteTopicsRequest>(head, &response)
    }))
}

fn delete(session: &Session, asked: DeleteTopicState) -> (DeletableTopicResult, Option<(Arc<Topic>, i64)>) {
    let broker = &session.broker;
    let failed = |name, topic_id, error_code, message: &str| {
        let error_message = Some(message.to_owned());
        (DeletableTopicResult { name, topic_id, error_code, error_message }, None)
    };
    let topic = match &asked.name {
        Some(name) => broker.topics.get(name),
        None => broker.topics.by_id(asked.topic_id),
    };
    let denied = |name: &str| !session.may_topic(AclOperation::Delete, name);
    let is_hidden = |name: &str| !session.may_topic(AclOperation::Describe, name) && denied(name);
    // Who asks by id does not hear of what it may not know of.
    let topic = topic.filter(|topic| asked.name.is_some() || !is_hidden(&topic.name));
    if let Some(name) =
        asked.name.as_ref().or(topic.as_ref().map(|topic| &topic.name)).filter(|name| denied(name))
    {
        let name = Some(name.clone());
        return failed(name, asked.topic_id, ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.");
    }
    let Some(topic) = topic else {
        if let Err(Failed { error, message }) = broker.topics.check_lasting() {
            return failed(asked.name, asked.topic_id, error, &message);
        }
        let error = if asked.name.is_some() {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        } else {
            ErrorCode::UNKNOWN_TOPIC_ID
        };
        return failed(asked.name, asked.topic_id, error, "This server does not host this topic.");
    };
    let name = Some(topic.name.clone());
    if topic.is_internal() {
        return failed(name, topic.id, ErrorCode::INVALID_REQUEST, "the topic is the broker's own");
    }
    match broker.topics.delete(&topic.name) {
        Ok((topic, end)) => {
            let result = DeletableTopicResult { name, topic_id: topic.id, ..DeletableTopicResult::default() };
            (result, Some((topic, end)))
        }
        Err(Failed { error, message }) => failed(name, topic.id, error, &message),
    }
}
