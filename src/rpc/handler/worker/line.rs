//! The lines of the worker protocol: ours written, theirs read.

use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::rpc::Call;
use crate::rpc::handler::contract::{metadata_from_json, metadata_json, milliseconds_left};

/// The first line of a call; the only one, with its message, if the caller does not stream.
pub fn open(id: u64, call: &Call, message: Option<&Bytes>) -> Bytes {
    let mut line = String::with_capacity(96 + call.method.path.len() + message.map_or(0, Bytes::len));
    // The names of a schema are identifiers: nothing in a path needs an escape.
    let metadata =
        if call.metadata.is_empty() { "{}".to_owned() } else { metadata_json(&call.metadata).to_string() };
    let path = &call.method.path;
    let _ = write!(line, "{{\"id\":{id},\"method\":\"{path}\",\"metadata\":{metadata}");
    if let Some(deadline) = call.deadline {
        let _ = write!(line, ",\"deadline_ms\":{}", milliseconds_left(deadline));
    }
    let mut line = line.into_bytes();
    if let Some(message) = message {
        line.extend_from_slice(b",\"message\":");
        line.extend_from_slice(message);
        line.extend_from_slice(b",\"end\":true");
    }
    line.extend_from_slice(b"}\n");
    line.into()
}

/// A further request message of a caller that streams.
pub fn message(id: u64, message: &Bytes) -> Bytes {
    let mut line = format!("{{\"id\":{id},\"message\":").into_bytes();
    line.extend_from_slice(message);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// The caller has said all.
pub fn end(id: u64) -> Bytes {
    format!("{{\"id\":{id},\"end\":true}}\n").into()
}

/// Nobody waits for the answer any more.
pub fn cancel(id: u64) -> Bytes {
    format!("{{\"id\":{id},\"cancel\":true}}\n").into()
}

/// A line of a worker.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// The next message, as JSON.
    pub message: Option<Bytes>,
    /// Leading metadata.
    pub headers: HeaderMap,
    /// Trailing metadata.
    pub trailers: HeaderMap,
    /// The call failed.
    pub error: Option<Value>,
    /// Nothing follows.
    pub end: bool,
}

impl Answer {
    /// True if it ends a call with one reply.
    pub fn ends_unary(&self) -> bool {
        self.message.is_some() || self.ends_stream()
    }

    /// True if it ends a call with any number of replies.
    pub fn ends_stream(&self) -> bool {
        self.end || self.error.is_some()
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    headers: Option<Value>,
    trailers: Option<Value>,
    error: Option<Value>,
    #[serde(default)]
    end: bool,
}

/// Reads a line: the call it answers, or `None` for the oldest one, and what it says.
///
/// # Errors
/// What is wrong with it, and the call it belongs to if that much could be read.
pub fn parse(line: &Bytes) -> Result<(Option<u64>, Answer), (Option<u64>, String)> {
    let raw: Raw<'_> = serde_json::from_slice(line).map_err(|error| (None, error.to_string()))?;
    let id = match raw.id {
        None => None,
        // Shells quote what they should not.
        Some(id) => match id.get().trim_matches('"').parse() {
            Ok(id) => Some(id),
            Err(_) => return Err((None, format!("{id} is no id of a call"))),
        },
    };
    let mut answer = Answer {
        message: raw.message.map(|message| line.slice_ref(message.get().as_bytes())),
        error: raw.error.filter(|error| !error.is_null()),
        end: raw.end,
        ..Answer::default()
    };
    for (metadata, map) in [(raw.headers, &mut answer.headers), (raw.trailers, &mut answer.trailers)] {
        if let Some(metadata) = metadata.filter(|metadata| !metadata.is_null()) {
            metadata_from_json(&metadata, map).map_err(|error| (id, error))?;
        }
    }
    Ok((id, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::handler::testing;

    #[test]
    fn lines_are_what_the_documentation_says() {
        let mut call = testing::call(&testing::method("demo.Greeter/Hello"), &["{}"]);
        let message = Bytes::from_static(b"{\"name\":\"Ada\"}");
        assert_eq!(
            open(7, &call, Some(&message)),
            "{\"id\":7,\"method\":\"demo.Greeter/Hello\",\"metadata\":{},\"message\":{\"name\":\"Ada\"},\"end\":true}\n"
        );
        call.metadata.append("x-a", "1\"".parse().unwrap());
        assert_eq!(
            open(7, &call, None),
            "{\"id\":7,\"method\":\"demo.Greeter/Hello\",\"metadata\":{\"x-a\":[\"1\\\"\"]}}\n"
        );
        assert_eq!(super::message(7, &message), "{\"id\":7,\"message\":{\"name\":\"Ada\"}}\n");
        assert_eq!(end(7), "{\"id\":7,\"end\":true}\n");
        assert_eq!(cancel(7), "{\"id\":7,\"cancel\":true}\n");
    }

    fn read(text: &'static str) -> Result<(Option<u64>, Answer), (Option<u64>, String)> {
        parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn answers_may_be_as_short_as_can_be() {
        let (id, answer) = read(r#"{"id":7,"message":{"a":[1]},"other":0}"#).unwrap();
        assert_eq!((id, answer.message.as_deref()), (Some(7), Some(&b"{\"a\":[1]}"[..])));
        assert!(answer.ends_unary() && !answer.ends_stream());
        let (id, answer) = read(r#"{"id":"7","end":true}"#).unwrap();
        assert!(id == Some(7) && answer.ends_stream());
        let (id, answer) = read(r#"{"error":"no"}"#).unwrap();
        assert!(id.is_none() && answer.ends_unary() && answer.ends_stream());
        assert!(!read(r#"{"id":1,"headers":{"a":"b"},"error":null}"#).unwrap().1.ends_unary());
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(read(r#"{"id":7,"headers":[]}"#).unwrap_err().0, Some(7));
        assert_eq!(read(r#"{"id":"x"}"#).unwrap_err(), (None, "\"x\" is no id of a call".to_owned()));
        assert!(read("hello").is_err());
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(line: Vec<u8>) {
            let _ = parse(&Bytes::from(line));
        }
    }
}
