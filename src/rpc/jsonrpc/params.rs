//! From a method name to a route, and from parameters to request messages.

use buffa_descriptor::{FieldKind, SingularKind};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::error::{ErrorObject, INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::rpc::catalog::{Catalog, Route};
use crate::rpc::schema::MessageType;

/// A name that is not that of one method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// None has it.
    #[error("no method {0}")]
    Unknown(String),
    /// Several end with it.
    #[error("{name} could be {}", candidates.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The paths it fits, sorted.
        candidates: Vec<String>,
    },
}

impl From<MethodError> for ErrorObject {
    fn from(error: MethodError) -> Self {
        Self::new(METHOD_NOT_FOUND, error.to_string())
    }
}

/// Finds the method by its path, by `Service.Method` with dots only, or by any unique suffix of either.
///
/// # Errors
/// No such method, or more than one.
pub fn resolve<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Route, MethodError> {
    let wanted = name.strip_prefix('/').unwrap_or(name);
    if let Some(route) = catalog.by_path(wanted) {
        return Ok(route);
    }
    let fits = |path: &str| {
        // Slash and dot are one: a.B/C is also called a.B.C.
        let same = |(a, b): (u8, u8)| a == b || (a == b'/' && b == b'.');
        let start = path.len().checked_sub(wanted.len());
        start.is_some_and(|start| {
            path.as_bytes()[start..].iter().copied().zip(wanted.bytes()).all(same)
                && (start == 0 || matches!(path.as_bytes()[start - 1], b'.' | b'/'))
        })
    };
    let found: Vec<&Route> = catalog.routes().filter(|route| fits(&route.method.path)).collect();
    // A function of that name outranks the reflection or health method that happens to end so.
    let exact = found.iter().copied().find(|route| route.method.path.len() == wanted.len());
    match (exact, found.as_slice()) {
        (Some(route), _) => Ok(route),
        (None, [route]) if !wanted.is_empty() => Ok(route),
        (None, []) => Err(MethodError::Unknown(name.to_owned())),
        (None, _) if wanted.is_empty() => Err(MethodError::Unknown(name.to_owned())),
        (None, found) => {
            let mut candidates: Vec<_> = found.iter().map(|route| route.method.path.clone()).collect();
            candidates.sort();
            Err(MethodError::Ambiguous { name: name.to_owned(), candidates })
        }
    }
}

/// What the JSON of a message type looks like, as far as parameters care.
enum Shape {
    /// An object with these members, in the order of the .proto file.
    Object(Vec<String>),
    /// An object with any members.
    Map,
    /// The value of the only member `value`: wrapper types.
    Value,
    /// Some other value that is no object: Timestamp, ListValue.
    Other,
}

fn shape(message: &MessageType) -> Shape {
    match message.full_name() {
        "google.protobuf.Struct" | "google.protobuf.Any" => Shape::Map,
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => Shape::Value,
        "google.protobuf.Value"
        | "google.protobuf.ListValue"
        | "google.protobuf.Timestamp"
        | "google.protobuf.Duration"
        | "google.protobuf.FieldMask" => Shape::Other,
        _ => Shape::Object(
            message.descriptor().fields().iter().map(|field| field.json_name().to_owned()).collect(),
        ),
    }
}

/// The request messages of `params`, as JSON: exactly one unless the method `streams`, for which every
/// element of an array is a message. `None` stands for the empty message, which has no JSON in every type.
///
/// # Errors
/// `INVALID_PARAMS`: more values than fields, or members where there can be none.
pub fn request_messages(
    message: &MessageType,
    streams: bool,
    params: Option<&RawValue>,
) -> Result<Vec<Option<Bytes>>, ErrorObject> {
    let invalid = |text: String| ErrorObject::new(INVALID_PARAMS, text);
    let Some(params) = params.map(RawValue::get) else {
        return Ok(if streams { Vec::new() } else { vec![None] });
    };
    if params.starts_with('{') {
        return Ok(vec![by_name(message, params)?]);
    }
    let values: Vec<&RawValue> =
        serde_json::from_str(params).map_err(|error| invalid(format!("params are no array: {error}")))?;
    let whole = |value: &RawValue| Some(Bytes::copy_from_slice(value.get().as_bytes()));
    if streams {
        return Ok(values.into_iter().map(whole).collect());
    }
    match (shape(message), values.as_slice()) {
        (_, []) => Ok(vec![None]),
        (Shape::Object(_), [value])
            if value.get().starts_with('{') && (!first_is_message(message) || fits_whole(message, value)) =>
        {
            Ok(vec![whole(value)])
        }
        (Shape::Object(fields), values) => by_position(message, &fields, values).map(|json| vec![Some(json)]),
        (Shape::Map | Shape::Value | Shape::Other, [value]) => Ok(vec![whole(value)]),
        (Shape::Map | Shape::Value | Shape::Other, values) => {
            Err(invalid(format!("{} takes one value, not {}", message.full_name(), values.len())))
        }
    }
}

