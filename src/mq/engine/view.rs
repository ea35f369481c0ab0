//! What there is, for the management API and metrics: snapshots, read at leisure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mq::wire::TableBuf;

use super::Engine;
use super::bindings::Destination;
use super::consumer::Turn;
use super::id::{ConnectionId, ConsumerId, ExchangeId, QueueId};
use super::message::OVERHEAD;
use super::queue::{Counts, Queue};
use super::ready::Front;
use super::settings::{QueueKind, Settings};

/// A queue.
#[derive(Debug, Clone)]
pub struct QueueView {
    /// Its id.
    pub id: QueueId,
    /// Its name.
    pub name: Arc<str>,
    /// Which type was asked for.
    pub kind: QueueKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// The connection it goes with.
    pub exclusive: Option<ConnectionId>,
    /// Its arguments.
    pub arguments: TableBuf,
    /// The policy in force.
    pub policy: Option<String>,
    /// The operator policy in force.
    pub operator_policy: Option<String>,
    /// Its settings in force.
    pub settings: Settings,
    /// Messages ready.
    pub ready: u64,
    /// Bytes of the bodies of those.
    pub ready_bytes: u64,
    /// Messages delivered and not acknowledged.
    pub unacked: u64,
    /// Bytes of the bodies of those.
    pub unacked_bytes: u64,
    /// About how many bytes of memory its messages take.
    pub memory: u64,
    /// The property `timestamp` of the message at the front, in seconds since 1970.
    pub head_timestamp: Option<u64>,
    /// When it was last declared or asked for a message, or lost its last consumer, in milliseconds since 1970.
    pub used: u64,
    /// Consumers.
    pub consumers: usize,
    /// The tag of the consumer that has it for itself.
    pub consumers_exclusive: Option<Arc<str>>,
    /// The tag of the single active consumer.
    pub active_consumer: Option<Arc<str>>,
    /// What happened since it was made.
    pub counts: Counts,
    /// Whether its storage failed.
    pub failed: bool,
}

/// An exchange.
#[derive(Debug, Clone)]
pub struct ExchangeView {
    /// Its name.
    pub name: Arc<str>,
    /// The name of its kind.
    pub kind: &'static str,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only exchanges publish to it.
    pub internal: bool,
    /// Its arguments.
    pub arguments: TableBuf,
    /// The policy in force.
    pub policy: Option<String>,
    /// Messages held back.
    pub delayed: usize,
    /// Messages published to it, and what came of them: one for each queue.
    pub passed: (u64, u64),
}

/// A binding.
#[derive(Debug, Clone)]
pub struct BindingView {
    /// The exchange it leads from; empty for the default exchange.
    pub source: Arc<str>,
    /// The name of what it leads to.
    pub destination: Arc<str>,
    /// Whether that is a queue.
    pub is_queue: bool,
    /// The binding key.
    pub key: Arc<[u8]>,
    /// Its arguments.
    pub arguments: TableBuf,
}

/// A consumer.
#[derive(Debug, Clone)]
pub struct ConsumerView {
    /// Its tag.
    pub tag: Arc<str>,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its connection.
    pub connection: ConnectionId,
    /// Its channel.
    pub channel: u16,
    /// Whether it acknowledges.
    pub acks: bool,
    /// Whether it has the queue for itself.
    pub exclusive: bool,
    /// Its limit; 0 for none.
    pub prefetch: u32,
    /// Deliveries it has not acknowledged.
    pub unacked: u32,
    /// Whether it is served: not a waiting one of a queue with a single active consumer.
    pub active: bool,
    /// Its arguments.
    pub arguments: TableBuf,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its number.
    pub number: u16,
    /// Whether it confirms.
    pub confirms: bool,
    /// Whether it is transactional.
    pub transactional: bool,
    /// Deliveries not acknowledged.
    pub unacked: usize,
    /// Publishes not confirmed.
    pub unconfirmed: usize,
    /// Publishes of the transaction.
    pub uncommitted: usize,
    /// Acknowledgements of the transaction.
    pub acks_uncommitted: usize,
    /// Whether the broker has closed it.
    pub is_closing: bool,
    /// What happened on it.
    pub counts: Counts,
    /// Consumers.
    pub consumers: usize,
    /// Limit for each new consumer; 0 for none.
    pub prefetch: u32,
    /// Limit for all; 0 for none.
    pub global_prefetch: u32,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// Its id.
    pub id: ConnectionId,
    /// Its user.
    pub user: Arc<str>,
    /// Open channels.
    pub channels: u16,
    /// Whether it is blocked by an alarm.
    pub blocked: bool,
}

