//! Publishing: checks in RabbitMQ's order, routing, confirms and returns.

use std::sync::Arc;

use bytes::Bytes;

use crate::mq::wire::{Table, TableBuf, Value};

use super::access::{self, Permission};
use super::bindings::Kind;
use super::clock::{Millis, Timer};
use super::config::Compat;
use super::connection::{Gathered, Mode, Route, Targeted, Targets};
use super::exchange::{self, Delayed};
use super::fault::Fault;
use super::id::{ConnectionId, ExchangeId};
use super::message::{self, Message};
use super::output::{Delivery, Journal, Outputs, Send, delivery_cost};
use super::queue::Waiter;
use super::ready::Place;
use super::{At, Engine};

/// The pseudo-queue of direct replies; with a dot and a token behind it, the address of one consumer.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// `basic.publish` and its content.
#[derive(Debug, Clone)]
pub struct Publish<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Whether to return it if no queue takes it.
    pub mandatory: bool,
    /// Not supported by RabbitMQ since 3.0.
    pub immediate: bool,
    /// Property flags and values as on the wire.
    pub properties: Bytes,
    /// The payload.
    pub body: Bytes,
}

/// A publish that passed the checks.
struct Checked {
    exchange: ExchangeId,
    message: Message,
    /// Routing keys of the headers `CC` and `BCC`.
    keys: Vec<Arc<[u8]>>,
}

impl Engine {
    /// Takes a message. Precedence of errors: size, permission, exchange, internal, properties, reply-to, expiration,
    /// topic permission, user-id, then routing.
    pub(crate) fn publish(&mut self, at: At, publish: Publish<'_>, out: &mut Outputs) -> Result<(), Fault> {
        if let Some(reason) = &self.alarm {
            let reason = reason.clone();
            self.block(at.connection, reason, out);
        }
        let mandatory = publish.mandatory;
        let Some(connection) = self.connections.get_mut(at.connection) else { return Ok(()) };
        let access = &connection.peer.access;
        let Some(channel) =
            connection.channels.get_mut(usize::from(at.channel)).and_then(|slot| slot.as_deref_mut())
        else {
            return Ok(());
        };
        channel.counts.published += 1;
        let may_be_known = self.tracer.is_none()
            && !message::has_headers(&publish.properties)
            && !publish.immediate
            && publish.body.len() as u64 <= self.config.message_size_max
            && !matches!(channel.mode, Mode::Transaction(_));
        let route = &mut channel.route;
        if may_be_known
            && route.is_known
            && route.generation == self.generation
            && route.is_for(publish.exchange, publish.routing_key)
        {
            route.uses += 1;
            let (exchange, key) = (route.exchange.clone(), route.key.clone());
            let targets = std::mem::take(&mut route.targets);
            let message = self.build(at, exchange, key, publish.properties, publish.body)?;
            self.deliver_to(at, message, &targets, mandatory, out);
            if let Some(channel) = self.channel_mut(at) {
                channel.route.targets = targets;
            }
            return Ok(());
        }
        if may_be_known
            && let Some(place) =
                self.routes.find(self.generation, access, publish.exchange, publish.routing_key)
        {
            let route = self.routes.at(place);
            let (exchange, key) = (route.exchange.clone(), route.key.clone());
            let message = self.build(at, exchange, key, publish.properties, publish.body)?;
            let route = self.routes.at(place);
            let targets = std::mem::take(&mut route.targets);
            if let Some(exchange) = route.from.and_then(|id| self.exchanges.get_mut(id)) {
                exchange.passed.0 += 1;
                exchange.passed.1 += targets.len() as u64;
            }
            self.deliver_to(at, message, &targets, mandatory, out);
            // Nothing is routed while a message is delivered, so that the place is still its own.
            self.routes.at(place).targets = targets;
            return Ok(());
        }
        let Checked { exchange, message, keys } = self.check(at, publish)?;
        let targets = self.targets(at, exchange, &message, &keys);
        if self.tracer.is_some() {
            self.trace_publish(at, &message, &keys, &targets.queues);
        }
        if let Some(held) = self.exchanges.get_mut(exchange) {
            held.passed.0 += 1;
            held.passed.1 += targets.queues.len() as u64;
        }
        let Some(channel) = self.channel_mut(at) else { return Ok(()) };
        if let Mode::Transaction(transaction) = &mut channel.mode {
            transaction.publishes.push(Gathered { message, targets, mandatory });
            return Ok(());
        }
        self.deliver_all(at, message, targets, mandatory, out);
        Ok(())
    }

