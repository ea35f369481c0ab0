//! The APIs of committed offsets: from the wire to the coordinator and back.

use std::sync::Arc;

use super::answer::{Head, Pending, encode};
use super::groups::when_safe;
use super::session::Session;
use crate::log::engine::group::{Caller, Commit, Commits, Fetched, Place};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::log::wire::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::log::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

/// From this version on several groups are asked for at a time.
const GROUPS_FROM: i16 = 8;

/// From this version on a member of the next generation says its epoch (KIP-848).
const EPOCHS_FROM: i16 = 9;

/// `OffsetCommit`.
pub(super) fn commit(session: &Arc<Session>, head: Head, request: OffsetCommitRequest) -> Pending {
    let broker = &session.broker;
    let may = session.may_group(AclOperation::Read, &request.group_id);
    // Each partition of the request, and what is wrong with it.
    let mut wrong = Vec::new();
    let mut commits = Vec::new();
    for topic in &request.topics {
        let found = broker.topics.get(&topic.name);
        let may_read = session.may_topic(AclOperation::Read, &topic.name);
        for part in &topic.partitions {
            let is_known =
                found.as_ref().is_some_and(|topic| topic.partition(part.partition_index).is_some());
            wrong.push(match () {
                () if !may => Some(ErrorCode::GROUP_AUTHORIZATION_FAILED),
                () if !may_read => Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                () if !is_known => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                () => None,
            });
            if may && may_read && is_known {
                commits.push(Commit {
                    place: Place { topic: topic.name.clone(), partition: part.partition_index },
                    offset: part.committed_offset,
                    leader_epoch: part.committed_leader_epoch,
                    metadata: part.committed_metadata.clone().unwrap_or_default(),
                });
            }
        }
    }
    let commits = Commits {
        by: Caller {
            group: request.group_id,
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
        },
        retention_ms: Some(request.retention_time_ms).filter(|retention| *retention >= 0),
        commits,
    };
    let committed = match may {
        true => broker.coordinator.run(|groups, now, out| groups.commit(now, &commits, out)),
        false => Ok((Vec::new(), None)),
    };
    let (results, safe) = match committed {
        Ok(committed) => committed,
        Err(error) => (vec![error; commits.commits.len()], None),
    };
    let mut results = results.into_iter().map(|error| match error {
        // Older clients have no epochs.
        ErrorCode::STALE_MEMBER_EPOCH if head.version < EPOCHS_FROM => ErrorCode::UNSUPPORTED_VERSION,
        other => other,
    });
    let mut result = wrong
        .into_iter()
        .map(|wrong| wrong.unwrap_or_else(|| results.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR)));
    let topics: Vec<OffsetCommitResponseTopic> = request
        .topics
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .zip(result.by_ref())
                .map(|(part, error_code)| OffsetCommitResponsePartition {
                    partition_index: part.partition_index,
                    error_code,
                })
                .collect(),
        })
        .collect();
    when_safe(session, safe, topics, move |mut topics, done| {
        if let Err(error) = done {
            for part in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                part.error_code = error;
            }
        }
        encode::<OffsetCommitRequest>(head, &OffsetCommitResponse { throttle_time_ms: 0, topics })
    })
}

/// One group's offsets, by topic.
fn of_group(
    session: &Session,
    group: &OffsetFetchRequestGroup,
    is_stable: bool,
) -> Vec<OffsetFetchResponseTopics> {
    let named: Option<Vec<Place>> = group.topics.as_ref().map(|topics| {
        let places = topics.iter().flat_map(|topic| {
            let place = |partition: &i32| Place { topic: topic.name.clone(), partition: *partition };
            topic.partition_indexes.iter().map(place)
        });
        places.collect()
    });
    let found = session.broker.coordinator.look(|groups| groups.fetch(&group.group_id, named.as_deref()));
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for Fetched { place, committed, is_unstable } in found {
        let error_code = match session.may_topic(AclOperation::Describe, &place.topic) {
            // Who asks for all is told of those that it may know of.
            false if named.is_none() => continue,
            false => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            true if is_stable && is_unstable => ErrorCode::UNSTABLE_OFFSET_COMMIT,
            true => ErrorCode::NONE,
        };
        let committed = committed.filter(|_| error_code == ErrorCode::NONE);
        let (committed_offset, committed_leader_epoch, metadata) = match committed {
            Some(committed) => (committed.offset, committed.leader_epoch, committed.metadata),
            None => (-1, -1, String::new()),
        };
        let part = OffsetFetchResponsePartitions {
            partition_index: place.partition,
            committed_offset,
            committed_leader_epoch,
            metadata: Some(metadata),
            error_code,
        };
        match topics.last_mut().filter(|topic| topic.name == place.topic) {
            Some(topic) => topic.partitions.push(part),
            None => topics.push(OffsetFetchResponseTopics {
                name: place.topic,
                partitions: vec![part],
                ..OffsetFetchResponseTopics::default()
            }),
        }
    }
    topics
}

