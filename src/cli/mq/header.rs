//! Headers of AMQP's types as the text and JSON that people and other tools read, and back without loss.
//!
//! A header is text in the envelope, whatever its type: `"headers":{"count":"3"}`. The type stands beside it, and
//! only where it is not text: `"header_types":{"count":"int32"}`. Tables and arrays are JSON text; within them the
//! types stand where JSON's own are not those meant (text, int64, double, bool, void, table, array).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Number, Value as Json};

use crate::mq::wire::{ArrayBuf, Table, TableBuf, Value};

/// The types of a header within a table or array that JSON says by itself.
const TABLE: &str = "table";
const ARRAY: &str = "array";
/// A value as on the wire, type and all: what JSON has no room for, such as a name twice in a table.
const WIRE: &str = "wire";

/// A header in the envelope: its bytes, and its type if it is not text.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    /// `None` for a header without a value.
    pub value: Option<Bytes>,
    /// `"int32"`, or a tree of them; `None` for the type that the bytes have by themselves.
    pub kind: Option<Json>,
}

/// The name of a simple type.
fn name_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::I8(_) => "int8",
        Value::U8(_) => "uint8",
        Value::I16(_) => "int16",
        Value::U16(_) => "uint16",
        Value::I32(_) => "int32",
        Value::U32(_) => "uint32",
        Value::I64(_) => "int64",
        // The specification's letter; RabbitMQ reads it as the other one.
        Value::L64(_) => "int64L",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::Text(_) => "text",
        Value::Bytes(_) => "bytes",
        Value::Array(_) => ARRAY,
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => TABLE,
        Value::Void => "void",
    }
}

/// All names of types that a person may write.
pub const TYPES: &[&str] = &[
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "int64L",
    "float",
    "double",
    "decimal",
    "text",
    "bytes",
    "timestamp",
    "void",
    TABLE,
    ARRAY,
];

/// The header in the envelope.
pub fn plain(value: &Value<'_>) -> Plain {
    let typed = |text: String| Plain { value: Some(text.into()), kind: Some(name_of(value).into()) };
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => {
            let is_text = std::str::from_utf8(bytes).is_ok();
            let by_itself = matches!(value, Value::Text(_)) == is_text;
            let kind = (!by_itself).then(|| name_of(value).into());
            Plain { value: Some(Bytes::copy_from_slice(bytes)), kind }
        }
        Value::Void => Plain { value: None, kind: None },
        Value::Array(_) | Value::Table(_) => nested(value).map_or_else(
            || Plain { value: Some(on_the_wire(value).into()), kind: Some(WIRE.into()) },
            |(json, kind)| {
                let kind = kind.unwrap_or_else(|| name_of(value).into());
                Plain { value: Some(json.to_string().into()), kind: Some(kind) }
            },
        ),
        Value::Decimal { scale, value } => typed(decimal(*scale, *value)),
        Value::Bool(value) => typed(value.to_string()),
        Value::F32(number) => typed(number.to_string()),
        Value::F64(number) => typed(number.to_string()),
        Value::Timestamp(seconds) => typed(seconds.to_string()),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_)
        | Value::L64(_) => typed(value.as_integer().unwrap_or_default().to_string()),
    }
}

