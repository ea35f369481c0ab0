//! Records of groups and offsets as they stand in `__consumer_offsets`: Kafka's own layout, so that tools that read that
//! topic read this one.
//!
//! ```text
//! offset  key   i16 1 │ group │ topic │ i32 partition        value  i16 3 │ i64 offset │ i32 epoch │ metadata │ i64 time
//!                                                             with an expiry: i16 1 │ i64 offset │ metadata │ i64 time │ i64 expires
//! group   key   i16 2 │ group                                 value  i16 3 │ type │ i32 generation │ protocol? │ leader? │ i64 since │ members
//! next    key   i16 3, 6 │ group, or i16 5, 7, 8 │ group │ member   value  see wire::group_record
//! ```

use bytes::Bytes;

use super::classic::Classic;
use super::consumer::{ConsumerGroup, parts_of, target};
use super::message::{Committed, GroupValue, MemberValue, Place, Record};
use super::{Group, Groups, Offsets};
use crate::log::engine::Now;
use crate::log::wire::Field;
use crate::log::wire::group_record::{GroupEpoch, TargetAssignment, TargetEpoch, decode_value, encode_value};

/// A key or value that is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of groups that this version cannot read")]
pub struct KeyError;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// As it was written.
    Record(Record),
    /// Of a kind that is not known: from a later version.
    Unknown,
}

impl Record {
    /// Key and value as bytes.
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Self::Offset { group, place, value } => {
                let mut key = Vec::new();
                put(&mut key, &1i16.to_be_bytes());
                text(&mut key, group);
                text(&mut key, &place.topic);
                put(&mut key, &place.partition.to_be_bytes());
                (key, value.as_ref().map(offset_value))
            }
            Self::Group { group, value } => {
                let mut key = Vec::new();
                put(&mut key, &2i16.to_be_bytes());
                text(&mut key, group);
                (key, value.as_ref().map(group_value))
            }
            Self::Epoch { group, value } => {
                let value = value.map(|(epoch, metadata_hash)| GroupEpoch { epoch, metadata_hash });
                (named(3, &[group]), value.as_ref().and_then(next_value))
            }
            Self::Member { group, member, value } => {
                (named(5, &[group, member]), value.as_deref().and_then(next_value))
            }
            Self::TargetEpoch { group, value } => {
                (named(6, &[group]), value.and_then(|epoch| next_value(&TargetEpoch { epoch })))
            }
            Self::Target { group, member, value } => {
                (named(7, &[group, member]), value.as_ref().and_then(|parts| next_value(&target(parts))))
            }
            Self::Current { group, member, value } => {
                (named(8, &[group, member]), value.as_ref().and_then(next_value))
            }
        }
    }

    /// The other way round.
    ///
    /// # Errors
    /// Bytes that are cut short, or text that is none.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Restored, KeyError> {
        decode(&mut Cursor(key), value.map(Cursor)).ok_or(KeyError)
    }
}

fn named(kind: i16, names: &[&String]) -> Vec<u8> {
    let mut key = kind.to_be_bytes().to_vec();
    names.iter().for_each(|name| text(&mut key, name));
    key
}

/// Names come over the wire and are no longer than it can say, so this is never none.
fn next_value<T: Field>(value: &T) -> Option<Vec<u8>> {
    encode_value(value).ok().map(|bytes| bytes.to_vec())
}

/// The outer one is "cannot be read", the inner one is none for a removal.
fn read_next<T: Field>(value: Option<Cursor<'_>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => decode_value(value.0).ok().flatten().map(Some),
    }
}

fn decode(key: &mut Cursor<'_>, value: Option<Cursor<'_>>) -> Option<Restored> {
    Some(match key.i16()? {
        0 | 1 => {
            let group = key.text()?;
            let place = Place { topic: key.text()?, partition: key.i32()? };
            let value = match value {
                Some(mut value) => Some(read_offset(&mut value)?),
                None => None,
            };
            Restored::Record(Record::Offset { group, place, value })
        }
        2 => {
            let group = key.text()?;
            let value = match value {
                Some(mut value) => Some(read_group(&mut value)?),
                None => None,
            };
            Restored::Record(Record::Group { group, value })
        }
        3 => {
            let group = key.text()?;
            let value = read_next::<GroupEpoch>(value)?.map(|value| (value.epoch, value.metadata_hash));
            Restored::Record(Record::Epoch { group, value })
        }
        5 => {
            let (group, member) = (key.text()?, key.text()?);
            Restored::Record(Record::Member { group, member, value: read_next(value)?.map(Box::new) })
        }
        6 => {
            let group = key.text()?;
            let value = read_next::<TargetEpoch>(value)?.map(|value| value.epoch);
            Restored::Record(Record::TargetEpoch { group, value })
        }
        7 => {
            let (group, member) = (key.text()?, key.text()?);
            let value = read_next::<TargetAssignment>(value)?.map(|value| parts_of(&value.topic_partitions));
            Restored::Record(Record::Target { group, member, value })
        }
        8 => {
            let (group, member) = (key.text()?, key.text()?);
            Restored::Record(Record::Current { group, member, value: read_next(value)? })
        }
        _ => Restored::Unknown,
    })
}

