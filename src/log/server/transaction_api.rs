//! The APIs of transactions: from the wire to the coordinator and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::answer::{Head, Pending, encode};
use super::coordinator::Safe;
use super::groups::when_safe;
use super::session::Session;
use super::topics::OFFSETS_TOPIC;
use crate::log::engine::group::{Caller, Commit, Commits, Place};
use crate::log::engine::transaction::{Answer, Init, Value, Writer};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use crate::log::wire::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction,
};
use crate::log::wire::api::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use crate::log::wire::api::end_txn::{EndTxnRequest, EndTxnResponse};
use crate::log::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::log::wire::api::list_transactions::{
    self as list, ListTransactionsRequest, ListTransactionsResponse,
};
use crate::log::wire::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};

/// Where groups keep what transactions commit.
fn offsets_place() -> Place {
    Place { topic: OFFSETS_TOPIC.to_owned(), partition: 0 }
}

/// Older clients know a fenced producer under another name.
fn told(error: ErrorCode, version: i16, fenced_from: i16) -> ErrorCode {
    if error == ErrorCode::PRODUCER_FENCED && version < fenced_from {
        ErrorCode::INVALID_PRODUCER_EPOCH
    } else {
        error
    }
}

/// Waits for the coordinator's answer, and until what it stands on is safe.
async fn answer(session: &Session, asked: oneshot::Receiver<(Answer, Safe)>) -> Option<Answer> {
    let (answer, safe) = asked.await.ok()?;
    match safe {
        Some((partition, end)) => match session.safe(&partition, end).await {
            Ok(()) => Some(answer),
            Err(error) => Some(Answer { error, producer_id: -1, epoch: -1 }),
        },
        None => Some(answer),
    }
}

/// `InitProducerId` of a producer with transactions.
pub(super) fn init(
    session: &Arc<Session>,
    head: Head,
    request: &InitProducerIdRequest,
    id: String,
) -> Pending {
    if !session.may_transact(AclOperation::Write, &id) {
        let response = InitProducerIdResponse {
            error_code: ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        };
        return Pending::ready::<InitProducerIdRequest>(head, &response);
    }
    let known = (request.producer_id >= 0).then_some((request.producer_id, request.producer_epoch));
    let init = Init { id, timeout_ms: request.transaction_timeout_ms, known };
    let broker = &session.broker;
    let asked = broker
        .transactions
        .ask(broker, |engine, now, ticket, new_id, out| engine.init(now, ticket, init, new_id, out));
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        let answer = answer(&session, asked).await?;
        let response = InitProducerIdResponse {
            error_code: told(answer.error, head.version, 4),
            producer_id: answer.producer_id,
            producer_epoch: answer.epoch,
            ..InitProducerIdResponse::default()
        };
        encode::<InitProducerIdRequest>(head, &response)
    }))
}

/// From this version on other brokers ask, about several transactions at once (KIP-890).
const OF_BROKERS_FROM: i16 = 4;

/// Partitions by topic, and what is wrong with each.
type Outcomes = Vec<(String, Vec<(i32, ErrorCode)>)>;

