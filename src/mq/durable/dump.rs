//! What the logs of a data directory say, for an operator who looks into them without a broker.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::metadata::Metadata;
use super::record::{self, Entry, Restorer, Stored};
use crate::mq::engine::Message;
use crate::storage::{Error, Inspection, LogId};

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    /// The log of definitions.
    Definitions,
    /// Of a queue: virtual host and name.
    Queue(String, String),
    /// Of what a delayed exchange holds back: virtual host and name.
    Exchange(String, String),
}

/// A record of a queue's log.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// A message came.
    Enqueue(Dumped),
    /// Messages are needed no more: first offsets and counts.
    Acknowledge {
        /// Why.
        reason: &'static str,
        /// First offsets and counts.
        ranges: Vec<(u64, u64)>,
    },
    /// A message came back.
    Requeue {
        /// Its offset.
        message: u64,
        /// How often it has.
        returns: u32,
    },
    /// Messages up to this offset were delivered.
    Deliver {
        /// The highest offset.
        up_to: u64,
    },
    /// A message was written once more, so that its first place could go.
    Move {
        /// The offset of its first record.
        first: u64,
        /// The message.
        message: Dumped,
    },
}

/// A message in a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Dumped {
    /// Exchange, routing key, properties, body.
    pub message: Message,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
}

fn dumped(stored: &Stored<'_>) -> Option<Dumped> {
    let message = Restorer::default().message(stored, Bytes::copy_from_slice)?;
    Some(Dumped { message, expires: stored.expires })
}

/// What a record of a queue's log says; none if this version does not know it.
pub fn operation(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Operation> {
    Some(match record::decode(key, value)? {
        Entry::Enqueue(stored) => Operation::Enqueue(dumped(&stored)?),
        Entry::Ack(ranges) => {
            let reason = match value?.first()? {
                0 => "acknowledged",
                1 => "expired",
                2 => "maxlen",
                3 => "rejected",
                4 => "delivery_limit",
                5 => "purged",
                _ => "unknown",
            };
            Operation::Acknowledge { reason, ranges: ranges.collect() }
        }
        Entry::Requeue { message, returns } => Operation::Requeue { message, returns },
        Entry::Delivered { up_to } => Operation::Deliver { up_to },
        Entry::Move { first, stored, .. } => Operation::Move { first, message: dumped(&stored)? },
    })
}

/// Whose the logs of a directory are, as far as the definitions can be read.
///
/// # Errors
/// The system's.
pub fn owners(directory: &Inspection) -> Result<HashMap<LogId, Owned>, Error> {
    let mut defined: BTreeMap<String, LogId> = BTreeMap::new();
    let definitions = Metadata::log_id();
    directory.examine(definitions, |batch| {
        for record in batch.records().into_iter().flatten().flatten() {
            let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else { continue };
            let value =
                record.value.and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok());
            match value.and_then(|value| value["log"].as_str()?.parse().ok()) {
                Some(log) => drop(defined.insert(key.to_owned(), log)),
                None => drop(defined.remove(key)),
            }
        }
        true
    })?;
    let mut owners = HashMap::from([(definitions, Owned::Definitions)]);
    for (key, log) in defined {
        let names: Vec<String> = serde_json::from_str(&key).unwrap_or_default();
        if let [kind, vhost, name] = &names[..] {
            let (vhost, name) = (vhost.clone(), name.clone());
            let is_queue = kind == "queue";
            owners
                .insert(log, if is_queue { Owned::Queue(vhost, name) } else { Owned::Exchange(vhost, name) });
        }
    }
    Ok(owners)
}

/// Which messages of a log are still needed: what its operations leave over.
#[derive(Debug, Default)]
pub struct Waiting {
    /// A bit for each offset, in blocks of 64.
    bits: HashMap<u64, u64>,
    /// Where messages are that were moved, by where they first were.
    moved: HashMap<u64, u64>,
    /// Behind the last one.
    end: u64,
}

impl Waiting {
    /// Takes in an operation, in the order of the log.
    pub fn take(&mut self, offset: u64, operation: &Operation) {
        match operation {
            Operation::Enqueue(_) => self.set(offset),
            Operation::Move { first, .. } => {
                let before = self.moved.insert(*first, offset).unwrap_or(*first);
                self.clear(before, 1);
                self.set(offset);
            }
            Operation::Acknowledge { ranges, .. } => {
                ranges.iter().for_each(|(first, count)| self.clear(*first, *count));
            }
            Operation::Requeue { .. } | Operation::Deliver { .. } => {}
        }
    }

    fn set(&mut self, offset: u64) {
        self.end = self.end.max(offset.saturating_add(1));
        *self.bits.entry(offset / 64).or_default() |= 1 << (offset % 64);
    }

    fn clear(&mut self, first: u64, count: u64) {
        // What damaged data counts up to is believed no further than there are messages.
        let end = first.saturating_add(count).min(self.end);
        let mut at = first;
        while at < end {
            let next = (at / 64 + 1).saturating_mul(64).min(end);
            let bits = if next - at == 64 { u64::MAX } else { ((1 << (next - at)) - 1) << (at % 64) };
            if let Some(block) = self.bits.get_mut(&(at / 64)) {
                *block &= !bits;
            }
            at = next;
        }
    }

    /// Whether the message at an offset is one of them.
    pub fn holds(&self, offset: u64) -> bool {
        self.bits.get(&(offset / 64)).is_some_and(|block| block & (1 << (offset % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_acknowledged_waits() {
        let message = Message::new("".into(), b"q"[..].into(), vec![0, 0].into(), Bytes::new()).unwrap();
        let message = Dumped { message, expires: 0 };
        let mut waiting = Waiting::default();
        (0..200).for_each(|offset| waiting.take(offset, &Operation::Enqueue(message.clone())));
        let acked = |ranges: &[(u64, u64)]| Operation::Acknowledge {
            reason: "acknowledged",
            ranges: ranges.to_vec(),
        };
        waiting.take(200, &acked(&[(0, 64), (70, 60), (150, u64::MAX)]));
        waiting.take(201, &Operation::Move { first: 65, message });
        let left: Vec<u64> = (0..300).filter(|offset| waiting.holds(*offset)).collect();
        let expected: Vec<u64> = [64].into_iter().chain(66..70).chain(130..150).chain([201]).collect();
        assert_eq!(left, expected);
    }
}
