//! Queues made, found, purged and deleted.

use std::sync::Arc;

use crate::mq::wire::{Table, TableBuf, method::queue as method};

use super::access::Permission;
use super::bindings::Destination;
use super::config::Compat;
use super::consumer::Consumers;
use super::definitions::QueueDefinition;
use super::exchange;
use super::fault::Fault;
use super::id::QueueId;
use super::output::{Change, Gone, Outputs, Reply};
use super::policy::Subject;
use super::publish::{REPLY_TO, exchange_permission_name};
use super::queue::{self, Counts, Log, Queue, Waiter};
use super::ready::{Place, Ready};
use super::settings::{QueueKind, Settings};
use super::{At, Engine, arguments, value};

/// What makes a queue.
pub(crate) struct NewQueue<'a> {
    pub name: Arc<str>,
    pub kind: QueueKind,
    pub durable: bool,
    pub auto_delete: bool,
    pub exclusive: Option<super::ConnectionId>,
    pub arguments: Table<'a>,
}

/// RabbitMQ takes line breaks out of names.
pub(crate) fn without_breaks(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

impl Engine {
    /// Finds a queue that this connection may use.
    pub(crate) fn open_queue(&self, at: At, name: &str) -> Result<QueueId, Fault> {
        let id = self.queue_names.get(name).copied();
        let Some(queue) = id.and_then(|id| self.queues.get(id)) else { return Err(self.no_queue(name)) };
        match queue.exclusive {
            Some(owner) if owner != at.connection => Err(locked(queue, &self.vhost)),
            _ if queue.is_damaged() => Err(damaged(queue, &self.vhost)),
            _ => Ok(queue.id),
        }
    }

    pub(crate) fn no_queue(&self, name: &str) -> Fault {
        Fault::not_found(format_args!("no queue '{name}' in vhost '{}'", self.vhost))
    }

    /// `queue.declare`
    pub(crate) fn declare_queue(
        &mut self,
        at: At,
        method: &method::Declare<'_>,
        out: &mut Outputs,
    ) -> Result<Reply, Fault> {
        let name = without_breaks(method.queue);
        if name.starts_with(REPLY_TO) {
            let alive = name == REPLY_TO || self.reply_address(name.as_bytes()).is_some();
            let found = Reply::QueueDeclareOk { queue: name.as_str().into(), messages: 0, consumers: 1 };
            return if alive { Ok(found) } else { Err(self.no_queue(&name)) };
        }
        self.churn.queues_declared += u64::from(!method.passive);
        let id = if method.passive {
            self.find_declared(at, &name)?
        } else {
            self.declare_new(at, method, name, out)?
        };
        let Some(queue) = self.queues.get_mut(id) else {
            return Err(Fault::internal_error("queue vanished"));
        };
        queue.used = at.now;
        let reply = Reply::QueueDeclareOk {
            queue: queue.name.clone(),
            messages: u32::try_from(queue.ready.len()).unwrap_or(u32::MAX),
            consumers: queue.consumers.len() as u32,
        };
        let name = queue.name.clone();
        self.watch_use(id);
        if let Some(channel) = self.channel_mut(at) {
            channel.last_queue = name;
        }
        Ok(reply)
    }

    fn find_declared(&self, at: At, name: &str) -> Result<QueueId, Fault> {
        let last = self.channel(at).map(|channel| channel.last_queue.clone()).unwrap_or_default();
        let name = if name.is_empty() { &*last } else { name };
        if name.is_empty() {
            return Err(Fault::not_found("no previously declared queue"));
        }
        self.permit_any(at, name, || queue::resource(name, &self.vhost))?;
        self.open_queue(at, name)
    }

    fn declare_new(
        &mut self,
        at: At,
        method: &method::Declare<'_>,
        name: String,
        out: &mut Outputs,
    ) -> Result<QueueId, Fault> {
        let asked = QueueKind::of(method.arguments);
        let name = if !name.is_empty() {
            // The prefix is reserved, but what has it already may be declared again.
            if name.starts_with("amq.") && !self.queue_names.contains_key(&*name) {
                return Err(Fault::access_refused(format_args!(
                    "queue name '{name}' contains reserved prefix 'amq.*'"
                )));
            }
            name
        } else if asked == QueueKind::Quorum {
            return Err(Fault::precondition_failed(format_args!(
                "Cannot declare a server-named queue for type {}",
                asked.module()
            )));
        } else {
            self.random_name("amq.gen-")
        };
        let resource = || queue::resource(&name, &self.vhost);
        self.permit(at, Permission::Configure, &name, resource)?;
        let owner = method.exclusive.then_some(at.connection);
        // RabbitMQ keeps exclusive queues in memory whatever was asked for.
        let durable = method.durable && (!method.exclusive || asked == QueueKind::Quorum);
        if let Some(queue) = self.queue_names.get(&*name).and_then(|id| self.queues.get(*id)) {
            if queue.exclusive != owner {
                return Err(locked(queue, &self.vhost));
            }
            if queue.is_damaged() {
                return Err(damaged(queue, &self.vhost));
            }
            self.same_queue(queue, durable, method)?;
            return Ok(queue.id);
        }
        if let Some(dead) = method.arguments.get("x-dead-letter-exchange").and_then(|value| value.as_str()) {
            self.permit(at, Permission::Read, &name, resource)?;
            let dead = exchange_permission_name(dead);
            self.permit(at, Permission::Write, dead, || exchange::resource(dead, &self.vhost))?;
        }
        let resource = resource();
        let kind = arguments::check_queue(method.arguments, &resource)?;
        if kind == QueueKind::Quorum {
            let property = |name: &str| {
                Fault::precondition_failed(format_args!("invalid property '{name}' for {resource}"))
            };
            if !method.durable {
                return Err(property("non-durable"));
            }
            if method.auto_delete && self.config.compat == Compat::V3 {
                return Err(property("auto-delete"));
            }
            if method.exclusive {
                return Err(property("exclusive-owner"));
            }
        }
        if self.config.compat == Compat::V4 && !durable && owner.is_none() {
            return Err(Fault::internal_error(
                "Feature `transient_nonexcl_queues` is deprecated.\nBy default, this feature is not permitted anymore.",
            ));
        }
        if let Some(max) = self.config.queues_max
            && self.queue_names.len() >= max
        {
            return Err(Fault::precondition_failed(format_args!(
                "cannot declare {resource}: queue limit in vhost '{}' ({max}) is reached",
                self.vhost
            )));
        }
        let new = NewQueue {
            name: name.into(),
            kind,
            durable,
            auto_delete: method.auto_delete,
            exclusive: owner,
            arguments: method.arguments,
        };
        let id = self.insert_queue(&new, at.now);
        if durable {
            out.changes.push(Change::QueueDeclared(id, QueueDefinition::new(&new)));
        }
        Ok(id)
    }

    fn same_queue(&self, held: &Queue, durable: bool, method: &method::Declare<'_>) -> Result<(), Fault> {
        let resource = held.resource(&self.vhost);
        value::same_flag("durable", &resource, durable, held.durable)?;
        value::same_flag("auto_delete", &resource, method.auto_delete, held.auto_delete)?;
        arguments::compared(held.kind).try_for_each(|name| {
            value::same_argument(name, &resource, method.arguments, held.arguments.as_table())
        })
    }

    /// Makes a queue, whoever asked for it.
    pub(crate) fn insert_queue(&mut self, new: &NewQueue<'_>, now: u64) -> QueueId {
        let number = |name: &str| new.arguments.get(name).and_then(|value| value.as_integer());
        let priority_max = number("x-max-priority").and_then(|number| u8::try_from(number).ok()).unwrap_or(0);
        let single_active =
            new.arguments.get("x-single-active-consumer").and_then(|value| value.as_bool()) == Some(true);
        let has_log = new.durable && new.exclusive.is_none() && self.config.durable;
        self.churn.queues_created += 1;
        let id = self.queues.insert_with(|id| Queue {
            id,
            name: new.name.clone(),
            kind: new.kind,
            durable: new.durable,
            auto_delete: new.auto_delete,
            exclusive: new.exclusive,
            single_active,
            arguments: TableBuf::from(new.arguments),
            policy: None,
            operator_policy: None,
            settings: Settings::default(),
            ready: Ready::new(priority_max),
            unacked: 0,
            unacked_bytes: 0,
            consumers: Consumers::default(),
            log: has_log.then(Log::default),
            spilled: 0,
            spill_left: 0,
            used: now,
            message_timer: u64::MAX,
            expiry_timer: u64::MAX,
            getting: Default::default(),
            offline: false,
            expiring: false,
            bound: Vec::new(),
            hidden: false,
            counts: Counts::default(),
            stamp: 0,
        });
        self.queue_names.insert(new.name.clone(), id);
        self.generation += 1;
        self.apply_queue_policy(id);
        self.watch_use(id);
        if let Some(owner) = new.exclusive
            && let Some(connection) = self.connections.get_mut(owner)
        {
            connection.exclusive.push(id);
        }
        id
    }

    /// Looks up the policies of a queue and what follows from them.
    pub(crate) fn apply_queue_policy(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        let subject = match queue.kind {
            QueueKind::Classic => Subject::ClassicQueue,
            QueueKind::Quorum => Subject::QuorumQueue,
        };
        let policy = self.policies.find(subject, &queue.name);
        let operator = self.operator_policies.find(subject, &queue.name);
        queue.policy = policy.map(|policy| policy.name.clone());
        queue.operator_policy = operator.map(|policy| policy.name.clone());
        let definition = |policy: Option<&super::policy::Policy>| {
            policy.map(|policy| policy.definition.clone()).unwrap_or_default()
        };
        queue.settings = Settings::new(
            queue.kind,
            queue.arguments.as_table(),
            &definition(policy),
            &definition(operator),
            self.config.compat == Compat::V4,
        );
        queue.expiring |= queue.settings.message_ttl.is_some();
    }

    /// `queue.purge`; no reply yet if it has to be stored first.
    pub(crate) fn purge(
        &mut self,
        at: At,
        name: &str,
        nowait: bool,
        out: &mut Outputs,
    ) -> Result<Option<Reply>, Fault> {
        let last = self.channel(at).map(|channel| channel.last_queue.clone()).unwrap_or_default();
        let name = if name.is_empty() { &*last } else { name };
        if name.is_empty() {
            return Err(Fault::not_found("no previously declared queue"));
        }
        self.permit(at, Permission::Read, name, || queue::resource(name, &self.vhost))?;
        let id = self.open_queue(at, name)?;
        let messages = u32::try_from(self.empty(id, at.now, out)).unwrap_or(u32::MAX);
        if nowait {
            return Ok(None);
        }
        if self.answers_when_purged(at, id, messages, out)? {
            return Ok(None);
        }
        Ok(Some(Reply::QueuePurgeOk { messages }))
    }

    /// Whether the answer to a purge waits for the disk: it does if anything of it is to be written.
    fn answers_when_purged(
        &mut self,
        at: At,
        id: QueueId,
        messages: u32,
        out: &mut Outputs,
    ) -> Result<bool, Fault> {
        let opened = self.channel(at).map_or(0, |channel| channel.opened);
        let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) else {
            return Ok(false);
        };
        let Some(offset) = log.acks(id, &mut out.journal) else { return Ok(false) };
        if log.failed {
            return Err(not_purged());
        }
        let Some(channel) = self.channel_mut(at) else { return Ok(false) };
        channel.awaiting = true;
        let waiter = Waiter::Purge { connection: at.connection, channel: at.channel, opened, messages };
        if let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) {
            log.waiters.push_back((offset, waiter));
        }
        Ok(true)
    }

    /// Drops everything that is ready and tells how much that was.
    pub(crate) fn empty(&mut self, id: QueueId, now: u64, out: &mut Outputs) -> usize {
        let Some(queue) = self.queues.get_mut(id) else { return 0 };
        let mut freed = 0;
        let mut stored: Vec<(Place, u32)> = Vec::new();
        let count = queue.ready.clear(&mut |entry, place, count| {
            freed += entry.map_or(0, |entry| entry.message.cost());
            stored.push((place, count));
        });
        self.resident = self.resident.saturating_sub(freed);
        let mut gathers = false;
        let spilled: u64 = stored
            .iter()
            .filter(|(place, _)| place.as_spill().is_some())
            .map(|(_, count)| u64::from(*count))
            .sum();
        if spilled > 0 {
            queue.forget_spilled(spilled, &mut out.journal);
        }
        for (place, count) in stored {
            gathers |= queue.release(place, count.into(), Gone::Purged, &mut out.journal);
        }
        if gathers {
            self.acks_due.push(id);
            self.timers.set(now, super::clock::Timer::Acks);
        }
        self.hand_over_waiting(id, now, out);
        count
    }

    /// `queue.delete`
    pub(crate) fn queue_delete(
        &mut self,
        at: At,
        method: &method::Delete<'_>,
        out: &mut Outputs,
    ) -> Result<Reply, Fault> {
        let last = self.channel(at).map(|channel| channel.last_queue.clone()).unwrap_or_default();
        let name = without_breaks(method.queue);
        let name = if name.is_empty() { last.to_string() } else { name };
        if name.is_empty() {
            return Err(Fault::not_found("no previously declared queue"));
        }
        self.permit(at, Permission::Configure, &name, || queue::resource(&name, &self.vhost))?;
        if !self.queue_names.contains_key(&*name) {
            return Ok(Reply::QueueDeleteOk { messages: 0 });
        }
        // One that cannot be opened can be deleted.
        let is_damaged = |id: &&QueueId| self.queues.get(**id).is_some_and(Queue::is_damaged);
        let id = match self.queue_names.get(&*name).filter(is_damaged) {
            Some(id) => *id,
            None => self.open_queue(at, &name)?,
        };
        let Some(queue) = self.queues.get(id) else { return Ok(Reply::QueueDeleteOk { messages: 0 }) };
        let resource = queue.resource(&self.vhost);
        if method.if_unused && !queue.is_unused() {
            return Err(Fault::precondition_failed(format_args!("{resource} in use")));
        }
        if method.if_empty && queue.ready.len() > 0 {
            return Err(Fault::precondition_failed(format_args!("{resource} not empty")));
        }
        let messages = u32::try_from(queue.ready.len()).unwrap_or(u32::MAX);
        self.delete_queue(id, at.now, out);
        Ok(Reply::QueueDeleteOk { messages })
    }

    /// Deletes a queue, its bindings and consumers. What was not stored yet counts as confirmed, as with RabbitMQ.
    pub(crate) fn delete_queue(&mut self, id: QueueId, now: u64, out: &mut Outputs) {
        let Some(mut queue) = self.queues.remove(id) else { return };
        self.churn.queues_deleted += 1;
        self.queue_names.remove(&queue.name);
        self.generation += 1;
        let mut freed = 0;
        queue.ready.clear(&mut |entry, _, _| freed += entry.map_or(0, |entry| entry.message.cost()));
        self.resident = self.resident.saturating_sub(freed);
        if let Some(connection) = queue.exclusive.and_then(|owner| self.connections.get_mut(owner)) {
            connection.exclusive.retain(|held| *held != id);
        }
        let consumers = queue.consumers.all().to_vec();
        self.cancel_consumers(&consumers, out);
        for exchange in std::mem::take(&mut queue.bound) {
            self.unbind_all(exchange, Destination::Queue(id), now, out);
        }
        if queue.spill_left > 0 {
            queue.forget_spilled(queue.spill_left, &mut out.journal);
        }
        let waiters = queue.log.take().map(|log| log.waiters).unwrap_or_default();
        for (_, waiter) in waiters {
            self.stored_one(waiter, true, now, out);
        }
        for getting in std::mem::take(&mut queue.getting) {
            let at = At { now, connection: getting.connection, channel: getting.channel };
            if self.channel(at).is_some_and(|channel| channel.opened == getting.opened) {
                self.answered(at, out);
                out.reply(at.connection, at.channel, Reply::BasicGetEmpty);
            }
        }
        if queue.durable && !queue.hidden {
            out.changes.push(Change::QueueDeleted(id, queue.name.clone()));
        }
    }
}

