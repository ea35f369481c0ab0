//! An exchange, and the way of a message from it to queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::mq::wire::TableBuf;

use super::Engine;
use super::bindings::{Bindings, Destination, Kind};
use super::clock::Millis;
use super::id::{ExchangeId, QueueId};
use super::message::Message;
use super::ready::Place;

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub id: ExchangeId,
    pub name: Arc<str>,
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: TableBuf,
    pub policy: Option<String>,
    pub operator_policy: Option<String>,
    /// Where messages go that find no binding.
    pub alternate: Option<Arc<str>>,
    pub bindings: Bindings,
    /// Exchanges that have bindings to it.
    pub bound: Vec<ExchangeId>,
    /// Messages published to it, and what came of them: one for each queue. Channels tell late: see `Route::uses`.
    pub passed: (u64, u64),
    /// Number of the last message that came by, so that it comes by once.
    pub stamp: u64,
    /// What a delayed exchange holds back, by time, then in order.
    pub delayed: BTreeMap<(Millis, u64), Delayed>,
    pub delayed_next: u64,
    pub delay_timer: Millis,
    /// The queue whose log keeps that.
    pub delay_queue: Option<QueueId>,
}

/// A message that a delayed exchange holds back.
#[derive(Debug)]
pub(crate) struct Delayed {
    pub message: Arc<Message>,
    pub place: Place,
}

pub(crate) fn resource(name: &str, vhost: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

/// What is said of a type that there is not. RabbitMQ says "invalid" of words that Erlang happens to have.
pub(crate) fn unknown_kind(kind: &str) -> String {
    format!("unknown exchange type '{kind}'")
}

impl Engine {
    /// Finds the queues of a message, each once, in `self.found`. True if the routing key alone decided.
    ///
    /// Exchange-to-exchange bindings and alternate exchanges are followed; an exchange is passed through once.
    pub(crate) fn route(&mut self, from: ExchangeId, message: &Message, keys: &[Arc<[u8]>]) -> bool {
        let Self {
            exchanges, exchange_names, queues, queue_names, stamp, found, work, default_exchange, ..
        } = self;
        *stamp += 1;
        let stamp = *stamp;
        found.clear();
        work.clear();
        work.push(from);
        let headers = message.headers();
        let mut by_key = keys.is_empty();
        while let Some(id) = work.pop() {
            let Some(exchange) = exchanges.get_mut(id) else { continue };
            if exchange.stamp == stamp {
                continue;
            }
            exchange.stamp = stamp;
            let mut matched = false;
            let mut find = |to: Destination| {
                matched = true;
                match to {
                    Destination::Exchange(next) => work.push(next),
                    Destination::Queue(id) => {
                        if let Some(queue) = queues.get_mut(id)
                            && queue.stamp != stamp
                        {
                            queue.stamp = stamp;
                            found.push(id);
                        }
                    }
                }
            };
            for key in std::iter::once(&message.routing_key).chain(keys) {
                if id == *default_exchange {
                    let name = std::str::from_utf8(key).ok();
                    if let Some(queue) = name.and_then(|name| queue_names.get(name)) {
                        find(Destination::Queue(*queue));
                    }
                } else {
                    exchange.bindings.route(key, message, headers, &mut find);
                }
            }
            by_key &= exchange.bindings.is_by_key();
            if !matched && let Some(alternate) = &exchange.alternate {
                work.extend(exchange_names.get(alternate).copied());
            }
        }
        by_key
    }
}
