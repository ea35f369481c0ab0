//! The instances of a service that a registry knows: which one to begin with, and all of them in turn, as they
//! come and go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::remote::{self, Remote, Template};
use crate::cli::app::App;
use crate::cli::endpoint::{Endpoint, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::rpc::client::{CallOptions, Cause, Client, Ending, UnaryReply};
use crate::rpc::registry::{self, Balancer, Instance, Registry, RegistryUrl, Watch};
use crate::shutdown::Shutdown;
use crate::transport::{Address, ConnectOptions, Stream};

/// How long an instance may take to be reached, as long as there is another one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the instances were found, to ask again.
#[derive(Clone, Debug)]
pub struct Source {
    text: String,
    url: RegistryUrl,
    service: Option<String>,
    services_directory: PathBuf,
}

impl Source {
    /// The registry that `text` names, and the service there.
    ///
    /// # Errors
    /// Usage: it is no registry.
    pub fn new(text: &str, service: Option<&str>, app: &App) -> Result<Self, Failure> {
        Ok(Self {
            text: text.to_owned(),
            url: parse(text)?,
            service: service.map(str::to_owned),
            services_directory: remote::services(app),
        })
    }
}

/// One instance with its client.
pub struct Member {
    /// What the registry says about it.
    pub instance: Instance,
    /// The way there.
    pub remote: Remote,
}

/// All instances, each with a client once it is called.
pub struct Fleet {
    balancer: Arc<Balancer>,
    template: Template,
    source: Source,
    members: Mutex<HashMap<String, Arc<Member>>>,
    shutdown: Shutdown,
}

impl Fleet {
    /// A fleet of these instances, all taken for healthy, reached as the template says.
    pub fn new(template: Template, instances: Vec<Instance>, source: Source) -> Self {
        let balancer = Arc::new(Balancer::new(instances));
        Self { balancer, template, source, members: Mutex::default(), shutdown: Shutdown::new() }
    }

    /// Asks the registry again whenever it can have changed, for as long as the command runs.
    ///
    /// # Errors
    /// The registry cannot be opened.
    pub fn follow(&self) -> Result<(), Failure> {
        let registry = Registry::open(&self.source.url, &self.source.services_directory)
            .map_err(|error| remote::registry_failure(&error))?;
        let watch = Watch::new(registry, self.source.service.clone());
        registry::follow(watch, Arc::clone(&self.balancer), &self.shutdown);
        Ok(())
    }

    /// The instance whose turn it is.
    ///
    /// # Errors
    /// There is none any more, or it is registered with a URL that cannot be called.
    pub fn pick(&self) -> Result<Arc<Member>, Box<Ending>> {
        let instance = self
            .balancer
            .pick(Instant::now())
            .ok_or_else(|| Ending::absent(format!("no healthy instance at {}", self.source.text)))?;
        // Registered anew elsewhere, it is another one.
        let name = format!("{} {}", instance.id, instance.url);
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(&name) {
            return Ok(Arc::clone(member));
        }
        let remote = self.template.at(&instance).map_err(|error| {
            self.balancer.failed(&instance, Instant::now());
            Box::new(Ending::absent(format!("{error:#}")))
        })?;
        if remote.options.format != self.template.format() {
            self.balancer.failed(&instance, Instant::now());
            let text = format!("{} is spoken to in another way than the others", remote.url);
            return Err(Box::new(Ending::absent(text)));
        }
        let member = Arc::new(Member { instance: Instance::clone(&instance), remote });
        members.insert(name, Arc::clone(&member));
        Ok(member)
    }

    /// How many instances are known.
    pub fn len(&self) -> usize {
        self.balancer.len()
    }

    /// True if another instance than this is known.
    pub fn has_others(&self, member: &Member) -> bool {
        self.balancer.pick(Instant::now()).is_some_and(|other| other.url != member.instance.url)
    }

    /// Notes how a call ended there: an instance that cannot be reached rests.
    pub fn note(&self, member: &Member, reached: bool) {
        if reached {
            self.balancer.succeeded(&member.instance);
        } else {
            self.balancer.failed(&member.instance, Instant::now());
        }
    }

    /// Makes a unary call at the instance whose turn it is. One that cannot be reached rests, and the next
    /// one is called if the call certainly did not arrive.
    pub async fn unary(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
    ) -> (UnaryReply, Option<Arc<Member>>) {
        let mut last = None;
        for _ in 0..self.balancer.len().max(1) {
            let member = match self.pick() {
                Ok(member) => member,
                Err(ending) => return last.unwrap_or_else(|| (UnaryReply::unanswered(*ending), None)),
            };
            let reply = member.remote.client.unary(path, message, options).await;
            let unreachable = reply.ending.cause == Cause::Unreachable;
            self.note(&member, !unreachable);
            if !(unreachable && reply.ending.untouched) {
                return (reply, Some(member));
            }
            last = Some((reply, Some(member)));
        }
        last.unwrap_or_else(|| (UnaryReply::unanswered(Ending::absent("no instance")), None))
    }

    /// Opens a stream at the instance whose turn it is, or at the next one that can be reached.
    pub async fn open<T>(
        &self,
        call: impl AsyncFn(&Client) -> Result<T, Ending>,
    ) -> (Result<T, Ending>, Option<Arc<Member>>) {
        let mut last = None;
        for _ in 0..self.balancer.len().max(1) {
            let member = match self.pick() {
                Ok(member) => member,
                Err(ending) => return last.unwrap_or((Err(*ending), None)),
            };
            let opened = call(&member.remote.client).await;
            let again =
                matches!(&opened, Err(ending) if ending.cause == Cause::Unreachable && ending.untouched);
            self.note(&member, !again);
            if !again {
                return (opened, Some(member));
            }
            last = Some((opened, Some(member)));
        }
        last.unwrap_or_else(|| (Err(Ending::absent("no instance")), None))
    }
}

fn parse(text: &str) -> Result<RegistryUrl, Failure> {
    text.parse().map_err(|error: registry::UrlError| Failure::new(Exit::Usage, error.to_string()))
}

/// Asks the registry: the healthy instances, at least one.
///
/// # Errors
/// No registry, no answer, no instance.
pub async fn find(text: &str, service: Option<&str>, app: &App) -> Result<Vec<Instance>, Failure> {
    registry::resolve(&parse(text)?, &remote::services(app), service)
        .await
        .map_err(|error| remote::registry_failure(&error))
}

/// The instance to call first: a random one, by weight, that can be reached; the last one unseen.
pub async fn first(mut left: Vec<Instance>) -> Option<Instance> {
    loop {
        let first = remote::choose(left.clone())?;
        if left.len() == 1 || is_reachable(&first).await {
            return Some(first);
        }
        left.retain(|instance| *instance != first);
    }
}

/// True unless a connection fails; of datagrams nobody can tell.
async fn is_reachable(instance: &Instance) -> bool {
    let Ok(endpoint) = Endpoint::parse(Pillar::Rpc, &instance.url) else { return false };
    match endpoint.addresses().first() {
        Some(address @ (Address::Tcp { .. } | Address::Unix(_))) => {
            let options = ConnectOptions { timeout: PROBE_TIMEOUT, ..ConnectOptions::default() };
            Stream::connect_with(address, &options).await.is_ok()
        }
        Some(Address::Udp { .. } | Address::Mem(_)) | None => true,
    }
}
