//! Sets of partitions, by topic.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::wire::Uuid;

/// Partitions by topic. A topic without any is not in it.
pub type Parts = BTreeMap<Uuid, BTreeSet<i32>>;

/// Each partition.
pub(super) fn each(parts: &Parts) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    parts.iter().flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}

pub(super) fn contains(parts: &Parts, (topic, partition): (Uuid, i32)) -> bool {
    parts.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
}

pub(super) fn insert(parts: &mut Parts, (topic, partition): (Uuid, i32)) {
    parts.entry(topic).or_default().insert(partition);
}

pub(super) fn len(parts: &Parts) -> usize {
    parts.values().map(BTreeSet::len).sum()
}

/// Those for which it holds.
pub(super) fn filter(parts: &Parts, holds: impl Fn((Uuid, i32)) -> bool) -> Parts {
    let mut kept = Parts::new();
    each(parts).filter(|part| holds(*part)).for_each(|part| insert(&mut kept, part));
    kept
}

/// Whether one of them is in the other.
pub(super) fn meets(one: &Parts, other: &Parts) -> bool {
    each(one).any(|part| contains(other, part))
}

/// Whether all of them are in the other.
pub(super) fn is_within(one: &Parts, other: &Parts) -> bool {
    each(one).all(|part| contains(other, part))
}
