//! What consumers say of deliveries: ack, nack, reject, recover; and transactions, which gather that.

use std::collections::HashSet;

use super::Engine;
use super::connection::{Channel, Mode, Settled, Transaction, Verdict};
use super::consumer::Turn;
use super::dead::Dead;
use super::fault::Fault;
use super::id::QueueId;
use super::output::{Gone, Journal, Outputs, Reply};
use super::unacked::Unacked;
use super::{At, confirm::Confirms};

impl Engine {
    /// `basic.ack`, `basic.nack`, `basic.reject`. With `multiple` the tag has to be outstanding too, but for 0, which
    /// stands for everything.
    pub(crate) fn settle(
        &mut self,
        at: At,
        tag: u64,
        multiple: bool,
        verdict: Verdict,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let Some(channel) = self.channel_mut(at) else { return Ok(()) };
        if !multiple {
            let Some(unacked) = channel.unacked.take(tag) else { return Err(unknown_tag(tag)) };
            if let Mode::Transaction(transaction) = &mut channel.mode {
                transaction.settlements.push(Settled { unacked, verdict });
                return Ok(());
            }
            channel.counts.acked += u64::from(verdict == Verdict::Ack);
            let queue = unacked.queue;
            if self.settle_one(at, unacked, verdict, out) {
                self.serve(queue, at.now, out);
            }
            self.unlimit(at, out);
            return Ok(());
        }
        if tag != 0 && !channel.unacked.holds(tag) {
            return Err(unknown_tag(tag));
        }
        let mut stirred = Stirred::default();
        while let Some(channel) = self.channel_mut(at)
            && let Some(unacked) = channel.unacked.take_up_to(tag)
        {
            if let Mode::Transaction(transaction) = &mut channel.mode {
                transaction.settlements.push(Settled { unacked, verdict });
                continue;
            }
            channel.counts.acked += u64::from(verdict == Verdict::Ack);
            let queue = unacked.queue;
            if self.settle_one(at, unacked, verdict, out) {
                stirred.add(queue);
            }
        }
        stirred.list.into_iter().for_each(|queue| self.serve(queue, at.now, out));
        self.unlimit(at, out);
        Ok(())
    }

    /// Settles a delivery that was taken off its channel. True if its queue has something to do now.
    fn settle_one(&mut self, at: At, unacked: Unacked, verdict: Verdict, out: &mut Outputs) -> bool {
        let Unacked { queue: id, consumer: consumer_id, entry, .. } = unacked;
        let mut stirs = false;
        let consumer = consumer_id.and_then(|id| self.consumers.get_mut(id));
        let mut joins = None;
        if let Some(consumer) = consumer {
            consumer.unacked = consumer.unacked.saturating_sub(1);
            if consumer.turn == Turn::Full && consumer.unacked < consumer.prefetch {
                consumer.turn = Turn::Ready;
                joins = Some(consumer.priority);
            }
        }
        if consumer_id.is_some()
            && let Some(channel) = self.channel_mut(at)
        {
            channel.global_unacked = channel.global_unacked.saturating_sub(1);
        }
        let Some(queue) = self.queues.get_mut(id) else {
            self.resident = self.resident.saturating_sub(entry.message.cost());
            return false;
        };
        if let (Some(priority), Some(id)) = (joins, consumer_id) {
            queue.consumers.join(id, priority);
            stirs = queue.ready.len() > 0;
        }
        queue.unacked = queue.unacked.saturating_sub(1);
        queue.unacked_bytes = queue.unacked_bytes.saturating_sub(entry.message.body_len());
        match verdict {
            Verdict::Ack => {
                queue.counts.acked += 1;
                self.let_go_of(id, &entry, Gone::Acked, at.now, out);
            }
            Verdict::Requeue => {
                self.requeue(id, Unacked { entry, ..unacked }, out);
                stirs = true;
            }
            Verdict::Reject => self.dead.extend(Dead::new(queue, entry, Gone::Rejected)),
        }
        stirs
    }

