//! The health service: Check, Watch and List, over a table of statuses that others write.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::watch;

use super::backend::{Backend, Call, Event, Format, Payload, Reply, Requests};
use super::catalog::Route;
use super::schema::Schema;
use super::{Code, Method, Status};

/// Full name of the service.
pub const SERVICE: &str = "grpc.health.v1.Health";

/// What can be said about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Serving {
    /// Not known.
    Unknown = 0,
    /// Ready for calls.
    Serving = 1,
    /// Not ready.
    NotServing = 2,
    /// No such service; only in Watch.
    ServiceUnknown = 3,
}

impl Serving {
    /// The word of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckRequest {
    /// Full name; empty for the server as a whole.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CheckResponse {
    /// The status.
    #[prost(enumeration = "Serving", tag = "1")]
    pub status: i32,
}

/// `grpc.health.v1.HealthListResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListResponse {
    /// By full name.
    #[prost(btree_map = "string, message", tag = "1")]
    pub statuses: BTreeMap<String, CheckResponse>,
}

/// Who is serving. Clones share it.
#[derive(Clone, Debug)]
pub struct HealthState {
    services: Arc<watch::Sender<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    statuses: BTreeMap<String, Serving>,
    /// After shutdown nothing becomes SERVING again.
    leaving: bool,
}

impl Default for HealthState {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthState {
    /// The server as a whole (the empty name) is serving; nothing else is known.
    pub fn new() -> Self {
        let statuses = BTreeMap::from([(String::new(), Serving::Serving)]);
        Self { services: Arc::new(watch::Sender::new(Table { statuses, leaving: false })) }
    }

    /// Says how a service is.
    pub fn set(&self, service: &str, status: Serving) {
        self.services.send_if_modified(|table| {
            let status = if table.leaving { Serving::NotServing } else { status };
            table.statuses.insert(service.to_owned(), status) != Some(status)
        });
    }

    /// Forgets a service that is no longer offered.
    pub fn remove(&self, service: &str) {
        self.services.send_if_modified(|table| table.statuses.remove(service).is_some());
    }

    /// How a service is; `None` for one nobody has spoken of.
    pub fn get(&self, service: &str) -> Option<Serving> {
        self.services.borrow().statuses.get(service).copied()
    }

    /// The server leaves: all are NOT_SERVING from now on.
    pub fn shut_down(&self) {
        self.services.send_modify(|table| {
            table.leaving = true;
            table.statuses.values_mut().for_each(|status| *status = Serving::NotServing);
        });
    }

    /// The routes of the service over this table.
    pub fn routes(&self) -> Vec<Route> {
        let backend: Arc<dyn Backend> = Arc::new(Health(self.clone()));
        standard_routes(SERVICE, &backend)
    }
}

/// The routes of a service that every server offers.
pub(super) fn standard_routes(service: &str, backend: &Arc<dyn Backend>) -> Vec<Route> {
    let methods = Schema::standard().methods().filter(|method| method.service() == service);
    methods.map(|method| Route { method: Arc::new(method), backend: Arc::clone(backend) }).collect()
}

struct Health(HealthState);

impl Backend for Health {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let state = self.0.clone();
        async move { answer(&state, call).await.unwrap_or_else(Reply::failed) }.boxed()
    }
}

async fn answer(state: &HealthState, call: Call) -> Result<Reply, Status> {
    let method = Arc::clone(&call.method);
    let bytes = only_request(&method, call.requests).await?;
    match method.name() {
        "List" => {
            let table = state.services.borrow();
            let statuses =
                table.statuses.iter().map(|(name, status)| (name.clone(), response(*status))).collect();
            Ok(Reply::one(Payload::proto(ListResponse { statuses }.encode_to_vec())))
        }
        "Watch" => Ok(watch(state, requested(&bytes)?)),
        _ => {
            let service = requested(&bytes)?;
            let status = state.get(&service).ok_or_else(|| {
                Status::new(Code::NotFound, format!("service '{service}' is not known to this server"))
            })?;
            Ok(Reply::one(encoded(status)))
        }
    }
}

