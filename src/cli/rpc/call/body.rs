//! The request from the words of the command line: JSON, text, or items such as `name=Ada` and `n:=3`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buffa_descriptor::{FieldDescriptor, FieldKind, MessageDescriptor, ScalarType, SingularKind};
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::schema::MessageType;
use crate::rpc::{Format, Payload};

/// What a message type looks like to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// `google.protobuf.StringValue`: the text itself.
    Text,
    /// `google.protobuf.BytesValue`: the bytes themselves.
    Bytes,
    /// Anything else: JSON.
    Json,
}

impl Look {
    /// How messages of that type are written and shown.
    pub fn of(kind: &MessageType) -> Self {
        match kind.full_name() {
            "google.protobuf.StringValue" => Self::Text,
            "google.protobuf.BytesValue" => Self::Bytes,
            _ => Self::Json,
        }
    }
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// One message in its own look as JSON of protobuf.
pub fn to_json(look: Look, data: &[u8]) -> Result<Bytes, Failure> {
    match look {
        Look::Json => Ok(Bytes::copy_from_slice(data)),
        Look::Text => {
            let text = std::str::from_utf8(data).map_err(|_| usage("the text to send is not UTF-8"))?;
            Ok(Value::from(text).to_string().into())
        }
        Look::Bytes => Ok(Value::from(STANDARD.encode(data)).to_string().into()),
    }
}

/// Encodes a message from JSON in the wanted format.
///
/// # Errors
/// Usage: it is not such a message; a field that does not exist names the nearest.
pub fn encode(kind: &MessageType, json: &Bytes, format: Format) -> Result<Bytes, Failure> {
    // Also to JSON: what the server would refuse is refused here, with a better explanation.
    let proto = kind.convert(&Payload::json(json.clone()), Format::Proto).map_err(|status| {
        let failure = usage(status.message);
        match unknown_field(kind.descriptor(), json) {
            Some(tip) => failure.tip(tip),
            None => failure.tip(format!("see the fields: bandy rpc info {}", kind.full_name())),
        }
    })?;
    Ok(match format {
        Format::Proto => proto,
        Format::Json => json.clone(),
    })
}

fn unknown_field(kind: &MessageDescriptor, json: &Bytes) -> Option<String> {
    let value: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let name = value.keys().find(|name| field(kind, name).is_none())?;
    let names = kind.fields().iter().map(FieldDescriptor::name);
    near_miss(name, names).map(|near| format!("did you mean '{near}' instead of '{name}'?"))
}

fn field<'a>(kind: &'a MessageDescriptor, name: &str) -> Option<&'a FieldDescriptor> {
    kind.fields().iter().find(|field| field.name() == name || field.json_name() == name)
}

/// The first field that can be made any length, as its name in JSON, and how it is written.
pub fn first_filler(kind: &MessageDescriptor) -> Option<(String, Look)> {
    kind.fields().iter().find_map(|field| match field.kind() {
        FieldKind::Singular(SingularKind::Scalar(ScalarType::String)) => {
            Some((field.json_name().to_owned(), Look::Text))
        }
        FieldKind::Singular(SingularKind::Scalar(ScalarType::Bytes)) => {
            Some((field.json_name().to_owned(), Look::Bytes))
        }
        _ => None,
    })
}

/// True if the words are items and not one piece of data.
pub fn are_items(words: &[String]) -> bool {
    words.len() > 1 || words.first().is_some_and(|word| split_item(word).is_some())
}

enum Item<'a> {
    /// `FIELD=TEXT`
    Text(&'a str, &'a str),
    /// `FIELD:=JSON`
    Json(&'a str, &'a str),
}

fn split_item(word: &str) -> Option<Item<'_>> {
    let at = word.find('=')?;
    let (name, value) = (&word[..at], &word[at + 1..]);
    let (name, raw) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    is_name.then_some(if raw { Item::Json(name, value) } else { Item::Text(name, value) })
}

