//! Asks a server how it is: for its counters, or, where it has none, for what every client can find out.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message as _;
use tokio::time::Instant;

use super::board::{Foreign, Reading, Seen};
use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::health::{self, Health};
use crate::cli::rpc::lookup;
use crate::cli::rpc::openrpc::Document;
use crate::cli::rpc::remote::Remote;
use crate::rpc::client::resolve::is_standard;
use crate::rpc::client::{Cause, Client};
use crate::rpc::schema::Schema;
use crate::rpc::stats::{SERVICE, ServerStats};
use crate::rpc::{Code, Format, Payload};

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Services whose health is asked for at each refresh.
const SERVICES_MAX: usize = 64;

/// A foreign server is asked for its methods again after so many refreshes.
const LISTING_REFRESHES: u32 = 30;

/// A server that is watched.
pub struct Watched {
    /// How it is called.
    pub remote: Remote,
    foreign: RefCell<Option<Listing>>,
}

/// What a foreign server offers.
#[derive(Clone, Debug, Default)]
struct Listing {
    methods: Vec<String>,
    unlisted: Option<String>,
    refreshes: u32,
}

impl Watched {
    /// A server that has not been asked yet.
    pub fn new(mut remote: Remote) -> Self {
        let limit = remote.options.timeout.unwrap_or(ANSWER_MAX).min(ANSWER_MAX);
        remote.options.timeout = Some(limit);
        Self { remote, foreign: RefCell::default() }
    }

    /// Asks once.
    ///
    /// # Errors
    /// No answer.
    pub async fn read(&self) -> Result<Reading, Failure> {
        let result = self.ask().await;
        if result.is_err() {
            // Whoever comes back may be another one.
            self.foreign.replace(None);
        }
        result
    }

    async fn ask(&self) -> Result<Reading, Failure> {
        let known = self.foreign.borrow().clone();
        let listing = match known {
            Some(listing) if listing.refreshes < LISTING_REFRESHES => listing,
            Some(_) | None => {
                let start = Instant::now();
                if let Some(stats) = self.stats().await? {
                    return Ok(Reading { trip: start.elapsed(), seen: Ok(Seen::Own(stats.into())) });
                }
                self.list().await
            }
        };
        self.foreign.replace(Some(Listing { refreshes: listing.refreshes + 1, ..listing.clone() }));
        let start = Instant::now();
        let health = self.health("").await?.name().to_owned();
        let trip = start.elapsed();
        let mut services: Vec<&str> =
            listing.methods.iter().filter_map(|path| Some(path.split_once('/')?.0)).collect();
        services.dedup();
        let states = join_all(services.iter().take(SERVICES_MAX).map(async |service| {
            let health = self.health(service).await.ok();
            // A server need not speak of each of its services.
            let said = health.filter(|health| !matches!(health, Health::NotFound | Health::Unchecked));
            (*service, said.map_or("", Health::name))
        }))
        .await;
        let state = |path: &str| {
            let service = path.split_once('/').map_or("", |(service, _)| service);
            states.iter().find(|(name, _)| *name == service).map_or("", |(_, state)| state).to_owned()
        };
        let methods = listing.methods.iter().map(|path| (path.clone(), state(path))).collect();
        let foreign = Foreign { health, methods, unlisted: listing.unlisted };
        Ok(Reading { trip, seen: Ok(Seen::Foreign(foreign)) })
    }

    /// Its counters; `None` if it is none of ours.
    async fn stats(&self) -> Result<Option<ServerStats>, Failure> {
        let remote = &self.remote;
        let path = format!("{SERVICE}/Get");
        let request = match remote.options.format {
            Format::Proto => Bytes::new(),
            Format::Json => Bytes::from_static(b"{}"),
        };
        let reply = remote.client.unary(&path, &request, &remote.options).await;
        let code = reply.ending.status.code;
        match (reply.message, &reply.ending.cause) {
            (Some(message), _) => {
                let proto = match remote.options.format {
                    Format::Proto => message,
                    Format::Json => {
                        let kind = Schema::standard()
                            .message("bandy.ServerStats")
                            .expect("a test compiles the statistics service");
                        let converted = kind.convert(&Payload::json(message), Format::Proto);
                        converted.map_err(|status| self.garbled(&status.message))?
                    }
                };
                ServerStats::decode(proto).map(Some).map_err(|error| self.garbled(&error.to_string()))
            }
            // A server that cannot be used now, and not one that does not know the method.
            (None, Cause::Answered)
                if matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded) =>
            {
                Err(remote.explain(None, &path, &reply.ending).await)
            }
            (None, Cause::Answered) => Ok(None),
            (None, Cause::Foreign(http)) if matches!(http.as_u16(), 404 | 405) => Ok(None),
            (None, Cause::Deadline) => Err(Failure::new(
                Exit::Unreachable,
                format!("cannot reach {} — no answer within {ANSWER_MAX:?}", remote.url),
            )),
            (None, _) => Err(remote.explain(None, &path, &reply.ending).await),
        }
    }

    fn garbled(&self, error: &str) -> Failure {
        Failure::new(Exit::Failed, format!("{}: {SERVICE}: {error}", self.remote.url))
    }

    async fn health(&self, service: &str) -> Result<Health, Failure> {
        match health::check(&self.remote, service, ANSWER_MAX).await {
            // It answers, whatever it thinks of the question.
            Err(Failure { exit: Exit::Status(_), .. }) => Ok(Health::Unknown),
            result => result,
        }
    }

    /// What it offers, as far as it says.
    async fn list(&self) -> Listing {
        let listed = match &self.remote.client {
            Client::JsonRpc(client) => Document::fetch(client, &self.remote)
                .await
                .map(|document| document.methods().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
                .map_err(Into::into),
            Client::Http(_) | Client::Compact(_) | Client::CompactDatagrams(_) => {
                lookup::everything(&self.remote).await.map(|fetched| {
                    let methods = fetched.schema.methods();
                    methods
                        .filter(|method| fetched.services.iter().any(|service| service == method.service()))
                        .map(|method| method.path)
                        .collect()
                })
            }
        };
        match listed {
            Ok(mut methods) => {
                methods.retain(|path| !is_standard(path.split_once('/').map_or("", |(service, _)| service)));
                methods.sort();
                Listing { methods, ..Listing::default() }
            }
            Err(error) => Listing { unlisted: Some(error.to_string()), ..Listing::default() },
        }
    }
}
