//! A protobuf message that nobody has a schema of: fields by number, as `protoc --decode_raw` shows them.

use std::fmt::Write as _;

use prost::encoding::{WireType, decode_key, decode_varint};

/// Messages within messages deeper than this are shown as bytes.
const DEPTH_MAX: usize = 32;

/// Describes the fields in one line, such as `1: "Ada" 2: 3 3 { 1: 4 }`; bytes that are no message as hex.
pub fn describe(message: &[u8]) -> String {
    fields(message, 0).unwrap_or_else(|| hex(message))
}

fn fields(mut bytes: &[u8], depth: usize) -> Option<String> {
    let mut out = String::new();
    let bytes = &mut bytes;
    while !bytes.is_empty() {
        let (number, wire) = decode_key(bytes).ok()?;
        if !out.is_empty() {
            out.push(' ');
        }
        let written = match wire {
            WireType::Varint => write!(out, "{number}: {}", decode_varint(bytes).ok()?),
            WireType::SixtyFourBit => {
                write!(out, "{number}: 0x{:016x}", u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
            }
            WireType::ThirtyTwoBit => {
                write!(out, "{number}: 0x{:08x}", u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
                let data = take(bytes, length)?;
                write!(out, "{number}{}", value(data, depth))
            }
            // Groups are gone from every schema of the last fifteen years.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        written.ok()?;
    }
    Some(out)
}

/// A message, text or bytes: whichever it can be, in this order, but readable text before a lucky message.
fn value(data: &[u8], depth: usize) -> String {
    let text = std::str::from_utf8(data)
        .ok()
        .filter(|text| !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    match text {
        Some(text) => format!(": {text:?}"),
        None => match (depth < DEPTH_MAX).then(|| fields(data, depth + 1)).flatten() {
            Some(inner) => format!(" {{ {inner} }}"),
            None => format!(": {}", hex(data)),
        },
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn fields_are_shown_by_number() {
        assert_eq!(
            describe(b"\x0a\x03Ada\x10\x03\x1a\x02\x08\x04\x25\x01\x00\x00\x00"),
            r#"1: "Ada" 2: 3 3 { 1: 4 } 4: 0x00000001"#
        );
        assert_eq!(describe(b""), "");
        assert_eq!(describe(b"\xff"), "0xff");
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = describe(&bytes);
        }
    }
}