/// Builds a message from items. A value that starts with `@` is read from that file; `a.b=1` sets a field of a
/// field; a repeated field takes one item for each element.
///
/// # Errors
/// Usage: words that are no items, fields that do not exist, values that do not fit.
pub fn from_items(kind: &MessageType, words: &[String]) -> Result<Bytes, Failure> {
    let mut message = Map::new();
    for word in words {
        let item = split_item(word).ok_or_else(|| {
            usage(format!("{word:?} is no item"))
                .tip("write FIELD=TEXT, FIELD:=JSON, or all of it as one JSON object")
        })?;
        let (name, text, raw) = match item {
            Item::Text(name, text) => (name, text, false),
            Item::Json(name, text) => (name, text, true),
        };
        let content = match text.strip_prefix('@') {
            Some(path) => std::fs::read(path)
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot read {path}: {error}")))?,
            None => text.as_bytes().to_vec(),
        };
        let item = Content { whole: name, bytes: &content, raw };
        insert(&mut message, kind, kind.descriptor(), name, &item)?;
    }
    Ok(Value::Object(message).to_string().into())
}

/// What an item says, and under which name.
struct Content<'a> {
    whole: &'a str,
    bytes: &'a [u8],
    raw: bool,
}

fn insert(
    message: &mut Map<String, Value>,
    root: &MessageType,
    kind: &MessageDescriptor,
    name: &str,
    item: &Content<'_>,
) -> Result<(), Failure> {
    let whole = item.whole;
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    // Struct and the like take any key.
    let Some(field) = field(kind, first) else {
        let failure = usage(format!("{} has no field '{first}'", kind.full_name()));
        let near = near_miss(first, kind.fields().iter().map(FieldDescriptor::name));
        return Err(match near {
            Some(near) => failure.tip(format!("did you mean '{near}'?")),
            None => failure.tip(format!("see the fields: bandy rpc info {}", kind.full_name())),
        });
    };
    if let Some(rest) = rest {
        let inner = match field.kind() {
            FieldKind::Singular(SingularKind::Message(index)) => root.pool().message(index),
            _ => return Err(usage(format!("{whole}: '{first}' is not a message with fields"))),
        };
        let slot = message.entry(field.json_name()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(slot) = slot else {
            return Err(usage(format!("{whole}: '{first}' is set already")));
        };
        return insert(slot, root, inner, rest, item);
    }
    let element = match field.kind() {
        FieldKind::Singular(kind) | FieldKind::List(kind) => Some(kind),
        FieldKind::Map { .. } => None,
    };
    let value = value(whole, element, item.bytes, item.raw)?;
    match (field.kind(), message.get_mut(field.json_name())) {
        (FieldKind::List(_), Some(Value::Array(list))) => list.push(value),
        (FieldKind::List(_), None) if !value.is_array() => {
            message.insert(field.json_name().to_owned(), Value::Array(vec![value]));
        }
        (_, None) => {
            message.insert(field.json_name().to_owned(), value);
        }
        (_, Some(_)) => return Err(usage(format!("'{whole}' is given twice"))),
    }
    Ok(())
}

fn value(name: &str, kind: Option<SingularKind>, content: &[u8], raw: bool) -> Result<Value, Failure> {
    let json = |content: &[u8]| {
        serde_json::from_slice(content).map_err(|error| usage(format!("{name}: not JSON: {error}")))
    };
    if raw {
        return json(content);
    }
    let text =
        || std::str::from_utf8(content).map(Value::from).map_err(|_| usage(format!("{name}: not UTF-8")));
    match kind {
        Some(SingularKind::Scalar(ScalarType::Bytes)) => Ok(Value::from(STANDARD.encode(content))),
        Some(SingularKind::Scalar(ScalarType::Bool)) => match content {
            b"true" => Ok(Value::Bool(true)),
            b"false" => Ok(Value::Bool(false)),
            _ => Err(usage(format!("{name}: expected true or false"))),
        },
        // Numbers and the names of enums may be strings in the JSON of protobuf.
        Some(SingularKind::Scalar(_)) => text(),
        Some(SingularKind::Enum(_)) => match json(content) {
            Ok(number @ Value::Number(_)) => Ok(number),
            Ok(_) | Err(_) => text(),
        },
        // A timestamp or a duration is a string; other messages are objects.
        Some(SingularKind::Message(_)) if !content.starts_with(b"{") => text(),
        Some(SingularKind::Message(_)) | None => json(content),
    }
}
