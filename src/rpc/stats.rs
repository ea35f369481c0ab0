//! The statistics service: what a server counts, for `bandy rpc top` and whoever else asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use prost::Message as _;

use super::backend::{Backend, Call, Payload, Reply};
use super::catalog::{Route, SharedCatalog, WeakCatalog};
use super::client::resolve::is_standard;
use super::health::{HealthState, Serving, standard_routes};
use super::metrics::{Counted, Metrics};
use super::{Code, Status};
use crate::metrics::BOUNDS_NANOS;

/// Full name of the service. It is described by reflection and left out of lists, which are for what a user serves.
pub const SERVICE: &str = "bandy.Stats";

/// `bandy.ServerStats`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerStats {
    /// When the server started, in milliseconds since 1970.
    #[prost(int64, tag = "1")]
    pub started_ms: i64,
    /// Microseconds since then.
    #[prost(uint64, tag = "2")]
    pub uptime_us: u64,
    /// Connections now.
    #[prost(uint64, tag = "3")]
    pub connections: u64,
    /// Connections that may be at the same time.
    #[prost(uint64, tag = "4")]
    pub connections_max: u64,
    /// Connections since the start.
    #[prost(uint64, tag = "5")]
    pub connections_total: u64,
    /// Memory in use.
    #[prost(uint64, tag = "6")]
    pub memory_bytes: u64,
    /// Process id.
    #[prost(uint32, tag = "7")]
    pub pid: u32,
    /// Version of the program.
    #[prost(string, tag = "8")]
    pub version: String,
    /// Upper bounds of the buckets of [`MethodStats::times`], in nanoseconds.
    #[prost(uint64, repeated, tag = "9")]
    pub bounds_ns: Vec<u64>,
    /// Everything that is offered or was called.
    #[prost(message, repeated, tag = "10")]
    pub methods: Vec<MethodStats>,
}

/// `bandy.MethodStats`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MethodStats {
    /// `package.Service/Method`.
    #[prost(string, tag = "1")]
    pub method: String,
    /// Of its service: `SERVING`, `NOT_SERVING`; empty if nothing is known.
    #[prost(string, tag = "2")]
    pub health: String,
    /// Calls that run.
    #[prost(int64, tag = "3")]
    pub in_flight: i64,
    /// Calls that ended, by the name of their status.
    #[prost(btree_map = "string, uint64", tag = "4")]
    pub ended: BTreeMap<String, u64>,
    /// Calls that ended, by how long they took; zeros at the end are left out.
    #[prost(uint64, repeated, tag = "5")]
    pub times: Vec<u64>,
    /// How long all of them took together, in nanoseconds.
    #[prost(uint64, tag = "6")]
    pub times_total_ns: u64,
}

/// Knows the process around the server: fills in what is not about calls.
pub type Host = Arc<dyn Fn(&mut ServerStats) + Send + Sync>;

/// What a server counts. Clones are the same one.
#[derive(Clone)]
pub struct Stats {
    metrics: Arc<Metrics>,
    health: HealthState,
    catalog: WeakCatalog,
    host: Host,
}

impl Stats {
    /// The numbers of a server that offers `catalog`.
    pub fn new(metrics: Arc<Metrics>, health: HealthState, catalog: &SharedCatalog, host: Host) -> Self {
        Self { metrics, health, catalog: catalog.downgrade(), host }
    }

    /// All of them now.
    pub fn now(&self) -> ServerStats {
        let mut stats = ServerStats {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bounds_ns: BOUNDS_NANOS.to_vec(),
            ..ServerStats::default()
        };
        (self.host)(&mut stats);
        let mut counted = self.metrics.counted();
        // What every server offers is shown when somebody calls it.
        let offered: BTreeSet<String> = self.catalog.upgrade().map_or_else(BTreeSet::new, |catalog| {
            let catalog = catalog.load();
            let methods = catalog.routes().map(|route| &route.method);
            methods
                .filter(|method| !is_standard(method.service()))
                .map(|method| method.path.clone())
                .collect()
        });
        for path in offered {
            counted.entry(path).or_default();
        }
        counted.retain(|path, _| !is_stats(path));
        stats.methods = counted.into_iter().map(|(path, counted)| self.method(path, counted)).collect();
        stats
    }

