//! Bytes of Avro as JSON.

use serde_json::{Map, Number, Value};

use super::{EMPTY_VALUES_MAX, Error, Kind, NESTING_MAX, Schema, Type};

impl Schema {
    /// The value of these bytes, all of them.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, Error> {
        let mut reader = Reader { schema: self, rest: bytes, left: bytes.len() + EMPTY_VALUES_MAX };
        let value = reader.value(&self.root, 0)?;
        if reader.rest.is_empty() { Ok(value) } else { Err(Error::Bytes("there are bytes behind it")) }
    }
}

/// Takes a zigzag number; none when it is cut short or too large.
pub fn take_long(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

/// Reads a value.
struct Reader<'a> {
    schema: &'a Schema,
    rest: &'a [u8],
    /// Values that may still be read.
    left: usize,
}

const SHORT: Error = Error::Bytes("it is cut short");

impl<'a> Reader<'a> {
    fn long(&mut self) -> Result<i64, Error> {
        take_long(&mut self.rest).ok_or(Error::Bytes("a number is cut short or too large"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.long()?;
        self.take(usize::try_from(len).map_err(|_| Error::Bytes("a length is below 0"))?)
    }

    fn text(&mut self) -> Result<String, Error> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| Error::Bytes("a text is not UTF-8"))
    }

    fn value(&mut self, r#type: &Type, depth: usize) -> Result<Value, Error> {
        self.left = self.left.checked_sub(1).ok_or(Error::Bytes("it has too many values"))?;
        if depth > NESTING_MAX {
            return Err(Error::Bytes("it is nested too deeply"));
        }
        Ok(match r#type {
            Type::Null => Value::Null,
            Type::Boolean => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Error::Bytes("a boolean is neither 0 nor 1")),
            },
            Type::Int => {
                let number = i32::try_from(self.long()?);
                number.map_err(|_| Error::Bytes("an int is too large"))?.into()
            }
            Type::Long => self.long()?.into(),
            Type::Float => float(f64::from(f32::from_le_bytes(self.array()?))),
            Type::Double => float(f64::from_le_bytes(self.array()?)),
            Type::Bytes => latin(self.bytes()?),
            Type::String => self.text()?.into(),
            Type::Decimal(scale) => decimal(self.bytes()?, *scale),
            Type::Array(items) => {
                let mut list = Vec::new();
                self.blocks(|reader| {
                    list.push(reader.value(items, depth + 1)?);
                    Ok(())
                })?;
                Value::Array(list)
            }
            Type::Map(values) => {
                let mut map = Map::new();
                self.blocks(|reader| {
                    let key = reader.text()?;
                    map.insert(key, reader.value(values, depth + 1)?);
                    Ok(())
                })?;
                Value::Object(map)
            }
            Type::Union(branches) => {
                let at = usize::try_from(self.long()?).ok();
                let branch = at.and_then(|at| branches.get(at));
                self.value(branch.ok_or(Error::Bytes("a union has no such branch"))?, depth + 1)?
            }
            Type::Named(at) => self.named(*at, depth)?,
        })
    }

    fn named(&mut self, at: usize, depth: usize) -> Result<Value, Error> {
        let schema = self.schema;
        match &schema.named[at].kind {
            Kind::Record(fields) => {
                let mut object = Map::new();
                for field in fields {
                    object.insert(field.name.clone(), self.value(&field.r#type, depth + 1)?);
                }
                Ok(Value::Object(object))
            }
            Kind::Enum(symbols) => {
                let at = usize::try_from(self.long()?).ok();
                let symbol = at.and_then(|at| symbols.get(at));
                Ok(symbol.ok_or(Error::Bytes("an enum has no such symbol"))?.as_str().into())
            }
            Kind::Fixed(size, None) => Ok(latin(self.take(*size)?)),
            Kind::Fixed(size, Some(scale)) => Ok(decimal(self.take(*size)?, *scale)),
        }
    }

    /// Items in blocks: a count, below 0 with the size in bytes after it; 0 ends them.
    fn blocks(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                each(self)?;
            }
        }
    }
}

fn float(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

fn latin(bytes: &[u8]) -> Value {
    bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()
}

/// Digits with a point; bytes that no number here holds stay bytes.
pub(super) fn decimal(bytes: &[u8], scale: u32) -> Value {
    if bytes.is_empty() || bytes.len() > 16 {
        return latin(bytes);
    }
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    let number = i128::from_be_bytes(wide);
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale as usize + 1);
    let (whole, part) = digits.split_at(digits.len() - scale as usize);
    let minus = if number < 0 { "-" } else { "" };
    let point = if part.is_empty() { "" } else { "." };
    format!("{minus}{whole}{point}{part}").into()
}
