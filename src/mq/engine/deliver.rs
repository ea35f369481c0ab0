//! Into a queue and out of it: storing, paging, handing out in turn, expiry at the front, and limits.

use std::sync::Arc;

use super::Engine;
use super::clock::{Millis, Timer, Timers};
use super::consumer::Turn;
use super::dead::{self, Dead};
use super::id::QueueId;
use super::lane::Ahead;
use super::message::Message;
use super::output::{Delivery, Gone, Journal, Outputs, delivery_cost};
use super::pace;
use super::publish::Pushed;
use super::queue::{Queue, Waiter};
use super::ready::{Entry, Front, Place};
use super::settings::{Overflow, QueueKind};
use super::trace::Doer;
use super::unacked::Unacked;

/// How long acknowledgements are gathered before the log is told, in milliseconds.
pub(crate) const ACKS_EVERY_MS: u64 = 5;
/// How often the log is told what was delivered, in milliseconds.
pub(crate) const DELIVERIES_EVERY_MS: u64 = 1000;

impl Engine {
    pub(crate) fn push(
        &mut self,
        id: QueueId,
        message: &Arc<Message>,
        waiter: Option<Waiter>,
        now: Millis,
        out: &mut Outputs,
    ) -> Pushed {
        self.push_owned(id, message.clone(), waiter, now, out)
    }

    /// Puts a message into a queue, hands it on if its turn has come, and keeps the queue within its limits.
    #[inline]
    pub(crate) fn push_owned(
        &mut self,
        id: QueueId,
        message: Arc<Message>,
        waiter: Option<Waiter>,
        now: Millis,
        out: &mut Outputs,
    ) -> Pushed {
        let Some(queue) = self.queues.get_mut(id) else { return Pushed::Taken };
        if queue.settings.overflow != Overflow::DropHead
            && queue.settings.is_over(queue.ready.len() as u64 + 1, queue.ready.bytes() + message.body_len())
        {
            return self.refuse(id, message);
        }
        let failed = queue.log.as_ref().is_some_and(|log| log.failed);
        if queue.is_damaged() || failed && message.is_persistent() {
            return Pushed::Failed;
        }
        queue.counts.published += 1;
        self.pushed += 1;
        let lane = queue.ready.lane_of(message.priority());
        let ttl = match (queue.settings.message_ttl, message.expiration()) {
            (Some(queue), Some(own)) => Some(queue.min(own)),
            (queue, own) => queue.or(own),
        };
        let expires = ttl.map_or(0, |ttl| now.saturating_add(ttl).max(1));
        queue.expiring |= expires != 0;
        let turn = queue.consumers.next();
        let mut pushed = Pushed::Taken;
        let mut place = Place::NOWHERE;
        // What a consumer takes at once without acknowledging need not be stored.
        let passes = queue.ready.len() == 0
            && turn.and_then(|id| self.consumers.get(id)).is_some_and(|consumer| {
                consumer.no_ack
                    && self
                        .connections
                        .get(consumer.connection)
                        .is_some_and(|connection| connection.credit > 0)
            });
        if message.is_persistent()
            && !passes
            && let Some(log) = &mut queue.log
        {
            let offset = log.offset();
            place = Place::log(offset);
            if let Some(waiter) = waiter {
                log.waiters.push_back((offset, waiter));
                pushed = Pushed::Storing;
            }
            out.journal.push(Journal::Append { queue: id, offset, message: message.clone(), expires });
        }
        let seq = queue.ready.next_seq();
        let on_disk = place != Place::NOWHERE && self.resident > self.config.page_above;
        let spills = place == Place::NOWHERE && self.resident > self.config.spill_above && self.config.spills;
        if (on_disk || spills) && turn.is_none() && queue.ready.is_deep(lane) {
            if spills {
                let number = queue.spilled;
                queue.spilled += 1;
                queue.spill_left += 1;
                place = Place::spill(number);
                out.journal.push(Journal::Spill { queue: id, number, message: message.clone(), expires });
            }
            queue.ready.push_absent(lane, seq, place, message.body_len());
        } else {
            self.resident += message.cost();
            let entry = Entry { seq, place, message, expires, returns: 0, redelivered: false };
            queue.ready.push(lane, entry);
        }
        if turn.is_some() {
            self.run(id, now, out);
        }
        let Some(queue) = self.queues.get(id) else { return pushed };
        if pace::is_behind(queue.ready.len(), self.resident) && queue.consumers.len() > 0 {
            self.pace.owe(now);
        }
        if queue.expiring {
            self.expire(id, now);
        }
        self.enforce(id, out);
        pushed
    }

