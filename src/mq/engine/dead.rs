//! Dead letters: where messages go that expired, were rejected or did not fit, and the record of it that they carry.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mq::wire::{Array, ArrayBuf, Table, TableBuf, Value};

use super::Engine;
use super::clock::Millis;
use super::config::Compat;
use super::id::{QueueId, TransferId};
use super::message::Message;
use super::output::{Gone, Outputs};
use super::publish::Pushed;
use super::queue::{Queue, Waiter};
use super::ready::{Entry, Place};

/// A message that left a queue by other than an acknowledgement.
#[derive(Debug)]
pub(crate) struct Dead {
    queue: QueueId,
    name: Arc<str>,
    reason: Gone,
    entry: Entry,
    exchange: Option<Arc<str>>,
    key: Option<Arc<[u8]>>,
}

/// A dead letter whose new queues are storing it: its old queue keeps it until they have.
#[derive(Debug)]
pub(crate) struct Transfer {
    queue: QueueId,
    place: Place,
    reason: Gone,
    waits: u32,
}

impl Transfer {
    /// Its record gets a new place.
    pub fn relocate(&mut self, queue: QueueId, below: u64, next: &mut impl FnMut(&mut u32, Place) -> Place) {
        if self.queue == queue && self.place.as_log().is_some_and(|offset| offset < below) {
            self.place = next(&mut 0, self.place);
        }
    }
}

impl Dead {
    /// As an option, so that a list can be extended by it.
    pub fn new(queue: &Queue, entry: Entry, reason: Gone) -> Option<Self> {
        Some(Self {
            queue: queue.id,
            name: queue.name.clone(),
            reason,
            entry,
            exchange: queue.settings.dead_letter_exchange.clone(),
            key: queue.settings.dead_letter_key.clone(),
        })
    }
}

/// RabbitMQ's word for a reason.
fn word(reason: Gone) -> &'static str {
    match reason {
        Gone::Expired => "expired",
        Gone::MaxLength => "maxlen",
        Gone::DeliveryLimit => "delivery_limit",
        Gone::Rejected | Gone::Acked | Gone::Purged => "rejected",
    }
}

impl Engine {
    /// Sends on what has died, and what dies of that.
    pub(crate) fn bury(&mut self, now: Millis, out: &mut Outputs) {
        while let Some(dead) = self.dead.pop_front() {
            let exchange = dead.exchange.as_ref().and_then(|name| self.exchange_names.get(name)).copied();
            let Some(exchange) = exchange else {
                self.let_go_of(dead.queue, &dead.entry, dead.reason, now, out);
                continue;
            };
            let headers = headers(&dead, now, self.config.compat);
            let old = &dead.entry.message;
            let name = dead.exchange.as_ref().unwrap_or(&old.exchange);
            let mut message = old.dead_lettered(name, dead.key.as_ref(), headers.as_table());
            let keys: Vec<Arc<[u8]>> = message.further_keys().cloned().collect();
            if let Some((connection, channel)) = (exchange == self.default_exchange)
                .then(|| self.reply_address(&message.routing_key))
                .flatten()
            {
                self.deliver_reply_to(connection, channel, Arc::new(message), out);
                self.let_go_of(dead.queue, &dead.entry, dead.reason, now, out);
                continue;
            }
            self.route(exchange, &message, &keys);
            let mut targets = std::mem::take(&mut self.found);
            if dead.reason != Gone::Rejected {
                let queues = &self.queues;
                targets.retain(|id| {
                    queues.get(*id).is_some_and(|queue| !is_cycle(headers.as_table(), &queue.name))
                });
            }
            message.share(targets.len());
            self.transfer(dead, &Arc::new(message), &targets, now, out);
            self.found = targets;
        }
    }

    fn transfer(
        &mut self,
        dead: Dead,
        message: &Arc<Message>,
        targets: &[QueueId],
        now: Millis,
        out: &mut Outputs,
    ) {
        let Dead { queue, reason, entry, .. } = dead;
        self.resident = self.resident.saturating_sub(entry.message.cost());
        if entry.place.as_log().is_none() {
            for target in targets {
                self.push(*target, message, None, now, out);
            }
            self.release(queue, entry.place, reason, now, out);
            return;
        }
        // At least once: what is in the log of the old queue stays until it is in those of the new ones.
        let id = self.begin_transfer(queue, entry.place, reason);
        for target in targets {
            let pushed = self.push(*target, message, Some(Waiter::Transfer(id)), now, out);
            self.extend_transfer(id, pushed);
        }
        self.transferred(id, now, out);
    }

    /// Keeps a message in the log of its queue until every queue that it moves to has stored it.
    pub(crate) fn begin_transfer(&mut self, queue: QueueId, place: Place, reason: Gone) -> TransferId {
        self.transfers.insert(Transfer { queue, place, reason, waits: 1 })
    }

    /// Notes what became of it in one of the queues. For one that cannot store it, it waits until the next start, which
    /// finds it in its old queue.
    pub(crate) fn extend_transfer(&mut self, id: TransferId, pushed: Pushed) {
        match pushed {
            Pushed::Taken | Pushed::Refused => {}
            Pushed::Storing | Pushed::Failed => {
                if let Some(transfer) = self.transfers.get_mut(id) {
                    transfer.waits += 1;
                }
            }
        }
    }

