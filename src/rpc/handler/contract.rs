//! The contract with a command: what it is told, how its messages look, and what its end means.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::rpc::status::Detail;
use crate::rpc::{Call, Code, Format, Method, Payload, Schema, Status};
use crate::shutdown::Shutdown;

/// What a handler's control file may hold.
const CONTROL_BYTES_MAX: u64 = 256 * 1024;

/// Values of metadata that a handler may give to one call.
const METADATA_MAX: usize = 1024;

/// Bounds of what a handler may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one reply message.
    pub message_bytes_max: usize,
    /// Commands that run at the same time; further calls wait for their turn.
    pub jobs_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 4 MiB is what gRPC clients take by default. 256 processes are more than two cores can
        // use and few enough to start.
        Self { message_bytes_max: 4 << 20, jobs_max: 256 }
    }
}

/// The place handlers could not be given.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a directory for control files: {0}")]
pub struct HostError(std::io::Error);

/// What all handlers of a server share.
#[derive(Debug)]
pub struct Host {
    pub(super) shutdown: Shutdown,
    pub(super) limits: Limits,
    pub(super) jobs: Arc<Semaphore>,
    control: tempfile::TempDir,
}

impl Host {
    /// Room for `limits.jobs_max` commands.
    ///
    /// # Errors
    /// No temporary directory.
    pub fn new(limits: Limits, shutdown: &Shutdown) -> Result<Arc<Self>, HostError> {
        let control = tempfile::Builder::new().prefix("bandy-calls-").tempdir().map_err(HostError)?;
        let jobs = Arc::new(Semaphore::new(limits.jobs_max.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Arc::new(Self { shutdown: shutdown.clone(), limits, jobs, control }))
    }

    pub(super) fn control_file(&self, call: u64) -> ControlFile {
        ControlFile { path: self.control.path().join(call.to_string()) }
    }
}

/// How messages look to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The JSON mapping of the message, one line each.
    Json,
    /// The text of a `google.protobuf.StringValue`, as it is.
    Text,
}

impl Dialect {
    /// The bytes of a request message for the handler. JSON is canonical and on one line, whatever
    /// the caller sent.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: it is not a message of the method.
    pub fn request(self, method: &Method, message: &Payload) -> Result<Bytes, Status> {
        // A caller's JSON goes through protobuf: that checks it and gives names, numbers and enums
        // the one spelling that handlers have to know.
        let proto = method.input.convert(message, Format::Proto)?;
        match self {
            Self::Text => {
                let text = String::decode(proto).map_err(|error| {
                    Status::new(Code::InvalidArgument, format!("not a {}: {error}", method.input.full_name()))
                })?;
                Ok(text.into())
            }
            Self::Json => method.input.convert(&Payload::proto(proto), Format::Json),
        }
    }

    /// The reply message in what a handler printed.
    ///
    /// # Errors
    /// INTERNAL: it is not a message of the method.
    pub fn reply(self, method: &Method, printed: Bytes) -> Result<Payload, Status> {
        match self {
            Self::Text => match std::str::from_utf8(&printed) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
                    Ok(Payload::proto(text.encode_to_vec()))
                }
                Err(error) => {
                    Err(Status::new(Code::Internal, format!("the handler's reply is not UTF-8: {error}")))
                }
            },
            Self::Json if printed.trim_ascii().is_empty() => Ok(Payload::proto(Bytes::new())),
            Self::Json => match method.output.convert(&Payload::json(printed), Format::Proto) {
                Ok(message) => Ok(Payload::proto(message)),
                Err(error) => {
                    Err(Status::new(Code::Internal, format!("the handler's reply is {}", error.message)))
                }
            },
        }
    }
}

