//! Members of a Serf cluster as instances: a server is a node whose tags say what it serves, and it is gone when the
//! cluster says so.
//!
//! A reader asks any node for its view, as nodes ask each other, and is no member itself. So any cluster of Serf agents
//! will do, and the servers may be started before and after the node that is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::{Error, GossipUrl, Instance, Registration};
use crate::gossip::agent::{Agent, KeyFile, Options, STREAMS_MAX, ipc, members_at};
use crate::gossip::engine::{Config, Input, Profile};
use crate::gossip::wire::{Node, NodeState, Wrapping, decode_tags};
use crate::metrics;
use crate::shutdown::Shutdown;
use crate::transport::{Acceptor, Address, Datagrams, Listener, own_address};

/// The tag with the URL to call.
const URL_TAG: &str = "rpc";
/// The tag with the names of the services, by comma.
const SERVICES_TAG: &str = "rpc-services";
/// Ports that are tried: one has to be free for streams and for datagrams.
const PORTS_TRIED: u32 = 20;
/// Other nodes that are remembered, to be asked when the one in the URL is gone.
const KNOWN_MAX: usize = 16;
/// What a server that stops waits for: most others have heard of it by then.
const LEAVE: Duration = Duration::from_secs(1);

/// A cluster.
#[derive(Debug)]
pub struct Gossip {
    url: GossipUrl,
    wrapping: Wrapping,
    /// The node that has answered last, and living ones of its answer.
    known: Mutex<Vec<SocketAddr>>,
    /// The node of this process, once it has registered something.
    node: tokio::sync::Mutex<Option<Joined>>,
    /// Where that node tells what it counts.
    metrics: OnceLock<metrics::Registry>,
}

/// This process as a member.
#[derive(Debug)]
struct Joined {
    agent: Agent,
    /// The node that let it join.
    seed: SocketAddr,
    url: String,
    /// Services with how often each is registered.
    services: BTreeMap<String, usize>,
}

