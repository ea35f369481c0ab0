//! The instances of a service that a registry knows: which one to begin with, and all of them in turn.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::remote::{self, Remote};
use crate::cli::app::App;
use crate::cli::endpoint::{Endpoint, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::rpc::client::{CallOptions, Cause, UnaryReply};
use crate::rpc::registry::{self, Balancer, Instance, RegistryUrl};
use crate::transport::{Address, ConnectOptions, Stream};

/// How long an instance may take to be reached, as long as there is another one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Several instances, each with a client.
pub struct Fleet {
    balancer: Balancer,
    members: Vec<(String, Remote)>,
}

impl Fleet {
    /// A fleet of these instances, all taken for healthy.
    pub fn new(members: Vec<(Instance, Remote)>) -> Self {
        let balancer = Balancer::new(members.iter().map(|(instance, _)| instance.clone()).collect());
        Self { balancer, members: members.into_iter().map(|(it, remote)| (it.id, remote)).collect() }
    }

    /// Makes a unary call at the instance whose turn it is. One that cannot be reached rests, and the next
    /// one is called if the call certainly did not arrive.
    pub async fn unary(&self, path: &str, message: &Bytes, options: &CallOptions) -> Option<UnaryReply> {
        let mut last = None;
        for _ in 0..self.balancer.len() {
            let instance = self.balancer.pick(Instant::now())?;
            let (_, remote) = self.members.iter().find(|(id, _)| *id == instance.id)?;
            let reply = remote.client.unary(path, message, options).await;
            let unreachable = reply.ending.cause == Cause::Unreachable;
            if unreachable {
                self.balancer.failed(&instance, Instant::now());
            } else {
                self.balancer.succeeded(&instance);
            }
            let again = unreachable && reply.ending.untouched;
            last = Some(reply);
            if !again {
                break;
            }
        }
        last
    }
}

/// Asks the registry: the healthy instances, at least one.
///
/// # Errors
/// No registry, no answer, no instance.
pub async fn find(text: &str, service: Option<&str>, app: &App) -> Result<Vec<Instance>, Failure> {
    let url: RegistryUrl =
        text.parse().map_err(|error: registry::UrlError| Failure::new(Exit::Usage, error.to_string()))?;
    registry::resolve(&url, &remote::services(app), service)
        .await
        .map_err(|error| remote::registry_failure(&error))
}

/// Takes out the instance to call first: a random one, by weight, that can be reached; the last one unseen.
pub async fn take_first(instances: &mut Vec<Instance>) -> Option<Instance> {
    let mut left = instances.clone();
    loop {
        let first = remote::choose(left.clone())?;
        if left.len() > 1 && !is_reachable(&first).await {
            left.retain(|instance| *instance != first);
            continue;
        }
        instances.retain(|instance| *instance != first);
        return Some(first);
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
