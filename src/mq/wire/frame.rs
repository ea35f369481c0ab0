//! Frames: one byte of type, two of channel, four of size, the payload, and 0xCE. AMQP 0-9-1, 2.3.5.

use super::{Error, FRAME_OVERHEAD};

/// What a client sends first: AMQP 0-9-1, 4.2.2. A server that refuses a header answers with this one.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// The header of version 0-9, which RabbitMQ takes for the same protocol.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\0\x09";

/// The last byte of every frame.
pub const END: u8 = 0xCE;

/// Type, channel and size.
pub const HEADER_SIZE: usize = 7;

/// The bytes by which a payload may exceed what was agreed: RabbitMQ's `FRAME_SIZE_FUDGE`, for clients that do not
/// count the header and the end.
const FUDGE: u32 = 8;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method.
    Method,
    /// The header of a content.
    Header,
    /// A part of a body.
    Body,
    /// Nothing: a sign of life.
    Heartbeat,
}

impl Kind {
    /// The type on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }
}

/// One frame, borrowed from the bytes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// On which channel; 0 is the connection.
    pub channel: u16,
    /// What stands between header and end.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// The bytes it takes on the wire.
    pub const fn size(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }
}

/// The frame at the start of `input`; none if not all of it has come. `frame_max` is in bytes, 0 for no limit.
/// Frames over it are refused by their header, so that nobody has to wait for their payload.
///
/// # Errors
/// The frame is too large, has no end, has an unknown type, or a payload too short for its type.
#[inline]
pub fn decode(input: &[u8], frame_max: u32) -> Result<Option<Frame<'_>>, Error> {
    let Some(&[number, c0, c1, s0, s1, s2, s3]) = input.first_chunk::<HEADER_SIZE>() else { return Ok(None) };
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if frame_max != 0 && size > frame_max.saturating_sub(FRAME_OVERHEAD as u32).saturating_add(FUDGE) {
        return Err(too_large(number, size, frame_max));
    }
    let rest = &input[HEADER_SIZE..];
    // The end is one byte more than the payload; a size that does not fit an address never comes whole.
    let Some(end) = usize::try_from(size).ok().and_then(|size| rest.get(size)) else { return Ok(None) };
    let payload = &rest[..size as usize];
    if *end != END {
        return Err(Error::FrameEnd { kind: number, payload: Error::snippet(payload), end: *end });
    }
    let kind = match (number, payload.len()) {
        (1, 4..) => Kind::Method,
        (2, 12..) => Kind::Header,
        (3, _) => Kind::Body,
        (8, 0) => Kind::Heartbeat,
        _ => return Err(unknown(number, payload)),
    };
    Ok(Some(Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload }))
}

#[cold]
fn too_large(kind: u8, size: u32, frame_max: u32) -> Error {
    Error::FrameTooLarge { kind, size, size_max: frame_max.saturating_sub(FRAME_OVERHEAD as u32) }
}

#[cold]
fn unknown(kind: u8, payload: &[u8]) -> Error {
    Error::UnknownFrame { kind, payload: Error::snippet(payload) }
}

/// The length of all whole frames at the start of `input`: what can be split off a read buffer and decoded without
/// a copy of the rest. Stops before a frame that [`decode`] would refuse, or behind it if it is the first.
pub fn whole(input: &[u8], frame_max: u32) -> usize {
    let mut length = 0;
    loop {
        match decode(&input[length..], frame_max) {
            Ok(Some(frame)) => length += frame.size(),
            Ok(None) => return length,
            // Whoever decodes it is told why.
            Err(_) if length == 0 => return input.len(),
            Err(_) => return length,
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The header of AMQP 0-9-1, eight bytes, or of 0-9, which is taken for it.
    Amqp091,
    /// Not all of it has come.
    Incomplete,
    /// Something else: answer with [`PROTOCOL_HEADER`] and close.
    Other,
}

/// Tells AMQP 0-9-1 from everything else by the first bytes of a connection.
pub fn protocol(input: &[u8]) -> Protocol {
    let begins = |header: &[u8; 8]| header.iter().zip(input).all(|(expected, got)| expected == got);
    match begins(&PROTOCOL_HEADER) || begins(&PROTOCOL_HEADER_0_9) {
        true if input.len() >= PROTOCOL_HEADER.len() => Protocol::Amqp091,
        true => Protocol::Incomplete,
        false => Protocol::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_whole_or_not_at_all() {
        let bytes = [3, 0, 7, 0, 0, 0, 2, b'h', b'i', END, 8];
        for cut in 0..10 {
            assert_eq!(decode(&bytes[..cut], 4096), Ok(None), "{cut}");
        }
        let frame = decode(&bytes, 4096).unwrap().unwrap();
        assert_eq!(frame, Frame { kind: Kind::Body, channel: 7, payload: b"hi" });
        assert_eq!(frame.size(), 10);
    }

    #[test]
    fn whole_frames_are_split_from_the_rest() {
        let one = [3, 0, 7, 0, 0, 0, 2, b'h', b'i', END];
        let two = [one.as_slice(), &one, &one[..9]].concat();
        assert_eq!(whole(&two, 4096), 20);
        assert_eq!(whole(&one[..9], 4096), 0);
        let bad = [one.as_slice(), b"\x09\0\0\0\0\0\0\xce"].concat();
        assert_eq!((whole(&bad, 4096), whole(&bad[10..], 4096)), (10, 8));
    }

    #[test]
    fn too_large_is_told_from_the_header() {
        let header = [3, 0, 1, 0, 3, 0x0d, 0x40];
        assert_eq!(
            decode(&header, 131_072),
            Err(Error::FrameTooLarge { kind: 3, size: 200_000, size_max: 131_064 })
        );
        assert_eq!(decode(&header, 0), Ok(None));
        // RabbitMQ allows eight bytes more.
        let size = 131_072u32.to_be_bytes();
        assert_eq!(decode(&[3, 0, 1, size[0], size[1], size[2], size[3]], 131_072), Ok(None));
    }

    #[test]
    fn bad_frames_are_told_apart() {
        assert_eq!(
            decode(b"\x08\0\0\0\0\0\0\xcd", 4096),
            Err(Error::FrameEnd { kind: 8, payload: Vec::new(), end: 0xcd })
        );
        for bad in
            [b"\x09\0\x01\0\0\0\0\xce".as_slice(), b"\x08\0\0\0\0\0\x01x\xce", b"\x01\0\0\0\0\0\x01x\xce"]
        {
            assert!(matches!(decode(bad, 4096), Err(Error::UnknownFrame { .. })), "{bad:?}");
        }
    }

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        assert_eq!(protocol(b""), Protocol::Incomplete);
        assert_eq!(protocol(b"AMQP\0"), Protocol::Incomplete);
        assert_eq!(protocol(b"AMQP\0\0\x09\x01rest"), Protocol::Amqp091);
        assert_eq!(protocol(b"AMQP\x01\x01\0\x09"), Protocol::Amqp091);
        for other in
            [b"AMQP\0\x01\0\0".as_slice(), b"AMQP\x03\x01\0\0", b"GET / HTTP/1.1", b"AMQP\x01\x01\x08\0"]
        {
            assert_eq!(protocol(other), Protocol::Other, "{other:?}");
        }
    }
}