    fn check(&mut self, at: At, publish: Publish<'_>) -> Result<Checked, Fault> {
        if publish.immediate {
            return Err(Fault::not_implemented("immediate=true"));
        }
        let size = publish.body.len() as u64;
        if size > self.config.message_size_max {
            return Err(Fault::precondition_failed(format_args!(
                "message size {size} is larger than configured max size {}",
                self.config.message_size_max
            )));
        }
        self.permit(at, Permission::Write, exchange_permission_name(publish.exchange), || {
            exchange::resource(exchange_permission_name(publish.exchange), &self.vhost)
        })?;
        let id = self.exchange(publish.exchange)?;
        let Some(held) = self.exchanges.get(id) else { return Err(self.no_exchange(publish.exchange)) };
        if held.internal {
            let resource = exchange::resource(&held.name, &self.vhost);
            return Err(Fault::access_refused(format_args!("cannot publish to internal {resource}")));
        }
        let (name, is_topic) = (held.name.clone(), held.kind == Kind::Topic);
        let key: Arc<[u8]> = publish.routing_key.into();
        let mut message = self.build(at, name.clone(), key.clone(), publish.properties, publish.body)?;
        let keys = copies(&mut message)?;
        if is_topic {
            let peer = self.peer(at)?;
            for key in std::iter::once(&key).chain(&keys) {
                if !peer.access.allows_topic(Permission::Write, &name, key) {
                    return Err(Fault::access_refused(format_args!(
                        "write access to topic '{}' in exchange '{name}' in vhost '{}' refused for user '{}'",
                        String::from_utf8_lossy(key),
                        self.vhost,
                        peer.user
                    )));
                }
            }
        }
        Ok(Checked { exchange: id, message, keys })
    }

    /// Makes the message, if its properties may be as they are.
    fn build(
        &self,
        at: At,
        exchange: Arc<str>,
        key: Arc<[u8]>,
        properties: Bytes,
        body: Bytes,
    ) -> Result<Message, Fault> {
        let mut message = Message::new(exchange, key, properties, body)?;
        let properties = message.properties();
        if properties.is_empty() {
            return Ok(message);
        }
        properties.headers()?;
        let mut address = None;
        if properties.reply_to() == Some(REPLY_TO.as_bytes()) {
            let reply_to = self.channel(at).and_then(|channel| channel.reply_to.as_ref());
            let Some(reply_to) = reply_to else {
                return Err(Fault::precondition_failed("fast reply consumer does not exist"));
            };
            address = Some(format!("{REPLY_TO}.{}", reply_to.token));
        }
        properties.expiration().map_or(Ok(()), check_expiration)?;
        if let Some(user) = properties.user_id() {
            self.check_user(at, user)?;
        }
        if let Some(address) = address {
            message = message.rewritten(|fields| fields.reply_to = Some(address.as_bytes()));
        }
        Ok(message)
    }

    fn check_user(&self, at: At, user: &[u8]) -> Result<(), Fault> {
        let peer = self.peer(at)?;
        if user == peer.user.as_bytes() || peer.access.impersonates {
            return Ok(());
        }
        Err(Fault::precondition_failed(format_args!(
            "user_id property set to '{}' but authenticated user was '{}'",
            String::from_utf8_lossy(user),
            peer.user
        )))
    }

