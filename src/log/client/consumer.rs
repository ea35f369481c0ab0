//! Batches of many partitions from their leaders, from offsets on: one request to each leader is always on its way.

mod transactions;

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Future;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use self::transactions::Transactions;
use super::trouble::Trouble;
use super::{Cluster, Error, admin};
use crate::log::batch::Unpacked;
use crate::log::wire::api::fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use crate::log::wire::{ErrorCode, Request as _};
use crate::storage::{Batch, BatchError, Record};

/// A partition whose leader cannot read its disk is given up after so long: another broker may lead it by then, which
/// takes an election.
const UNREADABLE_MAX: Duration = Duration::from_secs(5);

/// From version 13 on topics have ids instead of names; every broker from 0.11 to 4 knows a version up to 12.
const VERSION_MAX: i16 = 12;

/// How records are fetched.
#[derive(Debug, Clone)]
pub struct ConsumeOptions {
    /// Only records of committed transactions, and those of none.
    pub committed: bool,
    /// How long a broker may wait for records.
    pub wait: Duration,
    /// The broker answers as soon as there are so many bytes.
    pub bytes_min: i32,
    /// About so many bytes in an answer.
    pub bytes_max: i32,
    /// About so many bytes of one partition in an answer.
    pub partition_bytes_max: i32,
    /// Bytes that may wait to be taken before more is fetched.
    pub buffer_bytes: usize,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self {
            committed: true,
            wait: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: 16 << 20,
            partition_bytes_max: 4 << 20,
            buffer_bytes: 48 << 20,
        }
    }
}

/// Part of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last; none for no end.
    pub to: Option<i64>,
}

/// A batch. Records before `from`, and from `to` on, are not wanted: a batch is fetched whole.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that is wanted.
    pub from: i64,
    /// The offset after the last that is wanted; none for no end.
    pub to: Option<i64>,
    /// Offset up to which the partition's records are on all replicas in sync.
    pub high_watermark: i64,
    /// The records.
    pub batch: Unpacked,
}

impl Fetched {
    /// The offset after the last that is wanted of the batch: from there reading goes on.
    pub fn end(&self) -> i64 {
        self.batch.header.end_offset().min(self.to.unwrap_or(i64::MAX))
    }

    /// The records that are wanted.
    pub fn wanted(&self) -> impl Iterator<Item = Result<Record<'_>, Error>> {
        let (from, to) = (self.from, self.to.unwrap_or(i64::MAX));
        let failed = move |error: BatchError| Error::Batch {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: from,
            error: Arc::new(error.into()),
        };
        let records = self.batch.records().map(move |record| record.map_err(failed));
        let is_wanted = move |offset: i64| from <= offset && offset < to;
        records.filter(move |record| record.as_ref().map_or(true, |record| is_wanted(record.offset)))
    }
}

/// A partition lost its records before `to`, so that reading goes on there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset that was wanted.
    pub from: i64,
    /// Where it goes on.
    pub to: i64,
}

/// A partition that is not read any more, since whoever leads it cannot.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset: all before it was handed out.
    pub from: i64,
    /// The offset after the last that is wanted; none for no end.
    pub to: Option<i64>,
    /// Why.
    pub error: Error,
}

struct Part {
    topic: Arc<str>,
    partition: i32,
    /// The next offset to fetch.
    next: i64,
    /// The next offset to hand out.
    from: i64,
    to: Option<i64>,
    transactions: Transactions,
    /// Not fetched before this: the pause after an error.
    resumes_at: Option<Instant>,
    failures: u32,
    trouble: Trouble,
    /// The log does not hold `next` any more.
    is_out_of_range: bool,
    /// In a request that is on its way.
    is_asked: bool,
    /// Why it is not fetched any more; what has been fetched of it is still to be handed out.
    given_up: Option<Error>,
    /// Not read any more. Its place is kept: requests on their way name it.
    is_left: bool,
}

impl Part {
    fn new(it: Assignment, trouble: Trouble) -> Self {
        Self {
            topic: it.topic,
            partition: it.partition,
            next: it.from,
            from: it.from,
            to: it.to,
            transactions: Transactions::default(),
            resumes_at: None,
            failures: 0,
            trouble,
            is_out_of_range: false,
            is_asked: false,
            given_up: None,
            is_left: false,
        }
    }

    fn is_done(&self) -> bool {
        self.is_left || self.given_up.is_some() || self.to.is_some_and(|to| self.next >= to)
    }
}

/// Bytes that were fetched of a partition, batch after batch.
struct Ready {
    part: usize,
    bytes: Bytes,
    aborted: Vec<AbortedTransaction>,
    high_watermark: i64,
}

type Answered = (i32, u64, Vec<usize>, Result<FetchResponse, Error>);

