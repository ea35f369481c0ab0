//! A catalog of given methods over the well-known types, for unit tests.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::backend::{Backend, Call, Peer, Reply, Requests};
use super::budget::{Budget, Share};
use super::catalog::{Catalog, Kind, Method, Route, method_id};
use super::jsonrpc::Origin;
use super::schema::Schema;
use super::status::{Code, Status};

/// A function as a backend.
pub struct Function<F>(pub F);

impl<F> Backend for Function<F>
where
    F: Fn(Call) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        (self.0)(call)
    }
}

/// Replies to the first request with the request.
pub fn echo() -> Arc<dyn Backend> {
    use futures_util::StreamExt as _;
    Arc::new(Function(|call: Call| -> BoxFuture<'static, Reply> {
        Box::pin(async move {
            match call.requests {
                Requests::One(payload) => Reply::one(payload),
                Requests::Stream(mut stream) => match stream.next().await {
                    Some(Ok(payload)) => Reply::one(payload),
                    Some(Err(status)) => Reply::failed(status),
                    None => Reply::failed(Status::new(Code::InvalidArgument, "no message")),
                },
            }
        })
    }))
}

/// A connection that may hold as much as it wants.
pub fn share() -> Arc<Share> {
    Budget::new(usize::MAX, usize::MAX).share()
}

/// Where documents of [`peer`] come from.
pub fn origin() -> Origin {
    Origin::new(peer(), share())
}

/// Methods that take and return the same type, all answered by `backend`.
pub fn catalog(methods: &[(&str, &str, Kind)], backend: &Arc<dyn Backend>) -> Catalog {
    let mut compiler = protox::Compiler::with_file_resolver(protox::file::GoogleFileResolver::new());
    compiler.include_imports(true);
    for file in ["descriptor", "wrappers", "struct", "timestamp", "empty"] {
        compiler.open_file(format!("google/protobuf/{file}.proto")).unwrap();
    }
    let schema = Schema::from_descriptor_set(&compiler.encode_file_descriptor_set()).unwrap();
    let mut catalog = Catalog::new(Arc::new(schema));
    for (path, type_name, kind) in methods {
        let message = catalog.schema().message(type_name).unwrap();
        let method = Method {
            path: (*path).to_owned(),
            id: method_id(path),
            kind: *kind,
            no_side_effects: false,
            input: message.clone(),
            output: message,
        };
        catalog.insert(Route { method: Arc::new(method), backend: Arc::clone(backend) }).unwrap();
    }
    catalog
}

/// A caller on this machine.
pub fn peer() -> Arc<Peer> {
    Arc::new(Peer { address: "127.0.0.1:1".to_owned(), tls_subject: None })
}
