//! Batches to the leaders of their partitions, and what the answers mean.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Acks, Answered, Outcome, Producer, Receipt};
use crate::log::client::sealed::Sealed;
use crate::log::client::{Connection, Error};
use crate::log::wire::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use crate::log::wire::{ErrorCode, Records, Request as _};

/// Version 13 names topics by id; up to 12 they have names, and every broker from 0.11 to 4 knows one of these.
const VERSION_MAX: i16 = 12;
/// From version 12 on the broker adds partitions to transactions, and expects them to be ended in that way (KIP-890).
const VERSION_MAX_TRANSACTION: i16 = 11;
/// Most bytes of batches in one request: brokers refuse requests over 100 MiB, and small ones are answered sooner.
const REQUEST_BYTES_MAX: usize = 4 << 20;

impl Producer {
    /// Sends every batch that may be sent now.
    pub(super) async fn dispatch(&mut self) -> Result<(), Error> {
        if self.is_spoilt && !self.requests.is_empty() {
            return Ok(());
        }
        loop {
            let now = Instant::now();
            let due: Vec<usize> =
                (0..self.lanes.len()).filter(|lane| self.lanes[*lane].may_send(now)).collect();
            if due.is_empty() {
                return Ok(());
            }
            if self.identity.is_none() || self.is_spoilt {
                self.identify().await?;
            }
            self.add_to_transaction(&due).await?;
            let mut by_leader: BTreeMap<i32, (Connection, Vec<usize>)> = BTreeMap::new();
            let cluster = self.cluster.clone();
            let (mut round, mut failed) = (cluster.round(), Vec::new());
            for lane in due {
                let (topic, partition) = (self.lanes[lane].topic, self.lanes[lane].partition);
                match round.leader(&self.topics[topic].name, partition).await {
                    Ok((connection, info)) => {
                        by_leader.entry(info.leader).or_insert_with(|| (connection, Vec::new())).1.push(lane);
                    }
                    Err(error) => failed.push((lane, error)),
                }
            }
            for (lane, error) in failed {
                self.has_no_leader(lane, &error);
            }
            let mut is_sent = false;
            for (node, (connection, lanes)) in by_leader {
                let on_its_way = self.in_flight.get(&node).copied().unwrap_or(0);
                if on_its_way < self.options.in_flight {
                    self.send(node, &connection, &lanes);
                    is_sent = true;
                }
            }
            if !is_sent {
                return Ok(());
            }
        }
    }

    /// A lane has no leader just now: its batches wait, or are given up when they have waited for long.
    fn has_no_leader(&mut self, lane: usize, error: &Error) {
        let topic = self.topics[self.lanes[lane].topic].name.clone();
        self.lanes[lane].fails(&topic, error);
        self.fails();
        if error.is_transient() && !self.is_late(lane, Instant::now()) {
            let resumes_at = Instant::now() + self.pause(lane);
            self.lanes[lane].wait(resumes_at);
            self.cluster.forget(&topic);
            return;
        }
        // Their sequence numbers will be missed.
        self.is_spoilt |= self.identity.is_some();
        let given_up: Vec<Sealed> = self.lanes[lane].give_up().collect();
        for sealed in given_up {
            self.fail(sealed, error.clone());
        }
    }

    /// Something was not taken.
    fn fails(&mut self) {
        self.failed_at = Instant::now();
        self.failing_since.get_or_insert(self.failed_at);
    }

    /// It was tried for as long as it may be: a batch that was closed at `since`, or all of its partition, or all there is.
    /// What comes while nothing is taken is not tried for as long again.
    fn is_late(&self, lane: usize, since: Instant) -> bool {
        let first = self.failing_since(lane).map_or(since, |failing| failing.min(since));
        first.elapsed() >= self.cluster.config().retry_for
    }

    /// Since when nothing of the lane was taken, or nothing at all, whichever is longer.
    fn failing_since(&self, lane: usize) -> Option<Instant> {
        [self.lanes[lane].failing_since(), self.failing_since].into_iter().flatten().min()
    }