/// `OffsetFetch`.
pub(super) fn fetch(session: &Arc<Session>, head: Head, request: OffsetFetchRequest) -> Pending {
    if head.version >= GROUPS_FROM {
        let groups = request.groups.iter().map(|group| {
            let (id, member) = (&group.group_id, group.member_id.as_deref());
            let may = match session.may_group(AclOperation::Describe, id) {
                true => {
                    session.broker.coordinator.look(|groups| groups.may_fetch(id, member, group.member_epoch))
                }
                false => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
            };
            OffsetFetchResponseGroup {
                group_id: group.group_id.clone(),
                topics: match may {
                    Ok(()) => of_group(session, group, request.require_stable),
                    Err(_) => Vec::new(),
                },
                error_code: may.err().unwrap_or(ErrorCode::NONE),
            }
        });
        let response = OffsetFetchResponse { groups: groups.collect(), ..OffsetFetchResponse::default() };
        return Pending::ready::<OffsetFetchRequest>(head, &response);
    }
    if !session.may_group(AclOperation::Describe, &request.group_id) {
        let error_code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        let response = OffsetFetchResponse { error_code, ..OffsetFetchResponse::default() };
        return Pending::ready::<OffsetFetchRequest>(head, &response);
    }
    let named = request.topics.map(|topics| {
        let topic =
            |one: crate::log::wire::api::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
                name: one.name,
                partition_indexes: one.partition_indexes,
                ..OffsetFetchRequestTopics::default()
            };
        topics.into_iter().map(topic).collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: named,
        ..OffsetFetchRequestGroup::default()
    };
    let topics = of_group(session, &group, request.require_stable).into_iter().map(|topic| {
        let part = |part: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
            partition_index: part.partition_index,
            committed_offset: part.committed_offset,
            committed_leader_epoch: part.committed_leader_epoch,
            metadata: part.metadata,
            error_code: part.error_code,
        };
        OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(part).collect(),
        }
    });
    let response = OffsetFetchResponse { topics: topics.collect(), ..OffsetFetchResponse::default() };
    Pending::ready::<OffsetFetchRequest>(head, &response)
}

/// `OffsetDelete`.
pub(super) fn delete(session: &Arc<Session>, head: Head, request: OffsetDeleteRequest) -> Pending {
    let places: Vec<Place> = request
        .topics
        .iter()
        .flat_map(|topic| {
            let place = |part: &crate::log::wire::api::offset_delete::OffsetDeleteRequestPartition| Place {
                topic: topic.name.clone(),
                partition: part.partition_index,
            };
            topic.partitions.iter().map(place)
        })
        .collect();
    let group = request.group_id;
    let may = |topic: &str| session.may_topic(AclOperation::Read, topic);
    let deletable: Vec<Place> = places.iter().filter(|place| may(&place.topic)).cloned().collect();
    let deleted = match session.may_group(AclOperation::Delete, &group) {
        true => {
            session.broker.coordinator.run(|groups, _, out| groups.delete_offsets(&group, &deletable, out))
        }
        false => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
    };
    let (results, safe) = match deleted {
        Ok((Ok(results), safe)) => (results, safe),
        Ok((Err(error_code), _)) | Err(error_code) => {
            let response = OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
            return Pending::ready::<OffsetDeleteRequest>(head, &response);
        }
    };
    let mut results = results.into_iter();
    let mut results = places.iter().map(|place| match may(&place.topic) {
        true => results.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        false => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    });
    let topics: Vec<OffsetDeleteResponseTopic> = request
        .topics
        .into_iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .zip(results.by_ref())
                .map(|(part, error_code)| OffsetDeleteResponsePartition {
                    partition_index: part.partition_index,
                    error_code,
                })
                .collect(),
        })
        .collect();
    when_safe(session, safe, topics, move |topics, done| {
        let error_code = done.err().unwrap_or(ErrorCode::NONE);
        encode::<OffsetDeleteRequest>(
            head,
            &OffsetDeleteResponse { error_code, topics, ..Default::default() },
        )
    })
}