    /// Where a message goes. Remembers the way for the next one.
    fn targets(&mut self, at: At, exchange: ExchangeId, message: &Message, keys: &[Arc<[u8]>]) -> Targets {
        let mut targets = Targets::default();
        if exchange == self.default_exchange
            && let Some(reply) = self.reply_address(&message.routing_key)
        {
            targets.reply = Some(reply);
            return targets;
        }
        if let Some(due) = self.delay(exchange, message, at.now) {
            targets.delay = Some((exchange, due));
            return targets;
        }
        let by_key = self.route(exchange, message, keys);
        targets.queues.extend_from_slice(&self.found);
        let generation = self.generation;
        if by_key {
            self.tell_exchange(at);
        }
        if by_key
            && let Some(connection) = self.connections.get_mut(at.connection)
            && let Some(channel) =
                connection.channels.get_mut(usize::from(at.channel)).and_then(|slot| slot.as_deref_mut())
        {
            // A channel that has published elsewhere before will do so again.
            let is_second = channel.route.is_known;
            let known = &mut channel.route;
            known.targets = Targeted::from_slice(&targets.queues);
            let mut asked = std::mem::take(&mut known.asked);
            asked.clear();
            asked.extend_from_slice(message.exchange.as_bytes());
            asked.extend_from_slice(&message.routing_key);
            *known = Route {
                asked,
                generation,
                exchange: message.exchange.clone(),
                key: message.routing_key.clone(),
                targets: std::mem::take(&mut known.targets),
                is_known: true,
                from: Some(exchange),
                uses: 0,
            };
            if is_second {
                self.routes.keep(&connection.peer.access, known);
            }
        }
        targets
    }

    /// Tells an exchange how often the last way of a channel was gone.
    pub(crate) fn tell_exchange(&mut self, at: At) {
        let Some(channel) = self.channel_mut(at) else { return };
        let (uses, out) = (std::mem::take(&mut channel.route.uses), channel.route.targets.len() as u64);
        if let Some(exchange) = channel.route.from.and_then(|id| self.exchanges.get_mut(id)) {
            exchange.passed.0 += uses;
            exchange.passed.1 += uses * out;
        }
    }

    /// When a delayed exchange lets a message go, if it holds it back.
    fn delay(&self, exchange: ExchangeId, message: &Message, now: Millis) -> Option<Millis> {
        let held = self.exchanges.get(exchange)?;
        if !matches!(held.kind, Kind::Delayed(_)) {
            return None;
        }
        let delay = message.headers().get("x-delay")?;
        let delay = delay.as_integer().or_else(|| delay.as_str()?.parse().ok())?;
        (delay > 0).then(|| now.saturating_add(delay.unsigned_abs()))
    }

    pub(crate) fn reply_address(&self, key: &[u8]) -> Option<(ConnectionId, u16)> {
        let token = key.strip_prefix(REPLY_TO.as_bytes())?.strip_prefix(b".")?;
        let token = std::str::from_utf8(token).ok()?;
        self.reply_tokens.get(token).copied()
    }

    /// Hands a routed message to wherever it goes, and settles what the publisher is owed.
    pub(crate) fn deliver_all(
        &mut self,
        at: At,
        message: Message,
        targets: Targets,
        mandatory: bool,
        out: &mut Outputs,
    ) {
        if let Some((connection, channel)) = targets.reply {
            // What RabbitMQ 3 documents: an address for replies is no queue, so that a mandatory message comes back too.
            if mandatory && self.config.compat == Compat::V3 {
                self.bring_back(at, Arc::new(message.clone()), out);
            }
            self.deliver_reply_to(connection, channel, Arc::new(message), out);
            self.settle_at_once(at);
        } else if let Some((exchange, due)) = targets.delay {
            let seq = self.open_publish(at);
            let waiter = seq.map(|(seq, opened)| self.waiter(at, seq, opened));
            let seq = seq.map(|(seq, _)| seq);
            let held = self.hold_back(exchange, due, Arc::new(message), waiter, out);
            if let Some(seq) = seq {
                self.note_pushed(at, seq, held);
            }
            self.close_publish(at, seq);
        } else {
            self.deliver_to(at, message, &targets.queues, mandatory, out);
        }
    }

    fn bring_back(&mut self, at: At, message: Arc<Message>, out: &mut Outputs) {
        if let Some(channel) = self.channel_mut(at) {
            channel.counts.returned += 1;
        }
        out.send(at.connection, Send::Return { channel: at.channel, code: 312, text: "NO_ROUTE", message });
    }