    /// Puts a delivery back to where it was, unless it came back too often.
    pub(crate) fn requeue(&mut self, id: QueueId, unacked: Unacked, out: &mut Outputs) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        let mut entry = unacked.entry;
        entry.returns = entry.returns.saturating_add(1);
        entry.redelivered = true;
        if let Some(limit) = queue.settings.delivery_limit {
            if entry.returns > limit {
                self.dead.extend(Dead::new(queue, entry, Gone::DeliveryLimit));
                return;
            }
            if let (Some(message), Some(log)) = (entry.place.as_log(), queue.log.as_mut()) {
                let (offset, returns) = (log.offset(), entry.returns);
                out.journal.push(Journal::Requeue { queue: id, offset, message, returns });
            }
        }
        queue.ready.put_back(entry);
    }

    /// Gives back everything that a channel has not answered. The queues that stirs are for the caller to serve.
    pub(crate) fn return_all(&mut self, at: At, out: &mut Outputs) -> Vec<QueueId> {
        let Some(channel) = self.channel_mut(at) else { return Vec::new() };
        let mut all: Vec<Unacked> = channel.unacked.take_all().collect();
        if let Mode::Transaction(transaction) = &mut channel.mode {
            all.extend(
                std::mem::take(&mut transaction.settlements).into_iter().map(|settled| settled.unacked),
            );
        }
        let mut stirred = Stirred::default();
        for unacked in all {
            let queue = unacked.queue;
            if self.settle_one(at, unacked, Verdict::Requeue, out) {
                stirred.add(queue);
            }
        }
        stirred.list
    }

    /// `basic.recover` with requeue.
    pub(crate) fn recover(&mut self, at: At, requeue: bool, out: &mut Outputs) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::not_implemented("requeue=false"));
        }
        let Some(channel) = self.channel_mut(at) else { return Ok(()) };
        let gathered = match &mut channel.mode {
            Mode::Transaction(transaction) => std::mem::take(&mut transaction.settlements),
            Mode::Plain | Mode::Confirm(_) => Vec::new(),
        };
        let stirred = self.return_all(at, out);
        if let Some(channel) = self.channel_mut(at)
            && let Mode::Transaction(transaction) = &mut channel.mode
        {
            transaction.settlements = gathered;
        }
        stirred.into_iter().for_each(|queue| self.serve(queue, at.now, out));
        self.unlimit(at, out);
        Ok(())
    }

    /// Lets the consumers of a channel take part again that its limit held up: in line, for as long as there is room,
    /// so that no consumer and no queue is left behind.
    pub(crate) fn unlimit(&mut self, at: At, out: &mut Outputs) {
        while let Some(channel) = self.channel_mut(at)
            && !channel.is_full()
            && let Some(id) = channel.limited.pop_front()
        {
            if let Some(queue) = self.rejoin(id) {
                self.serve(queue, at.now, out);
            }
        }
    }

    /// Lets a consumer that had enough take part again; its queue, if it has something for it.
    pub(crate) fn rejoin(&mut self, id: super::ConsumerId) -> Option<QueueId> {
        let consumer = self.consumers.get_mut(id)?;
        match consumer.turn {
            Turn::Full | Turn::Starved | Turn::Limited => {}
            Turn::Ready | Turn::Waiting => return None,
        }
        consumer.turn = Turn::Ready;
        let queue = self.queues.get_mut(consumer.queue)?;
        queue.consumers.join(id, consumer.priority);
        (queue.ready.len() > 0).then_some(consumer.queue)
    }

    /// `tx.select`
    pub(crate) fn tx_select(&mut self, at: At) -> Result<Reply, Fault> {
        let Some(channel) = self.channel_mut(at) else { return Ok(Reply::TxSelectOk) };
        match channel.mode {
            Mode::Confirm(_) => Err(Fault::precondition_failed("cannot switch from confirm to tx mode")),
            Mode::Transaction(_) => Ok(Reply::TxSelectOk),
            Mode::Plain => {
                channel.mode = Mode::Transaction(Box::default());
                Ok(Reply::TxSelectOk)
            }
        }
    }

    /// `confirm.select`
    pub(crate) fn confirm_select(&mut self, at: At) -> Result<Reply, Fault> {
        let Some(channel) = self.channel_mut(at) else { return Ok(Reply::ConfirmSelectOk) };
        match channel.mode {
            Mode::Transaction(_) => Err(Fault::precondition_failed("cannot switch from tx to confirm mode")),
            Mode::Confirm(_) => Ok(Reply::ConfirmSelectOk),
            Mode::Plain => {
                channel.mode = Mode::Confirm(Confirms::default());
                Ok(Reply::ConfirmSelectOk)
            }
        }
    }

    fn transaction(&mut self, at: At) -> Result<&mut Transaction, Fault> {
        match self.channel_mut(at).map(|channel| &mut channel.mode) {
            Some(Mode::Transaction(transaction)) => Ok(transaction),
            _ => Err(Fault::precondition_failed("channel is not transactional")),
        }
    }

    /// `tx.commit`. The reply comes when everything is stored: see [`Engine::end_commit`].
    pub(crate) fn commit(&mut self, at: At, out: &mut Outputs) -> Result<(), Fault> {
        let transaction = self.transaction(at)?;
        let publishes = std::mem::take(&mut transaction.publishes);
        let settlements = std::mem::take(&mut transaction.settlements);
        transaction.committing = true;
        transaction.refused = false;
        let acked = settlements.iter().filter(|settled| settled.verdict == Verdict::Ack).count() as u64;
        if let Some(channel) = self.channel_mut(at) {
            channel.counts.acked += acked;
        }
        for mut publish in publishes {
            // Queues that have gone since: a mandatory message that has none left comes back.
            publish.targets.queues.retain(|id| self.queues.get(*id).is_some());
            self.deliver_all(at, publish.message, publish.targets, publish.mandatory, out);
        }
        let mut stirred = Stirred::default();
        for Settled { unacked, verdict } in settlements {
            let queue = unacked.queue;
            if self.settle_one(at, unacked, verdict, out) {
                stirred.add(queue);
            }
        }
        stirred.list.into_iter().for_each(|queue| self.serve(queue, at.now, out));
        self.unlimit(at, out);
        if let Some(channel) = self.channel_mut(at) {
            channel.awaiting = true;
        }
        self.end_commit(at, out)
    }

    /// Answers a commit whose messages are all stored.
    pub(crate) fn end_commit(&mut self, at: At, out: &mut Outputs) -> Result<(), Fault> {
        let transaction = self.transaction(at)?;
        if !transaction.committing || !transaction.confirms.is_idle() {
            return Ok(());
        }
        transaction.committing = false;
        transaction.confirms.discard_answers();
        let refused = std::mem::take(&mut transaction.refused);
        self.answered(at, out);
        if refused {
            return Err(Fault::precondition_failed("partial tx completion"));
        }
        out.reply(at.connection, at.channel, Reply::TxCommitOk);
        Ok(())
    }

    /// `tx.rollback`: publishes are forgotten, acknowledged deliveries are unacknowledged again.
    pub(crate) fn rollback(&mut self, at: At) -> Result<Reply, Fault> {
        let transaction = self.transaction(at)?;
        transaction.publishes.clear();
        let taken = std::mem::take(&mut transaction.settlements);
        if let Some(Channel { unacked, .. }) = self.channel_mut(at) {
            unacked.restore(taken.into_iter().map(|settled| settled.unacked).collect());
        }
        Ok(Reply::TxRollbackOk)
    }
}

fn unknown_tag(tag: u64) -> Fault {
    Fault::precondition_failed(format_args!("unknown delivery tag {tag}"))
}

/// Queues, each once.
#[derive(Debug, Default)]
pub(crate) struct Stirred {
    pub list: Vec<QueueId>,
    /// The same, once there are more than [`FEW`].
    seen: HashSet<QueueId>,
}

/// So many queues are looked at one by one: most acknowledgements are of one queue, and nothing is made for them.
const FEW: usize = 16;

impl Stirred {
    pub fn add(&mut self, queue: QueueId) {
        let is_new = match self.list.len() {
            0..FEW => !self.list.contains(&queue),
            FEW => {
                self.seen.extend(&self.list);
                self.seen.insert(queue)
            }
            _ => self.list.last() != Some(&queue) && self.seen.insert(queue),
        };
        if is_new {
            self.list.push(queue);
        }
    }
}
