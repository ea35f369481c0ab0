//! RabbitMQ's firehose: messages that tell of messages, published to `amq.rabbitmq.trace` while tracing is on.
//!
//! Routing keys are `publish.EXCHANGE` and `deliver.QUEUE`; the body is that of the message, and the headers tell the
//! rest. <https://www.rabbitmq.com/docs/firehose>

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::mq::client::Delivery;
use crate::mq::wire::{Fields, Properties, Table, Value};

/// Where they are published.
pub const EXCHANGE: &str = "amq.rabbitmq.trace";

/// A message that passed, and what is known of it besides.
#[derive(Debug, PartialEq)]
pub struct Traced {
    /// The message as it was.
    pub delivery: Delivery,
    /// Field names of the envelope and their values: event, queue, user and so on.
    pub provenance: Vec<(&'static str, Json)>,
}

/// The message that a message of the firehose tells of; `None` if it is none.
pub fn decode(told: &Delivery) -> Option<Traced> {
    let properties = Properties::parse(&told.properties).ok()?;
    let headers = properties.headers().ok()??;
    let (event, about) = split(&told.routing_key)?;
    let exchange: Arc<str> = text(headers, "exchange_name")?.into();
    let routing_key = match headers.get("routing_keys")? {
        Value::Array(keys) => keys.iter().find_map(|key| match key {
            Value::Text(key) | Value::Bytes(key) => Some(Bytes::copy_from_slice(key)),
            _ => None,
        })?,
        _ => return None,
    };
    let properties = match headers.get("properties") {
        Some(Value::Table(table)) => fields(table).to_vec(),
        _ => Fields::default().to_vec(),
    };
    let mut provenance = vec![("event", Json::from(event))];
    if event == "deliver" {
        provenance.push(("queue", String::from_utf8_lossy(about).into_owned().into()));
    }
    for name in ["vhost", "user", "connection", "node"] {
        if let Some(text) = text(headers, name) {
            provenance.push((name, text.into()));
        }
    }
    if let Some(number) = headers.get("channel").and_then(|value| value.as_integer()) {
        provenance.push(("channel", number.into()));
    }
    if let Some(Value::Array(queues)) = headers.get("routed_queues") {
        let names = queues.iter().filter_map(|queue| queue.as_str().map(Json::from));
        provenance.push(("routed_queues", names.collect()));
    }
    let redelivered = headers.get("redelivered").and_then(|value| value.as_integer()) == Some(1);
    let body = told.body.clone();
    let mut delivery = Delivery::new(exchange, routing_key, Bytes::from(properties), body);
    delivery.redelivered = redelivered;
    Some(Traced { delivery, provenance })
}

/// What happened, and to which exchange or queue.
fn split(routing_key: &[u8]) -> Option<(&'static str, &[u8])> {
    if let Some(exchange) = routing_key.strip_prefix(b"publish.") {
        return Some(("publish", exchange));
    }
    Some(("deliver", routing_key.strip_prefix(b"deliver.")?))
}

fn text(table: Table<'_>, name: &str) -> Option<String> {
    match table.get(name)? {
        Value::Text(text) | Value::Bytes(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

/// The properties as the firehose tells them: by name, numbers as numbers, everything else as text.
fn fields(table: Table<'_>) -> Fields<'_> {
    let mut fields = Fields::default();
    for (name, value) in table {
        let number = value.as_integer();
        let text = match value {
            Value::Text(text) | Value::Bytes(text) => Some(text),
            _ => None,
        };
        match name {
            b"content_type" => fields.content_type = text,
            b"content_encoding" => fields.content_encoding = text,
            b"headers" => {
                if let Value::Table(headers) = value {
                    fields.headers = Some(headers);
                }
            }
            b"delivery_mode" => fields.delivery_mode = number.and_then(|number| number.try_into().ok()),
            b"priority" => fields.priority = number.and_then(|number| number.try_into().ok()),
            b"correlation_id" => fields.correlation_id = text,
            b"reply_to" => fields.reply_to = text,
            b"expiration" => fields.expiration = text,
            b"message_id" => fields.message_id = text,
            b"timestamp" => {
                fields.timestamp = match value {
                    Value::Timestamp(seconds) => Some(seconds),
                    _ => number.and_then(|number| number.try_into().ok()),
                }
            }
            b"type" => fields.kind = text,
            b"user_id" => fields.user_id = text,
            b"app_id" => fields.app_id = text,
            b"cluster_id" => fields.cluster_id = text,
            _ => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mq::wire::{ArrayBuf, TableBuf};

    fn told(routing_key: &'static str, headers: &TableBuf) -> Delivery {
        let fields = Fields { headers: Some(headers.as_table()), ..Fields::default() };
        let exchange = Arc::from(EXCHANGE);
        Delivery::new(exchange, Bytes::from(routing_key), fields.to_vec().into(), Bytes::from("body"))
    }

    /// As RabbitMQ 3.10 writes it.
    fn headers() -> TableBuf {
        let inner = TableBuf::new().with("n", Value::I32(1));
        let properties = TableBuf::new()
            .with("delivery_mode", Value::I32(2))
            .with("headers", Value::Table(inner.as_table()))
            .with("content_type", Value::text("text/plain"))
            .with("timestamp", Value::I32(1_700_000_000));
        let keys: ArrayBuf = [Value::text("orders.eu")].into_iter().collect();
        let queues: ArrayBuf = [Value::text("a"), Value::text("b")].into_iter().collect();
        TableBuf::new()
            .with("exchange_name", Value::text("amq.topic"))
            .with("routing_keys", Value::Array(keys.as_array()))
            .with("properties", Value::Table(properties.as_table()))
            .with("node", Value::text("rabbit@h"))
            .with("vhost", Value::text("/"))
            .with("connection", Value::text("127.0.0.1:1 -> 127.0.0.1:2"))
            .with("channel", Value::I32(1))
            .with("user", Value::text("guest"))
            .with("routed_queues", Value::Array(queues.as_array()))
    }

    #[test]
    fn a_publish_is_the_message_that_was_published() {
        let Traced { delivery, provenance } = decode(&told("publish.amq.topic", &headers())).unwrap();
        assert_eq!((&*delivery.exchange, &delivery.routing_key[..]), ("amq.topic", &b"orders.eu"[..]));
        let inner = TableBuf::new().with("n", Value::I32(1));
        let expected = Fields {
            content_type: Some(b"text/plain"),
            delivery_mode: Some(2),
            timestamp: Some(1_700_000_000),
            headers: Some(inner.as_table()),
            ..Fields::default()
        };
        assert_eq!(Properties::parse(&delivery.properties).unwrap().fields().unwrap(), expected);
        let field =
            |name| provenance.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone());
        assert_eq!(field("event"), Some("publish".into()));
        assert_eq!(field("routed_queues"), Some(serde_json::json!(["a", "b"])));
        assert_eq!(field("queue"), None);
    }

    #[test]
    fn a_delivery_names_its_queue() {
        let headers = headers().with("redelivered", Value::I32(1));
        let Traced { delivery, provenance } = decode(&told("deliver.jobs", &headers)).unwrap();
        assert!(delivery.redelivered);
        assert!(provenance.contains(&("queue", "jobs".into())));
    }

    #[test]
    fn what_is_no_trace_is_none() {
        assert_eq!(decode(&told("publish.x", &TableBuf::new())), None);
        assert_eq!(decode(&told("other", &headers())), None);
    }
}
