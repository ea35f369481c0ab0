//! Message queues: AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! ```text
//! wire     bytes <-> frames, methods, properties, tables
//! engine   (now, method) -> deliveries, replies, operations to store: decides
//! client   connections, publishers, consumers
//! durable  the engine's operations and definitions on disk, and back at the start
//! load     producers and consumers that put a broker under load
//! server   sockets, SASL, limits: the broker around the engine
//! ```

pub mod client;
pub mod durable;
pub mod engine;
pub mod load;
pub mod server;
pub mod wire;
