//! A queue: what it is, what waits in it, and what its log is still to be told.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::mq::wire::TableBuf;

use super::clock::Millis;
use super::consumer::Consumers;
use super::id::{ConnectionId, ExchangeId, QueueId, TransferId};
use super::output::{Gone, Journal};
use super::ready::{Place, Ready};
use super::settings::{QueueKind, Settings};

/// Acknowledgements that are gathered before they are written.
const ACKS_GATHERED_MAX: u64 = 1000;

/// Who waits until a record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A publisher: the so many-th publish of a channel.
    Publish { connection: ConnectionId, channel: u16, opened: u32, seq: u64 },
    /// A dead letter, whose old queue keeps it until then.
    Transfer(TransferId),
    /// Who purged so many messages: what is said to be gone does not come back.
    Purge { connection: ConnectionId, channel: u16, opened: u32, messages: u32 },
}

/// What happened in a queue or a channel since it was made, or on a whole virtual host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages published to it.
    pub published: u64,
    /// Messages handed to consumers that acknowledge.
    pub delivered: u64,
    /// Messages handed to consumers that do not.
    pub delivered_no_ack: u64,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Deliveries of messages that had been delivered before.
    pub redelivered: u64,
    /// Publishes confirmed; of channels only, as the next two.
    pub confirmed: u64,
    /// Publishes that no queue took, returned.
    pub returned: u64,
    /// Publishes that no queue took, dropped.
    pub dropped: u64,
    /// Messages taken by `basic.get`, to be acknowledged.
    pub got: u64,
    /// Messages taken by `basic.get` for good.
    pub got_no_ack: u64,
    /// Answers to `basic.get` that there was none.
    pub got_nothing: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.confirmed += other.confirmed;
        self.returned += other.returned;
        self.dropped += other.dropped;
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.got_nothing += other.got_nothing;
        self.acked += other.acked;
        self.redelivered += other.redelivered;
    }
}

/// The log of a durable queue, as far as the engine knows it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The offset of the next record.
    pub next: u64,
    /// Who waits for which record, in order.
    pub waiters: VecDeque<(u64, Waiter)>,
    acks: Vec<(u64, u64)>,
    acks_count: u64,
    acks_reason: Option<Gone>,
    /// The highest message delivered, and the highest that the log was told of.
    pub delivered: Option<u64>,
    pub delivered_told: Option<u64>,
    /// A write failed: nothing can be stored any more.
    pub failed: bool,
    /// A start found it damaged: the queue is not served.
    pub damaged: bool,
}

impl Log {
    pub fn offset(&mut self) -> u64 {
        let offset = self.next;
        self.next += 1;
        offset
    }

    /// Notes that records are needed no more; true if that is the first note since the last [`Log::acks`].
    #[inline]
    pub fn gone(
        &mut self,
        queue: QueueId,
        reason: Gone,
        first: u64,
        count: u64,
        out: &mut Vec<Journal>,
    ) -> bool {
        if self.acks_reason.is_some_and(|held| held != reason) || self.acks_count >= ACKS_GATHERED_MAX {
            self.acks(queue, out);
        }
        let is_first = self.acks_reason.is_none();
        self.acks_reason = Some(reason);
        self.acks_count += 1;
        match self.acks.last_mut() {
            Some((start, length)) if *start + *length == first => *length += count,
            _ => self.acks.push((first, count)),
        }
        is_first
    }

    /// Writes what was gathered, and says at which offset if there was something.
    pub fn acks(&mut self, queue: QueueId, out: &mut Vec<Journal>) -> Option<u64> {
        let reason = self.acks_reason.take()?;
        self.acks_count = 0;
        let ranges = std::mem::take(&mut self.acks);
        let offset = self.offset();
        out.push(Journal::Ack { queue, offset, reason, ranges });
        Some(offset)
    }
}

/// A queue. What every message touches comes first, side by side: with many queues in turn, that is what the processor's
/// caches hold of each.
#[derive(Debug)]
pub(crate) struct Queue {
    pub id: QueueId,
    pub ready: Ready,
    pub consumers: Consumers,
    pub unacked: u64,
    /// Bytes of the bodies of those.
    pub unacked_bytes: u64,
    pub counts: Counts,
    pub settings: Settings,
    /// Present when persistent messages are stored.
    pub log: Option<Log>,
    pub kind: QueueKind,
    pub durable: bool,
    pub auto_delete: bool,
    pub single_active: bool,
    /// What it has on disk cannot be read or written: it is not served any more.
    pub offline: bool,
    /// Whether something in it may expire.
    pub expiring: bool,
    /// It holds what a delayed exchange holds back; no client sees it.
    pub hidden: bool,
    /// Number of the last message that was routed to it, so that it gets each once.
    pub stamp: u64,
    pub exclusive: Option<ConnectionId>,
    pub name: Arc<str>,
    pub arguments: TableBuf,
    pub policy: Option<String>,
    pub operator_policy: Option<String>,
    /// The next number in the spill file, and how many of those there are still needed.
    pub spilled: u64,
    pub spill_left: u64,
    /// When it was last declared or asked for a message, or lost its last consumer.
    pub used: Millis,
    /// When its timers are set to go off; the largest number for never.
    pub message_timer: Millis,
    pub expiry_timer: Millis,
    /// Channels that wait for the message at the front to come from disk.
    pub getting: VecDeque<Getting>,
    /// Exchanges that have bindings to it.
    pub bound: Vec<ExchangeId>,
}

/// A `basic.get` that waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Getting {
    pub connection: ConnectionId,
    pub channel: u16,
    pub opened: u32,
    pub no_ack: bool,
}

impl Queue {
    /// How RabbitMQ's texts name it.
    pub fn resource(&self, vhost: &str) -> String {
        resource(&self.name, vhost)
    }

    /// Whether its deliveries count for the limit of a whole channel, and wait for it: RabbitMQ's quorum queues know none.
    #[inline]
    pub fn is_counted_globally(&self) -> bool {
        self.kind != QueueKind::Quorum
    }

    /// The storage of a message at a place is needed no more. True if acknowledgements begin to be gathered.
    #[inline]
    pub fn release(&mut self, place: Place, count: u64, reason: Gone, out: &mut Vec<Journal>) -> bool {
        if let Some(offset) = place.as_log() {
            let id = self.id;
            return self.log.as_mut().is_some_and(|log| log.gone(id, reason, offset, count, out));
        }
        false
    }

    /// So many messages of the spill file are in memory again or gone.
    pub fn forget_spilled(&mut self, count: u64, out: &mut Vec<Journal>) {
        self.spill_left = self.spill_left.saturating_sub(count);
        let below = if self.spill_left == 0 { self.spilled } else { self.ready.first_spilled() };
        if below > 0 {
            out.push(Journal::Unspill { queue: self.id, below });
        }
    }

    /// Whether it is not served, because what it has on disk is damaged.
    pub fn is_damaged(&self) -> bool {
        self.offline || self.log.as_ref().is_some_and(|log| log.damaged)
    }

    /// Whether nobody uses it.
    pub fn is_unused(&self) -> bool {
        self.consumers.len() == 0
    }
}

pub(crate) fn resource(name: &str, vhost: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}
