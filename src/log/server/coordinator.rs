//! The coordinator of groups at work: the engine behind a lock, its records in `__consumer_offsets`, its clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::config::Values;
use super::partition::{Partition, storage_error};
use super::produce::now_ms;
use super::topics::{OFFSETS_TOPIC, Topic, Topics};
use crate::log::engine::Now;
use crate::log::engine::group::{
    Commits, Config, Groups, Joined, Output, Pace, Record, Restored, Synced, Ticket,
};
use crate::log::wire::ErrorCode;
use crate::storage::{BatchBuilder, Error, Importance};
use crate::wait::until;

/// Bytes after which a segment of the groups' log is finished: small, so that what is void is soon compacted.
const SEGMENT_BYTES: u64 = 16 << 20;

/// An answer of the engine that comes later.
#[derive(Debug)]
pub(super) enum Reply {
    Joined(Joined),
    Synced(Synced),
}

/// Up to where a partition has to be safe before an answer goes out.
pub(super) type Safe = Option<(Arc<Partition>, i64)>;

#[derive(Debug)]
struct State {
    groups: Groups,
    out: Vec<Output>,
    waiting: HashMap<Ticket, oneshot::Sender<(Reply, Safe)>>,
    next_ticket: Ticket,
}

/// The coordinator of all groups.
#[derive(Debug)]
pub(super) struct Coordinator {
    topics: Arc<Topics>,
    state: Mutex<State>,
    /// Rings when the engine has something to do sooner than was known.
    sooner: Notify,
}

/// Now, as the engine wants it.
pub(super) fn now() -> Now {
    Now { instant: Instant::now().into_std(), unix_ms: now_ms() }
}

impl Coordinator {
    /// With the groups that were kept.
    ///
    /// # Errors
    /// Their log is damaged, or the system refuses.
    pub(super) fn open(topics: Arc<Topics>, first_wait: Duration) -> Result<Self, Error> {
        let now = now();
        let config = Config { first_wait, ..Config::default() };
        let mut groups = Groups::new(now, config, fastrand::Rng::new());
        if let Some(topic) = topics.get(OFFSETS_TOPIC) {
            restore(&topic, &mut groups, now)?;
        }
        let state = State { groups, out: Vec::new(), waiting: HashMap::new(), next_ticket: 1 };
        Ok(Self { topics, state: Mutex::new(state), sooner: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how often members of a group are to be heard of.
    pub(super) fn set_pace(&self, group: &str, pace: Option<Pace>) {
        self.state().groups.set_pace(group, pace);
    }

    /// Groups and members.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.groups.len(), state.groups.members())
    }

    /// Looks at the groups.
    pub(super) fn look<T>(&self, work: impl FnOnce(&Groups) -> T) -> T {
        work(&self.state().groups)
    }

    /// Has the engine do something that is answered at once, when its records are safe.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&mut Groups, Now, &mut Vec<Output>) -> T,
    ) -> Result<(T, Safe), ErrorCode> {
        let mut state = self.state();
        let state = &mut *state;
        let before = state.groups.deadline();
        let result = work(&mut state.groups, now(), &mut state.out);
        let safe = self.finish(state)?;
        if state.groups.deadline() < before {
            self.sooner.notify_one();
        }
        Ok((result, safe))
    }

    /// Has the engine do something that is answered when others have come too.
    pub(super) fn ask(
        &self,
        work: impl FnOnce(&mut Groups, Now, Ticket, &mut Vec<Output>),
    ) -> oneshot::Receiver<(Reply, Safe)> {
        let (tx, rx) = oneshot::channel();
        let mut state = self.state();
        let state = &mut *state;
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.insert(ticket, tx);
        let before = state.groups.deadline();
        work(&mut state.groups, now(), ticket, &mut state.out);
        // Whoever asked hears of a failure as of a broken connection.
        let _ = self.finish(state);
        if state.groups.deadline() < before {
            self.sooner.notify_one();
        }
        rx
    }

    /// Writes records down and passes answers on, in the order in which they came out.
    fn finish(&self, state: &mut State) -> Result<Safe, ErrorCode> {
        let outputs = std::mem::take(&mut state.out);
        let records: Vec<&Record> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Store(record) => Some(record),
                Output::Joined(..) | Output::Synced(..) => None,
            })
            .collect();
        let stored = if records.is_empty() { Ok(None) } else { self.store(&records).map(Some) };
        let safe = stored.as_ref().ok().cloned().flatten();
        for output in outputs {
            let (ticket, reply) = match output {
                Output::Store(_) => continue,
                Output::Joined(ticket, joined) if stored.is_err() => (
                    ticket,
                    Reply::Joined(Joined::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, &joined.member_id)),
                ),
                Output::Synced(ticket, _) if stored.is_err() => {
                    (ticket, Reply::Synced(Synced::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)))
                }
                Output::Joined(ticket, joined) => (ticket, Reply::Joined(joined)),
                Output::Synced(ticket, synced) => (ticket, Reply::Synced(synced)),
            };
            if let Some(waiting) = state.waiting.remove(&ticket) {
                // A connection that is gone waits for nothing.
                let _ = waiting.send((reply, safe.clone()));
            }
        }
        stored
    }

    fn store(&self, records: &[&Record]) -> Result<(Arc<Partition>, i64), ErrorCode> {
        let partition = self.partition()?;
        let mut batch = batch_of(records.iter().copied())?;
        let end = partition.append_own(&mut batch)?;
        Ok((partition, end))
    }

    /// The partition of all groups, made when it is needed first.
    pub(super) fn partition(&self) -> Result<Arc<Partition>, ErrorCode> {
        let topic = match self.topics.get(OFFSETS_TOPIC) {
            Some(topic) => topic,
            None => {
                let set = [
                    ("cleanup.policy", "compact".to_owned()),
                    ("compression.type", "producer".to_owned()),
                    ("segment.bytes", SEGMENT_BYTES.to_string()),
                ];
                let values: Values = set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                // Its definition is older than its records, and so are its bytes on disk: one file's order is that of
                // its writes, and a group's answer waits for both.
                let (topic, end) =
                    self.topics.create(OFFSETS_TOPIC, 1, values).map_err(|failed| failed.error)?;
                self.topics.wait(end)?;
                topic
            }
        };
        topic.partition(0).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    /// Commits offsets as a part of a producer's transaction.
    pub(super) fn commit_in_transaction(
        &self,
        producer: (i64, i16),
        commits: &Commits,
    ) -> Result<(Vec<ErrorCode>, Safe), ErrorCode> {
        let mut state = self.state();
        let state = &mut *state;
        let results = state.groups.commit_in_transaction(now(), producer.0, commits, &mut state.out);
        let outputs = std::mem::take(&mut state.out);
        let records = outputs.iter().filter_map(|output| match output {
            Output::Store(record) => Some(record),
            Output::Joined(..) | Output::Synced(..) => None,
        });
        let mut batch = batch_of(records)?;
        if batch.is_empty() {
            return Ok((results, None));
        }
        let partition = self.partition()?;
        let end = partition.append_in_transaction(producer, &mut batch)?;
        Ok((results, Some((partition, end))))
    }

    /// A producer's transaction has ended, and the marker is in the log.
    pub(super) fn end_transaction(&self, producer_id: i64, commits: bool) {
        self.state().groups.end_transaction(producer_id, commits);
    }

    /// A topic is gone.
    pub(super) fn forget_topic(&self, topic: &str) {
        // What cannot be written down now expires later.
        let _ = self.run(|groups, _, out| groups.forget_topic(topic, out));
    }

    /// Does what is due, whenever it is.
    pub(super) async fn keep_time(&self) {
        loop {
            let deadline = self.state().groups.deadline();
            tokio::select! {
                () = until(deadline.map(Into::into)) => {
                    if let Err(error) = self.run(|groups, now, out| groups.tick(now, out)) {
                        tracing::error!(%error, "groups cannot be written down");
                    }
                }
                () = self.sooner.notified() => {}
            }
        }
    }
}

