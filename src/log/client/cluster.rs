//! Who leads what: metadata of the cluster, and a connection to each broker that is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Trouble;
use super::{Config, Connection, Error, ErrorKind};
use crate::backoff::Delays;
use crate::log::wire::api::find_coordinator::FindCoordinatorRequest;
use crate::log::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid};
use crate::shutdown::Shutdown;
use crate::transport::Address;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub id: i32,
    /// Host name, as the broker tells clients.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Rack or zone.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id; zero if the broker tells none.
    pub id: Uuid,
    /// The brokers keep their own state in it.
    pub is_internal: bool,
    /// By number, without gaps.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub index: i32,
    /// Its leader; -1 for none.
    pub leader: i32,
    /// Epoch of the leader, or -1.
    pub epoch: i32,
    /// All replicas.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub in_sync: Vec<i32>,
}

/// Whose coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// A group's.
    Group,
    /// A transactional producer's.
    Transaction,
}

/// A cluster, with connections to its brokers. Clones share both.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    config: Config,
    shutdown: Shutdown,
    state: Mutex<State>,
    /// Held while connecting, so that two who need a broker share one connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    bootstrap: Option<Connection>,
    connections: HashMap<i32, Connection>,
    nodes: Vec<NodeInfo>,
    controller: i32,
    cluster_id: Option<String>,
    topics: HashMap<String, Arc<TopicInfo>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.nodes()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects to the first bootstrap broker that answers. Tasks of connections run until all clones are dropped.
    ///
    /// # Errors
    /// None answered: the last one's reason.
    pub async fn open(config: Config, shutdown: &Shutdown) -> Result<Self, Error> {
        let inner = Inner {
            config,
            shutdown: shutdown.clone(),
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        };
        let cluster = Self(Arc::new(inner));
        cluster.any().await?;
        Ok(cluster)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it was opened.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The brokers, as of the last metadata.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.state().nodes.clone()
    }

    /// The node that administers the cluster, or -1, as of the last metadata.
    pub fn controller_id(&self) -> i32 {
        self.state().controller
    }

    /// Id of the cluster, as of the last metadata.
    pub fn cluster_id(&self) -> Option<String> {
        self.state().cluster_id.clone()
    }

    /// What is known of a topic, without asking.
    pub fn known(&self, topic: &str) -> Option<Arc<TopicInfo>> {
        self.state().topics.get(topic).cloned()
    }

    /// Asks for the topic again before it is used next: what is known of its leaders was wrong.
    pub(super) fn forget(&self, topic: &str) {
        self.state().topics.remove(topic);
    }

    /// A connection to whichever broker there is one to; else to the first bootstrap broker, or known one, that answers.
    ///
    /// # Errors
    /// None answers: the last one's reason, or that of the last one that was there at all.
    pub async fn any(&self) -> Result<Connection, Error> {
        if let Some(connection) = self.open_already() {
            return Ok(connection);
        }
        let _one = self.0.connecting.lock().await;
        if let Some(connection) = self.open_already() {
            return Ok(connection);
        }
        let known = self.nodes().into_iter().map(|node| Address::Tcp { host: node.host, port: node.port });
        let known: Vec<Address> = if self.is_behind_one_socket() { Vec::new() } else { known.collect() };
        let mut last: Option<Error> = None;
        for address in self.0.config.bootstrap.iter().chain(&known) {
            match Connection::open(address, &self.0.config, &self.0.shutdown).await {
                Ok(connection) => {
                    self.state().bootstrap = Some(connection.clone());
                    return Ok(connection);
                }
                // What one says that is there is of more use than that another is not.
                Err(error) if error.is_absence() && last.as_ref().is_some_and(|last| !last.is_absence()) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(Error::Closed))
    }

    fn open_already(&self) -> Option<Connection> {
        let state = self.state();
        let mut all = state.bootstrap.iter().chain(state.connections.values());
        all.find(|connection| connection.ended().is_none()).cloned()
    }

    /// A Unix socket has one broker behind it, whatever address that tells to others.
    fn is_behind_one_socket(&self) -> bool {
        matches!(self.0.config.bootstrap.as_slice(), [Address::Unix(_) | Address::Mem(_)])
    }

    /// A connection to a broker.
    ///
    /// # Errors
    /// No such broker is known, or it does not answer.
    pub async fn node(&self, id: i32) -> Result<Connection, Error> {
        if let Some(connection) = self.open_to(id) {
            return Ok(connection);
        }
        let _one = self.0.connecting.lock().await;
        if let Some(connection) = self.open_to(id) {
            return Ok(connection);
        }
        let connection = self.dial(id).await?;
        self.state().connections.insert(id, connection.clone());
        Ok(connection)
    }

    /// A new connection to a broker.
    async fn dial(&self, id: i32) -> Result<Connection, Error> {
        let config = &self.0.config;
        let address = {
            let state = self.state();
            let node = state.nodes.iter().find(|node| node.id == id);
            let node = node.ok_or_else(|| Error::NotReady(format!("the cluster has no broker {id}")))?;
            match self.is_behind_one_socket() {
                true => config.bootstrap[0].clone(),
                false => Address::Tcp { host: node.host.clone(), port: node.port },
            }
        };
        Connection::open(&address, config, &self.0.shutdown).await
    }

    /// The connection to a broker that there is. A cluster of one broker is spoken to over the first connection.
    fn open_to(&self, id: i32) -> Option<Connection> {
        let mut state = self.state();
        if let Some(connection) = state.connections.get(&id).filter(|it| it.ended().is_none()) {
            return Some(connection.clone());
        }
        let node = state.nodes.iter().find(|node| node.id == id)?;
        let own = Address::Tcp { host: node.host.clone(), port: node.port };
        let is_first = state.nodes.len() == 1 || self.0.config.bootstrap.as_slice() == [own];
        let first = state.bootstrap.clone().filter(|it| is_first && it.ended().is_none())?;
        state.connections.insert(id, first.clone());
        Some(first)
    }

    /// Asks for topics; `None` for all. Missing ones are made if `create` says so and the broker does.
    ///
    /// # Errors
    /// No broker answers. What is wrong with single topics is in the answer.
    pub async fn metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, Error> {
        let named =
            |name: &&str| MetadataRequestTopic { name: Some((*name).to_owned()), ..Default::default() };
        let topics = topics.map(|topics| topics.iter().map(named).collect());
        let request = MetadataRequest { topics, allow_auto_topic_creation: create, ..Default::default() };
        let response = self.ask_anybody(&request).await?;
        let mut state = self.state();
        let node = |broker: &crate::log::wire::api::metadata::MetadataResponseBroker| NodeInfo {
            id: broker.node_id,
            host: broker.host.clone(),
            port: u16::try_from(broker.port).unwrap_or_default(),
            rack: broker.rack.clone(),
        };
        let nodes: Vec<NodeInfo> = response.brokers.iter().map(node).collect();
        if nodes != state.nodes {
            let moved: Vec<i32> =
                state.nodes.iter().filter(|old| !nodes.contains(old)).map(|old| old.id).collect();
            for id in moved {
                state.connections.remove(&id);
            }
        }
        (state.nodes, state.controller) = (nodes, response.controller_id);
        state.cluster_id.clone_from(&response.cluster_id);
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            match topic_info(name, topic) {
                Some(info) => state.topics.insert(name.clone(), Arc::new(info)),
                None => state.topics.remove(name),
            };
        }
        drop(state);
        Ok(response)
    }

    /// Asks whichever broker. One that closes connection after connection at the first question wants to know who asks; one
    /// that stops just then is not there the second time.
    async fn ask_anybody<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        let mut was_shut = false;
        loop {
            let connection = self.any().await?;
            match connection.ask(request).await {
                Err(Error::Ended) if self.0.config.credentials.is_none() && connection.was_shut() => {
                    if std::mem::replace(&mut was_shut, true) {
                        return Err(Error::LoginWanted);
                    }
                }
                answer => return answer,
            }
        }
    }

    /// A topic, asked for anew.
    ///
    /// # Errors
    /// There is none; the broker says why not; no broker answers.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Arc<TopicInfo>, Error> {
        let mut pause = self.retries(&format!("topic '{name}'"));
        loop {
            // A cluster that restarts is there again soon, and a topic that is being made has no leaders yet.
            match self.topic_now(name, create).await {
                Err(error) if error.is_transient() && pause.again(&error).await => {}
                found => return pause.worked(found),
            }
        }
    }

    /// The same, asked once.
    async fn topic_now(&self, name: &str, create: bool) -> Result<Arc<TopicInfo>, Error> {
        let response = self.metadata(Some(&[name]), create).await?;
        let code = response.topics.first().map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |it| it.error_code);
        match (code, self.known(name)) {
            (ErrorCode::NONE | ErrorCode::REPLICA_NOT_AVAILABLE, Some(topic)) => Ok(topic),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, _) if !create => Err(Error::NoTopic(name.to_owned())),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, _) => {
                Err(Error::refused_about(ApiKey::Metadata, code, format!("topic '{name}'")))
            }
            (code, _) => Err(Error::refused(ApiKey::Metadata, code, None)),
        }
    }

    /// The leader of a partition, with a connection to it; metadata is asked for when it has none.
    ///
    /// # Errors
    /// No such topic or partition; no leader for as long as it is tried again; the leader does not answer.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<(Connection, PartitionInfo), Error> {
        let mut pause = self.retries(&format!("topic '{topic}'"));
        loop {
            match self.round().leader(topic, partition).await {
                Err(error) if error.is_transient() && pause.again(&error).await => self.forget(topic),
                found => return pause.worked(found),
            }
        }
    }

    /// Looks for leaders without trying again: for many partitions at once.
    pub(super) fn round(&self) -> Round<'_> {
        Round { cluster: self, silent: HashMap::new() }
    }

    /// A connection to the controller, or to any broker that passes on what is for it.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn controller(&self) -> Result<Connection, Error> {
        if self.nodes().is_empty() {
            self.metadata(Some(&[]), false).await?;
        }
        match self.controller_id() {
            id if id >= 0 => self.node(id).await,
            _ => self.any().await,
        }
    }

    /// A connection to the coordinator of a group or transactional id.
    ///
    /// # Errors
    /// There is none for as long as it is tried again; no broker answers.
    pub async fn coordinator(&self, whose: Coordinates, key: &str) -> Result<Connection, Error> {
        self.reach(whose, key, false, Error::is_transient).await
    }

    /// Asks a coordinator, and asks again where that may help: after a lost connection, of another broker.
    ///
    /// # Errors
    /// The last answer's, for as long as it is tried again.
    pub(super) async fn ask_coordinator<T, F>(
        &self,
        whose: Coordinates,
        key: &str,
        ask: impl Fn(Connection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pause = self.retries(&whose.called(key));
        loop {
            let asked = ask(self.coordinator(whose, key).await?).await;
            match asked {
                Err(error) if error.is_transient() && pause.again(&error).await => {}
                asked => return pause.worked(asked),
            }
        }
    }

    /// The same, over a connection that nobody shares: for questions whose answers take their time, as they hold up
    /// all that are asked after them.
    pub(super) async fn coordinator_alone(&self, whose: Coordinates, key: &str) -> Result<Connection, Error> {
        self.reach(whose, key, true, Error::is_transient).await
    }

    /// The same for a last word: brokers that are away are nobody to say it to.
    pub(super) async fn coordinator_for_goodbye(
        &self,
        whose: Coordinates,
        key: &str,
    ) -> Result<Connection, Error> {
        let comes_back = |error: &Error| error.is_transient() && error.kind() != ErrorKind::Unreachable;
        self.reach(whose, key, true, comes_back).await
    }

    async fn reach(
        &self,
        whose: Coordinates,
        key: &str,
        alone: bool,
        comes_back: fn(&Error) -> bool,
    ) -> Result<Connection, Error> {
        let mut pause = self.retries(&whose.called(key));
        loop {
            let found = match self.find_coordinator(whose, key).await {
                Ok(id) if alone => self.dial(id).await,
                Ok(id) => self.node(id).await,
                Err(error) => Err(error),
            };
            match found {
                // Brokers that are away are no reason to give up before the time.
                Err(error) if comes_back(&error) && pause.again(&error).await => {
                    drop(self.metadata(Some(&[]), false).await);
                }
                found => return pause.worked(found),
            }
        }
    }

    async fn find_coordinator(&self, whose: Coordinates, key: &str) -> Result<i32, Error> {
        let key_type = match whose {
            Coordinates::Group => 0,
            Coordinates::Transaction => 1,
        };
        if self.nodes().is_empty() {
            self.metadata(Some(&[]), false).await?;
        }
        let any = self.any().await?;
        let version = any.version::<FindCoordinatorRequest>(i16::MAX)?;
        let mut request = FindCoordinatorRequest { key_type, ..Default::default() };
        match version {
            ..4 => key.clone_into(&mut request.key),
            4.. => request.coordinator_keys = vec![key.to_owned()],
        }
        let response = any.send(&request, version, Duration::ZERO)?.await?;
        let (code, node_id, said) = match response.coordinators.into_iter().next() {
            Some(found) => (found.error_code, found.node_id, found.error_message),
            None => (response.error_code, response.node_id, response.error_message),
        };
        match code {
            ErrorCode::NONE => Ok(node_id),
            code => Err(Error::refused(FindCoordinatorRequest::KEY, code, said)),
        }
    }

    /// Pauses between attempts at something, for as long as the configuration allows.
    pub(super) fn retries(&self, what: &str) -> Pause {
        let config = &self.0.config;
        Pause {
            delays: config.backoff.delays(config.seed),
            until: Instant::now() + config.retry_for,
            trouble: self.trouble(),
            what: what.to_owned(),
        }
    }

    /// For something that is tried again and again.
    pub(super) fn trouble(&self) -> Trouble {
        Trouble::new(&self.0.config.troubles)
    }
}