/// A value within a table or array, and its type if JSON does not tell. `None` for what JSON has no room for.
fn nested(value: &Value<'_>) -> Option<(Json, Option<Json>)> {
    let typed = |json: Json| Some((json, Some(Json::from(name_of(value)))));
    match *value {
        Value::Bool(value) => Some((value.into(), None)),
        Value::I64(number) => Some((number.into(), None)),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::L64(_) => typed(value.as_integer()?.into()),
        Value::F64(number) => {
            // JSON text is read to the nearest double almost always.
            let exact =
                |json: &Number| json.to_string().parse::<Json>().ok()?.as_f64().filter(|it| *it == number);
            match Number::from_f64(number).filter(|json| exact(json).is_some()) {
                Some(number) => Some((number.into(), None)),
                None => typed(number.to_string().into()),
            }
        }
        Value::F32(number) => typed(number.to_string().into()),
        Value::Decimal { scale, value } => typed(decimal(scale, value).into()),
        Value::Timestamp(seconds) => typed(seconds.into()),
        Value::Text(bytes) => Some((std::str::from_utf8(bytes).ok()?.into(), None)),
        Value::Bytes(bytes) => typed(BASE64.encode(bytes).into()),
        Value::Void => Some((Json::Null, None)),
        Value::Array(array) => {
            let mut kinds = Vec::new();
            let mut values = Vec::new();
            for value in array {
                let (json, kind) = nested(&value)?;
                values.push(json);
                kinds.push(kind);
            }
            let any = kinds.iter().any(Option::is_some);
            let kinds = any.then(|| kinds.into_iter().map(|kind| kind.unwrap_or(Json::Null)).collect());
            Some((Json::Array(values), kinds.map(Json::Array)))
        }
        Value::Table(table) => {
            let (mut values, mut kinds) = (Map::new(), Map::new());
            for (name, value) in table {
                let name = std::str::from_utf8(name).ok()?;
                let (json, kind) = nested(&value)?;
                if values.insert(name.to_owned(), json).is_some() {
                    return None;
                }
                kind.map(|kind| kinds.insert(name.to_owned(), kind));
            }
            Some((Json::Object(values), (!kinds.is_empty()).then_some(Json::Object(kinds))))
        }
    }
}

/// Type and bytes of a value as on the wire.
fn on_the_wire(value: &Value<'_>) -> Vec<u8> {
    let mut table = TableBuf::new();
    table.push("", *value);
    table.as_table().as_bytes()[1..].to_vec()
}

fn decimal(scale: u8, value: u32) -> String {
    let scale = usize::from(scale);
    let digits = format!("{value:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

fn parse_decimal(text: &str) -> Option<Value<'static>> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let scale = u8::try_from(part.len()).ok()?;
    let digits = format!("{whole}{part}");
    let is_number = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value = is_number.then(|| digits.trim_start_matches('0'))?;
    Some(Value::Decimal { scale, value: if value.is_empty() { 0 } else { value.parse().ok()? } })
}

/// A scalar of a named type from its text; `None` if it is none, or the type is not a scalar's.
fn scalar<'a>(kind: &str, text: &'a [u8]) -> Option<Value<'a>> {
    fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
        std::str::from_utf8(text).ok()?.trim().parse().ok()
    }
    Some(match kind {
        "bool" => Value::Bool(number(text)?),
        "int8" => Value::I8(number(text)?),
        "uint8" => Value::U8(number(text)?),
        "int16" => Value::I16(number(text)?),
        "uint16" => Value::U16(number(text)?),
        "int32" => Value::I32(number(text)?),
        "uint32" => Value::U32(number(text)?),
        "int64" => Value::I64(number(text)?),
        "int64L" => Value::L64(number(text)?),
        "float" => Value::F32(number(text)?),
        "double" => Value::F64(number(text)?),
        "decimal" => parse_decimal(std::str::from_utf8(text).ok()?.trim())?,
        "timestamp" => Value::Timestamp(number(text)?),
        "text" => Value::Text(text),
        "bytes" => Value::Bytes(text),
        "void" => Value::Void,
        _ => return None,
    })
}

