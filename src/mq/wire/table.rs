//! Field tables and arrays, with all types that RabbitMQ reads and writes.
//!
//! A [`Table`] is checked once and then read where it lies: order, duplicate names and types are those of the wire.
//! RabbitMQ's types are not the specification's: <https://www.rabbitmq.com/amqp-0-9-1-errata.html>, section 3.

use super::error::{Error, TableError};
use super::primitive::{Cut, Reader, clipped};
use super::{Output, TABLE_DEPTH_MAX};

/// Names and values in the order of the wire, known to be well formed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Table<'a>(&'a [u8]);

/// Values in the order of the wire, known to be well formed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Array<'a>(&'a [u8]);

/// A value with its type. The letter on the wire stands behind each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`: what RabbitMQ writes.
    I64(i64),
    /// `L`: signed as well, for RabbitMQ.
    L64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` with the point `scale` digits from the right.
    Decimal {
        /// Digits behind the point.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `S`: text, or any bytes.
    Text(&'a [u8]),
    /// `x`
    Bytes(&'a [u8]),
    /// `A`
    Array(Array<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(Table<'a>),
    /// `V`
    Void,
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(text.as_bytes())
    }

    /// The number if it is an integer of any type: RabbitMQ compares arguments by value.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(number) => Some(number.into()),
            Self::U8(number) => Some(number.into()),
            Self::I16(number) => Some(number.into()),
            Self::U16(number) => Some(number.into()),
            Self::I32(number) => Some(number.into()),
            Self::U32(number) => Some(number.into()),
            Self::I64(number) | Self::L64(number) => Some(number),
            Self::Bool(_)
            | Self::F32(_)
            | Self::F64(_)
            | Self::Decimal { .. }
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::Array(_)
            | Self::Timestamp(_)
            | Self::Table(_)
            | Self::Void => None,
        }
    }

    /// The text if it is one, and UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The truth value if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// RabbitMQ's name of the type, as in `received the value '5' of type 'byte'`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) | Self::L64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::Text(_) => "longstr",
            Self::Bytes(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// The value at the front of checked bytes.
    fn read(reader: &mut Reader<'a>) -> Result<Self, TableError> {
        let kind = reader.u8()?;
        Ok(match kind {
            b't' => Self::Bool(reader.u8()? != 0),
            b'b' => Self::I8(i8::from_be_bytes(reader.array()?)),
            b'B' => Self::U8(reader.u8()?),
            b's' => Self::I16(i16::from_be_bytes(reader.array()?)),
            b'u' => Self::U16(reader.u16()?),
            b'I' => Self::I32(i32::from_be_bytes(reader.array()?)),
            b'i' => Self::U32(reader.u32()?),
            b'l' => Self::I64(i64::from_be_bytes(reader.array()?)),
            b'L' => Self::L64(i64::from_be_bytes(reader.array()?)),
            b'f' => Self::F32(f32::from_be_bytes(reader.array()?)),
            b'd' => Self::F64(f64::from_be_bytes(reader.array()?)),
            b'D' => Self::Decimal { scale: reader.u8()?, value: reader.u32()? },
            b'S' => Self::Text(reader.long()?),
            b'x' => Self::Bytes(reader.long()?),
            b'A' => Self::Array(Array(reader.long()?)),
            b'T' => Self::Timestamp(reader.u64()?),
            b'F' => Self::Table(Table(reader.long()?)),
            b'V' => Self::Void,
            _ => return Err(TableError::Type(kind)),
        })
    }

    fn write(&self, out: &mut impl Output) {
        match *self {
            Self::Bool(value) => out.put(&[b't', value.into()]),
            Self::I8(number) => number_of(b'b', number.to_be_bytes(), out),
            Self::U8(number) => out.put(&[b'B', number]),
            Self::I16(number) => number_of(b's', number.to_be_bytes(), out),
            Self::U16(number) => number_of(b'u', number.to_be_bytes(), out),
            Self::I32(number) => number_of(b'I', number.to_be_bytes(), out),
            Self::U32(number) => number_of(b'i', number.to_be_bytes(), out),
            Self::I64(number) => number_of(b'l', number.to_be_bytes(), out),
            Self::L64(number) => number_of(b'L', number.to_be_bytes(), out),
            Self::F32(number) => number_of(b'f', number.to_be_bytes(), out),
            Self::F64(number) => number_of(b'd', number.to_be_bytes(), out),
            Self::Decimal { scale, value } => {
                out.put(&[b'D', scale]);
                out.put(&value.to_be_bytes());
            }
            Self::Text(bytes) => long(b'S', bytes, out),
            Self::Bytes(bytes) => long(b'x', bytes, out),
            Self::Array(Array(bytes)) => long(b'A', bytes, out),
            Self::Timestamp(seconds) => number_of(b'T', seconds.to_be_bytes(), out),
            Self::Table(Table(bytes)) => long(b'F', bytes, out),
            Self::Void => out.put(b"V"),
        }
    }
}

fn number_of<const N: usize>(kind: u8, bytes: [u8; N], out: &mut impl Output) {
    out.put(&[kind]);
    out.put(&bytes);
}

fn long(kind: u8, bytes: &[u8], out: &mut impl Output) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put(&[kind]);
    out.put(&length.to_be_bytes());
    out.put(&bytes[..length as usize]);
}

impl From<Cut> for TableError {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

/// Walks names and values without recursion: the ends of what is open lie in an array.
fn check(bytes: &[u8]) -> Result<(), TableError> {
    /// Where a table or array ends, counted in bytes that are left, and whether its values have names.
    #[derive(Clone, Copy)]
    struct Open {
        left: usize,
        named: bool,
    }
    let mut open = [Open { left: 0, named: true }; TABLE_DEPTH_MAX];
    let mut depth = 0;
    let mut reader = Reader::new(bytes);
    loop {
        let Open { left, named } = open[depth];
        if reader.rest().len() == left {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            continue;
        }
        if named {
            reader.short()?;
        }
        let kind = reader.u8()?;
        match kind {
            b't' | b'b' | b'B' => drop(reader.array::<1>()?),
            b's' | b'u' => drop(reader.array::<2>()?),
            b'I' | b'i' | b'f' => drop(reader.array::<4>()?),
            b'D' => drop(reader.array::<5>()?),
            b'l' | b'L' | b'd' | b'T' => drop(reader.array::<8>()?),
            b'S' | b'x' => drop(reader.long()?),
            b'V' => {}
            b'A' | b'F' => {
                let length = usize::try_from(reader.u32()?).map_err(|_| TableError::Cut)?;
                // It must not reach beyond what it stands in.
                let inner = reader.rest().len().checked_sub(length).filter(|inner| *inner >= left);
                let inner = inner.ok_or(TableError::Cut)?;
                depth += 1;
                *open.get_mut(depth).ok_or(TableError::Depth)? = Open { left: inner, named: kind == b'F' };
            }
            _ => return Err(TableError::Type(kind)),
        }
        if reader.rest().len() < open[depth].left {
            return Err(TableError::Cut);
        }
    }
}

impl<'a> Table<'a> {
    /// A table of checked bytes; the length that stands before it on the wire is not part of them.
    ///
    /// # Errors
    /// It is cut off, has an unknown type, or is nested too deep.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if !bytes.is_empty() {
            check(bytes)?;
        }
        Ok(Self(bytes))
    }

    /// The bytes as on the wire, without the length before them.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// True if it has no entries.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in order. Names are short strings: mostly text, but any bytes.
    pub fn iter(&self) -> Entries<'a> {
        Entries(Reader::new(self.0))
    }

    /// The first value with this name, as RabbitMQ looks them up.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }
}

impl<'a> Array<'a> {
    /// Values in order.
    pub fn iter(&self) -> Values<'a> {
        Values(Reader::new(self.0))
    }

    /// True if it has no values.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for Table<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.iter()
    }
}

/// Names and values of a [`Table`].
#[derive(Debug, Clone)]
pub struct Entries<'a>(Reader<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // None at the end only: the bytes were checked.
        let name = self.0.short().ok()?;
        let value = Value::read(&mut self.0).ok()?;
        Some((name, value))
    }
}

/// Values of an [`Array`].
#[derive(Debug, Clone)]
pub struct Values<'a>(Reader<'a>);

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        // None at the end only: the bytes were checked.
        Value::read(&mut self.0).ok()
    }
}

impl std::fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (String::from_utf8_lossy(name), value)))
            .finish()
    }
}

impl std::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A table that is being written.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TableBuf(Vec<u8>);

impl TableBuf {
    /// An empty table.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The table as it is read.
    pub fn as_table(&self) -> Table<'_> {
        Table(&self.0)
    }

    /// Appends an entry, whether or not there is one with this name. A name over 255 bytes is cut.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: Value<'_>) {
        let name = clipped(name.as_ref());
        self.0.push(name.len() as u8);
        self.0.extend_from_slice(name);
        value.write(&mut self.0);
    }

    /// As [`push`](Self::push), for building in one expression.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: Value<'_>) -> Self {
        self.push(name, value);
        self
    }

    /// Gives the entries with this name a new value: the first one keeps its place, further ones go. Appends it if
    /// there is none.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: Value<'_>) {
        let name = name.as_ref();
        let old = std::mem::take(&mut self.0);
        let mut value = Some(value);
        for (key, had) in Table(&old) {
            match key == name {
                true => drop(value.take().map(|value| self.push(name, value))),
                false => self.push(key, had),
            }
        }
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    /// Removes all entries with this name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref();
        if self.as_table().iter().any(|(key, _)| key == name) {
            let old = std::mem::take(&mut self.0);
            Table(&old).iter().filter(|(key, _)| *key != name).for_each(|(key, value)| self.push(key, value));
        }
    }
}

impl From<Table<'_>> for TableBuf {
    fn from(table: Table<'_>) -> Self {
        Self(table.0.to_vec())
    }
}

impl std::fmt::Debug for TableBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_table().fmt(f)
    }
}

/// An array that is being written.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ArrayBuf(Vec<u8>);

impl ArrayBuf {
    /// An empty array.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The array as it is read.
    pub fn as_array(&self) -> Array<'_> {
        Array(&self.0)
    }

    /// Appends a value.
    pub fn push(&mut self, value: Value<'_>) {
        value.write(&mut self.0);
    }
}

impl<'a> FromIterator<Value<'a>> for ArrayBuf {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(values: I) -> Self {
        let mut array = Self::new();
        values.into_iter().for_each(|value| array.push(value));
        array
    }
}

impl std::fmt::Debug for ArrayBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_array().fmt(f)
    }
}
