//! The instances of a service as they come and go, for clients that live long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Balancer, Error, Instance, Registry};
use crate::shutdown::Shutdown;

/// How often this machine's list is read. It is a handful of small files.
const LOCAL_EVERY: Duration = Duration::from_millis(500);
/// How often a node of a cluster is asked for all that it knows.
const GOSSIP_EVERY: Duration = Duration::from_secs(1);
/// DNS answers are kept for their time to live, within these bounds.
const DNS_MIN: Duration = Duration::from_secs(1);
const DNS_MAX: Duration = Duration::from_secs(60);
/// Pause after the first failed query; doubles up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Asks again and again, or waits where the registry can hold a query.
#[derive(Debug)]
pub struct Watch {
    registry: Registry,
    service: Option<String>,
    // None until the first answer.
    known: Option<Vec<Instance>>,
    index: u64,
    valid_until: Option<Instant>,
}

impl Watch {
    /// Watches the service that the URL names, else `service`.
    pub fn new(registry: Registry, service: Option<String>) -> Self {
        Self { registry, service, known: None, index: 0, valid_until: None }
    }

    /// The healthy instances: the first time as they are, then whenever they have changed. Empty if
    /// there are none now. Cancel safe.
    ///
    /// # Errors
    /// The registry does not answer or refuses. Call again after a pause.
    pub async fn changed(&mut self) -> Result<Vec<Instance>, Error> {
        loop {
            let instances = self.next().await?;
            if self.known.as_ref() != Some(&instances) {
                self.known = Some(instances.clone());
                return Ok(instances);
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<Instance>, Error> {
        let first = self.known.is_none();
        match &self.registry {
            Registry::List(instances) => {
                if !first {
                    std::future::pending::<()>().await;
                }
                Ok(instances.clone())
            }
            Registry::Local(local) => {
                if !first {
                    tokio::time::sleep(LOCAL_EVERY).await;
                }
                none_is_empty(local.resolve(self.service.as_deref()))
            }
            Registry::Dns(dns) => {
                if let Some(until) = self.valid_until {
                    let pause = until.saturating_duration_since(Instant::now());
                    tokio::time::sleep(pause.clamp(DNS_MIN, DNS_MAX)).await;
                }
                let answer = dns.resolve().await;
                self.valid_until =
                    Some(answer.as_ref().map_or_else(|_| Instant::now(), |answer| answer.valid_until));
                none_is_empty(answer.map(|answer| answer.instances))
            }
            Registry::Gossip(gossip) => {
                if !first {
                    tokio::time::sleep(GOSSIP_EVERY).await;
                }
                none_is_empty(gossip.resolve(self.service.as_deref()).await)
            }
            Registry::Consul(consul) => {
                let service = consul.service(self.service.as_deref())?;
                // An answer without an index cannot be waited for.
                if !first && self.index == 0 {
                    tokio::time::sleep(RETRY_MIN).await;
                }
                let found = consul.query(service, self.index).await?;
                self.index = found.index;
                Ok(found.instances)
            }
        }
    }
}

fn none_is_empty(result: Result<Vec<Instance>, Error>) -> Result<Vec<Instance>, Error> {
    match result {
        Err(Error::NotFound { .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// Keeps `balancer` up to date until `shutdown` drains. While the registry does not answer, what was
/// known stays in use.
pub fn follow(mut watch: Watch, balancer: Arc<Balancer>, shutdown: &Shutdown) {
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        let mut pause = RETRY_MIN;
        loop {
            tokio::select! {
                () = stop.draining() => return,
                result = watch.changed() => match result {
                    Ok(instances) => {
                        balancer.replace(instances);
                        pause = RETRY_MIN;
                        continue;
                    }
                    Err(error) => warn!("{error}"),
                }
            }
            tokio::select! {
                () = stop.draining() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            }
        }
    });
}
