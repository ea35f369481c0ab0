//! The five-byte prefix: one byte of flags, four of length, then the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before each message.
pub const PREFIX_SIZE: usize = 5;
/// The message is compressed with the encoding that the headers name.
pub const FLAG_COMPRESSED: u8 = 0x01;
/// Connect: this is the end of the stream, as JSON.
pub const FLAG_CONNECT_END: u8 = 0x02;
/// gRPC-Web: these are the trailers, as header lines.
pub const FLAG_WEB_TRAILERS: u8 = 0x80;

/// Why bytes are not a sequence of frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A frame claims more than is allowed. Nothing was allocated for it.
    #[error("message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What it claims.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The bytes ended within a frame.
    #[error("stream ended within a message: {have} of {need} bytes came")]
    Truncated {
        /// Bytes that came.
        have: usize,
        /// Bytes of the whole frame, or of its prefix if even that is incomplete.
        need: usize,
    },
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// `FLAG_…` bits.
    pub flags: u8,
    /// What follows the prefix.
    pub data: Bytes,
}

impl Frame {
    /// True if [`FLAG_COMPRESSED`] is set.
    pub fn is_compressed(&self) -> bool {
        self.flags & FLAG_COMPRESSED != 0
    }
}

/// Cuts a stream of chunks into frames. A frame that lies within one chunk is not copied.
#[derive(Debug)]
pub struct Deframer {
    size_max: usize,
    // Either the rest of the latest chunk, or frames collected from several; never both.
    whole: Bytes,
    parts: BytesMut,
}

impl Deframer {
    /// Accepts frames of up to `size_max` bytes without their prefix.
    pub fn new(size_max: usize) -> Self {
        Self { size_max, whole: Bytes::new(), parts: BytesMut::new() }
    }

    /// Adds the next chunk. Buffers no more than it is given: a claimed length reserves nothing.
    pub fn push(&mut self, chunk: Bytes) {
        if self.parts.is_empty() && self.whole.is_empty() {
            self.whole = chunk;
            return;
        }
        if self.parts.is_empty() {
            self.parts = BytesMut::with_capacity(self.whole.len() + chunk.len());
            self.parts.put_slice(&std::mem::take(&mut self.whole));
        }
        self.parts.put_slice(&chunk);
    }

    /// The next complete frame; `None` if more bytes are needed.
    ///
    /// # Errors
    /// A frame over the limit. The stream cannot be read any further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, EnvelopeError> {
        let buffered: &[u8] = if self.parts.is_empty() { &self.whole } else { &self.parts };
        let Some((prefix, rest)) = buffered.split_first_chunk::<PREFIX_SIZE>() else { return Ok(None) };
        let (flags, size) = read_prefix(*prefix);
        if size > self.size_max {
            return Err(EnvelopeError::TooLarge { size, limit: self.size_max });
        }
        if rest.len() < size {
            return Ok(None);
        }
        let data = if self.parts.is_empty() {
            self.whole.advance(PREFIX_SIZE);
            self.whole.split_to(size)
        } else {
            self.parts.advance(PREFIX_SIZE);
            self.parts.split_to(size).freeze()
        };
        Ok(Some(Frame { flags, data }))
    }

    /// Bytes that wait for the rest of their frame.
    pub fn buffered(&self) -> usize {
        self.whole.len() + self.parts.len()
    }

    /// Call it at the end of the stream.
    ///
    /// # Errors
    /// The stream ended within a frame.
    pub fn finish(&self) -> Result<(), EnvelopeError> {
        let buffered: &[u8] = if self.parts.is_empty() { &self.whole } else { &self.parts };
        match buffered.split_first_chunk::<PREFIX_SIZE>() {
            None if buffered.is_empty() => Ok(()),
            None => Err(EnvelopeError::Truncated { have: buffered.len(), need: PREFIX_SIZE }),
            Some((prefix, _)) => Err(EnvelopeError::Truncated {
                have: buffered.len(),
                need: read_prefix(*prefix).1.saturating_add(PREFIX_SIZE),
            }),
        }
    }
}

