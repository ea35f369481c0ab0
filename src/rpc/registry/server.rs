//! Consul's HTTP API over an [`Engine`]: agent, health, catalog and status, with blocking queries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::definition;
use super::engine::{Check, Engine, Refused, Service, Status};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::transport::http::{Answer, BodyError, Query};
use crate::transport::{self, Stream};

/// A registration with all it may hold.
const BODY_SIZE_MAX: usize = 256 * 1024;
/// Consul's default and bound for `?wait=`.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A registry that others can register with. Clones share it.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    engine: Mutex<Engine>,
    /// The engine's index, for those who wait for it to move.
    index: watch::Sender<u64>,
    node: String,
    /// Host of services that gave none.
    host: String,
    token: Option<Secret>,
}

impl Server {
    /// An empty registry. With a token, only requests that carry it are answered.
    pub fn new(node: impl Into<String>, host: impl Into<String>, token: Option<Secret>) -> Self {
        let engine = Engine::new();
        Self(Arc::new(Inner {
            index: watch::Sender::new(engine.index()),
            engine: Mutex::new(engine),
            node: node.into(),
            host: host.into(),
            token,
        }))
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the state with its checks up to date, and wakes those who wait for a change.
    fn with<T>(&self, work: impl FnOnce(&mut Engine, Instant) -> T) -> T {
        let now = Instant::now();
        let mut engine = self.engine();
        engine.tick(now);
        let result = work(&mut engine, now);
        let index = engine.index();
        drop(engine);
        self.0.index.send_if_modified(|known| std::mem::replace(known, index) != index);
        result
    }

    /// Lets checks lapse on time until `shutdown` drains.
    pub async fn keep_time(&self, shutdown: &Shutdown) {
        // Changes do not wake this: a lapse comes at the earliest a TTL after the check was made, and
        // a second late is soon enough for what is measured in tens of seconds.
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = shutdown.draining() => return,
                _ = tick.tick() => {}
            }
            if self.engine().deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                self.with(|_, _| ());
            }
        }
    }

    /// Answers on one connection until its end, or until `shutdown` drains and the answer under way is given.
    pub async fn serve_connection(&self, stream: Stream, shutdown: &Shutdown) {
        transport::http::serve(stream, shutdown, |request| self.answer(request, shutdown)).await;
    }

    async fn answer(&self, request: Request<Incoming>, shutdown: &Shutdown) -> Answer {
        let query = Query::new(request.uri().query());
        if self.0.token.as_ref().is_some_and(|token| !carries(request.headers(), &query, token)) {
            return self.refusal(StatusCode::FORBIDDEN, "Permission denied: this registry wants its token");
        }
        let (parts, body) = request.into_parts();
        let segments: Vec<String> = parts.uri.path().split('/').skip(1).map(decode).collect();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match parts.method {
            Method::GET | Method::HEAD => self.read(&path, &query, shutdown).await,
            Method::PUT | Method::POST => match transport::http::body(body, BODY_SIZE_MAX).await {
                Ok(body) => self.write(&path, &query, &body),
                Err(error @ BodyError::TooLarge(_)) => {
                    self.refusal(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string())
                }
                Err(error @ BodyError::Broken(_)) => {
                    self.refusal(StatusCode::BAD_REQUEST, &error.to_string())
                }
                Err(error @ BodyError::Late) => self.refusal(StatusCode::REQUEST_TIMEOUT, &error.to_string()),
            },
            method => self.refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("method {method} not allowed")),
        }
    }

    fn write(&self, path: &[&str], query: &Query, body: &[u8]) -> Answer {
        let done = match path {
            ["v1", "agent", "service", "register"] => match definition::parse(body) {
                Ok(definition) => self.with(|engine, now| engine.register(now, definition)),
                Err(why) => return self.refusal(StatusCode::BAD_REQUEST, &why),
            },
            ["v1", "agent", "service", "deregister", id] => self.with(|engine, _| engine.deregister(id)),
            ["v1", "agent", "check", verb @ ("pass" | "warn" | "fail"), id] => {
                let status = match *verb {
                    "pass" => Status::Passing,
                    "warn" => Status::Warning,
                    _ => Status::Critical,
                };
                let note = query.get("note").unwrap_or_default();
                self.with(|engine, now| engine.update(now, id, status, note))
            }
            ["v1", "agent", "check", "update", id] => match update(body) {
                Ok((status, output)) => self.with(|engine, now| engine.update(now, id, status, &output)),
                Err(why) => return self.refusal(StatusCode::BAD_REQUEST, &why),
            },
            _ => return self.no_such_path(path),
        };
        match done {
            Ok(()) => self.respond(StatusCode::OK, None, Bytes::new()),
            Err(refused @ (Refused::UnknownService(_) | Refused::UnknownCheck(_))) => {
                self.refusal(StatusCode::NOT_FOUND, &refused.to_string())
            }
            Err(refused @ Refused::NoTtl(_)) => self.refusal(StatusCode::BAD_REQUEST, &refused.to_string()),
            Err(refused @ Refused::Full) => {
                self.refusal(StatusCode::SERVICE_UNAVAILABLE, &refused.to_string())
            }
        }
    }

    async fn read(&self, path: &[&str], query: &Query, shutdown: &Shutdown) -> Answer {
        if query.get("filter").is_some_and(|filter| !filter.is_empty()) {
            return self
                .refusal(StatusCode::BAD_REQUEST, "this registry knows no ?filter=; use ?tag= and ?passing");
        }
        // What a waiting query waits for.
        let name = match path {
            ["v1", "health", "service" | "checks", name] | ["v1", "catalog", "service", name] => Some(*name),
            _ => None,
        };
        let index = self.wait(name, query, shutdown).await;
        let value = self.with(|engine, _| self.value(engine, path, query));
        match value {
            Some(value) => self.respond(StatusCode::OK, Some(index), value.to_string()),
            None => self.no_such_path(path),
        }
    }

    /// Returns the index to tell, at once or when it has passed the query's, or when its time is up.
    async fn wait(&self, name: Option<&str>, query: &Query, shutdown: &Shutdown) -> u64 {
        let now = || self.with(|engine, _| name.map_or(engine.index(), |name| engine.index_of(name)));
        let asked: u64 = query.get("index").and_then(|index| index.parse().ok()).unwrap_or(0);
        let wait = query.get("wait").and_then(|wait| crate::units::parse_duration(wait).ok());
        let wait = wait.filter(|wait| !wait.is_zero()).unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
        let mut moved = self.0.index.subscribe();
        let passed = async {
            // Subscribed before the first look, so no change falls in between.
            while now() <= asked {
                if moved.changed().await.is_err() {
                    return;
                }
            }
        };
        if asked > 0 {
            tokio::select! {
                () = passed => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.draining() => {}
            }
        }
        now()
    }

    fn value(&self, engine: &Engine, path: &[&str], query: &Query) -> Option<Value> {
        Some(match path {
            ["v1", "agent", "self"] => json!({
                "Config": {"Datacenter": "dc1", "NodeName": self.0.node, "Server": true, "Version": env!("CARGO_PKG_VERSION")},
                "Member": {"Name": self.0.node, "Addr": self.0.host, "Status": 1},
            }),
            ["v1", "agent", "services"] => engine
                .services()
                .map(|service| (service.definition.id.clone(), agent_service(service)))
                .collect::<Map<_, _>>()
                .into(),
            ["v1", "agent", "service", id] => agent_service(engine.service(id)?),
            ["v1", "agent", "checks"] => engine
                .services()
                .flat_map(|service| service.checks.iter().map(move |check| (check, service)))
                .map(|(check, service)| (check.definition.id.clone(), self.check(check, service)))
                .collect::<Map<_, _>>()
                .into(),
            ["v1", "agent", "members"] => json!([{"Name": self.0.node, "Addr": self.0.host, "Status": 1}]),
            ["v1", "health", "service", name] => {
                let passing = query.get("passing").is_some_and(|value| !matches!(value, "false" | "0"));
                selected(engine, name, query)
                    .filter(|service| !passing || service.status() == Status::Passing)
                    .map(|service| self.health(service))
                    .collect()
            }
            ["v1", "health", "checks", name] => {
                selected(engine, name, query).flat_map(|service| self.checks(service)).collect()
            }
            ["v1", "health", "node", node] => {
                let services = engine.services().filter(|_| *node == self.0.node);
                services.flat_map(|service| self.checks(service)).collect()
            }
            ["v1", "health", "state", state] => engine
                .services()
                .flat_map(|service| service.checks.iter().map(move |check| (check, service)))
                .filter(|(check, _)| *state == "any" || check.status.name() == *state)
                .map(|(check, service)| self.check(check, service))
                .collect(),
            ["v1", "catalog", "services"] => catalog(engine),
            ["v1", "catalog", "service", name] => {
                selected(engine, name, query).map(|service| self.catalog_service(service)).collect()
            }
            ["v1", "catalog", "nodes"] => json!([self.node()]),
            ["v1", "catalog", "datacenters"] => json!(["dc1"]),
            ["v1", "status", "leader"] => json!(format!("{}:8300", self.0.host)),
            ["v1", "status", "peers"] => json!([format!("{}:8300", self.0.host)]),
            _ => return None,
        })
    }

    fn node(&self) -> Value {
        json!({
            "ID": "", "Node": self.0.node, "Address": self.0.host, "Datacenter": "dc1",
            "TaggedAddresses": {}, "Meta": {}, "CreateIndex": 1, "ModifyIndex": 1,
        })
    }

    fn health(&self, service: &Service) -> Value {
        json!({"Node": self.node(), "Service": agent_service(service), "Checks": self.checks(service)})
    }

    fn checks(&self, service: &Service) -> Vec<Value> {
        service.checks.iter().map(|check| self.check(check, service)).collect()
    }

    fn check(&self, check: &Check, service: &Service) -> Value {
        json!({
            "Node": self.0.node, "CheckID": check.definition.id, "Name": check.definition.name,
            "Status": check.status.name(), "Notes": check.definition.notes, "Output": check.output,
            "ServiceID": service.definition.id, "ServiceName": service.definition.name,
            "ServiceTags": service.definition.tags, "Type": "ttl", "Definition": {},
            "CreateIndex": service.created, "ModifyIndex": service.modified,
        })
    }

    fn catalog_service(&self, service: &Service) -> Value {
        let definition = &service.definition;
        json!({
            "ID": "", "Node": self.0.node, "Address": self.0.host, "Datacenter": "dc1",
            "TaggedAddresses": {}, "NodeMeta": {}, "ServiceID": definition.id, "ServiceName": definition.name,
            "ServiceAddress": definition.address, "ServicePort": definition.port, "ServiceTags": definition.tags,
            "ServiceMeta": definition.meta, "ServiceWeights": weights(service), "ServiceEnableTagOverride": false,
            "CreateIndex": service.created, "ModifyIndex": service.modified,
        })
    }

    fn no_such_path(&self, path: &[&str]) -> Answer {
        self.refusal(StatusCode::NOT_FOUND, &format!("this registry has no /{}", path.join("/")))
    }

    fn refusal(&self, status: StatusCode, why: &str) -> Answer {
        let mut answer = self.respond(status, None, why.to_owned());
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(http::header::CONTENT_TYPE, text);
        answer
    }

    fn respond(&self, status: StatusCode, index: Option<u64>, body: impl Into<Bytes>) -> Answer {
        let mut answer = Response::new(Full::new(body.into()));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(index) = index {
            // Consul's own client refuses an answer with an index but without the other two.
            headers.insert("x-consul-index", HeaderValue::from(index));
            headers.insert("x-consul-knownleader", HeaderValue::from_static("true"));
            headers.insert("x-consul-lastcontact", HeaderValue::from_static("0"));
        }
        answer
    }
}

