//! The registries that know a running server: told when it is ready, and again when its services change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Args;
use crate::cli::app::App;
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::remote::services;
use crate::cli::serve::Harness;
use crate::metrics;
use crate::rpc::Catalog;
use crate::rpc::client::resolve::is_standard;
use crate::rpc::registry::{Error, Lease, Registration, Registry, RegistryUrl};
use crate::shutdown::Shutdown;

/// Where a server is listed, for as long as this lives and the server does not drain.
pub struct Listed {
    places: Vec<Place>,
    directory: PathBuf,
    shutdown: Shutdown,
    /// Where a node of the first cluster tells what it counts: a second one would say the same names again.
    metrics: Option<metrics::Registry>,
}

/// One registry, and what it was told.
struct Place {
    registry: RegistryUrl,
    opened: Option<Registry>,
    /// Where its readers find the server.
    url: String,
    /// What it calls all services together, instead of each by its name.
    name: Option<String>,
    leases: BTreeMap<String, Lease>,
}

impl Listed {
    /// A server that can be called at the URLs of a harness, to be listed on this machine and where the arguments say.
    ///
    /// # Errors
    /// It does not listen where the readers of a registry could call it.
    pub fn new(args: &Args, app: &App, harness: &Harness) -> Result<Self, Failure> {
        let urls = harness.urls.as_slice();
        let local = Place {
            registry: RegistryUrl::Local,
            opened: None,
            url: nearest(urls, app),
            name: None,
            leases: BTreeMap::new(),
        };
        let mut places = vec![local];
        for registry in args.register.iter().filter(|registry| **registry != RegistryUrl::Local) {
            let url = match &args.advertise {
                Some(url) => url.clone(),
                None => reachable(public(urls)?, registry),
            };
            let (registry, name) = (registry.clone(), args.service_name.clone());
            places.push(Place { registry, opened: None, url, name, leases: BTreeMap::new() });
        }
        let (shutdown, metrics) = (harness.shutdown.clone(), Some(harness.metrics.clone()));
        Ok(Self { places, directory: services(app), shutdown, metrics })
    }

    /// Tells all registries what the server offers now.
    ///
    /// # Errors
    /// A registry's. Those that were told before it know.
    pub async fn tell(&mut self, catalog: &Catalog) -> Result<(), Error> {
        for place in &mut self.places {
            let mut services: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            let methods = catalog.routes().map(|route| &route.method);
            for method in methods.filter(|method| !is_standard(method.service())) {
                let name = place.name.as_deref().unwrap_or(method.service());
                services.entry(name).or_default().push(method.path.clone());
            }
            // In one order, so that what has not changed is the same.
            services.values_mut().for_each(|methods| methods.sort());
            place.leases.retain(|service, _| services.contains_key(service.as_str()));
            for (service, methods) in &services {
                let registration = Registration {
                    service: (*service).to_owned(),
                    url: place.url.clone(),
                    tags: Vec::new(),
                    methods: methods.clone(),
                };
                if let Some(lease) = place.leases.get(*service) {
                    lease.update(registration);
                    continue;
                }
                let registry = match &mut place.opened {
                    Some(registry) => registry,
                    none => {
                        let registry = Registry::open(&place.registry, &self.directory)?;
                        let is_cluster = matches!(registry, Registry::Gossip(_));
                        if let Some(metrics) = self.metrics.take_if(|_| is_cluster) {
                            registry.count_in(metrics);
                        }
                        none.insert(registry)
                    }
                };
                let lease = registry.register(registration, &self.shutdown).await?;
                place.leases.insert((*service).to_owned(), lease);
            }
        }
        Ok(())
    }
}

/// What a client on this machine calls: the socket of `local:` if there is one, or another socket, or a port.
fn nearest(urls: &[String], app: &App) -> String {
    let local = urls.iter().find_map(|url| url.strip_prefix("local:"));
    if let Some(name) = local {
        let name = if name.is_empty() { LOCAL_DEFAULT } else { name };
        return format!("unix:{}", app.home.socket(Pillar::Rpc, name).display());
    }
    let unix = urls.iter().find(|url| url.starts_with("unix:"));
    unix.or_else(|| tcp(urls)).or(urls.first()).cloned().unwrap_or_default()
}

/// What a client on another machine calls.
fn public(urls: &[String]) -> Result<String, Failure> {
    tcp(urls).cloned().ok_or_else(|| {
        Failure::new(Exit::Usage, "--register needs an address that others can call")
            .tip("-l HOST:PORT    listen there")
    })
}

/// A listener at every address is registered at one: that by which this machine is seen from the registry,
/// or from elsewhere if the registry is on this machine.
fn reachable(url: String, registry: &RegistryUrl) -> String {
    let Some(port) = ["0.0.0.0:", "[::]:"].iter().find_map(|any| Some(url.split_once(any)?.1)) else {
        return url;
    };
    let registry = match registry {
        RegistryUrl::Consul(consul) => consul.authority.as_str(),
        RegistryUrl::Gossip(gossip) => gossip.seeds.first().map_or("", String::as_str),
        _ => "",
    };
    let is_v6 = url.contains("[::]");
    let host = crate::transport::own_address(registry, is_v6);
    let scheme = url.split("://").next().unwrap_or("grpc");
    format!("{scheme}://{}", std::net::SocketAddr::new(host, port.parse().unwrap_or(0)))
}

fn tcp(urls: &[String]) -> Option<&String> {
    urls.iter().find(|url| url.starts_with("grpc"))
}