impl Engine {
    /// What a waiter for the disk is told.
    pub(crate) fn stored_one(&mut self, waiter: Waiter, done: bool, now: u64, out: &mut Outputs) {
        match waiter {
            Waiter::Transfer(id) => self.transferred(id, now, out),
            Waiter::Publish { connection, channel, opened, seq } => {
                let at = At { now, connection, channel };
                if self.channel(at).is_some_and(|channel| channel.opened == opened) {
                    self.settle_publish(at, seq, done, out);
                }
            }
            Waiter::Purge { connection, channel, opened, messages } => {
                let at = At { now, connection, channel };
                if self.channel(at).is_none_or(|channel| channel.opened != opened) {
                    return;
                }
                self.answered(at, out);
                if done {
                    out.reply(connection, channel, Reply::QueuePurgeOk { messages });
                } else {
                    self.fail(at, not_purged(), QUEUE_PURGE, out);
                }
            }
        }
    }
}

/// Class and number of `queue.purge`.
const QUEUE_PURGE: (u16, u16) = (50, 30);

fn not_purged() -> Fault {
    Fault::internal_error("the queue cannot be stored: what was purged may come back")
}

/// RabbitMQ's answer for a queue that does not start.
pub(crate) fn damaged(queue: &Queue, vhost: &str) -> Fault {
    Fault::not_found(format_args!("{} has crashed and failed to restart", queue.resource(vhost)))
}

fn locked(queue: &Queue, vhost: &str) -> Fault {
    Fault::resource_locked(format_args!(
        "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original declaration.",
        queue.resource(vhost)
    ))
}
