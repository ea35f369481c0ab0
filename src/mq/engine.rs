//! The broker's decisions for one virtual host: exchanges, queues, consumers, confirms, limits, expiry, dead letters.
//!
//! Pure and sync: `(now, input) -> outputs`. It opens no socket and no file and reads no clock; randomness is a function
//! that it is given. The driver (`mq/server.rs` with `mq/durable.rs`) parses what it reads outside any lock, gives the
//! engine a batch of methods under one lock, and does afterwards what the [`Outputs`] say.
//!
//! # Inputs
//!
//! | call | when |
//! |---|---|
//! | [`Engine::connect`] | `connection.open` was granted: gives the [`ConnectionId`] |
//! | [`Engine::handle`] | a method on a channel, publishes with their [`Content`]; class `connection` stays with the driver |
//! | [`Engine::oversized`] | the body of a publish was not kept: larger than [`Config::message_size_max`] |
//! | [`Engine::begun`] | a content whose end has not come: whether there is such a channel |
//! | [`Engine::finish`] | at the end of each batch: answers publishers, grouped |
//! | [`Engine::written`] | deliveries went to the socket: gives credit back ([`OutLane::cost`]) |
//! | [`Engine::disconnect`] | `connection.close`, or the socket closed |
//! | [`Engine::deadline`], [`Engine::tick`] | time: tick no later than the deadline |
//! | [`Engine::set_alarm`], [`Engine::holds_back`] | memory or disk is short, or no more; whether a publish has to wait |
//! | [`Engine::stored`], [`Engine::store_failed`] | the log of a queue is on disk up to an offset; or cannot be written |
//! | [`Engine::loaded`] | what [`Journal::Load`] asked for; an empty list if it cannot be read |
//! | [`Engine::define`], [`Engine::recover_queue`], [`Engine::recover_delayed`] | at the start, in this order |
//! | [`Engine::compact`] | the log of a queue should be rid of what stands below an offset |
//!
//! # Outputs
//!
//! The driver does three things with a batch, in this order:
//!
//! 1. [`Outputs::changes`]: to the metadata log, on disk before anything below is sent. Replies to declarations are among it.
//! 2. [`Outputs::journal`]: to the storage in this order. [`Journal::Append`], `Ack`, `Requeue`, `Delivered` and `Move` are
//!    records: each must get exactly the offset it names, which counts up by one per queue. Nothing waits for them but the
//!    driver's later call of [`Engine::stored`]. `Load` reads; what it asks for was appended or spilled before.
//! 3. [`Outputs::connections`]: frames, encoded outside the lock. [`Send::CloseConnection`] is the last thing for a
//!    connection: its id is void, the driver reads on until close-ok or a timeout and gives the engine none of it.
//!
//! Deliveries do not wait for the disk, confirms do (DESIGN 4): a publisher is answered once every durable queue that
//! took its persistent message has stored it. A failing disk gives it `basic.nack`.
//!
//! # What always holds
//!
//! - A message in a queue is in exactly one place: ready, unacknowledged on one channel, or dead and on its way.
//! - Ready messages keep their order; what comes back stands where it stood. Expiry happens at the front (RabbitMQ's
//!   classic queues).
//! - Per queue, offsets in the journal are consecutive, and every appended record is named once by an `Ack` or `Move`
//!   when it is needed no more, also when the queue is purged; not when the queue is deleted, which ends its log.
//! - A dead letter from a log is acknowledged there only after all its new queues have stored it: twice, never lost.
//! - Memory: waiting messages beyond [`Config::page_above`] cost nothing but their part of a run, 40 bytes for any number
//!   of neighbours; deliveries beyond [`Config::credit`] are not made.
//! - No input panics. A method on a channel that is being closed is ignored, as the specification says.

mod access;
mod allowance;
mod arguments;
mod bind;
mod bindings;
mod check;
mod clock;
mod config;
mod confirm;
mod connection;
mod consume;
mod consumer;
mod dead;
mod declare;
mod definitions;
mod deliver;
mod exchange;
mod fault;
mod id;
mod lane;
mod lifecycle;
mod message;
mod methods;
mod output;
mod pace;
mod pattern;
mod policy;
mod publish;
mod queue;
mod ready;
mod routes;
mod settings;
mod settle;
mod storage;
mod tick;
mod topic;
mod trace;
mod unacked;
mod value;
mod view;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use self::bind::{NewExchange, PREDECLARED};
use self::clock::Timers;
use self::connection::{Channel, Connection};
use self::consumer::Consumer;
use self::dead::{Dead, Transfer};
use self::exchange::Exchange;
use self::fault::Fault;
use self::id::Slab;
use self::pace::Pace;
use self::policy::Policies;
use self::queue::Queue;
use self::routes::Routes;
use self::trace::Tracer;
use crate::mq::wire::Table;

