//! MessagePack as Go's codec writes it: strings and bytes are "old raw", structs are maps with sorted keys.
//!
//! Reading takes every form that an agent of any version writes: both encodings of integers, the newer string and
//! binary types, structs as maps in any order or as arrays in order of declaration, and unknown keys of any type.

/// How deep a value that is skipped may be nested.
const DEPTH_MAX: usize = 16;

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end within the value. Of a stream, that many bytes are needed at least, counted from where reading
    /// began.
    #[error("it ends early: {needed} bytes are needed at least")]
    Incomplete {
        /// Bytes needed.
        needed: usize,
    },
    /// Another type than the one expected.
    #[error("expected {expected}, found type byte 0x{found:02x}")]
    Type {
        /// What the field holds.
        expected: &'static str,
        /// The type byte that came.
        found: u8,
    },
    /// A number that its field cannot hold.
    #[error("{value} is over the limit of {max}")]
    Range {
        /// The number.
        value: i128,
        /// The largest that fits.
        max: u64,
    },
    /// A length over what is accepted.
    #[error("{what} of {length} is over the limit of {max}")]
    Length {
        /// What is too long.
        what: &'static str,
        /// How long.
        length: u64,
        /// How long it may be.
        max: u64,
    },
    /// A name that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// Nested deeper than 16 levels.
    #[error("nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// A value that makes no sense where it stands.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Reads values one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        match self.rest().get(..count) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Err(Fault::Incomplete { needed: self.at.saturating_add(count) }),
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64, Fault> {
        Ok(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn peek(&self) -> Result<u8, Fault> {
        self.rest().first().copied().ok_or(Fault::Incomplete { needed: self.at + 1 })
    }

    /// An integer in any of its forms, signed or not.
    ///
    /// # Errors
    /// Another type, or the bytes end.
    pub fn integer(&mut self) -> Result<i128, Fault> {
        let kind = self.byte()?;
        Ok(match kind {
            0x00..=0x7f => i128::from(kind),
            0xe0..=0xff => i128::from(kind.cast_signed()),
            0xcc..=0xcf => i128::from(self.big_endian(1 << (kind - 0xcc))?),
            0xd0 => i128::from((self.big_endian(1)? as u8).cast_signed()),
            0xd1 => i128::from((self.big_endian(2)? as u16).cast_signed()),
            0xd2 => i128::from((self.big_endian(4)? as u32).cast_signed()),
            0xd3 => i128::from(self.big_endian(8)?.cast_signed()),
            0xc0 => 0,
            found => return Err(Fault::Type { expected: "an integer", found }),
        })
    }

    /// An unsigned integer of at most `max`.
    ///
    /// # Errors
    /// Another type, a number out of range, or the bytes end.
    pub fn unsigned(&mut self, max: u64) -> Result<u64, Fault> {
        let value = self.integer()?;
        u64::try_from(value).ok().filter(|fits| *fits <= max).ok_or(Fault::Range { value, max })
    }

    /// An unsigned integer of 32 bits.
    ///
    /// # Errors
    /// As [`Self::unsigned`].
    pub fn u32(&mut self) -> Result<u32, Fault> {
        Ok(self.unsigned(u64::from(u32::MAX))? as u32)
    }

    /// An unsigned integer of 16 bits.
    ///
    /// # Errors
    /// As [`Self::unsigned`].
    pub fn u16(&mut self) -> Result<u16, Fault> {
        Ok(self.unsigned(u64::from(u16::MAX))? as u16)
    }

    /// An unsigned integer of 8 bits.
    ///
    /// # Errors
    /// As [`Self::unsigned`].
    pub fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.unsigned(u64::from(u8::MAX))? as u8)
    }

    /// An unsigned integer of 64 bits.
    ///
    /// # Errors
    /// As [`Self::unsigned`].
    pub fn u64(&mut self) -> Result<u64, Fault> {
        self.unsigned(u64::MAX)
    }

    /// A truth value; 0 and 1 are taken as well.
    ///
    /// # Errors
    /// Another type, or the bytes end.
    pub fn boolean(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0xc2 | 0x00 | 0xc0 => Ok(false),
            0xc3 | 0x01 => Ok(true),
            found => Err(Fault::Type { expected: "true or false", found }),
        }
    }

    /// A floating point number; integers are taken as well.
    ///
    /// # Errors
    /// Another type, or the bytes end.
    pub fn float(&mut self) -> Result<f64, Fault> {
        match self.peek()? {
            0xca => {
                self.at += 1;
                Ok(f64::from(f32::from_bits(self.big_endian(4)? as u32)))
            }
            0xcb => {
                self.at += 1;
                Ok(f64::from_bits(self.big_endian(8)?))
            }
            _ => Ok(self.integer()? as f64),
        }
    }

    /// Bytes or a string, whichever type they have; nil is empty.
    ///
    /// # Errors
    /// Another type, or the bytes end.
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let kind = self.byte()?;
        let length = match kind {
            0xa0..=0xbf => u64::from(kind & 0x1f),
            0xd9 | 0xc4 => self.big_endian(1)?,
            0xda | 0xc5 => self.big_endian(2)?,
            0xdb | 0xc6 => self.big_endian(4)?,
            0xc0 => 0,
            found => return Err(Fault::Type { expected: "bytes", found }),
        };
        self.take(length as usize)
    }

    /// A string.
    ///
    /// # Errors
    /// Another type, not UTF-8, or the bytes end.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Text(what))
    }

    /// The length of an array; nil is an empty one. The elements follow.
    ///
    /// # Errors
    /// Another type, more than `max` elements, or the bytes end.
    pub fn array(&mut self, max: u64) -> Result<usize, Fault> {
        let kind = self.byte()?;
        let length = match kind {
            0x90..=0x9f => u64::from(kind & 0x0f),
            0xdc => self.big_endian(2)?,
            0xdd => self.big_endian(4)?,
            0xc0 => 0,
            found => return Err(Fault::Type { expected: "an array", found }),
        };
        bounded("an array", length, max)
    }

    /// The length of a map; nil is an empty one. Keys and values follow in turn.
    ///
    /// # Errors
    /// Another type, more than `max` entries, or the bytes end.
    pub fn map(&mut self, max: u64) -> Result<usize, Fault> {
        let kind = self.byte()?;
        let length = match kind {
            0x80..=0x8f => u64::from(kind & 0x0f),
            0xde => self.big_endian(2)?,
            0xdf => self.big_endian(4)?,
            0xc0 => 0,
            found => return Err(Fault::Type { expected: "a map", found }),
        };
        bounded("a map", length, max)
    }

    /// True, and the value is passed over, if it is nil.
    ///
    /// # Errors
    /// The bytes end.
    pub fn nil(&mut self) -> Result<bool, Fault> {
        let nil = self.peek()? == 0xc0;
        self.at += usize::from(nil);
        Ok(nil)
    }

    /// Passes over a value of any type.
    ///
    /// # Errors
    /// Nested too deeply, or the bytes end.
    pub fn skip(&mut self) -> Result<(), Fault> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::Depth)?;
        let kind = self.byte()?;
        let (bytes, values) = match kind {
            0x00..=0x7f | 0xe0..=0xff | 0xc0..=0xc3 => (0, 0),
            0xa0..=0xbf => (u64::from(kind & 0x1f), 0),
            0x80..=0x8f => (0, 2 * u64::from(kind & 0x0f)),
            0x90..=0x9f => (0, u64::from(kind & 0x0f)),
            0xc4 | 0xd9 => (self.big_endian(1)?, 0),
            0xc5 | 0xda => (self.big_endian(2)?, 0),
            0xc6 | 0xdb => (self.big_endian(4)?, 0),
            // Extensions: a byte of type follows the length.
            0xc7 => (self.big_endian(1)? + 1, 0),
            0xc8 => (self.big_endian(2)? + 1, 0),
            0xc9 => (self.big_endian(4)? + 1, 0),
            0xd4..=0xd8 => ((1 << (kind - 0xd4)) + 1, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xdc => (0, self.big_endian(2)?),
            0xdd => (0, self.big_endian(4)?),
            0xde => (0, 2 * self.big_endian(2)?),
            0xdf => (0, 2 * self.big_endian(4)?),
        };
        self.take(bytes as usize)?;
        // Each value is a byte at least, so a length that is a lie ends with the bytes.
        for _ in 0..values {
            self.skip_within(depth)?;
        }
        Ok(())
    }

    /// Reads a struct: `field` is called with the index in `names` of every field that is there and reads its value.
    /// `names` are in order of declaration, which is the order of the positional form. What is not known is skipped.
    ///
    /// # Errors
    /// Whatever `field` returns, not a struct, or the bytes end.
    pub fn fields(
        &mut self,
        names: &[&str],
        mut field: impl FnMut(usize, &mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if matches!(self.peek()?, 0x90..=0x9f | 0xdc | 0xdd) {
            for index in 0..self.array(u64::from(u16::MAX))? {
                if index < names.len() { field(index, self)? } else { self.skip()? }
            }
            return Ok(());
        }
        for _ in 0..self.map(u64::from(u16::MAX))? {
            let known = match self.peek()? {
                0xa0..=0xbf | 0xd9..=0xdb | 0xc4..=0xc6 => {
                    let key = self.bytes()?;
                    names.iter().position(|name| name.as_bytes() == key)
                }
                _ => {
                    self.skip()?;
                    None
                }
            };
            match known {
                Some(index) => field(index, self)?,
                None => self.skip()?,
            }
        }
        Ok(())
    }
}

