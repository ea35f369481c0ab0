//! Reading messages by their offsets: whoever reads on where he left off reads nothing twice.

use std::collections::VecDeque;

use super::record::{self, Entry, Restorer, Stored};
use crate::mq::engine::Message;
use crate::storage::{Error, Log, LogId, Reader, StoredBatch};

/// Logs whose last batch is kept.
const CURSORS_MAX: usize = 16;
/// So many offsets further it is better to look for the place than to read up to it.
const NEAR: i64 = 4096;
/// Larger batches are not kept.
const BATCH_KEPT_MAX: usize = 1 << 20;

/// The batches that were read last, by log.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    /// The one that was used last is the last.
    list: VecDeque<Cursor>,
    restorer: Restorer,
}

#[derive(Debug)]
struct Cursor {
    log: LogId,
    batch: StoredBatch,
    reader: Reader,
}

/// A message that was read.
pub(crate) struct Read<'a> {
    pub offset: u64,
    /// The offset of its first record.
    pub first: u64,
    /// As a MOVE says.
    pub returns: u32,
    pub stored: Stored<'a>,
    pub batch: &'a StoredBatch,
    pub restorer: &'a mut Restorer,
}

impl Read<'_> {
    pub fn message(&mut self) -> Option<Message> {
        let batch = self.batch;
        self.restorer.message(&self.stored, |body| batch.share(body))
    }
}

impl Cursors {
    /// Gives the messages of all runs, a first offset and a count each, in rising order, to `found`: fewer if something
    /// else stands somewhere, or `found` has had enough.
    pub fn read(
        &mut self,
        log: &Log,
        runs: &[(u64, u32)],
        mut found: impl FnMut(Read<'_>) -> bool,
    ) -> Result<(), Error> {
        let mut wanted = Wanted { runs, passed: 0 };
        let Some(first) = wanted.next() else { return Ok(()) };
        let held = self.list.iter().position(|cursor| cursor.log == log.id());
        let mut cursor = match held.and_then(|held| self.list.remove(held)) {
            Some(cursor) if cursor.batch.header.base_offset <= first && cursor.is_near(first) => cursor,
            _ => match Cursor::at(log, first)? {
                Some(cursor) => cursor,
                None => return Ok(()),
            },
        };
        'batches: while let Some(next) = wanted.next() {
            if cursor.batch.header.end_offset() <= next {
                if !cursor.is_near(next) {
                    let Some(there) = Cursor::at(log, next)? else { break };
                    cursor = there;
                    continue;
                }
                let Some(batch) = cursor.reader.next_batch()? else { break };
                cursor.batch = batch;
                continue;
            }
            for record in cursor.batch.records()? {
                let record = record?;
                let Some(next) = wanted.next() else { break 'batches };
                if record.offset < next {
                    continue;
                }
                let (first, returns, stored) = match record::decode(record.key, record.value) {
                    Some(Entry::Enqueue(stored)) => (record.offset as u64, 0, stored),
                    Some(Entry::Move { first, returns, stored }) => (first, returns, stored),
                    _ => break 'batches,
                };
                if record.offset != next {
                    break 'batches;
                }
                wanted.passed += 1;
                let (offset, batch, restorer) = (record.offset as u64, &cursor.batch, &mut self.restorer);
                if !found(Read { offset, first, returns, stored, batch, restorer }) {
                    break 'batches;
                }
            }
            if wanted.next().is_some_and(|next| next < cursor.batch.header.end_offset()) {
                // The batch ends before it says so: nothing there is what was asked for.
                break;
            }
        }
        if cursor.batch.bytes.len() <= BATCH_KEPT_MAX {
            if self.list.len() >= CURSORS_MAX {
                self.list.pop_front();
            }
            self.list.push_back(cursor);
        }
        Ok(())
    }
}

/// What is still to be found.
struct Wanted<'a> {
    runs: &'a [(u64, u32)],
    /// Of the first run.
    passed: u32,
}

impl Wanted<'_> {
    /// The next offset.
    fn next(&mut self) -> Option<i64> {
        while let Some((first, count)) = self.runs.first() {
            if self.passed < *count {
                return Some(first.saturating_add(self.passed.into()) as i64);
            }
            (self.runs, self.passed) = (&self.runs[1..], 0);
        }
        None
    }
}

impl Cursor {
    fn at(log: &Log, offset: i64) -> Result<Option<Self>, Error> {
        let mut reader = log.reader(offset, i64::MAX);
        let batch = reader.next_batch()?;
        Ok(batch.map(|batch| Self { log: log.id(), batch, reader }))
    }

    /// Whether an offset comes soon enough to read up to it.
    fn is_near(&self, offset: i64) -> bool {
        offset < self.reader.offset().saturating_add(NEAR)
    }
}
