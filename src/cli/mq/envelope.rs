//! Messages as records, and records as messages: properties, headers with their types, keys, times.
//!
//! ```text
//! routing key   the key in topic mode; in queue mode, the header `bandy-key` is
//! no value      an empty body with the header `bandy-null`: AMQP knows no message without a body
//! timestamp     milliseconds here, seconds in AMQP; the rest of it stands in RabbitMQ's header `timestamp_in_ms`
//! properties    by AMQP's names; the types of headers that are not text in `header_types`
//! ```

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::header::{self, Plain, Written};
use crate::mq::client::{Delivery, Message};
use crate::mq::wire::{Error, Fields, Table, TableBuf, Value};
use crate::record::Record;

/// The header that holds the key of a message in a queue: its routing key is the queue's name.
pub const KEY_HEADER: &str = "bandy-key";

/// The header, true, of a message whose record has no value, such as one that deletes a key of a compacted log.
const NULL_HEADER: &str = "bandy-null";

/// Where RabbitMQ's own interceptor puts the milliseconds that the property has no room for.
const MILLISECONDS_HEADER: &str = "timestamp_in_ms";

/// What the key of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The application's own.
    Queue,
    /// The topic that was published to.
    Topic,
}

/// The short strings among the properties: name and place.
const TEXTS: &[&str] = &[
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
];

/// All names of properties, as `-p` takes them.
pub const PROPERTIES: &[&str] = &[
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
];

fn field<'f, 'a>(fields: &'f mut Fields<'a>, name: &str) -> Option<&'f mut Option<&'a [u8]>> {
    Some(match name {
        "content_type" => &mut fields.content_type,
        "content_encoding" => &mut fields.content_encoding,
        "correlation_id" => &mut fields.correlation_id,
        "reply_to" => &mut fields.reply_to,
        "expiration" => &mut fields.expiration,
        "message_id" => &mut fields.message_id,
        "type" => &mut fields.kind,
        "user_id" => &mut fields.user_id,
        "app_id" => &mut fields.app_id,
        "cluster_id" => &mut fields.cluster_id,
        _ => return None,
    })
}

