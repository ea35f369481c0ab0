//! Messages as bytes: what is small is copied together, what is large is sent from where it is.

use bytes::Bytes;

use super::fault::{Error, Result};
use super::primitive::Width;

/// Bytes up to this size are copied into the message; above it a pointer is cheaper.
const COPY_MAX: usize = 1024;

/// Appends the fields of a message.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    /// What goes in between: the length of `out` when it was given, and what it is.
    pieces: Vec<(usize, Chunk)>,
    version: i16,
    flexible: bool,
}

/// A run of an encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// These bytes.
    Bytes(Bytes),
    /// So many bytes that the sender has to put here: see [`Records::Hole`](super::Records).
    Hole(usize),
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Hole(len) => *len,
        }
    }
}

impl Writer {
    /// An empty message of a version in one of the two encodings.
    pub fn new(version: i16, flexible: bool) -> Self {
        Self { out: Vec::with_capacity(128), pieces: Vec::new(), version, flexible }
    }

    /// The message's version.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Is this the encoding of KIP-482?
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Goes on in another version or encoding: a header comes before its message.
    pub fn become_version(&mut self, version: i16, flexible: bool) {
        (self.version, self.flexible) = (version, flexible);
    }

    /// Appends bytes as they are.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    pub(super) fn null(&mut self, width: Width) {
        match (self.flexible, width) {
            (true, _) => self.put(&[0]),
            (false, Width::Short) => self.put(&(-1i16).to_be_bytes()),
            (false, Width::Long) => self.put(&(-1i32).to_be_bytes()),
        }
    }

    pub(super) fn len(&mut self, len: usize, width: Width, field: &'static str) -> Result<()> {
        let (flexible, fits) = (self.flexible, |limit| Error::Length { field, length: len as i64, limit });
        match (flexible, width) {
            (true, _) if len < i32::MAX as usize => self.uvarint(len as u32 + 1),
            (false, Width::Long) if len <= i32::MAX as usize => self.put(&(len as u32).to_be_bytes()),
            (false, Width::Short) => {
                let short = i16::try_from(len).map_err(|_| fits(i16::MAX as usize))?;
                self.put(&short.to_be_bytes());
            }
            _ => return Err(fits(i32::MAX as usize - 1)),
        }
        Ok(())
    }

    pub(super) fn text(&mut self, text: &str, field: &'static str) -> Result<()> {
        self.len(text.len(), Width::Short, field)?;
        self.put(text.as_bytes());
        Ok(())
    }

    pub(super) fn bytes(&mut self, bytes: &Bytes, field: &'static str) -> Result<()> {
        self.len(bytes.len(), Width::Long, field)?;
        if bytes.len() <= COPY_MAX {
            self.put(bytes);
        } else {
            self.pieces.push((self.out.len(), Chunk::Bytes(bytes.clone())));
        }
        Ok(())
    }

    pub(super) fn hole(&mut self, len: usize, field: &'static str) -> Result<()> {
        self.len(len, Width::Long, field)?;
        self.pieces.push((self.out.len(), Chunk::Hole(len)));
        Ok(())
    }

    /// Appends tagged fields; `visit` gives those that are not at their defaults, by rising tag.
    pub(super) fn tagged(&mut self, visit: &mut dyn FnMut(&mut Tagged) -> Result<()>) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        let mut tagged = Tagged { count: 0, fields: Self::new(self.version, true) };
        visit(&mut tagged)?;
        self.uvarint(tagged.count);
        self.append(tagged.fields);
        Ok(())
    }

    fn append(&mut self, other: Self) {
        let at = self.out.len();
        self.out.extend_from_slice(&other.out);
        self.pieces.extend(other.pieces.into_iter().map(|(place, chunk)| (at + place, chunk)));
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.out.len() + self.pieces.iter().map(|(_, chunk)| chunk.len()).sum::<usize>()
    }

    /// The message as runs of bytes.
    pub fn finish(self) -> Encoded {
        let len = self.size();
        let out = Bytes::from(self.out);
        let mut chunks = Vec::with_capacity(2 * self.pieces.len() + 1);
        let mut from = 0;
        for (at, chunk) in self.pieces {
            if at > from {
                chunks.push(Chunk::Bytes(out.slice(from..at)));
            }
            chunks.push(chunk);
            from = at;
        }
        if from < out.len() {
            chunks.push(Chunk::Bytes(out.slice(from..)));
        }
        Encoded { chunks, len }
    }

    /// Puts the size of what follows it, which is known now, over the first four bytes.
    pub(super) fn finish_frame(mut self) -> Result<Encoded> {
        let len = self.size().saturating_sub(4);
        let size = i32::try_from(len).map_err(|_| Error::TooLarge { len })?;
        self.out[..4].copy_from_slice(&size.to_be_bytes());
        Ok(self.finish())
    }
}

/// Collects the tagged fields of one struct.
#[derive(Debug)]
pub(super) struct Tagged {
    count: u32,
    fields: Writer,
}

impl Tagged {
    /// Adds a field.
    pub(super) fn field(
        &mut self,
        tag: u32,
        value: &impl super::primitive::Field,
        name: &'static str,
    ) -> Result<()> {
        let mut writer = Writer::new(self.fields.version, true);
        value.write(&mut writer, name)?;
        self.count += 1;
        self.fields.uvarint(tag);
        let size = writer.size();
        self.fields.uvarint(u32::try_from(size).map_err(|_| Error::TooLarge { len: size })?);
        self.fields.append(writer);
        Ok(())
    }
}

/// A message that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    chunks: Vec<Chunk>,
    len: usize,
}

impl Encoded {
    /// The runs of the message, in order. Holes come in the order in which the message names them.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The runs of the message, in order.
    pub fn into_chunks(self) -> Vec<Chunk> {
        self.chunks
    }

    /// Bytes of the whole message, holes included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No bytes at all?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message in one piece, with zeros in its holes. Copies, unless it is one already.
    pub fn to_bytes(&self) -> Bytes {
        if let [Chunk::Bytes(bytes)] = self.chunks.as_slice() {
            return bytes.clone();
        }
        let mut out = Vec::with_capacity(self.len);
        for chunk in &self.chunks {
            match chunk {
                Chunk::Bytes(bytes) => out.extend_from_slice(bytes),
                Chunk::Hole(len) => out.resize(out.len() + len, 0),
            }
        }
        out.into()
    }
}
