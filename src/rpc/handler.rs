//! What answers calls: commands, workers, static replies, echo, built-in demo services, and fault injection.
//!
//! All of them are [`Backend`](super::Backend)s. The contract with commands and workers is written
//! down for users in `docs/handlers.md`.

mod command;
mod contract;
pub mod demo;
mod fixed;
mod inject;
mod lines;
mod pipes;
#[cfg(test)]
mod testing;

pub use command::Command;
pub use contract::{Dialect, Host, HostError, Limits};
pub use fixed::{Echo, Fixed};
pub use inject::Faults;