fn bounded(what: &'static str, length: u64, max: u64) -> Result<usize, Fault> {
    if length > max { Err(Fault::Length { what, length, max }) } else { Ok(length as usize) }
}

/// Appends an unsigned integer in its shortest form.
pub fn write_unsigned(to: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => to.push(value as u8),
        0x80..=0xff => to.extend([0xcc, value as u8]),
        0x100..=0xffff => {
            to.push(0xcd);
            to.extend((value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            to.push(0xce);
            to.extend((value as u32).to_be_bytes());
        }
        _ => {
            to.push(0xcf);
            to.extend(value.to_be_bytes());
        }
    }
}

/// Appends a signed integer in its shortest form.
pub fn write_signed(to: &mut Vec<u8>, value: i64) {
    match value {
        0.. => write_unsigned(to, value.unsigned_abs()),
        -32..=-1 => to.push(value as u8),
        -128..=-33 => to.extend([0xd0, value as u8]),
        -0x8000..=-129 => {
            to.push(0xd1);
            to.extend((value as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            to.push(0xd2);
            to.extend((value as i32).to_be_bytes());
        }
        _ => {
            to.push(0xd3);
            to.extend(value.to_be_bytes());
        }
    }
}

/// Appends a string or bytes in the old form, which has one type for both.
pub fn write_raw(to: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        length @ 0..=31 => to.push(0xa0 | length as u8),
        length @ 32..=0xffff => {
            to.push(0xda);
            to.extend((length as u16).to_be_bytes());
        }
        length => {
            to.push(0xdb);
            to.extend((length as u32).to_be_bytes());
        }
    }
    to.extend_from_slice(bytes);
}

/// Appends bytes, or nil if there are none: what Go writes for a slice that was never set.
pub fn write_raw_or_nil(to: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() { write_nil(to) } else { write_raw(to, bytes) }
}

/// Appends nil.
pub fn write_nil(to: &mut Vec<u8>) {
    to.push(0xc0);
}

/// Appends a truth value.
pub fn write_boolean(to: &mut Vec<u8>, value: bool) {
    to.push(if value { 0xc3 } else { 0xc2 });
}

/// Appends a floating point number.
pub fn write_float(to: &mut Vec<u8>, value: f64) {
    to.push(0xcb);
    to.extend(value.to_be_bytes());
}

/// Appends the head of an array.
pub fn write_array(to: &mut Vec<u8>, length: usize) {
    match length {
        0..=15 => to.push(0x90 | length as u8),
        16..=0xffff => {
            to.push(0xdc);
            to.extend((length as u16).to_be_bytes());
        }
        _ => {
            to.push(0xdd);
            to.extend((length as u32).to_be_bytes());
        }
    }
}

/// Appends the head of a map.
pub fn write_map(to: &mut Vec<u8>, length: usize) {
    match length {
        0..=15 => to.push(0x80 | length as u8),
        16..=0xffff => {
            to.push(0xde);
            to.extend((length as u16).to_be_bytes());
        }
        _ => {
            to.push(0xdf);
            to.extend((length as u32).to_be_bytes());
        }
    }
}

/// Appends the name of a field.
pub fn write_key(to: &mut Vec<u8>, name: &str) {
    write_raw(to, name.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a, T>(
        bytes: &'a [u8],
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        read(&mut Reader::new(bytes))
    }

    #[test]
    fn both_encodings_of_an_integer_are_read() {
        for bytes in [&[0xcc, 200][..], &[0xcd, 0, 200], &[0xd1, 0, 200], &[0xd2, 0, 0, 0, 200]] {
            assert_eq!(read(bytes, Reader::u32), Ok(200));
        }
        assert_eq!(read(&[0xd3, 0, 0, 0, 0, 0x3b, 0x9a, 0xca, 0], Reader::u64), Ok(1_000_000_000));
        assert_eq!(read(&[0xff], Reader::integer), Ok(-1));
        assert_eq!(read(&[0xd0, 0x80], Reader::u8), Err(Fault::Range { value: -128, max: 255 }));
        assert_eq!(read(&[0xcd, 1, 0], Reader::u8), Err(Fault::Range { value: 256, max: 255 }));
    }

    #[test]
    fn strings_and_bytes_are_read_in_every_form() {
        for bytes in [&b"\xa2hi"[..], b"\xd9\x02hi", b"\xda\0\x02hi", b"\xdb\0\0\0\x02hi", b"\xc4\x02hi"] {
            assert_eq!(read(bytes, |reader| reader.text("a name")), Ok("hi"));
        }
        assert_eq!(read(&[0xc0], Reader::bytes), Ok(&[][..]));
        assert_eq!(read(&[0xa1, 0xff], |reader| reader.text("a name")), Err(Fault::Text("a name")));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let read_bytes = read(&[0xdb, 0xff, 0xff, 0xff, 0xff], Reader::bytes);
        assert_eq!(read_bytes, Err(Fault::Incomplete { needed: 5 + 0xffff_ffff }));
        assert!(read(&[0xdf, 0xff, 0xff, 0xff, 0xff], Reader::skip).is_err());
        let deep = vec![0x91; 100];
        assert_eq!(read(&deep, Reader::skip), Err(Fault::Depth));
    }

    #[test]
    fn structs_are_maps_in_any_order_or_arrays() {
        let parse = |bytes: &[u8]| {
            let (mut a, mut b) = (0, 0);
            let mut reader = Reader::new(bytes);
            reader.fields(&["A", "B"], |index, reader| {
                *if index == 0 { &mut a } else { &mut b } = reader.u8()?;
                Ok(())
            })?;
            Ok::<_, Fault>((a, b, reader.position()))
        };
        assert_eq!(parse(b"\x82\xa1B\x02\xa1A\x01"), Ok((1, 2, 7)));
        assert_eq!(parse(b"\x92\x01\x02rest"), Ok((1, 2, 3)));
        // A key that is a number, an extension, a nested map: passed over.
        assert_eq!(
            parse(b"\x84\x07\x07\xa1X\xd4\x05\x01\xa1Y\x81\xa1Z\xc4\x01\xff\xa1A\x01"),
            Ok((1, 0, 19))
        );
        assert_eq!(parse(b"\xc0"), Ok((0, 0, 1)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: u64, signed: i64, float: f64, bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let mut to = Vec::new();
            write_unsigned(&mut to, value);
            write_signed(&mut to, signed);
            write_float(&mut to, float);
            write_raw(&mut to, &bytes);
            let mut reader = Reader::new(&to);
            prop_assert_eq!(reader.u64()?, value);
            prop_assert_eq!(reader.integer()?, i128::from(signed));
            prop_assert_eq!(reader.float()?.to_bits(), float.to_bits());
            prop_assert_eq!(reader.bytes()?, &bytes[..]);
            let mut again = Reader::new(&to);
            for _ in 0..4 {
                again.skip()?;
            }
            prop_assert_eq!(again.position(), to.len());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while reader.skip().is_ok() {}
            prop_assert!(reader.position() <= bytes.len());
        }
    }
}