/// Sums over everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Connections.
    pub connections: usize,
    /// Channels.
    pub channels: usize,
    /// Exchanges.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// Consumers.
    pub consumers: usize,
    /// Messages ready.
    pub ready: u64,
    /// Messages delivered and not acknowledged.
    pub unacked: u64,
}

/// How much has come and gone since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Churn {
    /// Channels opened.
    pub channels_opened: u64,
    /// Channels closed.
    pub channels_closed: u64,
    /// Queues declared, those that were there counted too.
    pub queues_declared: u64,
    /// Queues made.
    pub queues_created: u64,
    /// Queues deleted.
    pub queues_deleted: u64,
}

impl std::ops::AddAssign for Churn {
    fn add_assign(&mut self, other: Self) {
        self.channels_opened += other.channels_opened;
        self.channels_closed += other.channels_closed;
        self.queues_declared += other.queues_declared;
        self.queues_created += other.queues_created;
        self.queues_deleted += other.queues_deleted;
    }
}

impl Engine {
    /// How much has come and gone.
    pub fn churn(&self) -> Churn {
        self.churn
    }

    /// All queues, in no order.
    pub fn queues(&self) -> impl Iterator<Item = QueueView> {
        self.queues.iter().filter(|(_, queue)| !queue.hidden).map(|(_, queue)| self.view(queue))
    }

