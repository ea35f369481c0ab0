//! The APIs of committed offsets: from the wire to the coordinator and back.

use std::sync::Arc;

use super::answer::{Head, Pending, encode};
use super::groups::when_safe;
use super::session::Session;
use crate::log::engine::group::{Caller, Commit, Commits, Fetched, Place};
use crate::log::wire::ErrorCode;
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

/// `OffsetCommit`.
pub(super) fn commit(session: &Arc<Session>, head: Head, request: OffsetCommitRequest) -> Pending {
    let broker = &session.broker;
    // Each partition of the request, and whether there is one of that name.
    let mut known = Vec::new();
    let mut commits = Vec::new();
    for topic in &request.topics {
        let found = broker.topics.get(&topic.name);
        for part in &topic.partitions {
            let is_known =
                found.as_ref().is_some_and(|topic| topic.partition(part.partition_index).is_some());
            known.push(is_known);
            if is_known {
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
    let committed = broker.coordinator.run(|groups, now, out| groups.commit(now, &commits, out));
    let (results, safe) = match committed {
        Ok(committed) => committed,
        Err(error) => (vec![error; commits.commits.len()], None),
    };
    let mut results = results.into_iter();
    let mut result = known.into_iter().map(|known| match known {
        true => results.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    });
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
        let error_code =
            if is_stable && is_unstable { ErrorCode::UNSTABLE_OFFSET_COMMIT } else { ErrorCode::NONE };
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
        let groups = request.groups.iter().map(|group| OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            topics: of_group(session, group, request.require_stable),
            error_code: ErrorCode::NONE,
        });
        let response = OffsetFetchResponse { groups: groups.collect(), ..OffsetFetchResponse::default() };
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
    let deleted =
        session.broker.coordinator.run(|groups, _, out| groups.delete_offsets(&group, &places, out));
    let (results, safe) = match deleted {
        Ok((Ok(results), safe)) => (results, safe),
        Ok((Err(error_code), _)) | Err(error_code) => {
            let response = OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
            return Pending::ready::<OffsetDeleteRequest>(head, &response);
        }
    };
    let mut results = results.into_iter();
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
