//! A log read from its start, or from its last snapshot on: what is in the queue, in which order, and how often it came
//! back. No body is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::live::Live;
use super::record::{self, Entry, Restorer, Stored};
use super::snapshot;
use crate::mq::engine::{Message, Recovered};
use crate::storage::{Error, Log, LogState};

/// Facts of a message in 32 bits: 30 of size.
pub(super) type Fact = u32;
const EXPIRES: Fact = 1 << 31;
pub(super) const LIVE: Fact = 1 << 30;
/// Bodies are at most 512 MiB.
const SIZE: Fact = LIVE - 1;
/// Most facts that are allocated at once: large enough to go back to the system when they are freed.
pub(super) const CHUNK: usize = 64 * 1024;

/// What a log says.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(super) start: u64,
    /// The offset behind the last record.
    pub end: u64,
    /// By offset, from the start of the log on; nothing that a chunk does not reach to is in the queue.
    pub(super) facts: Vec<Vec<Fact>>,
    /// Priorities, only of messages that have one.
    pub(super) priorities: HashMap<u64, u8>,
    /// Messages that were moved: where they are by where they first were.
    pub(super) moved: BTreeMap<u64, u64>,
    /// How often messages came back, by the offset of their record.
    pub returns: HashMap<u64, u32>,
    /// The highest message that was delivered, by the offset that a DLV names.
    pub delivered: Option<u64>,
    pub live: Live,
    /// Bytes that were read since the last snapshot.
    pub read: u64,
}

/// Reads a log.
pub(crate) fn replay(log: &Log) -> Result<Replayed, Error> {
    let state = log.state();
    let mut replayed = snapshot::load(log, &state).unwrap_or_else(|| Replayed::new(unsigned(state.start)));
    replayed.read_on(log, &state, state.end, &|| false)?;
    #[cfg(test)]
    replayed.check_against_the_whole_log(log, &state);
    Ok(replayed)
}

/// Reads a log as far as it is on disk, and keeps what it says there as a snapshot, unless told to stop on the way.
pub(crate) fn keep_snapshot(log: &Log, stops: &dyn Fn() -> bool) -> Result<(), Error> {
    let state = log.state();
    if state.flushed_end <= state.start {
        return Ok(());
    }
    let mut replayed = snapshot::load(log, &state).unwrap_or_else(|| Replayed::new(unsigned(state.start)));
    replayed.read_on(log, &state, state.flushed_end, stops)?;
    if replayed.read == 0 {
        return Ok(());
    }
    log.keep_snapshot(state.flushed_end, &snapshot::to_bytes(&replayed))
}

fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

fn recovered(offset: u64, count: u32, fact: Fact, priority: u8) -> Recovered {
    // When exactly is read with the message.
    Recovered {
        offset,
        count,
        priority,
        size: u64::from(fact & SIZE),
        expires: u64::from(fact & EXPIRES != 0),
    }
}

impl Replayed {
    /// Goes on where it ends.
    fn read_on(
        &mut self,
        log: &Log,
        state: &LogState,
        bound: i64,
        stops: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let from = state.start.max(i64::try_from(self.end).unwrap_or(i64::MAX));
        let mut reader = log.reader(from, bound);
        while reader.offset() < bound
            && let Some(batch) = reader.next_batch()?
        {
            if stops() {
                return Err(Error::Closed);
            }
            self.read += batch.bytes.len() as u64;
            for record in batch.records()? {
                let record = record?;
                let offset = unsigned(record.offset);
                if offset < self.start {
                    continue;
                }
                // Half a header's share is near enough to what a record takes.
                let bytes = record.value.map_or(0, <[u8]>::len) as u64 + 10;
                match record::decode(record.key, record.value) {
                    Some(entry) => self.take(offset, bytes, entry),
                    // Of a version to come, or a hole: not a message of ours.
                    None => {
                        tracing::warn!(log = %log.id(), offset, "a record that this version does not know")
                    }
                }
            }
        }
        self.end = unsigned(bound);
        Ok(())
    }

    pub(super) fn new(start: u64) -> Self {
        Self {
            start,
            end: start,
            facts: Vec::new(),
            priorities: HashMap::new(),
            moved: BTreeMap::new(),
            returns: HashMap::new(),
            delivered: None,
            live: Live::from(start),
            read: 0,
        }
    }

    fn take(&mut self, offset: u64, bytes: u64, entry: Entry<'_>) {
        let is_message = matches!(entry, Entry::Enqueue(_) | Entry::Move { .. });
        self.live.written(offset, bytes, is_message);
        match entry {
            Entry::Enqueue(stored) => self.note(offset, &stored),
            Entry::Ack(ranges) => ranges.for_each(|(first, count)| self.gone(first, count)),
            Entry::Requeue { message, returns } => {
                if self.fact(message).is_some() {
                    self.returns.insert(message, returns);
                }
            }
            Entry::Delivered { up_to } => self.delivered = self.delivered.max(Some(up_to)),
            Entry::Move { first, returns, stored } => {
                let before = self.moved.insert(first, offset).unwrap_or(first);
                self.gone(before, 1);
                self.note(offset, &stored);
                if returns > 0 {
                    self.returns.insert(offset, returns);
                }
            }
        }
    }

