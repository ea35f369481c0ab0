//! Avro's binary encoding (Avro 1.12, "Binary Encoding") and JSON, by a schema. Pure.
//!
//! A value of a union stands in JSON as it is: `"x"` and not `{"string":"x"}`; when written, both are taken. Bytes are text of
//! the letters U+0000 to U+00FF, as in Avro's own JSON. Decimals are text of digits.

mod read;
mod write;

use std::collections::HashMap;

use serde_json::{Map, Value};

pub use self::read::take_long;
pub use self::write::put_long;

/// Nesting of values and schemas over which they are refused.
const NESTING_MAX: usize = 64;
/// Values of no bytes at all that may be in one record beside those that have some.
const EMPTY_VALUES_MAX: usize = 100_000;
/// Bytes of a `fixed` over which a schema is refused: one that names such a field often makes much of few bytes.
const FIXED_BYTES_MAX: usize = 1024 * 1024;

/// Why something is no schema, or no value of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no Avro schema.
    #[error("not an Avro schema: {0}")]
    Schema(String),
    /// The bytes are no value of it.
    #[error("not of this Avro schema: {0}")]
    Bytes(&'static str),
    /// The JSON is no value of it.
    #[error("{}{}", at(.path), .why)]
    Json {
        /// The field.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// A schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    root: Type,
    named: Vec<Named>,
}

#[derive(Debug, Clone, PartialEq)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// Digits after the point, of bytes.
    Decimal(u32),
    Array(Box<Self>),
    Map(Box<Self>),
    Union(Vec<Self>),
    /// A record, an enum, or a fixed number of bytes.
    Named(usize),
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed(usize, Option<u32>),
}

#[derive(Debug, Clone, PartialEq)]
struct Named {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    r#type: Type,
    default: Option<Value>,
}

fn schema_error(why: impl Into<String>) -> Error {
    Error::Schema(why.into())
}

impl Schema {
    /// Reads a schema, with the texts of those that it refers to, in any order.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, Error> {
        let mut parser = Parser::default();
        let mut open: Vec<&String> = references.iter().collect();
        while !open.is_empty() {
            let (count, mut last) = (open.len(), None);
            // They refer to each other in an order that nobody tells.
            open.retain(|reference| {
                let mut attempt = parser.clone();
                match attempt.text(reference) {
                    Ok(_) => {
                        parser = attempt;
                        false
                    }
                    Err(error) => {
                        last = Some(error);
                        true
                    }
                }
            });
            if let Some(error) = last.filter(|_| open.len() == count) {
                return Err(error);
            }
        }
        let root = parser.text(text)?;
        Ok(Self { root, named: parser.named })
    }
}

/// Reads schemas; names that were defined may be used.
#[derive(Default, Clone)]
struct Parser {
    named: Vec<Named>,
    by_name: HashMap<String, usize>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<Type, Error> {
        // A bare name of a primitive type is no JSON, and is often written.
        let value = serde_json::from_str(text).or_else(|error| match text.trim() {
            word if word.chars().all(char::is_alphabetic) => Ok(Value::from(word)),
            _ => Err(schema_error(error.to_string())),
        })?;
        self.r#type(&value, "", 0)
    }

