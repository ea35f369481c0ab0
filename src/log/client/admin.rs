//! Questions about topics and partitions, and changes to them. Those about groups are in a part of their own.

mod groups;

use std::collections::HashMap;
use std::time::Duration;

pub(in crate::log::client) use groups::send_commit;
pub use groups::{
    Committer, GroupInfo, GroupMember, Stored, commit, delete_group, describe_group, group_offsets, groups,
    stored,
};

use super::{Cluster, Connection, Error};
use crate::log::wire::api::ConfigResourceType;
use crate::log::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::log::wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::log::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::log::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use crate::log::wire::api::describe_log_dirs::DescribeLogDirsRequest;
use crate::log::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::log::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::log::wire::{ErrorCode, Request};

/// How long a broker may take to change something.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first record that is kept.
    Start,
    /// After the last record.
    End,
    /// After the last record whose transaction is decided.
    CommittedEnd,
    /// The first record of this time (ms since 1970) or later; the end if there is none.
    Time(i64),
    /// The newest record, by its time (KIP-734).
    Newest,
}

impl At {
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End | Self::CommittedEnd => -1,
            Self::Time(time) => time,
            Self::Newest => -3,
        }
    }
}

/// What was found at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The offset; -1 if there is none.
    pub offset: i64,
    /// The record's time in ms since 1970, or -1.
    pub timestamp: i64,
}

/// Offsets of one place in many partitions; their leaders are asked at once.
///
/// # Errors
/// A partition that is not there, or refused; a leader that does not answer.
pub async fn offsets(
    cluster: &Cluster,
    partitions: &[(String, i32)],
    at: At,
) -> Result<HashMap<(String, i32), Found>, Error> {
    let mut found = HashMap::with_capacity(partitions.len());
    let mut left: Vec<(String, i32)> = partitions.to_vec();
    let mut pause = cluster.retries();
    loop {
        let mut by_leader: HashMap<i32, (Connection, Vec<(String, i32)>)> = HashMap::new();
        for (topic, partition) in left.drain(..) {
            let (connection, info) = cluster.leader(&topic, partition).await?;
            by_leader.entry(info.leader).or_insert((connection, Vec::new())).1.push((topic, partition));
        }
        let asked = by_leader.into_values().map(|(connection, asked)| ask_leader(connection, asked, at));
        let mut last = None;
        for (asked, answer) in futures_util::future::join_all(asked).await {
            let mut answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.is_transient() => {
                    last = Some(error);
                    left.extend(asked);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for place in asked {
                match answer.remove(&place) {
                    Some((ErrorCode::NONE, it)) => {
                        found.insert(place, it);
                    }
                    Some((code, _)) if !code.is_retriable() => {
                        return Err(Error::refused(ListOffsetsRequest::KEY, code, None));
                    }
                    other => {
                        let code = other.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |(code, _)| code);
                        last = Some(Error::refused(ListOffsetsRequest::KEY, code, None));
                        cluster.forget(&place.0);
                        left.push(place);
                    }
                }
            }
        }
        match last {
            None => return Ok(found),
            Some(error) if !pause.again().await => return Err(error),
            Some(_) => {}
        }
    }
}

type Offsets = HashMap<(String, i32), (ErrorCode, Found)>;

async fn ask_leader(
    connection: Connection,
    asked: Vec<(String, i32)>,
    at: At,
) -> (Vec<(String, i32)>, Result<Offsets, Error>) {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (topic, partition_index) in &asked {
        let wanted = ListOffsetsPartition {
            partition_index: *partition_index,
            timestamp: at.timestamp(),
            ..Default::default()
        };
        match topics.iter_mut().find(|it| it.name == *topic) {
            Some(it) => it.partitions.push(wanted),
            None => topics.push(ListOffsetsTopic { name: topic.clone(), partitions: vec![wanted] }),
        }
    }
    let isolation_level = i8::from(at == At::CommittedEnd);
    let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
    // Version 11 asks a broker that has it for nothing that is wanted here.
    let answer = match connection.version::<ListOffsetsRequest>(10) {
        Ok(version) => match connection.send(&request, version, Duration::ZERO) {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let by_place = answer.map(|answer| {
        let topics = answer.topics.into_iter();
        let each = topics.flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |it| {
                let found = Found { offset: it.offset, timestamp: it.timestamp };
                ((name.clone(), it.partition_index), (it.error_code, found))
            })
        });
        each.collect()
    });
    (asked, by_place)
}

/// The offset of one place in one partition.
///
/// # Errors
/// As [`offsets`].
pub async fn offset(cluster: &Cluster, topic: &str, partition: i32, at: At) -> Result<i64, Error> {
    let place = (topic.to_owned(), partition);
    let found = offsets(cluster, std::slice::from_ref(&place), at).await?;
    Ok(found.get(&place).map_or(-1, |found| found.offset))
}

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
    let mut pause = cluster.retries();
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
            code if code.is_retriable() && pause.again().await => {
                cluster.metadata(Some(&[]), false).await?;
            }
            code => return Err(Error::refused(CreateTopicsRequest::KEY, code, result.error_message)),
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
