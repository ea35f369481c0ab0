//! The transaction coordinator at work: the engine behind a lock, its records in `__transaction_state`, and the markers
//! that end transactions in their partitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::config::Values;
use super::coordinator::{Safe, now};
use super::partition::Partition;
use super::produce::now_ms;
use super::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic, Topics};
use super::{Broker, producers::ProducerIds};
use crate::backoff::Backoff;
use crate::log::engine::Now;
use crate::log::engine::group::{Place, Ticket};
use crate::log::engine::transaction::{
    Answer, Config, Mark, NewId, Output, Transactions, Value, Writer, decode, key,
};
use crate::log::wire::ErrorCode;
use crate::storage::{BatchBuilder, Error};
use crate::wait::until;

/// Bytes after which a segment of the transactions' log is finished: small, so that what is void is soon compacted.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How soon a marker that could not be written is tried again: a disk may have room again, a broken one has to be seen to.
const RETRIES: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(30) };

#[derive(Debug)]
struct State {
    engine: Transactions,
    out: Vec<Output>,
    waiting: HashMap<Ticket, oneshot::Sender<(Answer, Safe)>>,
    next_ticket: Ticket,
}

/// The coordinator of all transactions.
#[derive(Debug)]
pub(super) struct Coordinator {
    topics: Arc<Topics>,
    producer_ids: Arc<ProducerIds>,
    state: Mutex<State>,
    sooner: Notify,
}