/// The variables that a command finds.
pub fn environment(call: &Call, control: &ControlFile) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("BANDY_METHOD".into(), call.method.path.clone().into()),
        ("BANDY_CALL_ID".into(), call.id.to_string().into()),
        ("BANDY_PEER".into(), call.peer.address.clone().into()),
        ("BANDY_PROTOCOL".into(), call.protocol.name().into()),
        ("BANDY_CONTROL".into(), control.path.clone().into()),
        ("BANDY_HEADERS".into(), metadata_json(&call.metadata).to_string().into()),
    ];
    if let Some(subject) = &call.peer.tls_subject {
        variables.push(("BANDY_TLS_SUBJECT".into(), subject.into()));
    }
    if let Some(deadline) = call.deadline {
        variables.push(("BANDY_DEADLINE_MS".into(), milliseconds_left(deadline).to_string().into()));
    }
    for name in call.metadata.keys() {
        let variable: String = name.as_str().chars().map(variable_letter).collect();
        let values: Vec<&[u8]> = call.metadata.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        variables
            .push((format!("BANDY_HEADER_{variable}").into(), OsString::from_vec(values.join(&b", "[..]))));
    }
    variables
}

fn variable_letter(letter: char) -> char {
    if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }
}

/// Milliseconds until `deadline`, 0 when it has passed.
pub fn milliseconds_left(deadline: Instant) -> u128 {
    deadline.saturating_duration_since(Instant::now()).max(Duration::ZERO).as_millis()
}

/// Metadata as `{"name": ["value", …]}`.
pub fn metadata_json(metadata: &HeaderMap) -> Value {
    let values = |name: &HeaderName| {
        let values = metadata.get_all(name).iter();
        Value::Array(values.map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect())
    };
    Value::Object(metadata.keys().map(|name| (name.as_str().to_owned(), values(name))).collect())
}

/// Adds the metadata in `{"name": "value" | ["value", …]}` to `map`.
///
/// # Errors
/// Not such an object, or a name or value that no protocol could carry.
pub fn metadata_from_json(value: &Value, map: &mut HeaderMap) -> Result<(), String> {
    let object = value.as_object().ok_or("metadata must be an object of strings")?;
    for (name, values) in object {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is not a metadata name"))?;
        for value in values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice) {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(format!("{name} must be a string"));
                }
            };
            let text = HeaderValue::from_bytes(text.as_bytes())
                .map_err(|_| format!("the value of {name} has control characters"))?;
            if map.len() >= METADATA_MAX || map.try_append(header.clone(), text).is_err() {
                return Err(format!("more than {METADATA_MAX} values of metadata"));
            }
        }
    }
    Ok(())
}

/// Adds `more` to the metadata of one call, as far as there is room: nobody's headers are longer than that.
pub fn add_metadata(metadata: &mut HeaderMap, more: HeaderMap) {
    let mut last = None;
    for (name, value) in more {
        // A repeated name comes only with its first value.
        last = name.or(last);
        if let Some(name) = &last
            && (metadata.len() >= METADATA_MAX || metadata.try_append(name.clone(), value).is_err())
        {
            return;
        }
    }
}

/// The status in `{"code": 5 | "NOT_FOUND", "message": "…", "details": […]}`, or in a bare text.
///
/// # Errors
/// An unknown code, or details whose type is unknown.
pub fn status_from_json(value: &Value, schema: &Schema) -> Result<Status, String> {
    if let Value::String(message) = value {
        return Ok(Status::new(Code::Unknown, message));
    }
    let code = match value.get("code") {
        None | Some(Value::Null) => Some(Code::Unknown),
        Some(Value::String(name)) => Code::from_name(name),
        Some(number) => {
            number.as_u64().and_then(|number| u32::try_from(number).ok()).and_then(Code::from_number)
        }
    };
    let code = code.ok_or_else(|| format!("{} is not a status code", value["code"]))?;
    let message = value.get("message").and_then(Value::as_str).unwrap_or_default();
    let mut status = Status::new(code, message);
    for detail in value.get("details").and_then(Value::as_array).into_iter().flatten() {
        status.details.push(detail_from_json(detail, schema)?);
    }
    Ok(status)
}