/// The record of a message. `queue` is where it was taken from.
///
/// # Errors
/// Properties that are malformed.
pub fn record(delivery: &Delivery, queue: &str, mode: Mode) -> Result<Record, Error> {
    let mut fields = crate::mq::wire::Properties::parse(&delivery.properties)?.fields()?;
    let mut record = Record::of(delivery.body.clone());
    let headers = fields.headers.take().unwrap_or_default();
    record.timestamp = milliseconds(fields.timestamp, headers);
    let mut kinds = Map::new();
    for (name, value) in headers {
        let is = |wanted: &str| name == wanted.as_bytes();
        match value {
            Value::Text(key) | Value::Bytes(key)
                if mode == Mode::Queue && is(KEY_HEADER) && record.key.is_none() =>
            {
                record.key = Some(Bytes::copy_from_slice(key));
                continue;
            }
            Value::Bool(true) if is(NULL_HEADER) && delivery.body.is_empty() => {
                record.value = None;
                continue;
            }
            // It is written again with the time that it is part of.
            Value::I64(time)
                if is(MILLISECONDS_HEADER) && record.timestamp == Some(time) && time % 1000 != 0 =>
            {
                continue;
            }
            _ => {}
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let Plain { value, kind } = header::plain(&value);
        if let Some(kind) = kind {
            let before = record.headers.iter().filter(|(other, _)| *other == name).count();
            kinds.insert(place(&name, before), kind);
        }
        record.headers.push((name, value));
    }
    if mode == Mode::Topic {
        record.key = Some(delivery.routing_key.clone());
    }
    let mut properties = properties(&mut fields, record.timestamp.is_some());
    if !kinds.is_empty() {
        properties.insert("header_types".to_owned(), Json::Object(kinds));
    }
    let routing_key = String::from_utf8_lossy(&delivery.routing_key).into_owned();
    if mode == Mode::Topic {
        record.provenance.push(("topic", routing_key.clone().into()));
    }
    record.provenance.extend([
        ("queue", queue.into()),
        ("exchange", (*delivery.exchange).into()),
        ("routing_key", routing_key.into()),
        ("delivery_tag", delivery.tag.into()),
        ("redelivered", delivery.redelivered.into()),
        ("properties", Json::Object(properties)),
    ]);
    Ok(record)
}

/// The name of a header among others with the same name.
fn place(name: &str, before: usize) -> String {
    if before == 0 { name.to_owned() } else { format!("{name}[{before}]") }
}

/// The time of a message, if the property has one that fits.
fn milliseconds(seconds: Option<u64>, headers: Table<'_>) -> Option<i64> {
    let seconds = i64::try_from(seconds?).ok()?;
    let time = seconds.checked_mul(1000)?;
    match headers.get(MILLISECONDS_HEADER) {
        Some(Value::I64(exact)) if exact.div_euclid(1000) == seconds => Some(exact),
        _ => Some(time),
    }
}

fn properties(fields: &mut Fields<'_>, timed: bool) -> Map<String, Json> {
    let mut map = Map::new();
    for name in PROPERTIES {
        let value = match *name {
            "delivery_mode" => fields.delivery_mode.map(Json::from),
            "priority" => fields.priority.map(Json::from),
            "timestamp" => fields.timestamp.filter(|_| !timed).map(Json::from),
            name => {
                field(fields, name).and_then(|field| *field).map(|bytes| match std::str::from_utf8(bytes) {
                    Ok(text) => text.into(),
                    Err(_) => serde_json::json!({ "base64": BASE64.encode(bytes) }),
                })
            }
        };
        if let Some(value) = value {
            map.insert((*name).to_owned(), value);
        }
    }
    map
}

/// What the command line says of every message. It wins over what a record says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// Empty for the default exchange.
    pub exchange: Option<Arc<str>>,
    /// Properties by name; an empty text takes one away.
    pub properties: Vec<(&'static str, String)>,
    /// Headers; those of a record with the same names go.
    pub headers: Vec<Written>,
    /// The key, for the header.
    pub key: Option<Bytes>,
    /// Given back if no queue takes it.
    pub mandatory: bool,
    /// The routing key is what a message is about: a key that says the same says nothing more.
    pub is_topic: bool,
    /// 1 transient, 2 persistent, for records that have no properties of their own.
    pub delivery_mode: Option<u8>,
}

impl Shape {
    /// Checks `NAME=VALUE` of `-p` and keeps it.
    ///
    /// # Errors
    /// No such property, or a value that it does not take.
    pub fn property(&mut self, name: &str, value: &str) -> Result<(), String> {
        let dashed = name.replace('-', "_");
        let Some(known) = PROPERTIES.iter().find(|known| **known == dashed) else {
            let near = crate::spelling::near_miss(&dashed, PROPERTIES.iter().copied());
            return Err(match near {
                Some(near) => format!("there is no property '{name}': did you mean '{near}'?"),
                None => format!("there is no property '{name}'; there are {}", PROPERTIES.join(", ")),
            });
        };
        let mut fields = Fields::default();
        if !value.is_empty() {
            set(&mut fields, known, &Json::from(value))?;
        }
        self.properties.push((known, value.to_owned()));
        Ok(())
    }

    /// The message of a record. Its key becomes the header unless it is the routing key.
    ///
    /// # Errors
    /// Properties or headers in it that AMQP does not have.
    pub fn message(&self, record: &Record, routing_key: Bytes) -> Result<Message, String> {
        let is_topic = self.is_topic && record.key.as_ref() == Some(&routing_key);
        let key = self.key.as_ref().or(record.key.as_ref().filter(|_| !is_topic));
        Ok(Message {
            exchange: self.exchange.clone().unwrap_or_default(),
            routing_key,
            properties: self.encoded(record, key)?,
            body: record.value.clone().unwrap_or_default(),
            mandatory: self.mandatory,
        })
    }

    /// True if every record with a value, without key, headers, time and properties has the same properties.
    pub fn is_plain(record: &Record) -> bool {
        record.key.is_none()
            && record.value.is_some()
            && record.headers.is_empty()
            && record.timestamp.is_none()
            && record.provenance.is_empty()
    }

    fn encoded(&self, record: &Record, key: Option<&Bytes>) -> Result<Bytes, String> {
        let given = record.origin("properties").and_then(Json::as_object);
        let headers = self.headers(record, key, given.and_then(|given| given.get("header_types")))?;
        // Texts that were base64 need a place of their own.
        let mut decoded = Vec::new();
        for name in TEXTS {
            if let Some(bytes) = given.and_then(|given| given.get(*name)).and_then(base64_of) {
                decoded.push((*name, bytes?));
            }
        }
        // A message that says nothing of it was not to be kept.
        let delivery_mode = self.delivery_mode.filter(|_| given.is_none());
        let mut fields = Fields { delivery_mode, ..Fields::default() };
        if !headers.as_table().is_empty() {
            fields.headers = Some(headers.as_table());
        }
        for (name, value) in given.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            // What is not a property is of no interest, as the rest of an envelope.
            if let Some(known) = PROPERTIES.iter().find(|known| *known == name) {
                match decoded.iter().find(|(name, _)| name == known) {
                    Some((_, bytes)) => *field(&mut fields, known).expect("it is a text") = Some(bytes),
                    None => set(&mut fields, known, value)?,
                }
            }
        }
        if let Some(seconds) = record.timestamp.and_then(|time| u64::try_from(time.div_euclid(1000)).ok()) {
            fields.timestamp = Some(seconds);
        }
        let given: Vec<(&str, Json)> =
            self.properties.iter().map(|(name, value)| (*name, Json::from(value.as_str()))).collect();
        for (name, value) in &given {
            match (value.as_str(), *name) {
                (Some(""), "delivery_mode") => fields.delivery_mode = None,
                (Some(""), "priority") => fields.priority = None,
                (Some(""), "timestamp") => fields.timestamp = None,
                (Some(""), name) => *field(&mut fields, name).expect("it is a text") = None,
                (_, name) => set(&mut fields, name, value)?,
            }
        }
        Ok(fields.to_vec().into())
    }

    fn headers(
        &self,
        record: &Record,
        key: Option<&Bytes>,
        kinds: Option<&Json>,
    ) -> Result<TableBuf, String> {
        let mut table = TableBuf::new();
        let is_ours = |name: &str| {
            self.headers.iter().any(|(ours, ..)| ours == name) || (name == KEY_HEADER && self.key.is_some())
        };
        let mut has_key = false;
        for (at, (name, value)) in record.headers.iter().enumerate() {
            if is_ours(name) {
                continue;
            }
            has_key |= name == KEY_HEADER;
            if name.len() > 255 {
                return Err(format!("the name of a header has {} bytes, and may have 255", name.len()));
            }
            let before = record.headers[..at].iter().filter(|(other, _)| other == name).count();
            let kind = kinds.and_then(|kinds| kinds.get(place(name, before)));
            header::push(&mut table, name, value.as_deref(), kind)?;
        }
        if let Some(key) = key.filter(|_| !has_key) {
            header::push(&mut table, KEY_HEADER, Some(key), None)?;
        }
        if record.value.is_none() {
            table.set(NULL_HEADER, Value::Bool(true));
        }
        for (name, value, kind) in &self.headers {
            header::push(&mut table, name, value.as_deref(), kind.as_ref())?;
        }
        if let Some(time) = record.timestamp.filter(|time| *time > 0 && time % 1000 != 0)
            && !self.properties.iter().any(|(name, _)| *name == "timestamp")
        {
            table.set(MILLISECONDS_HEADER, Value::I64(time));
        }
        Ok(table)
    }
}

