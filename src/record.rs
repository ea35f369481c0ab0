//! Key, value, headers, timestamp: the one envelope all protocols fill, and its JSON form.
//!
//! ```text
//! {"key":"ada","value":"hello","headers":{"trace":"7f3a"},"timestamp":1763884814123, …provenance… }
//! ```
//!
//! Bytes that are not UTF-8 stand in `key_base64` and `value_base64`, in headers as `{"base64":"…"}`.
//! `null` is no value; an absent key, headers or timestamp is none. A header name that occurs several
//! times has an array; if others stand between, the headers are a list of pairs, `[["a","1"],["b","2"],["a","3"]]`, so that
//! nothing of their order is lost. Everything else says where the record came from. Of that, input keeps what a protocol may
//! want back: `topic` and `partition`; `queue`, `exchange`, `routing_key` and `properties`.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// One record of any protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What it is about.
    pub key: Option<Bytes>,
    /// What it says; `None` is a tombstone, which differs from an empty value.
    pub value: Option<Bytes>,
    /// Names in order, possibly repeated. A header may have no value.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Where it came from: field names of the JSON form and their values.
    pub provenance: Vec<(&'static str, Value)>,
}

/// Whether a value that is JSON stands in the envelope as JSON or as the text it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Embed {
    /// As a string, always: what went in comes out.
    #[default]
    Never,
    /// As JSON if it is JSON: `.value.user` instead of `.value|fromjson.user`.
    IfJson,
}

impl Record {
    /// A record with nothing but a value.
    pub fn of(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A field of its provenance.
    pub fn origin(&self, name: &str) -> Option<&Value> {
        self.provenance.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Appends the JSON form, on one line, without a newline.
    pub fn write_json(&self, embed: Embed, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(key) = &self.key {
            text_field("key", key, out);
            out.push(b',');
        }
        match &self.value {
            None => out.extend_from_slice(b"\"value\":null"),
            Some(value) if embed == Embed::IfJson && is_json(value) => {
                out.extend_from_slice(b"\"value\":");
                compact(value, out);
            }
            Some(value) => text_field("value", value, out),
        }
        if !self.headers.is_empty() {
            out.extend_from_slice(b",\"headers\":");
            self.write_headers(out);
        }
        if let Some(timestamp) = self.timestamp {
            out.extend_from_slice(format!(",\"timestamp\":{timestamp}").as_bytes());
        }
        for (name, value) in &self.provenance {
            out.push(b',');
            json(name, out);
            out.push(b':');
            json(value, out);
        }
        out.push(b'}');
    }

    /// Appends the headers as a JSON object, or as a list of pairs if an object would change their order.
    pub fn write_headers(&self, out: &mut Vec<u8>) {
        let is_apart = |at: usize| {
            let (name, before) = (&self.headers[at].0, &self.headers[..at]);
            before.last().is_some_and(|(last, _)| last != name)
                && before.iter().any(|(other, _)| other == name)
        };
        if (2..self.headers.len()).any(is_apart) {
            self.write_pairs(out);
            return;
        }
        out.push(b'{');
        let mut first = true;
        for (at, (name, value)) in self.headers.iter().enumerate() {
            if self.headers[..at].iter().any(|(earlier, _)| earlier == name) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            json(name, out);
            out.push(b':');
            let mut same = self.headers[at + 1..].iter().filter(|(later, _)| later == name).peekable();
            if same.peek().is_none() {
                header_value(value.as_deref(), out);
                continue;
            }
            out.push(b'[');
            header_value(value.as_deref(), out);
            for (_, value) in same {
                out.push(b',');
                header_value(value.as_deref(), out);
            }
            out.push(b']');
        }
        out.push(b'}');
    }

    fn write_pairs(&self, out: &mut Vec<u8>) {
        for (at, (name, value)) in self.headers.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"[[" } else { b",[" });
            json(name, out);
            out.push(b',');
            header_value(value.as_deref(), out);
            out.push(b']');
        }
        out.push(b']');
    }

    /// Takes headers in their JSON form.
    ///
    /// # Errors
    /// Text that is none.
    pub fn set_headers(&mut self, text: &[u8]) -> Result<(), RecordError> {
        let headers: Headers = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
        self.headers = headers.0;
        Ok(())
    }

    /// Parses the JSON form.
    ///
    /// # Errors
    /// Text that is not JSON, not an object, or has no value.
    pub fn from_json(text: &[u8]) -> Result<Self, RecordError> {
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(RecordError::NotJson("it does not begin with '{'".to_owned()));
        }
        let envelope: Envelope = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
        let value = match (envelope.value, envelope.value_base64) {
            (Some(_), Some(_)) => return Err(RecordError::Twice("value")),
            (Some(raw), None) => bytes_of(raw)?,
            (None, Some(text)) => Some(decode("value_base64", &text)?),
            (None, None) => return Err(RecordError::NoValue),
        };
        let key = match (envelope.key, envelope.key_base64) {
            (Some(_), Some(_)) => return Err(RecordError::Twice("key")),
            (Some(raw), None) => bytes_of(raw)?,
            (None, Some(text)) => Some(decode("key_base64", &text)?),
            (None, None) => None,
        };
        let kept = [
            ("topic", envelope.topic),
            ("partition", envelope.partition),
            ("queue", envelope.queue),
            ("exchange", envelope.exchange),
            ("routing_key", envelope.routing_key),
            ("properties", envelope.properties),
        ];
        let provenance = kept.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let headers = envelope.headers.map_or_else(Vec::new, |headers| headers.0);
        Ok(Self { key, value, headers, timestamp: envelope.timestamp, provenance })
    }
}