impl Gossip {
    /// Prepares to ask; connects to nothing yet.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn new(url: &GossipUrl) -> Result<Self, Error> {
        let keyring = match &url.key_file {
            None => None,
            Some(path) => Some(KeyFile::read(path).map_err(|error| Error::Unsupported(error.to_string()))?.1),
        };
        Ok(Self {
            url: url.clone(),
            wrapping: Wrapping { label: url.cluster.as_str().into(), keyring },
            known: Mutex::default(),
            node: tokio::sync::Mutex::default(),
            metrics: OnceLock::new(),
        })
    }

    /// What the node of this process counts is told there, once there is one.
    pub(super) fn count_in(&self, metrics: metrics::Registry) {
        let _ = self.metrics.set(metrics);
    }

    fn unreachable(&self, why: impl Into<String>) -> Error {
        Error::Unreachable { registry: self.url.to_string(), why: why.into() }
    }

    /// What the first node that answers knows: the one that has answered last is asked first, as one that has gone
    /// silent costs a deadline.
    async fn members(&self) -> Result<Vec<Node>, Error> {
        let mut why = Vec::new();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (last, others) = known.split_at(known.len().min(1));
        let seeds = self.url.seeds.iter().cloned();
        let places = last.iter().map(SocketAddr::to_string).chain(seeds);
        for place in places.chain(others.iter().map(SocketAddr::to_string)) {
            match ipc::resolve(&place).await {
                Ok(address) => match members_at(address, &self.wrapping).await {
                    Ok(nodes) => return Ok(self.remember(address, nodes)),
                    Err(error) => why.push(format!("{address}: {error}")),
                },
                Err(error) => why.push(format!("{place}: {error}")),
            }
        }
        // What is wrong with those that were named says enough.
        why.truncate(self.url.seeds.len() + last.len());
        Err(self.unreachable(why.join("; ")))
    }

    fn remember(&self, answered: SocketAddr, nodes: Vec<Node>) -> Vec<Node> {
        let living = nodes.iter().filter(|node| node.state == NodeState::Alive).map(|node| node.address);
        let others = living.filter(|address| *address != answered);
        let addresses = std::iter::once(answered).chain(others).take(KNOWN_MAX).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        nodes
    }

    /// The living instances of the service that the URL names, else of `service`; without either, all of them.
    ///
    /// # Errors
    /// No node answers, or none of the living serves it.
    pub async fn resolve(&self, service: Option<&str>) -> Result<Vec<Instance>, Error> {
        let service = self.url.service.as_deref().or(service);
        let mut unhealthy = 0;
        let mut instances = Vec::new();
        for node in self.members().await? {
            let Some(instance) = instance(&node, service) else { continue };
            match node.state {
                NodeState::Alive => instances.push(instance),
                NodeState::Suspect | NodeState::Dead => unhealthy += 1,
                NodeState::Left => {}
            }
        }
        if instances.is_empty() {
            let service = service.unwrap_or("any service").to_owned();
            return Err(Error::NotFound { service, registry: self.url.to_string(), unhealthy });
        }
        instances.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(instances)
    }

    /// Makes this process a member, if it is none yet, and announces a service of it.
    ///
    /// # Errors
    /// The cluster cannot be joined; the names of all services do not fit the tags of a node.
    pub(super) async fn announce(
        &self,
        registration: &Registration,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let mut node = self.node.lock().await;
        let node = match &mut *node {
            Some(node) => node,
            none => none.insert(self.start(registration, shutdown).await?),
        };
        *node.services.entry(registration.service.clone()).or_default() += 1;
        if let Err(error) = node.tell().await {
            node.services.remove(&registration.service);
            return Err(error);
        }
        // Whoever asks the node that was named finds it from now on; the others hear of it within a second.
        node.agent.join(node.seed, false).await.map_err(|why| self.unreachable(why))
    }

    /// Takes a service back.
    pub(super) async fn withdraw(&self, service: &str) {
        let mut node = self.node.lock().await;
        let Some(node) = &mut *node else { return };
        if let Some(count) = node.services.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                node.services.remove(service);
                if let Err(error) = node.tell().await {
                    tracing::debug!("{error}");
                }
            }
        }
    }

    async fn start(&self, registration: &Registration, shutdown: &Shutdown) -> Result<Joined, Error> {
        let first = self.url.seeds.first().map_or("", String::as_str);
        let seed = ipc::resolve(first).await.map_err(|error| self.unreachable(error))?;
        let own = own_address_for(seed);
        let (listener, datagrams) = sockets(own).await.map_err(|error| self.unreachable(error))?;
        let address = datagrams.local_address().map_err(|error| self.unreachable(error.to_string()))?;
        let mut config = Config::new(name(&registration.url).into(), address, Profile::Lan);
        config.leave_timeout = LEAVE;
        config.leave_linger = LEAVE / 4;
        config.seeds = vec![seed];
        let options = Options {
            config,
            wrapping: self.wrapping.clone(),
            datagrams,
            key_file: None,
            snapshot: None,
            seed: fastrand::u64(..),
            metrics: self.metrics.get().cloned().unwrap_or_default(),
        };
        // Of its own: a node that cannot join ends, and nothing else does.
        let own = Shutdown::new();
        let agent = Agent::start(options, &own).map_err(|refusal| Error::Unsupported(refusal.to_string()))?;
        agent.listen(listener, &Acceptor::new(STREAMS_MAX));
        let mut why = Vec::new();
        for seed in &self.url.seeds {
            match ipc::resolve(seed).await {
                Ok(seed) => match agent.join(seed, false).await {
                    Ok(()) => {
                        let (stopping, member) = (shutdown.clone(), agent.clone());
                        shutdown.spawn(async move {
                            stopping.draining().await;
                            member.leave();
                            member.gone().await;
                        });
                        let (url, services) = (registration.url.clone(), BTreeMap::new());
                        return Ok(Joined { agent, seed, url, services });
                    }
                    Err(error) => why.push(format!("{seed}: {error}")),
                },
                Err(error) => why.push(format!("{seed}: {error}")),
            }
        }
        own.stop();
        Err(self.unreachable(why.join("; ")))
    }
}

impl Joined {
    async fn tell(&self) -> Result<(), Error> {
        let names: Vec<&str> = self.services.keys().map(String::as_str).collect();
        let tags = BTreeMap::from([
            (URL_TAG.to_owned(), self.url.clone()),
            (SERVICES_TAG.to_owned(), names.join(",")),
        ]);
        let told = self.agent.with(move |core| core.input(Input::Tags(tags))).await;
        match told {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(Error::Unsupported(format!(
                "{} services have names too long for one node: {refusal}; --service-name NAME is one name for all",
                self.services.len()
            ))),
            Err(ended) => Err(Error::Unsupported(ended.to_string())),
        }
    }
}

/// The instance that a node is, if it serves `service`.
fn instance(node: &Node, service: Option<&str>) -> Option<Instance> {
    let mut tags = decode_tags(&node.meta);
    let url = tags.remove(URL_TAG)?;
    let services = tags.remove(SERVICES_TAG).unwrap_or_default();
    let found = match service {
        Some(service) => services.split(',').find(|name| *name == service)?,
        None => services.split(',').next().unwrap_or_default(),
    };
    let mut instance = Instance::new(&*node.name, found, url);
    instance.tags = tags.into_iter().map(|(tag, value)| format!("{tag}={value}")).collect();
    Some(instance)
}

