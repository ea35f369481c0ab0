//! Messages that are in no log and left memory because it is short: files that last as long as they are needed, and no
//! longer than the process. They are logs of a store of their own, which is opened when the first of them is needed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{record, storage_options};
use crate::mq::engine::{Message, QueueId};
use crate::storage::{BatchBuilder, Durability, Error, Importance, Log, LogConfig, LogId, Options, Store};

/// A batch is written when it is so large, in bytes.
const BATCH_BYTES_MAX: usize = 128 << 10;

fn folder(dir: &Path) -> PathBuf {
    dir.join("spill")
}

/// Removes what the last process left.
pub(super) fn sweep(dir: &Path) {
    match std::fs::remove_dir_all(folder(dir)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "messages that the last process spilled are still there"),
    }
}

/// The spill files of all queues.
pub(super) struct Spills {
    dir: PathBuf,
    store: Option<Store>,
    files: HashMap<(usize, QueueId), Spilled>,
}

struct Spilled {
    log: Log,
    /// The number of the message at offset 0.
    base: u64,
    batch: BatchBuilder,
    head: Vec<u8>,
}

impl Spilled {
    fn write(&mut self) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.log.append_built_as(&mut self.batch, 0, Importance::Normal).map(drop)
    }
}

impl Spills {
    pub fn new(dir: &Path) -> Self {
        Self { dir: folder(dir), store: None, files: HashMap::new() }
    }

    fn begin(&mut self, number: u64) -> Result<Spilled, Error> {
        let store = match self.store.take() {
            Some(store) => store,
            // Nothing of it is waited for.
            None => Store::open(&self.dir, Options { reserve_bytes: 0, ..storage_options(Durability::Os) })?,
        };
        let store = self.store.insert(store);
        let name = LogId::random().map_err(|source| Error::Io {
            what: "name a file in",
            path: self.dir.clone(),
            source: Arc::new(source),
        })?;
        let log = store.log(name, LogConfig::default())?;
        Ok(Spilled { log, base: number, batch: BatchBuilder::new(), head: Vec::new() })
    }

    /// Keeps a message under its number, which counts up.
    pub fn put(
        &mut self,
        at: (usize, QueueId),
        number: u64,
        message: &Message,
        expires: u64,
        now: i64,
    ) -> Result<(), Error> {
        let spilled = match self.files.remove(&at) {
            Some(spilled) => Ok(spilled),
            None => self.begin(number),
        };
        let mut spilled =
            spilled.inspect_err(|error| tracing::error!(%error, "messages cannot be spilled"))?;
        let expected = spilled.base + spilled.log.end() as u64 + spilled.batch.count() as u64;
        let mut done = if spilled.batch.len() >= BATCH_BYTES_MAX { spilled.write() } else { Ok(()) };
        // Full: the caller comes again with the same one.
        if done.is_ok() && number == expected {
            spilled.head.clear();
            let key = record::enqueue(message, expires, &mut spilled.head);
            done = spilled.batch.push(now, Some(&key), &spilled.head, &message.body).map_err(Error::from);
        }
        if let Err(error) = &done {
            tracing::error!(%error, "messages cannot be spilled");
        }
        self.files.insert(at, spilled);
        done
    }

    /// Where messages with these numbers are to be read: nowhere if they cannot be written first.
    pub fn load(
        &mut self,
        at: (usize, QueueId),
        runs: impl Iterator<Item = (u64, u32)>,
    ) -> (Option<Log>, Vec<(u64, u32)>) {
        let Some(spilled) = self.files.get_mut(&at) else { return (None, Vec::new()) };
        if let Err(error) = spilled.write() {
            tracing::error!(%error, "spilled messages cannot be written");
            return (None, Vec::new());
        }
        let base = spilled.base;
        let offsets = runs.filter_map(|(first, count)| Some((first.checked_sub(base)?, count)));
        (Some(spilled.log.clone()), offsets.collect())
    }

    /// What has numbers below this one is needed no more: its part of the file can go.
    pub fn forget_below(&mut self, at: (usize, QueueId), below: u64) {
        let Some(spilled) = self.files.get(&at) else { return };
        let below = below.saturating_sub(spilled.base);
        if below >= spilled.log.end() as u64 + spilled.batch.count() as u64 {
            return self.forget(at);
        }
        if let Err(error) = spilled.log.trim((below as i64).min(spilled.log.end() - 1)) {
            tracing::warn!(%error, "the start of a file of spilled messages stays where it is");
        }
    }

    /// Nothing of a queue is needed any more.
    pub fn forget(&mut self, at: (usize, QueueId)) {
        if let (Some(spilled), Some(store)) = (self.files.remove(&at), &self.store) {
            let name = spilled.log.id();
            drop(spilled);
            if let Err(error) = store.remove(name) {
                tracing::warn!(%error, "a file of spilled messages is not removed");
            }
        }
    }
}

impl Drop for Spills {
    fn drop(&mut self) {
        self.files.clear();
        if self.store.take().is_some() {
            // The next start does it otherwise.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mq::engine::Id as _;

    #[test]
    fn files_of_what_was_read_go_while_others_wait() {
        let home = tempfile::tempdir().unwrap();
        let mut spills = Spills::new(home.path());
        let at = (0, QueueId::from_raw(1));
        let body = Bytes::from(vec![7; 1 << 20]);
        let message = Message::new("".into(), b"q"[..].into(), Bytes::from_static(&[0, 0]), body).unwrap();
        (100..140).for_each(|number| spills.put(at, number, &message, 0, 0).unwrap());
        let bytes = |spills: &mut Spills| {
            spills.load(at, [(139, 1)].into_iter());
            spills.store.as_ref().unwrap().flush().unwrap();
            let log = spills.files[&at].log.id();
            let files = std::fs::read_dir(home.path().join("spill/logs").join(log.to_string())).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
        };
        assert!(bytes(&mut spills) > 40 << 20);
        spills.forget_below(at, 135);
        assert!(bytes(&mut spills) < 24 << 20, "{}", bytes(&mut spills));
        assert_eq!(spills.load(at, [(135, 5)].into_iter()).1, [(35, 5)]);
        spills.forget_below(at, 140);
        assert!(spills.files.is_empty());
    }
}
