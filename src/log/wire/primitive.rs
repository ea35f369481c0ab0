//! The elementary types of the Kafka protocol: integers, text, bytes, UUIDs, arrays, tagged fields.
//!
//! Each exists in the old encoding (lengths of 16 or 32 bits, -1 for null) and in the flexible one of KIP-482 (lengths as
//! variable-length integers plus one, 0 for null). [`Reader`] and [`Writer`] know which; a field need not care.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::fault::{Error, Result};
use super::write::Writer;

/// Something that has a place in a message.
pub trait Field: Sized {
    /// Fewest bytes that a value takes: what bounds the length of an array before anything is allocated.
    fn size_min(version: i16, flexible: bool) -> usize;

    /// Takes a value off the front.
    ///
    /// # Errors
    /// Bytes that are no such value; `name` is in the error.
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self>;

    /// Appends the value.
    ///
    /// # Errors
    /// The version of the message cannot say it.
    fn write(&self, writer: &mut Writer, name: &'static str) -> Result<()>;

    /// Is it null?
    fn is_null(&self) -> bool {
        false
    }

    /// Some value, for tests of everything that can be said in a version.
    #[cfg(test)]
    fn sample(rng: &mut fastrand::Rng, version: i16) -> Self;
}

/// Memory that the arrays of a message may take for each byte of it. The densest honest one (an array of one-letter names)
/// takes 12 to 20.
const MEMORY_PER_BYTE: usize = 24;
/// Memory in bytes that the arrays of any message may take.
const MEMORY_MIN: usize = 64 << 10;

/// Takes fields off the front of a message.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    /// Where the message, or the tagged field that is being read, ends.
    end: usize,
    version: i16,
    flexible: bool,
    /// Memory that arrays may still take.
    memory: usize,
}

impl Reader {
    /// Reads `bytes` as a message of a version in one of the two encodings.
    pub fn new(bytes: Bytes, version: i16, flexible: bool) -> Self {
        let memory = bytes.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_MIN);
        Self { at: 0, end: bytes.len(), bytes, version, flexible, memory }
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

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// The bytes not read yet, without a copy.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..self.end)
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub fn finish(&self) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(Error::Trailing { left }),
        }
    }

    fn advance(&mut self, needed: usize, field: &'static str) -> Result<usize> {
        let left = self.left();
        if needed > left {
            return Err(Error::Truncated { field, needed, left });
        }
        let at = self.at;
        self.at += needed;
        Ok(at)
    }

    /// The next N bytes.
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let at = self.advance(N, field)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[at..at + N]);
        Ok(out)
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<&[u8]> {
        let at = self.advance(len, field)?;
        Ok(&self.bytes[at..at + len])
    }

    /// The next `len` bytes, without a copy.
    fn take_bytes(&mut self, len: usize, field: &'static str) -> Result<Bytes> {
        let at = self.advance(len, field)?;
        Ok(self.bytes.slice(at..at + len))
    }

    /// An unsigned variable-length integer of up to 32 bits.
    pub(super) fn uvarint(&mut self, field: &'static str) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Varint { field })
    }

    /// A length in 16 (text) or 32 bits, or as a variable-length integer; `None` is null.
    fn len(&mut self, width: Width, field: &'static str) -> Result<Option<usize>> {
        let length = match (self.flexible, width) {
            (true, _) => i64::from(self.uvarint(field)?) - 1,
            (false, Width::Short) => i64::from(i16::from_be_bytes(self.array(field)?)),
            (false, Width::Long) => i64::from(i32::from_be_bytes(self.array(field)?)),
        };
        match length {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(len) if len <= self.left() => Ok(Some(len)),
                _ => Err(Error::Length { field, length, limit: self.left() }),
            },
        }
    }

    fn text(&mut self, field: &'static str) -> Result<Option<String>> {
        let Some(len) = self.len(Width::Short, field)? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(len, field)?).map_err(|_| Error::Utf8 { field })?;
        Ok(Some(text.to_owned()))
    }

    fn bytes(&mut self, field: &'static str) -> Result<Option<Bytes>> {
        match self.len(Width::Long, field)? {
            Some(len) => self.take_bytes(len, field).map(Some),
            None => Ok(None),
        }
    }

    fn elements<T: Field>(&mut self, field: &'static str) -> Result<Option<Vec<T>>> {
        let Some(count) = self.len(Width::Long, field)? else { return Ok(None) };
        let limit = self.left() / T::size_min(self.version, self.flexible).max(1);
        if count > limit {
            return Err(Error::Length { field, length: count as i64, limit });
        }
        let memory = count.saturating_mul(size_of::<T>());
        self.memory = self.memory.checked_sub(memory).ok_or(Error::Memory { field, elements: count })?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(self, field)?);
        }
        Ok(Some(elements))
    }

    /// Reads the tagged fields at the end of a struct; `visit` reads those it knows and says so, others are skipped.
    pub(super) fn tagged(
        &mut self,
        name: &'static str,
        visit: &mut dyn FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint(name)? {
            let tag = self.uvarint(name)?;
            let size = self.uvarint(name)? as usize;
            let at = self.advance(size, name)?;
            let (outer, after) = (self.end, self.at);
            (self.at, self.end) = (at, after);
            visit(self, tag)?;
            (self.at, self.end) = (after, outer);
        }
        Ok(())
    }
}