impl Groups {
    /// Takes in a record that was kept, in the order in which they were. `producer` is who wrote it in a transaction
    /// that had not ended by then.
    pub fn restore(&mut self, now: Now, record: Record, producer: Option<i64>) {
        match record {
            Record::Group { group, value: Some(value) } => {
                let classic = Classic::restored(&group, value, self.config.first_wait, now);
                let offsets = self.groups.remove(&*group).map(|old| old.offsets).unwrap_or_default();
                let restored = Group { classic, consumer: None, offsets, scheduled: None, is_stored: true };
                self.groups.insert(group.into(), restored);
            }
            Record::Group { group, value: None } => {
                // Its offsets were removed before it, or it goes on as another kind of group.
                let first_wait = self.config.first_wait;
                if let Some(found) = self.groups.get_mut(&*group) {
                    found.classic = Classic::new(&group, first_wait, now);
                    found.is_stored = false;
                }
            }
            Record::Epoch { group, value: Some((epoch, hash)) } => {
                self.next_or_new(&group, now).restore_epoch(epoch, hash);
            }
            Record::Epoch { group, value: None } => {
                if let Some(found) = self.groups.get_mut(&*group) {
                    found.consumer = None;
                }
            }
            Record::TargetEpoch { group, value } => {
                if let Some(next) = self.next_restored(&group, now, value.is_some()) {
                    next.assignment_epoch = value.unwrap_or(0);
                }
            }
            Record::Member { group, member, value } => {
                if let Some(next) = self.next_restored(&group, now, value.is_some()) {
                    next.restore_wants(now, &member, value.map(|value| *value));
                }
            }
            Record::Target { group, member, value } => {
                if let Some(next) = self.next_restored(&group, now, value.is_some()) {
                    next.restore_target(&member, value);
                }
            }
            Record::Current { group, member, value } => {
                if let Some(next) = self.next_restored(&group, now, value.is_some()) {
                    next.restore_current(now, &member, value);
                }
            }
            Record::Offset { group, place, value } => {
                let offsets = &mut self.group_or_new(&group, now).offsets;
                match (value, producer) {
                    (Some(value), None) => drop(offsets.committed.insert(place, value)),
                    (Some(value), Some(id)) => {
                        drop(offsets.pending.entry(id).or_default().insert(place, value))
                    }
                    (None, _) => drop(offsets.committed.remove(&place)),
                }
            }
        }
    }

    fn next_or_new(&mut self, id: &str, now: Now) -> &mut ConsumerGroup {
        let group = self.group_or_new(id, now);
        group.consumer.get_or_insert_with(|| ConsumerGroup::new(id, now))
    }

    /// A removal makes no group.
    fn next_restored(&mut self, id: &str, now: Now, makes: bool) -> Option<&mut ConsumerGroup> {
        if makes {
            return Some(self.next_or_new(id, now));
        }
        self.groups.get_mut(id)?.consumer.as_mut()
    }

    /// Everything is taken in: forgets what was only removed, and gives everyone who was in a group time to be heard of.
    pub fn restored(&mut self, now: Now) {
        let is_left = |group: &Group| {
            group.is_stored
                || group.consumer.is_some()
                || !group.offsets.committed.is_empty()
                || !group.offsets.pending.is_empty()
        };
        self.groups.retain(|_, group| is_left(group));
        let ids: Vec<_> = self.groups.keys().cloned().collect();
        for id in ids {
            let session = self.pace(&id).session;
            if let Some(group) = self.groups.get_mut(&id) {
                group.classic.welcome_back(now);
                if let Some(consumer) = &mut group.consumer {
                    consumer.welcome_back(now, session);
                }
            }
            self.settle(&id, &[]);
        }
    }