    /// A full queue that drops the newest.
    fn refuse(&mut self, id: QueueId, message: Arc<Message>) -> Pushed {
        if let Some(queue) = self.queues.get_mut(id)
            && queue.settings.overflow == Overflow::RejectPublishDlx
            && queue.settings.dead_letter_exchange.is_some()
        {
            let seq = queue.ready.next_seq();
            let entry =
                Entry { seq, place: Place::NOWHERE, message, expires: 0, returns: 0, redelivered: false };
            self.resident += entry.message.cost();
            self.dead.extend(Dead::new(queue, entry, Gone::MaxLength));
        }
        Pushed::Refused
    }

    /// Hands out what is ready to whose turn it is.
    pub(crate) fn run(&mut self, id: QueueId, now: Millis, out: &mut Outputs) {
        let Self {
            queues,
            consumers,
            connections,
            resident,
            pace,
            dead,
            timers,
            acks_due,
            tracer,
            config,
            ..
        } = self;
        let Some(queue) = queues.get_mut(id) else { return };
        while queue.ready.len() > 0 {
            let Some(consumer_id) = queue.consumers.next() else { break };
            let Some(consumer) = consumers.get_mut(consumer_id) else {
                queue.consumers.park();
                continue;
            };
            let Some(connection) = connections.get_mut(consumer.connection) else {
                queue.consumers.park();
                continue;
            };
            if connection.credit <= 0 {
                consumer.turn = Turn::Starved;
                connection.starved.push_back(consumer_id);
                queue.consumers.park();
                continue;
            }
            let slot = connection.channels.get_mut(usize::from(consumer.channel));
            let Some(channel) = slot.and_then(Option::as_deref_mut) else {
                queue.consumers.park();
                continue;
            };
            if queue.is_counted_globally() && channel.is_full() {
                // Those too that acknowledge nothing wait, though they do not count: as in RabbitMQ.
                consumer.turn = Turn::Limited;
                channel.limited.push_back(consumer_id);
                queue.consumers.park();
                continue;
            }
            if !consumer.no_ack && consumer.prefetch > 0 && consumer.unacked >= consumer.prefetch {
                consumer.turn = Turn::Full;
                queue.consumers.park();
                continue;
            }
            let Some(entry) = queue.ready.pop() else { break };
            // One without time is for who takes it at once: not when it came back in the same millisecond.
            if entry.expires != 0 && entry.expires < now + u64::from(entry.returns > 0) {
                dead.extend(Dead::new(queue, entry, Gone::Expired));
                continue;
            }
            let cost = delivery_cost(&entry.message);
            connection.credit -= cost as i64;
            let message = shown(queue, &entry);
            let tag = channel.tag();
            if let Some(offset) = entry.place.as_log() {
                note_delivery(queue, offset, now, timers);
            }
            let (number, consumer_tag) = (consumer.channel, consumer.tag.clone());
            let redelivered = entry.redelivered;
            if let Some(tracer) = tracer {
                let by = Doer { peer: &connection.peer, channel: number, now };
                tracer.delivered(&queue.name, &message, redelivered, &by);
            }
            let delivery = Delivery { channel: number, redelivered, tag, consumer: consumer_tag, message };
            out.deliver(consumer.connection, delivery, cost);
            queue.counts.redelivered += u64::from(redelivered);
            channel.counts.redelivered += u64::from(redelivered);
            if consumer.no_ack {
                queue.counts.delivered_no_ack += 1;
                channel.counts.delivered_no_ack += 1;
                *resident = resident.saturating_sub(entry.message.cost());
                if queue.release(entry.place, 1, Gone::Acked, &mut out.journal) {
                    tell_acks(acks_due, timers, id, now);
                }
            } else {
                queue.counts.delivered += 1;
                channel.counts.delivered += 1;
                consumer.unacked += 1;
                channel.global_unacked += u32::from(queue.is_counted_globally());
                queue.unacked += 1;
                queue.unacked_bytes += entry.message.body_len();
                channel.unacked.push(Unacked {
                    tag,
                    queue: id,
                    consumer: Some(consumer_id),
                    entry,
                    since: now,
                });
            }
            pace.pay(1);
            queue.consumers.pass();
        }
        want(queue, *resident > config.page_above, out);
    }