/// Appends a header of the envelope to a table.
///
/// # Errors
/// The text is not of that type, or there is no such type.
pub fn push(
    table: &mut TableBuf,
    name: &str,
    value: Option<&[u8]>,
    kind: Option<&Json>,
) -> Result<(), String> {
    let Some(bytes) = value else {
        table.push(name, Value::Void);
        return Ok(());
    };
    let wrong = || {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(40).collect();
        let kind = kind.map(Json::to_string).unwrap_or_default();
        format!("header {name}: '{shown}' is not of type {kind}")
    };
    match kind {
        None if std::str::from_utf8(bytes).is_ok() => table.push(name, Value::Text(bytes)),
        None => table.push(name, Value::Bytes(bytes)),
        Some(Json::String(kind)) if kind == WIRE => {
            let entry = [&[0][..], bytes].concat();
            let parsed = Table::parse(&entry).map_err(|_| wrong())?;
            let mut entries = parsed.iter();
            let (_, value) = entries.next().ok_or_else(wrong)?;
            if entries.next().is_some() {
                return Err(wrong());
            }
            table.push(name, value);
        }
        Some(Json::String(kind)) if kind != TABLE && kind != ARRAY => {
            if !TYPES.contains(&kind.as_str()) {
                return Err(format!(
                    "header {name}: there is no type {kind:?}; there are {}",
                    TYPES.join(", ")
                ));
            }
            table.push(name, scalar(kind, bytes).ok_or_else(wrong)?);
        }
        Some(kind) => {
            let json: Json = serde_json::from_slice(bytes).map_err(|_| wrong())?;
            if !(json.is_object() || json.is_array()) {
                return Err(wrong());
            }
            push_json(table, name, &json, Some(kind)).ok_or_else(wrong)?;
            // Brokers take no tables that are nested deeper.
            Table::parse(table.as_table().as_bytes()).map_err(|error| format!("header {name}: {error}"))?;
        }
    }
    Ok(())
}

/// Appends a JSON value, with the types that stand beside it.
pub fn push_json(table: &mut TableBuf, name: &str, json: &Json, kind: Option<&Json>) -> Option<()> {
    let mut held = Held::default();
    let value = held.value(json, kind)?;
    table.push(name, value);
    Some(())
}

/// Bytes of a value that is being made.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    table: TableBuf,
    array: ArrayBuf,
}

impl Held {
    fn value(&mut self, json: &Json, kind: Option<&Json>) -> Option<Value<'_>> {
        let named = match kind {
            Some(Json::String(kind)) if kind != TABLE && kind != ARRAY => Some(kind.as_str()),
            _ => None,
        };
        if let Some(kind) = named {
            self.bytes = match (kind, json) {
                ("bytes", Json::String(text)) => BASE64.decode(text).ok()?,
                (_, Json::String(text)) => text.clone().into_bytes(),
                (_, json) => json.to_string().into_bytes(),
            };
            return scalar(kind, &self.bytes);
        }
        Some(match json {
            Json::Null => Value::Void,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::I64(number),
                None => Value::F64(number.as_f64()?),
            },
            Json::String(text) => {
                self.bytes = text.clone().into_bytes();
                Value::Text(&self.bytes)
            }
            Json::Array(values) => {
                for (at, value) in values.iter().enumerate() {
                    let kind = kind.and_then(|kind| kind.get(at)).filter(|kind| !kind.is_null());
                    let mut held = Held::default();
                    self.array.push(held.value(value, kind)?);
                }
                Value::Array(self.array.as_array())
            }
            Json::Object(entries) => {
                for (name, value) in entries {
                    push_json(&mut self.table, name, value, kind.and_then(|kind| kind.get(name)))?;
                }
                Value::Table(self.table.as_table())
            }
        })
    }
}

/// A header as it is written on the command line: its name, value and type.
pub type Written = (String, Option<Bytes>, Option<Json>);

