//! Replies as a person or a program wants them: text, JSON, or envelopes with status and trailers.

use std::cell::Cell;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::body::Look;
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::lookup::{self, Found};
use crate::cli::rpc::style;
use crate::output;
use crate::record::Record;
use crate::rpc::client::{Ending, UnaryReply};
use crate::rpc::schema::{MessageType, Schema};
use crate::rpc::wire::metadata;
use crate::rpc::{Format, Method, Payload, Status};

pub use style::JsonStyle;

/// Prints the replies of one method.
pub struct Show<'a> {
    app: &'a App,
    method: &'a Method,
    schema: &'a Schema,
    style: JsonStyle,
    look: Look,
    format: Format,
    /// Messages shown by a template.
    shown: Cell<u64>,
}

/// One line of `--json`.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
    method: &'a str,
    call_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trailers: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<f64>,
}

#[derive(Serialize)]
struct StatusView {
    code: u8,
    name: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Value>,
}

impl<'a> Show<'a> {
    pub fn new(app: &'a App, found: &'a Found, style: JsonStyle, format: Format) -> Self {
        let Found { method, schema } = found;
        Self { app, method, schema, style, look: Look::of(&method.output), format, shown: Cell::new(0) }
    }

    fn enveloped(&self) -> bool {
        self.app.printer.look().format == output::Format::Json
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            value: None,
            headers: Map::new(),
            method: &self.method.path,
            call_id: self.method.id,
            status: None,
            trailers: None,
            elapsed_ms: None,
        }
    }

    /// The reply to a unary call; a failed one is printed only in an envelope.
    pub fn unary(&self, reply: &UnaryReply, elapsed: Duration) -> anyhow::Result<()> {
        self.whole(reply, elapsed, false)
    }

    /// One of many replies: one line.
    pub fn each(&self, reply: &UnaryReply, elapsed: Duration) -> anyhow::Result<()> {
        self.whole(reply, elapsed, true)
    }

    fn whole(&self, reply: &UnaryReply, elapsed: Duration, one_line: bool) -> anyhow::Result<()> {
        if self.enveloped() {
            let value = reply.message.as_ref().map(|message| self.json(message)).transpose()?;
            let envelope = Envelope {
                value: value.map(raw_value).transpose()?,
                headers: headers_view(&reply.headers),
                status: Some(self.status(&reply.ending.status)),
                trailers: Some(headers_view(&reply.ending.trailers)),
                elapsed_ms: Some(millis(elapsed)),
                ..self.envelope()
            };
            return Ok(self.app.printer.json(&envelope)?);
        }
        let shown = match &reply.message {
            Some(message) => self.message(message, one_line),
            None => Ok(()),
        };
        self.trailers(&reply.ending, elapsed);
        shown
    }

    /// A message of a stream: one line.
    pub fn streamed(&self, message: &Bytes) -> anyhow::Result<()> {
        if self.enveloped() {
            let value = Some(raw_value(self.json(message)?)?);
            return Ok(self.app.printer.json(&Envelope { value, ..self.envelope() })?);
        }
        self.message(message, self.method.kind.server_streams())
    }

    /// The end of a stream.
    pub fn end(&self, ending: &Ending, elapsed: Duration) -> anyhow::Result<()> {
        if self.enveloped() {
            let envelope = Envelope {
                status: Some(self.status(&ending.status)),
                trailers: Some(headers_view(&ending.trailers)),
                elapsed_ms: Some(millis(elapsed)),
                ..self.envelope()
            };
            return Ok(self.app.printer.json(&envelope)?);
        }
        self.trailers(ending, elapsed);
        Ok(())
    }

    /// The headers, for `-v`.
    pub fn headers(&self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.app.printer.detail(&format!("< {name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
    }

    fn trailers(&self, ending: &Ending, elapsed: Duration) {
        for (name, value) in &ending.trailers {
            self.app
                .printer
                .detail(&format!("< {name}: {} (trailer)", String::from_utf8_lossy(value.as_bytes())));
        }
        self.app.printer.detail(&format!("{} after {:.2} ms", ending.status.code.name(), millis(elapsed)));
    }

    /// The details of a failure, each in a line of its own on stderr.
    pub fn details(&self, status: &Status) {
        if !self.enveloped() {
            for detail in self.status(status).details {
                self.app.printer.note(&format!("detail: {detail}"));
            }
        }
    }

    fn message(&self, message: &Bytes, one_line: bool) -> anyhow::Result<()> {
        let printer = &self.app.printer;
        let json = self.json(message)?;
        if matches!(printer.look().format, output::Format::Template(_)) {
            return self.template(json);
        }
        match self.look {
            Look::Json if one_line => printer.json(&*raw_value(json)?)?,
            Look::Json => printer.json_text(&json)?,
            Look::Text => {
                let text: String = serde_json::from_slice(&json)?;
                // A terminal escapes line ends within a line; this text is many lines of its own.
                text.strip_suffix('\n')
                    .unwrap_or(&text)
                    .split('\n')
                    .try_for_each(|line| printer.line(line))?;
            }
            Look::Bytes => {
                let text: String = serde_json::from_slice(&json)?;
                printer.bytes(&STANDARD.decode(text)?)?;
            }
        }
        Ok(())
    }

    /// The message as the user's template has it: text and bytes are the value itself, else JSON is.
    fn template(&self, json: Bytes) -> anyhow::Result<()> {
        let value: Bytes = match self.look {
            Look::Json => json,
            Look::Text => serde_json::from_slice::<String>(&json)?.into(),
            Look::Bytes => STANDARD.decode(serde_json::from_slice::<String>(&json)?)?.into(),
        };
        let provenance =
            vec![("method", self.method.path.as_str().into()), ("call_id", self.method.id.into())];
        self.shown.set(self.shown.get() + 1);
        let record = Record { provenance, ..Record::of(value) };
        Ok(self.app.printer.numbered(&record, self.shown.get())?)
    }

    /// The message as JSON in the wanted style.
    fn json(&self, message: &Bytes) -> anyhow::Result<Bytes> {
        if lookup::is_schemaless(self.method, self.format) {
            return Ok(message.clone());
        }
        let payload = Payload { format: self.format, bytes: message.clone() };
        self.method.output.convert_with(&payload, Format::Json, &self.style.options()).map_err(|status| {
            Failure::new(Exit::Failed, format!("the reply of {} is {}", self.method.path, status.message))
                .tip("the schema may be another version's; see the bytes with --raw")
                .into()
        })
    }

    fn status(&self, status: &Status) -> StatusView {
        let details = status.details.iter().map(|detail| {
            let decoded = self
                .schema
                .message(&detail.type_name)
                .or_else(|| Schema::standard().message(&detail.type_name));
            decoded.and_then(|kind| view_detail(&kind, &detail.value)).unwrap_or_else(|| {
                serde_json::json!({"@type": detail.type_name, "value_base64": STANDARD.encode(&detail.value)})
            })
        });
        StatusView {
            code: status.code.number(),
            name: status.code.name(),
            message: status.message.clone(),
            details: details.collect(),
        }
    }
}

fn view_detail(kind: &MessageType, value: &Bytes) -> Option<Value> {
    let json = kind.convert(&Payload::proto(value.clone()), Format::Json).ok()?;
    let mut view = Map::from_iter([("@type".to_owned(), Value::from(kind.full_name()))]);
    match serde_json::from_slice(&json).ok()? {
        Value::Object(fields) => view.extend(fields),
        other => {
            view.insert("value".to_owned(), other);
        }
    }
    Some(Value::Object(view))
}

fn raw_value(json: Bytes) -> anyhow::Result<Box<RawValue>> {
    Ok(RawValue::from_string(String::from_utf8(json.into())?)?)
}

fn millis(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1e5).round() / 100.0
}

/// Headers as the envelope shows them: text, a list of repeated values, bytes in base64.
fn headers_view(headers: &HeaderMap) -> Map<String, Value> {
    let mut view = Map::new();
    for name in headers.keys().filter(|name| !metadata::is_reserved(name)) {
        let one = |value: &http::HeaderValue| match std::str::from_utf8(value.as_bytes()) {
            Ok(text) if metadata::is_binary(name) => serde_json::json!({"base64": text}),
            Ok(text) => Value::from(text),
            Err(_) => serde_json::json!({"base64": STANDARD.encode(value.as_bytes())}),
        };
        let mut values: Vec<Value> = headers.get_all(name).iter().map(one).collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        view.insert(name.as_str().to_owned(), value);
    }
    view
}