/// How long a length is in the old encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Short,
    Long,
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn size_min(_: i16, _: bool) -> usize {
                size_of::<$type>()
            }
            fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
                reader.array(name).map(<$type>::from_be_bytes)
            }
            fn write(&self, writer: &mut Writer, _: &'static str) -> Result<()> {
                writer.put(&self.to_be_bytes());
                Ok(())
            }
            #[cfg(test)]
            fn sample(rng: &mut fastrand::Rng, _: i16) -> Self {
                <$type>::from_be_bytes(std::array::from_fn(|_| rng.u8(..)))
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u16, u32);

impl Field for bool {
    fn size_min(_: i16, _: bool) -> usize {
        1
    }

    fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
        reader.array(name).map(|[byte]| byte != 0)
    }

    fn write(&self, writer: &mut Writer, _: &'static str) -> Result<()> {
        writer.put(&[u8::from(*self)]);
        Ok(())
    }

    #[cfg(test)]
    fn sample(rng: &mut fastrand::Rng, _: i16) -> Self {
        rng.bool()
    }
}

/// The size of a length: what null, and everything that can be empty, takes at least.
fn length_size(flexible: bool, width: Width) -> usize {
    match (flexible, width) {
        (true, _) => 1,
        (false, Width::Short) => 2,
        (false, Width::Long) => 4,
    }
}

/// The types that are a length and as much of something; each can be null, as an `Option`.
macro_rules! sized {
    ($([$($generic:tt)*] $type:ty, $width:expr, $read:ident, $write:expr, $sample:expr;)*) => {$(
        impl<$($generic)*> Field for Option<$type> {
            fn size_min(_: i16, flexible: bool) -> usize {
                length_size(flexible, $width)
            }
            fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
                reader.$read(name)
            }
            fn write(&self, writer: &mut Writer, name: &'static str) -> Result<()> {
                match self {
                    Some(value) => value.write(writer, name),
                    None => {
                        writer.null($width);
                        Ok(())
                    }
                }
            }
            fn is_null(&self) -> bool {
                self.is_none()
            }
            #[cfg(test)]
            fn sample(rng: &mut fastrand::Rng, version: i16) -> Self {
                (rng.u8(..4) > 0).then(|| Field::sample(rng, version))
            }
        }

        impl<$($generic)*> Field for $type {
            fn size_min(_: i16, flexible: bool) -> usize {
                length_size(flexible, $width)
            }
            fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
                let version = reader.version;
                reader.$read(name)?.ok_or(Error::Null { field: name, version })
            }
            fn write(&self, writer: &mut Writer, name: &'static str) -> Result<()> {
                let write: fn(&Self, &mut Writer, &'static str) -> Result<()> = $write;
                write(self, writer, name)
            }
            #[cfg(test)]
            fn sample(rng: &mut fastrand::Rng, version: i16) -> Self {
                let sample: fn(&mut fastrand::Rng, i16) -> Self = $sample;
                sample(rng, version)
            }
        }
    )*};
}

