//! What answers calls: commands, workers, static replies, echo, built-in demo services, and fault injection.
//!
//! All of them are [`Backend`](super::Backend)s. The contract with commands and workers is written
//! down for users in `docs/handlers.md`.

mod command;
mod contract;
pub mod demo;
mod directory;
mod fixed;
mod inject;
pub mod lines;
mod offer;
mod pipes;
#[cfg(test)]
mod testing;
pub mod worker;

pub use command::Command;
pub use contract::{Control, Dialect, Host, HostError, Limits};
pub use fixed::{Echo, Fixed};
pub use inject::Faults;
pub use offer::{Answer, Named, Offer, OfferError, Offered, Rest};
pub use worker::Workers;
