//! What keys hold: of each the newest version that has come, and for a while that it was deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::gossip::engine::{DataConfig, Time};
use crate::gossip::wire::data::Version;

/// Bytes of all keys with their versions: they go along whole when states are exchanged, and a state has a limit of 20 MiB
/// at real agents, too.
const DIGEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a version takes beside its writer, and what is around both.
const STAMP_BYTES: usize = 16;

/// What a key holds, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its version.
    pub version: Version,
    /// Its value; none if it was deleted.
    pub value: Option<Bytes>,
    /// When this node learned of it.
    pub since: Time,
}

/// By how much something is more than there may be.
struct Excess {
    bytes: usize,
    keys: usize,
    digest_bytes: usize,
}

impl Excess {
    fn is_gone(&self) -> bool {
        self.bytes == 0 && self.keys == 0 && self.digest_bytes == 0
    }

    /// A key goes that took so much.
    fn less(&mut self, bytes: usize, digest_bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.keys = self.keys.saturating_sub(1);
        self.digest_bytes = self.digest_bytes.saturating_sub(digest_bytes);
    }
}

/// All keys.
#[derive(Debug, Default)]
pub struct Store {
    entries: BTreeMap<Arc<str>, Stored>,
    /// The same keys, the oldest first.
    by_age: BTreeSet<(Version, Arc<str>)>,
    /// How many of them have a value.
    values: usize,
    bytes: usize,
    digest_bytes: usize,
    pub(super) counter: u64,
}

impl Store {
    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<&Stored> {
        self.entries.get(key)
    }

