//! What can go wrong between a client and its cluster, in kinds that a command can turn into exit codes.

use std::sync::Arc;
use std::time::Duration;

use crate::log::batch;
use crate::log::wire::{self, ApiKey, ErrorCode};
use crate::transport;

/// Why a connection or a question failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no connection to be had.
    #[error(transparent)]
    Unreachable(Arc<transport::Error>),
    /// The connection ended, or failed.
    #[error("the connection to the broker was lost: {0}")]
    Lost(Arc<std::io::Error>),
    /// The broker closed the connection without a word.
    #[error("the broker closed the connection")]
    Ended,
    /// No answer in time.
    #[error("no answer to {what} within {after:?}")]
    Timeout {
        /// The question.
        what: &'static str,
        /// The time given.
        after: Duration,
    },
    /// What is known of the cluster has no leader, coordinator or controller to ask.
    #[error("{0}")]
    NotReady(String),
    /// The broker refuses.
    #[error("{}{}{}", .about.as_ref().map(|about| format!("{about}: ")).unwrap_or_default(), code, .said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        api: ApiKey,
        /// Why.
        code: ErrorCode,
        /// The broker's words, if it has any.
        said: Option<String>,
        /// What it is about, where neither the question nor the words tell.
        about: Option<String>,
    },
    /// There is no such topic.
    #[error("no topic '{0}'")]
    NoTopic(String),
    /// The topic has fewer partitions.
    #[error("topic '{topic}' has {count} partition{}, and no partition {partition}", if *.count == 1 { "" } else { "s" })]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// The broker knows no version of a request that is known here.
    #[error("the broker does not offer {api} in a version of {min} to {max}")]
    Unsupported {
        /// The request.
        api: ApiKey,
        /// Oldest version known here.
        min: i16,
        /// Newest version known here.
        max: i16,
    },
    /// The broker knows none of the ways in that were asked for.
    #[error("the broker offers {offered}, not {wanted}")]
    Mechanism {
        /// What it offers.
        offered: String,
        /// What was asked for.
        wanted: String,
    },
    /// The broker lets nobody in who does not log in.
    #[error("the broker wants a login")]
    LoginWanted,
    /// The broker does not let the user in.
    #[error("login of {user} was refused")]
    LoginRefused {
        /// Who wanted in.
        user: String,
        /// The broker's words, if it has any.
        said: Option<String>,
    },
    /// The broker does not keep to SCRAM, or does not know the password.
    #[error(transparent)]
    Scram(#[from] super::scram::Broken),
    /// The answer is no answer.
    #[error("the broker sent what cannot be read: {0}")]
    Wire(#[from] wire::Error),
    /// Records that cannot be read.
    #[error("{topic} partition {partition} at offset {offset}: {error}")]
    Batch {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where the batch begins, or was to begin.
        offset: i64,
        /// What is wrong.
        error: Arc<batch::Error>,
    },
    /// An answer that is larger than anything that was asked for.
    #[error("the broker announced an answer of {length} bytes, over the limit of {limit}")]
    TooLong {
        /// What it announced.
        length: i64,
        /// What is allowed.
        limit: usize,
    },
    /// The answer to another question.
    #[error("the broker answered out of turn: this is not a Kafka broker, or something between is broken")]
    OutOfTurn,
    /// It was closed here.
    #[error("the connection is closed")]
    Closed,
}

/// What an error means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The cluster cannot be reached, or was lost: trying again may help.
    Unreachable,
    /// Who asked may not do this.
    Denied,
    /// Topic, partition or group do not exist.
    NotFound,
    /// The broker does not take this.
    Refused,
    /// One of both sides does not keep to the protocol.
    Protocol,
    /// It was closed here.
    Closed,
}

impl Error {
    /// Whether there was nobody to say anything.
    pub(super) fn is_absence(&self) -> bool {
        use transport::Error::{Connect, Resolve, Timeout};
        matches!(self, Self::Unreachable(error) if matches!(**error, Connect { .. } | Resolve { .. } | Timeout { .. }))
    }

    /// The broker refuses `api` with a code.
    pub(super) fn refused(api: ApiKey, code: ErrorCode, said: Option<String>) -> Self {
        let said = said.filter(|said| !said.is_empty());
        Self::Refused { api, code, said, about: None }
    }

    /// The broker refuses `api` with a code that says not about what it is.
    pub(super) fn refused_about(api: ApiKey, code: ErrorCode, what: String) -> Self {
        Self::Refused { api, code, said: None, about: Some(what) }
    }

    /// `Ok` if there is no error code.
    pub(super) fn check(api: ApiKey, code: ErrorCode) -> Result<(), Self> {
        if code.is_ok() { Ok(()) } else { Err(Self::refused(api, code, None)) }
    }

    /// The broker's code, if it gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What it means.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::Ended | Self::Timeout { .. } | Self::NotReady(_) => {
                ErrorKind::Unreachable
            }
            Self::LoginWanted | Self::LoginRefused { .. } | Self::Mechanism { .. } | Self::Scram(_) => {
                ErrorKind::Denied
            }
            Self::NoTopic(_) | Self::NoPartition { .. } => ErrorKind::NotFound,
            Self::Refused { code, .. } => kind_of(*code),
            Self::Unsupported { .. } => ErrorKind::Refused,
            Self::Wire(_) | Self::Batch { .. } | Self::TooLong { .. } | Self::OutOfTurn => {
                ErrorKind::Protocol
            }
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// True if nothing was heard of whoever was asked.
    pub(super) fn is_about_connection(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::Ended | Self::Timeout { .. } | Self::Closed => true,
            Self::NotReady(_)
            | Self::Refused { .. }
            | Self::NoTopic(_)
            | Self::NoPartition { .. }
            | Self::Unsupported { .. }
            | Self::Mechanism { .. }
            | Self::LoginWanted
            | Self::LoginRefused { .. }
            | Self::Scram(_)
            | Self::Wire(_)
            | Self::Batch { .. }
            | Self::TooLong { .. }
            | Self::OutOfTurn => false,
        }
    }

    /// True if another attempt may end better: the broker is away, restarts, or leads no more.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.is_transient(),
            Self::NotReady(_) => true,
            Self::Refused { code, .. } => code.is_retriable(),
            other => other.is_about_connection(),
        }
    }
}

fn kind_of(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED
        | ErrorCode::SASL_AUTHENTICATION_FAILED => ErrorKind::Denied,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::GROUP_ID_NOT_FOUND
        | ErrorCode::TRANSACTIONAL_ID_NOT_FOUND
        | ErrorCode::RESOURCE_NOT_FOUND => ErrorKind::NotFound,
        ErrorCode::KAFKA_STORAGE_ERROR => ErrorKind::Refused,
        code if code.is_retriable() => ErrorKind::Unreachable,
        _ => ErrorKind::Refused,
    }
}

impl From<transport::Error> for Error {
    fn from(error: transport::Error) -> Self {
        Self::Unreachable(Arc::new(error))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Ended,
            _ => Self::Lost(Arc::new(error)),
        }
    }
}
