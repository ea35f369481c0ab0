//! Questions about topics and partitions, and changes to them. Those about groups are in a part of their own.

mod groups;
mod offsets;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

pub(in crate::log::client) use groups::send_commit;
pub use groups::{
    Committer, GroupInfo, GroupMember, Stored, commit, delete_group, describe_group, group_offsets, groups,
    stored,
};
pub use offsets::{At, Found, Offsets, offset, offsets, offsets_of_each};

use super::{Cluster, Connection, Error};
use crate::log::wire::api::ConfigResourceType;
use crate::log::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::log::wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::log::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::log::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::log::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use crate::log::wire::api::describe_log_dirs::DescribeLogDirsRequest;
use crate::log::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::log::wire::{ErrorCode, Request};

/// How long a broker may take to change something.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A topic to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default.
    pub partitions: i32,
    /// How many replicas; -1 for the broker's default.
    pub replicas: i16,
    /// Settings.
    pub configs: Vec<(String, String)>,
}

/// Makes a topic.
///
/// # Errors
/// It is there already, or refused.
pub async fn create_topic(cluster: &Cluster, topic: &NewTopic) -> Result<(), Error> {
    let configs = topic.configs.iter();
    let configs =
        configs.map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) });
    let topic = CreatableTopic {
        name: topic.name.clone(),
        num_partitions: topic.partitions,
        replication_factor: topic.replicas,
        configs: configs.collect(),
        ..Default::default()
    };
    let timeout_ms = CHANGE_TIMEOUT.as_millis() as i32;
    let mut request = CreateTopicsRequest { topics: vec![topic], timeout_ms, ..Default::default() };
    let mut pause = cluster.retries(&format!("topic '{}'", request.topics[0].name));
    loop {
        let connection = cluster.controller().await?;
        let version = connection.version::<CreateTopicsRequest>(i16::MAX)?;
        // Before version 4 there are no defaults for the number of partitions and replicas.
        for topic in request.topics.iter_mut().filter(|_| version < 4) {
            topic.num_partitions = topic.num_partitions.max(1);
            topic.replication_factor = topic.replication_factor.max(1);
        }
        let answer = connection.send(&request, version, CHANGE_TIMEOUT)?.await?;
        let Some(result) = answer.topics.into_iter().next() else { return Ok(()) };
        match result.error_code {
            ErrorCode::NONE => return Ok(()),
            code => {
                let error = Error::refused(CreateTopicsRequest::KEY, code, result.error_message);
                if !code.is_retriable() || !pause.again(&error).await {
                    return Err(error);
                }
                cluster.metadata(Some(&[]), false).await?;
            }
        }
    }
}

/// Adds partitions to a topic until it has `count`.
///
/// # Errors
/// Refused: it has as many or more, or may not be changed.
pub async fn create_partitions(cluster: &Cluster, name: &str, count: i32) -> Result<(), Error> {
    let topic = CreatePartitionsTopic { name: name.to_owned(), count, assignments: None };
    let timeout_ms = CHANGE_TIMEOUT.as_millis() as i32;
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms, ..Default::default() };
    let answer = change(cluster, &request).await?;
    match answer.results.into_iter().next() {
        Some(it) if it.error_code.is_err() => {
            Err(Error::refused(CreatePartitionsRequest::KEY, it.error_code, it.error_message))
        }
        _ => Ok(()),
    }
}

/// Deletes the records of partitions before offsets; their leaders are asked. What is in the way of some of them.
///
/// # Errors
/// A leader that does not answer.
pub async fn delete_records(
    cluster: &Cluster,
    before: &[((String, i32), i64)],
) -> Result<BTreeMap<(String, i32), Error>, Error> {
    let mut by_leader: HashMap<i32, (Connection, Vec<DeleteRecordsTopic>)> = HashMap::new();
    for ((name, partition), offset) in before {
        let (connection, info) = cluster.leader(name, *partition).await?;
        let wanted = DeleteRecordsPartition { partition_index: *partition, offset: *offset };
        let topics = &mut by_leader.entry(info.leader).or_insert((connection, Vec::new())).1;
        match topics.iter_mut().find(|topic| topic.name == *name) {
            Some(topic) => topic.partitions.push(wanted),
            None => topics.push(DeleteRecordsTopic { name: name.clone(), partitions: vec![wanted] }),
        }
    }
    let mut refused = BTreeMap::new();
    for (connection, topics) in by_leader.into_values() {
        let timeout_ms = CHANGE_TIMEOUT.as_millis() as i32;
        let answer = changed(&connection, &DeleteRecordsRequest { topics, timeout_ms }).await?;
        for topic in answer.topics {
            for it in topic.partitions.iter().filter(|it| it.error_code.is_err()) {
                let place = (topic.name.clone(), it.partition_index);
                let about = format!("topic '{}' partition {}", place.0, place.1);
                refused.insert(place, Error::refused_about(DeleteRecordsRequest::KEY, it.error_code, about));
            }
        }
    }
    Ok(refused)
}

