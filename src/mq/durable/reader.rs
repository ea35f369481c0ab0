//! The reader: reads messages that left memory, off the thread that writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Shared;
use super::cursor::Cursors;
use crate::mq::engine::{Loaded, QueueId};
use crate::storage::Log;

/// Bodies that are read at once, in bytes: the rest is asked for again.
const LOAD_BYTES_MAX: usize = 8 << 20;

/// What is known of the messages of a queue from before the start.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Messages whose first records stand before are from then.
    pub end: u64,
    /// The highest of them that was delivered; the largest number if that is not known.
    pub delivered: Option<u64>,
    /// How often they came back, by the offset of the record.
    pub returns: Mutex<HashMap<u64, u32>>,
}

impl Past {
    /// How often a message came back: forgotten with the record that it stood in.
    pub fn take_returns(&self, offset: u64) -> u32 {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner).remove(&offset).unwrap_or(0)
    }
}

/// Messages that an engine asked for.
pub(super) struct Load {
    pub host: usize,
    pub queue: QueueId,
    /// What it was asked for under.
    pub number: u64,
    /// None if there is nothing to read from.
    pub log: Option<Log>,
    /// Offsets, and how many messages at consecutive offsets from there on.
    pub runs: Vec<(u64, u32)>,
    pub past: Arc<Past>,
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    let (mut loads, mut cursors) = (Vec::new(), Cursors::default());
    while shared.loads.take(&mut loads, None) {
        for load in loads.drain(..) {
            answer(shared, &mut cursors, &load);
        }
    }
}

/// Reads, and tells the engine.
pub(super) fn answer(shared: &Shared, cursors: &mut Cursors, load: &Load) {
    let mut messages = read(cursors, load);
    if let Some(owner) = shared.owner(load.host) {
        owner.with_engine(&mut |engine, out, now| {
            engine.loaded(now, load.queue, load.number, &mut messages, out);
        });
    }
}

fn read(cursors: &mut Cursors, load: &Load) -> Vec<Loaded> {
    let count: usize = load.runs.iter().map(|(_, count)| *count as usize).sum();
    let mut messages = Vec::with_capacity(count);
    let Some(log) = &load.log else { return messages };
    let past = &load.past;
    let returned = past.returns.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = 0;
    let read = cursors.read(log, &load.runs, |mut read| {
        let Some(message) = read.message() else { return false };
        let (first, offset) = (read.first, read.offset);
        let noted = if returned.is_empty() { 0 } else { returned.get(&offset).copied().unwrap_or(0) };
        let returns = read.returns.max(noted);
        bytes += message.body.len();
        messages.push(Loaded {
            message: Arc::new(message),
            expires: read.stored.expires,
            returns,
            redelivered: returns > 0
                || first < past.end && past.delivered.is_some_and(|up_to| first <= up_to),
        });
        bytes < LOAD_BYTES_MAX
    });
    drop(returned);
    if let Err(error) = read {
        // What came before the damage is good; the next try finds nothing before it.
        tracing::error!(log = %log.id(), %error, runs = ?load.runs.first(), "messages of a queue cannot be read");
    }
    messages
}
