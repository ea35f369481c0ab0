//! JSON as bytes of Avro.

use serde_json::Value;

use super::{Error, Kind, NESTING_MAX, Named, Schema, Type};

impl Schema {
    /// Appends the bytes of a value.
    ///
    /// # Errors
    /// It does not fit; some of it may have been appended.
    pub fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
        self.put(&self.root, value, 0, out)
    }
}

/// Appends a zigzag number.
pub fn put_long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn digits(text: &str, scale: u32) -> Option<i128> {
    let (minus, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(part) || part.len() > scale as usize || whole.len() + part.len() == 0 {
        return None;
    }
    let number: i128 = format!("{whole}{part:0<width$}", width = scale as usize).parse().ok()?;
    Some(if minus { -number } else { number })
}

/// The fewest bytes of a number, or so many.
fn two_complement(number: i128, size: Option<usize>) -> Option<Vec<u8>> {
    let wide = number.to_be_bytes();
    let sign = if number < 0 { 0xff } else { 0 };
    let needed = (1..=16).find(|len| {
        let (head, tail) = wide.split_at(16 - len);
        head.iter().all(|byte| *byte == sign) && (tail[0] & 0x80 == sign & 0x80)
    })?;
    let size = size.unwrap_or(needed);
    let mut out = vec![sign; size.checked_sub(needed)?];
    out.extend_from_slice(&wide[16 - needed..]);
    Some(out)
}

fn wrong(expected: &str, value: &Value) -> Error {
    let mut text = value.to_string();
    if text.chars().count() > 40 {
        text = text.chars().take(40).chain("…".chars()).collect();
    }
    Error::Json { path: String::new(), why: format!("expected {expected}, found {text}") }
}

fn within(error: Error, name: &str) -> Error {
    match error {
        Error::Json { path, why } => {
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            Error::Json { path: format!("{name}{dot}{path}"), why }
        }
        other => other,
    }
}

impl Schema {
    fn put(&self, r#type: &Type, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        if depth > NESTING_MAX {
            return Err(wrong("less nesting", value));
        }
        match r#type {
            Type::Null if value.is_null() => {}
            Type::Null => return Err(wrong("null", value)),
            Type::Boolean => out.push(value.as_bool().ok_or_else(|| wrong("true or false", value))?.into()),
            Type::Int => {
                let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
                put_long(number.ok_or_else(|| wrong("an int", value))?.into(), out);
            }
            Type::Long => put_long(value.as_i64().ok_or_else(|| wrong("a long", value))?, out),
            Type::Float => {
                let number = number(value).ok_or_else(|| wrong("a float", value))?;
                out.extend_from_slice(&(number as f32).to_le_bytes());
            }
            Type::Double => {
                let number = number(value).ok_or_else(|| wrong("a double", value))?;
                out.extend_from_slice(&number.to_le_bytes());
            }
            Type::Bytes => put_bytes(&of_latin(value).ok_or_else(|| wrong("bytes", value))?, out),
            Type::String => {
                put_bytes(value.as_str().ok_or_else(|| wrong("a string", value))?.as_bytes(), out);
            }
            Type::Decimal(scale) => put_bytes(&of_decimal(value, *scale, None)?, out),
            Type::Array(items) => {
                let list = value.as_array().ok_or_else(|| wrong("an array", value))?;
                if !list.is_empty() {
                    put_long(list.len() as i64, out);
                }
                for (at, item) in list.iter().enumerate() {
                    self.put(items, item, depth + 1, out).map_err(|it| within(it, &format!("[{at}]")))?;
                }
                out.push(0);
            }
            Type::Map(values) => {
                let map = value.as_object().ok_or_else(|| wrong("a map", value))?;
                if !map.is_empty() {
                    put_long(map.len() as i64, out);
                }
                for (key, item) in map {
                    put_bytes(key.as_bytes(), out);
                    self.put(values, item, depth + 1, out).map_err(|it| within(it, key))?;
                }
                out.push(0);
            }
            Type::Union(branches) => return self.put_union(branches, value, depth, out),
            Type::Named(at) => return self.put_named(*at, value, depth, out),
        }
        Ok(())
    }

    /// The first branch of which the value has the shape; or the one that it names, as in Avro's own JSON. Which one is seen
    /// without a look inside of it: trying would take twice as long with each level.
    fn put_union(
        &self,
        branches: &[Type],
        value: &Value,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let named = value.as_object().filter(|it| it.len() == 1).and_then(|it| it.iter().next());
        let named = named.and_then(|(name, inner)| {
            Some((branches.iter().position(|branch| self.is_called(branch, name))?, inner))
        });
        let is_map = |at: &usize| matches!(branches[*at], Type::Map(_));
        // Any object has the shape of a map: that is looked at last.
        let shaped = (0..branches.len()).find(|at| !is_map(at) && self.has_shape(&branches[*at], value));
        let map = (0..branches.len()).find(is_map).filter(|_| value.is_object());
        // With null and one other, what is wrong with that one says most.
        let mut others = (0..branches.len()).filter(|at| branches[*at] != Type::Null);
        let only = others.next().filter(|_| others.next().is_none() && !value.is_null());
        let (at, value) = match (shaped, named, map.or(only)) {
            (Some(at), ..) => (at, value),
            (None, Some(named), _) => named,
            (None, None, Some(at)) => (at, value),
            (None, None, None) => {
                let names: Vec<&str> = branches.iter().map(|branch| self.name_of(branch)).collect();
                return Err(wrong(&format!("one of {}", names.join(", ")), value));
            }
        };
        put_long(at as i64, out);
        self.put(&branches[at], value, depth + 1, out)
    }

    /// Whether a value may be of a type, by its kind, and of records by the names of their fields.
    fn has_shape(&self, r#type: &Type, value: &Value) -> bool {
        match r#type {
            Type::Null => value.is_null(),
            Type::Boolean => value.is_boolean(),
            Type::Int => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Type::Long => value.is_i64(),
            Type::Float | Type::Double => number(value).is_some(),
            Type::Bytes => of_latin(value).is_some(),
            Type::String => value.is_string(),
            Type::Decimal(scale) => of_decimal(value, *scale, None).is_ok(),
            Type::Array(_) => value.is_array(),
            Type::Map(_) => value.is_object(),
            // A union is in no other one.
            Type::Union(_) => false,
            Type::Named(at) => match &self.named[*at].kind {
                Kind::Record(fields) => value.as_object().is_some_and(|object| {
                    object.keys().all(|key| fields.iter().any(|it| it.name == **key))
                        && fields.iter().all(|it| it.default.is_some() || object.contains_key(&it.name))
                }),
                Kind::Enum(symbols) => symbols.iter().any(|symbol| value.as_str() == Some(symbol)),
                Kind::Fixed(size, Some(scale)) => of_decimal(value, *scale, Some(*size)).is_ok(),
                Kind::Fixed(size, None) => of_latin(value).is_some_and(|bytes| bytes.len() == *size),
            },
        }
    }

    fn is_called(&self, r#type: &Type, name: &str) -> bool {
        let own = self.name_of(r#type);
        own == name || own.rsplit_once('.').is_some_and(|(_, short)| short == name)
    }

    fn name_of<'a>(&'a self, r#type: &Type) -> &'a str {
        match r#type {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Int => "int",
            Type::Long => "long",
            Type::Float => "float",
            Type::Double => "double",
            Type::Bytes | Type::Decimal(_) => "bytes",
            Type::String => "string",
            Type::Array(_) => "array",
            Type::Map(_) => "map",
            Type::Union(_) => "union",
            Type::Named(at) => &self.named[*at].name,
        }
    }

    fn put_named(&self, at: usize, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let Named { name, kind } = &self.named[at];
        match kind {
            Kind::Record(fields) => {
                let object = value.as_object().ok_or_else(|| wrong(&format!("a record {name}"), value))?;
                if let Some(unknown) = object.keys().find(|key| !fields.iter().any(|it| it.name == **key)) {
                    let why = format!("record {name} has no such field");
                    return Err(Error::Json { path: unknown.clone(), why });
                }
                for field in fields {
                    let given = object.get(&field.name).or(field.default.as_ref());
                    let missing =
                        || Error::Json { path: field.name.clone(), why: "it is missing".to_owned() };
                    let given = given.ok_or_else(missing)?;
                    self.put(&field.r#type, given, depth + 1, out).map_err(|it| within(it, &field.name))?;
                }
            }
            Kind::Enum(symbols) => {
                let at = symbols.iter().position(|symbol| value.as_str() == Some(symbol));
                let at = at.ok_or_else(|| wrong(&format!("one of {}", symbols.join(", ")), value))?;
                put_long(at as i64, out);
            }
            Kind::Fixed(size, scale) => {
                let bytes = match scale {
                    Some(scale) => of_decimal(value, *scale, Some(*size))?,
                    None => of_latin(value).ok_or_else(|| wrong("bytes", value))?,
                };
                if bytes.len() != *size {
                    return Err(wrong(&format!("{size} bytes"), value));
                }
                out.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

fn of_latin(value: &Value) -> Option<Vec<u8>> {
    value.as_str()?.chars().map(|letter| u8::try_from(letter).ok()).collect()
}

pub(super) fn of_decimal(value: &Value, scale: u32, size: Option<usize>) -> Result<Vec<u8>, Error> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number = digits(&text, scale).and_then(|number| two_complement(number, size));
    number.ok_or_else(|| wrong(&format!("a decimal with at most {scale} digits after the point"), value))
}
