//! Questions about topics, partitions and groups, and changes to them.

use std::collections::HashMap;
use std::time::Duration;

use super::{Cluster, Connection, Coordinates, Error};
use crate::log::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::log::wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::log::wire::api::delete_groups::DeleteGroupsRequest;
use crate::log::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::log::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use crate::log::wire::api::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use crate::log::wire::api::describe_log_dirs::DescribeLogDirsRequest;
use crate::log::wire::api::list_groups::{ListGroupsRequest, ListedGroup};
use crate::log::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::log::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::log::wire::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
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
    let connection = cluster.controller().await?;
    let version = connection.version::<R>(i16::MAX)?;
    connection.send(request, version, CHANGE_TIMEOUT)?.await
}

/// The settings of a topic.
///
/// # Errors
/// Refused; no broker answers.
pub async fn topic_configs(
    cluster: &Cluster,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, Error> {
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: name.to_owned(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer = cluster.any().await?.ask(&request).await?;
    match answer.results.into_iter().next() {
        Some(it) if it.error_code.is_err() => {
            Err(Error::refused(DescribeConfigsRequest::KEY, it.error_code, it.error_message))
        }
        Some(it) => Ok(it.configs),
        None => Ok(Vec::new()),
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

/// The groups of all brokers.
///
/// # Errors
/// Refused; a broker does not answer.
pub async fn groups(cluster: &Cluster) -> Result<Vec<ListedGroup>, Error> {
    let mut groups: Vec<ListedGroup> = Vec::new();
    for node in cluster.nodes() {
        let connection = cluster.node(node.id).await?;
        let answer = connection.ask(&ListGroupsRequest::default()).await?;
        Error::check(ListGroupsRequest::KEY, answer.error_code)?;
        groups.extend(answer.groups);
    }
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    groups.dedup_by(|a, b| a.group_id == b.group_id);
    Ok(groups)
}

/// A classic group in detail.
///
/// # Errors
/// Refused; no coordinator.
pub async fn describe_group(cluster: &Cluster, group: &str) -> Result<DescribedGroup, Error> {
    let connection = cluster.coordinator(Coordinates::Group, group).await?;
    let request = DescribeGroupsRequest { groups: vec![group.to_owned()], ..Default::default() };
    // Version 6 answers for a group that is not there with an error; up to 5 it is dead.
    let version = connection.version::<DescribeGroupsRequest>(5)?;
    let answer = connection.send(&request, version, Duration::ZERO)?.await?;
    let described = answer.groups.into_iter().next().unwrap_or_default();
    Error::check(DescribeGroupsRequest::KEY, described.error_code)?;
    Ok(described)
}

/// The offsets that a group stored, by topic and partition.
///
/// # Errors
/// Refused; no coordinator.
pub async fn group_offsets(cluster: &Cluster, group: &str) -> Result<HashMap<(String, i32), i64>, Error> {
    let connection = cluster.coordinator(Coordinates::Group, group).await?;
    // Version 10 names topics by id.
    let version = connection.version::<OffsetFetchRequest>(9)?;
    let mut request = OffsetFetchRequest::default();
    match version {
        ..8 => (request.group_id, request.topics) = (group.to_owned(), None),
        8.. => {
            let group_id = group.to_owned();
            request.groups = vec![OffsetFetchRequestGroup { group_id, topics: None, ..Default::default() }];
        }
    }
    let answer = connection.send(&request, version, Duration::ZERO)?.await?;
    let mut offsets = HashMap::new();
    let mut put = |topic: &str, partition, offset| {
        if offset >= 0 {
            offsets.insert((topic.to_owned(), partition), offset);
        }
    };
    Error::check(OffsetFetchRequest::KEY, answer.error_code)?;
    for topic in &answer.topics {
        topic.partitions.iter().for_each(|it| put(&topic.name, it.partition_index, it.committed_offset));
    }
    for group in &answer.groups {
        Error::check(OffsetFetchRequest::KEY, group.error_code)?;
        for topic in &group.topics {
            topic.partitions.iter().for_each(|it| put(&topic.name, it.partition_index, it.committed_offset));
        }
    }
    Ok(offsets)
}

/// Who commits: nobody in particular, or a member of the group.
#[derive(Debug, Clone, Default)]
pub struct Committer {
    /// The member, and the generation of the group that it is in.
    pub member: Option<(String, i32)>,
}

/// Stores offsets of a group.
///
/// # Errors
/// Refused, as a group with members refuses others; no coordinator.
pub async fn commit(
    cluster: &Cluster,
    group: &str,
    committer: &Committer,
    offsets: &[(String, i32, i64)],
) -> Result<(), Error> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (topic, partition_index, committed_offset) in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            committed_metadata: Some(String::new()),
            ..Default::default()
        };
        match topics.iter_mut().find(|it| it.name == *topic) {
            Some(it) => it.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: topic.clone(),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    let (member_id, generation) = committer.member.clone().unwrap_or((String::new(), -1));
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id,
        topics,
        ..Default::default()
    };
    let mut pause = cluster.retries();
    loop {
        let connection = cluster.coordinator(Coordinates::Group, group).await?;
        let version = connection.version::<OffsetCommitRequest>(9)?;
        let answer = connection.send(&request, version, Duration::ZERO)?.await?;
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code);
        match codes.filter(|code| code.is_err()).max() {
            None => return Ok(()),
            Some(code) if code.is_retriable() && pause.again().await => {}
            Some(code) => return Err(Error::refused(OffsetCommitRequest::KEY, code, None)),
        }
    }
}

/// Deletes a group that has no members.
///
/// # Errors
/// There is none, or it has members.
pub async fn delete_group(cluster: &Cluster, group: &str) -> Result<(), Error> {
    let connection = cluster.coordinator(Coordinates::Group, group).await?;
    let request = DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
    let answer = connection.ask(&request).await?;
    match answer.results.first() {
        Some(it) => Error::check(DeleteGroupsRequest::KEY, it.error_code),
        None => Ok(()),
    }
}
