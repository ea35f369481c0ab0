//! Whole messages out of a stream: bounded buffers that grow with what has come, not with what was announced.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Stream;

/// The least that is read at once: four pages hold most messages of all protocols.
const READ_BYTES_MIN: usize = 16 * 1024;

/// What a decoder found at the front of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A message; its bytes were taken from the buffer.
    Frame(T),
    /// Not all of it has come; at least this many bytes in all are needed. Nothing was taken.
    Incomplete(usize),
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError<E> {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The message is announced longer than allowed. Nothing was allocated for it.
    #[error("a message of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// What was announced.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The other end left in the middle of a message.
    #[error("the connection ended {have} bytes into a message of at least {length}")]
    Cut {
        /// What came.
        have: usize,
        /// What was needed.
        length: usize,
    },
    /// The decoder refuses the bytes.
    #[error(transparent)]
    Decode(E),
}

/// A stream with a bounded buffer for each direction.
#[derive(Debug)]
pub struct Framed<S = Stream> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    frame_bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Messages of at most `frame_bytes_max` bytes, header included.
    pub fn new(stream: S, frame_bytes_max: usize) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), frame_bytes_max }
    }

    /// The limit from now on, for protocols that negotiate it.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// The next message; none if the stream ended between two. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`FrameError`]; after any of them the stream is of no more use.
    pub async fn next<T, E>(
        &mut self,
        mut decode: impl FnMut(&mut BytesMut) -> Result<Decoded<T>, E>,
    ) -> Result<Option<T>, FrameError<E>> {
        loop {
            let length = match decode(&mut self.input).map_err(FrameError::Decode)? {
                Decoded::Frame(frame) => return Ok(Some(frame)),
                // A decoder that cannot say how much is asked again after every byte.
                Decoded::Incomplete(length) => length.max(self.input.len() + 1),
            };
            if length > self.frame_bytes_max {
                return Err(FrameError::TooLong { length, limit: self.frame_bytes_max });
            }
            // At most doubles: whoever announces much has to send it.
            let have = self.input.len();
            self.input.reserve((length - have).min(have).max(READ_BYTES_MIN));
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return if have == 0 { Ok(None) } else { Err(FrameError::Cut { have, length }) };
            }
        }
    }

    /// True if bytes are here that were not decoded yet: the moment to flush is when there are none.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Where messages are written to; they leave with `flush`.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// The stream's.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await
    }

    /// The stream, for its peer's address and certificate.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, and what was read from it but not decoded.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Buf, Bytes};
    use std::convert::Infallible;

    /// Four bytes of length, then as many bytes.
    fn decode(buffer: &mut BytesMut) -> Result<Decoded<Bytes>, Infallible> {
        let Some(header) = buffer.first_chunk::<4>() else { return Ok(Decoded::Incomplete(4)) };
        let length = u32::from_be_bytes(*header) as usize;
        if buffer.len() < 4 + length {
            return Ok(Decoded::Incomplete(4 + length));
        }
        buffer.advance(4);
        Ok(Decoded::Frame(buffer.split_to(length).freeze()))
    }

    fn message(length: usize) -> Vec<u8> {
        let mut message = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        message.extend(std::iter::repeat_n(7, length));
        message
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let mut sent = Vec::new();
        for length in [0, 1, 100, 70_000] {
            sent.extend(message(length));
        }
        for step in [1usize, 3, 1000, sent.len()] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut framed = Framed::new(ours, 100_000);
            let send = async {
                for part in sent.chunks(step) {
                    theirs.write_all(part).await.unwrap();
                }
                drop(theirs);
            };
            let receive = async {
                let mut lengths = Vec::new();
                while let Some(frame) = framed.next(decode).await.unwrap() {
                    lengths.push(frame.len());
                }
                lengths
            };
            let ((), lengths) = tokio::join!(send, receive);
            assert_eq!(lengths, [0, 1, 100, 70_000]);
        }
    }

    #[tokio::test]
    async fn what_is_announced_is_not_allocated() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut framed = Framed::new(ours, 1 << 30);
        theirs.write_all(&(1u32 << 29).to_be_bytes()).await.unwrap();
        drop(theirs);
        assert!(matches!(framed.next(decode).await, Err(FrameError::Cut { have: 4, .. })));
        assert!(framed.input.capacity() < 64 * 1024, "{}", framed.input.capacity());
    }

    #[tokio::test]
    async fn over_the_limit_is_refused_by_its_header() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut framed = Framed::new(ours, 1000);
        theirs.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let error = framed.next(decode).await.unwrap_err();
        assert_eq!(error.to_string(), "a message of 4294967299 bytes is over the limit of 1000");
    }

    #[tokio::test]
    async fn written_messages_leave_together() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut framed = Framed::new(ours, 1000);
        framed.output().extend_from_slice(b"ab");
        framed.output().extend_from_slice(b"cd");
        framed.flush().await.unwrap();
        let mut got = [0; 4];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"abcd");
    }
}