    /// One batch of each lane, as far as they fit one request.
    fn send(&mut self, node: i32, connection: &Connection, lanes: &[usize]) {
        let mut batches: Vec<(usize, Sealed)> = Vec::new();
        let mut bytes = 0;
        for &lane in lanes {
            if bytes > REQUEST_BYTES_MAX {
                break;
            }
            if let Some(sealed) = self.lanes[lane].take() {
                bytes += sealed.bytes.len();
                batches.push((lane, sealed));
            }
        }
        let request = self.request(&batches);
        let most = if self.options.transaction.is_some() { VERSION_MAX_TRANSACTION } else { VERSION_MAX };
        let version = connection.version::<ProduceRequest>(most);
        if self.options.acks == Acks::None {
            let told = version.and_then(|version| connection.tell(&request, version));
            let nothing = told.map(|()| Default::default());
            self.answered((-1, batches, nothing));
            return;
        }
        *self.in_flight.entry(node).or_default() += 1;
        let longer = self.options.timeout;
        let answer = version.and_then(|version| connection.send(&request, version, longer));
        self.requests.push(Box::pin(async move {
            let answer = match answer {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            (node, batches, answer)
        }));
    }

    fn request(&self, batches: &[(usize, Sealed)]) -> ProduceRequest {
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for (lane, sealed) in batches {
            let lane = &self.lanes[*lane];
            let name = &*self.topics[lane.topic].name;
            let data =
                PartitionProduceData { index: lane.partition, records: Records::Here(sealed.bytes.clone()) };
            match topics.iter_mut().find(|topic| topic.name == *name) {
                Some(topic) => topic.partition_data.push(data),
                None => topics.push(TopicProduceData {
                    name: name.to_owned(),
                    partition_data: vec![data],
                    ..Default::default()
                }),
            }
        }
        let acks = match self.options.acks {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        };
        let timeout_ms = i32::try_from(self.options.timeout.as_millis()).unwrap_or(i32::MAX);
        let transactional_id = self.options.transaction.as_ref().map(|transaction| transaction.id.clone());
        ProduceRequest { transactional_id, acks, timeout_ms, topic_data: topics }
    }

    /// Settles the batches of a request, or puts them back.
    pub(super) fn answered(&mut self, (node, batches, answer): Answered) {
        if let Some(on_its_way) = self.in_flight.get_mut(&node) {
            *on_its_way -= 1;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                for (lane, mut sealed) in batches {
                    sealed.in_doubt = true;
                    self.refused(lane, sealed, error.clone());
                }
                return;
            }
        };
        for (lane, sealed) in batches {
            let (topic, partition) = (&self.topics[self.lanes[lane].topic].name, self.lanes[lane].partition);
            let of_topic = answer.responses.iter().find(|response| response.name == **topic);
            let of_partition = of_topic.and_then(|topic| {
                topic.partition_responses.iter().find(|response| response.index == partition)
            });
            match of_partition {
                Some(response) => self.settle(lane, sealed, response),
                // Acks 0 has no answer.
                None if node < 0 => self.taken(lane, sealed, -1, None),
                None => {
                    let error = Error::NotReady("the broker's answer leaves out a partition".to_owned());
                    self.refused(lane, sealed, error);
                }
            }
        }
    }

    fn settle(&mut self, lane: usize, sealed: Sealed, response: &PartitionProduceResponse) {
        match response.error_code {
            ErrorCode::NONE => {
                let append_time = Some(response.log_append_time_ms).filter(|time| *time >= 0);
                self.taken(lane, sealed, response.base_offset, append_time);
            }
            // It was taken before; the answer was lost.
            ErrorCode::DUPLICATE_SEQUENCE_NUMBER => self.taken(lane, sealed, response.base_offset, None),
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE if sealed.count > 1 => {
                match sealed.split((self.options.compression, self.options.level)) {
                    Ok(halves) => {
                        self.bytes += halves.iter().map(|half| half.bytes.len()).sum::<usize>();
                        self.bytes -= sealed.bytes.len();
                        self.lanes[lane].again(halves, None);
                    }
                    Err(error) => self.refused(lane, sealed, error),
                }
            }
            code => {
                let why = response.record_errors.iter().find_map(|it| it.batch_index_error_message.clone());
                let said = response.error_message.clone().or(why);
                self.refused(lane, sealed, Error::refused(ProduceRequest::KEY, code, said));
            }
        }
    }

    fn taken(&mut self, lane: usize, sealed: Sealed, offset: i64, append_time: Option<i64>) {
        let topic = self.topics[self.lanes[lane].topic].name.clone();
        self.lanes[lane].taken(&topic);
        self.failing_since = None;
        let (partition, timestamp) = (self.lanes[lane].partition, sealed.timestamp());
        self.outcome(sealed, Ok(Receipt { topic, partition, offset, append_time, timestamp }));
    }

    /// A batch was not taken: again later, or never.
    fn refused(&mut self, lane: usize, mut sealed: Sealed, error: Error) {
        let is_late = self.is_late(lane, sealed.since);
        let code = error.code();
        // What comes after a batch that goes again comes out of order, and so again, too.
        let follows = code == Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) && self.lanes[lane].recovers();
        let is_forgotten = matches!(
            code,
            Some(
                ErrorCode::UNKNOWN_PRODUCER_ID
                    | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                    | ErrorCode::INVALID_PRODUCER_EPOCH
            )
        );
        // A producer that the broker has forgotten may begin anew, unless what it sends may be there already.
        let anew = is_forgotten && !follows && !sealed.in_doubt;
        if !is_late && (error.is_transient() || follows || anew) {
            self.is_spoilt |= anew;
            let pause = if follows { Duration::ZERO } else { self.pause(lane) };
            if !follows {
                let topic = self.topics[self.lanes[lane].topic].name.clone();
                self.lanes[lane].fails(&topic, &error);
                self.fails();
                self.cluster.forget(&topic);
            }
            sealed.in_doubt |= code.is_none();
            self.lanes[lane].again([sealed], Some(Instant::now() + pause));
            return;
        }
        self.failed_at = Instant::now();
        // Its sequence numbers will be missed: nothing after it would be taken.
        self.is_spoilt |= self.identity.is_some();
        self.lanes[lane].done();
        self.fail(sealed, error);
    }

    fn pause(&self, lane: usize) -> Duration {
        let backoff = self.cluster.config().backoff;
        let failures = self.lanes[lane].failures() as usize;
        let pause = backoff.delays(self.cluster.config().seed).nth(failures).unwrap_or(backoff.max);
        // The last attempt is when the time is up, and not long after.
        let retry_for = self.cluster.config().retry_for;
        let left = self.failing_since(lane).map(|since| retry_for.saturating_sub(since.elapsed()));
        pause.min(left.unwrap_or(pause))
    }

    fn fail(&mut self, sealed: Sealed, error: Error) {
        self.outcome(sealed, Err(error));
    }

    fn outcome(&mut self, sealed: Sealed, result: Result<Receipt, Error>) {
        self.bytes -= sealed.bytes.len();
        self.open -= sealed.count as u64;
        self.outcomes.push_back(Outcome { ids: sealed.ids.iter().collect(), result });
    }
}