/// The request message of a JSON body that is a list of arguments, as Dubbo's Triple sends them over HTTP/1.1.
/// `None` if the body is none, or if the message is itself one in JSON.
///
/// # Errors
/// More values than fields.
pub fn of_arguments(message: &MessageType, body: &Bytes) -> Result<Option<Bytes>, ErrorObject> {
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    if !is_list || matches!(message.full_name(), "google.protobuf.Value" | "google.protobuf.ListValue") {
        return Ok(None);
    }
    let invalid =
        |error: serde_json::Error| ErrorObject::new(INVALID_PARAMS, format!("the body is no list: {error}"));
    let params: Box<RawValue> = serde_json::from_slice(body).map_err(invalid)?;
    let messages = request_messages(message, false, Some(&params))?;
    Ok(Some(messages.into_iter().next().flatten().unwrap_or_else(|| Bytes::from_static(b"{}"))))
}

/// Whether a lone object could be the first field as well as the whole message.
fn first_is_message(message: &MessageType) -> bool {
    message.descriptor().fields().first().is_some_and(|field| {
        matches!(field.kind(), FieldKind::Singular(SingularKind::Message(_)) | FieldKind::Map { .. })
    })
}

/// Whether every member of the object is a field of the message.
fn fits_whole(message: &MessageType, value: &RawValue) -> bool {
    let members = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(value.get());
    members.is_ok_and(|members| {
        members.keys().all(|name| {
            let fields = message.descriptor().fields();
            fields.iter().any(|field| field.json_name() == name || field.name() == name)
        })
    })
}

fn by_name(message: &MessageType, params: &str) -> Result<Option<Bytes>, ErrorObject> {
    let invalid = |text: String| ErrorObject::new(INVALID_PARAMS, text);
    match shape(message) {
        Shape::Object(_) | Shape::Map => Ok(Some(Bytes::copy_from_slice(params.as_bytes()))),
        Shape::Value => {
            let members: std::collections::BTreeMap<String, &RawValue> =
                serde_json::from_str(params).map_err(|error| invalid(error.to_string()))?;
            if let Some(name) = members.keys().find(|name| *name != "value") {
                return Err(invalid(format!("{} has no field {name}, only value", message.full_name())));
            }
            Ok(members.get("value").map(|value| Bytes::copy_from_slice(value.get().as_bytes())))
        }
        // An object may itself be the Value; for the others it means no value.
        Shape::Other if message.full_name() == "google.protobuf.Value" => {
            Ok(Some(Bytes::copy_from_slice(params.as_bytes())))
        }
        Shape::Other
            if params.bytes().all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\n' | b'\r' | b'\t')) =>
        {
            Ok(None)
        }
        Shape::Other => {
            Err(invalid(format!("{} has no named fields: send params as [VALUE]", message.full_name())))
        }
    }
}

