//! Connect: errors and ends of streams as JSON, and calls in the query of a GET.

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::metadata::{BASE64, BASE64_URL};
use super::{CompressionError, Encoding};
use crate::rpc::status::Detail;
use crate::rpc::{Code, Format, Status};

/// The version of the protocol, in `connect-protocol-version` and, after a `v`, in a GET's `connect`.
pub const VERSION: &str = "1";

#[derive(Serialize, Deserialize)]
struct ErrorJson<'a> {
    // Null from some peers.
    #[serde(default)]
    code: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    details: Vec<DetailJson>,
}

#[derive(Serialize, Deserialize)]
struct DetailJson {
    #[serde(rename = "type")]
    type_name: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    debug: Option<Box<RawValue>>,
}

#[derive(Default, Serialize, Deserialize)]
struct EndJson<'a> {
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorJson<'a>>,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// Renders a detail as JSON for its `debug` field, if its type is known.
pub type DebugDetail<'a> = &'a dyn Fn(&Detail) -> Option<String>;

fn error_json(status: &Status, debug: DebugDetail<'_>) -> ErrorJson<'static> {
    let details = status.details.iter().map(|detail| DetailJson {
        type_name: detail.type_name.clone(),
        value: BASE64.encode(&detail.value),
        debug: debug(detail).and_then(|json| RawValue::from_string(json).ok()),
    });
    ErrorJson {
        code: Some(status.code.connect_name().into()),
        message: status.message.clone(),
        details: details.collect(),
    }
}

fn error_status(json: ErrorJson<'_>, fallback: Code) -> Status {
    // "ok" is not the code of an error.
    let code = json
        .code
        .as_deref()
        .and_then(Code::from_connect_name)
        .filter(|code| *code != Code::Ok)
        .unwrap_or(fallback);
    let details = json.details.into_iter().filter_map(|detail| {
        let value = BASE64.decode(&detail.value).ok()?.into();
        let type_name = detail.type_name.rsplit('/').next().unwrap_or_default().to_owned();
        Some(Detail { type_name, value })
    });
    Status { code, message: json.message, details: details.collect() }
}

/// Writes the body of a failed unary call.
pub fn encode_error(status: &Status, debug: DebugDetail<'_>) -> Bytes {
    serde_json::to_vec(&error_json(status, debug)).expect("strings become JSON").into()
}

/// Reads the body of a failed unary call; `None` if it is not such JSON. A missing or unknown code is
/// `fallback`, which the HTTP status gives.
pub fn decode_error(body: &[u8], fallback: Code) -> Option<Status> {
    serde_json::from_slice::<ErrorJson<'_>>(body).ok().map(|json| error_status(json, fallback))
}

/// Writes the data of an end-of-stream frame.
pub fn encode_end(status: &Status, trailers: &HeaderMap, debug: DebugDetail<'_>) -> Bytes {
    let mut metadata = serde_json::Map::new();
    for name in trailers.keys() {
        let values = trailers
            .get_all(name)
            .iter()
            .map(|value| serde_json::Value::from(String::from_utf8_lossy(value.as_bytes())));
        metadata.insert(name.as_str().to_owned(), values.collect());
    }
    let error = (!status.is_ok()).then(|| error_json(status, debug));
    serde_json::to_vec(&EndJson { error, metadata }).expect("strings become JSON").into()
}

/// Reads the data of an end-of-stream frame; `None` if it is not such JSON.
pub fn decode_end(data: &[u8]) -> Option<(Status, HeaderMap)> {
    let end: EndJson<'_> = serde_json::from_slice(data).ok()?;
    let mut trailers = HeaderMap::new();
    for (name, values) in &end.metadata {
        let name = HeaderName::try_from(name).ok()?;
        for value in values.as_array()? {
            trailers.try_append(name.clone(), HeaderValue::try_from(value.as_str()?).ok()?).ok()?;
        }
    }
    let status = end.error.map_or_else(Status::ok, |error| error_status(error, Code::Unknown));
    Some((status, trailers))
}

/// A unary call in the query of a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetQuery {
    /// Encoding of the message.
    pub format: Format,
    /// The message, decompressed.
    pub message: Bytes,
    /// True if the query says `connect=v1`.
    pub has_version: bool,
}

/// Why a query is not a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// A parameter that must be there is not.
    #[error("query parameter {0:?} is missing")]
    Missing(&'static str),
    /// A parameter has a value that is not understood.
    #[error("query parameter {name}={value:?} is not supported: expected {expected}")]
    Unsupported {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would have been understood.
        expected: &'static str,
    },
    /// The message is not base64 although `base64=1`.
    #[error("query parameter \"message\" is not URL-safe base64")]
    Base64,
    /// The message does not decompress.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Reads the query of a GET.
///
/// # Errors
/// Missing or foreign parameters, a message that does not decode or exceeds `size_max`.
pub fn decode_get(query: &str, size_max: usize) -> Result<GetQuery, GetError> {
    let unsupported = |name, value: &[u8], expected| GetError::Unsupported {
        name,
        value: String::from_utf8_lossy(value).into_owned(),
        expected,
    };
    let (mut format, mut message, mut base64) = (None, None, false);
    let (mut encoding, mut has_version) = (Encoding::Identity, false);
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode_component(value);
        match name {
            "encoding" => {
                format = Some(match &value[..] {
                    b"proto" => Format::Proto,
                    b"json" => Format::Json,
                    other => return Err(unsupported("encoding", other, "proto or json")),
                });
            }
            "message" => message = Some(value),
            "base64" => base64 = value == b"1",
            "compression" => {
                encoding = std::str::from_utf8(&value)
                    .ok()
                    .and_then(Encoding::from_name)
                    .ok_or_else(|| unsupported("compression", &value, Encoding::ACCEPTED))?;
            }
            "connect" if value == b"v1" => has_version = true,
            "connect" => return Err(unsupported("connect", &value, "v1")),
            _ => {}
        }
    }
    let format = format.ok_or(GetError::Missing("encoding"))?;
    let message = message.ok_or(GetError::Missing("message"))?;
    let message = if base64 { BASE64_URL.decode(message).map_err(|_| GetError::Base64)? } else { message };
    Ok(GetQuery { format, message: encoding.decompress(&message.into(), size_max)?, has_version })
}

