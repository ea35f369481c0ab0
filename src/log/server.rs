//! The broker: accepted streams in, the Kafka protocol out.
//!
//! ```text
//! stream ─ reader: frame ─▶ request ─▶ api ─▶ partition ─▶ storage ─▶ flusher
//!          writer: socket ◀─ answers in the order of the requests ◀─ what was waited for ◀─┘
//! ```
//!
//! Requests are done as they come in, several of a connection at the same time; what has to wait (for the disk, for
//! other members of a group, for records) waits in the queue of answers, which go out in order. Records are kept as
//! they were sent; a fetch sends them from the file without reading them.
//!
//! Whoever accepts streams (with permits, TLS and a limit on connections) gives each to [`Broker::serve`].

mod acls;
mod admin;
mod answer;
mod api;
mod config;
mod configs;
mod connection;
mod consumer_groups;
mod coordinator;
mod defaults;
pub(super) mod definitions;
mod fetch;
mod glance;
mod group_settings;
mod groups;
mod guard;
mod login;
mod metadata;
mod offset_commits;
mod offsets;
mod partition;
mod produce;
mod producers;
mod room;
mod scram;
mod session;
mod space;
mod topics;
mod transaction_api;
mod transactions;
mod upkeep;
mod users;
mod vault;
mod view;
mod waiters;
mod writers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::log::wire::Uuid;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::storage::{Error, LogId, Store};
use crate::transport::Stream;
use config::Values;
use coordinator::Coordinator;
use definitions::{Definitions, key};
pub use glance::{Glance, GroupGlance, PartitionGlance};
use guard::Guard;
use producers::ProducerIds;
pub use topics::check_name as check_topic_name;
use topics::{Topic, Topics};
use users::Users;
use vault::Vault;

/// This broker's number. There is one.
const NODE_ID: i32 = 1;

/// How long the first consumers of an empty group wait for more. Kafka waits 3 s, which nobody at a terminal or in a test
/// wants; without any wait, consumers that are started together rebalance for seconds, since each hears of the next one
/// with its heartbeat.
const REBALANCE_DELAY: Duration = Duration::from_millis(50);

/// What the broker accepts.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request: Kafka's `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// Bytes of a request of whom nobody knows yet who it is.
    pub request_bytes_max_first: usize,
    /// Bytes of large requests that are still coming in, of all connections: Kafka's `queued.max.request.bytes`. Each may
    /// hold 16 KiB beside it.
    pub half_sent_bytes_max: usize,
    /// Requests of a connection that are not answered yet; more are not read.
    pub requests_max: usize,
    /// Bytes of records in an answer to a fetch, beside a first batch that is larger: Kafka's `fetch.max.bytes`.
    pub fetch_bytes_max: usize,
    /// Longest wait of a fetch.
    pub fetch_wait_max: Duration,
    /// Partitions that one request may make.
    pub partitions_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 << 20,
            request_bytes_max_first: 512 << 10,
            half_sent_bytes_max: 256 << 20,
            requests_max: 256,
            fetch_bytes_max: 55 << 20,
            fetch_wait_max: Duration::from_secs(300),
            partitions_max: 10_000,
        }
    }
}

/// How the broker is.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it accepts.
    pub limits: Limits,
    /// Topics are made when someone asks for them: Kafka's `auto.create.topics.enable`.
    pub auto_create: bool,
    /// Partitions of a topic whose maker does not say: Kafka's `num.partitions`.
    pub partitions: usize,
    /// Settings of topics that are not set of themselves, under Kafka's names for topics.
    pub topic_defaults: std::collections::BTreeMap<String, String>,
    /// Where clients are told to come.
    pub advertised: Advertised,
    /// Names and passwords of those who may come in over TCP; without any, everybody may.
    pub users: std::collections::BTreeMap<String, Secret>,
    /// Users who may do everything, whatever access rules say: Kafka's `super.users`.
    pub super_users: std::collections::BTreeSet<String>,
    /// What no access rule is about is allowed to everyone: Kafka's `allow.everyone.if.no.acl.found`.
    pub is_open: bool,
    /// How long the first members of an empty group wait for more: Kafka's `group.initial.rebalance.delay.ms`.
    pub rebalance_delay: Duration,
}

