//! What goes to one connection: filled under the lock of its host, emptied by its writer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::mq::engine::{Message, Reply, Send as Out, delivery_cost};

/// Bytes of answers that a client may leave unread before it is not read itself. Deliveries are not counted: they are
/// bounded by the engine's credit.
const UNREAD_MAX: usize = 1 << 20;

/// What an answer costs beside a body, in bytes.
const ANSWER_SIZE: usize = 64;

/// How a connection ends, after everything before was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Last {
    /// The client closed it.
    CloseOk,
    /// The broker did.
    Close { code: u16, text: String, method: (u16, u16) },
}

/// What the writer takes at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub sends: Vec<Out>,
    /// Credit of its deliveries and of those before that was not given back.
    pub cost: u64,
    /// How many new secrets were taken.
    pub secrets: u32,
    pub last: Option<Last>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.secrets == 0 && self.last.is_none()
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// What may be sent now, before any of the parts.
    due: Vec<Out>,
    /// Credit of its deliveries.
    due_cost: u64,
    /// What waits for the disk.
    parts: VecDeque<Part>,
    /// Channels with something in the parts, and what the last of it waits for; 0 is for the connection.
    held: HashMap<u16, u64>,
    /// Bytes of answers in both.
    unread: usize,
    secrets: u32,
    last: Option<Last>,
    /// What comes now is not sent.
    mute: bool,
}

/// What must not be sent before so many changes of definitions are on disk.
#[derive(Debug)]
struct Part {
    after: u64,
    sends: Vec<Out>,
    cost: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// There is something to write.
    pub filled: Notify,
    /// Something that the reader waits for may have changed.
    pub reader: Notify,
    /// Publishers have to wait: memory is short.
    blocked: AtomicBool,
    /// What was held back may be tried again.
    resumed: AtomicBool,
    /// Nothing that is read matters any more but the answer to the close.
    closing: AtomicBool,
}

impl Part {
    fn push(parts: &mut VecDeque<Self>, after: u64, send: Out, cost: u64) {
        match parts.back_mut() {
            Some(part) if part.after == after => {
                part.sends.push(send);
                part.cost += cost;
            }
            _ => parts.push_back(Self { after, sends: vec![send], cost }),
        }
    }
}

impl Inner {
    /// Parts whose changes are on disk are due.
    fn release(&mut self, stored: u64) {
        while self.parts.front().is_some_and(|part| part.after <= stored)
            && let Some(mut part) = self.parts.pop_front()
        {
            self.due_cost += part.cost;
            if self.due.is_empty() {
                std::mem::swap(&mut self.due, &mut part.sends);
            } else {
                self.due.append(&mut part.sends);
            }
        }
        if !self.held.is_empty() {
            self.held.retain(|_, after| *after > stored);
        }
    }

    /// What promises nothing of definitions does not wait for somebody's declarations, unless it would overtake what
    /// waits on its channel. Answers to publishes come when their queues are safe, definitions and all.
    fn hold(&mut self, sends: &mut Vec<Out>, after: u64) {
        for send in sends.drain(..) {
            let channel = channel(&send);
            let cost = match &send {
                Out::Deliver(delivery) => delivery_cost(&delivery.message),
                _ => 0,
            };
            // Memory and the disk have nothing to do with it.
            let is_free = matches!(send, Out::Block { .. } | Out::Unblock)
                || !is_of_definitions(&send)
                    && !self.held.contains_key(&channel)
                    && !self.held.contains_key(&0);
            if is_free {
                self.due_cost += cost;
                self.due.push(send);
                continue;
            }
            let holds = !matches!(send, Out::Resume);
            Part::push(&mut self.parts, after, send, cost);
            if holds {
                self.held.insert(channel, after);
            }
        }
    }
}

/// Whether it says that something is defined, or is no more; or ends what others may say that on.
fn is_of_definitions(send: &Out) -> bool {
    match send {
        Out::Reply { reply, .. } => match reply {
            Reply::ExchangeDeclareOk
            | Reply::ExchangeDeleteOk
            | Reply::ExchangeBindOk
            | Reply::ExchangeUnbindOk
            | Reply::QueueDeclareOk { .. }
            | Reply::QueueBindOk
            | Reply::QueueUnbindOk
            | Reply::QueuePurgeOk { .. }
            | Reply::QueueDeleteOk { .. } => true,
            Reply::ChannelOpenOk
            | Reply::ChannelCloseOk
            | Reply::ChannelFlowOk { .. }
            | Reply::AccessRequestOk
            | Reply::BasicQosOk
            | Reply::BasicConsumeOk { .. }
            | Reply::BasicCancelOk { .. }
            | Reply::BasicGetEmpty
            | Reply::BasicRecoverOk
            | Reply::ConfirmSelectOk
            | Reply::TxSelectOk
            | Reply::TxCommitOk
            | Reply::TxRollbackOk => false,
        },
        Out::CloseConnection { .. } | Out::Resume => true,
        Out::Deliver(_)
        | Out::GetOk { .. }
        | Out::Return { .. }
        | Out::Ack { .. }
        | Out::Nack { .. }
        | Out::Cancel { .. }
        | Out::CloseChannel { .. }
        | Out::Block { .. }
        | Out::Unblock => false,
    }
}