impl Coordinator {
    /// With the transactions that were kept.
    ///
    /// # Errors
    /// Their log is damaged, or the system refuses.
    pub(super) fn open(topics: Arc<Topics>, producer_ids: Arc<ProducerIds>) -> Result<Self, Error> {
        let mut engine = Transactions::new(Config::default());
        if let Some(topic) = topics.get(TRANSACTIONS_TOPIC) {
            restore(&topic, &mut engine)?;
        }
        let state = State { engine, out: Vec::new(), waiting: HashMap::new(), next_ticket: 1 };
        Ok(Self { topics, producer_ids, state: Mutex::new(state), sooner: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the transactions.
    pub(super) fn look<T>(&self, work: impl FnOnce(&Transactions) -> T) -> T {
        work(&self.state().engine)
    }

    /// Carries out the ends that were decided before the start.
    pub(super) fn resume(&self, broker: &Arc<Broker>) {
        let mut state = self.state();
        let state = &mut *state;
        state.engine.restored(now(), &mut state.out);
        // What cannot be written down is carried out all the same.
        let _ = self.finish(broker, state);
    }

    /// Has the engine do something that is answered at once, when its records are safe.
    pub(super) fn run<T>(
        &self,
        broker: &Arc<Broker>,
        work: impl FnOnce(&mut Transactions, Now, &mut Vec<Output>) -> T,
    ) -> Result<(T, Safe), ErrorCode> {
        let mut state = self.state();
        let state = &mut *state;
        let result = work(&mut state.engine, now(), &mut state.out);
        let safe = self.finish(broker, state)?;
        Ok((result, safe))
    }

    /// Has the engine do something that may be answered later.
    pub(super) fn ask(
        &self,
        broker: &Arc<Broker>,
        work: impl FnOnce(&mut Transactions, Now, Ticket, NewId<'_>, &mut Vec<Output>),
    ) -> oneshot::Receiver<(Answer, Safe)> {
        let (tx, rx) = oneshot::channel();
        let mut state = self.state();
        let state = &mut *state;
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.insert(ticket, tx);
        work(&mut state.engine, now(), ticket, &mut self.new_id(), &mut state.out);
        // Whoever asked hears of a failure as an answer.
        let _ = self.finish(broker, state);
        rx
    }

    /// Ids that nobody has had, and are known to have been given out when they are used.
    fn new_id(&self) -> impl FnMut() -> Result<i64, ErrorCode> + use<'_> {
        || {
            let (id, end) = self.producer_ids.next().map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
            self.topics.wait(end)?;
            Ok(id)
        }
    }

    /// Writes records down and passes on what stands on them.
    fn finish(&self, broker: &Arc<Broker>, state: &mut State) -> Result<Safe, ErrorCode> {
        let outputs = std::mem::take(&mut state.out);
        let mut batch = BatchBuilder::new();
        for output in &outputs {
            if let Output::Store(id, value) = output {
                let value = value.as_ref().map(Value::encode);
                let pushed = batch.push_copied(now_ms(), Some(&key(id)), value.as_deref(), &[]);
                pushed.map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
            }
        }
        let stored = match batch.is_empty() {
            true => Ok(None),
            false => self.partition().and_then(|partition| {
                let end = partition.append_own(&mut batch)?;
                Ok(Some((partition, end)))
            }),
        };
        let safe = stored.as_ref().ok().cloned().flatten();
        for output in outputs {
            match output {
                Output::Store(..) => {}
                Output::Answer(ticket, answer) => {
                    let answer = match &stored {
                        Ok(_) => answer,
                        Err(_) => {
                            Answer { error: ErrorCode::COORDINATOR_NOT_AVAILABLE, producer_id: -1, epoch: -1 }
                        }
                    };
                    if let Some(waiting) = state.waiting.remove(&ticket) {
                        // A connection that is gone waits for nothing.
                        let _ = waiting.send((answer, safe.clone()));
                    }
                }
                Output::Mark(mark) if stored.is_ok() => {
                    let (broker, safe) = (Arc::clone(broker), safe.clone());
                    let shutdown = broker.shutdown.clone();
                    shutdown.spawn(async move { broker.transactions.mark(&broker, mark, safe).await });
                }
                Output::Mark(mark) => {
                    tracing::error!(
                        id = mark.id,
                        "the end of a transaction cannot be written down; a new start looks again"
                    );
                }
            }
        }
        self.sooner.notify_one();
        stored
    }

    /// The end was decided: tells the partitions, then the engine.
    async fn mark(&self, broker: &Arc<Broker>, mark: Mark, decided: Safe) {
        let call = Arc::new(Notify::new());
        if let Some((partition, end)) = decided
            && wait(&partition, end, &call).await.is_err()
        {
            return;
        }
        // Until all partitions have it the transaction has not ended: the next one of this id waits, and so do readers of
        // what is committed.
        let mut left: Vec<Place> = mark.partitions.iter().cloned().collect();
        let mut delays = RETRIES.delays(mark.producer_id.unsigned_abs());
        loop {
            left = self.write_markers(&mark, left, &call).await;
            if left.is_empty() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(delays.next().unwrap_or_default()) => {}
                // A new start looks again.
                () = broker.shutdown.draining() => return,
            }
        }
        if mark.partitions.iter().any(|place| place.topic == OFFSETS_TOPIC) {
            broker.coordinator.end_transaction(mark.producer_id, mark.commits);
        }
        let mut state = self.state();
        let state = &mut *state;
        state.engine.marked(now(), &mark.id, &mut self.new_id(), &mut state.out);
        let _ = self.finish(broker, state);
    }

    /// Tells these partitions how a transaction ended; those that could not be told.
    async fn write_markers(&self, mark: &Mark, places: Vec<Place>, call: &Arc<Notify>) -> Vec<Place> {
        let mut written = Vec::with_capacity(places.len());
        let mut left = Vec::new();
        let failed = |place: &Place, error: ErrorCode| {
            let (id, topic, partition) = (&mark.id, &place.topic, place.partition);
            tracing::error!(id, topic, partition, %error, "the end of a transaction cannot be written; it is tried again");
        };
        for place in places {
            // Topics that are gone need no end.
            let found = self.topics.get(&place.topic).and_then(|topic| topic.partition(place.partition));
            let Some(partition) = found else { continue };
            match partition.append_marker(mark) {
                Ok(end) => written.push((place, partition, end)),
                Err(_) if partition.is_gone() => {}
                Err(error) => {
                    failed(&place, error);
                    left.push(place);
                }
            }
        }
        for (place, partition, end) in written {
            if let Err(error) = wait(&partition, end, call).await
                && !partition.is_gone()
            {
                // A second marker behind a first one that was kept after all says the same.
                failed(&place, error);
                left.push(place);
            }
        }
        left
    }

    /// Makes sure that a partition belongs to a producer's transaction, and appends while nothing can end it. In version 2
    /// of the protocol it comes to belong to it by this.
    pub(super) fn append_to<T>(
        &self,
        broker: &Arc<Broker>,
        writer: &Writer,
        place: &Place,
        adds: bool,
        append: impl FnOnce() -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        if adds {
            let (added, safe) = self
                .run(broker, |engine, now, out| engine.add(now, writer, std::slice::from_ref(place), out))?;
            added?;
            if let Some((partition, end)) = safe {
                // Nothing of a transaction may be on disk before it is known that it belongs to it.
                tokio::task::block_in_place(|| partition.wait(end))?;
            }
        }
        let mut state = self.state();
        state.engine.verify(writer, place)?;
        append()
    }

    /// The partition of all transactions, made when it is needed first.
    fn partition(&self) -> Result<Arc<Partition>, ErrorCode> {
        let topic = match self.topics.get(TRANSACTIONS_TOPIC) {
            Some(topic) => topic,
            None => {
                let set =
                    [("cleanup.policy", "compact".to_owned()), ("segment.bytes", SEGMENT_BYTES.to_string())];
                let values: Values = set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let made = self.topics.create(TRANSACTIONS_TOPIC, 1, values);
                let (topic, end) = made.map_err(|failed| failed.error)?;
                self.topics.wait(end)?;
                topic
            }
        };
        topic.partition(0).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    /// Does what is due, whenever it is.
    pub(super) async fn keep_time(&self, broker: &Arc<Broker>) {
        loop {
            let deadline = self.state().engine.deadline();
            tokio::select! {
                () = until(deadline.map(Into::into)) => {
                    let ticked = self.run(broker, |engine, now, out| engine.tick(now, out));
                    if let Err(error) = ticked {
                        tracing::error!(%error, "transactions cannot be written down");
                    }
                }
                () = self.sooner.notified() => {}
            }
        }
    }
}

/// Returns when a partition is safe up to `end`.
pub(super) async fn wait(partition: &Arc<Partition>, end: i64, call: &Arc<Notify>) -> Result<(), ErrorCode> {
    loop {
        partition.call(call);
        if partition.is_safe(end)? {
            return Ok(());
        }
        call.notified().await;
    }
}

fn restore(topic: &Topic, engine: &mut Transactions) -> Result<(), Error> {
    let Some(partition) = topic.partition(0) else { return Ok(()) };
    let log = partition.log().map_err(|_| Error::Closed)?;
    let mut reader = log.reader(log.start(), log.end());
    while let Some(batch) = reader.next_batch()? {
        for record in batch.records()? {
            let record = record?;
            let Some(key) = record.key else { continue };
            match decode(key, record.value) {
                Ok((id, value)) => engine.restore(&id, value),
                Err(error) => tracing::warn!(offset = record.offset, %error, "left alone"),
            }
        }
    }
    Ok(())
}
