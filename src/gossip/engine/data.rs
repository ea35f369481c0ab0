//! Keys and values of our own: versions that only grow, rumours that are told until everybody knows them, and the
//! comparison of digests that finds what rumours missed.
//!
//! Demers et al. 1987: rumour mongering with feedback and a counter, anti-entropy, death certificates. Only members that
//! announce that they understand it are told; real agents never see any of it.

mod repair;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{SHA256, digest};

pub use store::{Store, Stored};

use super::exchange::Purpose;
use super::{
    Config, DATA_TAG, DataConfig, Engine, Event, Member, Message, Mode, NodeState, Output, Refusal, Serf,
    Time, Timer,
};
use crate::gossip::wire::data::{
    Data as Wire, Entry, KEY_BYTES_MAX, Stamp, VALUE_BYTES_MAX, Value, Version, write_entry,
};
use crate::gossip::wire::{SerfState, StreamMessage};

/// Larger values are announced and fetched over a stream.
const INLINE_BYTES_MAX: usize = 512;
/// Bytes of a message of rumours, beside its entries.
const HEAD_BYTES: usize = 64;
/// Peers that are remembered to know a rumour.
const TOLD_MAX: usize = 64;
/// How many gossip intervals one who asks for news waits before it asks again.
const ASK_INTERVALS: u32 = 5;
/// How often tombstones are looked through, in gossip intervals.
const SWEEP_INTERVALS: u32 = 300;
/// Bytes of keys and values in one message: far less than a stream may bring, and done in a second.
const PART_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of keys and values that are sent at a time to one who has not asked: it asks for the rest.
const SENT_BYTES_MAX: usize = 4 * PART_BYTES_MAX;
/// Values that are being fetched. Over it they are forgotten: some of them never come.
const FETCHING_MAX: usize = 4096;
/// No version counts further: there has to be a next one.
const COUNTER_MAX: u64 = 1 << 62;

fn size(entry: &Entry) -> usize {
    let value = if let Value::Bytes(bytes) = &entry.value { bytes.len() } else { 0 };
    entry.key.len() + entry.version.writer.len() + value
}

fn entry(key: &Arc<str>, stored: &Stored) -> Entry {
    let value = stored.value.clone().map_or(Value::Tombstone, Value::Bytes);
    Entry { key: key.clone(), version: stored.version.clone(), value }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// It is set at this node.
    Here,
    /// A member has told it.
    Member(u32),
    /// It was in another's state.
    State,
}

/// What is to be told.
#[derive(Debug, Default)]
struct Rumor {
    /// Who knows it: whoever told us, and those whom we told.
    told: Vec<u32>,
    /// How many in a row knew it already, up to the last round.
    misses: u32,
    /// Whom the last round told, and how many of them have said that they knew it.
    last: (u32, u32),
    sent: u32,
}

/// Keys and values, and what of them is told.
#[derive(Debug)]
pub(super) struct Data {
    enabled: bool,
    config: DataConfig,
    store: Store,
    rumors: BTreeMap<Arc<str>, Rumor>,
    /// Values that are being fetched.
    fetching: HashMap<Arc<str>, (Version, [u8; 32])>,
    armed: bool,
    asked: Time,
    swept: Time,
    /// Entries that were taken so far.
    taken: usize,
}

