//! Load on any AMQP 0-9-1 broker: producers and consumers that cost little beside it.
//!
//! ```text
//! Producer  messages prepared once, a time stamped into each, many to a write; confirms read meanwhile
//! Consumer  deliveries decoded where they were read, acknowledged in bulk
//! Shared    what both count, and when it is over
//! ```
//!
//! A message carries the time at which it was sent, or was meant to be, so that its latency is known end to end.
//! Nothing here starts a thread or a task: whoever drives it does, a few connections to each.

mod consumer;
mod producer;
mod shared;
#[cfg(test)]
mod tests;

pub use consumer::{Acks, Consumer};
pub use producer::{Message, Pace, Producer, paced};
pub use shared::{Clock, Shared};

/// The smallest body, in bytes: the time stands in it.
pub const BODY_SIZE_MIN: usize = 8;
