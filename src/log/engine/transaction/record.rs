//! Records of transactions as they stand in `__transaction_state`: Kafka's own layout.
//!
//! ```text
//! key    i16 0 │ transactional id
//! value  i16 0 │ i64 producer │ i16 epoch │ i32 timeout │ i8 state │ partitions by topic │ i64 changed │ i64 started
//! ```

use std::collections::BTreeMap;

use super::{State, Value};
use crate::log::engine::group::Place;

/// Bytes that are no record of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of transactions that this version cannot read")]
pub struct RecordError;

/// The key of an id.
pub fn key(id: &str) -> Vec<u8> {
    let mut out = 0i16.to_be_bytes().to_vec();
    text(&mut out, id);
    out
}

impl Value {
    /// The value as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = 0i16.to_be_bytes().to_vec();
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.timeout_ms.to_be_bytes());
        out.push(match self.state {
            State::Empty => 0,
            State::Ongoing => 1,
            State::PrepareCommit => 2,
            State::PrepareAbort => 3,
            State::CompleteCommit => 4,
            State::CompleteAbort => 5,
        });
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for place in &self.partitions {
            topics.entry(&place.topic).or_default().push(place.partition);
        }
        out.extend_from_slice(&(topics.len() as u32).to_be_bytes());
        for (topic, partitions) in topics {
            text(&mut out, topic);
            out.extend_from_slice(&(partitions.len() as u32).to_be_bytes());
            partitions.iter().for_each(|partition| out.extend_from_slice(&partition.to_be_bytes()));
        }
        out.extend_from_slice(&self.changed_ms.to_be_bytes());
        out.extend_from_slice(&self.started_ms.to_be_bytes());
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..i16::MAX as usize).unwrap_or(bytes);
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Key and value back to what they say; a value that is not there forgets the id.
///
/// # Errors
/// Bytes that are cut short or of another version.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<(String, Option<Value>), RecordError> {
    let mut key = key;
    let id = read_key(&mut key).ok_or(RecordError)?;
    match value {
        None => Ok((id, None)),
        Some(mut value) => Ok((id, Some(read_value(&mut value).ok_or(RecordError)?))),
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn read_text(bytes: &mut &[u8]) -> Option<String> {
    let len = usize::from(u16::from_be_bytes(take(bytes)?));
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(std::str::from_utf8(taken).ok()?.to_owned())
}

fn read_key(key: &mut &[u8]) -> Option<String> {
    (i16::from_be_bytes(take(key)?) == 0).then(|| read_text(key)).flatten()
}

fn read_value(value: &mut &[u8]) -> Option<Value> {
    if i16::from_be_bytes(take(value)?) != 0 {
        return None;
    }
    let producer_id = i64::from_be_bytes(take(value)?);
    let epoch = i16::from_be_bytes(take(value)?);
    let timeout_ms = i32::from_be_bytes(take(value)?);
    let [state] = take(value)?;
    let state = match state {
        0 => State::Empty,
        1 => State::Ongoing,
        2 => State::PrepareCommit,
        3 => State::PrepareAbort,
        4 => State::CompleteCommit,
        5 => State::CompleteAbort,
        _ => return None,
    };
    let mut partitions = std::collections::BTreeSet::new();
    for _ in 0..i32::from_be_bytes(take(value)?) {
        let topic = read_text(value)?;
        for _ in 0..i32::from_be_bytes(take(value)?) {
            partitions.insert(Place { topic: topic.clone(), partition: i32::from_be_bytes(take(value)?) });
        }
    }
    let changed_ms = i64::from_be_bytes(take(value)?);
    let started_ms = i64::from_be_bytes(take(value)?);
    Some(Value { producer_id, epoch, timeout_ms, state, partitions, changed_ms, started_ms })
}
