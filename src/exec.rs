//! Run a user's command: how it is written, and a process that cannot outlive its purpose.

mod process;
mod program;

pub use process::{KILL_AFTER, Process};
pub use program::Program;
