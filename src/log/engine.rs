//! What the broker decides: values in, values out; no socket, no disk, no clock.
//!
//! ```text
//! group        members, generations, assignments, committed offsets
//! transaction  who may write under a transactional id, how transactions end
//! access       who may do what
//! producer     idempotent producers of one partition: what was sent twice, what is missing
//! ```

pub mod access;
pub mod group;
pub mod producer;
pub mod transaction;

use std::time::Instant;

/// When something happens: on the clock that only rises, for deadlines, and in ms since 1970, for what is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For what is written down; it may jump.
    pub unix_ms: i64,
}