/// Parses `NAME=VALUE`, `NAME: VALUE`, `NAME:=JSON` or `NAME:TYPE=VALUE`.
///
/// # Errors
/// Anything else.
pub fn parse(text: &str) -> Result<Written, String> {
    let at = text.find([':', '=']).filter(|at| *at > 0);
    let at =
        at.ok_or_else(|| format!("'{text}' is not a header: write NAME=VALUE, or NAME:=JSON for a number"))?;
    let (name, rest) = (text[..at].trim().to_owned(), &text[at..]);
    if name.len() > 255 {
        return Err(format!("'{name}': a name has at most 255 bytes"));
    }
    if let Some(json) = rest.strip_prefix(":=") {
        let value: Json = serde_json::from_str(json)
            .map_err(|_| format!("'{json}' is not JSON: text is written {name}=TEXT"))?;
        let mut table = TableBuf::new();
        push_json(&mut table, &name, &value, None).ok_or_else(|| format!("'{json}' fits no header"))?;
        let value = table.as_table().iter().next().map(|(_, value)| plain(&value));
        let Plain { value, kind } = value.ok_or_else(|| format!("'{json}' fits no header"))?;
        return Ok((name, value, kind));
    }
    if let Some((kind, value)) = rest.strip_prefix(':').and_then(|rest| rest.split_once('='))
        && TYPES.contains(&kind)
    {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let (value, kind) = (Some(value).filter(|_| kind != "void"), Json::from(kind));
        push(&mut TableBuf::new(), &name, value.as_deref(), Some(&kind))?;
        return Ok((name, value, Some(kind)));
    }
    Ok((name, Some(Bytes::copy_from_slice(rest[1..].trim().as_bytes())), None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each type, and what stands in the envelope.
    fn samples() -> Vec<(Value<'static>, &'static str, &'static str)> {
        vec![
            (Value::Bool(true), "true", "\"bool\""),
            (Value::I8(-1), "-1", "\"int8\""),
            (Value::U8(255), "255", "\"uint8\""),
            (Value::I16(-300), "-300", "\"int16\""),
            (Value::U16(65535), "65535", "\"uint16\""),
            (Value::I32(-70000), "-70000", "\"int32\""),
            (Value::U32(u32::MAX), "4294967295", "\"uint32\""),
            (Value::I64(i64::MIN), "-9223372036854775808", "\"int64\""),
            (Value::L64(7), "7", "\"int64L\""),
            (Value::F32(0.1), "0.1", "\"float\""),
            (Value::F64(f64::INFINITY), "inf", "\"double\""),
            (Value::Decimal { scale: 3, value: 12 }, "0.012", "\"decimal\""),
            (Value::Text(b"hi"), "hi", "null"),
            (Value::Bytes(b"hi"), "hi", "\"bytes\""),
            (Value::Timestamp(u64::MAX), "18446744073709551615", "\"timestamp\""),
        ]
    }

    fn back(name: &str, plain: &Plain) -> TableBuf {
        let mut table = TableBuf::new();
        push(&mut table, name, plain.value.as_deref(), plain.kind.as_ref()).unwrap();
        table
    }

    #[test]
    fn every_type_is_text_and_comes_back() {
        for (value, text, kind) in samples() {
            let plain = plain(&value);
            assert_eq!(plain.value.as_deref(), Some(text.as_bytes()));
            assert_eq!(plain.kind.clone().unwrap_or(Json::Null).to_string(), kind);
            assert_eq!(back("a", &plain), TableBuf::new().with("a", value), "{value:?}");
        }
        assert_eq!(plain(&Value::Void), Plain { value: None, kind: None });
    }

    #[test]
    fn tables_are_json_with_types_only_where_json_has_other_ones() {
        let death = TableBuf::new()
            .with("count", Value::I64(1))
            .with("queue", Value::Text(b"jobs"))
            .with("time", Value::Timestamp(7));
        let mut deaths = ArrayBuf::new();
        deaths.push(Value::Table(death.as_table()));
        let value = Value::Array(deaths.as_array());
        let plain = plain(&value);
        assert_eq!(plain.value.as_deref(), Some(&br#"[{"count":1,"queue":"jobs","time":7}]"#[..]));
        assert_eq!(plain.kind.as_ref().unwrap().to_string(), r#"[{"time":"timestamp"}]"#);
        assert_eq!(back("x-death", &plain), TableBuf::new().with("x-death", value));
    }

    #[test]
    fn what_json_has_no_room_for_comes_back_too() {
        let twice = TableBuf::new().with("a", Value::I8(1)).with("a", Value::I8(2));
        let odd = TableBuf::new().with([0xff], Value::Text(b"\xfe"));
        for table in [twice, odd] {
            let value = Value::Table(table.as_table());
            let plain = plain(&value);
            assert_eq!(plain.kind, Some("wire".into()));
            assert_eq!(back("t", &plain), TableBuf::new().with("t", value));
        }
        assert!(push(&mut TableBuf::new(), "t", Some(b"F\0\0\0\x09"), Some(&"wire".into())).is_err());
    }

    #[test]
    fn headers_of_the_command_line_have_types() {
        let parsed = |text: &str| {
            let (name, value, kind) = parse(text).unwrap();
            let mut table = TableBuf::new();
            push(&mut table, &name, value.as_deref(), kind.as_ref()).unwrap();
            format!("{table:?}")
        };
        let table = |name: &str, value: Value<'_>| format!("{:?}", TableBuf::new().with(name, value));
        assert_eq!(parsed("a=b=c"), table("a", Value::Text(b"b=c")));
        assert_eq!(parsed("a: b"), table("a", Value::Text(b"b")));
        assert_eq!(parsed("a:=3"), table("a", Value::I64(3)));
        assert_eq!(parsed("a:=true"), table("a", Value::Bool(true)));
        assert_eq!(parsed("a:=\"3\""), table("a", Value::Text(b"3")));
        assert_eq!(parsed("a:uint8=3"), table("a", Value::U8(3)));
        assert_eq!(parsed("a:void="), table("a", Value::Void));
        assert_eq!(parsed("u: int=8"), table("u", Value::Text(b"int=8")));
        for wrong in ["a", "=b", "a:=x", "a:int8=300", "a:decimal=-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    fn values() -> impl Strategy<Value = TableBuf> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(|value| TableBuf::new().with("v", Value::Bool(value))),
            any::<i8>().prop_map(|value| TableBuf::new().with("v", Value::I8(value))),
            any::<u32>().prop_map(|value| TableBuf::new().with("v", Value::U32(value))),
            any::<i64>().prop_map(|value| TableBuf::new().with("v", Value::I64(value))),
            any::<f32>().prop_map(|value| TableBuf::new().with("v", Value::F32(value))),
            any::<f64>().prop_map(|value| TableBuf::new().with("v", Value::F64(value))),
            any::<u64>().prop_map(|value| TableBuf::new().with("v", Value::Timestamp(value))),
            (any::<u8>(), any::<u32>())
                .prop_map(|(scale, value)| TableBuf::new().with("v", Value::Decimal { scale, value })),
            any::<Vec<u8>>().prop_map(|value| TableBuf::new().with("v", Value::Text(&value))),
            any::<Vec<u8>>().prop_map(|value| TableBuf::new().with("v", Value::Bytes(&value))),
            Just(TableBuf::new().with("v", Value::Void)),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(("[ab]", inner.clone()), 0..4).prop_map(|entries| {
                    let mut table = TableBuf::new();
                    for (name, entry) in &entries {
                        table.push(name, entry.as_table().get("v").unwrap());
                    }
                    TableBuf::new().with("v", Value::Table(table.as_table()))
                }),
                prop::collection::vec(inner, 0..4).prop_map(|entries| {
                    let mut array = ArrayBuf::new();
                    entries.iter().for_each(|entry| array.push(entry.as_table().get("v").unwrap()));
                    TableBuf::new().with("v", Value::Array(array.as_array()))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_header_comes_back_as_it_was(table in values()) {
            let value = table.as_table().get("v").unwrap();
            let mut returned = TableBuf::new();
            let plain = plain(&value);
            push(&mut returned, "v", plain.value.as_deref(), plain.kind.as_ref()).unwrap();
            prop_assert_eq!(returned.as_table().as_bytes(), table.as_table().as_bytes());
        }

        #[test]
        fn garbage_never_panics(text in ".{0,20}", bytes: Vec<u8>, kind in "wire|table|array|int8|decimal|x|[\\[{\"a1:\\]}]{0,9}") {
            let _ = parse(&text);
            let tree = serde_json::from_str(&kind).unwrap_or(Json::String(kind));
            let _ = push(&mut TableBuf::new(), "n", Some(&bytes), Some(&tree));
        }
    }
}
