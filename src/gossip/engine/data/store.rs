//! What keys hold: of each the newest version that has come, and for a while that it was deleted.

use std::collections::BTreeMap;
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

/// All keys.
#[derive(Debug, Default)]
pub struct Store {
    entries: BTreeMap<Arc<str>, Stored>,
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

    /// Takes an entry if it is newer than what is there. Of two values of one version, which there should not be, the
    /// same one wins everywhere.
    pub(super) fn put(&mut self, key: &Arc<str>, stored: Stored, limits: &DataConfig) -> bool {
        if let Some(known) = self.entries.get(key)
            && (&known.version, &known.value) >= (&stored.version, &stored.value)
        {
            return false;
        }
        let size = Self::size(key, stored.value.as_ref());
        let before = self.entries.get(key).map_or(0, |known| Self::size(key, known.value.as_ref()));
        let bytes = self.bytes - before + size;
        let new = !self.entries.contains_key(key);
        let stamp = self.entries.get(key).map_or(0, |known| Self::digest_size(key, known));
        let digest_bytes = self.digest_bytes - stamp + Self::digest_size(key, &stored);
        let is_full = bytes > limits.bytes_max && size > before
            || new && self.entries.len() >= limits.keys_max
            || new && digest_bytes > DIGEST_BYTES_MAX;
        if is_full {
            return false;
        }
        self.digest_bytes = digest_bytes;
        self.counter = self.counter.max(stored.version.counter);
        self.bytes = bytes;
        self.values += usize::from(stored.value.is_some());
        let before = self.entries.insert(key.clone(), stored);
        self.values -= usize::from(before.is_some_and(|before| before.value.is_some()));
        true
    }

    /// Whether a version is newer than what is there.
    pub(super) fn lacks(&self, key: &str, version: &Version) -> bool {
        self.entries.get(key).is_none_or(|known| known.version < *version)
    }

    pub(super) fn sweep(&mut self, now: Time, limits: &DataConfig) {
        let (entries, bytes, digest) = (&mut self.entries, &mut self.bytes, &mut self.digest_bytes);
        entries.retain(|key, stored| {
            let keep = stored.value.is_some() || now - stored.since < limits.tombstone_ttl;
            *bytes -= if keep { 0 } else { key.len() };
            *digest -= if keep { 0 } else { Self::digest_size(key, stored) };
            keep
        });
    }
}
