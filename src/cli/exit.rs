//! How a command ends: one enum, one table of numbers, and the error that carries both code and tip.

use std::pin::Pin;
use std::time::Duration;

use super::there::THERE;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed in a way that none of the others names.
    Failed,
    /// The words were wrong.
    Usage,
    /// No connection, or lost, or TLS failed.
    Unreachable,
    /// Credentials or permission.
    Denied,
    /// Topic, queue, exchange, method, node, context.
    NotFound,
    /// Empty, or fewer than asked for.
    Nothing,
    /// Some were refused, some did not answer.
    Partly,
    /// An RPC answered with this gRPC status (1 to 16).
    Status(u8),
    /// `--timeout` passed.
    Timeout,
    /// `with` or `--` could not set up.
    SetUp,
    /// The command after `--` ended with this code; also 126 and 127 for one that could not be run.
    Command(u8),
    /// Ended by this signal.
    Signal(u8),
}

impl Exit {
    /// The word in JSON errors and in the table of `bandy help exit-codes`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Nothing => "nothing",
            Self::Partly => "partly",
            Self::Status(_) => "status",
            Self::Timeout => "timeout",
            Self::SetUp => "set_up",
            Self::Command(_) => "command",
            Self::Signal(_) => "signal",
        }
    }

    /// The process's exit code.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Denied => 4,
            Self::NotFound => 5,
            Self::Nothing => 6,
            Self::Partly => 7,
            Self::Status(code) => 64u8.saturating_add(code),
            Self::Timeout => 124,
            Self::SetUp => 125,
            Self::Command(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }
}

/// How long there was for something, in words: `within 3s`, or `at once`.
pub fn within(limit: Duration) -> String {
    if limit.is_zero() { "at once".to_owned() } else { format!("within {limit:?}") }
}

/// A failure with its exit code and, where there is one, a tip that fixes it when pasted.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One line: what, with the masked URL, and why.
    pub message: String,
    /// Lines of commands that fix it.
    pub tips: Vec<String>,
    /// A tip that takes a question to a server.
    pub later: Option<Later>,
}

/// Asks for a tip.
pub struct Later(pub Box<Ask>);

/// See [`Later`]. None if there is no tip.
pub type Ask = dyn FnOnce() -> Pin<Box<dyn Future<Output = Option<String>>>> + Send + Sync;

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}

impl Failure {
    /// A failure without a tip.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), tips: Vec::new(), later: None }
    }

    /// A file that cannot be read: of this machine, and so not one of the things that code 5 says are not found.
    pub fn unread(file: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot read {file}: {error}"))
    }

    /// `--timeout` has passed. One of 0 passes before anything can come.
    pub fn timed_out(limit: Duration) -> Self {
        let failure = Self::new(Exit::Timeout, format!("not finished {}", within(limit)));
        match limit.is_zero() {
            true => failure.tip("--timeout 0 leaves no time; without it a command takes as long as it needs"),
            false => failure,
        }
    }

    /// Adds a tip.
    #[must_use]
    pub fn tip(mut self, tip: impl Into<String>) -> Self {
        self.tips.push(tip.into());
        self
    }

    /// Adds a tip that ends with a command for the server that this one spoke to.
    #[must_use]
    pub fn there(self, command: impl std::fmt::Display) -> Self {
        self.tip(format!("{command}{THERE}"))
    }

    /// The same with what the command is for.
    #[must_use]
    pub fn there_for(self, command: impl std::fmt::Display, what: &str) -> Self {
        self.tip(format!("{command}{THERE}    {what}"))
    }

    /// Adds a tip that stands before the others, once it has been asked for.
    #[must_use]
    pub fn ask(mut self, later: impl Into<Option<Box<Ask>>>) -> Self {
        self.later = later.into().map(Later);
        self
    }
}
