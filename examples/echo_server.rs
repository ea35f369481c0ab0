//! A gRPC, gRPC-Web, Connect and JSON-RPC server of one method in a few lines, without any code generation.
//!
//! ```text
//! cargo run --release --example echo_server 127.0.0.1:8080
//! curl -d '{"text":"hello"}' -H 'content-type: application/json' 127.0.0.1:8080/echo.Echo/Unary
//! ```

use std::sync::Arc;

use bandy::rpc::backend::{Backend, Call, Peer, Reply, Requests};
use bandy::rpc::catalog::{Catalog, Route, SharedCatalog};
use bandy::rpc::schema::Input;
use bandy::rpc::server::{Options, Server};
use bandy::rpc::{Code, Schema, Status};
use bandy::shutdown::Shutdown;
use bandy::transport::{Acceptor, Address, Listener};
use futures_util::future::BoxFuture;

const PROTO: &str = r#"
    syntax = "proto3";
    package echo;
    service Echo { rpc Unary(Message) returns (Message); }
    message Message { string text = 1; }
"#;

struct Echo;

impl Backend for Echo {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        Box::pin(async move {
            match call.requests {
                Requests::One(message) => Reply::one(message),
                Requests::Stream(_) => Reply::failed(Status::new(Code::Internal, "expected one message")),
            }
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address: Address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned()).parse()?;
    let input = Input::Text { name: "echo.proto".to_owned(), text: PROTO.to_owned() };
    let schema = Arc::new(Schema::compile_inputs(&[input], &[])?);
    let mut catalog = Catalog::new(Arc::clone(&schema));
    for method in schema.methods() {
        catalog.insert(Route { method: Arc::new(method), backend: Arc::new(Echo) })?;
    }
    let shutdown = Shutdown::new();
    let server = Server::new(SharedCatalog::new(catalog), Options::default(), shutdown.clone());
    let listener = Listener::bind(&address).await?;
    Acceptor::default()
        .run(listener, shutdown, move |stream| {
            let server = Arc::clone(&server);
            async move {
                let peer = Arc::new(Peer { address: stream.peer(), tls_subject: None });
                server.serve_connection(stream, peer).await;
            }
        })
        .await;
    Ok(())
}
