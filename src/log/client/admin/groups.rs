//! Groups of readers: which there are, who is in them, what they have stored.

use std::collections::HashMap;
use std::time::Duration;

use crate::log::client::{Cluster, Connection, Coordinates, Error};
use crate::log::wire::Request as _;
use crate::log::wire::api::consumer_group_describe::ConsumerGroupDescribeRequest;
use crate::log::wire::api::delete_groups::DeleteGroupsRequest;
use crate::log::wire::api::describe_groups::DescribeGroupsRequest;
use crate::log::wire::api::list_groups::{ListGroupsRequest, ListedGroup};
use crate::log::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::log::wire::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use crate::log::wire::consumer_protocol::parse_assignment;

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

/// A group in detail, classic or of the next generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// As `Stable`, `Empty`; `Dead` for one that is not there.
    pub state: String,
    /// How its partitions are divided; empty while they are not.
    pub protocol: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its lasting name, if it has one.
    pub instance: Option<String>,
    /// What its client calls itself.
    pub client: String,
    /// Where its client is.
    pub host: String,
    /// What it reads; nothing in groups that are none of consumers.
    pub partitions: Vec<(String, i32)>,
}

impl GroupInfo {
    /// There is nobody in it, and never was, or it was removed.
    pub fn is_dead(&self) -> bool {
        self.state.is_empty() || self.state == "Dead"
    }
}

/// A group in detail.
///
/// # Errors
/// Refused; no coordinator.
pub async fn describe_group(cluster: &Cluster, group: &str) -> Result<GroupInfo, Error> {
    cluster.ask_coordinator(Coordinates::Group, group, |connection| ask_group(connection, group)).await
}

async fn ask_group(connection: Connection, group: &str) -> Result<GroupInfo, Error> {
    let request = DescribeGroupsRequest { groups: vec![group.to_owned()], ..Default::default() };
    // Version 6 answers for a group that is not there with an error; up to 5 it is dead.
    let version = connection.version::<DescribeGroupsRequest>(5)?;
    let answer = connection.send(&request, version, Duration::ZERO)?.await?;
    let described = answer.groups.into_iter().next().unwrap_or_default();
    Error::check(DescribeGroupsRequest::KEY, described.error_code)?;
    let member = |it: crate::log::wire::api::describe_groups::DescribedGroupMember| {
        let partitions = parse_assignment(&it.member_assignment).unwrap_or_default().into_iter();
        GroupMember {
            partitions: partitions.flat_map(|(topic, all)| pairs(topic, all)).collect(),
            id: it.member_id,
            instance: it.group_instance_id,
            client: it.client_id,
            host: it.client_host,
        }
    };
    let info = GroupInfo {
        state: described.group_state,
        protocol: described.protocol_data,
        members: described.members.into_iter().map(member).collect(),
    };
    // Groups of the next generation are not known by this question.
    if info.is_dead() && connection.offers::<ConsumerGroupDescribeRequest>() {
        return Ok(next_generation(&connection, group).await?.unwrap_or(info));
    }
    Ok(info)
}

async fn next_generation(connection: &Connection, group: &str) -> Result<Option<GroupInfo>, Error> {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![group.to_owned()], ..Default::default() };
    let answer = connection.ask(&request).await?;
    let Some(described) = answer.groups.into_iter().next().filter(|it| it.error_code.is_ok()) else {
        return Ok(None);
    };
    let member = |it: crate::log::wire::api::consumer_group_describe::Member| {
        let topics = it.assignment.topic_partitions.into_iter();
        GroupMember {
            partitions: topics.flat_map(|topic| pairs(topic.topic_name, topic.partitions)).collect(),
            id: it.member_id,
            instance: it.instance_id,
            client: it.client_id,
            host: it.client_host,
        }
    };
    Ok(Some(GroupInfo {
        state: described.group_state,
        protocol: described.assignor_name,
        members: described.members.into_iter().map(member).collect(),
    }))
}

