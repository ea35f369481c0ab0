//! The broker at one moment, for whoever runs it: where its partitions end, and how far groups have read.

use std::collections::HashMap;

use super::Broker;
use crate::log::engine::group::Groups;

/// Everything but the broker's own topics.
#[derive(Debug, Default)]
pub struct Glance {
    /// By topic and number. One whose files cannot be opened is left out.
    pub partitions: Vec<PartitionGlance>,
    /// By name.
    pub groups: Vec<GroupGlance>,
}

/// A partition.
#[derive(Debug)]
pub struct PartitionGlance {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub number: i32,
    /// The first offset.
    pub start: i64,
    /// The offset after the last record that consumers get.
    pub end: i64,
}

/// A group.
#[derive(Debug)]
pub struct GroupGlance {
    /// Its name.
    pub name: String,
    /// How many are in it.
    pub members: usize,
    /// What it has stored as read, by topic and partition.
    pub stored: HashMap<(String, i32), i64>,
}

impl Broker {
    /// What there is now.
    pub fn glance(&self) -> Glance {
        let mut topics = self.topics.all();
        topics.retain(|topic| !topic.is_internal());
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        let partitions = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions();
            let shown = partitions.iter().zip(0..).filter_map(|(partition, number)| {
                let log = partition.log().ok()?;
                Some(PartitionGlance {
                    topic: topic.name.clone(),
                    number,
                    start: log.start(),
                    end: log.safe_end(),
                })
            });
            shown.collect::<Vec<_>>()
        });
        Glance { partitions: partitions.collect(), groups: self.coordinator.look(groups) }
    }
}

fn groups(groups: &Groups) -> Vec<GroupGlance> {
    let one = |name: String| {
        let classic = groups.describe(&name).map(|group| group.members.len());
        let next = || groups.describe_next(&name).map(|group| group.members.len());
        let stored = groups.fetch(&name, None).into_iter();
        GroupGlance {
            members: classic.or_else(next).unwrap_or(0),
            stored: stored
                .filter_map(|it| Some(((it.place.topic, it.place.partition), it.committed?.offset)))
                .collect(),
            name,
        }
    };
    groups.list().into_iter().map(|group| one(group.group)).collect()
}
