//! Records from stdin and files in batches, read by a thread of its own while those before are sent.

use tokio::sync::mpsc;

use super::exit::Failure;
use super::records::Inputs;
use crate::record::Record;

/// So many records at most are handed over at once.
const BATCH_MAX: usize = 512;
/// So many bytes of them, about.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Batches that are read ahead.
const AHEAD_MAX: usize = 4;

/// A record and where it stood.
#[derive(Debug)]
pub struct Item {
    /// Its number over all inputs, from 1: its line, if records are lines.
    pub line: u64,
    /// It, or why there is none. The one after it may be in order.
    pub record: Result<Record, Failure>,
}

/// The batches as they come. What is here is handed over when more would have to be waited for.
#[derive(Debug)]
pub struct Feed(mpsc::Receiver<Vec<Item>>);

impl Feed {
    /// Begins to read. The thread is left alone with whatever it waits for when this is dropped.
    pub fn start(mut inputs: Inputs) -> Self {
        let (batches, receiver) = mpsc::channel(AHEAD_MAX);
        std::thread::spawn(move || {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(record) = inputs.next() {
                bytes += record.as_ref().map_or(0, size);
                batch.push(Item { line: inputs.line(), record });
                if batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX && inputs.is_ready() {
                    continue;
                }
                bytes = 0;
                if batches.blocking_send(std::mem::take(&mut batch)).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next records; `None` after the last. May be dropped: nothing is lost.
    pub async fn next(&mut self) -> Option<Vec<Item>> {
        self.0.recv().await
    }
}

fn size(record: &Record) -> usize {
    record.value.as_ref().map_or(0, bytes::Bytes::len)
}
