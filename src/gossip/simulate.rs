//! Gossip in virtual time: the engine itself in many copies, and a model for a million nodes.
//!
//! ```text
//! queue     what is due when
//! network   engines, and the links between them: delay, loss, duplicates, partitions, crashes
//! model     who knows one piece of news, as bits: rounds of push, pull or both, with or without an end
//! papers    what has been published, to be compared with
//! ```
//!
//! Pure, as the engine: one seed, one outcome.

#[cfg(test)]
mod foretold;
mod model;
mod network;
mod papers;
mod queue;
#[cfg(test)]
mod tests;

pub use model::{Direction, Known, Model, Outcome, Round, Stop};
pub use network::{Fate, Happened, Links, Network, Sent, Totals, address_of, name_of};
pub use papers::{DEMERS, Published};