/// Fetches. Not a task: it works while `next` is awaited, which may be dropped; requests are on their way all the same.
pub struct Consumer {
    cluster: Cluster,
    options: ConsumeOptions,
    parts: Vec<Part>,
    /// Counts assignments: answers to requests of an earlier one mean nothing.
    round: u64,
    requests: FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>,
    /// Leaders with a request on its way.
    asked: HashSet<i32>,
    ready: VecDeque<Ready>,
    bytes: usize,
    gaps: Vec<Gap>,
    lost: Vec<Lost>,
    /// Where the next request begins, so that all partitions get their turn.
    turn: usize,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Reads parts of partitions of `cluster`.
    pub fn new(cluster: Cluster, options: ConsumeOptions, assignments: Vec<Assignment>) -> Self {
        let mut consumer = Self {
            cluster,
            options,
            parts: Vec::new(),
            round: 0,
            requests: FuturesUnordered::new(),
            asked: HashSet::new(),
            ready: VecDeque::new(),
            bytes: 0,
            gaps: Vec::new(),
            lost: Vec::new(),
            turn: 0,
        };
        consumer.assign(assignments);
        consumer
    }

    /// Reads these from now on, and nothing else: what was fetched and not handed out is forgotten.
    pub fn assign(&mut self, assignments: Vec<Assignment>) {
        self.round += 1;
        self.requests = FuturesUnordered::new();
        self.asked.clear();
        self.ready.clear();
        self.bytes = 0;
        let parts = assignments.into_iter().map(|it| Part::new(it, self.cluster.trouble()));
        self.parts = parts.collect();
    }

    /// Reads these, too.
    pub fn add(&mut self, assignments: impl IntoIterator<Item = Assignment>) {
        for it in assignments {
            let part = Part::new(it, self.cluster.trouble());
            // The place of one that is not read any more, unless a request on its way still names it.
            match self.parts.iter_mut().find(|known| known.is_left && !known.is_asked) {
                Some(free) => *free = part,
                None => self.parts.push(part),
            }
        }
    }

    /// Reads these no more: what was fetched of them and not handed out is forgotten.
    pub fn remove(&mut self, places: &[(String, i32)]) {
        for part in &mut self.parts {
            let is_named =
                |(topic, partition): &(String, i32)| *topic == *part.topic && *partition == part.partition;
            if places.iter().any(is_named) {
                (part.is_left, part.resumes_at) = (true, None);
                part.trouble = self.cluster.trouble();
            }
        }
        self.ready.retain(|ready| !self.parts[ready.part].is_left);
        self.bytes = self.ready.iter().map(|ready| ready.bytes.len()).sum();
    }

    /// Is anything read? Not before the first was added, and not when all were removed.
    pub fn is_reading(&self) -> bool {
        self.parts.iter().any(|part| !part.is_left)
    }

    /// The next offset of each partition: what comes after all that was handed out.
    pub fn positions(&self) -> impl Iterator<Item = (&Arc<str>, i32, i64)> {
        let read = self.parts.iter().filter(|part| !part.is_left);
        read.map(|part| (&part.topic, part.partition, part.from))
    }

    /// Gaps that were found since this was asked last.
    pub fn gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// Partitions that were given up since this was asked last.
    pub fn lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// Is something here that need not be waited for? What is left of an answer may be no whole batch.
    pub fn has_ready(&self) -> bool {
        self.ready.iter().any(|ready| Unpacked::is_whole(&ready.bytes))
    }

    /// The next batch that has something to hand out; `None` when all partitions are read to their ends. May be dropped.
    ///
    /// # Errors
    /// Records that cannot be read; a topic that is not there or may not be read; the cluster is lost for good. When a leader
    /// cannot read its disk, [`Self::lost`] tells of which partitions, and the others can be read on.
    pub async fn next(&mut self) -> Result<Option<Fetched>, Error> {
        loop {
            if let Some(fetched) = self.take()? {
                return Ok(Some(fetched));
            }
            self.give_up_lost()?;
            self.ask().await?;
            if self.requests.is_empty() {
                let Some(again) = self.parts.iter().filter_map(|part| part.resumes_at).min() else {
                    return Ok(None);
                };
                tokio::time::sleep_until(again).await;
                continue;
            }
            if let Some(answered) = self.requests.next().await {
                self.answered(answered)?;
                // The next request is on its way while what came is worked on.
                self.ask().await?;
            }
        }
    }