/// Leaders as they are looked for in one go: who does not answer is not asked a second time in it.
#[derive(Debug)]
pub(super) struct Round<'a> {
    cluster: &'a Cluster,
    /// Brokers that did not answer, and why.
    silent: HashMap<i32, Error>,
}

impl Round<'_> {
    /// The leader of a partition, with a connection to it.
    ///
    /// # Errors
    /// No such topic or partition; it has no leader just now, or that does not answer.
    pub(super) async fn leader(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<(Connection, PartitionInfo), Error> {
        /// Whoever may be asked for metadata.
        const ANYBODY: i32 = -1;
        let info = match (self.cluster.known(topic), self.silent.get(&ANYBODY)) {
            (Some(info), _) => info,
            (None, Some(error)) => return Err(error.clone()),
            (None, None) => self.cluster.topic_now(topic, false).await.inspect_err(|error| {
                if error.is_about_connection() {
                    self.silent.insert(ANYBODY, error.clone());
                }
            })?,
        };
        let found = usize::try_from(partition).ok().and_then(|index| info.partitions.get(index));
        let found = found.ok_or_else(|| Error::NoPartition {
            topic: topic.to_owned(),
            partition,
            count: info.partitions.len(),
        })?;
        if found.leader < 0 {
            return Err(Error::NotReady(format!("topic '{topic}' partition {partition} has no leader")));
        }
        if let Some(error) = self.silent.get(&found.leader) {
            return Err(error.clone());
        }
        match self.cluster.node(found.leader).await {
            Ok(connection) => Ok((connection, found.clone())),
            Err(error) => {
                self.silent.insert(found.leader, error.clone());
                Err(error)
            }
        }
    }
}

