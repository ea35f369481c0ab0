//! What the storage says: stored, failed, read; and what a restart finds and compaction moves.

use std::sync::Arc;

use super::clock::{Millis, Timer};
use super::exchange::Delayed;
use super::id::QueueId;
use super::lane::Came;
use super::message::Message;
use super::output::{Journal, Outputs};
use super::ready::{Loaded, Place};
use super::{Engine, deliver};

/// Live messages that a restart found in the log of a queue, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The offset of the latest record of the first.
    pub offset: u64,
    /// How many there are; their offsets count up.
    pub count: u32,
    /// The priority of each.
    pub priority: u8,
    /// Bytes of the body of each.
    pub size: u64,
    /// When they expire, in milliseconds since 1970; 0 for never.
    pub expires: Millis,
}

impl Engine {
    /// Everything in the log of a queue before offset `up_to` is on disk.
    pub fn stored(&mut self, now: Millis, id: QueueId, up_to: u64, out: &mut Outputs) {
        while let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut())
            && log.waiters.front().is_some_and(|(offset, _)| *offset < up_to)
        {
            if let Some((_, waiter)) = log.waiters.pop_front() {
                self.stored_one(waiter, true, now, out);
            }
        }
    }

    /// The log of a queue cannot be written any more: what waits for it is refused, and so is all that comes. As when a
    /// queue of RabbitMQ has crashed, its consumers are cancelled and whoever uses it is told.
    pub fn store_failed(&mut self, now: Millis, id: QueueId, out: &mut Outputs) {
        self.give_up(id, now, out);
        let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) else { return };
        log.failed = true;
        for (_, waiter) in std::mem::take(&mut log.waiters) {
            // A dead letter that is not stored anew stays with its old queue: after a restart it is there.
            if !matches!(waiter, super::queue::Waiter::Transfer(_)) {
                self.stored_one(waiter, false, now, out);
            }
        }
    }

    /// The log of a queue is damaged: the queue is not served, but can be deleted.
    pub fn refuse_queue(&mut self, now: Millis, id: QueueId, out: &mut Outputs) {
        if let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) {
            log.damaged = true;
        }
        self.store_failed(now, id, out);
    }

    /// The messages that a [`Journal::Load`] asked for, in its order. Fewer than asked for are asked for again; none at
    /// all means that they cannot be read: the queue is not served any more, and who waits for it is told so.
    pub fn loaded(
        &mut self,
        now: Millis,
        id: QueueId,
        number: u64,
        messages: &mut Vec<Loaded>,
        out: &mut Outputs,
    ) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        let (mut cost, mut expiring, mut spilled) = (0, false, 0);
        let came = queue.ready.loaded(number, messages, &mut |entry, place| {
            cost += entry.message.cost();
            expiring |= entry.expires != 0;
            spilled += u64::from(place.as_spill().is_some());
        });
        match came {
            // It was purged or moved since: nobody needs that any more.
            Came::Unasked => return,
            Came::Nothing => return self.store_failed(now, id, out),
            Came::Some => {}
        }
        queue.expiring |= expiring;
        self.resident += cost;
        if spilled > 0 {
            queue.forget_spilled(spilled, &mut out.journal);
        }
        self.hand_over_waiting(id, now, out);
        self.serve(id, now, out);
        self.bury(now, out);
    }

    /// Fills a durable queue with what its log holds. `messages` in their order, that of their first records;
    /// `next` is the offset behind the last record, `delivered` the highest of a DLV record.
    pub fn recover_queue(
        &mut self,
        now: Millis,
        id: QueueId,
        messages: impl IntoIterator<Item = Recovered>,
        next: u64,
        out: &mut Outputs,
    ) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        for message in messages {
            let lane = queue.ready.lane_of(message.priority);
            queue.expiring |= message.expires != 0;
            queue.ready.push_stored(lane, Place::log(message.offset), message.count, message.size);
        }
        if let Some(log) = &mut queue.log {
            log.next = next;
        }
        self.serve(id, now, out);
    }

    /// Gives a durable delayed exchange back what it held back: messages with their offsets and when they are due.
    pub fn recover_delayed(
        &mut self,
        id: QueueId,
        messages: impl IntoIterator<Item = (u64, Millis, Arc<Message>)>,
        next: u64,
    ) {
        let exchange = self.exchanges.iter().find(|(_, exchange)| exchange.delay_queue == Some(id));
        let Some(exchange) = exchange.map(|(id, _)| id).and_then(|id| self.exchanges.get_mut(id)) else {
            return;
        };
        for (offset, due, message) in messages {
            self.resident += message.cost();
            exchange.delayed_next += 1;
            let held = Delayed { message, place: Place::log(offset) };
            exchange.delayed.insert((due, exchange.delayed_next), held);
            if due < exchange.delay_timer {
                exchange.delay_timer = due;
                self.timers.set(due, Timer::Delayed(exchange.id));
            }
        }
        if let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) {
            log.next = next;
        }
    }

    /// The queue that keeps what a durable delayed exchange holds back: its log is told of in the journal.
    pub fn delay_queue(&self, exchange: &str) -> Option<QueueId> {
        self.exchanges.get(*self.exchange_names.get(exchange)?)?.delay_queue
    }

    /// Writes every live message of a queue whose record stands below an offset anew, so that what is below can go.
    pub fn compact(&mut self, id: QueueId, below: u64, out: &mut Outputs) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        let Some(log) = &mut queue.log else { return };
        log.acks(id, &mut out.journal);
        let journal = &mut out.journal;
        let mut next = |returns: &mut u32, from: Place| {
            let Some(from) = from.as_log() else { return from };
            let offset = log.offset();
            journal.push(Journal::Move { queue: id, offset, from, returns: *returns });
            Place::log(offset)
        };
        queue.ready.relocate(below, &mut next);
        let mut unacked = |held: &mut super::unacked::Unacked| {
            if held.queue == id && held.entry.place.as_log().is_some_and(|offset| offset < below) {
                held.entry.place = next(&mut held.entry.returns, held.entry.place);
            }
        };
        for connection in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(connection) else { continue };
            for channel in connection.channels.iter_mut().flatten() {
                channel.unacked.iter_mut().for_each(&mut unacked);
                if let super::connection::Mode::Transaction(transaction) = &mut channel.mode {
                    transaction.settlements.iter_mut().for_each(|settled| unacked(&mut settled.unacked));
                }
            }
        }
        for transfer in self.transfers.ids() {
            if let Some(transfer) = self.transfers.get_mut(transfer) {
                transfer.relocate(id, below, &mut next);
            }
        }
        let exchange = self.exchanges.iter().find(|(_, exchange)| exchange.delay_queue == Some(id));
        if let Some(exchange) = exchange.map(|(id, _)| id).and_then(|id| self.exchanges.get_mut(id)) {
            for held in exchange.delayed.values_mut() {
                if held.place.as_log().is_some_and(|offset| offset < below) {
                    held.place = next(&mut 0, held.place);
                }
            }
        }
        if let Some(queue) = self.queues.get_mut(id) {
            deliver::want(queue, self.resident > self.config.page_above, out);
        }
    }
}