    /// Everything that is to be kept, for writing it down anew.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (id, Group { classic, consumer, offsets: Offsets { committed, .. }, is_stored, .. }) in
            &self.groups
        {
            if *is_stored {
                records.push(classic.record());
            }
            if let Some(consumer) = consumer {
                records.extend(consumer.records());
            }
            let offset = |(place, value): (&Place, &Committed)| Record::Offset {
                group: id.to_string(),
                place: place.clone(),
                value: Some(value.clone()),
            };
            records.extend(committed.iter().map(offset));
        }
        records
    }
}

fn offset_value(value: &Committed) -> Vec<u8> {
    let mut out = Vec::new();
    match value.expires_ms {
        None => {
            put(&mut out, &3i16.to_be_bytes());
            put(&mut out, &value.offset.to_be_bytes());
            put(&mut out, &value.leader_epoch.to_be_bytes());
            text(&mut out, &value.metadata);
            put(&mut out, &value.time_ms.to_be_bytes());
        }
        Some(expires) => {
            put(&mut out, &1i16.to_be_bytes());
            put(&mut out, &value.offset.to_be_bytes());
            text(&mut out, &value.metadata);
            put(&mut out, &value.time_ms.to_be_bytes());
            put(&mut out, &expires.to_be_bytes());
        }
    }
    out
}

fn read_offset(value: &mut Cursor<'_>) -> Option<Committed> {
    let version = value.i16()?;
    if !(0..=3).contains(&version) {
        return None;
    }
    let offset = value.i64()?;
    let leader_epoch = if version >= 3 { value.i32()? } else { -1 };
    let metadata = value.text()?;
    let time_ms = value.i64()?;
    let expires_ms = if version == 1 { value.i64() } else { None };
    Some(Committed { offset, leader_epoch, metadata, time_ms, expires_ms })
}

fn group_value(value: &GroupValue) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, &3i16.to_be_bytes());
    text(&mut out, &value.protocol_type);
    put(&mut out, &value.generation.to_be_bytes());
    nullable(&mut out, value.protocol.as_deref());
    nullable(&mut out, value.leader.as_deref());
    put(&mut out, &value.since_ms.to_be_bytes());
    put(&mut out, &(value.members.len() as u32).to_be_bytes());
    for member in &value.members {
        text(&mut out, &member.member_id);
        nullable(&mut out, member.instance_id.as_deref());
        text(&mut out, &member.client_id);
        text(&mut out, &member.client_host);
        put(&mut out, &member.rebalance_timeout_ms.to_be_bytes());
        put(&mut out, &member.session_timeout_ms.to_be_bytes());
        for bytes in [&member.subscription, &member.assignment] {
            put(&mut out, &(bytes.len() as u32).to_be_bytes());
            put(&mut out, bytes);
        }
    }
    out
}

fn read_group(value: &mut Cursor<'_>) -> Option<GroupValue> {
    let version = value.i16()?;
    if !(0..=3).contains(&version) {
        return None;
    }
    let protocol_type = value.text()?;
    let generation = value.i32()?;
    let protocol = value.nullable()?;
    let leader = value.nullable()?;
    let since_ms = if version >= 2 { value.i64()? } else { -1 };
    let count = value.i32()?;
    let mut members = Vec::new();
    for _ in 0..count {
        let member_id = value.text()?;
        let instance_id = if version >= 3 { value.nullable()? } else { None };
        let (client_id, client_host) = (value.text()?, value.text()?);
        let rebalance = if version >= 1 { Some(value.i32()?) } else { None };
        let session_timeout_ms = value.i32()?;
        members.push(MemberValue {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: value.bytes()?,
            assignment: value.bytes()?,
        });
    }
    Some(GroupValue { protocol_type, generation, protocol, leader, since_ms, members })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// Text with a length of 16 bits. Names that come over the wire are no longer.
fn text(out: &mut Vec<u8>, text: &str) {
    put(out, &(text.len().min(i16::MAX as usize) as u16).to_be_bytes());
    put(out, text.as_bytes().get(..i16::MAX as usize).unwrap_or(text.as_bytes()));
}

fn nullable(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => put(out, &(-1i16).to_be_bytes()),
    }
}

/// Takes fields off the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn run(&mut self, len: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        self.nullable()?
    }

    /// The outer one is "cut short", the inner one is null.
    fn nullable(&mut self) -> Option<Option<String>> {
        match self.i16()? {
            -1 => Some(None),
            len => {
                let bytes = self.run(usize::try_from(len).ok()?)?;
                Some(Some(std::str::from_utf8(bytes).ok()?.to_owned()))
            }
        }
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.i32()?).ok()?;
        self.run(len).map(Bytes::copy_from_slice)
    }
}
