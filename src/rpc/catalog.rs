//! What a server offers: methods by path and by integer id, each with the backend that answers it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use futures_util::{FutureExt as _, StreamExt as _};
use http::HeaderMap;

use super::backend::{Backend, Body, Call, Event, Reply};
use super::schema::{MessageType, Schema};
use super::{Code, Status};

/// Which sides stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one reply.
    Unary,
    /// Many requests, one reply.
    ClientStream,
    /// One request, many replies.
    ServerStream,
    /// Many both ways.
    Bidi,
}

impl Kind {
    /// True if there can be more than one request.
    pub fn client_streams(self) -> bool {
        matches!(self, Self::ClientStream | Self::Bidi)
    }

    /// True if there can be more than one reply.
    pub fn server_streams(self) -> bool {
        matches!(self, Self::ServerStream | Self::Bidi)
    }
}

/// A callable method.
#[derive(Clone, Debug)]
pub struct Method {
    /// `package.Service/Method`, without a leading slash.
    pub path: String,
    /// Stable 32-bit Call ID: see [`method_id`].
    pub id: u32,
    /// Which sides stream.
    pub kind: Kind,
    /// True if it may be called with HTTP GET (`idempotency_level = NO_SIDE_EFFECTS`).
    pub no_side_effects: bool,
    /// The request type.
    pub input: MessageType,
    /// The reply type.
    pub output: MessageType,
}

impl Method {
    /// The part before the slash.
    pub fn service(&self) -> &str {
        self.path.split_once('/').map_or("", |(service, _)| service)
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        self.path.split_once('/').map_or(&self.path, |(_, name)| name)
    }
}

/// The integer Call ID of a method: 32-bit FNV-1a of its path.
pub fn method_id(path: &str) -> u32 {
    path.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A method and what answers it.
#[derive(Clone)]
pub struct Route {
    /// The method.
    pub method: Arc<Method>,
    /// What answers it.
    pub backend: Arc<dyn Backend>,
}

impl Route {
    /// Has the backend answer. A defect in it that panics, at once or in the middle of a stream, ends this call as
    /// INTERNAL, and neither the others of its connection nor the task that polls them.
    pub async fn answer(&self, call: Call) -> Reply {
        // The call of the backend too, not only what it returns.
        let work = async { self.backend.call(call).await };
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(reply) => Reply { body: guarded(reply.body, &self.method), ..reply },
            Err(_) => Reply::failed(defect(&self.method)),
        }
    }
}

/// A body that ends with a status even if the stream behind it panics.
fn guarded(body: Body, method: &Arc<Method>) -> Body {
    match body {
        Body::Stream(events) => {
            let method = Arc::clone(method);
            let events = AssertUnwindSafe(events).catch_unwind().map(move |event| {
                event.unwrap_or_else(|_| Event::End { status: defect(&method), trailers: HeaderMap::new() })
            });
            Body::Stream(events.boxed())
        }
        Body::Lost(body) => Body::Lost(Box::new(guarded(*body, method))),
        body @ (Body::One { .. } | Body::Failed { .. }) => body,
    }
}

fn defect(method: &Method) -> Status {
    tracing::error!(method = method.path, "a backend panicked");
    Status::new(Code::Internal, "the method's implementation failed unexpectedly")
}

/// All routes of a server. Built once; replaced whole when handlers or schemas change.
#[derive(Default)]
pub struct Catalog {
    schema: Arc<Schema>,
    routes: HashMap<String, Route>,
    paths_by_id: HashMap<u32, String>,
}

/// Two methods whose paths hash to the same Call ID.
#[derive(Debug, thiserror::Error)]
#[error("{first} and {second} have the same call id {id}: rename one of them")]
pub struct IdCollision {
    /// The one that was there.
    pub first: String,
    /// The one that came.
    pub second: String,
    /// The id of both.
    pub id: u32,
}

impl Catalog {
    /// An empty catalog over `schema`.
    pub fn new(schema: Arc<Schema>) -> Self {
        Self { schema, ..Self::default() }
    }

    /// Adds a route, or replaces the one of the same path.
    ///
    /// # Errors
    /// Another path with the same Call ID.
    pub fn insert(&mut self, route: Route) -> Result<(), IdCollision> {
        let method = &route.method;
        match self.paths_by_id.get(&method.id) {
            Some(first) if *first != method.path => {
                return Err(IdCollision { first: first.clone(), second: method.path.clone(), id: method.id });
            }
            _ => self.paths_by_id.insert(method.id, method.path.clone()),
        };
        self.routes.insert(method.path.clone(), route);
        Ok(())
    }

    /// The route of `package.Service/Method`.
    pub fn by_path(&self, path: &str) -> Option<&Route> {
        self.routes.get(path)
    }

    /// The route with that Call ID.
    pub fn by_id(&self, id: u32) -> Option<&Route> {
        self.routes.get(self.paths_by_id.get(&id)?)
    }

    /// Every route, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    /// The types behind the methods.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }
}

/// The catalog a running server uses, replaceable while it runs. Clones share it.
#[derive(Clone, Default)]
pub struct SharedCatalog(Arc<std::sync::RwLock<Arc<Catalog>>>);

impl SharedCatalog {
    /// Starts with `catalog`.
    pub fn new(catalog: Catalog) -> Self {
        Self(Arc::new(std::sync::RwLock::new(Arc::new(catalog))))
    }

    /// The catalog as it is now. Calls in progress keep theirs.
    pub fn load(&self) -> Arc<Catalog> {
        Arc::clone(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// For those whom the catalog itself holds: they do not keep it alive.
    pub fn downgrade(&self) -> WeakCatalog {
        WeakCatalog(Arc::downgrade(&self.0))
    }

    /// Replaces it.
    pub fn store(&self, catalog: Catalog) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(catalog);
    }
}

/// A [`SharedCatalog`] seen from a backend within it.
#[derive(Clone)]
pub struct WeakCatalog(Weak<std::sync::RwLock<Arc<Catalog>>>);

impl WeakCatalog {
    /// The catalog, while the server has it.
    pub fn upgrade(&self) -> Option<SharedCatalog> {
        self.0.upgrade().map(SharedCatalog)
    }
}
