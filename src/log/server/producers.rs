//! Ids of idempotent producers: no one is ever given out twice.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;

use super::answer::{Head, Pending, encode};
use super::definitions::{Definitions, key};
use super::session::Session;
use super::transaction_api;
use crate::log::engine::producer::Producer;
use crate::log::wire::ErrorCode;
use crate::log::wire::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use crate::log::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::log::wire::api::{AclOperation, ResourceType};
use crate::storage;

/// So many are written down at a time; those of a block that were not given out by a stop are never used.
const BLOCK: i64 = 1000;

/// Gives out ids.
#[derive(Debug)]
pub(super) struct ProducerIds {
    definitions: Arc<Definitions>,
    left: Mutex<Block>,
}

/// Ids that are written down and not given out yet.
#[derive(Debug, Default)]
struct Block {
    next: i64,
    end: i64,
    /// Where the definitions have to be safe before one of them is used.
    safe: i64,
}

impl ProducerIds {
    pub(super) fn new(definitions: Arc<Definitions>) -> Self {
        Self { definitions, left: Mutex::default() }
    }

    /// The next id, and how far the definitions have to be safe before it is used.
    ///
    /// # Errors
    /// A new block could not be written down.
    pub(super) fn next(&self) -> Result<(i64, i64), storage::Error> {
        let mut block = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if block.next == block.end {
            let name = key("producer ids", &["end"]);
            let from = self.definitions.get(&name).as_ref().and_then(Json::as_i64).unwrap_or(0);
            let end = from.saturating_add(BLOCK);
            let safe = self.definitions.change(vec![(name, Some(end.into()))])?;
            *block = Block { next: from, end, safe };
        }
        block.next += 1;
        Ok((block.next - 1, block.safe))
    }
}

/// `InitProducerId`.
pub(super) fn init(session: &Arc<Session>, head: Head, request: &InitProducerIdRequest) -> Pending {
    let failed = |error_code| {
        let response = InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() };
        Pending::ready::<InitProducerIdRequest>(head, &response)
    };
    if let Some(id) = &request.transactional_id {
        return transaction_api::init(session, head, request, id.clone());
    }
    // Who may write to any topic may be an idempotent producer.
    if !session.may_cluster(AclOperation::IdempotentWrite)
        && !session.may_any(AclOperation::Write, ResourceType::Topic)
    {
        return failed(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let Ok((producer_id, end)) = session.broker.producer_ids.next() else {
        return failed(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    };
    let definitions = Arc::clone(&session.broker.definitions);
    Pending::Later(Box::pin(async move {
        let response = match definitions.safe(end).await {
            Ok(()) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
            Err(_) => InitProducerIdResponse {
                error_code: ErrorCode::COORDINATOR_NOT_AVAILABLE,
                producer_epoch: -1,
                ..Default::default()
            },
        };
        encode::<InitProducerIdRequest>(head, &response)
    }))
}

/// `DescribeProducers`.
pub(super) fn describe(session: &Session, head: Head, request: DescribeProducersRequest) -> Pending {
    let topics = request.topics.into_iter().map(|asked| {
        let topic = session.broker.topics.get(&asked.name);
        let may_read = session.may_topic(AclOperation::Read, &asked.name);
        let partitions = asked.partition_indexes.iter().map(|&partition_index| {
            let partition = topic.as_ref().and_then(|topic| topic.partition(partition_index));
            let found = match may_read {
                true => partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            };
            let found = found
                .and_then(|partition| partition.producers(|producers| producers.iter().map(state).collect()));
            let (error_code, active_producers) = match found {
                Ok(states) => (ErrorCode::NONE, states),
                Err(error) => (error, Vec::new()),
            };
            PartitionResponse {
                partition_index,
                error_code,
                active_producers,
                ..PartitionResponse::default()
            }
        });
        TopicResponse { partitions: partitions.collect(), name: asked.name }
    });
    let response = DescribeProducersResponse { throttle_time_ms: 0, topics: topics.collect() };
    Pending::ready::<DescribeProducersRequest>(head, &response)
}

fn state((producer_id, producer): (i64, &Producer)) -> ProducerState {
    ProducerState {
        producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence(),
        last_timestamp: producer.last_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.unwrap_or(-1),
    }
}
