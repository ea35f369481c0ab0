//! Keys and values of our own: what spreads between nodes that announce that they understand it.
//!
//! Real agents never see the messages, which go to capable nodes only, and pass over the fields.

use std::sync::Arc;

use bytes::Bytes;

use super::message::{Name, read_name};
use super::msgpack::{Fault, Reader, write_array, write_boolean, write_nil, write_raw, write_unsigned};
use super::serf::kind;

/// Longest key.
pub const KEY_BYTES_MAX: usize = 255;
/// Largest value.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most entries or versions in one message.
const ENTRIES_MAX: u64 = 1024 * 1024;

/// A version of a value: the larger one is the newer one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// One more than the largest that the writer knew.
    pub counter: u64,
    /// Who wrote it: tells versions apart that were written without knowing of each other.
    pub writer: Name,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// These bytes.
    Bytes(Bytes),
    /// Nothing any more: it was deleted.
    Tombstone,
    /// Bytes that are too many for a packet: to be fetched.
    Announced {
        /// How many.
        length: u64,
        /// Their SHA-256.
        hash: [u8; 32],
    },
}

/// A key, its value and the version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// Its version.
    pub version: Version,
    /// Its value.
    pub value: Value,
}

/// A key at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The key.
    pub key: Arc<str>,
    /// Its version.
    pub version: Version,
}

/// A message between nodes that understand data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// News.
    Rumors {
        /// Who tells them.
        from: Name,
        /// What is new.
        entries: Vec<Entry>,
        /// Whether to say which of them were known already.
        feedback: bool,
    },
    /// Feedback: these were known already.
    Known {
        /// Who knew them.
        from: Name,
        /// What was known.
        stamps: Vec<Stamp>,
    },
    /// Asks for news.
    Ask {
        /// Who asks.
        from: Name,
    },
    /// Asks for values that were announced.
    Fetch {
        /// Who asks.
        from: Name,
        /// What is wanted.
        stamps: Vec<Stamp>,
    },
}

impl Data {
    /// Who sent it.
    pub fn from(&self) -> &Name {
        match self {
            Self::Rumors { from, .. }
            | Self::Known { from, .. }
            | Self::Ask { from }
            | Self::Fetch { from, .. } => from,
        }
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.push(kind::DATA);
        match self {
            Self::Rumors { from, entries, feedback } => {
                write_head(to, 4, 0, from);
                write_boolean(to, *feedback);
                write_entries(to, entries);
            }
            Self::Known { from, stamps } => {
                write_head(to, 3, 1, from);
                write_stamps(to, stamps);
            }
            Self::Ask { from } => write_head(to, 2, 2, from),
            Self::Fetch { from, stamps } => {
                write_head(to, 3, 3, from);
                write_stamps(to, stamps);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let fields = reader.array(16)?;
        let kind = reader.u8()?;
        let from = read_name(reader)?;
        match (kind, fields) {
            (0, 4) => {
                let feedback = reader.boolean()?;
                Ok(Self::Rumors { from, entries: read_entries(reader)?, feedback })
            }
            (1, 3) => Ok(Self::Known { from, stamps: read_stamps(reader)? }),
            (2, 2) => Ok(Self::Ask { from }),
            (3, 3) => Ok(Self::Fetch { from, stamps: read_stamps(reader)? }),
            _ => Err(Fault::Invalid("data of a kind that is not known")),
        }
    }
}

fn write_head(to: &mut Vec<u8>, fields: usize, kind: u64, from: &Name) {
    write_array(to, fields);
    write_unsigned(to, kind);
    write_raw(to, from.as_bytes());
}

/// Appends entries as they stand in a message and in the state that nodes exchange.
pub fn write_entries(to: &mut Vec<u8>, entries: &[Entry]) {
    write_array(to, entries.len());
    for entry in entries {
        write_entry(to, entry);
    }
}

/// Appends one entry.
pub fn write_entry(to: &mut Vec<u8>, entry: &Entry) {
    write_array(to, 4 + usize::from(matches!(entry.value, Value::Announced { .. })));
    write_stamp_fields(to, &entry.key, &entry.version);
    match &entry.value {
        Value::Bytes(bytes) => write_raw(to, bytes),
        Value::Tombstone => write_nil(to),
        Value::Announced { length, hash } => {
            write_raw(to, hash);
            write_unsigned(to, *length);
        }
    }
}

/// Reads entries.
///
/// # Errors
/// Malformed, or over a limit.
pub fn read_entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, Fault> {
    let count = reader.array(ENTRIES_MAX)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let fields = reader.array(16)?;
        let stamp = read_stamp_fields(reader)?;
        let value = match fields {
            4 if reader.nil()? => Value::Tombstone,
            4 => {
                let bytes = reader.bytes()?;
                if bytes.len() > VALUE_BYTES_MAX {
                    let (length, max) = (bytes.len() as u64, VALUE_BYTES_MAX as u64);
                    return Err(Fault::Length { what: "a value", length, max });
                }
                Value::Bytes(Bytes::copy_from_slice(bytes))
            }
            5 => {
                let hash = <[u8; 32]>::try_from(reader.bytes()?)
                    .map_err(|_| Fault::Invalid("a hash is 32 bytes"))?;
                Value::Announced { length: reader.unsigned(VALUE_BYTES_MAX as u64)?, hash }
            }
            _ => return Err(Fault::Invalid("an entry is a key, a version and a value")),
        };
        entries.push(Entry { key: stamp.key, version: stamp.version, value });
    }
    Ok(entries)
}

/// Appends keys with their versions.
pub fn write_stamps(to: &mut Vec<u8>, stamps: &[Stamp]) {
    write_array(to, stamps.len());
    for stamp in stamps {
        write_array(to, 3);
        write_stamp_fields(to, &stamp.key, &stamp.version);
    }
}

/// Reads keys with their versions.
///
/// # Errors
/// Malformed, or over a limit.
pub fn read_stamps(reader: &mut Reader<'_>) -> Result<Vec<Stamp>, Fault> {
    let count = reader.array(ENTRIES_MAX)?;
    let mut stamps = Vec::new();
    for _ in 0..count {
        if reader.array(16)? != 3 {
            return Err(Fault::Invalid("a stamp is a key and a version"));
        }
        stamps.push(read_stamp_fields(reader)?);
    }
    Ok(stamps)
}

fn write_stamp_fields(to: &mut Vec<u8>, key: &str, version: &Version) {
    write_raw(to, key.as_bytes());
    write_unsigned(to, version.counter);
    write_raw(to, version.writer.as_bytes());
}

fn read_stamp_fields(reader: &mut Reader<'_>) -> Result<Stamp, Fault> {
    let key = reader.text("a key")?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let (length, max) = (key.len() as u64, KEY_BYTES_MAX as u64);
        return Err(Fault::Length { what: "a key", length, max });
    }
    let counter = reader.u64()?;
    Ok(Stamp { key: Arc::from(key), version: Version { counter, writer: read_name(reader)? } })
}