/// A detail as `google.protobuf.Any` in JSON (`{"@type": …}`) or as Connect writes it
/// (`{"type": …, "value": base64}`).
fn detail_from_json(detail: &Value, schema: &Schema) -> Result<Detail, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;

    if let (Some(type_name), Some(value)) = (detail["type"].as_str(), detail["value"].as_str()) {
        let value = STANDARD_NO_PAD
            .decode(value.trim_end_matches('='))
            .map_err(|error| format!("the value of detail {type_name} is not base64: {error}"))?;
        return Ok(Detail { type_name: short_type_name(type_name), value: value.into() });
    }
    let type_name = detail["@type"].as_str().map(short_type_name).ok_or("a detail needs \"@type\"")?;
    let known = schema.message(&type_name).or_else(|| Schema::standard().message(&type_name));
    let message = known.ok_or_else(|| {
        format!(
            "the type of detail {type_name} is unknown: serve its .proto file too, or give {{\"type\": \"{type_name}\", \"value\": BASE64}}"
        )
    })?;
    let json = match detail.as_object() {
        // Types with a JSON form of their own stand in "value".
        Some(object) if type_name.starts_with("google.protobuf.") && object.contains_key("value") => {
            object["value"].to_string()
        }
        Some(object) => {
            let mut object = object.clone();
            object.remove("@type");
            Value::Object(object).to_string()
        }
        None => return Err("a detail must be an object".to_owned()),
    };
    let value = message.convert(&Payload::json(json), Format::Proto).map_err(|status| status.message)?;
    Ok(Detail { type_name, value })
}

fn short_type_name(url: &str) -> String {
    url.rsplit_once('/').map_or(url, |(_, name)| name).to_owned()
}

/// Where a handler may write metadata and status: `BANDY_CONTROL`. It does not exist until then.
#[derive(Debug)]
pub struct ControlFile {
    path: PathBuf,
}

impl Drop for ControlFile {
    fn drop(&mut self) {
        // Mostly it was never there.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a handler said beside its messages.
#[derive(Debug, Default)]
pub struct Control {
    /// Leading metadata.
    pub headers: HeaderMap,
    /// Trailing metadata.
    pub trailers: HeaderMap,
    /// How the call ends.
    pub status: Option<Status>,
}

impl ControlFile {
    /// What is in the file now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, schema: &Schema) -> Result<Control, String> {
        use std::io::Read as _;

        let mut text = String::new();
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Control::default()),
            Err(error) => return Err(error.to_string()),
        };
        file.take(CONTROL_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 > CONTROL_BYTES_MAX {
            return Err(format!("more than {CONTROL_BYTES_MAX} bytes"));
        }
        Control::parse(&text, schema)
    }
}

impl Control {
    /// What a control file with this text says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, schema: &Schema) -> Result<Self, String> {
        let mut control = Self::default();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let value = value.map_err(|error| error.to_string())?;
            let object = value.as_object().ok_or("expected one object per line")?;
            for (key, value) in object {
                match key.as_str() {
                    "headers" => metadata_from_json(value, &mut control.headers)?,
                    "trailers" => metadata_from_json(value, &mut control.trailers)?,
                    "status" => control.status = Some(status_from_json(value, schema)?),
                    _ => return Err(format!("{key:?} is not one of headers, trailers, status")),
                }
            }
        }
        Ok(control)
    }
}

