//! Where one document ends and the next begins on a stream: lines, or `Content-Length` headers.

use bytes::{Bytes, BytesMut};

/// Most bytes that a framing adds to a document: `Content-Length: `, twenty digits, two line ends.
pub(super) const FRAME_SIZE_MAX: usize = 40;

/// How documents are told apart. The first byte of a stream decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One document per line.
    Lines,
    /// `Content-Length: N`, an empty line, N bytes; as the Language Server Protocol does.
    Headers,
}

impl Framing {
    /// Appends `document` in this framing.
    pub fn write(self, out: &mut Vec<u8>, document: &[u8]) {
        match self {
            Self::Lines => {
                out.extend_from_slice(document);
                out.push(b'\n');
            }
            Self::Headers => {
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", document.len()).as_bytes());
                out.extend_from_slice(document);
            }
        }
    }
}

/// The stream cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A document over the limit.
    #[error("a document of {size} bytes is over the limit of {size_max}")]
    TooLarge {
        /// Its size, or what has come of it.
        size: usize,
        /// The limit.
        size_max: usize,
    },
    /// Headers that are none, or without a usable length.
    #[error("the header of a document has no usable Content-Length")]
    Header,
}

/// Headers of one document, all together.
const HEADER_SIZE_MAX: usize = 4096;

/// Splits a stream into documents.
#[derive(Debug)]
pub struct Frames {
    framing: Option<Framing>,
    buffer: BytesMut,
    size_max: usize,
    // Bytes at the start of the buffer that are known to hold no line end.
    scanned: usize,
}

impl Frames {
    /// Detects the framing by itself; refuses documents over `size_max` bytes.
    pub fn new(size_max: usize) -> Self {
        Self { framing: None, buffer: BytesMut::new(), size_max, scanned: 0 }
    }

    /// The framing; lines until the first document has said otherwise.
    pub fn framing(&self) -> Framing {
        self.framing.unwrap_or(Framing::Lines)
    }

    /// Where to read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// True if a document has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What is left when the stream has ended: a last line does not need its line end.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = self.buffer.split().freeze();
        (self.framing() == Framing::Lines && !rest.trim_ascii().is_empty()).then_some(rest)
    }

    /// The next whole document.
    ///
    /// # Errors
    /// A document over the limit, an unusable header. The stream has to be closed then.
    pub fn next_document(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.framing.is_none() {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.take(blank);
            let Some(first) = self.buffer.first() else { return Ok(None) };
            self.framing = Some(if first.is_ascii_alphabetic() { Framing::Headers } else { Framing::Lines });
        }
        match self.framing() {
            Framing::Lines => self.next_line(),
            Framing::Headers => self.next_with_header(),
        }
    }

    fn take(&mut self, size: usize) -> Bytes {
        self.scanned = 0;
        self.buffer.split_to(size).freeze()
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
            let size = end.map_or(self.buffer.len(), |end| self.scanned + end);
            if size > self.size_max {
                return Err(FrameError::TooLarge { size, size_max: self.size_max });
            }
            if end.is_none() {
                self.scanned = size;
                return Ok(None);
            }
            let line = self.take(size + 1);
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line.slice(..size)));
            }
        }
    }

    fn next_with_header(&mut self) -> Result<Option<Bytes>, FrameError> {
        let window = &self.buffer[..self.buffer.len().min(HEADER_SIZE_MAX)];
        let Some(header_size) = window.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return if window.len() == HEADER_SIZE_MAX { Err(FrameError::Header) } else { Ok(None) };
        };
        let size = content_length(&window[..header_size]).ok_or(FrameError::Header)?;
        if size > self.size_max {
            return Err(FrameError::TooLarge { size, size_max: self.size_max });
        }
        let start = header_size + 4;
        if self.buffer.len() < start + size {
            // Not reserved at once: a peer that promises much and sends nothing costs nothing.
            return Ok(None);
        }
        let whole = self.take(start + size);
        Ok(Some(whole.slice(start..)))
    }
}

fn content_length(header: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(header).ok()?;
    text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        (name.trim().eq_ignore_ascii_case("content-length") && digits).then(|| value.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in pieces of `step` and collects the documents.
    fn split(bytes: &[u8], step: usize, size_max: usize) -> Result<Vec<Bytes>, FrameError> {
        let mut frames = Frames::new(size_max);
        let mut documents = Vec::new();
        for piece in bytes.chunks(step) {
            frames.buffer().extend_from_slice(piece);
            while let Some(document) = frames.next_document()? {
                documents.push(document);
            }
        }
        documents.extend(frames.finish());
        Ok(documents)
    }

    #[test]
    fn lines_are_split_wherever_the_network_cuts() {
        for step in 1..12 {
            let documents = split(b"\r\n {\"a\":1}\r\n\n[2]\n3", step, 100).unwrap();
            let text: Vec<_> = documents.iter().map(|d| d.trim_ascii()).collect();
            assert_eq!(text, [&b"{\"a\":1}"[..], b"[2]", b"3"]);
        }
    }

    #[test]
    fn headers_are_recognised_by_the_first_letter() {
        let bytes = b"Content-Type: x\r\ncontent-length: 4\r\n\r\n{\n }Content-Length:2\r\n\r\n[]";
        for step in 1..60 {
            assert_eq!(split(bytes, step, 100).unwrap(), [&b"{\n }"[..], b"[]"]);
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for framing in [Framing::Lines, Framing::Headers] {
            let mut bytes = Vec::new();
            framing.write(&mut bytes, b"{\"a\":1}");
            framing.write(&mut bytes, b"[]");
            assert_eq!(split(&bytes, 3, 100).unwrap(), [&b"{\"a\":1}"[..], b"[]"]);
        }
    }

    #[test]
    fn giant_documents_are_refused_before_they_are_buffered() {
        let error = split(b"Content-Length: 99999999999\r\n\r\n", 7, 10).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { size: 99_999_999_999, size_max: 10 });
        assert_eq!(
            split(b"{aaaaaaaaaaaaaaaaaaaaaa", 1, 10).unwrap_err(),
            FrameError::TooLarge { size: 11, size_max: 10 }
        );
        assert_eq!(split(b"Content-Length: -1\r\n\r\n", 7, 10), Err(FrameError::Header));
        assert_eq!(split(b"Content-Length: 99999999999999999999999\r\n\r\n", 7, 10), Err(FrameError::Header));
        assert_eq!(split(&[b'a'; 5000], 7, 10), Err(FrameError::Header));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            let _ = split(&bytes, step, 64);
        }
    }
}