fn read_prefix([flags, length @ ..]: [u8; PREFIX_SIZE]) -> (u8, usize) {
    (flags, usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
}

fn prefix(flags: u8, size: usize) -> [u8; PREFIX_SIZE] {
    // A message of 4 GiB cannot be framed; limits far below keep it from getting here.
    let [a, b, c, d] = u32::try_from(size).expect("messages are limited to less than 4 GiB").to_be_bytes();
    [flags, a, b, c, d]
}

/// A prefix and its message as one [`Buf`]: goes out as one DATA frame without being copied together.
#[derive(Clone, Debug, Default)]
pub struct Framed {
    prefix: [u8; PREFIX_SIZE],
    prefix_read: usize,
    data: Bytes,
}

impl Framed {
    /// A frame.
    pub fn new(flags: u8, data: Bytes) -> Self {
        Self { prefix: prefix(flags, data.len()), prefix_read: 0, data }
    }

    /// Bytes without a prefix.
    pub fn bare(data: Bytes) -> Self {
        Self { prefix: [0; PREFIX_SIZE], prefix_read: PREFIX_SIZE, data }
    }
}

impl Buf for Framed {
    fn remaining(&self) -> usize {
        PREFIX_SIZE - self.prefix_read + self.data.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.prefix_read < PREFIX_SIZE { &self.prefix[self.prefix_read..] } else { &self.data }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for part in [&self.prefix[self.prefix_read..], &self.data] {
            if !part.is_empty() && filled < out.len() {
                out[filled] = std::io::IoSlice::new(part);
                filled += 1;
            }
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        let from_prefix = count.min(PREFIX_SIZE - self.prefix_read);
        self.prefix_read += from_prefix;
        self.data.advance(count - from_prefix);
    }
}

/// A frame in one buffer.
pub fn encode(flags: u8, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX_SIZE + data.len());
    out.put_slice(&prefix(flags, data.len()));
    out.put_slice(data);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(deframer: &mut Deframer) -> Result<Vec<Frame>, EnvelopeError> {
        let mut frames = Vec::new();
        while let Some(frame) = deframer.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn golden_hello_ada() {
        // HelloRequest{name:"Ada"} as grpcurl puts it into a DATA frame.
        let wire = encode(0, b"\x0a\x03Ada");
        assert_eq!(&wire[..], b"\0\0\0\0\x05\x0a\x03Ada");
        let mut deframer = Deframer::new(5);
        deframer.push(wire);
        assert_eq!(
            deframer.next_frame(),
            Ok(Some(Frame { flags: 0, data: Bytes::from_static(b"\x0a\x03Ada") }))
        );
        assert_eq!(deframer.next_frame(), Ok(None));
        assert_eq!(deframer.finish(), Ok(()));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_prefix_alone() {
        let mut deframer = Deframer::new(4);
        deframer.push(Bytes::from_static(b"\0\0\0\0\x05"));
        assert_eq!(deframer.next_frame(), Err(EnvelopeError::TooLarge { size: 5, limit: 4 }));
    }

    #[test]
    fn an_end_within_a_frame_is_told_from_an_end_between_frames() {
        let mut deframer = Deframer::new(100);
        deframer.push(Bytes::from_static(b"\0\0\0"));
        assert_eq!(deframer.finish(), Err(EnvelopeError::Truncated { have: 3, need: 5 }));
        deframer.push(Bytes::from_static(b"\0\x02x"));
        assert_eq!(deframer.next_frame(), Ok(None));
        assert_eq!(deframer.finish(), Err(EnvelopeError::Truncated { have: 6, need: 7 }));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cuts in prop::collection::vec(1usize..20, 0..60),
        ) {
            let mut wire = BytesMut::new();
            for (flags, data) in &messages {
                wire.put_slice(&encode(*flags, data));
            }
            let mut wire = wire.freeze();
            let mut deframer = Deframer::new(40);
            let mut frames = Vec::new();
            for cut in cuts {
                deframer.push(wire.split_to(cut.min(wire.len())));
                frames.extend(drain(&mut deframer).unwrap());
            }
            deframer.push(wire);
            frames.extend(drain(&mut deframer).unwrap());
            deframer.finish().unwrap();
            let expected: Vec<_> = messages
                .into_iter()
                .map(|(flags, data)| Frame { flags, data: data.into() })
                .collect();
            prop_assert_eq!(frames, expected);
        }

        #[test]
        fn garbage_never_panics(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..10)) {
            let mut deframer = Deframer::new(64);
            for chunk in chunks {
                deframer.push(chunk.into());
                if drain(&mut deframer).is_err() {
                    break;
                }
            }
            let _ = deframer.finish();
        }

        #[test]
        fn a_framed_message_reads_like_an_encoded_one(flags: u8, data: Vec<u8>, step in 1usize..9) {
            let mut framed = Framed::new(flags, data.clone().into());
            let mut read = Vec::new();
            while framed.has_remaining() {
                let count = step.min(framed.chunk().len());
                read.extend_from_slice(&framed.chunk()[..count]);
                framed.advance(count);
            }
            prop_assert_eq!(read, encode(flags, &data).to_vec());
        }
    }
}