fn requested(bytes: &Bytes) -> Result<String, Status> {
    CheckRequest::decode(bytes.clone())
        .map(|request| request.service)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

/// The one message of a call that takes one, in protobuf.
async fn only_request(method: &Method, requests: Requests) -> Result<Bytes, Status> {
    let payload = match requests {
        Requests::One(payload) => payload,
        Requests::Stream(mut stream) => stream
            .next()
            .await
            .unwrap_or_else(|| Err(Status::new(Code::InvalidArgument, "no request message")))?,
    };
    method.input.convert(&payload, Format::Proto)
}

fn response(status: Serving) -> CheckResponse {
    CheckResponse { status: status.into() }
}

fn encoded(status: Serving) -> Payload {
    Payload::proto(response(status).encode_to_vec())
}

/// The status now and each different one after it, until the caller has enough or the server leaves.
fn watch(state: &HealthState, service: String) -> Reply {
    let start = Some((state.services.subscribe(), None));
    let events = stream::unfold(start, move |state| {
        let service = service.clone();
        async move {
            let (mut table, last) = state?;
            let status =
                |table: &Table| table.statuses.get(&service).copied().unwrap_or(Serving::ServiceUnknown);
            let changed = table
                .wait_for(|table| Some(status(table)) != last || table.leaving)
                .await
                .map(|table| status(&table));
            match changed {
                Ok(now) if Some(now) != last => {
                    Some((Event::Message(encoded(now)), Some((table, Some(now)))))
                }
                // Leaving, and the caller knows; or the table itself is gone.
                Ok(_) | Err(_) => {
                    let status = Status::new(Code::Unavailable, "the server is shutting down");
                    Some((Event::End { status, trailers: http::HeaderMap::new() }, None))
                }
            }
        }
    });
    Reply::stream(events.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::backend::{Body, Peer, Protocol};

    fn call(state: &HealthState, method: &str, service: &str) -> BoxFuture<'static, Reply> {
        let path = format!("{SERVICE}/{method}");
        let route = state.routes().into_iter().find(|route| route.method.path == path).unwrap();
        let request = CheckRequest { service: service.to_owned() };
        route.backend.call(Call {
            method: route.method,
            id: 1,
            protocol: Protocol::Grpc,
            peer: Arc::new(Peer { address: "test".to_owned(), tls_subject: None }),
            metadata: http::HeaderMap::new(),
            deadline: None,
            requests: Requests::One(Payload::proto(request.encode_to_vec())),
        })
    }

    async fn check(state: &HealthState, service: &str) -> Result<i32, Code> {
        match call(state, "Check", service).await.body {
            Body::One { message, .. } => Ok(CheckResponse::decode(message.bytes).unwrap().status),
            Body::Failed { status, .. } => Err(status.code),
            Body::Stream(_) | Body::Lost(_) => panic!("Check answers once"),
        }
    }

    #[tokio::test]
    async fn check_tells_what_was_set() {
        let state = HealthState::new();
        state.set("a.B", Serving::NotServing);
        assert_eq!(check(&state, "").await, Ok(Serving::Serving.into()));
        assert_eq!(check(&state, "a.B").await, Ok(Serving::NotServing.into()));
        assert_eq!(check(&state, "a.C").await, Err(Code::NotFound));
        state.shut_down();
        state.set("", Serving::Serving);
        assert_eq!(check(&state, "").await, Ok(Serving::NotServing.into()));
    }

    #[tokio::test]
    async fn watch_tells_changes_and_ends_with_the_server() {
        let state = HealthState::new();
        let Body::Stream(mut events) = call(&state, "Watch", "a.B").await.body else {
            panic!("Watch streams")
        };
        let mut next = async || match events.next().await {
            Some(Event::Message(message)) => Ok(CheckResponse::decode(message.bytes).unwrap().status()),
            Some(Event::End { status, .. }) => Err(status.code),
            None => panic!("the stream ended twice"),
        };
        assert_eq!(next().await, Ok(Serving::ServiceUnknown));
        state.set("other", Serving::Serving);
        state.set("a.B", Serving::Serving);
        assert_eq!(next().await, Ok(Serving::Serving));
        state.remove("a.B");
        assert_eq!(next().await, Ok(Serving::ServiceUnknown));
        state.set("a.B", Serving::Serving);
        assert_eq!(next().await, Ok(Serving::Serving));
        state.shut_down();
        assert_eq!(next().await, Ok(Serving::NotServing));
        assert_eq!(next().await, Err(Code::Unavailable));
    }

    #[tokio::test]
    async fn list_tells_all() {
        let state = HealthState::new();
        state.set("a.B", Serving::NotServing);
        let Body::One { message, .. } = call(&state, "List", "").await.body else {
            panic!("List answers once")
        };
        let statuses = ListResponse::decode(message.bytes).unwrap().statuses;
        let expected =
            [(String::new(), response(Serving::Serving)), ("a.B".to_owned(), response(Serving::NotServing))];
        assert_eq!(statuses, BTreeMap::from(expected));
    }
}
