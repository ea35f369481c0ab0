//! Ids of idempotent producers: no one is ever given out twice.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;

use super::answer::{Head, Pending, encode};
use super::definitions::{Definitions, key};
use super::session::Session;
use crate::log::wire::ErrorCode;
use crate::log::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
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

/// `InitProducerId` of a producer without transactions.
pub(super) fn init(session: &Arc<Session>, head: Head, request: &InitProducerIdRequest) -> Pending {
    let failed = |error_code| {
        let response = InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() };
        Pending::ready::<InitProducerIdRequest>(head, &response)
    };
    if request.transactional_id.is_some() {
        return failed(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
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