impl Data {
    pub fn new(config: &Config) -> Self {
        Self {
            enabled: config.tags.contains_key(DATA_TAG),
            config: config.data.clone(),
            store: Store::default(),
            rumors: BTreeMap::new(),
            fetching: HashMap::new(),
            armed: false,
            asked: Time::default(),
            swept: Time::default(),
            taken: 0,
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn rumor_count(&self) -> usize {
        self.rumors.len()
    }

    /// A member is gone: whoever gets its number is another one.
    pub fn forget(&mut self, member: u32) {
        self.rumors.values_mut().for_each(|rumor| rumor.told.retain(|told| *told != member));
    }

    /// What goes along when states are exchanged: which versions we have, and what the other one lacks.
    pub fn exchanged(&self, join: bool, theirs: Option<&SerfState>) -> (Option<Vec<Stamp>>, Vec<Entry>) {
        let answers = theirs.is_some();
        // Who only tells does not ask, except when it joins.
        if !self.enabled || self.config.mode == Mode::Push && !answers && !join {
            return (None, Vec::new());
        }
        let theirs = theirs.and_then(|theirs| theirs.digest.as_deref());
        let newer = theirs.map_or(Vec::new(), |theirs| self.newer_than(theirs, PART_BYTES_MAX));
        (Some(self.digest()), newer)
    }

    /// Which versions we have.
    fn digest(&self) -> Vec<Stamp> {
        let stamp =
            |(key, stored): (&Arc<str>, &Stored)| Stamp { key: key.clone(), version: stored.version.clone() };
        self.store.iter().map(stamp).collect()
    }

    /// What another one lacks, or the first of it: as many bytes as may be, and something in any case.
    fn newer_than(&self, theirs: &[Stamp], bytes_max: usize) -> Vec<Entry> {
        let known: HashMap<&str, &Version> =
            theirs.iter().map(|stamp| (&*stamp.key, &stamp.version)).collect();
        let newer = |key: &Arc<str>, stored: &Stored| {
            known.get(&**key).is_none_or(|version| **version < stored.version)
        };
        let lacked = self.store.iter().filter(|(key, stored)| newer(key, stored));
        let mut bytes = 0;
        let lacked = lacked.map(|(key, stored)| entry(key, stored)).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += size(entry);
            is_first || bytes <= bytes_max
        });
        lacked.collect()
    }
}

/// Whether a member understands data: it says so with a tag.
fn is_capable(member: &Member) -> bool {
    const TAG: &[u8] = b"\xa2dk\xa1";
    member.state == NodeState::Alive && member.meta.windows(TAG.len()).any(|window| window == TAG)
}

impl Engine {
    /// Sets a key, or deletes it.
    pub(super) fn set(&mut self, now: Time, key: &Arc<str>, value: Option<Bytes>, outputs: &mut Vec<Output>) {
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let refusal = if key.is_empty() || key.len() > KEY_BYTES_MAX {
            Some(Refusal::Key)
        } else if bytes > VALUE_BYTES_MAX {
            Some(Refusal::Value { bytes })
        } else {
            None
        };
        let clock = self.data.config.epoch_ms.saturating_add(now.0 / 1000);
        let counter = (self.data.store.counter + 1).max(clock).min(COUNTER_MAX);
        let version = Version { counter, writer: self.config.name.clone() };
        let refusal = refusal.or_else(|| {
            let stored = Stored { version, value, since: now };
            (!self.take_entry(key, stored, Origin::Here, outputs)).then_some(Refusal::Full)
        });
        if let Some(refusal) = refusal {
            outputs.push(Output::Event(Event::Refused { tag: None, refusal }));
        }
    }

    /// Takes an entry if it is news, and tells it from then on. In a full store the oldest ones go for what
    /// others tell, so that all come to have the same; what is set here is refused.
    fn take_entry(
        &mut self,
        key: &Arc<str>,
        stored: Stored,
        from: Origin,
        outputs: &mut Vec<Output>,
    ) -> bool {
        if stored.version.counter > COUNTER_MAX {
            return false;
        }
        let now = stored.since;
        let told = entry(key, &stored);
        // That something is gone which never was here is kept and passed on, and nothing to be told of.
        let is_change =
            stored.value.is_some() || self.data.store.get(key).is_some_and(|known| known.value.is_some());
        let gone = match from {
            Origin::Here => self.data.store.put(key, stored, &self.data.config).then(Vec::new),
            Origin::Member(_) | Origin::State => self.data.store.merge(key, stored, &self.data.config),
        };
        let Some(gone) = gone else { return false };
        self.counts.keys_dropped += gone.len() as u64;
        for key in gone {
            self.data.rumors.remove(&key);
        }
        let told_by = if let Origin::Member(member) = from { vec![member] } else { Vec::new() };
        let rumor = Rumor { told: told_by, ..Rumor::default() };
        self.data.rumors.insert(key.clone(), rumor);
        self.data.fetching.remove(key);
        self.data.taken += 1;
        self.arm_data(now);
        if is_change {
            outputs.push(Output::Event(Event::Data(told)));
        }
        true
    }