fn pairs(topic: String, partitions: Vec<i32>) -> impl Iterator<Item = (String, i32)> {
    partitions.into_iter().map(move |partition| (topic.clone(), partition))
}

/// The offsets that a group stored, by topic and partition.
///
/// # Errors
/// Refused; no coordinator.
pub async fn group_offsets(cluster: &Cluster, group: &str) -> Result<HashMap<(String, i32), i64>, Error> {
    let stored = stored(cluster, group).await?;
    Ok(stored.into_iter().map(|(place, stored)| (place, stored.offset)).collect())
}

/// What a group stored for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The offset to go on from.
    pub offset: i64,
    /// The text that was stored with it; empty for none.
    pub metadata: String,
}

/// What a group stored, by topic and partition.
///
/// # Errors
/// Refused; no coordinator.
pub async fn stored(cluster: &Cluster, group: &str) -> Result<HashMap<(String, i32), Stored>, Error> {
    cluster.ask_coordinator(Coordinates::Group, group, |connection| ask_stored(connection, group)).await
}

async fn ask_stored(connection: Connection, group: &str) -> Result<HashMap<(String, i32), Stored>, Error> {
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
    let mut stored = HashMap::new();
    let mut put = |topic: &str, partition, offset, metadata: &Option<String>| {
        if offset >= 0 {
            let metadata = metadata.clone().unwrap_or_default();
            stored.insert((topic.to_owned(), partition), Stored { offset, metadata });
        }
    };
    Error::check(OffsetFetchRequest::KEY, answer.error_code)?;
    for topic in &answer.topics {
        let partitions = topic.partitions.iter();
        partitions.for_each(|it| put(&topic.name, it.partition_index, it.committed_offset, &it.metadata));
    }
    for group in &answer.groups {
        Error::check(OffsetFetchRequest::KEY, group.error_code)?;
        for topic in &group.topics {
            let partitions = topic.partitions.iter();
            partitions.for_each(|it| put(&topic.name, it.partition_index, it.committed_offset, &it.metadata));
        }
    }
    Ok(stored)
}

/// Who commits: nobody in particular, or a member of the group.
#[derive(Debug, Clone)]
pub struct Committer {
    /// Id of the member; empty for nobody in particular.
    pub member: String,
    /// Lasting name of the member, if it has one.
    pub instance: Option<String>,
    /// The generation of the group that it is in; -1 for nobody in particular.
    pub generation: i32,
    /// Text that is kept with the offsets.
    pub metadata: String,
}

impl Default for Committer {
    fn default() -> Self {
        Self { member: String::new(), instance: None, generation: -1, metadata: String::new() }
    }
}

impl Committer {
    /// The request that stores these offsets.
    pub(in crate::log::client) fn request(
        &self,
        group: &str,
        offsets: &[(String, i32, i64)],
    ) -> OffsetCommitRequest {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (topic, partition_index, committed_offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: *partition_index,
                committed_offset: *committed_offset,
                committed_metadata: Some(self.metadata.clone()),
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
        OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member.clone(),
            group_instance_id: self.instance.clone(),
            topics,
            ..Default::default()
        }
    }
}

/// Sends a commit; what is wrong with one partition is wrong with all.
pub(in crate::log::client) async fn send_commit(
    connection: &Connection,
    request: &OffsetCommitRequest,
) -> Result<(), Error> {
    // Version 10 names topics by id; lasting names are known from version 7 on.
    let version = connection.version::<OffsetCommitRequest>(9)?;
    let answer = connection.send(request, version, Duration::ZERO)?.await?;
    let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code);
    match codes.filter(|code| code.is_err()).max() {
        None => Ok(()),
        Some(code) => Err(Error::refused(OffsetCommitRequest::KEY, code, None)),
    }
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
    let request = &committer.request(group, offsets);
    let send = |connection: Connection| async move { send_commit(&connection, request).await };
    cluster.ask_coordinator(Coordinates::Group, group, send).await
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
