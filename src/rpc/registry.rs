//! Where the instances of a service are: this machine's own list, a list, DNS, DNS SRV, Consul's HTTP API,
//! members of a Serf cluster.
//!
//! ```text
//! RegistryUrl --open--> Registry --resolve--> [Instance] --> Balancer --pick--> who to call now
//!                          |  `-----watch---> [Instance] whenever they change
//!                          `-----register--> Lease (renewed until released)
//! ```

mod balancer;
pub mod consul;
pub mod definition;
pub mod dns;
pub mod engine;
mod gossip;
mod lease;
mod local;
mod server;
mod url;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use balancer::Balancer;
pub use consul::Consul;
pub use dns::Dns;
pub use gossip::Gossip;
pub use lease::Lease;
pub use local::{Listing, Local};
pub use server::Server;
pub use url::{ConsulUrl, DnsUrl, GossipUrl, RegistryUrl, SrvUrl, UrlError};
pub use watch::{Watch, follow};

use crate::transport::tls::TlsError;

/// One running server that offers a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Distinguishes the instances of one registry.
    pub id: String,
    /// The service, as the registry calls it.
    pub service: String,
    /// Endpoint to call: `grpc://10.0.0.1:50051`, `unix:/run/…`.
    pub url: String,
    /// Name to expect in a certificate where the URL has only an address.
    pub server_name: Option<String>,
    /// Lower is tried first (DNS SRV).
    pub priority: u16,
    /// Share of the calls among those of one priority.
    pub weight: u16,
    /// Free words that the instance was registered with.
    pub tags: Vec<String>,
    /// Paths of its methods, where the registry knows them.
    pub methods: Vec<String>,
}

impl Instance {
    /// An instance of priority 0 and weight 1.
    pub fn new(id: impl Into<String>, service: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            service: service.into(),
            url: url.into(),
            server_name: None,
            priority: 0,
            weight: 1,
            tags: Vec::new(),
            methods: Vec::new(),
        }
    }
}

/// What a server tells a registry about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Name of the service.
    pub service: String,
    /// Endpoint that callers shall use.
    pub url: String,
    /// Free words.
    pub tags: Vec<String>,
    /// Paths of its methods.
    pub methods: Vec<String>,
}

/// Why a registry did not answer or refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, no answer in time, or an answer that is none.
    #[error("cannot reach the registry {registry}: {why}")]
    Unreachable {
        /// Its URL, without secrets.
        registry: String,
        /// What happened.
        why: String,
    },
    /// It answered something that is not its protocol.
    #[error("the registry {registry} answered something else than expected: {why}")]
    Answer {
        /// Its URL, without secrets.
        registry: String,
        /// What came.
        why: String,
    },
    /// It wants other credentials.
    #[error("the registry {registry} refused: {why}")]
    Denied {
        /// Its URL, without secrets.
        registry: String,
        /// What it said.
        why: String,
    },
    /// It knows no instance that could be called.
    #[error("no healthy instance of {service} at {registry}{}", if *.unhealthy == 0 { String::new() } else { format!(" ({unhealthy} unhealthy)") })]
    NotFound {
        /// The service.
        service: String,
        /// The registry's URL, without secrets.
        registry: String,
        /// Instances that are known but do not pass their checks.
        unhealthy: usize,
    },
    /// The method does not say which service to ask for.
    #[error("which service at {registry}? name it: {registry}/SERVICE, or call SERVICE/METHOD")]
    NoService {
        /// The registry's URL, without secrets.
        registry: String,
    },
    /// This kind of registry cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// There is no trusting anybody.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file of the local registry, or one that the URL names.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
}

/// A place to ask.
#[derive(Debug)]
pub enum Registry {
    /// Servers of this user on this machine.
    Local(Local),
    /// The instances are in the URL.
    List(Vec<Instance>),
    /// Address or SRV records.
    Dns(Dns),
    /// Consul's HTTP API, served by Consul or by `bandy rpc registry`.
    Consul(Arc<Consul>),
    /// Members of a Serf cluster.
    Gossip(Arc<Gossip>),
}

impl Registry {
    /// Prepares to ask; connects to nothing yet.
    ///
    /// # Errors
    /// An unreadable token or key file or resolver configuration.
    pub fn open(url: &RegistryUrl, services_directory: &Path) -> Result<Self, Error> {
        Ok(match url {
            RegistryUrl::Local => Self::Local(Local::new(services_directory)),
            RegistryUrl::List(urls) => Self::List(
                urls.iter().map(|url| Instance::new(url.clone(), String::new(), url.clone())).collect(),
            ),
            RegistryUrl::Dns(url) => Self::Dns(Dns::addresses(url)?),
            RegistryUrl::Srv(url) => Self::Dns(Dns::services(url)?),
            RegistryUrl::Consul(url) => Self::Consul(Arc::new(Consul::new(url)?)),
            RegistryUrl::Gossip(url) => Self::Gossip(Arc::new(Gossip::new(url)?)),
        })
    }

    /// Registering with some makes this process a node: what it counts is told there.
    pub fn count_in(&self, metrics: crate::metrics::Registry) {
        if let Self::Gossip(gossip) = self {
            gossip.count_in(metrics);
        }
    }

    /// The healthy instances of `service` now; never an empty list.
    ///
    /// `service` comes from the called method; a service that the URL names wins over it.
    ///
    /// # Errors
    /// The registry does not answer, refuses, or knows no healthy instance.
    pub async fn resolve(&self, service: Option<&str>) -> Result<Vec<Instance>, Error> {
        match self {
            Self::Local(local) => local.resolve(service),
            Self::List(instances) => Ok(instances.clone()),
            Self::Dns(dns) => Ok(dns.resolve().await?.instances),
            Self::Consul(consul) => consul.resolve(service).await,
            Self::Gossip(gossip) => gossip.resolve(service).await,
        }
    }
}

/// Opens the registry and asks once: the healthy instances of `service`, never an empty list.
///
/// # Errors
/// Those of [`Registry::open`] and [`Registry::resolve`].
pub async fn resolve(
    url: &RegistryUrl,
    services_directory: &Path,
    service: Option<&str>,
) -> Result<Vec<Instance>, Error> {
    Registry::open(url, services_directory)?.resolve(service).await
}
