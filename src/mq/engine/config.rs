//! What an engine is told at its start: limits, and which RabbitMQ to be like.

use super::clock::Millis;

/// Which RabbitMQ's behaviour to follow where versions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compat {
    /// As 3.13 with its permissive defaults.
    #[default]
    V3,
    /// As 4.x: `x-death` of publishers is not believed, `x-last-death-*` is written, quorum queues let a message come
    /// back 20 times, `basic.qos` with `global` counts per consumer, declaring a transient queue that is not
    /// exclusive is refused, the single active consumer is the one with the highest priority, an address for replies
    /// counts as a queue.
    V4,
}

/// Limits and choices of one virtual host.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which RabbitMQ to be like.
    pub compat: Compat,
    /// Whether durable queues have logs. Without, they last as long as the engine.
    pub durable: bool,
    /// Whether there are spill files: see [`super::Journal::Spill`].
    pub spills: bool,
    /// Bytes of a body.
    pub message_size_max: u64,
    /// How long a delivery may stay unacknowledged, in milliseconds, unless its queue says otherwise; for ever without.
    pub consumer_timeout_ms: Option<Millis>,
    /// Bytes of waiting messages in memory above which stored ones are kept on disk only.
    pub page_above: u64,
    /// Bytes of waiting messages in memory above which others are written to spill files.
    pub spill_above: u64,
    /// Bytes of deliveries that a connection is given before it has written any.
    pub credit: u32,
    /// Consumers a channel may have.
    pub consumers_max: usize,
    /// Queues there may be.
    pub queues_max: Option<usize>,
}

impl Config {
    /// As the RabbitMQ that the engine is to be like.
    pub fn like(compat: Compat) -> Self {
        // RabbitMQ's max_message_size, which its release notes for 4.0 made smaller.
        let message_size_max = match compat {
            Compat::V3 => 128 << 20,
            Compat::V4 => 16 << 20,
        };
        Self { compat, message_size_max, ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            compat: Compat::V3,
            durable: true,
            spills: true,
            // RabbitMQ 3.13's max_message_size.
            message_size_max: 128 * 1024 * 1024,
            // RabbitMQ's consumer_timeout.
            consumer_timeout_ms: Some(1_800_000),
            page_above: 64 * 1024 * 1024,
            spill_above: 512 * 1024 * 1024,
            credit: 1024 * 1024,
            consumers_max: 65_535,
            queues_max: None,
        }
    }
}