/// `AddPartitionsToTxn`.
pub(super) fn add_partitions(
    session: &Arc<Session>,
    head: Head,
    request: AddPartitionsToTxnRequest,
) -> Pending {
    let is_of_broker = head.version >= OF_BROKERS_FROM;
    if is_of_broker && !session.may_cluster(AclOperation::ClusterAction) {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        let response = AddPartitionsToTxnResponse { error_code, ..AddPartitionsToTxnResponse::default() };
        return Pending::ready::<AddPartitionsToTxnRequest>(head, &response);
    }
    let asked = match is_of_broker {
        true => request.transactions,
        false => vec![AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        }],
    };
    let mut last = None;
    let outcomes = asked.into_iter().map(|asked| {
        let id = asked.transactional_id.clone();
        let (outcomes, safe) = add_to_one(session, head.version, asked);
        last = safe.or(last.take());
        (id, outcomes)
    });
    let outcomes: Vec<(String, Outcomes)> = outcomes.collect();
    when_safe(session, last, outcomes, move |outcomes, done| {
        let topic = |(name, parts): (String, Vec<(i32, ErrorCode)>)| AddPartitionsToTxnTopicResult {
            name,
            results_by_partition: parts
                .into_iter()
                .map(|(partition_index, wrong)| AddPartitionsToTxnPartitionResult {
                    partition_index,
                    partition_error_code: if wrong.is_ok() { done.err().unwrap_or(wrong) } else { wrong },
                })
                .collect(),
        };
        let mut all = outcomes.into_iter().map(|(transactional_id, outcomes)| AddPartitionsToTxnResult {
            transactional_id,
            topic_results: outcomes.into_iter().map(topic).collect(),
        });
        let mut response = AddPartitionsToTxnResponse::default();
        match is_of_broker {
            true => response.results_by_transaction = all.collect(),
            false => {
                let topics = all.next().map(|one| one.topic_results).unwrap_or_default();
                response.results_by_topic_v3_and_below = topics;
            }
        }
        encode::<AddPartitionsToTxnRequest>(head, &response)
    })
}

/// Adds partitions to a transaction, or looks whether they are in it.
fn add_to_one(
    session: &Arc<Session>,
    version: i16,
    asked: AddPartitionsToTxnTransaction,
) -> (Outcomes, Safe) {
    let broker = &session.broker;
    let (id, producer_id, epoch) = (asked.transactional_id, asked.producer_id, asked.producer_epoch);
    let writer = Writer { id, producer_id, epoch };
    // A broker asks for clients that it has looked at itself.
    let is_trusted = version >= OF_BROKERS_FROM;
    let may = is_trusted || session.may_transact(AclOperation::Write, &writer.id);
    let mut outcomes: Outcomes = Vec::new();
    for asked in asked.topics {
        let topic = broker.topics.get(&asked.name).filter(|topic| !topic.is_internal());
        let may_write = is_trusted || session.may_topic(AclOperation::Write, &asked.name);
        let wrong = |index: i32| match topic.as_ref().and_then(|topic| topic.partition(index)) {
            _ if !may => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            _ if !may_write => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(_) => ErrorCode::NONE,
        };
        let parts = asked.partitions.into_iter().map(|index| (index, wrong(index))).collect();
        outcomes.push((asked.name, parts));
    }
    let place = |topic: &String, partition: i32| Place { topic: topic.clone(), partition };
    if asked.verify_only {
        let verify = |(topic, parts): &mut (String, Vec<(i32, ErrorCode)>)| {
            for (partition, wrong) in parts.iter_mut().filter(|(_, wrong)| wrong.is_ok()) {
                let place = place(topic, *partition);
                let looked = broker.transactions.run(broker, |engine, _, _| engine.verify(&writer, &place));
                let found = looked.map_or_else(Err, |(found, _)| found);
                *wrong = not_in_it(found.err().unwrap_or(ErrorCode::NONE), version);
            }
        };
        outcomes.iter_mut().for_each(verify);
        return (outcomes, None);
    }
    let parts = || outcomes.iter().flat_map(|(topic, parts)| parts.iter().map(move |part| (topic, part)));
    let places: Vec<Place> = parts().map(|(topic, (partition, _))| place(topic, *partition)).collect();
    // All or nothing: a partition that is not there keeps the others out too.
    let added = match parts().all(|(_, (_, wrong))| wrong.is_ok()) {
        true => broker.transactions.run(broker, |engine, now, out| engine.add(now, &writer, &places, out)),
        false => Ok((Err(ErrorCode::OPERATION_NOT_ATTEMPTED), None)),
    };
    let (result, safe) = added.unwrap_or_else(|error| (Err(error), None));
    let error = told(result.err().unwrap_or(ErrorCode::NONE), version, 2);
    for (_, wrong) in outcomes.iter_mut().flat_map(|(_, parts)| parts).filter(|(_, wrong)| wrong.is_ok()) {
        *wrong = error;
    }
    (outcomes, safe)
}

