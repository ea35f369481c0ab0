//! Errors as clients see them: reply code, RabbitMQ's text, and whether the channel or the whole connection ends.

use std::fmt;

use crate::mq::wire::{self, ReplyCode};

use super::message::ExpirationFault;

/// Why a method was refused. The code decides what is closed (AMQP 0-9-1, 1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The AMQP reply code.
    pub code: ReplyCode,
    /// The reply text, with the name of the code in front, at most 255 bytes.
    pub text: String,
}

macro_rules! faults {
    ($($name:ident $code:ident),* $(,)?) => {
        impl Fault {$(
            #[cold]
            pub(crate) fn $name(text: impl fmt::Display) -> Self {
                Self { code: ReplyCode::$code, text: ReplyCode::$code.reply_text(text) }
            }
        )*}
    };
}

faults! {
    access_refused AccessRefused,
    not_found NotFound,
    resource_locked ResourceLocked,
    precondition_failed PreconditionFailed,
    command_invalid CommandInvalid,
    channel_error ChannelError,
    not_allowed NotAllowed,
    not_implemented NotImplemented,
    internal_error InternalError,
}

impl From<wire::Error> for Fault {
    fn from(error: wire::Error) -> Self {
        Self { code: error.code(), text: error.reply_text() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for ExpirationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInteger => f.write_str("no_integer"),
            Self::Leftover(rest) => write!(f, "{{leftover_string,\"{rest}\"}}"),
            Self::Negative(value) => write!(f, "{{value_negative,{value}}}"),
            Self::TooLarge(value) => write!(f, "{{value_too_large,{value}}}"),
        }
    }
}
