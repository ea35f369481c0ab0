//! The catalog of a running server, made again when a handler or a schema changes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::listed::Listed;
use crate::rpc::catalog::{Catalog, SharedCatalog};
use crate::rpc::handler::{Host, Offer, OfferError, Offered, Rest};
use crate::rpc::health::{self, HealthState, Serving};
use crate::rpc::reflection;
use crate::rpc::stats::Stats;
use crate::shutdown::Shutdown;

/// An editor writes a file in several steps: the last one counts.
const QUIET: Duration = Duration::from_millis(50);

/// What is offered, and where it is offered.
pub struct Offering {
    /// What was said on the command line.
    pub offer: Offer,
    /// What the handlers share.
    pub host: Arc<Host>,
    /// What the server looks calls up in.
    pub catalog: SharedCatalog,
    /// How its services are.
    pub health: HealthState,
    /// Whether clients may ask for the schema.
    pub reflection: bool,
    /// What it counts; clients may ask for that too unless they are not to know the methods.
    pub stats: Stats,
}

impl Offering {
    /// Reads everything and puts it in place of what was there; calls in progress keep that. Returns
    /// what the user should know.
    ///
    /// # Errors
    /// Something is wrong with it; then nothing changes.
    pub fn renew(&self) -> Result<Vec<String>, OfferError> {
        let Offered { schema, routes, mut notes } = self.offer.build(&self.host)?;
        let services: BTreeSet<String> =
            routes.iter().map(|route| route.method.service().to_owned()).collect();
        let mut catalog = Catalog::new(schema);
        let mut standard = self.health.routes();
        if self.reflection {
            standard.extend(reflection::routes(&self.catalog));
            standard.extend(self.stats.routes());
        }
        for route in standard.into_iter().chain(routes) {
            if let Err(collision) = catalog.insert(route) {
                notes.push(collision.to_string());
            }
        }
        for known in self.catalog.load().routes().map(|route| route.method.service().to_owned()) {
            if !services.contains(&known) && known != health::SERVICE {
                self.health.remove(&known);
            }
        }
        self.catalog.store(catalog);
        self.report_health();
        Ok(notes)
    }

    /// What the user was told of what is offered now.
    fn notes(&self) -> Vec<String> {
        self.offer.build(&self.host).map(|offered| offered.notes).unwrap_or_default()
    }

    /// Serving, unless the services depend on workers and none is running.
    fn report_health(&self) {
        let dead = matches!(&self.offer.rest, Rest::Workers(workers) if *workers.running().borrow() == 0);
        let status = if dead { Serving::NotServing } else { Serving::Serving };
        self.health.set("", status);
        for route in self.catalog.load().routes() {
            self.health.set(route.method.service(), status);
        }
    }

    /// Renews the catalog whenever a file it was made of changes, tells the registries, and reports the
    /// health of workers.
    pub fn watch(self, mut listed: Listed, shutdown: &Shutdown) {
        let paths: Vec<PathBuf> = self.offer.paths();
        let workers = match &self.offer.rest {
            Rest::Workers(workers) => Some(workers.running()),
            Rest::Nobody | Rest::Command(_) | Rest::Echo => None,
        };
        let (sender, mut changes) = mpsc::channel(1);
        let watcher = if paths.is_empty() { None } else { watch_all(paths, sender) };
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            let (mut workers, _watcher) = (workers, watcher);
            // What was said at the start, or after an earlier change, is not said again.
            let mut known: BTreeSet<String> = self.notes().into_iter().collect();
            loop {
                let change = async {
                    match changes.recv().await {
                        Some(()) => tokio::time::sleep(QUIET).await,
                        None => std::future::pending().await,
                    }
                };
                let health = async {
                    let changed = match &mut workers {
                        Some(running) => running.changed().await.is_ok(),
                        None => false,
                    };
                    if !changed {
                        std::future::pending().await
                    }
                };
                tokio::select! {
                    () = stop.draining() => return,
                    () = health => self.report_health(),
                    () = change => {
                        while changes.try_recv().is_ok() {}
                        match self.renew() {
                            Ok(notes) => {
                                tracing::info!(target: "bandy::handler", "handlers and schemas were read again");
                                for note in notes.iter().filter(|note| !known.contains(*note)) {
                                    tracing::warn!(target: "bandy::handler", "{note}");
                                }
                                known = notes.into_iter().collect();
                                if let Err(error) = listed.tell(&self.catalog.load()).await {
                                    tracing::warn!(target: "bandy::registry", "{error}");
                                }
                            }
                            Err(error) => {
                                tracing::warn!(target: "bandy::handler", "nothing was changed: {error}");
                            }
                        }
                    }
                }
            }
        });
    }
}

/// Whether an event is about one of the paths: a file of that name, or anything in a directory that is one. What has no
/// name may be about anything.
fn concerns(event: &notify::Event, paths: &[PathBuf]) -> bool {
    let is_meant = |changed: &PathBuf| {
        paths.iter().any(|path| match path.is_dir() {
            true => true,
            false => changed.file_name() == path.file_name(),
        })
    };
    event.paths.is_empty() || event.paths.iter().any(is_meant)
}

/// Sends a word for every change at or under the paths, for as long as the result lives.
fn watch_all(paths: Vec<PathBuf>, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let watched = paths.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file to compile it must not count as a change of it, nor does another file beside it.
        if !matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)) || !concerns(event, &watched))
        {
            // Full is as good: the change will be seen with the one that waits.
            let _ = changed.try_send(());
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(target: "bandy::handler", "changes of handlers will not be seen: {error}");
            return None;
        }
    };
    for path in paths {
        // Editors replace files: the directory is what lasts.
        let (watched, mode) = match (path.is_dir(), path.parent()) {
            (true, _) => (path.as_path(), RecursiveMode::Recursive),
            (false, Some(parent)) if !parent.as_os_str().is_empty() => (parent, RecursiveMode::NonRecursive),
            (false, _) => (std::path::Path::new("."), RecursiveMode::NonRecursive),
        };
        if let Err(error) = watcher.watch(watched, mode) {
            tracing::warn!(target: "bandy::handler", "changes of {} will not be seen: {error}", path.display());
        }
    }
    Some(watcher)
}