    fn slot(&mut self, offset: u64) -> Option<&mut Fact> {
        let index = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.facts.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// Says the same of so many messages.
    pub(super) fn set(&mut self, offset: u64, count: u64, fact: Fact) {
        let (mut at, end) = ((offset - self.start) as usize, (offset - self.start + count) as usize);
        while at < end {
            let (number, from) = (at / CHUNK, at % CHUNK);
            let to = (from + end - at).min(CHUNK);
            if self.facts.len() <= number {
                self.facts.resize_with(number + 1, Vec::new);
            }
            if let Some(chunk) = self.facts.get_mut(number) {
                if chunk.len() < to {
                    chunk.resize(to, 0);
                }
                chunk[from..to].fill(fact);
            }
            at += to - from;
        }
    }

    /// Facts of a message that is in the queue.
    pub(super) fn fact(&self, offset: u64) -> Option<Fact> {
        let index = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let fact = *self.facts.get(index / CHUNK)?.get(index % CHUNK)?;
        (fact & LIVE != 0).then_some(fact)
    }

    fn note(&mut self, offset: u64, stored: &Stored<'_>) {
        let size = Fact::try_from(stored.body.len()).unwrap_or(SIZE).min(SIZE);
        let expires = if stored.expires == 0 { 0 } else { EXPIRES };
        self.set(offset, 1, size | expires | LIVE);
        if stored.priority > 0 {
            self.priorities.insert(offset, stored.priority);
        }
    }

    fn gone(&mut self, first: u64, count: u64) {
        // Ranges come from a checked log, and are believed no further than it goes.
        let (from, to) = (first.max(self.start), first.saturating_add(count).min(self.start + self.room()));
        for offset in from..to {
            if let Some(slot) = self.slot(offset).filter(|slot| **slot & LIVE != 0) {
                *slot = 0;
                self.live.gone(offset, 1);
            }
            if !self.priorities.is_empty() {
                self.priorities.remove(&offset);
            }
            if !self.returns.is_empty() {
                self.returns.remove(&offset);
            }
        }
    }

    fn room(&self) -> u64 {
        (self.facts.len() * CHUNK) as u64
    }

    /// Messages in the order of the queue: that of their first records.
    pub fn messages(&self) -> Box<dyn Iterator<Item = Recovered> + '_> {
        let moved: Vec<(u64, u64)> = self
            .moved
            .iter()
            .map(|(first, offset)| (*first, *offset))
            .filter(|(_, offset)| self.fact(*offset).is_some())
            .collect();
        if moved.is_empty() && self.priorities.is_empty() {
            return Box::new(self.rows());
        }
        let places: std::collections::HashSet<u64> = moved.iter().map(|(_, offset)| *offset).collect();
        let mut moved = moved.into_iter().peekable();
        // Most queues are short, and a chunk is not.
        let mut plain = (self.start..self.end.min(self.start + self.room()))
            .filter(move |offset| self.fact(*offset).is_some() && !places.contains(offset))
            .peekable();
        Box::new(std::iter::from_fn(move || {
            let first_moved = match (moved.peek(), plain.peek()) {
                (Some((first, _)), Some(offset)) => first < offset,
                (Some(_), None) => true,
                (None, _) => false,
            };
            let offset = if first_moved { moved.next()?.1 } else { plain.next()? };
            let priority = self.priorities.get(&offset).copied().unwrap_or(0);
            Some(recovered(offset, 1, self.fact(offset).unwrap_or(0), priority))
        }))
    }

    /// Messages that stand where they first were and have no priority: as many at once as have the same size.
    fn rows(&self) -> impl Iterator<Item = Recovered> {
        self.facts.iter().zip((self.start..).step_by(CHUNK)).flat_map(|(chunk, from)| {
            let mut at = from;
            chunk.chunk_by(|one, other| one == other).filter_map(move |same| {
                let offset = at;
                at += same.len() as u64;
                let fact = same.first().copied().filter(|fact| fact & LIVE != 0)?;
                Some(recovered(offset, same.len() as u32, fact, 0))
            })
        })
    }

    /// A snapshot saves reading and changes nothing.
    #[cfg(test)]
    fn check_against_the_whole_log(&self, log: &Log, state: &LogState) {
        let mut whole = Self::new(self.start);
        if whole.read_on(log, state, state.end, &|| false).is_err() {
            // The power is off, or the log is damaged where the snapshot makes it unnecessary to look.
            return;
        }
        let messages = |replayed: &Self| replayed.messages().collect::<Vec<_>>();
        assert_eq!(messages(self), messages(&whole));
        assert_eq!((self.end, &self.returns), (whole.end, &whole.returns));
        assert_eq!(self.live.messages(), whole.live.messages());
        // The record that says so may have been trimmed.
        assert!(self.delivered >= whole.delivered);
    }

    /// Reads the messages themselves: of a delayed exchange, which keeps them in memory.
    pub fn load_all(&self, log: &Log) -> Result<Vec<(u64, u64, Arc<Message>)>, Error> {
        let mut restorer = Restorer::default();
        let mut messages = Vec::new();
        let mut reader = log.reader(log.state().start, log.end());
        while let Some(batch) = reader.next_batch()? {
            for record in batch.records()? {
                let record = record?;
                let offset = unsigned(record.offset);
                if self.fact(offset).is_none() {
                    continue;
                }
                if let Some(Entry::Enqueue(stored) | Entry::Move { stored, .. }) =
                    record::decode(record.key, record.value)
                    && let Some(message) = restorer.message(&stored, |body| batch.share(body))
                {
                    messages.push((offset, stored.expires, Arc::new(message)));
                }
            }
        }
        Ok(messages)
    }
}
