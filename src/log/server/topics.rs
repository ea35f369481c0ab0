//! The topics of the broker, by name and by id: in memory for those who serve, in the definitions for the next start.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value as Json;

use super::config::{TopicConfig, Values};
use super::defaults::{Defaults, Scope};
use super::definitions::{Change, Definitions, TopicDefinition, key};
use super::partition::{Partition, Place};
use super::vault::Vault;
use crate::log::wire::{ErrorCode, Uuid};
use crate::storage::{self, LogConfig, LogId};

/// Longest name of a topic, in bytes: Kafka's.
const NAME_BYTES_MAX: usize = 249;

/// Most partitions of all topics: each takes a file of its own once something is in it.
pub(super) const PARTITIONS_MAX: usize = 200_000;

/// Where groups keep their offsets.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Where transactions are kept.
pub(super) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: Uuid,
    settings: RwLock<(Values, Arc<TopicConfig>)>,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
    gone: AtomicBool,
    /// It is or was compacted: between batches there may be holes.
    holes: AtomicBool,
}

impl Topic {
    /// Its partitions, by number.
    pub(super) fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&self.partitions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One of them.
    pub(super) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(usize::try_from(index).ok()?).cloned()
    }

    /// How it is to be kept.
    pub(super) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// What was set of it.
    pub(super) fn values(&self) -> Values {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The broker's own.
    pub(super) fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        LogConfig { segment_bytes: config.segment_bytes, compact: self.holes.load(Ordering::Relaxed) }
    }

    /// Its definition before it is kept in another way, and whether that may have holes where it had none. Before anything is
    /// compacted, and it stays: a start would take the holes for damage.
    fn will_be(&self, config: &TopicConfig, values: &Values) -> (Change, bool) {
        let had = self.holes.fetch_or(config.compacts, Ordering::Relaxed);
        let definition = self.definition(&self.partitions(), values);
        ((key("topic", &[&self.name]), Some(definition)), config.compacts && !had)
    }

    /// From now on it is kept in this way.
    fn is_set(&self, values: Values, config: TopicConfig) {
        let log = self.log_config(&config);
        self.partitions().iter().for_each(|partition| partition.configure(log));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = (values, Arc::new(config));
    }

    fn definition(&self, partitions: &[Arc<Partition>], values: &Values) -> Json {
        let definition = TopicDefinition {
            id: self.id,
            logs: partitions.iter().map(|partition| partition.log_id).collect(),
            values: values.clone(),
            holes: self.holes.load(Ordering::Relaxed),
        };
        definition.to_json()
    }
}

/// The broker's own topics.
pub(super) fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC)
}

