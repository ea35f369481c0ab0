//! Time passes: expiry, queues nobody uses, delayed messages, records that were gathered, deliveries never answered.

use super::clock::{Millis, Timer};
use super::connection::{Channel, Targets};
use super::fault::Fault;
use super::id::{ExchangeId, QueueId};
use super::output::{Gone, Journal, Outputs};
use super::publish::Pushed;
use super::queue::Waiter;
use super::{At, Engine};

/// How often deliveries that were never acknowledged are looked for, in milliseconds: RabbitMQ's channel tick.
const UNANSWERED_EVERY_MS: u64 = 60_000;

impl Engine {
    /// When [`Engine::tick`] is due next.
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Millis, out: &mut Outputs) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Message(id) => {
                    if let Some(queue) = self.queues.get_mut(id) {
                        queue.message_timer = Millis::MAX;
                        self.expire(id, now);
                        self.enforce(id, out);
                    }
                }
                Timer::Queue(id) => self.expire_queue(id, now, out),
                Timer::Delayed(id) => self.let_go(id, now, out),
                Timer::Acks => self.write_acks(out),
                Timer::Deliveries(id) => self.write_deliveries(id, out),
                Timer::Unanswered => self.close_unanswered(now, out),
            }
            self.bury(now, out);
        }
    }

    /// Deletes a queue that nobody used for as long as it may.
    fn expire_queue(&mut self, id: QueueId, now: Millis, out: &mut Outputs) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        queue.expiry_timer = Millis::MAX;
        let Some(expires) = queue.settings.expires else { return };
        if queue.is_unused() && queue.used.saturating_add(expires) <= now {
            self.delete_queue(id, now, out);
        } else {
            self.watch_use(id);
        }
    }

    /// Routes what a delayed exchange has held back long enough.
    fn let_go(&mut self, id: ExchangeId, now: Millis, out: &mut Outputs) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.delay_timer = Millis::MAX;
        while let Some(exchange) = self.exchanges.get_mut(id)
            && exchange.delayed.first_key_value().is_some_and(|((due, _), _)| *due <= now)
        {
            let queue = exchange.delay_queue;
            let Some((_, held)) = exchange.delayed.pop_first() else { return };
            self.resident = self.resident.saturating_sub(held.message.cost());
            let mut message = held.message.rewritten(|_| {});
            let keys: Vec<_> = message.routing_keys().skip(1).cloned().collect();
            self.route(id, &message, &keys);
            let targets = std::mem::take(&mut self.found);
            message.share(targets.len());
            let message = std::sync::Arc::new(message);
            let stored = queue.filter(|_| held.place.as_log().is_some());
            let transfer = stored.map(|queue| self.begin_transfer(queue, held.place, Gone::Acked));
            for target in &targets {
                let pushed = self.push(*target, &message, transfer.map(Waiter::Transfer), now, out);
                if let Some(transfer) = transfer {
                    self.extend_transfer(transfer, pushed);
                }
            }
            if let Some(transfer) = transfer {
                self.transferred(transfer, now, out);
            }
            self.found = targets;
        }
        if let Some(exchange) = self.exchanges.get_mut(id)
            && let Some(((due, _), _)) = exchange.delayed.first_key_value()
        {
            exchange.delay_timer = *due;
            self.timers.set(*due, Timer::Delayed(id));
        }
    }

    /// Tells the logs everything that they are still to be told: before the storage is closed.
    pub fn write_logs(&mut self, out: &mut Outputs) {
        self.write_acks(out);
        for id in self.queues.ids() {
            self.write_deliveries(id, out);
        }
    }

    /// Tells the logs what is needed no more.
    pub fn write_acks(&mut self, out: &mut Outputs) {
        let mut due = std::mem::take(&mut self.acks_due);
        for id in due.drain(..) {
            if let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) {
                log.acks(id, &mut out.journal);
            }
        }
        self.acks_due = due;
    }

    fn write_deliveries(&mut self, id: QueueId, out: &mut Outputs) {
        let Some(log) = self.queues.get_mut(id).and_then(|queue| queue.log.as_mut()) else { return };
        let Some(up_to) = log.delivered.filter(|_| log.delivered != log.delivered_told) else { return };
        log.delivered_told = log.delivered;
        let offset = log.offset();
        out.journal.push(Journal::Delivered { queue: id, offset, up_to });
    }

    /// Sets the timer for deliveries that are never acknowledged, when there is the first channel.
    pub(crate) fn watch_unanswered(&mut self, now: Millis) {
        if !self.watching {
            self.watching = true;
            self.timers.set(now + UNANSWERED_EVERY_MS, Timer::Unanswered);
        }
    }

    fn close_unanswered(&mut self, now: Millis, out: &mut Outputs) {
        self.watching = false;
        for connection in self.connections.ids() {
            let Some(held) = self.connections.get(connection) else { continue };
            let channels = (0..=u16::MAX).zip(&held.channels);
            let late: Vec<(u16, Millis)> = channels
                .filter_map(|(number, channel)| Some((number, self.overdue(channel.as_deref()?, now)?)))
                .collect();
            for (channel, timeout) in late {
                let fault = Fault::precondition_failed(format_args!(
                    "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout} ms. \
                     This timeout value can be configured, see consumers doc guide to learn more"
                ));
                self.fail(At { now, connection, channel }, fault, (0, 0), out);
            }
        }
        if self.connections.len() > 0 {
            self.watch_unanswered(now);
        }
    }

    /// The timeout of a queue that a delivery of a channel has exceeded.
    fn overdue(&self, channel: &Channel, now: Millis) -> Option<Millis> {
        channel.unacked.iter().filter(|unacked| unacked.consumer.is_some()).find_map(|unacked| {
            let own = self.queues.get(unacked.queue).and_then(|queue| queue.settings.consumer_timeout);
            let timeout = own.or(self.config.consumer_timeout_ms)?;
            (unacked.since.saturating_add(timeout) < now).then_some(timeout)
        })
    }

    /// Publishes a message that comes from no connection: from the management API or a federated peer. Tells how many
    /// queues took it.
    ///
    /// # Errors
    /// There is no such exchange.
    pub fn publish_from_outside(
        &mut self,
        now: Millis,
        message: super::Message,
        out: &mut Outputs,
    ) -> Result<usize, Fault> {
        let exchange = self.exchange(&message.exchange)?;
        self.route(exchange, &message, &[]);
        let targets = Targets { queues: self.found.clone(), ..Targets::default() };
        let mut message = message;
        message.share(targets.queues.len());
        let message = std::sync::Arc::new(message);
        let mut taken = 0;
        for queue in &targets.queues {
            let pushed = self.push(*queue, &message, None, now, out);
            taken += usize::from(matches!(pushed, Pushed::Taken | Pushed::Storing));
        }
        self.bury(now, out);
        Ok(taken)
    }
}