    /// Buries what expired at the front, and sets the timer for what will.
    pub(crate) fn expire(&mut self, id: QueueId, now: Millis) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        if queue.ready.len() == 0 {
            return;
        }
        loop {
            let due = queue.ready.fronts().filter(|(_, entry)| entry.expires != 0);
            let Some((lane, expires)) =
                due.map(|(lane, entry)| (lane, entry.expires)).min_by_key(|(_, expires)| *expires)
            else {
                return;
            };
            if expires > now {
                if expires < queue.message_timer {
                    queue.message_timer = expires;
                    self.timers.set(expires, Timer::Message(id));
                }
                return;
            }
            let Some(entry) = queue.ready.pop_from(lane) else { return };
            self.dead.extend(Dead::new(queue, entry, Gone::Expired));
        }
    }

    /// Drops from the front until the queue is within its limits.
    #[inline]
    pub(crate) fn enforce(&mut self, id: QueueId, out: &mut Outputs) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        // The other policies keep publishes out, and what came back stays.
        while queue.settings.overflow == Overflow::DropHead
            && queue.settings.is_over(queue.ready.len() as u64, queue.ready.bytes())
        {
            let Some(entry) = queue.ready.pop() else { break };
            self.dead.extend(Dead::new(queue, entry, Gone::MaxLength));
        }
        want(queue, self.resident > self.config.page_above, out);
    }

    /// Everything due in a queue whose consumers, messages or settings changed.
    pub(crate) fn serve(&mut self, id: QueueId, now: Millis, out: &mut Outputs) {
        self.run(id, now, out);
        self.expire(id, now);
        self.enforce(id, out);
    }

    /// Lets a message go for good.
    #[inline]
    pub(crate) fn let_go_of(
        &mut self,
        id: QueueId,
        entry: &Entry,
        reason: Gone,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.resident = self.resident.saturating_sub(entry.message.cost());
        self.release(id, entry.place, reason, now, out);
    }

    #[inline]
    pub(crate) fn release(
        &mut self,
        id: QueueId,
        place: Place,
        reason: Gone,
        now: Millis,
        out: &mut Outputs,
    ) {
        if let Some(queue) = self.queues.get_mut(id)
            && queue.release(place, 1, reason, &mut out.journal)
        {
            tell_acks(&mut self.acks_due, &mut self.timers, id, now);
        }
    }
}

/// Has the log of a queue told of acknowledgements soon: with those of other queues, for which the timer is set.
fn tell_acks(due: &mut Vec<QueueId>, timers: &mut Timers, id: QueueId, now: Millis) {
    if due.is_empty() {
        timers.set(now + ACKS_EVERY_MS, Timer::Acks);
    }
    due.push(id);
}

/// Asks for what will be needed from disk: for consumers, for who waits for the front, for what has to be dropped, and to
/// know when the front expires. What nobody wants stays there.
#[inline]
pub(crate) fn want(queue: &mut Queue, memory_is_short: bool, out: &mut Outputs) {
    if queue.ready.has_absent() {
        ask(queue, memory_is_short, out);
    }
}

fn ask(queue: &mut Queue, memory_is_short: bool, out: &mut Outputs) {
    let is_over = queue.settings.is_over(queue.ready.len() as u64, queue.ready.bytes());
    let ahead = if queue.consumers.len() > 0 || is_over {
        if memory_is_short { Ahead::Small } else { Ahead::Full }
    } else if !queue.getting.is_empty() {
        Ahead::Small
    } else if queue.expiring {
        Ahead::Front
    } else {
        return;
    };
    if queue.is_damaged() {
        return;
    }
    while let Some(load) = queue.ready.wanted(ahead, queue.expiring) {
        out.journal.push(Journal::Load { queue: queue.id, number: load.number, runs: load.runs });
    }
}

/// Whether the front of a queue has to come from disk first.
pub(crate) fn is_front_absent(queue: &Queue) -> bool {
    matches!(queue.ready.front(), Front::Absent)
}

/// A message as its consumer gets it: in queues that count, with how often it came back.
#[inline]
pub(crate) fn shown(queue: &Queue, entry: &Entry) -> Arc<Message> {
    if entry.returns > 0 && queue.kind == QueueKind::Quorum {
        return Arc::new(dead::with_delivery_count(&entry.message, entry.returns));
    }
    entry.message.clone()
}

/// Notes that a message of the log went out, for the log to be told some time.
#[inline]
pub(crate) fn note_delivery(queue: &mut Queue, offset: u64, now: Millis, timers: &mut Timers) {
    let Some(log) = &mut queue.log else { return };
    if log.delivered.is_none_or(|held| held < offset) {
        if log.delivered == log.delivered_told {
            timers.set(now + DELIVERIES_EVERY_MS, Timer::Deliveries(queue.id));
        }
        log.delivered = Some(offset);
    }
}