/// Whether a topic can have that name: Kafka's rules.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err("a topic's name cannot be empty".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("a topic's name cannot be '{name}'"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "a topic's name has up to {NAME_BYTES_MAX} characters, this one has {}",
            name.len()
        ));
    }
    if !name.chars().all(fits) {
        return Err(format!(
            "a topic's name has ASCII letters, digits, '.', '_' and '-': '{}'",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// Why something about a topic could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) error: ErrorCode,
    pub(super) message: String,
}

impl Failed {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

impl From<storage::Error> for Failed {
    fn from(error: storage::Error) -> Self {
        tracing::error!(%error, "a definition cannot be stored");
        Self::new(ErrorCode::KAFKA_STORAGE_ERROR, error.to_string())
    }
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    partitions: usize,
}

/// All topics.
#[derive(Debug)]
pub(super) struct Topics {
    known: RwLock<Known>,
    definitions: Arc<Definitions>,
    vault: Arc<Vault>,
    /// For what is not set of a topic.
    defaults: RwLock<Arc<Defaults>>,
    leader_epoch: i32,
    /// Counts topics and partitions that came and went.
    changes: AtomicU64,
}

impl Topics {
    /// With those that are defined.
    pub(super) fn open(
        definitions: Arc<Definitions>,
        vault: Arc<Vault>,
        defaults: Values,
        leader_epoch: i32,
    ) -> Self {
        let changes = AtomicU64::new(0);
        let mut defaults = Defaults::new(defaults);
        defaults.read(&definitions);
        let defaults = RwLock::new(Arc::new(defaults));
        let topics = Self { known: RwLock::default(), definitions, vault, defaults, leader_epoch, changes };
        let mut known = Known::default();
        for (names, value) in topics.definitions.of_kind("topic") {
            let (Some(name), Some(definition)) = (names.first(), TopicDefinition::parse(&value)) else {
                tracing::error!(?names, "a topic's definition that this version cannot read is left alone");
                continue;
            };
            known.insert(topics.assemble(name, definition));
        }
        Self { known: RwLock::new(known), ..topics }
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn assemble(&self, name: &str, definition: TopicDefinition) -> Arc<Topic> {
        let defaults = self.defaults();
        let place = self.place(definition.log_config_with(&defaults));
        let logs = definition.logs.iter().zip(0..);
        let partitions = logs.map(|(log, index)| Partition::new(name, index, *log, &place)).collect();
        let config = TopicConfig::new(&definition.values, &defaults);
        Arc::new(Topic {
            name: name.to_owned(),
            id: definition.id,
            settings: RwLock::new((definition.values, Arc::new(config))),
            partitions: RwLock::new(partitions),
            gone: AtomicBool::new(false),
            holes: AtomicBool::new(place.config.compact),
        })
    }

    fn place(&self, config: LogConfig) -> Place {
        Place { vault: Arc::clone(&self.vault), config, leader_epoch: self.leader_epoch }
    }

    /// Waits on this thread until the definitions are safe up to `end`: for the few that the broker makes for itself.
    pub(super) fn wait(&self, end: i64) -> Result<(), ErrorCode> {
        self.definitions.wait(end).map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)
    }

    /// What is not set of a topic is this.
    pub(super) fn defaults(&self) -> Arc<Defaults> {
        Arc::clone(&self.defaults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another number when topics or their partitions are others.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The topic of that name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.known().by_name.get(name).cloned()
    }

    /// The topic of that id.
    pub(super) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.known().by_id.get(&id).cloned()
    }

    /// All, by name.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.known().by_name.values().cloned().collect()
    }

    /// How many topics and partitions there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        let known = self.known();
        (known.by_name.len(), known.partitions)
    }

    /// Whether what is known of topics lasts: see [`Definitions::check`].
    pub(super) fn check_lasting(&self) -> Result<(), Failed> {
        Ok(self.definitions.check()?)
    }

    /// Whether a topic could be made.
    pub(super) fn check_new(&self, name: &str, partitions: usize) -> Result<(), Failed> {
        check_name(name).map_err(|why| Failed::new(ErrorCode::INVALID_TOPIC_EXCEPTION, why))?;
        self.check_lasting()?;
        let known = self.known();
        if known.by_name.contains_key(name) {
            return Err(Failed::new(
                ErrorCode::TOPIC_ALREADY_EXISTS,
                format!("Topic '{name}' already exists."),
            ));
        }
        room_for(known.partitions, partitions)
    }

    /// Makes a topic. It is there at once; its definition is safe when the definitions are, up to what is returned.
    pub(super) fn create(
        &self,
        name: &str,
        partitions: usize,
        values: Values,
    ) -> Result<(Arc<Topic>, i64), Failed> {
        self.check_new(name, partitions)?;
        let random = |_| {
            LogId::random().map_err(|error| Failed::new(ErrorCode::UNKNOWN_SERVER_ERROR, error.to_string()))
        };
        let logs: Vec<LogId> = (0..partitions).map(random).collect::<Result<_, _>>()?;
        let id = Uuid(random(0)?.to_bytes());
        let topic = self.assemble(name, TopicDefinition { id, logs, values: values.clone(), holes: false });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_name.contains_key(name) {
            return Err(Failed::new(
                ErrorCode::TOPIC_ALREADY_EXISTS,
                format!("Topic '{name}' already exists."),
            ));
        }
        let definition = topic.definition(&topic.partitions(), &values);
        let end = self.definitions.change(vec![(key("topic", &[name]), Some(definition))])?;
        known.insert(Arc::clone(&topic));
        self.changes.fetch_add(1, Ordering::Release);
        Ok((topic, end))
    }

    /// Takes a topic out of service. Its logs can be removed once the definitions are safe up to what is returned.
    pub(super) fn delete(&self, name: &str) -> Result<(Arc<Topic>, i64), Failed> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = known.by_name.get(name).cloned() else {
            return Err(Failed::new(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.",
            ));
        };
        let end = self.definitions.change(vec![(key("topic", &[name]), None)])?;
        known.remove(&topic);
        self.changes.fetch_add(1, Ordering::Release);
        topic.gone.store(true, Ordering::Release);
        topic.partitions().iter().for_each(|partition| partition.retire());
        Ok((topic, end))
    }

    /// Adds partitions, so that there are `count`.
    pub(super) fn grow(&self, topic: &Topic, count: usize) -> Result<i64, Failed> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if topic.gone.load(Ordering::Acquire) {
            return Err(Failed::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "the topic is deleted"));
        }
        let before = topic.partitions();
        room_for(known.partitions, count.saturating_sub(before.len()))?;
        let place = self.place(topic.log_config(&topic.config()));
        let mut partitions = before.to_vec();
        for index in before.len()..count {
            let log = LogId::random()
                .map_err(|error| Failed::new(ErrorCode::UNKNOWN_SERVER_ERROR, error.to_string()))?;
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            partitions.push(Partition::new(&topic.name, index, log, &place));
        }
        let definition = topic.definition(&partitions, &topic.values());
        let end = self.definitions.change(vec![(key("topic", &[&topic.name]), Some(definition))])?;
        known.partitions += partitions.len().saturating_sub(before.len());
        *topic.partitions.write().unwrap_or_else(PoisonError::into_inner) = partitions.into();
        self.changes.fetch_add(1, Ordering::Release);
        Ok(end)
    }

    /// Sets what is configured of a topic.
    pub(super) fn configure(&self, topic: &Topic, values: Values) -> Result<i64, Failed> {
        let _known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if topic.gone.load(Ordering::Acquire) {
            return Err(Failed::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "the topic is deleted"));
        }
        let config = TopicConfig::new(&values, &self.defaults());
        let (definition, _) = topic.will_be(&config, &values);
        let end = self.definitions.change(vec![definition])?;
        topic.is_set(values, config);
        Ok(end)
    }

    /// Sets what counts for all that is not set of a topic, and how the topics are kept from then on.
    pub(super) fn set_defaults(&self, scope: Scope, values: Values) -> Result<i64, Failed> {
        let known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut defaults = Defaults::clone(&self.defaults());
        let mut changes = vec![(scope.key(), Defaults::definition(&values))];
        defaults.set(scope, values);
        let mut all = Vec::new();
        for topic in known.by_name.values() {
            let values = topic.values();
            let config = TopicConfig::new(&values, &defaults);
            let (definition, is_new) = topic.will_be(&config, &values);
            changes.extend(is_new.then_some(definition));
            all.push((topic, values, config));
        }
        let end = self.definitions.change(changes)?;
        *self.defaults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(defaults);
        all.into_iter().for_each(|(topic, values, config)| topic.is_set(values, config));
        Ok(end)
    }
}

