//! Protobuf bytes without a schema: where the fields are, and what they could be.

use std::fmt::Write as _;

/// Nesting of groups, and of guesses, over which we stop.
const NESTING_MAX: usize = 100;

/// A field as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
}

/// A value as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4: what is between them.
    Group(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Takes a varint off the front.
///
/// # Errors
/// Too few bytes, or too many.
pub fn take_varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0u64;
    for (position, &byte) in rest.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (position * 7);
        if byte < 0x80 {
            if position == 9 && byte > 1 {
                break;
            }
            *rest = &rest[position + 1..];
            return Ok(number);
        }
    }
    Err(if rest.len() < 10 {
        "the message is cut short".to_owned()
    } else {
        "a varint has over 64 bits".to_owned()
    })
}

/// Takes a fixed number of bytes off the front.
///
/// # Errors
/// Too few bytes.
pub fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (array, after) =
        rest.split_first_chunk::<N>().ok_or_else(|| "the message is cut short".to_owned())?;
    *rest = after;
    Ok(*array)
}

/// The fields of a message in the order of the wire, each with its number, its tag among its bytes.
///
/// # Errors
/// What is no protobuf message.
pub fn fields(bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, String> {
    let mut rest = bytes;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let (number, wire_type) = take_tag(&mut rest)?;
        take_value(&mut rest, number, wire_type, 0)?;
        fields.push((number, &start[..start.len() - rest.len()]));
    }
    Ok(fields)
}

/// The fields of a message in the order of the wire.
///
/// # Errors
/// What is no protobuf message.
pub fn scan(bytes: &[u8]) -> Result<Vec<Entry<'_>>, String> {
    let mut rest = bytes;
    let mut entries = Vec::with_capacity((bytes.len() / 8).min(16));
    while !rest.is_empty() {
        let (number, wire_type) = take_tag(&mut rest)?;
        let value = take_value(&mut rest, number, wire_type, 0)?;
        entries.push(Entry { number, value });
    }
    Ok(entries)
}

fn take_tag(rest: &mut &[u8]) -> Result<(u32, u8), String> {
    let tag = take_varint(rest)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..=0x1fff_ffff).contains(number));
    let number = number.ok_or_else(|| format!("{} is not a field number", tag >> 3))?;
    Ok((number, (tag & 7).to_le_bytes()[0]))
}

fn take_value<'a>(
    rest: &mut &'a [u8],
    number: u32,
    wire_type: u8,
    depth: usize,
) -> Result<Value<'a>, String> {
    Ok(match wire_type {
        0 => Value::Varint(take_varint(rest)?),
        1 => Value::Fixed64(u64::from_le_bytes(take_array(rest)?)),
        2 => {
            let length = usize::try_from(take_varint(rest)?).unwrap_or(usize::MAX);
            let (bytes, after) = rest.split_at_checked(length).ok_or_else(|| {
                format!("field {number} claims {length} bytes where {} are left", rest.len())
            })?;
            *rest = after;
            Value::Bytes(bytes)
        }
        3 if depth >= NESTING_MAX => return Err(format!("nested deeper than {NESTING_MAX} levels")),
        3 => {
            let whole = *rest;
            loop {
                let before = rest.len();
                let (inner, wire_type) = take_tag(rest)?;
                if wire_type == 4 {
                    if inner != number {
                        return Err(format!("group {number} ends as {inner}"));
                    }
                    break Value::Group(&whole[..whole.len() - before]);
                }
                take_value(rest, inner, wire_type, depth + 1)?;
            }
        }
        4 => return Err(format!("group {number} ends and never began")),
        5 => Value::Fixed32(u32::from_le_bytes(take_array(rest)?)),
        _ => return Err(format!("field {number} has wire type {wire_type}, which does not exist")),
    })
}

/// A message whose type nobody knows, as JSON with field numbers for names. A field that comes more than
/// once is a list; bytes that read as text are text, as a message are a message, and else are base64.
///
/// # Errors
/// What is no protobuf message.
pub fn to_json(bytes: &[u8]) -> Result<String, String> {
    let mut out = String::new();
    object(&scan(bytes)?, &mut out, 0);
    Ok(out)
}

fn object(entries: &[Entry<'_>], out: &mut String, depth: usize) {
    let mut sorted: Vec<&Entry<'_>> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.number);
    out.push('{');
    for (position, same) in sorted.chunk_by(|a, b| a.number == b.number).enumerate() {
        let comma = if position > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"{}\":", same[0].number);
        if same.len() > 1 {
            out.push('[');
        }
        for (position, entry) in same.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            guess(entry.value, out, depth);
        }
        if same.len() > 1 {
            out.push(']');
        }
    }
    out.push('}');
}

fn guess(value: Value<'_>, out: &mut String, depth: usize) {
    use base64::Engine as _;
    match value {
        Value::Varint(number) | Value::Fixed64(number) => {
            // Larger ones would not survive a reader that uses doubles.
            let quote = if number > 1 << 53 { "\"" } else { "" };
            let _ = write!(out, "{quote}{number}{quote}");
        }
        Value::Fixed32(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes)
                .ok()
                .filter(|text| !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()));
            let message = scan(bytes).ok().filter(|entries| depth < NESTING_MAX && !entries.is_empty());
            match (text, message) {
                (Some(text), _) => quoted(text, out),
                (None, Some(entries)) => object(&entries, out, depth + 1),
                (None, None) => quoted(&base64::prelude::BASE64_STANDARD.encode(bytes), out),
            }
        }
        Value::Group(bytes) if depth < NESTING_MAX => {
            object(&scan(bytes).unwrap_or_default(), out, depth + 1)
        }
        Value::Group(_) => out.push_str("null"),
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_shown_by_number() {
        // 1: 150, 2: "testing", 3: {1: 150}, 2 again, 4: fixed32, 5: group {1: 1}
        let bytes =
            b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01\x12\x01\xff\x25\x01\0\0\0\x2b\x08\x01\x2c";
        assert_eq!(
            to_json(bytes).unwrap(),
            r#"{"1":150,"2":["testing","/w=="],"3":{"1":150},"4":1,"5":{"1":1}}"#
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(scan(b"\x0a\x05ab").unwrap_err(), "field 1 claims 5 bytes where 2 are left");
        assert_eq!(scan(b"\x0b").unwrap_err(), "the message is cut short");
        assert_eq!(scan(b"\x0b\x14").unwrap_err(), "group 1 ends as 2");
        assert_eq!(scan(b"\x0e").unwrap_err(), "field 1 has wire type 6, which does not exist");
        assert_eq!(scan(b"\0").unwrap_err(), "0 is not a field number");
        assert_eq!(scan(&[0x0b; 200]).unwrap_err(), "nested deeper than 100 levels");
        assert_eq!(scan(&[0xff; 11]).unwrap_err(), "a varint has over 64 bits");
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(json) = to_json(&bytes) {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            }
        }
    }
}