impl Coordinates {
    /// As people say it.
    fn called(self, key: &str) -> String {
        match self {
            Self::Group => format!("group '{key}'"),
            Self::Transaction => format!("transaction '{key}'"),
        }
    }
}

/// Pauses between attempts at something that may yet succeed.
#[derive(Debug)]
pub(super) struct Pause {
    delays: Delays,
    until: Instant,
    trouble: Trouble,
    what: String,
}

impl Pause {
    /// Waits after a failure, and says that it is worth another attempt; false when the time is up.
    pub(super) async fn again(&mut self, error: &Error) -> bool {
        let delay = self.delays.next().unwrap_or_default();
        let next = Instant::now() + delay;
        if next >= self.until {
            return false;
        }
        self.trouble.goes_on(&self.what, error);
        tokio::time::sleep_until(next).await;
        true
    }

    /// What the last attempt came to; says that it is over if it worked.
    pub(super) fn worked<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_ok() {
            self.trouble.is_over(&self.what);
        }
        result
    }
}

/// A topic without errors, or at least with partitions.
fn topic_info(name: &str, topic: &MetadataResponseTopic) -> Option<TopicInfo> {
    if topic.partitions.is_empty() {
        return None;
    }
    let mut partitions: Vec<PartitionInfo> = topic
        .partitions
        .iter()
        .map(|partition| PartitionInfo {
            index: partition.partition_index,
            leader: if partition.error_code == ErrorCode::LEADER_NOT_AVAILABLE {
                -1
            } else {
                partition.leader_id
            },
            epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            in_sync: partition.isr_nodes.clone(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    // Numbers without gaps are relied on as places.
    let is_whole = partitions.iter().zip(0..).all(|(partition, index)| partition.index == index);
    is_whole.then(|| TopicInfo {
        name: name.to_owned(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    })
}
