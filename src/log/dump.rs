//! Which logs of a broker's data directory are which partitions, for those who look into it without a broker.

use std::collections::{BTreeMap, HashMap};

use super::server::definitions::{self, TopicDefinition};
use crate::storage::{Error, Inspection, LogConfig, LogId};

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    /// The log of definitions.
    Definitions,
    /// A partition of a topic.
    Partition {
        /// The topic.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// How it is kept.
        config: LogConfig,
    },
}

/// Whose logs they are, as the definitions have it; logs of topics that were deleted are nobody's.
///
/// # Errors
/// The system's.
pub fn owners(inspection: &Inspection) -> Result<HashMap<LogId, Owned>, Error> {
    let mut topics: BTreeMap<String, TopicDefinition> = BTreeMap::new();
    inspection.examine(definitions::LOG, |batch| {
        for record in batch.records().into_iter().flatten().flatten() {
            let key = record.key.and_then(|key| serde_json::from_slice::<Vec<String>>(key).ok());
            let Some([kind, name]) = key.as_deref() else { continue };
            if kind != "topic" {
                continue;
            }
            let value = record.value.and_then(|value| serde_json::from_slice(value).ok());
            match value.as_ref().and_then(TopicDefinition::parse) {
                Some(topic) => drop(topics.insert(name.clone(), topic)),
                None => drop(topics.remove(name)),
            }
        }
        true
    })?;
    let mut owners = HashMap::from([(definitions::LOG, Owned::Definitions)]);
    for (topic, definition) in topics {
        let config = definition.log_config();
        for (id, partition) in definition.logs.into_iter().zip(0..) {
            owners.insert(id, Owned::Partition { topic: topic.clone(), partition, config });
        }
    }
    Ok(owners)
}
