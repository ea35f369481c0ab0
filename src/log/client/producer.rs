//! Records into batches, batches to the leaders of their partitions; nothing twice, nothing out of order (KIP-98).

mod lane;
mod send;
mod transaction;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Future;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use self::lane::Lane;
use super::sealed::Sealed;
use super::{Cluster, Error, TopicInfo, of_key};
use crate::log::wire::api::init_producer_id::InitProducerIdRequest;
use crate::log::wire::api::produce::ProduceResponse;
use crate::log::wire::{Compression, ErrorCode, Request as _};
use crate::wait::until;

pub use self::transaction::{Ending, TransactionOptions};

/// What comes so long after the last failure is told has a time of its own to be taken in.
const ANEW: Duration = Duration::from_secs(1);

/// Who must have a record before it counts as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// All replicas in sync; the only one with which nothing is written twice.
    #[default]
    All,
    /// The leader.
    Leader,
    /// Nobody: the broker does not even answer.
    None,
}

/// How records are sent.
#[derive(Debug, Clone)]
pub struct ProduceOptions {
    /// Who must have them.
    pub acks: Acks,
    /// How batches are packed.
    pub compression: Compression,
    /// How hard; see [`Compression::pack`].
    pub level: Option<i32>,
    /// A batch of so many bytes is closed.
    pub batch_bytes: usize,
    /// So many bytes may wait for answers before the next record has to.
    pub buffer_bytes: usize,
    /// Requests without an answer to one broker. More than five lose their order after an error.
    pub in_flight: usize,
    /// How long the broker may wait for replicas.
    pub timeout: Duration,
    /// Topics that do not exist are made, if the broker makes them.
    pub create: bool,
    /// All records belong to one transaction, until it is ended; with [`Acks::All`] only.
    pub transaction: Option<TransactionOptions>,
}

impl Default for ProduceOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            level: None,
            // Half of what brokers take unless told otherwise.
            batch_bytes: 512 << 10,
            buffer_bytes: 32 << 20,
            in_flight: 5,
            timeout: Duration::from_secs(30),
            create: false,
            transaction: None,
        }
    }
}

/// A record to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// In ms since 1970.
    pub timestamp: i64,
}

/// Where the records of a batch are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Offset of the batch's first record; -1 if the broker does not tell.
    pub offset: i64,
    /// When they were appended, in ms since 1970, if the topic takes the time of the append.
    pub append_time: Option<i64>,
    /// Newest time of a record in the batch, in ms since 1970.
    pub timestamp: i64,
}

/// What became of the messages of a batch.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Their numbers, in the order of their offsets.
    pub ids: Vec<u64>,
    /// Where they are, or why they were not taken.
    pub result: Result<Receipt, Error>,
}

/// What a request to a leader carried, and its answer.
type Answered = (i32, Vec<(usize, Sealed)>, Result<ProduceResponse, Error>);

/// Sends records. Not a task: it works while one of its futures is awaited, and each of them may be dropped.
pub struct Producer {
    cluster: Cluster,
    options: ProduceOptions,
    /// Id and epoch; none without idempotence, or before the first batch.
    identity: Option<(i64, i16)>,
    /// The identity is spoilt: a record with a sequence number was given up. A new one when nothing is on its way.
    is_spoilt: bool,
    /// Lanes whose partitions belong to the transaction.
    added: BTreeSet<usize>,
    topics: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
    lanes: Vec<Lane>,
    requests: FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>,
    /// Requests without an answer, by broker.
    in_flight: HashMap<i32, usize>,
    next_id: u64,
    /// Messages without an outcome.
    open: u64,
    /// Bytes of batches that are closed and without an outcome.
    bytes: usize,
    outcomes: VecDeque<Outcome>,
    /// Since when nothing was taken, of any partition.
    failing_since: Option<Instant>,
    /// When something was not taken last.
    failed_at: Instant,
    rng: fastrand::Rng,
}

struct Topic {
    name: Arc<str>,
    info: Arc<TopicInfo>,
    /// Lanes by partition.
    lanes: Vec<Option<usize>>,
    /// Where records without a key go until their batch is closed (KIP-480).
    sticky: i32,
}