/// Form encoding, as browsers write it: a plus sign is a space.
fn decode_component(text: &str) -> Vec<u8> {
    if text.contains('+') {
        return percent_decode(text.replace('+', " ").as_bytes()).collect();
    }
    percent_decode(text.as_bytes()).collect()
}

/// Writes the query of a GET, without the question mark.
pub fn encode_get(format: Format, message: &Bytes, encoding: Encoding) -> String {
    let format_name = match format {
        Format::Proto => "proto",
        Format::Json => "json",
    };
    let compressed = encoding.compress(message);
    // JSON stays readable; anything that may not be text goes as base64.
    let text = match (encoding, format) {
        (Encoding::Identity, Format::Json) => std::str::from_utf8(&compressed).ok(),
        _ => None,
    };
    let message = match text {
        Some(text) => format!("message={}", utf8_percent_encode(text, NON_ALPHANUMERIC)),
        None => format!("base64=1&message={}", BASE64_URL.encode(&compressed)),
    };
    let compression = match encoding {
        Encoding::Identity => String::new(),
        other => format!("&compression={}", other.name()),
    };
    format!("connect=v{VERSION}&encoding={format_name}{compression}&{message}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_DEBUG: DebugDetail<'static> = &|_| None;

    fn not_found() -> Status {
        Status {
            code: Code::NotFound,
            message: "no \"ada\"".to_owned(),
            details: vec![Detail { type_name: "a.B".to_owned(), value: Bytes::from_static(b"\x08\x01") }],
        }
    }

    #[test]
    fn golden_error() {
        let body = encode_error(&not_found(), &|_| Some(r#"{"x":1}"#.to_owned()));
        assert_eq!(
            body,
            r#"{"code":"not_found","message":"no \"ada\"","details":[{"type":"a.B","value":"CAE","debug":{"x":1}}]}"#
        );
        assert_eq!(decode_error(&body, Code::Unknown), Some(not_found()));
    }

    #[test]
    fn a_missing_or_unknown_code_falls_back() {
        for body in [r"{}", r#"{"code":"teapot"}"#, r#"{"code":"ok"}"#, r#"{"code":"NOT_FOUND"}"#] {
            assert_eq!(decode_error(body.as_bytes(), Code::Internal).unwrap().code, Code::Internal, "{body}");
        }
        assert_eq!(decode_error(b"<html>", Code::Internal), None);
    }

    #[test]
    fn golden_end_of_stream() {
        assert_eq!(encode_end(&Status::ok(), &HeaderMap::new(), NO_DEBUG), "{}");
        let mut trailers = HeaderMap::new();
        trailers.append("x-a", HeaderValue::from_static("1"));
        trailers.append("x-a", HeaderValue::from_static("2"));
        let end = encode_end(&not_found(), &trailers, NO_DEBUG);
        assert_eq!(
            end,
            r#"{"error":{"code":"not_found","message":"no \"ada\"","details":[{"type":"a.B","value":"CAE"}]},"metadata":{"x-a":["1","2"]}}"#
        );
        assert_eq!(decode_end(&end), Some((not_found(), trailers)));
    }

    #[test]
    fn golden_get() {
        let query = decode_get("encoding=json&message=%7B%22name%22%3A%22Ada+L%22%7D", 100).unwrap();
        assert_eq!(query.message, r#"{"name":"Ada L"}"#);
        assert!(!query.has_version);
        for message in ["CgNBZGE", "CgNBZGE="] {
            let query =
                decode_get(&format!("connect=v1&encoding=proto&base64=1&message={message}"), 100).unwrap();
            assert_eq!((&query.message[..], query.has_version), (&b"\x0a\x03Ada"[..], true));
        }
    }

    #[test]
    fn a_query_that_is_no_call_is_explained() {
        let cases = [
            ("", "query parameter \"encoding\" is missing"),
            ("encoding=proto", "query parameter \"message\" is missing"),
            (
                "encoding=xml&message=",
                "query parameter encoding=\"xml\" is not supported: expected proto or json",
            ),
            ("connect=v2", "query parameter connect=\"v2\" is not supported: expected v1"),
            ("encoding=proto&base64=1&message=%21", "query parameter \"message\" is not URL-safe base64"),
            ("encoding=json&message=12345678901", "decompressed message is over the limit of 10 bytes"),
        ];
        for (query, expected) in cases {
            assert_eq!(decode_get(query, 10).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn calls_in_a_query_come_back(message: Vec<u8>, json: bool, compress: bool) {
            let format = if json { Format::Json } else { Format::Proto };
            let encoding = if compress { Encoding::Gzip } else { Encoding::Identity };
            let message = Bytes::from(message);
            let query = encode_get(format, &message, encoding);
            prop_assert_eq!(decode_get(&query, message.len()), Ok(GetQuery { format, message, has_version: true }));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text: String) {
            let _ = decode_error(&bytes, Code::Unknown);
            let _ = decode_end(&bytes);
            let _ = decode_get(&text, 100);
        }
    }
}