    /// All that was fetched of them is handed out.
    fn give_up_lost(&mut self) -> Result<(), Error> {
        let mut first = None;
        for part in self.parts.iter_mut().filter(|part| !part.is_left) {
            let Some(error) = part.given_up.take() else { continue };
            (part.is_left, part.trouble) = (true, self.cluster.trouble());
            first.get_or_insert_with(|| error.clone());
            let (topic, partition) = (part.topic.clone(), part.partition);
            self.lost.push(Lost { topic, partition, from: part.from, to: part.to, error });
        }
        first.map_or(Ok(()), Err)
    }

    /// The next batch of those that are here.
    fn take(&mut self) -> Result<Option<Fetched>, Error> {
        while let Some(ready) = self.ready.front_mut() {
            let part = &mut self.parts[ready.part];
            part.transactions.learn(std::mem::take(&mut ready.aborted));
            let failed = |offset, error| Error::Batch {
                topic: part.topic.to_string(),
                partition: part.partition,
                offset,
                error: Arc::new(error),
            };
            let Some(batch) = Unpacked::first(&ready.bytes).map_err(|error| failed(part.from, error))? else {
                self.bytes -= ready.bytes.len();
                self.ready.pop_front();
                continue;
            };
            self.bytes -= batch.header.len;
            ready.bytes = ready.bytes.slice(batch.header.len..);
            let (from, high_watermark) = (part.from, ready.high_watermark);
            // What is not wanted any more was not handed out.
            part.from = part.from.max(batch.header.end_offset().min(part.to.unwrap_or(i64::MAX)));
            let is_wanted = batch.header.end_offset() > from
                && part.to.is_none_or(|to| batch.header.base_offset < to)
                && part.transactions.wants(&batch, self.options.committed);
            if is_wanted {
                let (topic, partition, to) = (part.topic.clone(), part.partition, part.to);
                return Ok(Some(Fetched { topic, partition, from, to, high_watermark, batch }));
            }
        }
        Ok(None)
    }

    /// Asks every leader that has no request on its way.
    async fn ask(&mut self) -> Result<(), Error> {
        if self.bytes > self.options.buffer_bytes {
            return Ok(());
        }
        let now = Instant::now();
        let mut by_leader: Vec<(i32, super::Connection, Vec<usize>)> = Vec::new();
        let (count, turn) = (self.parts.len(), self.turn);
        let cluster = self.cluster.clone();
        let (mut round, mut failed) = (cluster.round(), Vec::new());
        for at in (0..count).map(|at| (turn + at) % count) {
            let part = &mut self.parts[at];
            if part.is_asked || part.is_done() || part.resumes_at.is_some_and(|it| it > now) {
                continue;
            }
            part.resumes_at = None;
            if part.is_out_of_range {
                self.move_into_range(at).await?;
                if self.parts[at].is_done() {
                    continue;
                }
            }
            let part = &self.parts[at];
            let (connection, info) = match round.leader(&part.topic, part.partition).await {
                Ok(found) => found,
                Err(error) => {
                    failed.push((at, error));
                    continue;
                }
            };
            if self.asked.contains(&info.leader) {
                continue;
            }
            match by_leader.iter_mut().find(|(leader, ..)| *leader == info.leader) {
                Some((.., parts)) => parts.push(at),
                None => by_leader.push((info.leader, connection, vec![at])),
            }
        }
        for (at, error) in failed {
            self.failed(at, error)?;
        }
        for (leader, connection, parts) in by_leader {
            let request = self.request(&parts);
            let version = connection.version::<FetchRequest>(VERSION_MAX);
            let answer = version.and_then(|version| connection.send(&request, version, self.options.wait));
            for at in &parts {
                self.parts[*at].is_asked = true;
            }
            self.asked.insert(leader);
            self.turn += 1;
            let round = self.round;
            self.requests.push(Box::pin(async move {
                let answer = match answer {
                    Ok(answer) => answer.await,
                    Err(error) => Err(error),
                };
                (leader, round, parts, answer)
            }));
        }
        Ok(())
    }