    /// All keys in order, the deleted ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Stored)> {
        self.entries.iter()
    }

    /// How many keys there are, the deleted ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys have a value.
    pub fn values(&self) -> usize {
        self.values
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn size(key: &str, value: Option<&Bytes>) -> usize {
        key.len() + value.map_or(0, Bytes::len)
    }

    fn digest_size(key: &str, stored: &Stored) -> usize {
        key.len() + stored.version.writer.len() + STAMP_BYTES
    }

    /// Whether an entry is newer than what is there. Of two values of one version, which there should not be, the same one
    /// wins everywhere.
    fn is_news(&self, key: &str, stored: &Stored) -> bool {
        let known = self.entries.get(key);
        known.is_none_or(|known| (&known.version, &known.value) < (&stored.version, &stored.value))
    }

    /// What all would take with an entry, if that is more than there may be.
    fn over(&self, key: &str, stored: &Stored, limits: &DataConfig) -> Option<Excess> {
        let known = self.entries.get(key);
        let size = Self::size(key, stored.value.as_ref());
        let before = known.map_or(0, |known| Self::size(key, known.value.as_ref()));
        let bytes = (self.bytes - before + size).saturating_sub(limits.bytes_max);
        let digest = self.digest_bytes + Self::digest_size(key, stored);
        let is_new = known.is_none();
        let excess = Excess {
            bytes: if size > before { bytes } else { 0 },
            keys: if is_new { (self.entries.len() + 1).saturating_sub(limits.keys_max) } else { 0 },
            digest_bytes: if is_new { digest.saturating_sub(DIGEST_BYTES_MAX) } else { 0 },
        };
        (!excess.is_gone()).then_some(excess)
    }

    /// Takes an entry of this node, if there is room for it.
    pub(super) fn put(&mut self, key: &Arc<str>, stored: Stored, limits: &DataConfig) -> bool {
        let takes = self.is_news(key, &stored) && self.over(key, &stored, limits).is_none();
        if takes {
            self.insert(key, stored);
        }
        takes
    }

    /// Takes an entry of another node if it is news. Without room the oldest ones make some, and are returned: so that of
    /// stores that are full of different keys the newest of all are in each in the end. None if it is itself the oldest.
    pub(super) fn merge(
        &mut self,
        key: &Arc<str>,
        stored: Stored,
        limits: &DataConfig,
    ) -> Option<Vec<Arc<str>>> {
        if !self.is_news(key, &stored) {
            return None;
        }
        let mut gone = Vec::new();
        if let Some(mut excess) = self.over(key, &stored, limits) {
            let older =
                self.by_age.iter().take_while(|(version, other)| (version, other) < (&stored.version, key));
            for (_, other) in older.filter(|(_, other)| other != key) {
                let Some(oldest) = self.entries.get(other) else { continue };
                excess.less(Self::size(other, oldest.value.as_ref()), Self::digest_size(other, oldest));
                gone.push(other.clone());
                if excess.is_gone() {
                    break;
                }
            }
            if !excess.is_gone() {
                return None;
            }
        }
        gone.iter().for_each(|key| self.remove(key));
        self.insert(key, stored);
        Some(gone)
    }

    fn insert(&mut self, key: &Arc<str>, stored: Stored) {
        self.remove(key);
        self.counter = self.counter.max(stored.version.counter);
        self.bytes += Self::size(key, stored.value.as_ref());
        self.digest_bytes += Self::digest_size(key, &stored);
        self.values += usize::from(stored.value.is_some());
        self.by_age.insert((stored.version.clone(), key.clone()));
        self.entries.insert(key.clone(), stored);
    }

    fn remove(&mut self, key: &Arc<str>) {
        let Some(stored) = self.entries.remove(key) else { return };
        self.bytes -= Self::size(key, stored.value.as_ref());
        self.digest_bytes -= Self::digest_size(key, &stored);
        self.values -= usize::from(stored.value.is_some());
        self.by_age.remove(&(stored.version, key.clone()));
    }

    /// Whether a version is newer than what is there.
    pub(super) fn lacks(&self, key: &str, version: &Version) -> bool {
        self.entries.get(key).is_none_or(|known| known.version < *version)
    }

    pub(super) fn sweep(&mut self, now: Time, limits: &DataConfig) {
        let old = |stored: &Stored| stored.value.is_none() && now - stored.since >= limits.tombstone_ttl;
        let swept: Vec<Arc<str>> =
            self.entries.iter().filter(|(_, stored)| old(stored)).map(|(key, _)| key.clone()).collect();
        swept.iter().for_each(|key| self.remove(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(keys_max: usize, bytes_max: usize) -> DataConfig {
        DataConfig { keys_max, bytes_max, ..DataConfig::default() }
    }

    fn stored(counter: u64, bytes: usize) -> Stored {
        let value = Some(Bytes::from(vec![b'v'; bytes]));
        Stored { version: Version { counter, writer: "a".into() }, value, since: Time::default() }
    }

    /// Everything that can be counted anew is what is counted.
    fn is_consistent(store: &Store) {
        let bytes = |(key, stored): (&Arc<str>, &Stored)| Store::size(key, stored.value.as_ref());
        assert_eq!(store.bytes, store.iter().map(bytes).sum::<usize>());
        assert_eq!(
            store.digest_bytes,
            store.iter().map(|(key, stored)| Store::digest_size(key, stored)).sum::<usize>()
        );
        assert_eq!(store.values, store.iter().filter(|(_, stored)| stored.value.is_some()).count());
        assert_eq!(store.by_age.len(), store.len());
    }

    /// Tells each of both what the other one has until nothing is news.
    fn exchange(one: &mut Store, two: &mut Store, limits: &DataConfig) {
        for _ in 0..100 {
            let [ones, twos] = [&*one, &*two].map(|store| store.entries.clone());
            let mut news = twos
                .into_iter()
                .filter(|(key, stored)| one.merge(key, stored.clone(), limits).is_some())
                .count();
            news += ones
                .into_iter()
                .filter(|(key, stored)| two.merge(key, stored.clone(), limits).is_some())
                .count();
            if news == 0 {
                return;
            }
        }
        panic!("they never agree");
    }

    #[test]
    fn stores_that_are_full_of_different_keys_agree() {
        let rng = &mut fastrand::Rng::with_seed(3);
        for round in 0..200 {
            let limits = limits(rng.usize(5..40), rng.usize(200..2000));
            let mut stores = [Store::default(), Store::default(), Store::default()];
            for store in &mut stores {
                for _ in 0..60 {
                    let key: Arc<str> = format!("k{}", rng.u32(0..80)).as_str().into();
                    let mut stored = stored(rng.u64(1..200), rng.usize(0..100));
                    if rng.u32(0..5) == 0 {
                        stored.value = None;
                    }
                    store.put(&key, stored, &limits);
                }
            }
            let [one, two, three] = &mut stores;
            for _ in 0..10 {
                exchange(one, two, &limits);
                exchange(two, three, &limits);
                exchange(three, one, &limits);
            }
            assert_eq!(one.entries, two.entries, "round {round}");
            assert_eq!(two.entries, three.entries, "round {round}");
            stores.iter().for_each(is_consistent);
            assert!(stores[0].len() <= limits.keys_max && stores[0].bytes <= limits.bytes_max);
        }
    }

    #[test]
    fn a_full_store_refuses_its_own_and_lets_the_oldest_go_for_anothers() {
        let limits = limits(3, 1000);
        let mut store = Store::default();
        let key = |name: &str| Arc::<str>::from(name);
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            assert!(store.put(&key(name), stored(10 + at as u64, 300), &limits));
        }
        assert!(!store.put(&key("d"), stored(20, 1), &limits));
        assert_eq!(store.merge(&key("d"), stored(9, 1), &limits), None, "it is the oldest itself");
        assert_eq!(store.merge(&key("d"), stored(20, 300), &limits), Some(vec![key("a")]));
        // A newer value that is larger: others make room, and not its own older one.
        assert_eq!(store.merge(&key("b"), stored(21, 500), &limits), Some(vec![key("c")]));
        assert!(store.put(&key("b"), stored(22, 400), &limits), "smaller than before");
        assert_eq!(
            store.merge(&key("e"), stored(19, 301), &limits),
            None,
            "the older ones do not make enough room"
        );
        assert_eq!(store.len(), 2);
        is_consistent(&store);
        store.put(&key("b"), Stored { value: None, ..stored(23, 0) }, &limits);
        store.sweep(Time::default() + limits.tombstone_ttl, &limits);
        assert_eq!(store.len(), 1);
        is_consistent(&store);
    }
}
