//! What is asked: the path, who asks, the query, the body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value as Json};

use super::reply::{Outcome, Refusal};
use crate::transport::http::Query;

/// Who asks, and what such a one may see.
#[derive(Debug)]
pub(super) struct Caller {
    pub name: Arc<str>,
    pub tags: Vec<String>,
}

impl Caller {
    fn has(&self, tags: &[&str]) -> bool {
        self.tags.iter().any(|tag| tags.contains(&tag.as_str()))
    }

    pub fn is_administrator(&self) -> bool {
        self.has(&["administrator"])
    }

    pub fn is_monitor(&self) -> bool {
        self.has(&["administrator", "monitoring"])
    }

    pub fn is_policymaker(&self) -> bool {
        self.has(&["administrator", "policymaker"])
    }

    pub fn is_manager(&self) -> bool {
        self.has(&["administrator", "monitoring", "policymaker", "management"])
    }
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub caller: &'a Caller,
    pub query: &'a Query,
}

/// Something to be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub caller: &'a Caller,
    pub query: &'a Query,
    pub body: &'a Bytes,
    /// The header X-Reason.
    pub reason: Option<&'a str>,
}

/// The segments of a path, decoded. A slash at the end makes no other path.
pub(super) fn path(path: &str) -> Result<Vec<String>, Refusal> {
    let malformed = |segment: &str| {
        let mut rest = segment.as_bytes();
        while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
            let digits = rest.get(at + 1..at + 3);
            if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                return true;
            }
            rest = &rest[at + 3..];
        }
        false
    };
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        if malformed(segment) {
            return Err(Refusal::bare(StatusCode::BAD_REQUEST));
        }
        segments.push(percent_decode_str(segment).decode_utf8_lossy().into_owned());
    }
    if segments.len() > 1 && segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    Ok(segments)
}

/// Whether a body is said to be JSON, or nothing is said of it.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// What RabbitMQ says of a body that is a text.
const TWICE: &str =
    "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?";

/// A body that is a JSON object; nothing at all stands for an empty one.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Json>, Refusal> {
    if body.is_empty() || body == b"null" {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(Json::String(_)) => Err(Refusal::bad_request(TWICE)),
        _ => Err(Refusal::bad_request("not_json")),
    }
}

/// Members that have to be there, or RabbitMQ's list of those that are not.
pub(super) fn wanted<'a, const N: usize>(
    object: &'a Map<String, Json>,
    names: [&str; N],
) -> Result<[&'a Json; N], Refusal> {
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !object.contains_key(**name))
        .map(|name| format!("{{key_missing,{name}}}"))
        .collect();
    if !missing.is_empty() {
        // Erlang breaks what is longer than a line.
        let long = missing.iter().map(|one| one.len() + 1).sum::<usize>() > 79;
        let between = if long { ",\n " } else { "," };
        return Err(Refusal::bad_request(format!("[{}]", missing.join(between))));
    }
    Ok(names.map(|name| &object[name]))
}

/// A text.
pub(super) fn text<'a>(value: &'a Json, name: &str) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| Refusal::bad_request(serde_json::json!(["not_string", name])))
}

/// RabbitMQ takes numbers in quotes as well.
pub(super) fn integer(value: &Json) -> Result<i64, Refusal> {
    let number = match value {
        Json::Number(number) => number.as_i64(),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| Refusal::bad_request(serde_json::json!(["not_integer", value])))
}

/// RabbitMQ takes truth in quotes as well.
pub(super) fn boolean(value: Option<&Json>) -> Result<Option<bool>, Refusal> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Bool(truth)) => Ok(Some(*truth)),
        Some(Json::String(text)) if text == "true" => Ok(Some(true)),
        Some(Json::String(text)) if text == "false" => Ok(Some(false)),
        Some(other) => Err(Refusal::bad_request(serde_json::json!(["not_boolean", other]))),
    }
}

/// Nothing there.
pub(super) fn missing<T>() -> Result<T, Refusal> {
    Err(Refusal::nothing_there())
}

/// A single thing, if it is there.
pub(super) fn one(found: Option<Json>) -> Outcome {
    found.map(super::reply::Reply::One).ok_or_else(Refusal::nothing_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        let of = |text: &str| path(text).unwrap();
        assert_eq!(of("/api/queues/%2F/a%2Fb"), ["api", "queues", "/", "a/b"]);
        assert_eq!(of("/api/queues/"), ["api", "queues"]);
        assert_eq!(of("/api/queues//x"), ["api", "queues", "", "x"]);
        assert_eq!(of("/api/%252F"), ["api", "%2F"]);
        for bad in ["/api/%zz", "/api/%2", "/%"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
