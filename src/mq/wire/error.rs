//! What a decoder refuses, with the reply codes of AMQP 0-9-1 and RabbitMQ's words.

use std::fmt::{self, Write as _};

/// The longest short string, in bytes: its length is one byte.
pub const SHORT_SIZE_MAX: usize = 255;

/// How much of a payload an error shows, in bytes: RabbitMQ's `payload_snippet`.
const SNIPPET_SIZE: usize = 16;

/// A text that does not fit a short string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name of {length} bytes is over the limit of 255")]
pub struct TooLong {
    /// Its length in bytes.
    pub length: usize,
}

/// Checks at the edge that `text` fits a short string: encoders cut what is longer.
///
/// # Errors
/// It has more than 255 bytes.
pub fn short(text: &str) -> Result<&str, TooLong> {
    if text.len() > SHORT_SIZE_MAX { Err(TooLong { length: text.len() }) } else { Ok(text) }
}

/// Why a method, channel or connection ended: AMQP 0-9-1, 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs, reason = "the specification's own names, and the numbers it gives them")]
pub enum ReplyCode {
    ReplySuccess = 200,
    ContentTooLarge = 311,
    NoRoute = 312,
    NoConsumers = 313,
    ConnectionForced = 320,
    InvalidPath = 402,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl ReplyCode {
    const ALL: [Self; 19] = [
        Self::ReplySuccess,
        Self::ContentTooLarge,
        Self::NoRoute,
        Self::NoConsumers,
        Self::ConnectionForced,
        Self::InvalidPath,
        Self::AccessRefused,
        Self::NotFound,
        Self::ResourceLocked,
        Self::PreconditionFailed,
        Self::FrameError,
        Self::SyntaxError,
        Self::CommandInvalid,
        Self::ChannelError,
        Self::UnexpectedFrame,
        Self::ResourceError,
        Self::NotAllowed,
        Self::NotImplemented,
        Self::InternalError,
    ];

    /// The code with this number; none if the specification has no such code.
    pub fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The name with which a reply text begins: `NOT_FOUND`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplySuccess => "OK",
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::NoConsumers => "NO_CONSUMERS",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::InvalidPath => "INVALID_PATH",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// True if it ends the connection and not only the channel: the specification's "hard" errors.
    pub const fn closes_connection(self) -> bool {
        match self {
            Self::ConnectionForced
            | Self::InvalidPath
            | Self::FrameError
            | Self::SyntaxError
            | Self::CommandInvalid
            | Self::ChannelError
            | Self::UnexpectedFrame
            | Self::ResourceError
            | Self::NotAllowed
            | Self::NotImplemented
            | Self::InternalError => true,
            Self::ReplySuccess
            | Self::ContentTooLarge
            | Self::NoRoute
            | Self::NoConsumers
            | Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => false,
        }
    }

    /// The reply text of a close: `NOT_FOUND - no queue 'x' in vhost '/'`, cut to a short string as RabbitMQ does.
    pub fn reply_text(self, explanation: impl fmt::Display) -> String {
        let mut text = format!("{} - {explanation}", self.name());
        if text.len() > SHORT_SIZE_MAX {
            let cut = (0..=SHORT_SIZE_MAX - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
            text.push_str("...");
        }
        text
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are refused. Every one of these ends the connection; nothing after it can be decoded.
///
/// The text is the explanation, in RabbitMQ's words where it has some; [`Error::reply_text`] adds the code's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Announced larger than agreed; refused by its header.
    #[error("type {kind}, all octets = <<>>: {{frame_too_large,{size},{size_max}}}")]
    FrameTooLarge {
        /// The frame's type.
        kind: u8,
        /// The payload announced, in bytes.
        size: u32,
        /// The payload allowed, in bytes.
        size_max: u32,
    },
    /// The byte after the payload is not 0xCE.
    #[error("type {kind}, {}: {{invalid_frame_end_marker,{end}}}", Snippet(payload))]
    FrameEnd {
        /// The frame's type.
        kind: u8,
        /// The start of the payload.
        payload: Vec<u8>,
        /// What stood there.
        end: u8,
    },
    /// A type that does not exist, or a payload too short for its type.
    #[error("type {kind}, {}: unknown_frame", Snippet(payload))]
    UnknownFrame {
        /// The frame's type.
        kind: u8,
        /// The start of the payload.
        payload: Vec<u8>,
    },
    /// A heartbeat outside channel 0, or content on it.
    #[error("type {kind}, {}", Snippet(payload))]
    WrongChannel {
        /// The frame's type.
        kind: u8,
        /// The start of the payload.
        payload: Vec<u8>,
    },
    /// A header or body without a method before it.
    #[error("expected method frame, got non method frame instead")]
    ExpectedMethod,
    /// Something else where the header of a content belongs.
    #[error("expected content header for class {class}, got non content header frame instead")]
    ExpectedHeader {
        /// The method's class.
        class: u16,
        /// The method.
        method: u16,
    },
    /// The header belongs to another class than the method.
    #[error("expected content header for class {class}, got one for class {got} instead")]
    HeaderClass {
        /// The method's class.
        class: u16,
        /// The method.
        method: u16,
        /// The header's class.
        got: u16,
    },
    /// Something else where a part of the body belongs.
    #[error("expected content body, got non content body frame instead")]
    ExpectedBody {
        /// The method's class.
        class: u16,
        /// The method.
        method: u16,
    },
    /// The header announces more than anybody may send.
    #[error("content body size {size} exceeds maximum allowed size {size_max}")]
    BodyTooLarge {
        /// The method's class.
        class: u16,
        /// The method.
        method: u16,
        /// The body announced, in bytes.
        size: u64,
        /// [`BODY_SIZE_MAX`](super::BODY_SIZE_MAX).
        size_max: u64,
    },
    /// More body than the header announced.
    #[error("content body frame exceeds remaining content size")]
    BodyOverrun {
        /// The method's class.
        class: u16,
        /// The method.
        method: u16,
    },
    /// A class or method that does not exist.
    #[error("unknown method {class}.{method}")]
    UnknownMethod {
        /// Its class.
        class: u16,
        /// Its number.
        method: u16,
    },
    /// The arguments are too short or too long for the method.
    #[error("cannot decode {}", Octets(arguments))]
    Arguments {
        /// The method's class.
        class: u16,
        /// The method.
        method: u16,
        /// The start of the arguments, enough for a reply text.
        arguments: Vec<u8>,
    },
    /// A short string of a method that has no content is not UTF-8.
    #[error("Malformed UTF-8 in shortstr")]
    Utf8,
    /// A field table or array that cannot be read.
    #[error("malformed field table: {0}")]
    Table(#[from] TableError),
    /// Message properties that cannot be read.
    #[error("malformed message properties")]
    Properties,
}

/// What is wrong with a field table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It ends within a name or a value.
    #[error("cut off")]
    Cut,
    /// A type that does not exist.
    #[error("unknown type {0}")]
    Type(u8),
    /// Deeper than [`TABLE_DEPTH_MAX`](super::TABLE_DEPTH_MAX).
    #[error("nested deeper than {} levels", super::TABLE_DEPTH_MAX)]
    Depth,
}

impl Error {
    /// The start of a payload that an error keeps.
    pub(super) fn snippet(payload: &[u8]) -> Vec<u8> {
        // One byte more than is shown tells that there was more.
        payload.iter().take(SNIPPET_SIZE + 1).copied().collect()
    }

    /// The reply code of the close.
    pub fn code(&self) -> ReplyCode {
        match self {
            Self::FrameTooLarge { .. }
            | Self::FrameEnd { .. }
            | Self::UnknownFrame { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyOverrun { .. }
            | Self::Arguments { .. }
            | Self::Utf8 => ReplyCode::FrameError,
            Self::WrongChannel { .. }
            | Self::ExpectedMethod
            | Self::ExpectedHeader { .. }
            | Self::HeaderClass { .. }
            | Self::ExpectedBody { .. } => ReplyCode::UnexpectedFrame,
            // AMQP 0-9-1, 1.2: 502 is for illegal values of fields, 503 for what cannot be asked for.
            Self::Table(_) | Self::Properties => ReplyCode::SyntaxError,
            Self::UnknownMethod { .. } => ReplyCode::CommandInvalid,
        }
    }

    /// Class and method that the close names; zeros where no method is to blame.
    pub fn failing_method(&self) -> (u16, u16) {
        match *self {
            Self::ExpectedHeader { class, method }
            | Self::HeaderClass { class, method, .. }
            | Self::ExpectedBody { class, method }
            | Self::BodyTooLarge { class, method, .. }
            | Self::BodyOverrun { class, method }
            | Self::UnknownMethod { class, method }
            | Self::Arguments { class, method, .. } => (class, method),
            Self::FrameTooLarge { .. }
            | Self::FrameEnd { .. }
            | Self::UnknownFrame { .. }
            | Self::WrongChannel { .. }
            | Self::ExpectedMethod
            | Self::Utf8
            | Self::Table(_)
            | Self::Properties => (0, 0),
        }
    }

    /// The reply text of the `connection.close`.
    pub fn reply_text(&self) -> String {
        self.code().reply_text(self)
    }
}

/// `all octets = <<1,2>>` or `first 16 octets = <<"text">>`.
struct Snippet<'a>(&'a [u8]);

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, shown) = match self.0.get(..SNIPPET_SIZE) {
            Some(first) if self.0.len() > SNIPPET_SIZE => ("first 16", first),
            Some(_) | None => ("all", self.0),
        };
        let printable =
            !shown.is_empty() && shown.iter().all(|byte| matches!(byte, b' '..=b'~' | 8..=13 | 27));
        if !printable {
            return write!(f, "{words} octets = {}", Octets(shown));
        }
        write!(f, "{words} octets = <<\"")?;
        for byte in shown {
            match byte {
                8 => f.write_str("\\b")?,
                9 => f.write_str("\\t")?,
                10 => f.write_str("\\n")?,
                11 => f.write_str("\\v")?,
                12 => f.write_str("\\f")?,
                13 => f.write_str("\\r")?,
                27 => f.write_str("\\e")?,
                b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                _ => f.write_char(char::from(*byte))?,
            }
        }
        f.write_str("\">>")
    }
}

