//! Reading messages by their offsets: whoever reads on where he left off reads nothing twice.

use std::collections::VecDeque;

use super::record::{self, Entry, Restorer, Stored};
use crate::mq::engine::Message;
use crate::storage::{Error, Log, LogId, Reader, StoredBatch};

/// Logs whose last batch is kept.
const CURSORS_MAX: usize = 16;
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
    /// Gives `count` messages at consecutive offsets from `from` on to `found`, fewer if something else stands there or
    /// `found` has had enough.
    pub fn read(
        &mut self,
        log: &Log,
        from: u64,
        count: u64,
        mut found: impl FnMut(Read<'_>) -> bool,
    ) -> Result<(), Error> {
        let (mut next, end) = (from as i64, from.saturating_add(count) as i64);
        let held = self.list.iter().position(|cursor| cursor.log == log.id());
        let mut cursor = match held.and_then(|held| self.list.remove(held)) {
            Some(cursor) if cursor.batch.header.base_offset <= next && cursor.reader.offset() >= next => {
                cursor
            }
            _ => {
                let mut reader = log.reader(next, i64::MAX);
                let Some(batch) = reader.next_batch()? else { return Ok(()) };
                Cursor { log: log.id(), batch, reader }
            }
        };
        while next < end {
            if cursor.batch.header.end_offset() <= next {
                let Some(batch) = cursor.reader.next_batch()? else { break };
                cursor.batch = batch;
                continue;
            }
            let before = next;
            for record in cursor.batch.records()? {
                let record = record?;
                if record.offset < next {
                    continue;
                }
                let (first, returns, stored) = match record::decode(record.key, record.value) {
                    Some(Entry::Enqueue(stored)) => (record.offset as u64, 0, stored),
                    Some(Entry::Move { first, returns, stored }) => (first, returns, stored),
                    _ => break,
                };
                let (offset, batch, restorer) = (record.offset as u64, &cursor.batch, &mut self.restorer);
                if record.offset != next || next == end {
                    break;
                }
                next += 1;
                if !found(Read { offset, first, returns, stored, batch, restorer }) {
                    next = end;
                    break;
                }
            }
            if next == before {
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
