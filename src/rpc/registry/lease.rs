//! A server's entry in a registry, kept alive: renewed, written anew when forgotten, removed at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::consul::Renewal;
use super::local::Listing;
use super::{Consul, Error, Gossip, Registration, Registry};
use crate::shutdown::{Phase, Shutdown};
use crate::wait::until;

/// A server that is registered. Dropping it deregisters, and so does the shutdown it was made with.
#[derive(Debug)]
pub struct Lease {
    registration: watch::Sender<Registration>,
}

impl Lease {
    /// Registers what the server has become, such as after its handlers changed.
    pub fn update(&self, registration: Registration) {
        self.registration.send_if_modified(|known| {
            let changed = *known != registration;
            *known = registration;
            changed
        });
    }
}

impl Registry {
    /// Registers a server and keeps it registered until `shutdown` drains or the lease is dropped.
    /// [`Shutdown::finish`] waits until it is deregistered.
    ///
    /// # Errors
    /// The registry cannot be written, or the first registration failed. Later failures are logged
    /// and tried again.
    pub async fn register(&self, registration: Registration, shutdown: &Shutdown) -> Result<Lease, Error> {
        let (sender, receiver) = watch::channel(registration.clone());
        match self {
            Self::Local(local) => {
                let listing = local.publish(&registration)?;
                shutdown.spawn(keep_listing(listing, receiver, shutdown.clone()));
            }
            Self::Consul(consul) => {
                let id = consul.register(&registration).await?;
                shutdown.spawn(keep_entry(consul.clone(), id, receiver, shutdown.clone()));
            }
            Self::Gossip(gossip) => {
                gossip.announce(&registration, shutdown).await?;
                shutdown.spawn(keep_announced(gossip.clone(), receiver, shutdown.clone()));
            }
            Self::List(_) | Self::Dns(_) => {
                return Err(Error::Unsupported(
                    "a list or DNS cannot be registered with; use consul://, gossip:// or local:".to_owned(),
                ));
            }
        }
        Ok(Lease { registration: sender })
    }
}

/// What ends the wait of a keeper.
enum Turn {
    Renew,
    Changed,
    End,
}

async fn turn(
    registration: &mut watch::Receiver<Registration>,
    shutdown: &Shutdown,
    every: Option<Duration>,
) -> Turn {
    let at = every.and_then(|every| tokio::time::Instant::now().checked_add(every));
    tokio::select! {
        () = shutdown.draining() => Turn::End,
        changed = registration.changed() => changed.map_or(Turn::End, |()| Turn::Changed),
        () = until(at) => Turn::Renew,
    }
}

async fn keep_listing(
    mut listing: Listing,
    mut registration: watch::Receiver<Registration>,
    shutdown: Shutdown,
) {
    while let Turn::Changed = turn(&mut registration, &shutdown, None).await {
        let now = registration.borrow_and_update().clone();
        if let Err(error) = listing.update(&now) {
            warn!("{error}");
        }
    }
}

async fn keep_entry(
    consul: Arc<Consul>,
    mut id: String,
    mut registration: watch::Receiver<Registration>,
    shutdown: Shutdown,
) {
    loop {
        let result = match turn(&mut registration, &shutdown, Some(consul.renew_every())).await {
            Turn::End => break,
            Turn::Changed => replace(&consul, &mut id, &mut registration).await,
            Turn::Renew => match consul.renew(&id).await {
                Ok(Renewal::Renewed) => Ok(()),
                Ok(Renewal::Forgotten) => {
                    info!("the registry has forgotten {id}: registering again");
                    replace(&consul, &mut id, &mut registration).await
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = result {
            warn!("{error}");
        }
    }
    if let Err(error) = consul.deregister(&id).await {
        warn!("{error}; the entry {id} lapses by itself");
    }
}

/// A node tells nothing of a server but where it is and the names of its services: those do not change under a lease.
async fn keep_announced(
    gossip: Arc<Gossip>,
    mut registration: watch::Receiver<Registration>,
    shutdown: Shutdown,
) {
    let service = registration.borrow().service.clone();
    while let Turn::Changed = turn(&mut registration, &shutdown, None).await {}
    // A server that stops leaves the cluster: that is more than taking a service back.
    if shutdown.phase() == Phase::Running {
        gossip.withdraw(&service).await;
    }
}

/// Registers the present state and removes the former entry if it had another id.
async fn replace(
    consul: &Consul,
    id: &mut String,
    registration: &mut watch::Receiver<Registration>,
) -> Result<(), Error> {
    let now = registration.borrow_and_update().clone();
    let former = std::mem::replace(id, consul.register(&now).await?);
    if former != *id { consul.deregister(&former).await } else { Ok(()) }
}