pub use self::access::{Access, Pattern, Permission};
pub use self::allowance::Allowance;
pub use self::bindings::{Destination, HASH_WEIGHT_MAX, Inner, Kind};
pub use self::clock::Millis;
pub use self::config::{Compat, Config};
pub use self::connection::Peer;
pub use self::definitions::{
    BindingDefinition, DefinitionError, Definitions, ExchangeDefinition, PolicyDefinition, QueueDefinition,
    json_of, table_of,
};
pub use self::id::{ConnectionId, ConsumerId, ExchangeId, Id, QueueId, TransferId};
pub use self::message::Message;
pub use self::methods::Content;
pub(crate) use self::output::delivery_cost;
pub use self::output::{Change, Delivery, Gone, Journal, OutLane, Outputs, Reply, Send};
pub use self::pattern::{Expression, PatternError, regex};
pub use self::policy::{ApplyTo, Definition, Policy};
pub use self::queue::Counts;
pub use self::ready::{Loaded, Place};
pub use self::settings::{Overflow, QueueKind, Settings};
pub use self::storage::Recovered;
pub use self::view::{
    BindingView, ChannelView, Churn, ConnectionView, ConsumerView, ExchangeView, QueueView, Totals,
};

/// Random bits: for names of queues and consumers, and for reply addresses, which must not be guessed.
pub type Random = Box<dyn FnMut() -> u64 + std::marker::Send>;

/// When and where a method came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Milliseconds since 1970, never less than in the call before.
    pub now: Millis,
    /// The connection.
    pub connection: ConnectionId,
    /// The channel number.
    pub channel: u16,
}

/// Whether a method was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a method that was not taken has to be given again"]
pub enum Taken {
    /// It was, whatever came of it.
    Now,
    /// It was not looked at: an earlier method of its channel waits for the disk. Give it again after [`Send::Resume`].
    Later,
}

/// One virtual host.
pub struct Engine {
    vhost: Arc<str>,
    config: Config,
    random: Random,
    queues: Slab<QueueId, Queue>,
    queue_names: HashMap<Arc<str>, QueueId>,
    exchanges: Slab<ExchangeId, Exchange>,
    exchange_names: HashMap<Arc<str>, ExchangeId>,
    default_exchange: ExchangeId,
    connections: Slab<ConnectionId, Connection>,
    consumers: Slab<ConsumerId, Consumer>,
    transfers: Slab<TransferId, Transfer>,
    policies: Policies,
    operator_policies: Policies,
    reply_tokens: HashMap<Arc<str>, (ConnectionId, u16)>,
    timers: Timers,
    /// What memory or disk is short of.
    alarm: Option<Arc<str>>,
    /// Bytes of messages in memory, each divided among the queues it is in.
    resident: u64,
    pace: Pace,
    /// What happened on channels that are closed.
    past: Counts,
    churn: Churn,
    /// Changes with everything that can change where a message goes.
    generation: u64,
    routes: Routes,
    /// The last message that was routed.
    stamp: u64,
    /// Messages put into queues so far.
    pushed: u64,
    /// Channels opened so far.
    opened: u32,
    watching: bool,
    /// None while nobody traces, which is nearly always.
    tracer: Option<Box<Tracer>>,
    /// Channels with answers to publishers due.
    answers: Vec<(ConnectionId, u16)>,
    acks_due: Vec<QueueId>,
    dead: VecDeque<Dead>,
    /// Of the last routing: queues found, exchanges to go through.
    found: Vec<QueueId>,
    work: Vec<ExchangeId>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("vhost", &self.vhost)
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// A virtual host with the exchanges that every one has.
    pub fn new(vhost: &str, config: Config, random: Random) -> Self {
        let mut engine = Self {
            vhost: vhost.into(),
            config,
            random,
            queues: Slab::default(),
            queue_names: HashMap::new(),
            exchanges: Slab::default(),
            exchange_names: HashMap::new(),
            default_exchange: ExchangeId::from_raw(0),
            connections: Slab::default(),
            consumers: Slab::default(),
            transfers: Slab::default(),
            policies: Policies::default(),
            operator_policies: Policies::default(),
            reply_tokens: HashMap::new(),
            timers: Timers::default(),
            alarm: None,
            resident: 0,
            pace: Pace::default(),
            past: Counts::default(),
            churn: Churn::default(),
            generation: 0,
            routes: Routes::default(),
            stamp: 0,
            pushed: 0,
            opened: 0,
            watching: false,
            tracer: None,
            answers: Vec::new(),
            acks_due: Vec::new(),
            dead: VecDeque::new(),
            found: Vec::new(),
            work: Vec::new(),
        };
        for (name, kind) in PREDECLARED {
            let id = engine.insert_exchange(&NewExchange {
                name: (*name).into(),
                kind: *kind,
                durable: true,
                auto_delete: false,
                internal: *name == trace::EXCHANGE,
                arguments: Table::default(),
            });
            if name.is_empty() {
                engine.default_exchange = id;
            }
        }
        engine
    }

