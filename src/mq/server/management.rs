//! RabbitMQ's management API over HTTP: what its own tools, clients' tests and health checks ask a broker.
//!
//! ```text
//! stream -> transport::http -> who asks -> routes: 404, 405, 401 -> read or write -> list: sort, page, columns -> JSON
//! ```
//!
//! Paths, methods, members and errors are those of `rabbitmq_management` 3.10. What makes or changes queues, exchanges,
//! bindings and messages goes through a [`Session`](super::session::Session) as the user who asks.

mod administer;
mod ask;
mod list;
mod messages;
mod node;
mod object;
mod parameter;
mod people;
pub(super) mod policy;
mod rates;
mod read;
mod reply;
mod routes;
#[cfg(test)]
mod tests;
mod visible;
mod write;

use std::sync::Arc;
use std::time::Instant;

use http::Request;
use hyper::body::Incoming;

use super::Broker;
use crate::transport::Stream;
use crate::transport::http::{self as web, Answer};
use rates::Rates;

/// Bytes of a request's body: RabbitMQ's limit.
const BODY_SIZE_MAX: usize = 20_000_000;

/// A listener of the broker, as the API lists it.
#[derive(Debug, Clone)]
pub struct ListenerFact {
    /// `amqp`, `amqp/ssl`, `http`, `https`.
    pub protocol: &'static str,
    /// Where.
    pub host: String,
    /// Where.
    pub port: u16,
}

/// What the process knows of itself.
pub struct Facts {
    /// Open and waiting.
    pub listeners: Vec<ListenerFact>,
    /// Bytes of memory in use, asked when somebody looks.
    pub memory: Box<dyn Fn() -> u64 + Send + Sync>,
    /// When the certificate that is shown runs out, in seconds since 1970, if there is one.
    pub certificate_expires: Option<i64>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// What the API tells of a broker at one moment, in the API's words.
#[derive(Debug)]
pub struct Glance {
    /// Of `/api/queues`.
    pub queues: Vec<serde_json::Value>,
    /// `/api/overview`.
    pub overview: serde_json::Value,
    /// Of `/api/nodes`.
    pub node: serde_json::Value,
}

/// See the module.
#[derive(Debug)]
pub struct Management {
    broker: Arc<Broker>,
    facts: Facts,
    /// RabbitMQ's form: a word, `@`, the machine.
    node: String,
    started: Instant,
    rates: Rates,
}

impl Management {
    /// Of a broker. Rates are taken while somebody asks.
    pub fn new(broker: Arc<Broker>, facts: Facts) -> Arc<Self> {
        let node = super::node_name();
        let shutdown = broker.shutdown.clone();
        let management =
            Arc::new(Self { broker, facts, node, started: Instant::now(), rates: Rates::default() });
        let sampling = Arc::clone(&management);
        shutdown.clone().spawn(async move {
            tokio::select! {
                () = sampling.rates.keep(|| sampling.figures()) => {}
                () = shutdown.draining() => {}
            }
        });
        management
    }

    /// Everything of all virtual hosts, for whoever runs the broker.
    pub fn glance(&self) -> Glance {
        self.rates.asked();
        let caller = ask::Caller { name: "".into(), tags: vec!["administrator".to_owned()] };
        let hosts = self.broker.hosts();
        Glance {
            queues: hosts.iter().flat_map(|host| self.queues(host)).collect(),
            overview: self.overview_of(&caller, &hosts),
            node: self.node(),
        }
    }

    /// Answers on one connection until it ends, or the broker stops.
    pub async fn serve(&self, stream: Stream) {
        let is_local = stream.peer_address().is_none_or(|peer| peer.ip().to_canonical().is_loopback());
        web::serve(stream, &self.broker.shutdown, |request| self.answer(request, is_local)).await;
    }

    async fn answer(&self, request: Request<Incoming>, is_local: bool) -> Answer {
        let is_head = request.method() == http::Method::HEAD;
        let answer = match self.respond(request, is_local).await {
            Ok(reply) => reply.into_answer(),
            Err(refusal) => refusal.into_answer(),
        };
        if is_head { reply::without_body(answer) } else { answer }
    }

    async fn respond(&self, request: Request<Incoming>, is_local: bool) -> reply::Outcome {
        self.rates.asked();
        let (parts, body) = request.into_parts();
        let path = ask::path(parts.uri.path())?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some(path) = path.strip_prefix(&["api"]) else { return Self::page(&path) };
        let route = routes::find(path)?;
        if let Some(reply) = route.method(&parts.method)? {
            return Ok(reply);
        }
        let caller = self.admit(&route, &parts.headers, path, is_local)?;
        let query = web::Query::new(parts.uri.query());
        if let ["aliveness-test", vhost] = path {
            return self.aliveness(&caller, vhost).await;
        }
        if matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            return self.read(&ask::Ask { caller: &caller, query: &query }, path)?.shaped(&query);
        }
        if route.wants_json && !ask::is_json(&parts.headers) {
            return Err(reply::Refusal::bare(http::StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let body = web::body(body, BODY_SIZE_MAX).await.map_err(reply::Refusal::of_body)?;
        let reason = parts.headers.get("x-reason").and_then(|reason| reason.to_str().ok());
        let order = ask::Order { caller: &caller, query: &query, body: &body, reason };
        self.write(&parts.method, &order, path).await
    }

    /// What is outside of the API.
    fn page(path: &[&str]) -> reply::Outcome {
        match path {
            [""] => Ok(reply::Reply::Text(
                "This is bandy's management API: see /api/overview. It has no pages; use rabbitmqadmin or bandy mq.\n"
                    .to_owned(),
            )),
            ["cli"] | ["cli", ""] | ["cli", "rabbitmqadmin"] => Ok(reply::Reply::Text(
                "rabbitmqadmin comes with RabbitMQ (Debian: rabbitmq-server, \
                 /usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/plugins) and works with this server as it is.\n\
                 Its successor is at https://github.com/rabbitmq/rabbitmqadmin-ng\n"
                    .to_owned(),
            )),
            _ => Err(reply::Refusal::nothing_there()),
        }
    }
}
