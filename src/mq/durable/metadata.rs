//! The log of definitions: keyed records of JSON of which the last one wins, written anew at the start when most are void.
//!
//! A key is a kind and a path of names, written as a JSON array, so that no name can look like two. Queues, exchanges and
//! bindings are kept here by the storage itself; whoever serves users, permissions or policies keeps his own kinds.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::Value as Json;

use super::writer::next_epoch;
use crate::storage::{Appended, BatchBuilder, Error, Importance, Log, LogConfig, LogId, Store};

/// The log of definitions, the same in every directory.
const LOG: LogId = LogId::from_bytes(*b"bandy mq \x80defs\0\x01");
/// Definitions are few: a segment is finished when it is this large.
const SEGMENT_BYTES: u64 = 4 << 20;
/// So many records may be void before they are written anew.
const VOID_MAX: usize = 1000;

/// A kind and names.
pub(crate) fn key(kind: &str, path: &[&str]) -> String {
    let names: Vec<&str> = std::iter::once(kind).chain(path.iter().copied()).collect();
    Json::from(names).to_string()
}

/// What is defined, as it is in memory and on its way to the log.
#[derive(Debug)]
pub(crate) struct Metadata {
    log: Log,
    epoch: i32,
    defined: BTreeMap<String, Json>,
    changes: BatchBuilder,
}

impl Metadata {
    /// Reads the log, and writes it anew if most of it is void.
    ///
    /// # Errors
    /// The log is damaged, or the system refuses.
    pub fn open(store: &Store) -> Result<Self, Error> {
        let log = store.log(LOG, LogConfig { segment_bytes: SEGMENT_BYTES, compact: false })?;
        log.recovery().warn_of_cut("definitions");
        let mut defined = BTreeMap::new();
        let mut records = 0;
        let mut reader = log.reader(log.state().start, log.end());
        while let Some(batch) = reader.next_batch()? {
            for record in batch.records()? {
                let record = record?;
                records += 1;
                let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
                let value = record.value.map(serde_json::from_slice::<Json>);
                match (key, value) {
                    (Some(key), Some(Ok(value))) => drop(defined.insert(key.to_owned(), value)),
                    (Some(key), None) => drop(defined.remove(key)),
                    _ => tracing::warn!(offset = record.offset, "a definition that this version cannot read"),
                }
            }
        }
        let epoch = next_epoch(&log);
        let mut metadata = Self { log, epoch, defined, changes: BatchBuilder::new() };
        if records > metadata.defined.len() * 2 + VOID_MAX {
            metadata.compact()?;
        }
        Ok(metadata)
    }

    fn compact(&mut self) -> Result<(), Error> {
        self.log.roll()?;
        let base = self.log.end();
        for (key, value) in std::mem::take(&mut self.defined) {
            self.set(key, Some(value));
            if self.changes.len() > 1 << 20 {
                self.append()?;
            }
        }
        self.append()?;
        // Both copies are there until the new one is on disk; the last one wins.
        self.log.sync()?;
        self.log.trim(base)?;
        Ok(())
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The name of their log.
    pub fn log_id() -> LogId {
        LOG
    }

    /// Whether a log belongs to the definitions.
    pub fn is_own(id: LogId) -> bool {
        id == LOG
    }

    /// Everything of a kind: names and what they stand for.
    pub fn of_kind<'a>(&'a self, kind: &str) -> impl Iterator<Item = (Vec<String>, &'a Json)> + use<'a> {
        self.under(kind, &[]).map(|(key, value)| {
            let names: Vec<String> = serde_json::from_str(key).unwrap_or_default();
            (names.into_iter().skip(1).collect(), value)
        })
    }

    /// What stands for one name.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.defined.get(key)
    }

    fn under<'a>(
        &'a self,
        kind: &str,
        path: &[&str],
    ) -> impl Iterator<Item = (&'a String, &'a Json)> + use<'a> {
        let mut prefix = key(kind, path);
        prefix.pop();
        prefix.push(',');
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        self.defined.range::<String, _>(from).take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// Defines something, or lets go of it.
    pub fn set(&mut self, key: String, value: Option<Json>) {
        let bytes = value.as_ref().map(Json::to_string);
        let bytes = bytes.as_ref().map(String::as_bytes);
        // A definition is far from the size of a batch, and so are those that are gathered.
        if let Err(error) = self.changes.push_copied(0, Some(key.as_bytes()), bytes, &[]) {
            tracing::error!(%error, key, "definition not kept");
        }
        match value {
            Some(value) => drop(self.defined.insert(key, value)),
            None => drop(self.defined.remove(&key)),
        }
    }

    /// Lets go of everything with these names at the front.
    pub fn remove_under(&mut self, kind: &str, path: &[&str]) {
        let gone: Vec<String> = self.under(kind, path).map(|(key, _)| key.clone()).collect();
        gone.into_iter().for_each(|key| self.set(key, None));
    }

    /// Whether there is something to append.
    pub fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Appends what was set. When that fails, it can be tried again.
    ///
    /// # Errors
    /// The log's.
    pub fn append(&mut self) -> Result<Option<Appended>, Error> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        self.log.append_built_as(&mut self.changes, self.epoch, Importance::Essential).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Options;

    fn kinds(metadata: &Metadata, kind: &str) -> Vec<String> {
        metadata.of_kind(kind).map(|(names, value)| format!("{} = {value}", names.join("/"))).collect()
    }

    #[test]
    fn the_last_definition_of_a_name_wins_also_after_a_compaction() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..5 {
            let store = Store::open(folder.path(), Options::default()).unwrap();
            let mut metadata = Metadata::open(&store).unwrap();
            if round > 0 {
                assert_eq!(kinds(&metadata, "queue"), [format!("/,\"/q = {}", round * 1000 - 1)]);
                assert_eq!(kinds(&metadata, "queues"), ["///q = 0"]);
            }
            for number in round * 1000..(round + 1) * 1000 {
                metadata.set(key("queue", &["/", "gone"]), Some(number.into()));
                metadata.set(key("queue", &["/,\"", "q"]), Some(number.into()));
                metadata.set(key("queue", &["/", "gone"]), None);
            }
            metadata.set(key("queues", &["/", "", "q"]), Some(0.into()));
            metadata.append().unwrap();
            let records = metadata.log().end() - metadata.log().state().start;
            assert!(records < 7000, "written anew: {records}");
            drop(metadata);
            store.close().unwrap();
        }
    }

    #[test]
    fn what_stands_under_a_name_goes_with_it_and_nothing_else() {
        let store = Store::memory(Options::default()).unwrap();
        let mut metadata = Metadata::open(&store).unwrap();
        for path in [["a", "x"], ["a", "y"], ["ab", "x"], ["a\",\"x", "z"]] {
            metadata.set(key("binding", &path), Some(1.into()));
        }
        metadata.remove_under("binding", &["a"]);
        assert_eq!(kinds(&metadata, "binding"), ["a\",\"x/z = 1", "ab/x = 1"]);
    }
}
