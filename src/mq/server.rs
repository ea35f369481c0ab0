//! The broker: accepted streams in, the engine's decisions out.
//!
//! ```text
//! stream -> handshake (header, SASL, tune, open) -> reader: bytes -> a batch of methods -> host -> engine
//!                                                   writer: socket <- frames <- outbox <- host <-
//! ```
//!
//! A `host::Host` is one virtual host: the engine behind a lock that is taken once for everything that was read at a
//! time. What comes out goes to the outbox of each connection and is encoded outside the lock. Deliveries are bounded by
//! the engine's credit, which is given back when they are written; whoever asks for more than it reads is not read.
//!
//! Whoever accepts streams (with permits, TLS and a limit on connections) gives each to [`Broker::serve`].

mod connection;
mod encode;
mod handshake;
mod host;
mod outbox;
mod users;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::mq::durable::Durable;
use crate::mq::engine::{Config, Totals};
use crate::mq::wire::FRAME_SIZE_DEFAULT;
use crate::shutdown::Shutdown;
use crate::transport::Stream;
use host::Host;

pub use users::{Users, UsersError};

/// What the broker accepts and offers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte to `connection.open`. RabbitMQ waits as long.
    pub handshake_wait_max: Duration,
    /// Bytes of a frame, offered and enforced.
    pub frame_max: u32,
    /// Bytes of a frame before anybody has said who it is. RabbitMQ 4.1's: tokens have to fit.
    pub frame_max_first: u32,
    /// Channels of a connection; RabbitMQ's.
    pub channel_max: u16,
    /// Seconds between signs of life that are offered; RabbitMQ's.
    pub heartbeat: u16,
    /// How long a client that was sent away may take to say that it understood.
    pub close_wait_max: Duration,
    /// Bytes of waiting messages in memory above which connections that publish are not read.
    pub memory_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_wait_max: Duration::from_secs(10),
            frame_max: FRAME_SIZE_DEFAULT,
            frame_max_first: 8192,
            channel_max: 2047,
            heartbeat: 60,
            close_wait_max: Duration::from_secs(10),
            memory_max: 1 << 30,
        }
    }
}

/// What has gone through the broker.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages from publishers.
    pub received: AtomicU64,
    /// Messages to consumers, and to those who asked for one.
    pub delivered: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, count: u64) {
        if count > 0 {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Serves queues on streams that somebody else accepts.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    users: Users,
    hosts: HashMap<String, Arc<Host>>,
    counts: Arc<Counts>,
    shutdown: Shutdown,
}

impl Broker {
    /// A broker with the virtual hosts of `users`: as `durable` has them, or empty and in memory.
    pub fn new(
        users: Users,
        limits: Limits,
        config: &Config,
        durable: Option<&Durable>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let is_kept = durable.is_some();
        let config = Config { durable: is_kept, spills: is_kept, ..config.clone() };
        let hosts: HashMap<_, _> = users
            .vhosts()
            .map(|name| (name.to_owned(), Host::new(name, config.clone(), limits.memory_max, durable)))
            .collect();
        for host in hosts.values() {
            let (host, leaving) = (Arc::clone(host), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    () = host.keep_time() => {}
                    () = leaving.draining() => {}
                }
            });
        }
        Arc::new(Self { limits, users, hosts, counts: Arc::default(), shutdown })
    }

    /// Serves one stream until the peer leaves, breaks the protocol, or the broker stops.
    pub async fn serve(self: &Arc<Self>, stream: Stream) {
        connection::serve(self, stream).await;
    }

    /// Messages in and out since the start.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Sums over all virtual hosts.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for host in self.hosts.values() {
            let one = host.totals();
            sum.connections += one.connections;
            sum.channels += one.channels;
            sum.exchanges += one.exchanges;
            sum.queues += one.queues;
            sum.consumers += one.consumers;
            sum.ready += one.ready;
            sum.unacked += one.unacked;
        }
        sum
    }
}