    /// Ends a batch of inputs: publishers get their answers, as few as will do.
    pub fn finish(&mut self, out: &mut Outputs) {
        if !self.answers.is_empty() {
            self.answer_all(out);
        }
        if self.tracer.is_some() {
            self.tell_traces(out);
        }
    }

    /// Messages put into queues so far, one for each queue: how much work the inputs were.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Bytes of waiting and unacknowledged messages in memory.
    pub fn resident(&self) -> u64 {
        self.resident
    }

    /// Grows by every message that goes to a queue which is behind its consumers. Whoever publishes those is to wait
    /// for [`Engine::pace`] to come this far.
    pub fn ran_ahead(&self) -> u64 {
        self.pace.owed()
    }

    /// How long a publisher that ran ahead so far should wait, in milliseconds; none if it may go on. One at a time.
    pub fn pace(&mut self, ran_ahead: u64, now: Millis) -> Option<Millis> {
        self.pace.wait(ran_ahead, now)
    }

    /// Whether the publisher that waits may go on, since the last question.
    pub fn take_paced(&mut self) -> bool {
        self.pace.take_reached()
    }

    /// [`Engine::resident`], counted message by message.
    #[cfg(test)]
    fn resident_counted(&self) -> u64 {
        let mut sum = 0;
        for (_, queue) in self.queues.iter() {
            sum += queue.ready.resident().map(|entry| entry.message.cost()).sum::<u64>();
        }
        for channel in self.connections.iter().flat_map(|(_, held)| held.channels.iter().flatten()) {
            sum += channel.unacked.iter().map(|unacked| unacked.entry.message.cost()).sum::<u64>();
            if let connection::Mode::Transaction(transaction) = &channel.mode {
                let settled = transaction.settlements.iter();
                sum += settled.map(|settled| settled.unacked.entry.message.cost()).sum::<u64>();
            }
        }
        for (_, exchange) in self.exchanges.iter() {
            sum += exchange.delayed.values().map(|held| held.message.cost()).sum::<u64>();
        }
        sum
    }

    #[inline]
    fn channel(&self, at: At) -> Option<&Channel> {
        self.connections.get(at.connection)?.channel(at.channel)
    }

    #[inline]
    fn channel_mut(&mut self, at: At) -> Option<&mut Channel> {
        self.connections.get_mut(at.connection)?.channel_mut(at.channel)
    }

    fn peer(&self, at: At) -> Result<&Peer, Fault> {
        self.connections
            .get(at.connection)
            .map(|connection| &connection.peer)
            .ok_or_else(|| Fault::internal_error("connection is gone"))
    }

    /// Whether a user may ask whether a name exists: since RabbitMQ 4 whoever may do anything at all with it, before
    /// everybody.
    fn permit_any(&self, at: At, name: &str, resource: impl Fn() -> String) -> Result<(), Fault> {
        if self.config.compat == Compat::V3 {
            return Ok(());
        }
        self.permit(at, Permission::Configure, name, &resource)
            .or_else(|_| self.permit(at, Permission::Write, name, &resource))
            .or_else(|_| self.permit(at, Permission::Read, name, &resource))
    }

    /// A name nobody has: a prefix and 128 bits in 22 characters of base64url.
    fn random_name(&mut self, prefix: &str) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bits = (u128::from((self.random)()) << 64) | u128::from((self.random)());
        let mut name = String::with_capacity(prefix.len() + 22);
        name.push_str(prefix);
        for _ in 0..22 {
            name.push(char::from(DIGITS[(bits >> 122) as usize & 63]));
            bits <<= 6;
        }
        name
    }
}

#[cfg(test)]
mod tests;