/// Checks a setting of topics under Kafka's name for it.
///
/// # Errors
/// What is wrong with it.
pub fn check_setting(name: &str, value: &str) -> Result<(), String> {
    config::check(name, value).map_err(|why| why.0)
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            auto_create: true,
            partitions: 1,
            topic_defaults: Values::new(),
            advertised: Advertised::default(),
            users: std::collections::BTreeMap::new(),
            super_users: std::collections::BTreeSet::new(),
            is_open: true,
            rebalance_delay: REBALANCE_DELAY,
        }
    }
}

/// Where clients are told to come. What is not said is the address at which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertised {
    /// By the port at which they came.
    pub by_port: Vec<(u16, (String, u16))>,
    /// For all other ports: a host, and its port if it is another one.
    pub host: Option<(String, Option<u16>)>,
    /// For those who came through a Unix socket.
    pub beside: Option<(String, u16)>,
}

impl Advertised {
    /// The address for someone who came to `local`.
    fn address(&self, local: Option<SocketAddr>) -> (String, i32) {
        let Some(local) = local else {
            let (host, port) = self.beside.clone().unwrap_or_default();
            return (host, i32::from(port));
        };
        let port = local.port();
        if let Some((_, (host, port))) = self.by_port.iter().find(|(at, _)| *at == port) {
            return (host.clone(), i32::from(*port));
        }
        match &self.host {
            Some((host, other)) => (host.clone(), i32::from(other.unwrap_or(port))),
            None => (local.ip().to_canonical().to_string(), i32::from(port)),
        }
    }
}

/// What has gone through the broker.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records from producers.
    pub records_in: AtomicU64,
    /// Bytes of their batches.
    pub bytes_in: AtomicU64,
    /// Bytes of batches to consumers.
    pub bytes_out: AtomicU64,
    /// Requests.
    pub requests: AtomicU64,
    /// Connections now.
    pub connections: AtomicU64,
}

/// Sums over the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Topics, the broker's own included.
    pub topics: usize,
    /// Their partitions.
    pub partitions: usize,
    /// Groups, with members or with offsets.
    pub groups: usize,
    /// Members of all groups.
    pub members: usize,
}

/// How the storage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Partitions that cannot be opened: they are damaged, or the system refuses.
    pub unopened: u64,
    /// Logs that are offline since a failure of the disk.
    pub offline: u64,
    /// Torn tails that were cut since the start.
    pub torn: u64,
    /// Appends that were refused because the disk is full.
    pub refused_full: u64,
}

/// Serves partitions on streams that somebody else accepts.
#[derive(Debug)]
pub struct Broker {
    options: Options,
    cluster_id: String,
    topics: Arc<Topics>,
    coordinator: Coordinator,
    users: Users,
    guard: Guard,
    producer_ids: Arc<ProducerIds>,
    transactions: transactions::Coordinator,
    definitions: Arc<Definitions>,
    vault: Arc<Vault>,
    counts: Arc<Counts>,
    rooms: Arc<room::Rooms>,
    shutdown: Shutdown,
    /// The storage was left in order.
    was_clean: bool,
}

impl Broker {
    /// A broker on a storage, with the topics that are defined there.
    ///
    /// # Errors
    /// The definitions are damaged, or the system refuses.
    pub fn open(store: Store, options: Options, shutdown: Shutdown) -> Result<Arc<Self>, Error> {
        let was_clean = store.start().is_none_or(|start| start.clean);
        let definitions = Arc::new(Definitions::open(&store)?);
        let vault = Arc::new(Vault::new(store));
        let (cluster_id, leader_epoch) = identity(&definitions, was_clean)?;
        let defaults = options.topic_defaults.clone();
        let topics = Topics::open(Arc::clone(&definitions), Arc::clone(&vault), defaults, leader_epoch);
        let topics = Arc::new(topics);
        let coordinator = Coordinator::open(Arc::clone(&topics), options.rebalance_delay)?;
        let producer_ids = Arc::new(ProducerIds::new(Arc::clone(&definitions)));
        let transactions = transactions::Coordinator::open(Arc::clone(&topics), Arc::clone(&producer_ids))?;
        let users = Users::new(options.users.clone(), &definitions).map_err(no_random_numbers)?;
        let guard = Guard::open(&definitions, &options.super_users, options.is_open);
        let broker = Arc::new(Self {
            users,
            guard,
            producer_ids,
            transactions,
            counts: Arc::default(),
            rooms: room::Rooms::new(options.limits.half_sent_bytes_max),
            options,
            cluster_id,
            topics,
            coordinator,
            definitions,
            vault,
            shutdown,
            was_clean,
        });
        group_settings::restore(&broker);
        broker.transactions.resume(&broker);
        let keeping = Arc::clone(&broker);
        broker.shutdown.spawn(async move {
            tokio::select! {
                () = keeping.coordinator.keep_time() => {}
                () = keeping.transactions.keep_time(&keeping) => {}
                () = keeping.keep_up() => {}
                () = keeping.shutdown.draining() => {}
            }
        });
        Ok(broker)
    }

