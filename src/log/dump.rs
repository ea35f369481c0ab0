//! Which logs of a broker's data directory are which partitions, for those who look into it without a broker.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::server::definitions;
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
    let mut topics: BTreeMap<String, Json> = BTreeMap::new();
    inspection.examine(definitions::LOG, |batch| {
        for record in batch.records().into_iter().flatten().flatten() {
            let key = record.key.and_then(|key| serde_json::from_slice::<Vec<String>>(key).ok());
            let Some([kind, name]) = key.as_deref() else { continue };
            if kind != "topic" {
                continue;
            }
            match record.value.map(serde_json::from_slice::<Json>) {
                Some(Ok(value)) => drop(topics.insert(name.clone(), value)),
                Some(Err(_)) | None => drop(topics.remove(name)),
            }
        }
        true
    })?;
    let mut owners = HashMap::from([(definitions::LOG, Owned::Definitions)]);
    for (topic, value) in topics {
        let setting = |name: &str| value["configs"][name].as_str();
        let mut config = LogConfig::default();
        if let Some(bytes) = setting("segment.bytes").and_then(|text| text.parse().ok()) {
            config.segment_bytes = bytes;
        }
        let compacts = setting("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
        config.compact = compacts || value["holes"].as_bool().unwrap_or(false);
        let logs = value["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (log, partition) in logs.iter().zip(0..) {
            if let Some(id) = log.as_str().and_then(|log| log.parse().ok()) {
                let topic = topic.clone();
                owners.insert(id, Owned::Partition { topic, partition, config });
            }
        }
    }
    Ok(owners)
}
