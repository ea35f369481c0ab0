//! Operations on a queue as records of its log, and back: the key is the operation and its flags, the value what it says.
//!
//! ```text
//! ENQ   expiry varint, priority u8, exchange shortstr, routing key shortstr, length varint + properties, body
//! ACK   reason u8, count varint, count times (distance from the last range's end varint, length varint)
//! REQ   offset varint, returns varint          DLV   offset varint
//! MOVE  first offset varint, returns varint, then as ENQ
//! ```
//!
//! Numbers are zigzag varints, as in the records around them. Replaying a log needs nothing but these.

use std::sync::Arc;

use bytes::Bytes;

use crate::mq::engine::{Gone, Message};
use crate::storage::varint;

const ENQUEUE: u8 = 1;
const ACK: u8 = 2;
const REQUEUE: u8 = 3;
const DELIVERED: u8 = 4;
const MOVE: u8 = 5;

/// The message was put together by the broker when it dead-lettered: its `x-death` can be believed.
const FLAG_DEAD: u8 = 1;
/// The keys of the header `CC` were used to route it.
const FLAG_COPIES: u8 = 2;
/// Those of the header `BCC` were, which is among the properties here and not in the message.
const FLAG_HIDDEN: u8 = 4;

/// The operation and the flags of a record.
pub(crate) type Key = [u8; 2];

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Enqueue(Stored<'a>),
    /// Of the messages at these offsets nothing is needed any more.
    Ack(Ranges<'a>),
    Requeue {
        message: u64,
        returns: u32,
    },
    Delivered {
        up_to: u64,
    },
    /// A message once more: the copy before this one is void.
    Move {
        /// The offset of its first record, which gives it its place in the order.
        first: u64,
        returns: u32,
        stored: Stored<'a>,
    },
}

/// A message in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// In milliseconds since 1970; 0 for never.
    pub expires: u64,
    pub priority: u8,
    flags: u8,
    exchange: &'a str,
    routing_key: &'a [u8],
    properties: &'a [u8],
    pub body: &'a [u8],
    /// Everything: what a MOVE repeats.
    value: &'a [u8],
}

/// Ranges of an ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ranges<'a> {
    rest: &'a [u8],
    left: i64,
    end: i64,
}

impl Iterator for Ranges<'_> {
    /// First offset and count.
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let first = self.end.checked_add(varint::take(&mut self.rest)?)?;
        let count = varint::take(&mut self.rest)?;
        self.end = first.checked_add(count)?;
        Some((u64::try_from(first).ok()?, u64::try_from(count).ok()?))
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    varint::put(out, number as i64);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(varint::take(bytes)?).ok()
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    // What came in a short string of the protocol fits into one.
    let length = bytes.len().min(255);
    out.push(length as u8);
    out.extend_from_slice(&bytes[..length]);
}

fn take_bytes<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn take_short<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_byte(bytes)?;
    take_bytes(bytes, usize::from(length))
}

/// ENQ: everything before the body goes to `head`.
pub(crate) fn enqueue(message: &Message, expires: u64, head: &mut Vec<u8>) -> Key {
    put(head, expires);
    head.push(message.priority());
    put_short(head, message.exchange.as_bytes());
    put_short(head, &message.routing_key);
    let hidden = message.properties_with_hidden();
    let properties = hidden.as_ref().unwrap_or(&message.properties);
    put(head, properties.len() as u64);
    head.extend_from_slice(properties);
    let dead = if message.is_dead() { FLAG_DEAD } else { 0 };
    let copies = if message.has_copies() { FLAG_COPIES } else { 0 };
    let hidden = if hidden.is_some() { FLAG_HIDDEN } else { 0 };
    [ENQUEUE, dead | copies | hidden]
}