fn room_for(partitions: usize, more: usize) -> Result<(), Failed> {
    if partitions + more > PARTITIONS_MAX {
        return Err(Failed::new(
            ErrorCode::INVALID_PARTITIONS,
            format!("{more} more partitions would be over this broker's limit of {PARTITIONS_MAX}"),
        ));
    }
    Ok(())
}

impl Known {
    fn insert(&mut self, topic: Arc<Topic>) {
        self.partitions += topic.partitions().len();
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    fn remove(&mut self, topic: &Topic) {
        self.partitions -= topic.partitions().len();
        self.by_id.remove(&topic.id);
        self.by_name.remove(&topic.name);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::storage::disk::sim::{Faults, SimDisk};
    use crate::storage::{Flushing, Options, Store};

    #[test]
    fn a_topic_whose_definition_never_got_to_the_disk_is_not_there_already() {
        let disk = SimDisk::default();
        let options = Options { flushing: Flushing::Manual, reserve_bytes: 0, ..Options::default() };
        let store = Store::open_on(Arc::new(disk.clone()), Path::new("/log"), options).unwrap();
        let definitions = Arc::new(Definitions::open(&store).unwrap());
        let vault = Arc::new(Vault::new(store));
        let topics = Topics::open(Arc::clone(&definitions), Arc::clone(&vault), Values::new(), 0);
        let create = |name| topics.create(name, 1, Values::new()).map(|(_, end)| end);
        let flush = || vault.with(Store::flush).unwrap();
        let first = create("first").unwrap();
        flush();
        definitions.wait(first).unwrap();
        assert_eq!(create("first").unwrap_err().error, ErrorCode::TOPIC_ALREADY_EXISTS);
        disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
        let second = create("second").unwrap();
        flush();
        definitions.wait(second).unwrap_err();
        for name in ["second", "third"] {
            let failed = create(name).unwrap_err();
            assert_eq!(failed.error, ErrorCode::KAFKA_STORAGE_ERROR, "{name}");
            assert!(
                failed.message.ends_with("is offline since a failure to sync: input/output error"),
                "{failed:?}"
            );
            assert_eq!(topics.check_new(name, 1), Err(failed), "{name}");
        }
    }
}