fn selected<'a>(engine: &'a Engine, name: &'a str, query: &'a Query) -> impl Iterator<Item = &'a Service> {
    let tagged =
        |service: &&Service| query.all("tag").all(|tag| service.definition.tags.iter().any(|own| own == tag));
    engine.named(name).filter(tagged)
}

fn agent_service(service: &Service) -> Value {
    let definition = &service.definition;
    json!({
        "ID": definition.id, "Service": definition.name, "Tags": definition.tags, "Meta": definition.meta,
        "Port": definition.port, "Address": definition.address, "Weights": weights(service),
        "EnableTagOverride": false, "Datacenter": "dc1",
        "CreateIndex": service.created, "ModifyIndex": service.modified,
    })
}

fn weights(service: &Service) -> Value {
    let (passing, warning) = service.definition.weights;
    json!({"Passing": passing, "Warning": warning})
}

/// Service names with the tags of all their instances.
fn catalog(engine: &Engine) -> Value {
    let mut names: Map<String, Value> = Map::new();
    for service in engine.services() {
        let tags = names.entry(service.definition.name.clone()).or_insert_with(|| json!([]));
        let Value::Array(tags) = tags else { continue };
        for tag in &service.definition.tags {
            if !tags.iter().any(|known| known == tag) {
                tags.push(json!(tag));
            }
        }
    }
    names.into()
}

fn update(body: &[u8]) -> Result<(Status, String), String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("Request decode failed: {error}"))?;
    let text =
        |names: [&str; 2]| names.iter().find_map(|name| value.get(*name)?.as_str()).unwrap_or_default();
    let status = text(["Status", "status"]);
    let status = Status::from_name(status).ok_or_else(|| format!("Invalid check status: {status:?}"))?;
    Ok((status, text(["Output", "output"]).to_owned()))
}

fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn carries(headers: &HeaderMap, query: &Query, token: &Secret) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let given = [header("x-consul-token"), bearer, query.get("token")];
    given.into_iter().flatten().any(|given| same(given.as_bytes(), token.expose().as_bytes()))
}

/// Compares without stopping at the first difference, which would tell how much of a guess is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}