fn batch_of<'a>(records: impl Iterator<Item = &'a Record>) -> Result<BatchBuilder, ErrorCode> {
    let mut batch = BatchBuilder::new();
    let time = now_ms();
    for record in records {
        let (key, value) = record.encode();
        let pushed = batch.push_copied(time, Some(&key), value.as_deref(), &[]);
        pushed.map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    }
    Ok(batch)
}

/// Reads the groups back.
fn restore(topic: &Topic, groups: &mut Groups, now: Now) -> Result<(), Error> {
    let Some(partition) = topic.partition(0) else { return Ok(()) };
    let log = partition.log().map_err(|_| Error::Closed)?;
    let mut reader = log.reader(log.start(), log.end());
    while let Some(batch) = reader.next_batch()? {
        if batch.header.is_control() {
            if let Some(commits) = marker(&batch) {
                groups.end_transaction(batch.header.producer_id, commits);
            }
            continue;
        }
        let producer = batch.header.is_transactional().then_some(batch.header.producer_id);
        for record in batch.records()? {
            let record = record?;
            let Some(key) = record.key else { continue };
            match Record::decode(key, record.value) {
                Ok(Restored::Record(record)) => groups.restore(now, record, producer),
                Ok(Restored::Unknown) => {}
                Err(error) => tracing::warn!(offset = record.offset, %error, "left alone"),
            }
        }
    }
    groups.restored(now);
    Ok(())
}

/// Whether a control batch commits or aborts; none if it is of another kind.
pub(super) fn marker(batch: &crate::storage::StoredBatch) -> Option<bool> {
    let record = batch.records().ok()?.next()?.ok()?;
    // KIP-98: version, then type: 0 aborts, 1 commits.
    match *record.key? {
        [_, _, 0, 0] => Some(false),
        [_, _, 0, 1] => Some(true),
        _ => None,
    }
}

impl Partition {
    /// Appends what the broker itself has to say; it goes on a full disk too.
    pub(super) fn append_own(self: &Arc<Self>, batch: &mut BatchBuilder) -> Result<i64, ErrorCode> {
        let log = self.log()?;
        let appended = log.append_built_as(batch, self.leader_epoch(), Importance::Essential);
        let appended = appended.map_err(|error| storage_error(&error))?;
        if appended.safe {
            self.wake();
        }
        Ok(appended.end)
    }
}
