//! How a call ended: code, message, details. The same in every protocol.

use bytes::Bytes;

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal, $connect:literal;)*) => {
        /// A gRPC status code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code { $(#[doc = $text] $name = $number,)* }

        impl Code {
            /// All seventeen, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name as gRPC writes it: `NOT_FOUND`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The name as Connect writes it: `not_found`.
            pub fn connect_name(self) -> &'static str {
                match self { $(Self::$name => $connect,)* }
            }
        }
    };
}

codes! {
    Ok = 0, "OK", "ok";
    Canceled = 1, "CANCELLED", "canceled";
    Unknown = 2, "UNKNOWN", "unknown";
    InvalidArgument = 3, "INVALID_ARGUMENT", "invalid_argument";
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED", "deadline_exceeded";
    NotFound = 5, "NOT_FOUND", "not_found";
    AlreadyExists = 6, "ALREADY_EXISTS", "already_exists";
    PermissionDenied = 7, "PERMISSION_DENIED", "permission_denied";
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED", "resource_exhausted";
    FailedPrecondition = 9, "FAILED_PRECONDITION", "failed_precondition";
    Aborted = 10, "ABORTED", "aborted";
    OutOfRange = 11, "OUT_OF_RANGE", "out_of_range";
    Unimplemented = 12, "UNIMPLEMENTED", "unimplemented";
    Internal = 13, "INTERNAL", "internal";
    Unavailable = 14, "UNAVAILABLE", "unavailable";
    DataLoss = 15, "DATA_LOSS", "data_loss";
    Unauthenticated = 16, "UNAUTHENTICATED", "unauthenticated";
}

impl Code {
    /// The code with that number; `None` over 16.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The code by either spelling, case-insensitive.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| {
            code.name().eq_ignore_ascii_case(name) || code.connect_name().eq_ignore_ascii_case(name)
        })
    }

    /// The code of a name as Connect writes it, exactly.
    pub fn from_connect_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.connect_name() == name)
    }

    /// The number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// One `google.protobuf.Any` of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Full name of the message type, without the `type.googleapis.com/` prefix.
    pub type_name: String,
    /// The encoded message.
    pub value: Bytes,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Status {
    /// The code.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// Typed details.
    pub details: Vec<Detail>,
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// Done.
    pub fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    /// True for `OK`.
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }
}
