//! The partitioned log: the Kafka protocol.
//!
//! ```text
//! wire     bytes <-> requests, responses, record batches
//! engine   (now, input) -> outputs: groups, transactions, partitions: decides
//! server   sockets, storage, clock: the broker around the engine
//! client   connections, metadata, producers, consumers, administration
//! ```

pub mod batch;
pub mod client;
pub mod dump;
pub mod engine;
pub mod schema;
pub mod server;
pub mod wire;