/// What the end of a handler means: 64+N is gRPC status N, as `bandy rpc call` and grpcurl exit with it.
pub fn exit_status(exit: ExitStatus, last_words: &str) -> Status {
    use std::os::unix::process::ExitStatusExt as _;

    let fallback = |text: String| if last_words.is_empty() { text } else { last_words.to_owned() };
    let Some(number) = exit.code() else {
        let signal = exit.signal().unwrap_or_default();
        return Status::new(Code::Unknown, fallback(format!("the handler was killed by signal {signal}")));
    };
    match number {
        0 => Status::ok(),
        65..=80 => {
            let code = u32::try_from(number - 64).ok().and_then(Code::from_number).unwrap_or(Code::Unknown);
            Status::new(code, last_words)
        }
        124 => Status::new(Code::DeadlineExceeded, fallback("the handler ran out of time".to_owned())),
        126 | 127 => Status::new(
            Code::Internal,
            format!("the handler is not runnable: {}", fallback(format!("exit {number}"))),
        ),
        _ => Status::new(Code::Unknown, fallback(format!("the handler ended with exit code {number}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn exit(code: i32, last_words: &str) -> (Code, String) {
        let status = exit_status(ExitStatus::from_raw(code << 8), last_words);
        (status.code, status.message)
    }

    #[test]
    fn exit_codes_are_statuses() {
        assert_eq!(exit(0, "noise"), (Code::Ok, String::new()));
        for code in &Code::ALL[1..] {
            assert_eq!(exit(64 + i32::from(code.number()), "why"), (*code, "why".to_owned()));
        }
        assert_eq!(exit(1, "last line"), (Code::Unknown, "last line".to_owned()));
        assert_eq!(exit(64, ""), (Code::Unknown, "the handler ended with exit code 64".to_owned()));
        assert_eq!(exit(81, "").0, Code::Unknown);
        assert_eq!(exit(124, "").0, Code::DeadlineExceeded);
        assert_eq!(
            exit(127, "sh: x: not found"),
            (Code::Internal, "the handler is not runnable: sh: x: not found".to_owned())
        );
        let killed = exit_status(ExitStatus::from_raw(9), "");
        assert_eq!(killed, Status::new(Code::Unknown, "the handler was killed by signal 9"));
    }

    #[test]
    fn control_lines_are_merged_in_order() {
        let text = r#"{"headers":{"a":"1"}}
            {"headers":{"a":["2","3"]},"trailers":{"n":7}}
            {"status":{"code":"not_found","message":"gone","details":[{"type":"a.B","value":"CAE"}]}}"#;
        let control = Control::parse(text, &Schema::default()).unwrap();
        assert_eq!(metadata_json(&control.headers).to_string(), r#"{"a":["1","2","3"]}"#);
        assert_eq!(metadata_json(&control.trailers).to_string(), r#"{"n":["7"]}"#);
        let status = control.status.unwrap();
        assert_eq!((status.code, status.message.as_str()), (Code::NotFound, "gone"));
        assert_eq!(status.details, [Detail { type_name: "a.B".into(), value: Bytes::from_static(&[8, 1]) }]);
    }

    #[test]
    fn the_usual_details_need_no_schema() {
        let text = r#"{"status":{"code":3,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R"}]}}"#;
        let status = Control::parse(text, &Schema::default()).unwrap().status.unwrap();
        let value = Bytes::from_static(b"\x0a\x01R");
        assert_eq!(status.details, [Detail { type_name: "google.rpc.ErrorInfo".into(), value }]);
    }

    #[test]
    fn metadata_without_end_is_cut() {
        let line = || {
            let pairs =
                (0..500).map(|n| (HeaderName::try_from(format!("x-{n}")).unwrap(), HeaderValue::from(n)));
            pairs.collect::<HeaderMap>()
        };
        let mut metadata = HeaderMap::new();
        (0..100).for_each(|_| add_metadata(&mut metadata, line()));
        assert_eq!(metadata.len(), METADATA_MAX);
        assert_eq!(metadata.get_all("x-0").iter().count(), 3);
    }

    #[test]
    fn control_mistakes_are_named() {
        let parse = |text: &str| Control::parse(text, &Schema::default()).unwrap_err();
        assert_eq!(parse(r#"{"header":{}}"#), "\"header\" is not one of headers, trailers, status");
        assert_eq!(parse(r#"{"headers":{"a b":"1"}}"#), "\"a b\" is not a metadata name");
        assert_eq!(parse(r#"{"headers":{"a":"x\ny"}}"#), "the value of a has control characters");
        assert_eq!(parse(r#"{"status":{"code":99}}"#), "99 is not a status code");
        assert_eq!(
            parse(r#"{"status":{"code":3,"details":[{"@type":"x/a.B"}]}}"#),
            r#"the type of detail a.B is unknown: serve its .proto file too, or give {"type": "a.B", "value": BASE64}"#
        );
        let many = vec!["1"; METADATA_MAX + 1];
        let text = serde_json::json!({ "headers": { "a": many } }).to_string();
        assert_eq!(parse(&text), "more than 1024 values of metadata");
        assert!(parse("nonsense").starts_with("expected ident"));
    }
}