/// Deletes a topic.
///
/// # Errors
/// There is none, or it may not be deleted.
pub async fn delete_topic(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let connection = cluster.controller().await?;
    let version = connection.version::<DeleteTopicsRequest>(i16::MAX)?;
    let timeout_ms = CHANGE_TIMEOUT.as_millis() as i32;
    let mut request = DeleteTopicsRequest { timeout_ms, ..Default::default() };
    match version {
        ..6 => request.topic_names = vec![name.to_owned()],
        6.. => request.topics = vec![DeleteTopicState { name: Some(name.to_owned()), ..Default::default() }],
    }
    let answer = connection.send(&request, version, CHANGE_TIMEOUT)?.await?;
    match answer.responses.into_iter().next() {
        Some(it) if it.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            Err(Error::NoTopic(name.to_owned()))
        }
        Some(it) if it.error_code.is_err() => {
            Err(Error::refused(DeleteTopicsRequest::KEY, it.error_code, it.error_message))
        }
        _ => Ok(()),
    }
}

/// Asks the controller in the newest version that both know.
async fn change<R: Request>(cluster: &Cluster, request: &R) -> Result<R::Response, Error> {
    changed(&cluster.controller().await?, request).await
}

async fn changed<R: Request>(connection: &Connection, request: &R) -> Result<R::Response, Error> {
    let version = connection.version::<R>(i16::MAX)?;
    connection.send(request, version, CHANGE_TIMEOUT)?.await
}

/// Who has settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(i32),
    /// All brokers that are not set otherwise.
    AllBrokers,
}

impl Configured {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => ConfigResourceType::Topic as i8,
            Self::Broker(_) | Self::AllBrokers => ConfigResourceType::Broker as i8,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Topic(name) => name.clone(),
            Self::Broker(id) => id.to_string(),
            Self::AllBrokers => String::new(),
        }
    }

    /// What is set of one broker only that one knows. Kafka KIP-226.
    async fn connection(&self, cluster: &Cluster) -> Result<Option<Connection>, Error> {
        match self {
            Self::Broker(id) => cluster.node(*id).await.map(Some),
            Self::Topic(_) | Self::AllBrokers => Ok(None),
        }
    }
}

/// The settings of a topic or a broker.
///
/// # Errors
/// Refused; no broker answers.
pub async fn configs(
    cluster: &Cluster,
    of: &Configured,
) -> Result<Vec<DescribeConfigsResourceResult>, Error> {
    let resource = DescribeConfigsResource {
        resource_type: of.kind(),
        resource_name: of.name(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let connection = match of.connection(cluster).await? {
        Some(connection) => connection,
        None => cluster.any().await?,
    };
    let answer = connection.ask(&request).await?;
    match answer.results.into_iter().next() {
        Some(it) if it.error_code.is_err() => {
            Err(Error::refused(DescribeConfigsRequest::KEY, it.error_code, it.error_message))
        }
        Some(it) => Ok(it.configs),
        None => Ok(Vec::new()),
    }
}

/// Changes settings of a topic or a broker, and leaves the others as they are; no value is what counts if it is not set.
/// With `dry` it is only checked.
///
/// # Errors
/// Refused: no such setting, or not this value.
pub async fn alter_configs(
    cluster: &Cluster,
    of: &Configured,
    changes: &[(String, Option<String>)],
    dry: bool,
) -> Result<(), Error> {
    let change = |(name, value): &(String, Option<String>)| AlterableConfig {
        name: name.clone(),
        config_operation: i8::from(value.is_none()),
        value: value.clone(),
    };
    let resource = AlterConfigsResource {
        resource_type: of.kind(),
        resource_name: of.name(),
        configs: changes.iter().map(change).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: dry };
    let connection = match of.connection(cluster).await? {
        Some(connection) => connection,
        None => cluster.controller().await?,
    };
    let answer = changed(&connection, &request).await?;
    match answer.responses.into_iter().find(|it| it.error_code.is_err()) {
        Some(it) => Err(Error::refused(IncrementalAlterConfigsRequest::KEY, it.error_code, it.error_message)),
        None => Ok(()),
    }
}

/// Bytes of each partition on disk, the largest replica of it; all brokers are asked.
///
/// # Errors
/// Refused; a broker does not answer.
pub async fn sizes(cluster: &Cluster) -> Result<HashMap<(String, i32), i64>, Error> {
    let mut sizes: HashMap<(String, i32), i64> = HashMap::new();
    for node in cluster.nodes() {
        let connection = cluster.node(node.id).await?;
        let answer = connection.ask(&DescribeLogDirsRequest { topics: None }).await?;
        Error::check(DescribeLogDirsRequest::KEY, answer.error_code)?;
        for topic in answer.results.into_iter().flat_map(|result| result.topics) {
            for partition in topic.partitions.iter().filter(|it| !it.is_future_key) {
                let size = sizes.entry((topic.name.clone(), partition.partition_index)).or_default();
                *size = (*size).max(partition.partition_size);
            }
        }
    }
    Ok(sizes)
}
