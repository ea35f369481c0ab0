//! What is worth keeping at hand but not for ever: open files and loaded indexes, the least recently used go first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values by key with a bound on their summed cost.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    held: Mutex<Held<K, V>>,
    cost_max: usize,
}

#[derive(Debug)]
struct Held<K, V> {
    entries: HashMap<K, Entry<V>>,
    cost: usize,
    tick: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    cost: usize,
    used: u64,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    pub(crate) fn new(cost_max: usize) -> Self {
        let held = Held { entries: HashMap::new(), cost: 0, tick: 0 };
        Self { held: Mutex::new(held), cost_max: cost_max.max(1) }
    }

    /// What is held under that key, which counts as a use.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.tick += 1;
        let tick = held.tick;
        held.entries.get_mut(key).map(|entry| {
            entry.used = tick;
            entry.value.clone()
        })
    }

    /// Holds a value and lets go of others as far as needed. Whoever has a clone of those keeps it.
    pub(crate) fn insert(&self, key: K, value: V, cost: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.tick += 1;
        let entry = Entry { value, cost, used: held.tick };
        held.cost += cost;
        if let Some(old) = held.entries.insert(key, entry) {
            held.cost -= old.cost;
        }
        if held.cost <= self.cost_max {
            return;
        }
        // An eighth at once: finding the oldest takes a look at all.
        let mut ages: Vec<(u64, K, usize)> = held.entries.iter().map(|(k, e)| (e.used, *k, e.cost)).collect();
        ages.sort_unstable_by_key(|&(used, _, _)| used);
        let keep_max = self.cost_max - self.cost_max / 8;
        let last = ages.len() - 1;
        for (_, key, cost) in &ages[..last] {
            if held.cost <= keep_max {
                break;
            }
            held.entries.remove(key);
            held.cost -= cost;
        }
    }

    pub(crate) fn remove(&self, key: &K) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = held.entries.remove(key) {
            held.cost -= old.cost;
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.held.lock().unwrap().entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first() {
        let cache = Cache::new(16);
        for key in 0..16 {
            cache.insert(key, key, 1);
        }
        assert_eq!(cache.get(&0), Some(0));
        cache.insert(16, 16, 1);
        assert_eq!(cache.get(&0), Some(0));
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get(&16), Some(16));
        assert!(cache.len() <= 16);
        cache.insert(17, 17, 100);
        assert_eq!((cache.len(), cache.get(&17)), (1, Some(17)));
        cache.remove(&17);
        cache.insert(18, 18, 1);
        assert_eq!(cache.len(), 1);
    }
}