/// Text that is not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// A field of another type.
    #[error("{0}")]
    Field(String),
    /// Neither `value` nor `value_base64`.
    #[error("missing \"value\"")]
    NoValue,
    /// Both forms of a field.
    #[error("both \"{0}\" and \"{0}_base64\"")]
    Twice(&'static str),
    /// A `…_base64` field that is not base64.
    #[error("\"{0}\" is not base64")]
    Base64(&'static str),
}

fn not_json(error: &serde_json::Error) -> RecordError {
    // serde_json counts lines within the text; an envelope has one, and the caller names its number.
    let message = error.to_string();
    let message = message.split_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    match error.classify() {
        serde_json::error::Category::Data => RecordError::Field(message.to_owned()),
        _ => RecordError::NotJson(format!("{message} at column {}", error.column())),
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("text and JSON values always have a JSON form");
}

fn text_field(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            json(text, out);
        }
        Err(_) => {
            out.extend_from_slice(b"_base64\":\"");
            out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

fn header_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value.map(std::str::from_utf8) {
        None => out.extend_from_slice(b"null"),
        Some(Ok(text)) => json(text, out),
        Some(Err(_)) => {
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(BASE64.encode(value.unwrap_or_default()).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

fn decode(field: &'static str, text: &str) -> Result<Bytes, RecordError> {
    BASE64.decode(text).map(Bytes::from).map_err(|_| RecordError::Base64(field))
}

/// A JSON string is its text, null is nothing, everything else is its own compact JSON text.
fn bytes_of(raw: &RawValue) -> Result<Option<Bytes>, RecordError> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            // Raw text is checked for its shape only: a lone half of a surrogate pair gets this far.
            let string: String = serde_json::from_str(text)
                .map_err(|_| RecordError::Field("a \\u escape is no character".to_owned()))?;
            Ok(Some(string.into()))
        }
        _ => {
            let mut bytes = Vec::with_capacity(text.len());
            compact(text.as_bytes(), &mut bytes);
            Ok(Some(bytes.into()))
        }
    }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Appends JSON text without the white space between its parts.
fn compact(text: &[u8], out: &mut Vec<u8>) {
    let (mut inside, mut escaped) = (false, false);
    for byte in text {
        if !inside && byte.is_ascii_whitespace() {
            continue;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
        out.push(*byte);
    }
}

/// The envelope as it stands in JSON.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    headers: Option<Headers>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    topic: Option<Value>,
    #[serde(default)]
    partition: Option<Value>,
    #[serde(default)]
    queue: Option<Value>,
    #[serde(default)]
    exchange: Option<Value>,
    #[serde(default)]
    routing_key: Option<Value>,
    #[serde(default)]
    properties: Option<Value>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

struct Headers(Vec<(String, Option<Bytes>)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as an object, or as a list of pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, values)) = map.next_entry::<String, HeaderValues>()? {
                    headers.extend(values.0.into_iter().map(|value| (name.clone(), value)));
                }
                Ok(Headers(headers))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, values)) = pairs.next_element::<(String, HeaderValues)>()? {
                    headers.extend(values.0.into_iter().map(|value| (name.clone(), value)));
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_any(Object)
    }
}

/// The values of one header name: one, or an array of them.
struct HeaderValues(Vec<Option<Bytes>>);

impl<'de> Deserialize<'de> for HeaderValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = HeaderValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header as a string, {\"base64\":…}, null, or an array of those")
            }

            fn visit_unit<E: de::Error>(self) -> Result<HeaderValues, E> {
                Ok(HeaderValues(vec![None]))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderValues, E> {
                Ok(HeaderValues(vec![Some(Bytes::copy_from_slice(text.as_bytes()))]))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<HeaderValues, E> {
                self.visit_str(if value { "true" } else { "false" })
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<HeaderValues, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<HeaderValues, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<HeaderValues, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderValues, A::Error> {
                let entry = map.next_entry::<String, String>()?;
                let Some(text) = entry.filter(|(name, _)| name == "base64").map(|(_, text)| text) else {
                    return Err(de::Error::custom("a header that is an object is {\"base64\":…}"));
                };
                let bytes = BASE64.decode(text).map_err(|_| de::Error::custom("a header is not base64"))?;
                if map.next_key::<IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom("a header that is an object is {\"base64\":…}"));
                }
                Ok(HeaderValues(vec![Some(bytes.into())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<HeaderValues, A::Error> {
                let mut values = Vec::new();
                while let Some(item) = items.next_element::<HeaderValues>()? {
                    values.extend(item.0);
                }
                Ok(HeaderValues(values))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn json_of(record: &Record) -> String {
        let mut out = Vec::new();
        record.write_json(Embed::Never, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn header(name: &str, value: &[u8]) -> (String, Option<Bytes>) {
        (name.to_owned(), Some(Bytes::copy_from_slice(value)))
    }

    #[test]
    fn the_json_form_is_as_documented() {
        let mut record = Record::of("hello \"you\"\n");
        assert_eq!(json_of(&record), r#"{"value":"hello \"you\"\n"}"#);
        record.key = Some("ada".into());
        record.headers = vec![header("a", b"1"), header("a", b"2"), header("b", b"\xff"), ("c".into(), None)];
        record.timestamp = Some(1_763_884_814_123);
        record.provenance = vec![("topic", "orders".into()), ("offset", 42.into())];
        assert_eq!(
            json_of(&record),
            r#"{"key":"ada","value":"hello \"you\"\n","headers":{"a":["1","2"],"b":{"base64":"/w=="},"c":null},"timestamp":1763884814123,"topic":"orders","offset":42}"#
        );
        let apart = vec![header("a", b"1"), header("a", b"\xff"), header("b", b"3"), ("a".into(), None)];
        let apart = Record { headers: apart, ..Record::default() };
        assert_eq!(
            json_of(&apart),
            r#"{"value":null,"headers":[["a","1"],["a",{"base64":"/w=="}],["b","3"],["a",null]]}"#
        );
        assert_eq!(Record::from_json(json_of(&apart).as_bytes()).unwrap(), apart);
        let binary = Record { key: Some(b"\xfe"[..].into()), ..Record::of(&b"\x00\xff"[..]) };
        assert_eq!(json_of(&binary), r#"{"key_base64":"/g==","value_base64":"AP8="}"#);
        assert_eq!(json_of(&Record::default()), r#"{"value":null}"#);
    }

    #[test]
    fn a_value_that_is_json_is_embedded_when_asked_for() {
        let embedded = |value: &'static str| {
            let mut out = Vec::new();
            Record::of(value).write_json(Embed::IfJson, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            embedded("{\n \"a b\" : 12345678901234567890 }\n"),
            r#"{"value":{"a b":12345678901234567890}}"#
        );
        assert_eq!(embedded("plain"), r#"{"value":"plain"}"#);
    }

    #[test]
    fn input_takes_what_other_tools_write() {
        let read = |text: &str| Record::from_json(text.as_bytes());
        assert_eq!(read(r#"{"value":{"a": [1, "x y"]}}"#).unwrap(), Record::of(r#"{"a":[1,"x y"]}"#));
        assert_eq!(read(r#" {"value":7,"offset":1,"unknown":[{}]} "#).unwrap(), Record::of("7"));
        assert_eq!(read(r#"{"value":null,"key":null}"#).unwrap(), Record::default());
        let record =
            read(r#"{"value":"","headers":{"n":1,"t":true,"l":["a",{"base64":"/w=="},null]},"topic":"t"}"#)
                .unwrap();
        let expected = [
            header("n", b"1"),
            header("t", b"true"),
            header("l", b"a"),
            header("l", b"\xff"),
            ("l".into(), None),
        ];
        assert_eq!(record.headers, expected);
        assert_eq!(record.origin("topic"), Some(&Value::from("t")));
    }

    #[test]
    fn broken_input_says_what_is_wrong() {
        for (text, why) in [
            ("", "does not begin with '{'"),
            ("hello", "does not begin with '{'"),
            ("[1]", "does not begin with '{'"),
            ("{\"value\":1", "not a JSON object"),
            ("{}", "missing \"value\""),
            (r#"{"key":"a"}"#, "missing \"value\""),
            (r#"{"value":1,"value_base64":"AA=="}"#, "both \"value\" and \"value_base64\""),
            (r#"{"value_base64":"?"}"#, "\"value_base64\" is not base64"),
            (r#"{"value":1,"headers":"a=b"}"#, "headers as an object, or as a list of pairs"),
            (r#"{"value":1,"headers":["a","b"]}"#, "invalid type: string \"a\", expected a tuple of size 2"),
            (r#"{"value":1,"headers":{"a":{"b":"c"}}}"#, "a header that is an object is"),
            (r#"{"value":1,"timestamp":"now"}"#, "invalid type: string \"now\", expected i64"),
            (r#"{"value":"\ud800"}"#, "is no character"),
        ] {
            let message = Record::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop_oneof![vec(any::<u8>(), 0..12).prop_map(Bytes::from), ".{0,8}".prop_map(Bytes::from)]
    }

    prop_compose! {
        fn records()(
            key in option::of(bytes()), value in option::of(bytes()), timestamp in option::of(any::<i64>()),
            headers in vec(("[ab\"é]{0,1}", option::of(bytes())), 0..6),
        ) -> Record {
            Record { key, value, headers, timestamp, provenance: Vec::new() }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(record in records()) {
            let text = json_of(&record);
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(Record::from_json(text.as_bytes()).unwrap(), record);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "[{}\\[\\]\":,a-z0-9\\\\ ]{0,40}") {
            let _ = Record::from_json(&bytes);
            let _ = Record::from_json(text.as_bytes());
            let _ = Record::from_json(format!("{{\"value\":{text}}}").as_bytes());
        }
    }
}
