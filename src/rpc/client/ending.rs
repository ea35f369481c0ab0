//! How a call ended, and who says so.

use http::{HeaderMap, StatusCode};

use super::connection::OpenError;
use super::exchange::HttpError;
use crate::rpc::wire::status::code_of_http;
use crate::rpc::{Code, Status};
use crate::transport::{self, tls};

/// Who decided how a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server answered with this status.
    Answered,
    /// There is no connection, or it was lost.
    Unreachable,
    /// The deadline passed here before an answer came.
    Deadline,
    /// The caller gave up.
    GivenUp,
    /// The answer breaks the rules of the protocol.
    Malformed,
    /// The answer comes from something that is no RPC server: a proxy, a web site.
    Foreign(StatusCode),
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The status, whoever decided it.
    pub status: Status,
    /// Trailing metadata.
    pub trailers: HeaderMap,
    /// Who decided it.
    pub cause: Cause,
    /// True if the server certainly did not work on the call: sending it again is safe.
    pub untouched: bool,
    /// What was wrong in the TLS handshake, if that is why there is no connection.
    pub tls: Option<tls::Fault>,
    /// True if there is no connection because the host's name leads to no address.
    pub unresolved: bool,
    /// True if there was a connection all the same.
    pub(super) refused: bool,
}

impl Ending {
    /// True if there was a connection, but the server refused the stream without looking at it.
    pub(crate) fn was_refused(&self) -> bool {
        self.untouched && self.refused
    }

    /// The server's own status.
    pub(crate) fn answered(status: Status, trailers: HeaderMap) -> Self {
        Self { trailers, ..Self::decided(status, Cause::Answered) }
    }

    /// Decided here, not by the server.
    pub(crate) fn here(code: Code, message: impl Into<String>, cause: Cause) -> Self {
        Self::decided(Status::new(code, message), cause)
    }

    fn decided(status: Status, cause: Cause) -> Self {
        Self {
            status,
            trailers: HeaderMap::new(),
            cause,
            untouched: false,
            tls: None,
            unresolved: false,
            refused: false,
        }
    }

    /// The caller gave up.
    pub fn given_up(status: Status) -> Self {
        Self::decided(status, Cause::GivenUp)
    }

    /// The deadline passed here.
    pub(crate) fn deadline() -> Self {
        Self::here(Code::DeadlineExceeded, "no answer before the deadline", Cause::Deadline)
    }

    /// The answer breaks the rules.
    pub(crate) fn malformed(code: Code, message: impl Into<String>) -> Self {
        Self::here(code, message, Cause::Malformed)
    }

    /// An HTTP response that is no answer to a call.
    pub(crate) fn foreign(http: StatusCode, content_type: Option<&str>, expected: &str) -> Self {
        let content = content_type.map_or_else(|| "no content type".to_owned(), |it| format!("{it:?}"));
        let (code, message) = if http.is_success() {
            (Code::Unknown, format!("answered with {content} instead of {expected}"))
        } else {
            (code_of_http(http), format!("answered HTTP {http} with {content}, not a call's status"))
        };
        Self::here(code, message, Cause::Foreign(http))
    }

    /// There was no exchange.
    pub(crate) fn not_opened(error: &OpenError) -> Self {
        match error {
            OpenError::Transport(error) => Self::unreachable(error),
            OpenError::Http(error) => Self::broken(error),
        }
    }

    /// There is no connection.
    pub(crate) fn unreachable(error: &transport::Error) -> Self {
        let message = match error {
            // Who tells a person says where.
            transport::Error::Connect { source, .. } => return Self::nobody(source),
            other => other.to_string(),
        };
        let fault = match error {
            transport::Error::Tls { source, .. } => tls::fault(source),
            _ => None,
        };
        let unresolved = matches!(error, transport::Error::Resolve { .. });
        let ending = Self::here(Code::Unavailable, message, Cause::Unreachable);
        Self { untouched: true, tls: fault, unresolved, ..ending }
    }

    /// Nobody listens there.
    pub(crate) fn nobody(error: &std::io::Error) -> Self {
        Self { untouched: true, ..Self::here(Code::Unavailable, words(error), Cause::Unreachable) }
    }

    /// There is nobody to call, for that reason.
    pub fn absent(why: impl Into<String>) -> Self {
        Self { untouched: true, ..Self::here(Code::Unavailable, why, Cause::Unreachable) }
    }

    /// The exchange broke.
    pub(crate) fn broken(error: &HttpError) -> Self {
        match error {
            HttpError::Refused => Self {
                untouched: true,
                refused: true,
                ..Self::here(Code::Unavailable, error.to_string(), Cause::Unreachable)
            },
            HttpError::Reset(reason) => {
                Self::here(code_of_reset(*reason), error.to_string(), Cause::Answered)
            }
            HttpError::Lost(_) | HttpError::Other(_) => {
                Self::here(Code::Unavailable, error.to_string(), Cause::Unreachable)
            }
            HttpError::Malformed(_) => Self::malformed(Code::Internal, error.to_string()),
        }
    }
}

/// The operating system's words without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The code of a stream that was reset without a status.
fn code_of_reset(reason: h2::Reason) -> Code {
    // gRPC over HTTP/2, "Errors".
    match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Canceled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    }
}