/// A topic that a producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicHandle(usize);

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Producer {
    /// Sends to topics of `cluster`.
    pub fn new(cluster: Cluster, options: ProduceOptions) -> Self {
        let rng = fastrand::Rng::with_seed(cluster.config().seed);
        Self {
            cluster,
            options,
            identity: None,
            is_spoilt: false,
            added: BTreeSet::new(),
            topics: Vec::new(),
            by_name: HashMap::new(),
            lanes: Vec::new(),
            requests: FuturesUnordered::new(),
            in_flight: HashMap::new(),
            next_id: 0,
            open: 0,
            bytes: 0,
            outcomes: VecDeque::new(),
            failing_since: None,
            failed_at: Instant::now(),
            rng,
        }
    }

    /// Looks a topic up.
    ///
    /// # Errors
    /// There is none, or it may not be seen; no broker answers.
    pub async fn topic(&mut self, name: &str) -> Result<TopicHandle, Error> {
        if let Some(at) = self.by_name.get(name) {
            return Ok(TopicHandle(*at));
        }
        let info = self.cluster.topic(name, self.options.create).await?;
        let name: Arc<str> = name.into();
        let count = info.partitions.len();
        let sticky = self.rng.i32(0..count as i32);
        self.topics.push(Topic { name: name.clone(), info, lanes: vec![None; count], sticky });
        self.by_name.insert(name, self.topics.len() - 1);
        Ok(TopicHandle(self.topics.len() - 1))
    }

    /// Puts a record into its batch and returns its number, counted from 0. Waits while too much is on its way.
    ///
    /// # Errors
    /// No such partition; a record too large for any batch. The record has no number then.
    pub async fn produce(
        &mut self,
        topic: TopicHandle,
        partition: Option<i32>,
        message: &Message<'_>,
    ) -> Result<u64, Error> {
        let (id, is_full) = self.put(topic, partition, message)?;
        if is_full {
            self.make_room().await?;
        }
        Ok(id)
    }

    /// The same without waiting; true if a batch is full, and [`Producer::make_room`] is to be awaited before the next record.
    ///
    /// # Errors
    /// As [`Producer::produce`].
    pub fn put(
        &mut self,
        TopicHandle(topic): TopicHandle,
        partition: Option<i32>,
        message: &Message<'_>,
    ) -> Result<(u64, bool), Error> {
        let count = self.topics[topic].info.partitions.len();
        let partition = match (partition, message.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => of_key(key, count),
            (None, None) => self.topics[topic].sticky,
        };
        let lane = self.lane(topic, partition)?;
        if self.open == 0 && self.failing_since.is_some() && self.failed_at.elapsed() >= ANEW {
            self.failing_since = None;
            self.lanes.iter_mut().for_each(Lane::begins_anew);
        }
        let id = self.next_id;
        self.lanes[lane].push(id, message)?;
        self.next_id += 1;
        self.open += 1;
        let is_full = self.lanes[lane].is_full(self.options.batch_bytes);
        if is_full {
            self.close_batch(lane)?;
        }
        Ok((id, is_full))
    }

    /// Sends what is full, and waits while too much is on its way.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn make_room(&mut self) -> Result<(), Error> {
        self.work().await?;
        while self.bytes > self.options.buffer_bytes {
            self.progress().await?;
        }
        Ok(())
    }

    fn lane(&mut self, topic: usize, partition: i32) -> Result<usize, Error> {
        let Topic { name, lanes, .. } = &mut self.topics[topic];
        let count = lanes.len();
        let place = usize::try_from(partition).ok().and_then(|at| lanes.get_mut(at));
        let place = place.ok_or_else(|| Error::NoPartition { topic: name.to_string(), partition, count })?;
        Ok(*place.get_or_insert_with(|| {
            self.lanes.push(Lane::new((topic, partition), self.cluster.trouble()));
            self.lanes.len() - 1
        }))
    }

    /// Closes the batch that a lane is filling. Records without a key go elsewhere from here.
    fn close_batch(&mut self, lane: usize) -> Result<(), Error> {
        let codec = (self.options.compression, self.options.level);
        let is_transactional = self.options.transaction.is_some();
        self.bytes += self.lanes[lane].close(self.identity, is_transactional, codec)?;
        let topic = &mut self.topics[self.lanes[lane].topic];
        if topic.sticky == self.lanes[lane].partition && topic.lanes.len() > 1 {
            topic.sticky = self.rng.i32(0..topic.lanes.len() as i32);
        }
        Ok(())
    }

    /// Sends what can be sent and takes the answers that are here, without waiting for one.
    async fn work(&mut self) -> Result<(), Error> {
        self.dispatch().await?;
        while let Some(Some(answered)) = self.requests.next().now_or_never() {
            self.answered(answered);
            self.dispatch().await?;
        }
        Ok(())
    }

    /// Waits for an answer, or for the time at which something may be tried again.
    async fn progress(&mut self) -> Result<(), Error> {
        self.dispatch().await?;
        let again = self.lanes.iter().filter_map(Lane::resumes_at).min();
        if self.requests.is_empty() {
            // Everything that is left waits for a pause to end.
            tokio::time::sleep_until(again.unwrap_or_else(Instant::now)).await;
            return Ok(());
        }
        tokio::select! {
            biased;
            Some(answered) = self.requests.next() => self.answered(answered),
            () = until(again) => {}
        }
        Ok(())
    }

    /// Waits until there is an outcome for every message. Batches are closed when nothing else of their partition is on its
    /// way: what comes in the meantime goes along.
    ///
    /// # Errors
    /// The cluster is lost, or does not know this producer. Single messages fail in their outcomes.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while self.open > 0 {
            for lane in 0..self.lanes.len() {
                if self.lanes[lane].is_idle() {
                    self.close_batch(lane)?;
                }
            }
            self.progress().await?;
        }
        Ok(())
    }

    /// Messages without an outcome.
    pub fn waiting(&self) -> u64 {
        self.open
    }

    /// Messages so far.
    pub fn sent(&self) -> u64 {
        self.next_id
    }

    /// What became of messages since this was asked last.
    pub fn outcomes(&mut self) -> impl Iterator<Item = Outcome> + '_ {
        self.outcomes.drain(..)
    }

    /// A producer id, so that the broker knows what it has already.
    async fn identify(&mut self) -> Result<(), Error> {
        if self.options.acks != Acks::All || (self.identity.is_some() && !self.is_spoilt) {
            return Ok(());
        }
        if let Some(transaction) = self.options.transaction.clone() {
            if self.identity.is_some() {
                return Err(Error::NotReady("a record of the transaction was not taken".to_owned()));
            }
            let identity = self.identify_transaction(&transaction).await?;
            self.identity = Some(identity);
            self.lanes.iter_mut().for_each(|lane| lane.identify(identity));
            return Ok(());
        }
        let mut pause = self.cluster.retries("a producer's id");
        let identity = loop {
            let any = match self.cluster.any().await {
                Err(error) if error.is_transient() && pause.again(&error).await => continue,
                any => any?,
            };
            if !any.offers::<InitProducerIdRequest>() {
                return Ok(());
            }
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..Default::default()
            };
            // Version 6 is not settled yet.
            let version = any.version::<InitProducerIdRequest>(5)?;
            let response = match any.send(&request, version, Duration::ZERO) {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            let response = match response {
                Err(error) if error.is_transient() && pause.again(&error).await => continue,
                response => response?,
            };
            match response.error_code {
                ErrorCode::NONE => break (response.producer_id, response.producer_epoch),
                code if code.is_retriable() => {
                    let error = Error::refused(InitProducerIdRequest::KEY, code, None);
                    if !pause.again(&error).await {
                        return Err(error);
                    }
                }
                // Brokers from before 2.8 ask for a right of its own; it goes without, then.
                ErrorCode::CLUSTER_AUTHORIZATION_FAILED => return Ok(()),
                code => return Err(Error::refused(InitProducerIdRequest::KEY, code, None)),
            }
        };
        pause.worked(Ok(()))?;
        for lane in &mut self.lanes {
            lane.identify(identity);
        }
        (self.identity, self.is_spoilt) = (Some(identity), false);
        Ok(())
    }
}