    fn arm_data(&mut self, now: Time) {
        if !self.data.armed {
            self.data.armed = true;
            let at = self.next_round(now);
            self.timers.set(at, Timer::Data);
        }
    }

    /// Tells rumours, asks for some, and forgets old tombstones.
    pub(super) fn data_due(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.data.armed = false;
        let interval = self.config.gossip_interval;
        if self.data.config.mode != Mode::Pull {
            self.tell_rumors(now, outputs);
        }
        if self.data.config.mode != Mode::Push && now - self.data.asked >= interval * ASK_INTERVALS {
            self.data.asked = now;
            let to = self.data_peers(1, &[]);
            let ask = Wire::Ask { from: self.config.name.clone() };
            to.iter().for_each(|id| self.send_to(*id, vec![Message::Serf(Serf::Data(ask.clone()))], outputs));
        }
        if now - self.data.swept >= interval * SWEEP_INTERVALS {
            self.data.swept = now;
            self.data.store.sweep(now, &self.data.config);
        }
        // A node that has nothing to tell asks only if that is how it is to learn anything.
        if !self.data.rumors.is_empty() || self.data.config.mode == Mode::Pull {
            self.arm_data(now);
        }
    }

    fn data_peers(&mut self, count: usize, except: &[u32]) -> Vec<u32> {
        let me = self.me;
        self.members.sample(&mut self.rng, count, |id, member| {
            id != me && !except.contains(&id) && is_capable(member)
        })
    }

    /// Each rumour goes to a few who are not known to know it; one that too many in a row knew is dropped.
    fn tell_rumors(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let removal = self.data.config.removal_count + self.config.retransmit_limit(self.members.living());
        let limit = 2 * removal;
        let fanout = self.data.config.fanout;
        let mut dropped = Vec::new();
        let mut letters: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        let keys: Vec<Arc<str>> = self.data.rumors.keys().cloned().collect();
        for key in keys {
            let Some(mut rumor) = self.data.rumors.remove(&key) else { continue };
            let Some(stored) = self.data.store.get(&key) else { continue };
            let (asked, knew) = std::mem::take(&mut rumor.last);
            rumor.misses = if knew < asked { 0 } else { rumor.misses + knew };
            let told = entry(&key, stored);
            let peers = self.data_peers(fanout, &rumor.told);
            if peers.is_empty() || rumor.misses >= removal || rumor.sent >= limit {
                dropped.push(key);
                continue;
            }
            for peer in peers {
                letters.entry(peer).or_default().push(told.clone());
                rumor.told.push(peer);
                rumor.last.0 += 1;
                rumor.sent += 1;
            }
            let over = rumor.told.len().saturating_sub(TOLD_MAX);
            rumor.told.drain(..over);
            self.data.rumors.insert(key, rumor);
        }
        for (peer, entries) in letters {
            self.send_entries(now, peer, &entries, true, outputs);
        }
    }

    /// Sends entries in as many datagrams as they need; values that are too large for one are announced.
    fn send_entries(
        &mut self,
        now: Time,
        to: u32,
        entries: &[Entry],
        feedback: bool,
        outputs: &mut Vec<Output>,
    ) {
        let _ = now;
        let room = self.room().bytes.saturating_sub(HEAD_BYTES + self.config.name.len());
        let (mut batch, mut used, mut scratch) = (Vec::new(), 0, Vec::new());
        let from = self.config.name.clone();
        let message =
            |entries| Message::Serf(Serf::Data(Wire::Rumors { from: from.clone(), entries, feedback }));
        for entry in entries {
            let entry = match &entry.value {
                Value::Bytes(bytes) if bytes.len() > INLINE_BYTES_MAX => {
                    let mut hash = [0; 32];
                    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
                    Entry { value: Value::Announced { length: bytes.len() as u64, hash }, ..entry.clone() }
                }
                _ => entry.clone(),
            };
            scratch.clear();
            write_entry(&mut scratch, &entry);
            if used + scratch.len() > room && !batch.is_empty() {
                self.send_to(to, vec![message(std::mem::take(&mut batch))], outputs);
                used = 0;
            }
            used += scratch.len();
            batch.push(entry);
        }
        if !batch.is_empty() {
            self.send_to(to, vec![message(batch)], outputs);
        }
    }