sized! {
    [] String, Width::Short, text, |text, writer, name| writer.text(text, name),
        |rng, _| (0..rng.usize(..20)).map(|_| rng.char(..)).collect();
    [] Bytes, Width::Long, bytes, |bytes, writer, name| writer.bytes(bytes, name),
        |rng, _| (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
    [T: Field] Vec<T>, Width::Long, elements, |elements, writer, name| {
            writer.len(elements.len(), Width::Long, name)?;
            elements.iter().try_for_each(|element| element.write(writer, name))
        },
        |rng, version| (0..rng.usize(..3)).map(|_| T::sample(rng, version)).collect();
}

/// What [`message!`](super::message) defines. Where one may be null, a byte before it says so.
pub(super) trait Struct: Field {}

impl<T: Struct> Field for Option<T> {
    fn size_min(_: i16, _: bool) -> usize {
        1
    }

    fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
        match i8::read(reader, name)? {
            ..0 => Ok(None),
            _ => T::read(reader, name).map(Some),
        }
    }

    fn write(&self, writer: &mut Writer, name: &'static str) -> Result<()> {
        match self {
            None => (-1i8).write(writer, name),
            Some(value) => {
                1i8.write(writer, name)?;
                value.write(writer, name)
            }
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    #[cfg(test)]
    fn sample(rng: &mut fastrand::Rng, version: i16) -> Self {
        rng.bool().then(|| T::sample(rng, version))
    }
}

/// 128 bits that name a topic, a member or a directory for good. Printed as Kafka does: base64 for URLs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zero: no UUID.
    pub const ZERO: Self = Self([0; 16]);

    /// Is it none?
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for Uuid {
    fn size_min(_: i16, _: bool) -> usize {
        16
    }

    fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
        reader.array(name).map(Self)
    }

    fn write(&self, writer: &mut Writer, _: &'static str) -> Result<()> {
        writer.put(&self.0);
        Ok(())
    }

    #[cfg(test)]
    fn sample(rng: &mut fastrand::Rng, _: i16) -> Self {
        Self(std::array::from_fn(|_| rng.u8(..)))
    }
}

/// Record batches in a message: here, or to be put there by whoever sends the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Records {
    /// Null.
    #[default]
    Null,
    /// These bytes.
    Here(Bytes),
    /// So many bytes, which the sender puts into the hole: a broker that sends a file's bytes without reading them.
    Hole(usize),
}

impl Records {
    /// The bytes; none if null or not here.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Here(bytes) => bytes.clone(),
            Self::Null | Self::Hole(_) => Bytes::new(),
        }
    }

    /// How many bytes there are, here or not.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Hole(len) => *len,
            Self::Null => 0,
        }
    }

    /// No bytes at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Here(bytes)
    }
}

impl Field for Records {
    fn size_min(_: i16, flexible: bool) -> usize {
        length_size(flexible, Width::Long)
    }

    fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
        Ok(reader.bytes(name)?.map_or(Self::Null, Self::Here))
    }

    fn write(&self, writer: &mut Writer, name: &'static str) -> Result<()> {
        match self {
            Self::Here(bytes) => writer.bytes(bytes, name),
            Self::Hole(len) => writer.hole(*len, name),
            Self::Null => {
                writer.null(Width::Long);
                Ok(())
            }
        }
    }

    fn is_null(&self) -> bool {
        *self == Self::Null
    }

    #[cfg(test)]
    fn sample(rng: &mut fastrand::Rng, version: i16) -> Self {
        Option::<Bytes>::sample(rng, version).map_or(Self::Null, Self::Here)
    }
}