/// ACK: sorts the ranges and joins neighbours.
pub(crate) fn ack(reason: Gone, ranges: &mut Vec<(u64, u64)>, out: &mut Vec<u8>) -> Key {
    ranges.sort_unstable();
    ranges.dedup_by(|next, held| {
        let joins = held.0 + held.1 == next.0;
        if joins {
            held.1 += next.1;
        }
        joins
    });
    out.push(match reason {
        Gone::Acked => 0,
        Gone::Expired => 1,
        Gone::MaxLength => 2,
        Gone::Rejected => 3,
        Gone::DeliveryLimit => 4,
        Gone::Purged => 5,
    });
    put(out, ranges.len() as u64);
    let mut end = 0;
    for (first, count) in ranges.iter() {
        varint::put(out, (*first as i64).wrapping_sub(end));
        put(out, *count);
        end = (first + count) as i64;
    }
    [ACK, 0]
}

/// REQ
pub(crate) fn requeue(message: u64, returns: u32, out: &mut Vec<u8>) -> Key {
    put(out, message);
    put(out, returns.into());
    [REQUEUE, 0]
}

/// DLV
pub(crate) fn delivered(up_to: u64, out: &mut Vec<u8>) -> Key {
    put(out, up_to);
    [DELIVERED, 0]
}

/// MOVE: everything before the body goes to `head`.
pub(crate) fn moved(first: u64, returns: u32, stored: &Stored<'_>, head: &mut Vec<u8>) -> Key {
    put(head, first);
    put(head, returns.into());
    head.extend_from_slice(&stored.value[..stored.value.len() - stored.body.len()]);
    [MOVE, stored.flags]
}

/// Reads a record; `None` if it is none of a queue.
pub(crate) fn decode<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Option<Entry<'a>> {
    let [operation, flags] = key? else { return None };
    let mut value = value?;
    let entry = match *operation {
        ENQUEUE => Entry::Enqueue(stored(value, *flags)?),
        ACK => {
            take_byte(&mut value)?;
            let left = varint::take(&mut value).filter(|left| *left >= 0)?;
            Entry::Ack(Ranges { rest: value, left, end: 0 })
        }
        REQUEUE => Entry::Requeue {
            message: take(&mut value)?,
            returns: u32::try_from(take(&mut value)?).unwrap_or(u32::MAX),
        },
        DELIVERED => Entry::Delivered { up_to: take(&mut value)? },
        MOVE => Entry::Move {
            first: take(&mut value)?,
            returns: u32::try_from(take(&mut value)?).unwrap_or(u32::MAX),
            stored: stored(value, *flags)?,
        },
        _ => return None,
    };
    Some(entry)
}

fn stored(value: &[u8], flags: u8) -> Option<Stored<'_>> {
    let mut rest = value;
    let expires = take(&mut rest)?;
    let priority = take_byte(&mut rest)?;
    let exchange = std::str::from_utf8(take_short(&mut rest)?).ok()?;
    let routing_key = take_short(&mut rest)?;
    let length = usize::try_from(take(&mut rest)?).ok()?;
    let properties = take_bytes(&mut rest, length)?;
    Some(Stored { expires, priority, flags, exchange, routing_key, properties, body: rest, value })
}

/// Makes messages of what is stored. Neighbours mostly have the same exchange and key, and share them.
#[derive(Debug, Default)]
pub(crate) struct Restorer {
    last: Option<(Arc<str>, Arc<[u8]>)>,
}