    fn r#type(&mut self, schema: &Value, space: &str, depth: usize) -> Result<Type, Error> {
        if depth > NESTING_MAX {
            return Err(schema_error("it is nested too deeply"));
        }
        match schema {
            Value::String(name) => self.name(name, space),
            Value::Array(branches) => {
                let each = branches.iter().map(|branch| self.r#type(branch, space, depth + 1));
                Ok(Type::Union(each.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => self.object(object, space, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                Err(schema_error(format!("{schema} is no type")))
            }
        }
    }

    fn name(&self, name: &str, space: &str) -> Result<Type, Error> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let full = full_name(name, space);
                let found = self.by_name.get(&full).or_else(|| self.by_name.get(name));
                Type::Named(*found.ok_or_else(|| schema_error(format!("there is no type '{full}'")))?)
            }
        })
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str, depth: usize) -> Result<Type, Error> {
        let scale = decimal_scale(object);
        let part = |name: &str| object.get(name).ok_or_else(|| schema_error(format!("'{name}' is missing")));
        let kind = match part("type")? {
            Value::String(kind) => kind.as_str(),
            nested => return self.r#type(nested, space, depth + 1),
        };
        match (kind, scale) {
            ("bytes", Some(scale)) => return Ok(Type::Decimal(scale)),
            ("array", _) => {
                return Ok(Type::Array(Box::new(self.r#type(part("items")?, space, depth + 1)?)));
            }
            ("map", _) => return Ok(Type::Map(Box::new(self.r#type(part("values")?, space, depth + 1)?))),
            ("record" | "error" | "enum" | "fixed", _) => {}
            (name, _) => return self.name(name, space),
        }
        let name = part("name")?.as_str().ok_or_else(|| schema_error("a name is text"))?;
        let own = object.get("namespace").and_then(Value::as_str).unwrap_or(space);
        let full = full_name(name, own);
        let inner = full.rsplit_once('.').map_or("", |(inner, _)| inner).to_owned();
        let at = self.named.len();
        // Known before its fields are read: they may be of its own type.
        self.named.push(Named { name: full.clone(), kind: Kind::Enum(Vec::new()) });
        self.by_name.insert(full, at);
        let list =
            |name: &str| part(name)?.as_array().ok_or_else(|| schema_error(format!("'{name}' is no list")));
        self.named[at].kind = match kind {
            "enum" => {
                let symbols = list("symbols")?.iter().map(|it| it.as_str().map(str::to_owned));
                Kind::Enum(symbols.collect::<Option<_>>().ok_or_else(|| schema_error("a symbol is text"))?)
            }
            "fixed" => {
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.filter(|size| *size <= FIXED_BYTES_MAX);
                let wrong = || schema_error(format!("a size is a number up to {FIXED_BYTES_MAX}"));
                Kind::Fixed(size.ok_or_else(wrong)?, scale)
            }
            _ => {
                let mut fields = Vec::new();
                for field in list("fields")? {
                    let name = field["name"].as_str().ok_or_else(|| schema_error("a field has no name"))?;
                    let r#type = self.r#type(&field["type"], &inner, depth + 1)?;
                    fields.push(Field {
                        name: name.to_owned(),
                        r#type,
                        default: field.get("default").cloned(),
                    });
                }
                Kind::Record(fields)
            }
        };
        Ok(Type::Named(at))
    }
}

fn decimal_scale(object: &Map<String, Value>) -> Option<u32> {
    let is_decimal = object.get("logicalType").and_then(Value::as_str) == Some("decimal");
    let scale = object.get("scale").and_then(Value::as_u64).unwrap_or(0);
    // More digits than this have no number here that could hold them.
    is_decimal.then(|| u32::try_from(scale).ok()).flatten().filter(|scale| *scale <= 38)
}

fn full_name(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::read::decimal;
    use super::write::of_decimal;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":"long"},
        {"name":"note","type":["null","string"],"default":null},
        {"name":"state","type":{"type":"enum","name":"State","symbols":["OPEN","PAID"]}},
        {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
            {"name":"sku","type":"string"},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}}},
        {"name":"tags","type":{"type":"map","values":"string"}},
        {"name":"hash","type":{"type":"fixed","name":"Hash","size":2}},
        {"name":"parent","type":["null","Order"],"default":null},
        {"name":"score","type":"double"}]}"#;

    fn order() -> Value {
        json!({"id": -7, "note": "hi", "state": "PAID",
            "lines": [{"sku": "a", "price": "12.50"}, {"sku": "b", "price": "-0.05"}],
            "tags": {"x": "y"}, "hash": "\u{0}\u{ff}", "parent": null, "score": 0.5})
    }

    #[test]
    fn a_record_goes_round() {
        let schema = Schema::parse(ORDER, &[]).unwrap();
        let mut inner = order();
        inner["parent"] = order();
        let mut bytes = Vec::new();
        schema.encode(&inner, &mut bytes).unwrap();
        assert_eq!(schema.decode(&bytes).unwrap(), inner);
        // Defaults fill in; a branch may be named.
        let mut short = order();
        let object = short.as_object_mut().unwrap();
        object.remove("parent");
        object.insert("note".to_owned(), json!({"string": "hi"}));
        let mut bytes = Vec::new();
        schema.encode(&short, &mut bytes).unwrap();
        assert_eq!(schema.decode(&bytes).unwrap(), order());
    }

    /// The example of the specification: a = 27, b = "foo".
    #[test]
    fn bytes_are_those_of_the_specification() {
        let text = r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
        let schema = Schema::parse(text, &[]).unwrap();
        let mut bytes = Vec::new();
        schema.encode(&json!({"a": 27, "b": "foo"}), &mut bytes).unwrap();
        assert_eq!(bytes, [0x36, 0x06, 0x66, 0x6f, 0x6f]);
        let schema = Schema::parse(r#"{"type":"array","items":"long"}"#, &[]).unwrap();
        let mut bytes = Vec::new();
        schema.encode(&json!([3, 27]), &mut bytes).unwrap();
        assert_eq!(bytes, [0x04, 0x06, 0x36, 0x00]);
        // A block with its size, as writers of large arrays have it.
        assert_eq!(schema.decode(&[0x03, 0x04, 0x06, 0x36, 0x00]).unwrap(), json!([3, 27]));
        for (number, bytes) in
            [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-64, vec![0x7f]), (64, vec![0x80, 1])]
        {
            let mut out = Vec::new();
            put_long(number, &mut out);
            assert_eq!(out, bytes);
        }
    }

    /// As fastavro 1.12 writes the same record.
    #[test]
    fn bytes_are_those_of_another_implementation() {
        let schema = Schema::parse(ORDER, &[]).unwrap();
        let golden = b"\x0d\x02\x04hi\x02\x04\x02a\x04\x04\xe2\x02b\x02\xfb\0\x02\x02x\x02y\0\0\xff\0\0\0\0\0\0\0\xe0\x3f";
        let mut bytes = Vec::new();
        schema.encode(&order(), &mut bytes).unwrap();
        assert_eq!(bytes, golden);
        assert_eq!(schema.decode(golden).unwrap(), order());
    }

    #[test]
    fn what_does_not_fit_names_the_field() {
        let schema = Schema::parse(ORDER, &[]).unwrap();
        let fails = |change: fn(&mut Value)| {
            let mut value = order();
            change(&mut value);
            schema.encode(&value, &mut Vec::new()).unwrap_err().to_string()
        };
        assert_eq!(fails(|it| it["id"] = json!("x")), "id: expected a long, found \"x\"");
        assert_eq!(fails(|it| it["lines"][1]["sku"] = json!(1)), "lines[1].sku: expected a string, found 1");
        assert_eq!(fails(|it| it["note"] = json!(1)), "note: expected a string, found 1");
        assert_eq!(fails(|it| it["state"] = json!("?")), "state: expected one of OPEN, PAID, found \"?\"");
        assert_eq!(fails(|it| it["more"] = json!(1)), "more: record shop.Order has no such field");
        assert_eq!(fails(|it| drop(it.as_object_mut().unwrap().remove("id"))), "id: it is missing");
        assert!(fails(|it| it["lines"][0]["price"] = json!("1.234")).contains("at most 2 digits"));
        assert!(Schema::parse("{\"type\":\"nope\"}", &[]).is_err() && Schema::parse("[", &[]).is_err());
        assert!(
            Schema::parse("string", &[]).is_ok()
                && Schema::parse("\"shop.Order\"", &[ORDER.to_owned()]).is_ok()
        );
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (text, scale, bytes) in [
            ("0", 0, vec![0]),
            ("1.27", 2, vec![0x7f]),
            ("1.28", 2, vec![0, 0x80]),
            ("-1.28", 2, vec![0x80]),
            ("0.05", 2, vec![5]),
        ] {
            assert_eq!(of_decimal(&json!(text), scale, None).unwrap(), bytes, "{text}");
            assert_eq!(decimal(&bytes, scale), json!(text));
        }
        assert_eq!(of_decimal(&json!(-1), 0, Some(3)).unwrap(), [0xff, 0xff, 0xff]);
        assert_eq!(of_decimal(&json!(1.5), 1, None).unwrap(), [15]);
    }

    #[test]
    fn claims_of_bytes_are_checked() {
        let nulls = Schema::parse(r#"{"type":"array","items":"null"}"#, &[]).unwrap();
        let mut bytes = Vec::new();
        put_long(i64::MAX, &mut bytes);
        assert_eq!(nulls.decode(&bytes), Err(Error::Bytes("it has too many values")));
        let own =
            Schema::parse(r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#, &[]).unwrap();
        assert_eq!(own.decode(&[]), Err(Error::Bytes("it is nested too deeply")));
        let text = Schema::parse("string", &[]).unwrap();
        assert!(text.decode(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_err());
        assert!(text.decode(b"\x02ab").is_err() && text.decode(b"\x02\xff").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in ".{0,40}") {
            let _ = Schema::parse(ORDER, &[]).unwrap().decode(&bytes);
            let _ = Schema::parse(&text, &[]);
        }

        #[test]
        fn numbers_go_round(number: i64) {
            let mut out = Vec::new();
            put_long(number, &mut out);
            prop_assert_eq!(take_long(&mut &out[..]), Some(number));
        }
    }
}
