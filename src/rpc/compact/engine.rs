//! Calls over datagrams that get lost, doubled and overtaken: both sides, without sockets or clocks.
//!
//! [`Replier`] executes each call at most once, [`Caller`] asks until it has the reply.
//! Contract of both: `handle(now, input, outputs)`, and `deadline()` says when to send `Tick` next.

mod caller;
mod replier;

pub use caller::{Caller, CallerInput, CallerLimits, CallerOutput, NewCall, Unanswered};
pub use replier::{Replier, ReplierInput, ReplierLimits, ReplierOutput};

/// Calls of a session that may be in the air: the numbers from `oldest` up to this many more.
pub const CALLS_IN_AIR_MAX: u64 = 1024;
/// Where random numbers come from.
pub type Random = Box<dyn FnMut() -> u64 + Send>;
/// Greetings are padded to this size: a server answers none that is shorter than its answer.
pub const GREETING_SIZE: usize = 256;