/// A partition is not in the transaction: from version 5 on that can be said.
fn not_in_it(error: ErrorCode, version: i16) -> ErrorCode {
    const ABORTABLE_FROM: i16 = 5;
    match error {
        ErrorCode::INVALID_TXN_STATE if version >= ABORTABLE_FROM => ErrorCode::TRANSACTION_ABORTABLE,
        other => other,
    }
}

/// Whether someone may commit offsets of a group in a transaction.
fn may_commit(session: &Session, id: &str, group: &str) -> Result<(), ErrorCode> {
    if !session.may_transact(AclOperation::Write, id) {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    if !session.may_group(AclOperation::Read, group) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    Ok(())
}

/// `AddOffsetsToTxn`.
pub(super) fn add_offsets(session: &Arc<Session>, head: Head, request: AddOffsetsToTxnRequest) -> Pending {
    let broker = &session.broker;
    let writer = Writer {
        id: request.transactional_id,
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let may = may_commit(session, &writer.id, &request.group_id);
    // It has to be there before a marker is to go to it.
    let added = may.and_then(|()| {
        broker.coordinator.partition().and_then(|_| {
            broker
                .transactions
                .run(broker, |engine, now, out| engine.add(now, &writer, &[offsets_place()], out))
        })
    });
    let (result, safe) = match added {
        Ok((result, safe)) => (result, safe),
        Err(error) => (Err(error), None),
    };
    let error = told(result.err().unwrap_or(ErrorCode::NONE), head.version, 2);
    when_safe(session, safe, error, move |error, done| {
        let response =
            AddOffsetsToTxnResponse { throttle_time_ms: 0, error_code: done.err().unwrap_or(error) };
        encode::<AddOffsetsToTxnRequest>(head, &response)
    })
}

/// `EndTxn`.
pub(super) fn end(session: &Arc<Session>, head: Head, request: EndTxnRequest) -> Pending {
    /// From this version on each transaction has an epoch of its own (KIP-890).
    const EPOCHS_FROM: i16 = 5;
    let writer = Writer {
        id: request.transactional_id,
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    };
    if !session.may_transact(AclOperation::Write, &writer.id) {
        let error_code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        let response = EndTxnResponse { error_code, ..EndTxnResponse::default() };
        return Pending::ready::<EndTxnRequest>(head, &response);
    }
    let broker = &session.broker;
    let (commits, bumps) = (request.committed, head.version >= EPOCHS_FROM);
    let asked = broker.transactions.ask(broker, |engine, now, ticket, new_id, out| {
        engine.end(now, ticket, (&writer, commits, bumps), new_id, out);
    });
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        let answer = answer(&session, asked).await?;
        let response = EndTxnResponse {
            throttle_time_ms: 0,
            error_code: told(answer.error, head.version, 2),
            producer_id: answer.producer_id,
            producer_epoch: answer.epoch,
        };
        encode::<EndTxnRequest>(head, &response)
    }))
}

