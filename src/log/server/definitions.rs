//! What is defined, on disk: topics, users, … as keyed records of JSON of which the last one wins.
//!
//! A key is a kind and names, written as a JSON array, so that no name can look like two. The log is written anew at a
//! start when most of it is void.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};
use tokio::sync::Notify;

use super::config::{TopicConfig, Values};
use super::defaults::Defaults;
use super::waiters::Waiters;
use crate::log::wire::Uuid;
use crate::storage::{BatchBuilder, Error, Importance, Log, LogConfig, LogId, Observer, Store, Synced};

/// The log of definitions, the same in every directory.
pub(in crate::log) const LOG: LogId = LogId::from_bytes(*b"bandy lo\x80gdefs\0\x01");
/// Definitions are few: a segment is finished when it is this large.
const SEGMENT_BYTES: u64 = 4 << 20;
/// So many records may be void before they are written anew.
const VOID_MAX: usize = 1000;
/// Bytes of definitions in one batch.
const BATCH_BYTES: usize = 1 << 20;

/// A kind and names.
pub(super) fn key(kind: &str, names: &[&str]) -> String {
    let parts: Vec<&str> = std::iter::once(kind).chain(names.iter().copied()).collect();
    Json::from(parts).to_string()
}

/// A change of one definition; no value lets go of it.
pub(super) type Change = (String, Option<Json>);

/// A topic as it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log) struct TopicDefinition {
    pub(in crate::log) id: Uuid,
    /// Of its partitions, by number.
    pub(in crate::log) logs: Vec<LogId>,
    /// What was set of it.
    pub(in crate::log) values: Values,
    /// It is or was compacted: between batches there may be holes.
    pub(in crate::log) holes: bool,
}

impl TopicDefinition {
    /// None if this version cannot read it.
    pub(in crate::log) fn parse(value: &Json) -> Option<Self> {
        let log = |log: &Json| log.as_str()?.parse().ok();
        Some(Self {
            id: Uuid::parse(value["id"].as_str()?)?,
            logs: value["partitions"].as_array()?.iter().map(log).collect::<Option<_>>()?,
            values: serde_json::from_value(value["configs"].clone()).ok()?,
            holes: value["holes"].as_bool().unwrap_or(false),
        })
    }

    /// The other way round.
    pub(super) fn to_json(&self) -> Json {
        let logs: Vec<String> = self.logs.iter().map(LogId::to_string).collect();
        json!({"id": self.id.to_string(), "partitions": logs, "configs": self.values, "holes": self.holes})
    }

    /// How its logs are kept, with Kafka's defaults.
    pub(in crate::log) fn log_config(&self) -> LogConfig {
        self.log_config_with(&Defaults::default())
    }

    /// How its logs are kept, with the defaults of topics.
    pub(super) fn log_config_with(&self, defaults: &Defaults) -> LogConfig {
        let config = TopicConfig::new(&self.values, defaults);
        LogConfig { segment_bytes: config.segment_bytes, compact: self.holes || config.compacts }
    }
}

/// The definitions.
#[derive(Debug)]
pub(super) struct Definitions {
    log: Log,
    defined: Mutex<BTreeMap<String, Json>>,
    waiters: Arc<Waiters>,
}

impl Definitions {
    /// Reads them.
    ///
    /// # Errors
    /// The log is damaged, or the system refuses.
    pub(super) fn open(store: &Store) -> Result<Self, Error> {
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
                match (key, record.value.map(serde_json::from_slice::<Json>)) {
                    (Some(key), Some(Ok(value))) => drop(defined.insert(key.to_owned(), value)),
                    (Some(key), None) => drop(defined.remove(key)),
                    _ => tracing::warn!(offset = record.offset, "a definition that this version cannot read"),
                }
            }
        }
        let waiters = Arc::new(Waiters::default());
        log.observe(Arc::new(Watch(Arc::clone(&waiters))));
        let definitions = Self { log, defined: Mutex::new(defined), waiters };
        if records > definitions.defined().len() * 2 + VOID_MAX {
            definitions.write_anew()?;
        }
        Ok(definitions)
    }

    /// Whether a log is that of the definitions.
    pub(super) fn is_own(id: LogId) -> bool {
        id == LOG
    }

    fn defined(&self) -> MutexGuard<'_, BTreeMap<String, Json>> {
        self.defined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_anew(&self) -> Result<(), Error> {
        self.log.roll()?;
        let base = self.log.end();
        let defined = self.defined().clone();
        self.append(&defined.into_iter().map(|(key, value)| (key, Some(value))).collect::<Vec<_>>())?;
        // Both copies are there until the new one is on disk; the last one wins.
        self.log.sync()?;
        self.log.trim(base)?;
        Ok(())
    }

    fn append(&self, changes: &[Change]) -> Result<i64, Error> {
        let mut batch = BatchBuilder::new();
        let mut end = self.log.end();
        for (key, value) in changes {
            let bytes = value.as_ref().map(Json::to_string);
            batch.push_copied(0, Some(key.as_bytes()), bytes.as_ref().map(String::as_bytes), &[])?;
            if batch.len() > BATCH_BYTES {
                end = self.log.append_built_as(&mut batch, 0, Importance::Essential)?.end;
            }
        }
        if !batch.is_empty() {
            end = self.log.append_built_as(&mut batch, 0, Importance::Essential)?.end;
        }
        Ok(end)
    }

    /// Everything of a kind: names and what they stand for.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<(Vec<String>, Json)> {
        let mut prefix = key(kind, &[]);
        prefix.pop();
        prefix.push(',');
        let defined = self.defined();
        let found = defined.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        found
            .map(|(key, value)| {
                let names: Vec<String> = serde_json::from_str(key).unwrap_or_default();
                (names.into_iter().skip(1).collect(), value.clone())
            })
            .collect()
    }

    /// What stands for one name.
    pub(super) fn get(&self, key: &str) -> Option<Json> {
        self.defined().get(key).cloned()
    }

    /// Defines things, or lets go of them, all or nothing. They are safe when the log is, up to what is returned.
    ///
    /// # Errors
    /// The log's; nothing has changed.
    pub(super) fn change(&self, changes: Vec<Change>) -> Result<i64, Error> {
        // Held over the append, so that the log has them in the order in which they count.
        let mut defined = self.defined();
        let end = self.append(&changes)?;
        for (key, value) in changes {
            match value {
                Some(value) => drop(defined.insert(key, value)),
                None => drop(defined.remove(&key)),
            }
        }
        Ok(end)
    }

    /// Tells whether what is defined can still be trusted to last. What was defined last may never have reached the disk when it
    /// cannot, so nobody must hear then that something is there, or gone, already.
    ///
    /// # Errors
    /// The log is offline.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.log.check()
    }

    /// Waits on this thread until everything before `end` is safe.
    ///
    /// # Errors
    /// The log is offline.
    pub(super) fn wait(&self, end: i64) -> Result<(), Error> {
        self.log.wait(end)
    }

    /// Returns when everything before `end` is safe.
    ///
    /// # Errors
    /// The log is offline.
    pub(super) async fn safe(&self, end: i64) -> Result<(), Error> {
        let call = Arc::new(Notify::new());
        loop {
            self.waiters.add(&call);
            if self.log.safe_end() >= end {
                return Ok(());
            }
            self.log.check()?;
            call.notified().await;
        }
    }
}

/// Hears from the storage.
struct Watch(Arc<Waiters>);

impl Observer for Watch {
    fn synced(&self, _synced: Synced) {
        self.0.wake();
    }

    fn failed(&self, _log: LogId, _error: &Error) {
        self.0.wake();
    }
}
