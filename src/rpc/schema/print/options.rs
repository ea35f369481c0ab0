//! Options as text: `name = value`, custom ones by their extension, messages in text format.

use std::fmt::Write as _;
use std::sync::OnceLock;

use buffa_descriptor::{DescriptorPool, FieldKind, MessageIndex, ScalarType, SingularKind};

use super::NESTING_MAX;
use crate::rpc::schema::raw::{Value, scan, take_array, take_varint};
use crate::rpc::schema::{Schema, well_known_file};

/// `name = value` for each option that is set in an encoded message of `google.protobuf.KIND`.
pub fn texts(pool: &DescriptorPool, kind: &str, bytes: &[u8]) -> Vec<String> {
    let name = format!("google.protobuf.{kind}");
    let (pool, index) = match pool.message_index(&name) {
        Some(index) => (pool, index),
        None => match options_pool().message_index(&name) {
            Some(index) => (options_pool(), index),
            None => return Vec::new(),
        },
    };
    let mut options = Vec::new();
    flatten(pool, index, bytes, "", &mut options, 0);
    // What the compiler computes is not written.
    options.retain(|option| !option.starts_with("map_entry ="));
    options
}

/// Options for files that do not import descriptor.proto.
fn options_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<Schema> = OnceLock::new();
    POOL.get_or_init(|| {
        let file = well_known_file("google/protobuf/descriptor.proto").into_iter().collect();
        Schema::link(file).unwrap_or_default()
    })
    .pool()
}

fn flatten(
    pool: &DescriptorPool,
    index: MessageIndex,
    bytes: &[u8],
    prefix: &str,
    out: &mut Vec<String>,
    depth: usize,
) {
    for entry in scan(bytes).unwrap_or_default() {
        let Some((name, kind)) = member(pool, index, entry.number, '(', ')') else { continue };
        let name = format!("{prefix}{name}");
        match (kind, entry.value) {
            (FieldKind::Singular(SingularKind::Message(inner)), Value::Bytes(bytes))
                if depth < NESTING_MAX && (name == "features" || prefix.starts_with("features.")) =>
            {
                flatten(pool, inner, bytes, &format!("{name}."), out, depth + 1);
            }
            (kind, value) => {
                values(pool, kind, value, depth)
                    .into_iter()
                    .for_each(|value| out.push(format!("{name} = {value}")));
            }
        }
    }
}

fn member(
    pool: &DescriptorPool,
    index: MessageIndex,
    number: u32,
    open: char,
    close: char,
) -> Option<(String, FieldKind)> {
    match pool.message(index).field(number) {
        Some(field) => Some((field.name().to_owned(), field.kind())),
        None => {
            let extension = pool.extension_for(index, number)?;
            Some((format!("{open}{}{close}", extension.full_name()), extension.field().kind()))
        }
    }
}

/// The values of an entry as text: one, or more if they are packed.
fn values(pool: &DescriptorPool, kind: FieldKind, value: Value<'_>, depth: usize) -> Vec<String> {
    let (FieldKind::Singular(single) | FieldKind::List(single)) = kind else { return Vec::new() };
    use ScalarType as S;
    match (single, value) {
        (SingularKind::Message(inner), Value::Bytes(bytes) | Value::Group(bytes)) if depth < NESTING_MAX => {
            vec![aggregate(pool, inner, bytes, depth + 1)]
        }
        (SingularKind::Scalar(S::String | S::Bytes), Value::Bytes(bytes)) => vec![quoted(bytes)],
        (_, Value::Bytes(mut packed)) => {
            let mut texts = Vec::new();
            while !packed.is_empty() {
                let value = match single {
                    SingularKind::Scalar(S::Double | S::Fixed64 | S::Sfixed64) => {
                        take_array(&mut packed).map(|bytes| Value::Fixed64(u64::from_le_bytes(bytes)))
                    }
                    SingularKind::Scalar(S::Float | S::Fixed32 | S::Sfixed32) => {
                        take_array(&mut packed).map(|bytes| Value::Fixed32(u32::from_le_bytes(bytes)))
                    }
                    SingularKind::Scalar(_) | SingularKind::Enum(_) | SingularKind::Message(_) => {
                        take_varint(&mut packed).map(Value::Varint)
                    }
                };
                let Ok(value) = value else { break };
                texts.push(number(pool, single, value));
            }
            texts
        }
        (_, value) => vec![number(pool, single, value)],
    }
}

#[expect(clippy::cast_possible_truncation, reason = "protobuf cuts 32-bit values off at 32 bits")]
fn number(pool: &DescriptorPool, kind: SingularKind, value: Value<'_>) -> String {
    use ScalarType as S;
    let bits = match value {
        Value::Varint(bits) | Value::Fixed64(bits) => bits,
        Value::Fixed32(bits) => bits.into(),
        Value::Bytes(_) | Value::Group(_) => 0,
    };
    match kind {
        SingularKind::Enum(index) => {
            let number = (bits as u32).cast_signed();
            pool.enumeration(index)
                .value(number)
                .map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        SingularKind::Scalar(S::Bool) => (bits != 0).to_string(),
        SingularKind::Scalar(S::Double) => float(f64::from_bits(bits)),
        SingularKind::Scalar(S::Float) => float(f32::from_bits(bits as u32).into()),
        SingularKind::Scalar(S::Int32 | S::Sfixed32) => (bits as u32).cast_signed().to_string(),
        SingularKind::Scalar(S::Sint32 | S::Sint64) => {
            ((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()).to_string()
        }
        SingularKind::Scalar(S::Int64 | S::Sfixed64) => bits.cast_signed().to_string(),
        SingularKind::Scalar(_) | SingularKind::Message(_) => bits.to_string(),
    }
}

fn float(number: f64) -> String {
    if number.is_nan() { "nan".to_owned() } else { number.to_string() }
}

/// A message in text format.
fn aggregate(pool: &DescriptorPool, index: MessageIndex, bytes: &[u8], depth: usize) -> String {
    let mut members = Vec::new();
    for entry in scan(bytes).unwrap_or_default() {
        let Some((name, kind)) = member(pool, index, entry.number, '[', ']') else { continue };
        if let (FieldKind::Map { .. }, Value::Bytes(bytes)) = (kind, entry.value) {
            members.push(format!("{name}: {}", map_entry(pool, kind, bytes, depth)));
            continue;
        }
        members.extend(
            values(pool, kind, entry.value, depth).into_iter().map(|value| format!("{name}: {value}")),
        );
    }
    if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
}

fn map_entry(pool: &DescriptorPool, kind: FieldKind, bytes: &[u8], depth: usize) -> String {
    let FieldKind::Map { key, value } = kind else { return String::new() };
    let mut members = Vec::new();
    for entry in scan(bytes).unwrap_or_default() {
        let (name, kind) = match entry.number {
            1 => ("key", SingularKind::Scalar(key)),
            2 => ("value", value),
            _ => continue,
        };
        let texts = values(pool, FieldKind::Singular(kind), entry.value, depth);
        members.extend(texts.into_iter().map(|text| format!("{name}: {text}")));
    }
    format!("{{ {} }}", members.join(", "))
}

/// Text between quotes, escaped; bytes that are no UTF-8 as octal numbers.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                c if c.is_ascii_control() => {
                    let _ = write!(text, "\\{:03o}", u32::from(c));
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text.push('"');
    text
}
