//! The firehose: while a virtual host is traced, messages that tell of messages, as RabbitMQ publishes them to
//! `amq.rabbitmq.trace`: with the key `publish.EXCHANGE` or `deliver.QUEUE`, the same body, and headers for the rest.
//! <https://www.rabbitmq.com/docs/firehose>

use std::sync::Arc;

use bytes::Bytes;

use crate::mq::wire::{ArrayBuf, Fields, Properties, Table, TableBuf, Value};

use super::clock::Millis;
use super::connection::Peer;
use super::id::{ExchangeId, QueueId};
use super::message::Message;
use super::output::Outputs;
use super::{At, Engine};

/// Where they are published.
pub(crate) const EXCHANGE: &str = "amq.rabbitmq.trace";

/// What a client did with a message, until the batch it belongs to ends.
#[derive(Debug)]
pub(crate) struct Trace {
    key: Vec<u8>,
    headers: TableBuf,
    body: Bytes,
    now: Millis,
}

/// Whose doing it was.
pub(crate) struct Doer<'a> {
    pub peer: &'a Peer,
    pub channel: u16,
    pub now: Millis,
}

/// What is the same for every virtual host that is traced.
#[derive(Debug)]
pub(crate) struct Tracer {
    node: Arc<str>,
    vhost: Arc<str>,
    traces: Vec<Trace>,
}

impl Tracer {
    /// A message goes to a consumer, or to whoever asked for it.
    pub fn delivered(&mut self, queue: &str, message: &Message, redelivered: bool, by: &Doer<'_>) {
        if &*message.exchange == EXCHANGE {
            return;
        }
        let keys: Vec<&[u8]> = message.routing_keys().map(|key| &**key).collect();
        let headers = self.headers(message, &keys).with("redelivered", Value::I32(redelivered.into()));
        self.note("deliver.", queue, self.signed(headers, by), message, by.now);
    }

    fn published(&mut self, message: &Message, keys: &[&[u8]], queues: &ArrayBuf, by: &Doer<'_>) {
        let headers = self.signed(self.headers(message, keys), by);
        let headers = headers.with("routed_queues", Value::Array(queues.as_array()));
        self.note("publish.", &message.exchange, headers, message, by.now);
    }

    fn note(&mut self, event: &str, about: &str, headers: TableBuf, message: &Message, now: Millis) {
        let key = [event.as_bytes(), about.as_bytes()].concat();
        self.traces.push(Trace { key, headers, body: message.body.clone(), now });
    }

    fn headers(&self, message: &Message, keys: &[&[u8]]) -> TableBuf {
        let keys: ArrayBuf = keys.iter().map(|key| Value::Text(key)).collect();
        let properties = properties(message);
        TableBuf::new()
            .with("exchange_name", Value::text(&message.exchange))
            .with("routing_keys", Value::Array(keys.as_array()))
            .with("properties", Value::Table(properties.as_table()))
            .with("node", Value::text(&self.node))
    }

    fn signed(&self, headers: TableBuf, by: &Doer<'_>) -> TableBuf {
        headers
            .with("vhost", Value::text(&self.vhost))
            .with("connection", Value::text(&by.peer.name))
            .with("channel", Value::I32(by.channel.into()))
            .with("user", Value::text(&by.peer.user))
    }
}

/// The properties by name: numbers as numbers, all else as text.
fn properties(message: &Message) -> TableBuf {
    let parsed = Properties::parse(&message.properties);
    let Some(fields) = parsed.ok().and_then(|properties| properties.fields().ok()) else {
        return TableBuf::new();
    };
    let mut table = TableBuf::new();
    let mut text = |name: &str, value: Option<&[u8]>| {
        if let Some(value) = value {
            table.push(name, Value::Text(value));
        }
    };
    text("content_type", fields.content_type);
    text("content_encoding", fields.content_encoding);
    text("correlation_id", fields.correlation_id);
    text("reply_to", fields.reply_to);
    text("expiration", fields.expiration);
    text("message_id", fields.message_id);
    text("type", fields.kind);
    text("user_id", fields.user_id);
    text("app_id", fields.app_id);
    text("cluster_id", fields.cluster_id);
    if let Some(headers) = fields.headers {
        table.push("headers", Value::Table(headers));
    }
    let number = |number: u64| i32::try_from(number).map_or(Value::I64(number as i64), Value::I32);
    let numbers = [
        ("delivery_mode", fields.delivery_mode.map(u64::from)),
        ("priority", fields.priority.map(u64::from)),
        ("timestamp", fields.timestamp),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            table.push(name, number(value));
        }
    }
    table
}

impl Engine {
    /// Traces from now on as the node of this name, or no longer.
    pub fn set_tracing(&mut self, node: Option<Arc<str>>) {
        self.tracer =
            node.map(|node| Box::new(Tracer { node, vhost: self.vhost.clone(), traces: Vec::new() }));
    }

    /// A message was published and routed.
    pub(crate) fn trace_publish(
        &mut self,
        at: At,
        message: &Message,
        keys: &[Arc<[u8]>],
        queues: &[QueueId],
    ) {
        let (Some(tracer), Some(connection)) = (&mut self.tracer, self.connections.get(at.connection)) else {
            return;
        };
        if &*message.exchange == EXCHANGE {
            return;
        }
        let keys: Vec<&[u8]> = std::iter::once(&message.routing_key).chain(keys).map(|key| &**key).collect();
        let names = queues.iter().filter_map(|id| self.queues.get(*id));
        let names: ArrayBuf = names.map(|queue| Value::text(&queue.name)).collect();
        tracer.published(
            message,
            &keys,
            &names,
            &Doer { peer: &connection.peer, channel: at.channel, now: at.now },
        );
    }

    /// Publishes what was traced. Nothing of it is traced itself.
    pub(crate) fn tell_traces(&mut self, out: &mut Outputs) {
        let Some(tracer) = &mut self.tracer else { return };
        if tracer.traces.is_empty() {
            return;
        }
        let traces = std::mem::take(&mut tracer.traces);
        let Some(exchange) = self.exchange_names.get(EXCHANGE).copied() else { return };
        for trace in traces {
            self.tell_trace(exchange, trace, out);
        }
    }

    fn tell_trace(&mut self, exchange: ExchangeId, trace: Trace, out: &mut Outputs) {
        let Trace { key, headers, body, now } = trace;
        let headers: Table<'_> = headers.as_table();
        let properties = Fields { headers: Some(headers), ..Fields::default() }.to_vec();
        let Ok(mut message) = Message::new(EXCHANGE.into(), key.into(), properties.into(), body) else {
            return;
        };
        self.route(exchange, &message, &[]);
        let queues = std::mem::take(&mut self.found);
        message.share(queues.len());
        let message = Arc::new(message);
        for queue in &queues {
            self.push(*queue, &message, None, now, out);
        }
        self.found = queues;
        self.bury(now, out);
    }
}
