//! Run a user's command: how it is written, a process that cannot outlive its purpose, and one per record.

mod jobs;
mod process;
mod program;
mod record;
mod retry;

pub use process::{KILL_AFTER, Prints, Process};
pub use program::Program;
pub use record::{Order, Reads, RecordCommand, Verdict, tells_of_a_record, variables};
pub use retry::Retries;