    fn settle_at_once(&mut self, at: At) {
        let seq = self.open_publish(at);
        self.close_publish(at, seq.map(|(seq, _)| seq));
    }

    fn waiter(&self, at: At, seq: u64, opened: u32) -> Waiter {
        Waiter::Publish { connection: at.connection, channel: at.channel, opened, seq }
    }

    /// The number of a publish for which an answer is owed, and the opening of its channel.
    #[inline]
    fn open_publish(&mut self, at: At) -> Option<(u64, u32)> {
        let channel = self.channel_mut(at)?;
        let opened = channel.opened;
        let confirms = match &mut channel.mode {
            Mode::Plain => return None,
            Mode::Confirm(confirms) => confirms,
            Mode::Transaction(transaction) => &mut transaction.confirms,
        };
        Some((confirms.open(), opened))
    }

    /// Notes what became of a publish in one of the places that it went to.
    fn note_pushed(&mut self, at: At, seq: u64, pushed: Pushed) {
        match pushed {
            Pushed::Taken => {}
            Pushed::Storing => self.add_waiter(at, seq),
            Pushed::Refused | Pushed::Failed => self.refuse_publish(at, seq),
        }
    }

    fn add_waiter(&mut self, at: At, seq: u64) {
        if let Some(channel) = self.channel_mut(at) {
            match &mut channel.mode {
                Mode::Plain => {}
                Mode::Confirm(confirms) => confirms.add(seq),
                Mode::Transaction(transaction) => transaction.confirms.add(seq),
            }
        }
    }

    fn refuse_publish(&mut self, at: At, seq: u64) {
        if let Some(channel) = self.channel_mut(at) {
            match &mut channel.mode {
                Mode::Plain => {}
                Mode::Confirm(confirms) => confirms.refuse(seq),
                Mode::Transaction(transaction) => transaction.refused = true,
            }
        }
    }

    #[inline]
    fn close_publish(&mut self, at: At, seq: Option<u64>) {
        let Some(seq) = seq else { return };
        let Some(channel) = self.channel_mut(at) else { return };
        match &mut channel.mode {
            Mode::Plain => {}
            Mode::Confirm(confirms) => {
                confirms.settle(seq);
                if !channel.answers_due {
                    channel.answers_due = true;
                    self.answers.push((at.connection, at.channel));
                }
            }
            Mode::Transaction(transaction) => transaction.confirms.settle(seq),
        }
    }

    #[inline]
    fn deliver_to(
        &mut self,
        at: At,
        mut message: Message,
        queues: &[super::QueueId],
        mandatory: bool,
        out: &mut Outputs,
    ) {
        message.share(queues.len());
        let message = Arc::new(message);
        let seq = self.open_publish(at);
        if queues.is_empty() {
            if mandatory {
                // NO_ROUTE goes out before the acknowledgement.
                self.bring_back(at, message.clone(), out);
            } else if let Some(channel) = self.channel_mut(at) {
                channel.counts.dropped += 1;
            }
        } else if let Some((seq, opened)) = seq {
            for queue in queues {
                let waiter = self.waiter(at, seq, opened);
                let pushed = self.push(*queue, &message, Some(waiter), at.now, out);
                self.note_pushed(at, seq, pushed);
            }
        } else if let [queue] = queues {
            self.push_owned(*queue, message, None, at.now, out);
            return;
        } else {
            for queue in queues {
                self.push(*queue, &message, None, at.now, out);
            }
        }
        self.close_publish(at, seq.map(|(seq, _)| seq));
    }

    pub(crate) fn deliver_reply_to(
        &mut self,
        to: ConnectionId,
        number: u16,
        message: Arc<Message>,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get_mut(to) else { return };
        let cost = delivery_cost(&message);
        connection.credit -= cost as i64;
        let Some(channel) = connection.channel_mut(number) else { return };
        let Some(reply_to) = &channel.reply_to else { return };
        let consumer = reply_to.consumer.clone();
        let tag = channel.tag();
        out.deliver(to, Delivery { channel: number, redelivered: false, tag, consumer, message }, cost);
    }