fn base64_of(value: &Json) -> Option<Result<Vec<u8>, String>> {
    let text = value.get("base64")?.as_str()?;
    Some(BASE64.decode(text).map_err(|_| "a property is not base64".to_owned()))
}

/// Sets a property. Numbers may be text, and texts numbers.
fn set<'a>(fields: &mut Fields<'a>, name: &str, value: &'a Json) -> Result<(), String> {
    let wrong = |what: &str| format!("property {name}: {value} is not {what}");
    let number = || match value {
        Json::String(text) => text.parse::<u64>().ok(),
        value => value.as_u64(),
    };
    match name {
        "delivery_mode" => {
            let mode = number().filter(|mode| matches!(mode, 1 | 2));
            fields.delivery_mode = Some(mode.ok_or_else(|| wrong("1 (transient) or 2 (persistent)"))? as u8);
        }
        "priority" => {
            let priority = number().and_then(|number| u8::try_from(number).ok());
            fields.priority = Some(priority.ok_or_else(|| wrong("a number from 0 to 255"))?);
        }
        "timestamp" => {
            fields.timestamp = Some(number().ok_or_else(|| wrong("a number of seconds since 1970"))?);
        }
        name => {
            let text = value.as_str().ok_or_else(|| wrong("text"))?;
            if text.len() > 255 {
                return Err(format!("property {name} has {} bytes, and may have 255", text.len()));
            }
            if name == "expiration" && text.parse::<u64>().is_err() {
                return Err(wrong("a number of milliseconds"));
            }
            *field(fields, name).ok_or_else(|| format!("there is no property '{name}'"))? =
                Some(text.as_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mq::wire::Properties;
    use crate::record::Embed;

    fn delivery(fields: &Fields<'_>) -> Delivery {
        Delivery::example("orders.eu", fields.to_vec().into(), b"hi\xff")
    }

    fn full(headers: Table<'_>) -> Fields<'_> {
        Fields {
            content_type: Some(b"text/plain"),
            content_encoding: Some(b"gzip"),
            headers: Some(headers),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some(b"\xff\x00"),
            reply_to: Some(b"amq.gen-1"),
            expiration: Some(b"60000"),
            message_id: Some(b"m1"),
            timestamp: Some(1_763_884_814),
            kind: Some(b"order"),
            user_id: Some(b"guest"),
            app_id: Some(b"shop"),
            cluster_id: Some(b"c"),
        }
    }

    /// Through the JSON form, as in a pipe.
    fn piped(record: &Record) -> Record {
        let mut json = Vec::new();
        record.write_json(Embed::Never, &mut json);
        Record::from_json(&json).unwrap()
    }

    #[test]
    fn a_message_goes_through_json_without_loss() {
        let headers = TableBuf::new()
            .with("a", Value::I32(1))
            .with("a", Value::U8(2))
            .with("b", Value::Text(b"\xfe"))
            .with("timestamp_in_ms", Value::I64(1_763_884_814_123))
            .with("none", Value::Void);
        let fields = full(headers.as_table());
        let topic = Shape { is_topic: true, ..Shape::default() };
        let record = record(&delivery(&fields), "q", Mode::Topic).unwrap();
        assert_eq!(record.timestamp, Some(1_763_884_814_123));
        let message = topic.message(&piped(&record), Bytes::from("orders.eu")).unwrap();
        let returned = Properties::parse(&message.properties).unwrap().fields().unwrap();
        let moved = TableBuf::new()
            .with("a", Value::I32(1))
            .with("a", Value::U8(2))
            .with("b", Value::Text(b"\xfe"))
            .with("none", Value::Void)
            .with("timestamp_in_ms", Value::I64(1_763_884_814_123));
        assert_eq!(returned, full(moved.as_table()));
        assert_eq!(&message.body[..], b"hi\xff");
    }

    #[test]
    fn the_key_is_the_topic_or_a_header() {
        let headers = TableBuf::new().with(KEY_HEADER, Value::Text(b"ada"));
        let fields = Fields { headers: Some(headers.as_table()), ..Fields::default() };
        let queue = record(&delivery(&fields), "q", Mode::Queue).unwrap();
        assert_eq!((queue.key.as_deref(), queue.headers.len()), (Some(&b"ada"[..]), 0));
        let topic = record(&delivery(&fields), "q", Mode::Topic).unwrap();
        assert_eq!((topic.key.as_deref(), topic.headers.len()), (Some(&b"orders.eu"[..]), 1));
        let message = Shape::default().message(&piped(&queue), Bytes::from("jobs")).unwrap();
        let properties = Properties::parse(&message.properties).unwrap();
        assert_eq!(properties.headers().unwrap().unwrap().get(KEY_HEADER), Some(Value::Text(b"ada")));
        // A key that is the routing key says nothing more.
        let shape = Shape { is_topic: true, ..Shape::default() };
        let bare = Record { key: Some("a.b".into()), ..Record::of("x") };
        assert_eq!(&shape.message(&bare, Bytes::from("a.b")).unwrap().properties[..], [0, 0]);
    }

    #[test]
    fn the_command_line_wins_and_can_take_away() {
        let mut shape = Shape { headers: vec![header::parse("a:=5").unwrap()], ..Shape::default() };
        shape.property("priority", "3").unwrap();
        shape.property("user-id", "").unwrap();
        let headers = TableBuf::new().with("a", Value::Text(b"old"));
        let record = record(&delivery(&full(headers.as_table())), "q", Mode::Queue).unwrap();
        let message = shape.message(&record, Bytes::from("q")).unwrap();
        let properties = Properties::parse(&message.properties).unwrap();
        assert_eq!((properties.priority(), properties.user_id()), (Some(3), None));
        assert_eq!(properties.headers().unwrap().unwrap().get("a"), Some(Value::I64(5)));
        for (name, value, why) in [
            ("prioritty", "1", "did you mean 'priority'?"),
            ("priority", "300", "0 to 255"),
            ("expiration", "soon", "milliseconds"),
            ("delivery_mode", "3", "persistent"),
        ] {
            let error = shape.property(name, value).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn times_keep_what_can_be_kept() {
        for (seconds, expected) in [(7, Some(7000)), (u64::MAX, None)] {
            let fields = Fields { timestamp: Some(seconds), ..Fields::default() };
            let record = record(&delivery(&fields), "q", Mode::Queue).unwrap();
            assert_eq!(record.timestamp, expected);
            let message = Shape::default().message(&piped(&record), Bytes::from("q")).unwrap();
            assert_eq!(Properties::parse(&message.properties).unwrap().timestamp(), Some(seconds));
        }
    }
}