/// Bytes as Erlang prints them with `~w`: `<<0,1,2>>`.
struct Octets<'a>(&'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<<")?;
        for (at, byte) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(',')?;
            }
            write!(f, "{byte}")?;
        }
        f.write_str(">>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_rabbitmq() {
        // tests/golden/amqp/rabbitmq-3.10.8.txt
        for (error, expected) in [
            (
                Error::FrameTooLarge { kind: 3, size: 200_000, size_max: 131_064 },
                "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,200000,131064}",
            ),
            (
                Error::FrameEnd { kind: 8, payload: Vec::new(), end: 205 },
                "FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,205}",
            ),
            (
                Error::UnknownFrame { kind: 9, payload: Vec::new() },
                "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame",
            ),
            (
                Error::WrongChannel { kind: 8, payload: Vec::new() },
                "UNEXPECTED_FRAME - type 8, all octets = <<>>",
            ),
            (
                Error::Arguments { class: 50, method: 10, arguments: vec![0, 0] },
                "FRAME_ERROR - cannot decode <<0,0>>",
            ),
            (
                Error::UnknownFrame { kind: 2, payload: b"say \"hi\"\n".to_vec() },
                "FRAME_ERROR - type 2, all octets = <<\"say \\\"hi\\\"\\n\">>: unknown_frame",
            ),
            (
                Error::WrongChannel { kind: 3, payload: Error::snippet(&[7; 40]) },
                "UNEXPECTED_FRAME - type 3, first 16 octets = <<7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7>>",
            ),
        ] {
            assert_eq!(error.reply_text(), expected);
        }
    }

    #[test]
    fn reply_texts_fit_a_short_string() {
        let text = ReplyCode::NotFound.reply_text("é".repeat(200));
        assert!(text.len() <= 255 && text.ends_with("..."), "{text}");
        let long = Error::Arguments { class: 1, method: 1, arguments: vec![255; 300] };
        assert_eq!(long.reply_text().len(), 255);
    }

    #[test]
    fn codes_have_their_numbers() {
        for code in ReplyCode::ALL {
            assert_eq!(ReplyCode::of(code.number()), Some(code));
        }
        assert_eq!(ReplyCode::of(500), None);
        assert!(ReplyCode::NotAllowed.closes_connection() && !ReplyCode::NotFound.closes_connection());
    }
}
