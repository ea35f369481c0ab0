//! Gossip: who is alive, and what they have to say; the protocol of Serf and memberlist.
//!
//! ```text
//! wire     bytes <-> packets, streams, messages
//! engine   (now, input) -> outputs: membership, probes, suspicion, broadcasts, events, queries: decides
//! agent    sockets, clock, snapshot: a live node around the engine
//! ```

pub mod engine;
pub mod simulate;
pub mod wire;
