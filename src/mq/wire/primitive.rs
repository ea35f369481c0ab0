//! The elementary types of AMQP 0-9-1, 4.2.5, read from a slice and appended to a buffer.

use super::error::SHORT_SIZE_MAX;
use super::{Error, Output, Table};

/// Bytes ended too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

/// Takes values from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The octet that bits are taken from, and how many were.
    bits: u8,
    bits_taken: u8,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, bits: 0, bits_taken: 0 }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Cut> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Cut)?;
        self.rest = rest;
        self.bits_taken = 0;
        Ok(*taken)
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Cut> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Cut)?;
        self.rest = rest;
        self.bits_taken = 0;
        Ok(taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Cut> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Cut> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Cut> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, Cut> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length of one byte, and as many bytes.
    #[inline]
    pub fn short(&mut self) -> Result<&'a [u8], Cut> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A length of four bytes, and as many bytes.
    #[inline]
    pub fn long(&mut self) -> Result<&'a [u8], Cut> {
        let length = usize::try_from(self.u32()?).map_err(|_| Cut)?;
        self.take(length)
    }

    /// Bits that follow each other share octets, lowest first.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Cut> {
        if self.bits_taken == 0 || self.bits_taken == 8 {
            self.bits = self.u8()?;
        }
        let bit = self.bits & (1 << (self.bits_taken % 8)) != 0;
        self.bits_taken = self.bits_taken % 8 + 1;
        Ok(bit)
    }
}

/// Appends values to a buffer.
#[derive(Debug)]
pub struct Writer<'a, O> {
    out: &'a mut O,
    bits: u8,
    bits_given: u8,
}

impl<'a, O: Output> Writer<'a, O> {
    pub fn new(out: &'a mut O) -> Self {
        Self { out, bits: 0, bits_given: 0 }
    }

    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.end_bits();
        self.out.put(bytes);
    }

    /// A short string, cut at 255 bytes.
    #[inline]
    pub fn short(&mut self, bytes: &[u8]) {
        let bytes = clipped(bytes);
        self.put(&[bytes.len() as u8]);
        self.out.put(bytes);
    }

    /// A long string, cut at 4 GiB.
    #[inline]
    pub fn long(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&length.to_be_bytes());
        self.out.put(&bytes[..length as usize]);
    }

    #[inline]
    pub fn bit(&mut self, bit: bool) {
        self.bits |= u8::from(bit) << self.bits_given;
        self.bits_given += 1;
        if self.bits_given == 8 {
            self.end_bits();
        }
    }

    /// To be called after the last field.
    #[inline]
    pub fn end_bits(&mut self) {
        if self.bits_given > 0 {
            self.out.put(&[self.bits]);
            (self.bits, self.bits_given) = (0, 0);
        }
    }
}

/// At most 255 bytes, not cut within a character.
pub fn clipped(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= SHORT_SIZE_MAX {
        return bytes;
    }
    let continues = |at: usize| bytes[at] & 0xC0 == 0x80;
    // A character has at most three bytes that continue it; what has more is not text.
    let cut = (SHORT_SIZE_MAX - 3..=SHORT_SIZE_MAX).rev().find(|at| !continues(*at));
    &bytes[..cut.unwrap_or(SHORT_SIZE_MAX)]
}

/// Why a field cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldError {
    /// The arguments end too early.
    Cut,
    /// The field itself is wrong.
    Refused(Error),
}

impl From<Cut> for FieldError {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

/// A bit, an octet, a string: what the arguments of methods are made of.
pub trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError>;
    fn write<O: Output>(&self, writer: &mut Writer<'_, O>);
}

/// A string with a length of four bytes: any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Long<'a>(pub &'a [u8]);

impl<'a> Field<'a> for bool {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError> {
        Ok(reader.bit()?)
    }

    #[inline]
    fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
        writer.bit(*self);
    }
}

macro_rules! number {
    ($($number:ident),*) => {$(
        impl<'a> Field<'a> for $number {
            #[inline]
            fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError> {
                Ok(reader.$number()?)
            }

            #[inline]
            fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
                writer.put(&self.to_be_bytes());
            }
        }
    )*};
}

number!(u8, u16, u32, u64);

/// A short string that has to be UTF-8: names.
impl<'a> Field<'a> for &'a str {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError> {
        std::str::from_utf8(reader.short()?).map_err(|_| FieldError::Refused(Error::Utf8))
    }

    #[inline]
    fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
        writer.short(self.as_bytes());
    }
}

/// A short string that may be any bytes: the routing keys of messages, which RabbitMQ does not look into.
impl<'a> Field<'a> for &'a [u8] {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError> {
        Ok(reader.short()?)
    }

    #[inline]
    fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
        writer.short(self);
    }
}

impl<'a> Field<'a> for Long<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError> {
        Ok(Self(reader.long()?))
    }

    #[inline]
    fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
        writer.long(self.0);
    }
}

impl<'a> Field<'a> for Table<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, FieldError> {
        let bytes = reader.long()?;
        Table::parse(bytes).map_err(FieldError::Refused)
    }

    #[inline]
    fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
        writer.long(self.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_share_octets_lowest_first() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let bits = [true, false, true, false, false, false, false, true, true];
        bits.iter().for_each(|bit| writer.bit(*bit));
        7u8.write(&mut writer);
        writer.bit(true);
        writer.end_bits();
        assert_eq!(out, [0b1000_0101, 1, 7, 1]);
        let mut reader = Reader::new(&out);
        assert_eq!([(); 9].map(|()| reader.bit().unwrap()), bits);
        assert_eq!(reader.u8(), Ok(7));
        assert_eq!(reader.bit(), Ok(true));
        assert_eq!(reader.bit(), Ok(false));
        assert!(reader.rest().is_empty());
    }

    #[test]
    fn short_strings_are_cut_between_characters() {
        assert_eq!(clipped("é".repeat(200).as_bytes()).len(), 254);
        assert_eq!(clipped(&[b'x'; 300]).len(), 255);
        assert_eq!(clipped(&[0x80; 300]).len(), 255);
    }
}
