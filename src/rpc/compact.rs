//! The compact protocol: calls by integer Call ID in protobuf frames, over streams and datagrams.
//!
//! Specified in docs/compact.md, so that others can implement it. Over a stream there are all kinds of
//! calls with flow control; over UDP there are unary calls, which are executed at most once.

mod call;
pub mod client;
#[cfg(test)]
mod end_to_end;
pub mod engine;
mod flow;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod wire;

pub use call::Limits;