/// A name that no other server has, and that this one did not have before: a node that was killed keeps its name for
/// as long as others remember it.
fn name(url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let plain: String = place
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' })
        .collect();
    format!("rpc-{plain}-{:04x}", fastrand::u16(..))
}

/// Where nodes beside the seed reach this machine.
fn own_address_for(seed: SocketAddr) -> std::net::IpAddr {
    if seed.ip().is_loopback() { seed.ip() } else { own_address(&seed.to_string(), seed.is_ipv6()) }
}

async fn sockets(ip: std::net::IpAddr) -> Result<(Listener, Datagrams), String> {
    let mut why = String::new();
    for _ in 0..PORTS_TRIED {
        let host = ip.to_string();
        let listener =
            Listener::bind(&Address::tcp(host.clone(), 0)).await.map_err(|error| error.to_string())?;
        let Address::Tcp { port, .. } = listener.address().map_err(|error| error.to_string())? else {
            return Err("no port".to_owned());
        };
        match Datagrams::bind(&Address::Udp { host, port }).await {
            Ok(datagrams) => return Ok((listener, datagrams)),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::wire::{Name, VERSIONS, encode_tags};

    fn node(name: &str, tags: &[(&str, &str)]) -> Node {
        let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
        Node {
            name: Name::from(name),
            address: "10.0.0.1:7946".parse().unwrap(),
            meta: encode_tags(&tags).into(),
            incarnation: 1,
            state: NodeState::Alive,
            versions: VERSIONS,
        }
    }

    #[test]
    fn a_node_is_an_instance_of_what_its_tags_say() {
        let served = node("a", &[(URL_TAG, "grpc://10.0.0.1:5"), (SERVICES_TAG, "x.A,x.B"), ("zone", "eu")]);
        let found = instance(&served, Some("x.B")).unwrap();
        assert_eq!((found.service.as_str(), found.url.as_str()), ("x.B", "grpc://10.0.0.1:5"));
        assert_eq!(found.tags, ["zone=eu"]);
        assert_eq!(instance(&served, Some("x")), None);
        assert!(instance(&served, None).is_some());
        assert_eq!(instance(&node("b", &[("role", "web")]), None), None);
    }

    #[test]
    fn names_are_what_agents_take() {
        for url in ["grpc://127.0.0.1:50051", "grpcs://[::1]:1", "grpc://host.example:7/"] {
            let name = name(url);
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{name}");
        }
    }

    async fn member(shutdown: &Shutdown) -> SocketAddr {
        let (listener, datagrams) = sockets("127.0.0.1".parse().unwrap()).await.unwrap();
        let address = datagrams.local_address().unwrap();
        let config = Config::new("seed".into(), address, Profile::Local);
        let options = Options {
            config,
            wrapping: Wrapping::default(),
            datagrams,
            key_file: None,
            snapshot: None,
            seed: 1,
            metrics: metrics::Registry::default(),
        };
        let agent = Agent::start(options, shutdown).unwrap();
        agent.listen(listener, &Acceptor::new(STREAMS_MAX));
        address
    }

    #[tokio::test]
    async fn a_registered_server_is_found_at_any_node_until_it_stops() {
        let (life, server) = (Shutdown::new(), Shutdown::new());
        let seed = member(&life).await;
        let url: crate::rpc::registry::RegistryUrl = format!("gossip://{seed}").parse().unwrap();
        let open =
            || crate::rpc::registry::Registry::open(&url, std::path::Path::new("/nonexistent")).unwrap();
        let none = open().resolve(Some("demo.Greeter")).await.unwrap_err();
        assert!(matches!(none, Error::NotFound { .. }), "{none}");
        let registration = |service: &str| Registration {
            service: service.to_owned(),
            url: "grpc://127.0.0.1:5".to_owned(),
            tags: Vec::new(),
            methods: Vec::new(),
        };
        let registry = open();
        let _first = registry.register(registration("demo.Greeter"), &server).await.unwrap();
        let second = registry.register(registration("demo.Clock"), &server).await.unwrap();
        let wait = async |service: &str, there: bool| {
            let asking = open();
            let mut watch = crate::rpc::registry::Watch::new(asking, Some(service.to_owned()));
            while watch.changed().await.unwrap().is_empty() == there {}
        };
        let found = open().resolve(Some("demo.Clock")).await;
        wait("demo.Clock", true).await;
        assert!(found.is_ok_and(|found| found[0].url == "grpc://127.0.0.1:5"), "joining tells it already");
        wait("demo.Greeter", true).await;
        drop(second);
        wait("demo.Clock", false).await;
        server.drain();
        wait("demo.Greeter", false).await;
        life.drain();
    }
}