/// The channel that it is for; 0 for the connection.
fn channel(send: &Out) -> u16 {
    match send {
        Out::Deliver(delivery) => delivery.channel,
        Out::GetOk { channel, .. }
        | Out::Return { channel, .. }
        | Out::Ack { channel, .. }
        | Out::Nack { channel, .. }
        | Out::Cancel { channel, .. }
        | Out::Reply { channel, .. }
        | Out::CloseChannel { channel, .. } => *channel,
        Out::CloseConnection { .. } | Out::Block { .. } | Out::Unblock | Out::Resume => 0,
    }
}

fn answer_size(send: &Out) -> usize {
    let of = |message: &Message| ANSWER_SIZE + message.body.len() + message.properties.len();
    match send {
        Out::Deliver(_) => 0,
        Out::GetOk { message, .. } | Out::Return { message, .. } => of(message),
        _ => ANSWER_SIZE,
    }
}

impl Outbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what the engine sends. What tells of something goes out once `after` changes of definitions are on disk,
    /// of which `stored` are. Leaves `sends` empty.
    pub fn push(&self, sends: &mut Vec<Out>, cost: u64, after: u64, stored: u64) {
        let unread: usize = sends.iter().map(answer_size).sum();
        {
            let mut inner = self.inner();
            if inner.mute {
                sends.clear();
                return;
            }
            inner.unread += unread;
            inner.release(stored);
            if after > stored {
                inner.hold(sends, after);
            } else {
                inner.due_cost += cost;
                if inner.due.is_empty() {
                    std::mem::swap(&mut inner.due, sends);
                } else {
                    inner.due.append(sends);
                }
            }
        }
        self.filled.notify_one();
    }

    /// A new secret was taken.
    pub fn take_secret(&self) {
        self.inner().secrets += 1;
        self.filled.notify_one();
    }

    /// Ends the connection. The first end counts.
    pub fn finish(&self, last: Last) {
        self.inner().last.get_or_insert(last);
        self.close();
        self.filled.notify_one();
    }

    /// Ends the connection with nothing of what it waits for.
    pub fn give_up(&self, last: Last) {
        {
            let mut inner = self.inner();
            inner.due.clear();
            inner.parts.clear();
            inner.mute = true;
        }
        self.finish(last);
    }

    /// What may be sent now that so many changes are on disk. `spare` is where the next sends are gathered.
    pub fn take(&self, stored: u64, spare: &mut Batch) {
        let mut inner = self.inner();
        inner.release(stored);
        spare.cost += std::mem::take(&mut inner.due_cost);
        if spare.sends.is_empty() {
            std::mem::swap(&mut spare.sends, &mut inner.due);
        } else {
            spare.sends.append(&mut inner.due);
        }
        spare.secrets += std::mem::take(&mut inner.secrets);
        let was_full = inner.unread >= UNREAD_MAX;
        inner.unread = inner.parts.iter().flat_map(|part| &part.sends).map(answer_size).sum();
        if inner.parts.is_empty() {
            spare.last = inner.last.take();
        }
        drop(inner);
        if was_full {
            self.reader.notify_one();
        }
    }

    /// How many changes have to be on disk before the next part may be sent; none if there is no part.
    pub fn waits_for(&self) -> Option<u64> {
        self.inner().parts.front().map(|part| part.after)
    }

    /// Whether the client leaves too much unread.
    pub fn is_full(&self) -> bool {
        self.inner().unread >= UNREAD_MAX
    }

    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Release);
        self.reader.notify_one();
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    pub fn resume(&self) {
        self.resumed.store(true, Ordering::Release);
        self.reader.notify_one();
    }

    /// Whether what was held back may be tried again; says so once.
    pub fn take_resumed(&self) -> bool {
        self.resumed.swap(false, Ordering::AcqRel)
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.reader.notify_one();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mq::engine::{Delivery, Message};

    fn delivery(channel: u16, tag: u64) -> Out {
        let message = Message::plain("", "key", b"body");
        Out::Deliver(Delivery { channel, redelivered: false, tag, consumer: "c".into(), message })
    }

    fn reply(channel: u16) -> Out {
        Out::Reply { channel, reply: Reply::ExchangeDeclareOk }
    }

    fn cost(send: &Out) -> u64 {
        match send {
            Out::Deliver(delivery) => delivery_cost(&delivery.message),
            _ => 0,
        }
    }

    fn push(outbox: &Outbox, sends: &[Out], after: u64, stored: u64) {
        outbox.push(&mut sends.to_vec(), sends.iter().map(cost).sum(), after, stored);
    }

    fn take(outbox: &Outbox, stored: u64) -> Vec<Out> {
        let mut batch = Batch::default();
        outbox.take(stored, &mut batch);
        assert_eq!(batch.cost, batch.sends.iter().map(cost).sum::<u64>());
        batch.sends
    }

    #[test]
    fn deliveries_do_not_wait_for_what_others_declare() {
        let outbox = Outbox::default();
        push(&outbox, &[reply(1), delivery(2, 1)], 7, 6);
        push(&outbox, &[delivery(2, 2), delivery(3, 1)], 7, 6);
        assert_eq!(take(&outbox, 6), [delivery(2, 1), delivery(2, 2), delivery(3, 1)]);
        assert_eq!(outbox.waits_for(), Some(7));
        assert_eq!(take(&outbox, 7), [reply(1)]);
    }

    #[test]
    fn answers_to_publishes_do_not_wait_for_what_others_declare() {
        let ack = |channel, tag| Out::Ack { channel, tag, multiple: false };
        let outbox = Outbox::default();
        push(&outbox, &[ack(1, 1), reply(2), ack(2, 1)], 7, 6);
        push(&outbox, &[Out::Nack { channel: 1, tag: 2 }, ack(2, 2)], 7, 6);
        assert_eq!(take(&outbox, 6), [ack(1, 1), Out::Nack { channel: 1, tag: 2 }]);
        assert_eq!(take(&outbox, 7), [reply(2), ack(2, 1), ack(2, 2)]);
    }

    #[test]
    fn nothing_overtakes_on_its_channel() {
        let outbox = Outbox::default();
        push(&outbox, &[delivery(1, 1), reply(1), delivery(1, 2)], 7, 6);
        push(&outbox, &[delivery(1, 3), reply(2), delivery(1, 4), delivery(2, 1)], 8, 6);
        assert_eq!(take(&outbox, 6), [delivery(1, 1)]);
        assert_eq!(take(&outbox, 7), [reply(1), delivery(1, 2)]);
        // Something of each channel still waits.
        push(&outbox, &[delivery(1, 5), delivery(2, 2), delivery(3, 1)], 8, 7);
        assert_eq!(take(&outbox, 7), [delivery(3, 1)]);
        let rest = [delivery(1, 3), reply(2), delivery(1, 4), delivery(2, 1), delivery(1, 5), delivery(2, 2)];
        assert_eq!(take(&outbox, 8), rest);
        push(&outbox, &[delivery(1, 6)], 9, 8);
        assert_eq!(take(&outbox, 8), [delivery(1, 6)]);
    }

    #[test]
    fn what_is_due_and_not_written_yet_is_not_overtaken() {
        let outbox = Outbox::default();
        push(&outbox, &[reply(1), delivery(1, 1)], 6, 6);
        push(&outbox, &[delivery(1, 2)], 7, 6);
        assert_eq!(take(&outbox, 6), [reply(1), delivery(1, 1), delivery(1, 2)]);
        push(&outbox, &[reply(1)], 8, 7);
        // Its change is on disk by now, and nobody has looked.
        push(&outbox, &[delivery(1, 3)], 9, 8);
        assert_eq!(take(&outbox, 8), [reply(1), delivery(1, 3)]);
    }

    #[test]
    fn nothing_follows_the_end_of_a_connection() {
        let outbox = Outbox::default();
        let close = Out::CloseConnection { code: 541, text: String::new(), method: (0, 0) };
        push(&outbox, &[close.clone(), delivery(1, 1)], 7, 6);
        outbox.finish(Last::CloseOk);
        assert_eq!(take(&outbox, 6), []);
        let mut batch = Batch::default();
        outbox.take(7, &mut batch);
        assert_eq!((batch.sends, batch.last), (vec![close, delivery(1, 1)], Some(Last::CloseOk)));
    }
}
