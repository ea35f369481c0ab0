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

mod change;
mod connection;
mod definitions;
mod encode;
mod handshake;
mod host;
mod live;
mod management;
mod outbox;
mod prometheus;
mod rule;
mod session;
mod users;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::mq::durable::Durable;
use crate::mq::engine::{Allowance, Compat, Config, Totals};
use crate::mq::wire::{FRAME_SIZE_DEFAULT, FRAME_SIZE_MIN};
use crate::shutdown::Shutdown;
use crate::transport::Stream;
use host::Host;
use live::Live;

pub use change::{Change, PermissionDefinition, TopicPermissionDefinition, UserDefinition, VhostDefinition};
pub use definitions::ImportError;
pub use management::{Facts, Glance, ListenerFact, Management};
pub use prometheus::{By, Process};
pub use rule::ChangeError;
pub use users::{Users, UsersError};

/// What the broker accepts and offers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte to `connection.open`. RabbitMQ waits as long.
    pub handshake_wait_max: Duration,
    /// Bytes of a frame, offered and enforced.
    pub frame_max: u32,
    /// Bytes of a frame before anybody has said who it is: RabbitMQ's; since 4.1 twice as many, so that tokens fit.
    pub frame_max_first: u32,
    /// Channels of a connection; RabbitMQ's.
    pub channel_max: u16,
    /// Seconds between signs of life that are offered; RabbitMQ's.
    pub heartbeat: u16,
    /// How long a client that was sent away may take to say that it understood.
    pub close_wait_max: Duration,
    /// Bytes of waiting messages in memory above which connections that publish are not read.
    pub memory_max: u64,
    /// The version of RabbitMQ that clients are told of: some act by it, and by the name of the product. Celery counts
    /// prefetch otherwise with what is not called RabbitMQ.
    pub version: &'static str,
}

impl Limits {
    /// As the RabbitMQ that the broker is to be like.
    pub fn like(compat: Compat) -> Self {
        let (frame_max_first, version) = match compat {
            Compat::V3 => (FRAME_SIZE_MIN, "3.10.8"),
            Compat::V4 => (2 * FRAME_SIZE_MIN, "4.3.0"),
        };
        Self {
            frame_max_first,
            version,
            handshake_wait_max: Duration::from_secs(10),
            frame_max: FRAME_SIZE_DEFAULT,
            channel_max: 2047,
            heartbeat: 60,
            close_wait_max: Duration::from_secs(10),
            memory_max: 1 << 30,
        }
    }
}