    /// Serves one stream until the peer leaves, breaks the protocol, or the broker stops.
    pub async fn serve(self: &Arc<Self>, stream: Stream) {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        connection::serve(self, stream).await;
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// What has gone through since the start.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// What there is.
    pub fn totals(&self) -> Totals {
        let (topics, partitions) = self.topics.counts();
        let (groups, members) = self.coordinator.counts();
        Totals { topics, partitions, groups, members }
    }

    /// How the storage is.
    pub fn health(&self) -> Health {
        let (unopened, counts) = self.vault.health();
        let counts = counts.unwrap_or_default();
        Health {
            unopened: u64::try_from(unopened).unwrap_or(0),
            offline: counts.offline_logs,
            torn: counts.torn_tails,
            refused_full: counts.refused_full,
        }
    }

    /// Removes the logs of topics that are gone, off the threads that serve, and what groups had read of them.
    fn remove_logs(self: &Arc<Self>, gone: Vec<Arc<Topic>>) {
        for topic in &gone {
            self.coordinator.forget_topic(&topic.name);
        }
        let vault = Arc::clone(&self.vault);
        let removing = move || {
            for topic in gone {
                for partition in topic.partitions().iter() {
                    if let Err(error) = vault.with(|store| store.remove(partition.log_id)) {
                        // A later start finds that nobody knows it.
                        tracing::warn!(topic = topic.name, %error, "files of a deleted topic are left behind");
                    }
                }
            }
        };
        self.shutdown.spawn(async move {
            // Its panic was printed.
            let _ = tokio::task::spawn_blocking(removing).await;
        });
    }

    /// Closes the storage in order.
    ///
    /// # Errors
    /// Something could not be written; the next start then does what it does after a crash.
    pub fn close(&self) -> Result<(), Error> {
        self.keep_writers();
        self.vault.close()
    }
}

/// The cluster's name, and the epoch under which this broker leads: a new one after each stop that was not in order,
/// since records that were not yet safe may be gone and others come in their place (KIP-320).
fn identity(definitions: &Definitions, was_clean: bool) -> Result<(String, i32), Error> {
    let identity_key = key("cluster", &["identity"]);
    let known = definitions.get(&identity_key);
    let cluster_id = match known.as_ref().and_then(|known| known["id"].as_str()) {
        Some(id) => id.to_owned(),
        None => {
            let random = LogId::random().map_err(no_random_numbers)?;
            Uuid(random.to_bytes()).to_string()
        }
    };
    let before =
        known.as_ref().and_then(|known| known["epoch"].as_i64()).and_then(|epoch| i32::try_from(epoch).ok());
    let epoch = match before {
        None => 0,
        Some(epoch) if was_clean => epoch,
        Some(epoch) => epoch.saturating_add(1),
    };
    if before != Some(epoch) {
        let value = serde_json::json!({"id": cluster_id, "epoch": epoch});
        definitions.change(vec![(identity_key, Some(value))])?;
    }
    Ok((cluster_id, epoch))
}

fn no_random_numbers(source: std::io::Error) -> Error {
    Error::Io { what: "read random numbers of", path: "/dev/urandom".into(), source: Arc::new(source) }
}