/// `TxnOffsetCommit`.
pub(super) fn commit_offsets(session: &Arc<Session>, head: Head, request: TxnOffsetCommitRequest) -> Pending {
    /// From this version on it needs no AddOffsetsToTxn before it (KIP-890).
    const ADDS_FROM: i16 = 5;
    let broker = Arc::clone(&session.broker);
    let writer = Writer {
        id: request.transactional_id,
        producer_id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let may = may_commit(session, &writer.id, &request.group_id);
    let mut wrong = Vec::new();
    let mut commits = Vec::new();
    for topic in &request.topics {
        let found = broker.topics.get(&topic.name);
        let may_read = session.may_topic(AclOperation::Read, &topic.name);
        for part in &topic.partitions {
            let is_known =
                found.as_ref().is_some_and(|topic| topic.partition(part.partition_index).is_some());
            wrong.push(match may {
                Err(error) => Some(error),
                Ok(()) if !may_read => Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                Ok(()) if !is_known => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                Ok(()) => None,
            });
            if may.is_ok() && may_read && is_known {
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
            generation: request.generation_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
        },
        retention_ms: None,
        commits,
    };
    let committed = may.and_then(|()| broker.coordinator.partition()).and_then(|_| {
        broker.transactions.append_to(&broker, &writer, &offsets_place(), head.version >= ADDS_FROM, || {
            broker.coordinator.commit_in_transaction((writer.producer_id, writer.epoch), &commits)
        })
    });
    let (results, safe) = match committed {
        Ok((results, safe)) => (results, safe),
        Err(error) => (vec![told(error, 0, 1); commits.commits.len()], None),
    };
    let mut results = results.into_iter();
    let mut result = wrong
        .into_iter()
        .map(|wrong| wrong.unwrap_or_else(|| results.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR)));
    let topics: Vec<TxnOffsetCommitResponseTopic> = request
        .topics
        .into_iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(result.by_ref())
                .map(|(part, error_code)| TxnOffsetCommitResponsePartition {
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
        encode::<TxnOffsetCommitRequest>(head, &TxnOffsetCommitResponse { throttle_time_ms: 0, topics })
    })
}

/// `DescribeTransactions`.
pub(super) fn describe(session: &Session, head: Head, request: DescribeTransactionsRequest) -> Pending {
    let one = |id: String| {
        if !session.may_transact(AclOperation::Describe, &id) {
            return TransactionState {
                error_code: ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                transactional_id: id,
                ..TransactionState::default()
            };
        }
        let found = session.broker.transactions.look(|engine| engine.get(&id).cloned());
        let Some(value) = found else {
            return TransactionState {
                error_code: ErrorCode::TRANSACTIONAL_ID_NOT_FOUND,
                transactional_id: id,
                ..TransactionState::default()
            };
        };
        let Value { producer_id, epoch, timeout_ms, state, partitions, started_ms, .. } = value;
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let visible = |place: &Place| session.may_topic(AclOperation::Describe, &place.topic);
        for place in partitions.into_iter().filter(visible) {
            topics.entry(place.topic).or_default().push(place.partition);
        }
        TransactionState {
            error_code: ErrorCode::NONE,
            transactional_id: id,
            transaction_state: state.name().to_owned(),
            transaction_timeout_ms: timeout_ms,
            transaction_start_time_ms: started_ms,
            producer_id,
            producer_epoch: epoch,
            topics: topics.into_iter().map(|(topic, partitions)| TopicData { topic, partitions }).collect(),
        }
    };
    let transaction_states = request.transactional_ids.into_iter().map(one).collect();
    let response = DescribeTransactionsResponse { throttle_time_ms: 0, transaction_states };
    Pending::ready::<DescribeTransactionsRequest>(head, &response)
}

/// `ListTransactions`.
pub(super) fn list(session: &Session, head: Head, request: &ListTransactionsRequest) -> Pending {
    let (states, ids) = (&request.state_filters, &request.producer_id_filters);
    let now = super::produce::now_ms();
    let transaction_states = session.broker.transactions.look(|engine| {
        let wanted = engine.iter().filter(|(id, value)| {
            let is_long = request.duration_filter < 0
                || value.started_ms >= 0 && now.saturating_sub(value.started_ms) > request.duration_filter;
            (states.is_empty() || states.iter().any(|state| state == value.state.name()))
                && (ids.is_empty() || ids.contains(&value.producer_id))
                && is_long
                && session.may_transact(AclOperation::Describe, id)
        });
        let one = |(id, value): (&str, &Value)| list::TransactionState {
            transactional_id: id.to_owned(),
            producer_id: value.producer_id,
            transaction_state: value.state.name().to_owned(),
        };
        wanted.map(one).collect()
    });
    const KNOWN: [&str; 6] =
        ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"];
    let unknown_state_filters =
        states.iter().filter(|state| !KNOWN.contains(&state.as_str())).cloned().collect();
    let response = ListTransactionsResponse {
        unknown_state_filters,
        transaction_states,
        ..ListTransactionsResponse::default()
    };
    Pending::ready::<ListTransactionsRequest>(head, &response)
}
