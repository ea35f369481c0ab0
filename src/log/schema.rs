//! Values with a schema: how they are framed, Avro's binary encoding, and the registry that knows schemas by number.

pub mod avro;
pub mod registry;

/// What a framed value begins with.
const MAGIC: u8 = 0;
/// Bytes before the value: the magic one, and the number of the schema.
pub const FRAME_BYTES: usize = 5;

/// A value as serializers of schema registries frame it: the number of its schema, and what comes after; none if it is
/// not framed.
pub fn unframed(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    let [magic, id @ ..] = head;
    (*magic == MAGIC).then(|| (u32::from_be_bytes(*id), rest))
}

/// Begins a framed value.
pub fn frame(id: u32) -> Vec<u8> {
    let mut out = vec![MAGIC];
    out.extend_from_slice(&id.to_be_bytes());
    out
}

/// The path to a message type at the front of a Protobuf value: 0 alone for the first one, or a count and numbers, all of
/// them zigzag. And what comes after; none if it is none.
pub fn message_path(bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let mut rest = bytes;
    let count = usize::try_from(avro::take_long(&mut rest)?).ok()?;
    if count == 0 {
        return Some((vec![0], rest));
    }
    // Each takes a byte at least.
    if count > rest.len() {
        return None;
    }
    let path =
        (0..count).map(|_| usize::try_from(avro::take_long(&mut rest)?).ok()).collect::<Option<_>>()?;
    Some((path, rest))
}

/// Appends the path to a message type.
pub fn put_message_path(path: &[usize], out: &mut Vec<u8>) {
    if path == [0] {
        return out.push(0);
    }
    avro::put_long(path.len() as i64, out);
    path.iter().for_each(|index| avro::put_long(*index as i64, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_confluents_serializers() {
        let mut framed = frame(258);
        framed.extend(b"x");
        assert_eq!(framed, b"\0\0\0\x01\x02x");
        assert_eq!(unframed(&framed), Some((258, &b"x"[..])));
        assert_eq!(unframed(b"\0\0\0\x01"), None);
        assert_eq!(unframed(b"{\"a\":1}"), None);
    }

    #[test]
    fn paths_of_messages_are_zigzag_and_short_for_the_first() {
        for (path, bytes) in [(vec![0], &b"\0"[..]), (vec![1, 0], b"\x04\x02\0"), (vec![3], b"\x02\x06")] {
            let mut out = Vec::new();
            put_message_path(&path, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(message_path(&out), Some((path, &b""[..])));
        }
        assert_eq!(message_path(b"\xff\xff\x7f"), None);
    }
}