impl Restorer {
    /// The message; the body in memory of its own, or a part of `batch` by `share`. `None` if its properties are none.
    pub fn message(&mut self, stored: &Stored<'_>, share: impl Fn(&[u8]) -> Bytes) -> Option<Message> {
        /// A body of this size or more keeps the memory it was read into; smaller ones would keep all of it for little.
        const SHARE_SIZE: usize = 64 * 1024;
        const NO_PROPERTIES: &[u8] = &[0, 0];
        let known = self
            .last
            .take()
            .filter(|(exchange, key)| **exchange == *stored.exchange && **key == *stored.routing_key);
        let (exchange, key) = known.unwrap_or_else(|| (stored.exchange.into(), stored.routing_key.into()));
        self.last = Some((exchange.clone(), key.clone()));
        let properties = match stored.properties {
            NO_PROPERTIES => Bytes::from_static(NO_PROPERTIES),
            other => Bytes::copy_from_slice(other),
        };
        let body = match stored.body.len() {
            SHARE_SIZE.. => share(stored.body),
            _ => Bytes::copy_from_slice(stored.body),
        };
        let is = |flag| stored.flags & flag != 0;
        let message = Message::new(exchange, key, properties, body).ok()?;
        Some(message.restored(is(FLAG_DEAD), is(FLAG_COPIES), is(FLAG_HIDDEN)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mq::wire::{Array, ArrayBuf, Fields, Table, TableBuf, Value};

    fn message(exchange: &str, key: &[u8], fields: &Fields<'_>, body: &[u8]) -> Message {
        let properties = fields.to_vec().into();
        Message::new(exchange.into(), key.into(), properties, Bytes::copy_from_slice(body)).unwrap()
    }

    fn value_of(head: Vec<u8>, message: &Message) -> Vec<u8> {
        [&head, &message.body[..]].concat()
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let array: ArrayBuf = [Value::text("copy")].into_iter().collect();
        let array: Array<'_> = array.as_array();
        let hidden: ArrayBuf = [Value::text("nobody's"), Value::text("business")].into_iter().collect();
        let hidden: Array<'_> = hidden.as_array();
        let headers = TableBuf::new().with("CC", Value::Array(array)).with("BCC", Value::Array(hidden));
        let headers: Table<'_> = headers.as_table();
        let fields =
            Fields { headers: Some(headers), delivery_mode: Some(2), priority: Some(7), ..Fields::default() };
        let sent = message("orders", b"new\xff", &fields, b"body").restored(true, true, true);
        assert!(sent.headers().get("BCC").is_none());
        let mut head = Vec::new();
        let key = enqueue(&sent, 1_700_000_000_000, &mut head);
        let value = value_of(head, &sent);
        let Some(Entry::Enqueue(stored)) = decode(Some(&key), Some(&value)) else { panic!("an ENQ") };
        assert_eq!((stored.expires, stored.priority), (1_700_000_000_000, 7));
        let mut restorer = Restorer::default();
        let restored = restorer.message(&stored, Bytes::copy_from_slice).unwrap();
        assert_eq!(restored, sent);
        assert_eq!((restored.routing_keys().count(), restored.further_keys().count()), (2, 3));
        let mut head = Vec::new();
        let key = moved(5, 3, &stored, &mut head);
        let value = value_of(head, &sent);
        let Some(Entry::Move { first: 5, returns: 3, stored }) = decode(Some(&key), Some(&value)) else {
            panic!("a MOVE")
        };
        assert_eq!(restorer.message(&stored, Bytes::copy_from_slice), Some(sent));
    }

    #[test]
    fn ranges_are_sorted_and_joined() {
        let mut out = Vec::new();
        let mut ranges = vec![(10, 2), (3, 1), (12, 5), (4, 1), (100, 1)];
        let key = ack(Gone::Acked, &mut ranges, &mut out);
        let Some(Entry::Ack(ranges)) = decode(Some(&key), Some(&out)) else { panic!("an ACK") };
        assert_eq!(ranges.collect::<Vec<_>>(), [(3, 2), (10, 7), (100, 1)]);
        assert_eq!(out.len(), 9, "small numbers are small");
    }

    #[test]
    fn small_records_come_back() {
        let mut out = Vec::new();
        let key = requeue(70_000, 2, &mut out);
        assert_eq!(decode(Some(&key), Some(&out)), Some(Entry::Requeue { message: 70_000, returns: 2 }));
        out.clear();
        let key = delivered(9, &mut out);
        assert_eq!(decode(Some(&key), Some(&out)), Some(Entry::Delivered { up_to: 9 }));
        assert_eq!(decode(None, Some(&out)), None);
        assert_eq!(decode(Some(&[9, 0]), Some(&out)), None);
        assert_eq!(decode(Some(&key), None), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(operation in 0u8..8, flags: u8, value in proptest::collection::vec(any::<u8>(), 0..64)) {
            match decode(Some(&[operation, flags]), Some(&value)) {
                Some(Entry::Ack(ranges)) => _ = ranges.take(100).count(),
                Some(Entry::Enqueue(stored) | Entry::Move { stored, .. }) => {
                    let _ = Restorer::default().message(&stored, Bytes::copy_from_slice);
                }
                _ => {}
            }
        }
    }
}
