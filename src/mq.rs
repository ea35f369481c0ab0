//! Message queues: AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! ```text
//! wire     bytes <-> frames, methods, properties, tables
//! ```

pub mod wire;
