//! What can go wrong between a client and its broker, in kinds that a command can turn into exit codes.

use std::sync::Arc;

use crate::mq::wire::{self, ReplyCode, TooLong, method};
use crate::transport;

/// Why a connection, a channel or a question failed.
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
    /// Nothing came for two heartbeats.
    #[error("the broker was silent for {0:?}")]
    Silent(std::time::Duration),
    /// Somebody accepts connections, and then says nothing.
    #[error("it accepts connections, but did not answer the first words of AMQP 0-9-1 within {0:?}")]
    Mute(std::time::Duration),
    /// No answer in time.
    #[error("no answer to {what} within {after:?}")]
    Timeout {
        /// The question.
        what: &'static str,
        /// The time given.
        after: std::time::Duration,
    },
    /// Something answered that is no AMQP 0-9-1 broker.
    #[error("{0}")]
    NotAmqp(String),
    /// The broker closed the connection during login, as brokers do that do not tell why.
    #[error("login of {user} was refused")]
    LoginRefused {
        /// Who wanted in.
        user: String,
    },
    /// The broker knows none of the ways in that were asked for.
    #[error("the broker offers {offered}, not {wanted}")]
    Mechanism {
        /// What it offers.
        offered: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The broker closed the channel.
    #[error("{text}{}", of_method(*class, *method))]
    Channel {
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
        /// The method to blame; 0 for none.
        class: u16,
        /// Its number.
        method: u16,
    },
    /// The broker closed the connection.
    #[error("{text}{}", of_method(*class, *method))]
    Connection {
        /// The reply code.
        code: u16,
        /// The broker's words.
        text: String,
        /// The method to blame; 0 for none.
        class: u16,
        /// Its number.
        method: u16,
    },
    /// The broker ended the deliveries: the queue is gone, most likely.
    #[error("the broker cancelled the consumer of queue '{queue}': it was deleted or moved")]
    Cancelled {
        /// The queue.
        queue: String,
    },
    /// The broker sent what cannot be decoded.
    #[error("the broker sent bad frames: {0}")]
    Wire(#[from] wire::Error),
    /// The broker sent what has no place here.
    #[error("the broker sent {0}, which has no place here")]
    Unexpected(&'static str),
    /// A name is too long for the protocol.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Headers and properties do not fit a frame: the protocol cannot cut them.
    #[error("properties of {size} bytes do not fit the broker's frames of {frame_max}")]
    Properties {
        /// What they take.
        size: usize,
        /// What was agreed on.
        frame_max: u32,
    },
    /// All channels that the broker allows are open.
    #[error("the broker allows {0} channels, and all are open")]
    Channels(u16),
    /// It was closed here.
    #[error("the connection is closed")]
    Closed,
}

/// What an error means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The broker cannot be reached, or was lost: trying again may help.
    Unreachable,
    /// Who asked may not do this.
    Denied,
    /// Queue, exchange or virtual host do not exist.
    NotFound,
    /// It exists, but not as asked for, or somebody else has it.
    Conflict,
    /// The broker does not take this: too large, not supported, out of resources.
    Refused,
    /// One of both sides does not keep to the protocol.
    Protocol,
    /// It was closed here.
    Closed,
}

impl Error {
    /// What it means.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable(_)
            | Self::Lost(_)
            | Self::Ended
            | Self::Silent(_)
            | Self::Mute(_)
            | Self::Timeout { .. } => ErrorKind::Unreachable,
            Self::LoginRefused { .. } | Self::Mechanism { .. } => ErrorKind::Denied,
            Self::Channel { code, text, .. } | Self::Connection { code, text, .. } => kind_of(*code, text),
            Self::Cancelled { .. } => ErrorKind::NotFound,
            Self::TooLong(_) | Self::Properties { .. } | Self::Channels(_) => ErrorKind::Refused,
            Self::NotAmqp(_) | Self::Wire(_) | Self::Unexpected(_) => ErrorKind::Protocol,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// True if another attempt may end better: the broker is away, restarts, or is not up yet.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.is_transient(),
            Self::Lost(_) | Self::Ended | Self::Silent(_) | Self::Mute(_) | Self::Timeout { .. } => true,
            Self::Connection { code, .. } | Self::Channel { code, .. } => {
                // 541 is what RabbitMQ says while a virtual host is starting.
                matches!(ReplyCode::of(*code), Some(ReplyCode::ConnectionForced | ReplyCode::InternalError))
            }
            Self::LoginRefused { .. }
            | Self::Mechanism { .. }
            | Self::Cancelled { .. }
            | Self::TooLong(_)
            | Self::Properties { .. }
            | Self::Channels(_)
            | Self::NotAmqp(_)
            | Self::Wire(_)
            | Self::Unexpected(_)
            | Self::Closed => false,
        }
    }

    /// The reply code, if the broker gave one.
    pub fn reply_code(&self) -> Option<u16> {
        match self {
            Self::Channel { code, .. } | Self::Connection { code, .. } => Some(*code),
            _ => None,
        }
    }
}

fn kind_of(code: u16, text: &str) -> ErrorKind {
    match ReplyCode::of(code) {
        Some(ReplyCode::AccessRefused) => ErrorKind::Denied,
        Some(ReplyCode::NotFound | ReplyCode::InvalidPath) => ErrorKind::NotFound,
        // RabbitMQ's one code for a virtual host that is not there, and for one that is not for this user.
        Some(ReplyCode::NotAllowed) if text.contains("not found") => ErrorKind::NotFound,
        Some(ReplyCode::NotAllowed) => ErrorKind::Denied,
        Some(ReplyCode::PreconditionFailed | ReplyCode::ResourceLocked) => ErrorKind::Conflict,
        Some(ReplyCode::ConnectionForced) => ErrorKind::Unreachable,
        Some(
            ReplyCode::ContentTooLarge
            | ReplyCode::NoRoute
            | ReplyCode::NoConsumers
            | ReplyCode::ResourceError
            | ReplyCode::NotImplemented
            | ReplyCode::InternalError,
        ) => ErrorKind::Refused,
        Some(
            ReplyCode::ReplySuccess
            | ReplyCode::FrameError
            | ReplyCode::SyntaxError
            | ReplyCode::CommandInvalid
            | ReplyCode::ChannelError
            | ReplyCode::UnexpectedFrame,
        )
        | None => ErrorKind::Protocol,
    }
}

/// The method to blame, as the end of a message; nothing if there is none.
fn of_method(class: u16, number: u16) -> String {
    method::name_of(class, number).map(|name| format!(" ({name})")).unwrap_or_default()
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