    /// One queue.
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        self.queues.get(*self.queue_names.get(name)?).map(|queue| self.view(queue))
    }

    /// Whether there is an exchange of that name.
    pub fn has_exchange(&self, name: &str) -> bool {
        self.exchange_names.contains_key(name)
    }

    /// The id of a queue.
    pub fn queue_id(&self, name: &str) -> Option<QueueId> {
        self.queue_names.get(name).copied()
    }

    fn view(&self, queue: &Queue) -> QueueView {
        let tag = |id: Option<ConsumerId>| Some(self.consumers.get(id?)?.tag.clone());
        let head = match queue.ready.front() {
            Front::Here(entry) => entry.message.properties().timestamp(),
            Front::Absent | Front::Nothing => None,
        };
        QueueView {
            id: queue.id,
            name: queue.name.clone(),
            kind: queue.kind,
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            exclusive: queue.exclusive,
            arguments: queue.arguments.clone(),
            policy: queue.policy.clone(),
            operator_policy: queue.operator_policy.clone(),
            settings: queue.settings.clone(),
            ready: queue.ready.len() as u64,
            ready_bytes: queue.ready.bytes(),
            unacked: queue.unacked,
            unacked_bytes: queue.unacked_bytes,
            memory: self.memory_of(queue),
            head_timestamp: head,
            used: queue.used,
            consumers_exclusive: tag(queue.consumers.exclusive),
            consumers: queue.consumers.len(),
            active_consumer: tag(queue.consumers.active),
            counts: queue.counts,
            failed: queue.log.as_ref().is_some_and(|log| log.failed),
        }
    }

    /// About how many bytes its messages take: never more than those of all queues, for bodies may be on disk.
    fn memory_of(&self, queue: &Queue) -> u64 {
        let (waiting, bytes) = (queue.ready.len() as u64 + queue.unacked, queue.ready.bytes());
        (waiting * OVERHEAD as u64 + bytes + queue.unacked_bytes).min(self.resident)
    }

    /// What happened on all channels so far.
    pub fn counts(&self) -> Counts {
        let mut sum = self.past;
        for channel in self.connections.iter().flat_map(|(_, held)| held.channels.iter().flatten()) {
            sum += channel.counts();
        }
        sum
    }

    /// What channels have not told their exchanges yet.
    fn passing(&self) -> HashMap<ExchangeId, (u64, u64)> {
        let mut passing: HashMap<ExchangeId, (u64, u64)> = HashMap::new();
        for channel in self.connections.iter().flat_map(|(_, held)| held.channels.iter().flatten()) {
            let route = &channel.route;
            if let (Some(from), 1..) = (route.from, route.uses) {
                let passed = passing.entry(from).or_default();
                passed.0 += route.uses;
                passed.1 += route.uses * route.targets.len() as u64;
            }
        }
        passing
    }

    /// All exchanges, in no order.
    pub fn exchanges(&self) -> impl Iterator<Item = ExchangeView> {
        let passing = self.passing();
        self.exchanges.iter().map(move |(id, exchange)| ExchangeView {
            passed: {
                let (into, out) = passing.get(&id).copied().unwrap_or_default();
                (exchange.passed.0 + into, exchange.passed.1 + out)
            },
            name: exchange.name.clone(),
            kind: exchange.kind.name(),
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
            policy: exchange.policy.clone(),
            delayed: exchange.delayed.len(),
        })
    }

    /// All bindings; for each queue also the one from the default exchange.
    pub fn bindings(&self) -> impl Iterator<Item = BindingView> {
        let own = self.exchanges.iter().flat_map(|(_, exchange)| {
            exchange.bindings.iter().filter_map(|(to, key, arguments)| {
                let (destination, is_queue) = match to {
                    Destination::Queue(id) => (self.queues.get(id)?.name.clone(), true),
                    Destination::Exchange(id) => (self.exchanges.get(id)?.name.clone(), false),
                };
                let (source, key, arguments) = (exchange.name.clone(), key.clone(), arguments.clone());
                Some(BindingView { source, destination, is_queue, key, arguments })
            })
        });
        let implied = self.queues.iter().filter(|(_, queue)| !queue.hidden).map(|(_, queue)| BindingView {
            source: "".into(),
            destination: queue.name.clone(),
            is_queue: true,
            key: queue.name.as_bytes().into(),
            arguments: TableBuf::new(),
        });
        own.chain(implied)
    }

    /// All consumers, in no order.
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerView> {
        self.consumers.iter().filter_map(|(_, consumer)| {
            Some(ConsumerView {
                tag: consumer.tag.clone(),
                queue: self.queues.get(consumer.queue)?.name.clone(),
                connection: consumer.connection,
                channel: consumer.channel,
                acks: !consumer.no_ack,
                exclusive: consumer.exclusive,
                prefetch: consumer.prefetch,
                unacked: consumer.unacked,
                active: consumer.turn != Turn::Waiting,
                arguments: consumer.arguments.clone(),
            })
        })
    }

    /// All connections, in no order.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionView> {
        self.connections.iter().map(|(id, connection)| ConnectionView {
            id,
            user: connection.peer.user.clone(),
            channels: connection.channel_count,
            blocked: connection.blocked,
        })
    }

    /// All channels, by connection.
    pub fn channels(&self) -> impl Iterator<Item = ChannelView> {
        self.connections.iter().flat_map(|(id, connection)| {
            let open = connection.channels.iter().enumerate();
            open.filter_map(move |(number, channel)| {
                channel.as_ref().map(|channel| channel.view(id, number as u16))
            })
        })
    }

    /// Whether something waits here that a restart would not find: a queue that is not durable, or a message that is not
    /// in the log of its queue.
    pub fn would_lose(&self) -> bool {
        self.queues.iter().any(|(_, queue)| queue.log.is_none() || queue.ready.holds_unlogged())
    }

    /// Sums over everything.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            connections: self.connections.len(),
            exchanges: self.exchanges.len(),
            queues: self.queue_names.len(),
            consumers: self.consumers.len(),
            ..Totals::default()
        };
        for (_, connection) in self.connections.iter() {
            totals.channels += usize::from(connection.channel_count);
        }
        for (_, queue) in self.queues.iter() {
            totals.ready += queue.ready.len() as u64;
            totals.unacked += queue.unacked;
        }
        totals
    }
}
