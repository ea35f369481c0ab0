//! Gossip: who is alive, and what they have to say; the protocol of Serf and memberlist.
//!
//! ```text
//! wire      bytes <-> packets, streams, messages
//! engine    (now, input) -> outputs: membership, probes, suspicion, broadcasts, events, queries: decides
//! agent     sockets, clock, snapshot: a live node around the engine
//! client    commands that ask a node, ours or a real agent
//! simulate  many engines in virtual time
//! ```

pub mod agent;
pub mod client;
pub mod engine;
pub mod simulate;
pub mod wire;