    /// Keeps a message in a delayed exchange; not if it is to be stored and cannot be.
    fn hold_back(
        &mut self,
        id: ExchangeId,
        due: Millis,
        message: Arc<Message>,
        waiter: Option<Waiter>,
        out: &mut Outputs,
    ) -> Pushed {
        let Some(exchange) = self.exchanges.get_mut(id) else { return Pushed::Taken };
        let mut place = Place::NOWHERE;
        let mut pushed = Pushed::Taken;
        let queue = exchange.delay_queue.and_then(|queue| self.queues.get_mut(queue));
        if let Some(queue) = queue.filter(|_| message.is_persistent())
            && let Some(log) = &mut queue.log
        {
            if log.failed {
                return Pushed::Failed;
            }
            let offset = log.offset();
            place = Place::log(offset);
            out.journal.push(Journal::Append {
                queue: queue.id,
                offset,
                message: message.clone(),
                expires: due,
            });
            if let Some(waiter) = waiter {
                log.waiters.push_back((offset, waiter));
                pushed = Pushed::Storing;
            }
        }
        self.resident += message.cost();
        exchange.delayed_next += 1;
        exchange.delayed.insert((due, exchange.delayed_next), Delayed { message, place });
        if due < exchange.delay_timer {
            exchange.delay_timer = due;
            self.timers.set(due, Timer::Delayed(id));
        }
        pushed
    }
}

/// What became of a message that was pushed to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is in the queue, or gone through it.
    Taken,
    /// It is in the queue; the waiter is told when it is on disk.
    Storing,
    /// The queue is full.
    Refused,
    /// It was to be stored and cannot be.
    Failed,
}

fn check_expiration(text: &[u8]) -> Result<(), Fault> {
    message::expiration(text).map(drop).map_err(|error| {
        let text = String::from_utf8_lossy(text);
        Fault::precondition_failed(format_args!("invalid expiration '{text}': {error}"))
    })
}

/// The default exchange has a name of its own in permissions.
pub(crate) fn exchange_permission_name(name: &str) -> &str {
    if name.is_empty() { "amq.default" } else { name }
}

/// The keys of `CC` and `BCC`, the latter taken out of the message.
fn copies(message: &mut Message) -> Result<Vec<Arc<[u8]>>, Fault> {
    if !message::has_headers(&message.properties) {
        return Ok(Vec::new());
    }
    let headers = message.headers();
    let mut keys = keys_of(headers, "CC")?;
    let copies = keys.clone();
    let hidden = keys_of(headers, "BCC")?;
    keys.extend_from_slice(&hidden);
    if headers.get("BCC").is_some() {
        let mut shown = TableBuf::from(headers);
        shown.remove("BCC");
        let shown = shown.as_table();
        *message = message.rewritten(|fields| fields.headers = (!shown.is_empty()).then_some(shown));
    }
    message.set_copies(copies, hidden);
    Ok(keys)
}

fn keys_of(headers: Table<'_>, name: &str) -> Result<Vec<Arc<[u8]>>, Fault> {
    let Some(value) = headers.get(name) else { return Ok(Vec::new()) };
    let Value::Array(array) = value else {
        return Err(Fault::precondition_failed(format_args!(
            "invalid message: {{unacceptable_type_in_header,<<\"{name}\">>,{}}}",
            value.type_name()
        )));
    };
    let key = |value: Value<'_>| match value {
        Value::Text(text) => Ok(Arc::from(text)),
        other => Err(Fault::precondition_failed(format_args!(
            "invalid message: {{unacceptable_type_in_header,<<\"{name}\">>,{}}}",
            other.type_name()
        ))),
    };
    array.iter().map(key).collect()
}

impl Engine {
    /// Whether a user may do something.
    pub(crate) fn permit(
        &self,
        at: At,
        permission: Permission,
        name: &str,
        resource: impl FnOnce() -> String,
    ) -> Result<(), Fault> {
        let peer = self.peer(at)?;
        if peer.access.allows(permission, name) {
            return Ok(());
        }
        Err(access::refused(permission, &resource(), &peer.user))
    }
}
