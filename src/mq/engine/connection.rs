//! Connections and their channels: what each has open, owes and is owed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::access::Access;
use super::allowance::{self, Allowance};
use super::confirm::Confirms;
use super::id::{ConnectionId, ConsumerId, ExchangeId, QueueId};
use super::message::Message;
use super::queue::Counts;
use super::unacked::{Unacked, UnackedList};
use super::view::ChannelView;

/// What a client said and agreed to when it connected.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What the connection is called where it is told of.
    pub name: Arc<str>,
    /// The user.
    pub user: Arc<str>,
    /// What the user may do here.
    pub access: Arc<Access>,
    /// The highest number of channels, as agreed; 0 for no limit.
    pub channel_max: u16,
    /// The channels of the user, with those of its other connections.
    pub allowance: Arc<Allowance>,
    /// Whether the client announced `consumer_cancel_notify`.
    pub cancel_notify: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub peer: Peer,
    /// By channel number.
    pub channels: Vec<Option<Box<Channel>>>,
    pub channel_count: u16,
    /// Queues that go with it.
    pub exclusive: Vec<QueueId>,
    /// Bytes of deliveries that it may still be given.
    pub credit: i64,
    /// Consumers that wait for credit, the one that waits longest first.
    pub starved: VecDeque<ConsumerId>,
    /// Whether it published while memory or disk was short, and must not be read.
    pub blocked: bool,
    /// A command was refused for now; what it waited for has happened.
    pub held: bool,
}

/// Whether a channel takes methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// The broker closed it; everything but close and close-ok is ignored.
    Closing,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub state: State,
    /// Which opening of this number it is: answers for an earlier one are not for this.
    pub opened: u32,
    /// Its part of what the user may have; none of one that is only waited for.
    _taken: Option<allowance::Taken>,
    pub next_tag: u64,
    pub unacked: UnackedList,
    /// For consumers to come.
    pub prefetch: u32,
    /// For the whole channel; 0 for any number.
    pub global_prefetch: u32,
    /// What counts for that: deliveries to consumers that are not acknowledged, and all that was out when the limit came.
    pub global_unacked: u32,
    /// Consumers that the limit of the channel holds up, the one that waits longest first.
    pub limited: VecDeque<ConsumerId>,
    pub consumers: HashMap<Arc<str>, ConsumerId>,
    pub mode: Mode,
    /// The queue that an empty name stands for.
    pub last_queue: Arc<str>,
    pub reply_to: Option<ReplyTo>,
    pub route: Route,
    pub counts: Counts,
    /// A synchronous method that is not answered yet.
    pub awaiting: bool,
    /// In the list of channels with answers to publishers due.
    pub answers_due: bool,
}

/// Whether publishes are confirmed, or gathered.
#[derive(Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Plain,
    Confirm(Confirms),
    Transaction(Box<Transaction>),
}

#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub publishes: Vec<Gathered>,
    pub settlements: Vec<Settled>,
    /// The publishes of the commit that is being stored.
    pub confirms: Confirms,
    pub committing: bool,
    pub refused: bool,
}

/// A publish of a transaction, routed already.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub message: Message,
    pub targets: Targets,
    pub mandatory: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets {
    pub queues: Vec<QueueId>,
    /// A delayed exchange that keeps it until then.
    pub delay: Option<(ExchangeId, u64)>,
    /// The channel whose reply consumer gets it.
    pub reply: Option<(ConnectionId, u16)>,
}

/// An acknowledgement of a transaction.
#[derive(Debug)]
pub(crate) struct Settled {
    pub unacked: Unacked,
    pub verdict: Verdict,
}

/// What a client said of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    Requeue,
    Reject,
}

/// The consumer of `amq.rabbitmq.reply-to` of a channel.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTo {
    pub consumer: Arc<str>,
    pub token: Arc<str>,
}

/// Queues that a message goes to: mostly one.
pub(crate) type Targeted = SmallVec<[QueueId; 2]>;

/// Where the last publish of a channel went: most go where the last one went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    pub generation: u64,
    pub exchange: Arc<str>,
    pub key: Arc<[u8]>,
    /// Both once more, end to end: to compare with these does not wait for the counters of those.
    pub asked: Vec<u8>,
    pub targets: Targeted,
    /// Whether the above can be used for a message without headers.
    pub is_known: bool,
    /// The exchange.
    pub from: Option<ExchangeId>,
    /// How often it was gone since the exchange was told.
    pub uses: u64,
}

impl Route {
    #[inline]
    pub fn is_for(&self, exchange: &str, key: &[u8]) -> bool {
        self.asked.len() == exchange.len() + key.len()
            && self.exchange.len() == exchange.len()
            && self.asked[exchange.len()..] == *key
            && self.asked[..exchange.len()] == *exchange.as_bytes()
    }

    /// The same for one that was not gone for long, whose counters nobody writes now: without `asked`.
    #[inline]
    pub fn leads(&self, exchange: &str, key: &[u8]) -> bool {
        *self.key == *key && *self.exchange == *exchange
    }
}

impl Channel {
    pub fn new(opened: u32, taken: Option<allowance::Taken>) -> Self {
        Self {
            state: State::Open,
            opened,
            _taken: taken,
            next_tag: 0,
            unacked: UnackedList::default(),
            prefetch: 0,
            global_prefetch: 0,
            global_unacked: 0,
            limited: VecDeque::new(),
            consumers: HashMap::new(),
            mode: Mode::Plain,
            last_queue: "".into(),
            reply_to: None,
            route: Route::default(),
            counts: Counts::default(),
            awaiting: false,
            answers_due: false,
        }
    }

    #[inline]
    pub fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    /// What happened on it so far.
    pub fn counts(&self) -> Counts {
        let confirmed = match &self.mode {
            Mode::Confirm(confirms) => confirms.confirmed(),
            Mode::Plain | Mode::Transaction(_) => 0,
        };
        Counts { confirmed, ..self.counts }
    }

    /// Whether consumers may get more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.global_prefetch > 0 && self.global_unacked >= self.global_prefetch
    }
}

impl Connection {
    #[inline]
    pub fn channel(&self, number: u16) -> Option<&Channel> {
        self.channels.get(usize::from(number))?.as_deref()
    }

    #[inline]
    pub fn channel_mut(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }
}

impl Channel {
    pub fn view(&self, connection: ConnectionId, number: u16) -> ChannelView {
        ChannelView {
            connection,
            number,
            confirms: matches!(self.mode, Mode::Confirm(_)),
            transactional: matches!(self.mode, Mode::Transaction(_)),
            unacked: self.unacked.len(),
            unconfirmed: match &self.mode {
                Mode::Plain => 0,
                Mode::Confirm(confirms) => confirms.waiting(),
                Mode::Transaction(transaction) => transaction.confirms.waiting(),
            },
            uncommitted: match &self.mode {
                Mode::Transaction(transaction) => transaction.publishes.len(),
                Mode::Plain | Mode::Confirm(_) => 0,
            },
            acks_uncommitted: match &self.mode {
                Mode::Transaction(transaction) => transaction.settlements.len(),
                Mode::Plain | Mode::Confirm(_) => 0,
            },
            is_closing: self.state == State::Closing,
            counts: self.counts(),
            consumers: self.consumers.len(),
            prefetch: self.prefetch,
            global_prefetch: self.global_prefetch,
        }
    }
}
