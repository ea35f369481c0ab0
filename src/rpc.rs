//! Call a function somewhere else: gRPC, gRPC-Web, Connect, JSON-RPC and the compact protocol.
//!
//! Protocols stand on one side of a seam, what answers calls on the other:
//!
//! ```text
//! server (bytes <-> Call, Reply)  ->  backend: command, worker, static, echo, demo, reflection, health
//! client (Call options)           ->  the same wire, the other way round
//! ```

pub mod backend;
pub mod budget;
pub mod catalog;
pub mod client;
pub mod compact;
pub mod handler;
pub mod health;
pub mod jsonrpc;
pub mod metrics;
pub mod reflection;
pub mod registry;
pub mod schema;
pub mod server;
pub mod stats;
pub mod status;
#[cfg(test)]
mod testing;
pub mod wire;

pub use backend::{Backend, Body, Call, Event, Format, Payload, Reply, Requests};
pub use catalog::{Catalog, Kind, Method, Route};
pub use metrics::Metrics;
pub use schema::Schema;
pub use status::{Code, Status};
