//! The request from the words of the command line: JSON, text, or items such as `name=Ada` and `n:=3`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buffa_descriptor::{FieldDescriptor, FieldKind, MessageDescriptor, ScalarType, SingularKind};
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::schema::{MessageType, Schema};
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
            None => failure.there(format!("see the fields: bandy rpc info {}", kind.full_name())),
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
    words.len() > 1 || words.first().is_some_and(|word| is_item(word))
}

fn is_item(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let name = name.strip_suffix(':').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-[]".contains(&b))
}

/// Builds a message from items, each led by the type of its field. A value that starts with `@` is read from that
/// file.
///
/// # Errors
/// Usage: words that are no items, fields that do not exist, values that do not fit.
pub fn from_items(kind: &MessageType, words: &[String]) -> Result<Bytes, Failure> {
    let items = words.iter().map(|word| from_file(word)).collect::<Result<Vec<_>, _>>()?;
    // A message that can be any JSON is an object, if it is made of items.
    let any = kind.full_name() == "google.protobuf.Value";
    let object = any.then(|| Schema::standard().message("google.protobuf.Struct")).flatten();
    let json = object.as_ref().unwrap_or(kind).json_from_items(&items).map_err(|error| {
        usage(error).there(format!("see the fields: bandy rpc info {}", kind.full_name()))
    })?;
    Ok(json.into())
}

/// `name=@FILE` with the file's text in place of its name; any other item as it is.
fn from_file(word: &str) -> Result<String, Failure> {
    let Some((name, path)) =
        word.split_once('=').and_then(|(name, rest)| Some((name, rest.strip_prefix('@')?)))
    else {
        return Ok(word.to_owned());
    };
    let bytes = std::fs::read(path).map_err(|error| Failure::unread(path, &error))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => format!("{name}={text}"),
        // Only a field of bytes can hold it, and that is base64 in JSON.
        Err(error) => format!("{name}:=\"{}\"", STANDARD.encode(error.as_bytes())),
    })
}