/// The node, in RabbitMQ's form: a word, `@`, the machine.
fn node_name() -> String {
    format!("bandy@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// Who wanted to come in since the start.
#[derive(Debug, Default)]
struct Logins {
    let_in: AtomicU64,
    refused: AtomicU64,
}

/// Serves queues on streams that somebody else accepts.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    config: Config,
    users: RwLock<Users>,
    hosts: RwLock<HashMap<String, Arc<Host>>>,
    live: Live,
    /// The channels of each user that has ever come in or has a limit.
    allowances: Mutex<HashMap<String, Arc<Allowance>>>,
    /// What others keep here under names of theirs.
    parameters: Mutex<BTreeMap<String, serde_json::Value>>,
    /// One change at a time, until it is on disk: the last one is to be the last there too.
    changing: tokio::sync::Mutex<()>,
    durable: Option<Arc<Durable>>,
    /// What there was at the start without any change: letting go of that has to be remembered.
    given: HashSet<String>,
    /// What earlier runs had changed.
    kept: HashSet<String>,
    logins: Logins,
    shutdown: Shutdown,
}

impl Broker {
    /// A broker with the virtual hosts of `users`, and with what `durable` has of users, rules and queues; in memory
    /// without it.
    pub fn new(
        mut users: Users,
        limits: Limits,
        config: &Config,
        durable: Option<Arc<Durable>>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let is_kept = durable.is_some();
        let config = Config { durable: is_kept, spills: is_kept, ..config.clone() };
        let given = rule::keys_of(&users);
        let kept = durable.as_deref().map(rule::kept).unwrap_or_default();
        for change in &kept {
            if let Err(error) = users.apply(change) {
                tracing::error!(%error, "a change of the last run is left alone");
            }
        }
        let names: Vec<String> = users.vhosts().map(|vhost| vhost.name.clone()).collect();
        let broker = Arc::new(Self {
            limits,
            config,
            durable,
            given,
            kept: kept.iter().map(Change::kept_as).collect(),
            users: RwLock::new(users),
            hosts: RwLock::default(),
            live: Live::default(),
            allowances: Mutex::default(),
            parameters: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            logins: Logins::default(),
            shutdown,
        });
        names.iter().for_each(|name| broker.open_host(name));
        // Those of users are there; these are about what has just been opened.
        kept.iter().for_each(|change| broker.take_effect(change));
        broker
    }

    /// Whether a connection that has just come in may stay: its user and its virtual host may have gone meanwhile.
    fn may_stay(&self, host: &Arc<Host>, user: &str) -> bool {
        let is_there = self.host(host.name()).is_some_and(|held| Arc::ptr_eq(&held, host));
        is_there && self.users().user(user).is_some()
    }

    /// Why a user may have no more connections, in RabbitMQ's words.
    fn too_many(&self, user: &str, vhost: &str) -> Option<String> {
        let users = self.users();
        let (of_user, of_vhost) =
            (users.user_limit(user, "max-connections"), users.vhost_limit(vhost, "max-connections"));
        drop(users);
        if let Some(max) = of_vhost
            && self.live.count(|link| link.host.name() == vhost) as u64 >= max
        {
            let limit = format!("connection limit ({max}) is reached");
            return Some(format!("access to vhost '{vhost}' refused for user '{user}': {limit}"));
        }
        if let Some(max) = of_user
            && self.live.count(|link| *link.terms.user == *user) as u64 >= max
        {
            return Some(format!(
                "connection refused for user '{user}': user connection limit ({max}) is reached"
            ));
        }
        None
    }

    /// The channels of a user, with the limit of now.
    fn allowance(&self, user: &str) -> Arc<Allowance> {
        let max = self.users().user_limit(user, "max-channels");
        let mut all = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = all.entry(user.to_owned()).or_default();
        allowance.set_max(max);
        Arc::clone(allowance)
    }

    /// Opens an empty virtual host, unless it is there.
    fn open_host(&self, name: &str) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if hosts.contains_key(name) {
            return;
        }
        let host = Host::new(name, self.config.clone(), self.limits.memory_max, self.durable.as_deref());
        hosts.insert(name.to_owned(), Arc::clone(&host));
        let leaving = self.shutdown.clone();
        self.shutdown.spawn(async move {
            tokio::select! {
                () = host.keep_time() => {}
                () = host.closed() => {}
                () = leaving.draining() => {}
            }
        });
    }

    fn host(&self, name: &str) -> Option<Arc<Host>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All virtual hosts, in no order.
    fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn parameters(&self) -> MutexGuard<'_, BTreeMap<String, serde_json::Value>> {
        self.parameters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> RwLockReadGuard<'_, Users> {
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one stream until the peer leaves, breaks the protocol, or the broker stops.
    pub async fn serve(self: &Arc<Self>, stream: Stream) {
        connection::serve(self, stream).await;
    }

    /// The same of a stream that may also ask the management API: AMQP begins with its name, and no method of HTTP
    /// begins with that letter.
    pub async fn serve_with(self: &Arc<Self>, management: &Arc<Management>, mut stream: Stream) {
        let first = tokio::select! {
            first = tokio::time::timeout(self.limits.handshake_wait_max, stream.peek(1)) => first,
            () = self.shutdown.draining() => return,
        };
        match first {
            Ok(Ok([b'D' | b'G' | b'H' | b'O' | b'P', ..])) => {
                // Much larger than what a client of AMQP needs, and seldom.
                let management = Arc::clone(management);
                Box::pin(async move { management.serve(stream).await }).await;
            }
            Ok(Ok([_, ..])) => self.serve(stream).await,
            Ok(Ok([])) | Ok(Err(_)) | Err(_) => {
                tracing::debug!(peer = stream.peer(), "said nothing");
            }
        }
    }

    /// Whether something waits anywhere that a restart would not find.
    pub fn would_lose(&self) -> bool {
        self.hosts().iter().any(|host| host.would_lose())
    }

    /// Sums over all virtual hosts.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals { connections: self.live.count(|_| true), ..Totals::default() };
        for host in self.hosts() {
            let one = host.totals();
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