    /// Something came from a node that understands data.
    pub(super) fn receive_data(&mut self, now: Time, data: Wire, outputs: &mut Vec<Output>) {
        // Who is not known is not believed, and not answered.
        let Some(peer) = self.members.id(data.from()).filter(|peer| *peer != self.me) else { return };
        match data {
            Wire::Rumors { entries, feedback, .. } => self.rumors(now, peer, entries, feedback, outputs),
            Wire::Known { stamps, .. } => {
                for stamp in stamps {
                    let current = self.data.store.get(&stamp.key).map(|stored| &stored.version);
                    if current == Some(&stamp.version)
                        && let Some(rumor) = self.data.rumors.get_mut(&stamp.key)
                    {
                        rumor.last.1 += 1;
                    }
                }
            }
            Wire::Ask { .. } => {
                let told =
                    |(key, _): (&Arc<str>, &Rumor)| self.data.store.get(key).map(|stored| entry(key, stored));
                let entries: Vec<Entry> = self.data.rumors.iter().filter_map(told).collect();
                self.send_entries(now, peer, &entries, true, outputs);
            }
            Wire::Fetch { .. } => {}
        }
    }

    fn rumors(
        &mut self,
        now: Time,
        peer: u32,
        entries: Vec<Entry>,
        feedback: bool,
        outputs: &mut Vec<Output>,
    ) {
        let (mut known, mut newer, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { key, version, value } in entries {
            let value = match value {
                Value::Announced { hash, .. } => {
                    if self.data.store.lacks(&key, &version) {
                        if self.data.fetching.len() >= FETCHING_MAX {
                            self.data.fetching.clear();
                        }
                        let fetch = (version.clone(), hash);
                        if self.data.fetching.insert(key.clone(), fetch.clone()) != Some(fetch) {
                            wanted.push(Stamp { key, version });
                        }
                    } else {
                        known.push(Stamp { key, version });
                    }
                    continue;
                }
                Value::Bytes(bytes) => {
                    if !self.is_what_was_announced(&key, &version, &bytes) {
                        continue;
                    }
                    Some(bytes)
                }
                Value::Tombstone => None,
            };
            let stored = Stored { version: version.clone(), value, since: now };
            if self.take_entry(&key, stored, Origin::Member(peer), outputs) {
                continue;
            }
            match self.data.store.get(&key) {
                Some(stored) if stored.version > version => newer.push(entry(&key, stored)),
                _ => known.push(Stamp { key, version }),
            }
        }
        let from = self.config.name.clone();
        if feedback && !known.is_empty() {
            let known = Wire::Known { from: from.clone(), stamps: known };
            self.send_to(peer, vec![Message::Serf(Serf::Data(known))], outputs);
        }
        // Whoever tells old news is told the new ones, and does not answer that.
        if feedback && !newer.is_empty() {
            self.send_entries(now, peer, &newer, false, outputs);
        }
        if !wanted.is_empty()
            && let Some(to) = self.members.get(peer).map(|member| member.address)
        {
            let fetch = StreamMessage::Serf(Serf::Data(Wire::Fetch { from, stamps: wanted }));
            self.open(to, fetch, false, Purpose::Tell, outputs);
        }
    }

    /// What was fetched has to have the hash that was announced.
    fn is_what_was_announced(&self, key: &Arc<str>, version: &Version, bytes: &Bytes) -> bool {
        match self.data.fetching.get(key) {
            Some((announced, hash)) if announced == version => digest(&SHA256, bytes).as_ref() == hash,
            _ => true,
        }
    }

    /// Values that are being fetched.
    #[cfg(test)]
    pub(super) fn fetching(&self) -> usize {
        self.data.fetching.len()
    }

    /// Entries that this node has taken so far.
    pub(super) fn taken(&self) -> usize {
        self.data.taken
    }

    /// Entries that came with another's state.
    pub(super) fn merge_data(&mut self, now: Time, entries: Vec<Entry>, outputs: &mut Vec<Output>) {
        for Entry { key, version, value } in entries {
            let value = match value {
                Value::Bytes(bytes) => Some(bytes),
                Value::Tombstone => None,
                Value::Announced { .. } => continue,
            };
            self.take_entry(&key, Stored { version, value, since: now }, Origin::State, outputs);
        }
    }
}
