//! Which bindings an exchange takes.

use crate::mq::wire::{Table, Value};

use super::access::Permission;
use super::bindings::{Destination, Inner, Kind};
use super::fault::Fault;
use super::id::ExchangeId;
use super::settings::QueueKind;
use super::{At, Engine, topic, value};

impl Engine {
    /// Whether a user may read what a key of a topic exchange leads to.
    pub(crate) fn check_topic(&self, at: At, from: ExchangeId, key: &str) -> Result<(), Fault> {
        let Some(exchange) = self.exchanges.get(from) else { return Ok(()) };
        let peer = self.peer(at)?;
        if exchange.kind != Kind::Topic
            || peer.access.allows_topic(Permission::Read, &exchange.name, key.as_bytes())
        {
            return Ok(());
        }
        Err(Fault::access_refused(format_args!(
            "read access to topic '{key}' in exchange '{}' in vhost '{}' refused for user '{}'",
            exchange.name, self.vhost, peer.user
        )))
    }

    /// Whether key and arguments are such as the kind of exchange understands.
    pub(crate) fn check_binding(
        &self,
        from: ExchangeId,
        to: Destination,
        key: &str,
        arguments: Table<'_>,
    ) -> Result<(), Fault> {
        let Some(exchange) = self.exchanges.get(from) else { return Ok(()) };
        match exchange.kind {
            Kind::Headers | Kind::Delayed(Inner::Headers) => match arguments.get("x-match") {
                None => Ok(()),
                Some(Value::Text(b"all" | b"any" | b"all-with-x" | b"any-with-x")) => Ok(()),
                Some(Value::Text(text)) => {
                    // As Erlang prints it.
                    let text = String::from_utf8_lossy(text);
                    let quoted = if text.is_empty() { String::new() } else { format!("\"{text}\"") };
                    Err(Fault::precondition_failed(format_args!(
                        "Invalid x-match field value <<{quoted}>>; expected all, any, all-with-x, or any-with-x",
                    )))
                }
                Some(other) => Err(Fault::precondition_failed(format_args!(
                    "Invalid x-match field type {} (value {}); expected longstr",
                    other.type_name(),
                    value::printed(other)
                ))),
            },
            Kind::Topic | Kind::Delayed(Inner::Topic) if !topic::is_allowed(key.as_bytes()) => {
                Err(Fault::precondition_failed(format_args!(
                    "binding key has more than {} '#' words",
                    topic::HASHES_MAX
                )))
            }
            Kind::LocalRandom => self.check_local(to, key),
            Kind::ConsistentHash | Kind::Delayed(Inner::ConsistentHash)
                if key.parse::<u64>().map_or(true, |weight| weight == 0) =>
            {
                Err(Fault::precondition_failed(format_args!(
                    "The binding key must be an integer: {key}, and at least 1"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Whether an exchange that chooses at random takes a binding. RabbitMQ 4, rabbit_exchange_type_local_random
    fn check_local(&self, to: Destination, key: &str) -> Result<(), Fault> {
        if !key.is_empty() {
            return Err(Fault::precondition_failed(format_args!(
                "Non empty binding '{key}' key not permitted"
            )));
        }
        let Destination::Queue(queue) = to else {
            return Err(Fault::precondition_failed("Destination not found"));
        };
        match self.queues.get(queue) {
            Some(queue) if queue.kind == QueueKind::Quorum => {
                let text = "Queue type rabbit_quorum_queue not valid for this exchange type";
                Err(Fault::precondition_failed(text))
            }
            _ => Ok(()),
        }
    }
}