    /// One queue has stored a dead letter.
    pub(crate) fn transferred(&mut self, id: TransferId, now: Millis, out: &mut Outputs) {
        let Some(transfer) = self.transfers.get_mut(id) else { return };
        transfer.waits -= 1;
        if transfer.waits == 0
            && let Some(Transfer { queue, place, reason, .. }) = self.transfers.remove(id)
        {
            self.release(queue, place, reason, now, out);
        }
    }
}

/// Whether a message was in this queue before, and came back to it by nothing but automatic reasons.
fn is_cycle(headers: Table<'_>, queue: &str) -> bool {
    for death in deaths(headers) {
        let text = |name: &str| death.get(name).and_then(|value| value.as_str());
        if text("reason") == Some("rejected") {
            return false;
        }
        if text("queue") == Some(queue) {
            return true;
        }
    }
    false
}

fn deaths(headers: Table<'_>) -> impl Iterator<Item = Table<'_>> {
    let array = match headers.get("x-death") {
        Some(Value::Array(array)) => array,
        _ => Array::default(),
    };
    array.iter().filter_map(|value| match value {
        Value::Table(death) => Some(death),
        _ => None,
    })
}

/// What tells deaths apart: queue and reason.
fn event<'a>(death: &Table<'a>) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let text = |name: &str| match death.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    (text("queue"), text("reason"))
}

/// The deaths in headers, each event once with its count. RabbitMQ before 3.6 wrote one for each time, without a count.
fn grouped(headers: Table<'_>) -> Vec<(Table<'_>, i64)> {
    let mut places = HashMap::new();
    let mut known: Vec<(Table<'_>, i64)> = Vec::new();
    for death in deaths(headers) {
        let at = *places.entry(event(&death)).or_insert(known.len());
        match known.get_mut(at) {
            Some((_, times)) => *times += 1,
            None => known.push((death, 1)),
        }
    }
    for (death, times) in &mut known {
        let count = death.get("count").and_then(|value| value.as_integer()).filter(|count| *count > 0);
        *times = count.unwrap_or(*times);
    }
    known
}

fn counted(death: Table<'_>, count: i64) -> TableBuf {
    let mut death = TableBuf::from(death);
    death.set("count", Value::I64(count));
    death
}

/// The headers of a message with one more death: the latest first, one entry for each queue and reason.
fn headers(dead: &Dead, now: Millis, compat: Compat) -> TableBuf {
    let message = &dead.entry.message;
    let old = message.headers();
    let reason = word(dead.reason);
    // Since 4.0 what a publisher wrote into x-death counts for nothing.
    let trusted = compat == Compat::V3 || message.is_dead();
    let mut known = if trusted { grouped(old) } else { Vec::new() };
    let this = (Some(dead.name.as_bytes()), Some(reason.as_bytes()));
    let mut list = ArrayBuf::new();
    match known.iter().position(|(death, _)| event(death) == this) {
        Some(at) => {
            let (death, count) = known.remove(at);
            list.push(Value::Table(counted(death, count.saturating_add(1)).as_table()));
        }
        None => {
            let death = first_death(dead, reason, now);
            list.push(Value::Table(death.as_table()));
        }
    }
    for (death, count) in known {
        list.push(Value::Table(counted(death, count).as_table()));
    }
    let mut headers = TableBuf::from(old);
    headers.set("x-death", Value::Array(list.as_array()));
    let is_first = match compat {
        Compat::V3 => old.get("x-death").is_none(),
        Compat::V4 => !trusted || old.get("x-first-death-reason").is_none(),
    };
    if is_first {
        headers.set("x-first-death-exchange", Value::text(&message.exchange));
        headers.set("x-first-death-queue", Value::text(&dead.name));
        headers.set("x-first-death-reason", Value::text(reason));
    }
    if compat == Compat::V4 {
        headers.set("x-last-death-exchange", Value::text(&message.exchange));
        headers.set("x-last-death-queue", Value::text(&dead.name));
        headers.set("x-last-death-reason", Value::text(reason));
    }
    headers
}

fn first_death(dead: &Dead, reason: &str, now: Millis) -> TableBuf {
    let message = &dead.entry.message;
    let keys: ArrayBuf = message.routing_keys().map(|key| Value::Text(key)).collect();
    let mut death = TableBuf::new()
        .with("count", Value::I64(1))
        .with("reason", Value::text(reason))
        .with("queue", Value::text(&dead.name))
        .with("time", Value::Timestamp(now / 1000))
        .with("exchange", Value::text(&message.exchange))
        .with("routing-keys", Value::Array(keys.as_array()));
    if let Some(expiration) = message.expiration() {
        death.push("original-expiration", Value::text(&expiration.to_string()));
    }
    death
}

/// The same message with `x-delivery-count`.
pub(crate) fn with_delivery_count(message: &Message, returns: u32) -> Message {
    let mut headers = TableBuf::from(message.headers());
    headers.set("x-delivery-count", Value::I64(returns.into()));
    message.rewritten(|fields| fields.headers = Some(headers.as_table()))
}