    fn method(&self, path: String, counted: Counted) -> MethodStats {
        let health = self.health.get(path.split_once('/').map_or("", |(service, _)| service));
        let mut times = counted.times;
        times.truncate(times.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        MethodStats {
            health: health.map_or("", Serving::name).to_owned(),
            in_flight: counted.in_flight,
            ended: counted.ended.into_iter().map(|(code, count)| (code.name().to_owned(), count)).collect(),
            times,
            times_total_ns: u64::try_from(counted.time.as_nanos()).unwrap_or(u64::MAX),
            method: path,
        }
    }

    /// The routes of the service.
    pub fn routes(&self) -> Vec<Route> {
        let backend: Arc<dyn Backend> = Arc::new(Answers(self.clone()));
        standard_routes(SERVICE, &backend)
    }
}

/// True for a method of this service.
fn is_stats(path: &str) -> bool {
    path.split_once('/').is_some_and(|(service, _)| service == SERVICE)
}

struct Answers(Stats);

impl Backend for Answers {
    fn call(&self, _: Call) -> BoxFuture<'static, Reply> {
        let reply = match self.0.catalog.upgrade() {
            Some(_) => Reply::one(Payload::proto(self.0.now().encode_to_vec())),
            None => Reply::failed(Status::new(Code::Unavailable, "the server is gone")),
        };
        ready(reply).boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::rpc::Kind;
    use crate::rpc::catalog::Catalog;
    use crate::rpc::schema::Schema;
    use crate::rpc::testing::{catalog, echo};

    const TEXT: &str = "google.protobuf.StringValue";

    #[test]
    fn all_that_is_offered_or_was_called_is_told_but_not_this_service() {
        let shared = SharedCatalog::default();
        let metrics = Arc::new(Metrics::default());
        let health = HealthState::new();
        health.set("d.E", Serving::NotServing);
        let host: Host = Arc::new(|stats| stats.connections = 7);
        let stats = Stats::new(Arc::clone(&metrics), health.clone(), &shared, host);
        let offered = [("d.E/Say", TEXT, Kind::Unary), ("d.E/Idle", TEXT, Kind::Unary)];
        let mut offered: Catalog = catalog(&offered, &echo());
        for route in health.routes().into_iter().chain(stats.routes()) {
            offered.insert(route).unwrap();
        }
        shared.store(offered);
        let called = ["d.E/Say", "d.E/Say", "grpc.health.v1.Health/Check", "bandy.Stats/Get"];
        for path in called {
            let method = Arc::clone(&shared.load().by_path(path).unwrap().method);
            metrics.start(&method, Instant::now()).end(Code::Ok);
        }
        let now = stats.now();
        assert_eq!(now.connections, 7);
        let rows: Vec<_> = now
            .methods
            .iter()
            .map(|row| {
                (row.method.as_str(), row.health.as_str(), row.ended.get("OK"), row.times.iter().sum::<u64>())
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("d.E/Idle", "NOT_SERVING", None, 0),
                ("d.E/Say", "NOT_SERVING", Some(&2), 2),
                ("grpc.health.v1.Health/Check", "", Some(&1), 1),
            ]
        );
    }

    #[test]
    fn the_messages_are_those_of_the_proto_file() {
        let stats = ServerStats {
            started_ms: 1,
            uptime_us: 2,
            connections: 3,
            connections_max: 4,
            connections_total: 5,
            memory_bytes: 6,
            pid: 7,
            version: "8".to_owned(),
            bounds_ns: vec![9],
            methods: vec![MethodStats {
                method: "a/B".to_owned(),
                health: "SERVING".to_owned(),
                in_flight: 1,
                ended: BTreeMap::from([("OK".to_owned(), 2)]),
                times: vec![3],
                times_total_ns: 4,
            }],
        };
        let kind = Schema::standard().message("bandy.ServerStats").unwrap();
        let payload = Payload::proto(stats.encode_to_vec());
        let json = kind.convert(&payload, crate::rpc::Format::Json).unwrap();
        assert_eq!(
            String::from_utf8(json.to_vec()).unwrap(),
            "{\"startedMs\":\"1\",\"uptimeUs\":\"2\",\"connections\":\"3\",\"connectionsMax\":\"4\",\
             \"connectionsTotal\":\"5\",\"memoryBytes\":\"6\",\"pid\":7,\"version\":\"8\",\"boundsNs\":[\"9\"],\
             \"methods\":[{\"method\":\"a/B\",\"health\":\"SERVING\",\"inFlight\":\"1\",\"ended\":{\"OK\":\"2\"},\
             \"times\":[\"3\"],\"timesTotalNs\":\"4\"}]}"
        );
    }
}
