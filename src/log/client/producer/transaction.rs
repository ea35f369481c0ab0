//! Everything or nothing: records of a producer that has a lasting name (KIP-98). Partitions are added before the first
//! batch for them is sent, and at the end all of them count, or none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Producer;
use crate::log::client::{Connection, Coordinates, Error};
use crate::log::wire::api::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use crate::log::wire::api::end_txn::EndTxnRequest;
use crate::log::wire::api::init_producer_id::InitProducerIdRequest;
use crate::log::wire::{ErrorCode, Request as _};

/// Later versions name several transactions, or leave it to the broker to add partitions (KIP-890).
const ADD_VERSION_MAX: i16 = 3;
/// Version 5 gives out a new epoch with each end.
const END_VERSION_MAX: i16 = 4;

/// A transaction's name, and how long it may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOptions {
    /// The lasting name: whoever comes under it ends what the one before has left open.
    pub id: String,
    /// The coordinator aborts what is open for so long.
    pub timeout: Duration,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its records count.
    Commit,
    /// They never were.
    Abort,
}

impl Producer {
    /// An id for the transaction's name, which shuts out whoever had that name before.
    pub(super) async fn identify_transaction(
        &self,
        options: &TransactionOptions,
    ) -> Result<(i64, i16), Error> {
        let request = InitProducerIdRequest {
            transactional_id: Some(options.id.clone()),
            transaction_timeout_ms: i32::try_from(options.timeout.as_millis()).unwrap_or(i32::MAX),
            ..Default::default()
        };
        let request = &request;
        let ask = |connection: Connection| async move {
            // Version 6 is not settled yet.
            let version = connection.version::<InitProducerIdRequest>(5)?;
            let answer = connection.send(request, version, Duration::ZERO)?.await?;
            Error::check(InitProducerIdRequest::KEY, answer.error_code)?;
            Ok((answer.producer_id, answer.producer_epoch))
        };
        self.cluster.ask_coordinator(Coordinates::Transaction, &options.id, ask).await
    }

    /// Adds the partitions of these lanes to the transaction, as far as they are not in it.
    pub(super) async fn add_to_transaction(&mut self, lanes: &[usize]) -> Result<(), Error> {
        let Some(options) = self.options.transaction.clone() else { return Ok(()) };
        let new: Vec<usize> = lanes.iter().copied().filter(|lane| !self.added.contains(lane)).collect();
        let (Some((producer_id, producer_epoch)), false) = (self.identity, new.is_empty()) else {
            return Ok(());
        };
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for lane in &new {
            let lane = &self.lanes[*lane];
            topics.entry(self.topics[lane.topic].name.to_string()).or_default().push(lane.partition);
        }
        let topic = |(name, partitions)| AddPartitionsToTxnTopic { name, partitions };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: options.id.clone(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        };
        let request = &request;
        let ask = |connection: Connection| async move {
            let version = connection.version::<AddPartitionsToTxnRequest>(ADD_VERSION_MAX)?;
            let answer = connection.send(request, version, Duration::ZERO)?.await?;
            let results = answer.results_by_topic_v3_and_below.iter();
            let codes = results.flat_map(|topic| &topic.results_by_partition);
            let codes = codes.map(|it| it.partition_error_code).filter(|code| code.is_err());
            // What was not tried is not tried because of another one.
            match codes.min_by_key(|code| *code == ErrorCode::OPERATION_NOT_ATTEMPTED) {
                None => Ok(()),
                Some(code) => Err(Error::refused(AddPartitionsToTxnRequest::KEY, code, None)),
            }
        };
        self.cluster.ask_coordinator(Coordinates::Transaction, &options.id, ask).await?;
        self.added.extend(new);
        Ok(())
    }

    /// Gives the transaction up, with whatever is still on its way: under a new epoch nothing of it can count any more.
    ///
    /// # Errors
    /// As those of [`Self::end_transaction`].
    pub async fn abandon_transaction(&mut self) -> Result<(), Error> {
        let Some(options) = self.options.transaction.clone().filter(|_| !self.added.is_empty()) else {
            return Ok(());
        };
        self.identity = Some(self.identify_transaction(&options).await?);
        self.added.clear();
        Ok(())
    }

    /// Ends the transaction. All records have their outcomes by then; committed, they all have to be taken.
    ///
    /// # Errors
    /// The coordinator refuses, as when another producer has taken the name, or the transaction took too long.
    pub async fn end_transaction(&mut self, ending: Ending) -> Result<(), Error> {
        let Some(options) = self.options.transaction.clone() else { return Ok(()) };
        let (Some((producer_id, producer_epoch)), false) = (self.identity, self.added.is_empty()) else {
            // Nothing was sent: there is nothing to be ended.
            return Ok(());
        };
        let request = EndTxnRequest {
            transactional_id: options.id.clone(),
            producer_id,
            producer_epoch,
            committed: ending == Ending::Commit,
        };
        let request = &request;
        let ask = |connection: Connection| async move {
            let version = connection.version::<EndTxnRequest>(END_VERSION_MAX)?;
            // Asked once more it answers as it did before.
            let answer = connection.send(request, version, Duration::ZERO)?.await?;
            Error::check(EndTxnRequest::KEY, answer.error_code)
        };
        self.cluster.ask_coordinator(Coordinates::Transaction, &options.id, ask).await?;
        self.added.clear();
        Ok(())
    }
}