    fn request(&self, parts: &[usize]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for at in parts {
            let part = &self.parts[*at];
            let wanted = FetchPartition {
                partition: part.partition,
                fetch_offset: part.next,
                partition_max_bytes: self.options.partition_bytes_max,
                ..Default::default()
            };
            match topics.iter_mut().find(|topic| topic.topic == *part.topic) {
                Some(topic) => topic.partitions.push(wanted),
                None => topics.push(FetchTopic {
                    topic: part.topic.to_string(),
                    partitions: vec![wanted],
                    ..Default::default()
                }),
            }
        }
        FetchRequest {
            max_wait_ms: i32::try_from(self.options.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.options.bytes_min,
            max_bytes: self.options.bytes_max,
            isolation_level: i8::from(self.options.committed),
            topics,
            ..Default::default()
        }
    }

    fn answered(&mut self, (leader, round, parts, answer): Answered) -> Result<(), Error> {
        if round != self.round {
            return Ok(());
        }
        self.asked.remove(&leader);
        for at in &parts {
            self.parts[*at].is_asked = false;
        }
        let answer = match answer {
            Ok(answer) if answer.error_code.is_ok() => answer,
            Ok(answer) => return Err(Error::refused(FetchRequest::KEY, answer.error_code, None)),
            Err(error) => return parts.into_iter().try_for_each(|at| self.failed(at, error.clone())),
        };
        let partitions = || answer.responses.iter().flat_map(|topic| &topic.partitions);
        let is_empty = partitions().all(|partition| partition.records.is_empty());
        for topic in &answer.responses {
            for data in &topic.partitions {
                let found = parts.iter().copied().find(|at| {
                    let part = &self.parts[*at];
                    part.partition == data.partition_index && *part.topic == *topic.topic
                });
                let Some(at) = found else { continue };
                match data.error_code {
                    ErrorCode::NONE => self.fetched(at, data, is_empty)?,
                    ErrorCode::OFFSET_OUT_OF_RANGE => self.parts[at].is_out_of_range = true,
                    code => self.failed(at, Error::refused(FetchRequest::KEY, code, None))?,
                }
            }
        }
        Ok(())
    }

    /// Takes the bytes of a partition, and finds out what is to be fetched next.
    fn fetched(&mut self, at: usize, data: &PartitionData, is_empty: bool) -> Result<(), Error> {
        let part = &mut self.parts[at];
        if part.is_left {
            return Ok(());
        }
        (part.failures, part.resumes_at) = (0, None);
        part.trouble.is_over(&part.topic);
        let bytes = data.records.bytes();
        let mut rest: &[u8] = &bytes;
        loop {
            match Batch::parse(rest) {
                Ok(batch) => {
                    part.next = part.next.max(batch.header.end_offset());
                    rest = &rest[batch.header.len..];
                }
                Err(BatchError::Incomplete { .. }) => break,
                Err(error) => {
                    return Err(Error::Batch {
                        topic: part.topic.to_string(),
                        partition: part.partition,
                        offset: part.next,
                        error: Arc::new(error.into()),
                    });
                }
            }
        }
        // Nothing is left up to an end that the log has reached: what was there is compacted away.
        let reached = if self.options.committed { data.last_stable_offset } else { data.high_watermark };
        if is_empty && part.to.is_some_and(|to| reached >= to) {
            part.next = part.to.unwrap_or(part.next);
        }
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            let aborted = data.aborted_transactions.clone().unwrap_or_default();
            self.ready.push_back(Ready { part: at, bytes, aborted, high_watermark: data.high_watermark });
        }
        Ok(())
    }

    /// Tries a partition again later, if that may help.
    fn failed(&mut self, at: usize, error: Error) -> Result<(), Error> {
        let part = &mut self.parts[at];
        if part.is_left {
            return Ok(());
        }
        let config = self.cluster.config();
        part.failures += 1;
        let spent: Duration = config.backoff.delays(config.seed).take(part.failures as usize).sum();
        let is_unreadable = error.code() == Some(ErrorCode::KAFKA_STORAGE_ERROR);
        let patience = if is_unreadable { UNREADABLE_MAX } else { config.retry_for };
        if !error.is_transient() || spent > patience {
            let error = match error.code() {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Error::NoTopic(part.topic.to_string()),
                Some(code) => {
                    let place = format!("topic '{}' partition {}", part.topic, part.partition);
                    Error::refused_about(FetchRequest::KEY, code, place)
                }
                None => error,
            };
            if is_unreadable {
                part.given_up = Some(error);
                return Ok(());
            }
            return Err(error);
        }
        part.trouble.goes_on(&part.topic, &error);
        self.cluster.forget(&part.topic);
        let delay = config.backoff.delays(config.seed).nth(part.failures as usize - 1);
        part.resumes_at = Some(Instant::now() + delay.unwrap_or(config.backoff.max));
        Ok(())
    }

    /// The offset that is wanted is before the start of the log, or after its end.
    async fn move_into_range(&mut self, at: usize) -> Result<(), Error> {
        let (topic, partition) = (self.parts[at].topic.clone(), self.parts[at].partition);
        let start = admin::offset(&self.cluster, &topic, partition, admin::At::Start).await?;
        let end = admin::offset(&self.cluster, &topic, partition, admin::At::End).await?;
        let part = &mut self.parts[at];
        let to = if part.next < start { start } else { part.next.min(end) };
        if to != part.next {
            self.gaps.push(Gap { topic, partition, from: part.next, to });
        }
        (part.next, part.from, part.is_out_of_range) = (to, to, false);
        Ok(())
    }
}