fn by_position(message: &MessageType, fields: &[String], values: &[&RawValue]) -> Result<Bytes, ErrorObject> {
    if values.len() > fields.len() {
        let text = format!("{} has {} fields, not {}", message.full_name(), fields.len(), values.len());
        return Err(ErrorObject::new(INVALID_PARAMS, text));
    }
    let mut json = vec![b'{'];
    for (field, value) in fields.iter().zip(values) {
        if json.len() > 1 {
            json.push(b',');
        }
        super::message::write_string(&mut json, field);
        json.push(b':');
        json.extend_from_slice(value.get().as_bytes());
    }
    json.push(b'}');
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::catalog::Kind;
    use crate::rpc::testing::{catalog, echo};

    fn path(catalog: &Catalog, name: &str) -> Result<String, MethodError> {
        resolve(catalog, name).map(|route| route.method.path.clone())
    }

    #[test]
    fn methods_are_found_by_path_dots_and_unique_suffix() {
        let catalog = catalog(
            &[
                ("demo.Greeter/Hello", "google.protobuf.FileDescriptorProto", Kind::Unary),
                ("demo.Other/Bye", "google.protobuf.StringValue", Kind::Unary),
                ("demo.Greeter/Bye", "google.protobuf.StringValue", Kind::Unary),
            ],
            &echo(),
        );
        for name in
            ["demo.Greeter/Hello", "/demo.Greeter/Hello", "demo.Greeter.Hello", "Greeter.Hello", "Hello"]
        {
            assert_eq!(path(&catalog, name), Ok("demo.Greeter/Hello".to_owned()), "{name}");
        }
        for name in ["ello", "", "/", "x.demo.Greeter/Hello", "Greeter"] {
            assert_eq!(path(&catalog, name), Err(MethodError::Unknown(name.to_owned())), "{name}");
        }
        let error = path(&catalog, "Bye").unwrap_err();
        assert_eq!(error.to_string(), "Bye could be demo.Greeter/Bye or demo.Other/Bye");
    }

    fn messages(type_name: &str, streams: bool, params: &str) -> Result<Vec<Option<String>>, String> {
        let catalog = catalog(&[], &echo());
        let message = catalog.schema().message(type_name).unwrap();
        let params: Option<Box<RawValue>> = serde_json::from_str(params).unwrap();
        request_messages(&message, streams, params.as_deref())
            .map(|messages| {
                let text = |json: Bytes| String::from_utf8(json.to_vec()).unwrap();
                messages.into_iter().map(|json| json.map(text)).collect()
            })
            .map_err(|error| error.message)
    }

    fn one(json: &str) -> Result<Vec<Option<String>>, String> {
        Ok(vec![Some(json.to_owned())])
    }

    #[test]
    fn params_become_the_request_by_name_whole_or_by_position() {
        // NamePart { name_part = 1, is_extension = 2 }
        let message = "google.protobuf.UninterpretedOption.NamePart";
        assert_eq!(messages(message, false, r#"{"namePart":"a"}"#), one(r#"{"namePart":"a"}"#));
        assert_eq!(messages(message, false, r#"[{"namePart":"a"}]"#), one(r#"{"namePart":"a"}"#));
        assert_eq!(messages(message, false, r#"["a",true]"#), one(r#"{"namePart":"a","isExtension":true}"#));
        assert_eq!(messages(message, false, r#"["a"]"#), one(r#"{"namePart":"a"}"#));
        assert_eq!(messages(message, false, "[]"), Ok(vec![None]));
        assert_eq!(messages(message, false, "null"), Ok(vec![None]));
        let error = messages(message, false, "[1,2,3]").unwrap_err();
        assert_eq!(error, "google.protobuf.UninterpretedOption.NamePart has 2 fields, not 3");
    }

    #[test]
    fn a_lone_object_is_the_first_field_only_if_it_cannot_be_the_message() {
        // OneofOptions { FeatureSet features = 1; repeated UninterpretedOption uninterpreted_option = 999 }
        let message = "google.protobuf.OneofOptions";
        assert_eq!(messages(message, false, r#"[{"features":{}}]"#), one(r#"{"features":{}}"#));
        assert_eq!(
            messages(message, false, r#"[{"fieldPresence":"EXPLICIT"}]"#),
            one(r#"{"features":{"fieldPresence":"EXPLICIT"}}"#)
        );
    }

    #[test]
    fn text_functions_take_the_text() {
        let text = "google.protobuf.StringValue";
        assert_eq!(messages(text, false, r#"["hello"]"#), one("\"hello\""));
        assert_eq!(messages(text, false, r#"{"value":"hello"}"#), one("\"hello\""));
        assert_eq!(messages(text, false, "{}"), Ok(vec![None]));
        assert_eq!(messages(text, false, "[]"), Ok(vec![None]));
        assert!(messages(text, false, r#"{"text":"hello"}"#).unwrap_err().contains("no field text"));
        assert!(messages(text, false, r#"["a","b"]"#).unwrap_err().contains("one value, not 2"));
    }

    #[test]
    fn every_element_is_a_message_of_a_stream() {
        let text = "google.protobuf.StringValue";
        let both = vec![Some("\"a\"".to_owned()), Some("\"b\"".to_owned())];
        assert_eq!(messages(text, true, r#"["a","b"]"#), Ok(both));
        assert_eq!(messages(text, true, "null"), Ok(vec![]));
    }
}
