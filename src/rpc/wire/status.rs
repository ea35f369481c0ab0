//! Statuses on the wire: gRPC trailers, `google.rpc.Status`, and the HTTP mapping.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};
use prost::Message;

use super::metadata::{decode_binary, encode_binary};
use crate::rpc::status::Detail;
use crate::rpc::{Code, Status};

/// gRPC: the number of the code.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC: the message, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// gRPC: a `google.rpc.Status`, base64.
pub const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// What `grpc-message` must escape: all but printable ASCII, and the percent sign.
const MESSAGE_ESCAPES: &AsciiSet = &CONTROLS.add(b'%');
/// The message is cut here, so that a peer with a small limit for headers still gets the status.
const MESSAGE_SIZE_MAX: usize = 4096;
/// Details over this size are left out for the same reason.
const DETAILS_SIZE_MAX: usize = 32 * 1024;
const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// Number of the code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For a person.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Typed details.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct AnyMessage {
    /// `type.googleapis.com/` and the full name.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl From<&Status> for RpcStatus {
    fn from(status: &Status) -> Self {
        let details = status.details.iter().map(|detail| AnyMessage {
            type_url: format!("{TYPE_URL_PREFIX}{}", detail.type_name),
            value: detail.value.clone(),
        });
        Self {
            code: status.code.number().into(),
            message: status.message.clone(),
            details: details.collect(),
        }
    }
}

impl From<RpcStatus> for Status {
    fn from(status: RpcStatus) -> Self {
        let details = status.details.into_iter().map(|any| Detail {
            type_name: any.type_url.rsplit('/').next().unwrap_or_default().to_owned(),
            value: any.value,
        });
        Self { code: code_from(status.code), message: status.message, details: details.collect() }
    }
}

/// The code of a number; numbers that are none are UNKNOWN.
pub fn code_from(number: impl TryInto<u32>) -> Code {
    number.try_into().ok().and_then(Code::from_number).unwrap_or(Code::Unknown)
}

/// Writes a status into gRPC trailers.
pub fn write_grpc(status: &Status, trailers: &mut HeaderMap) {
    trailers.insert(GRPC_STATUS, code_value(status.code));
    if !status.message.is_empty() {
        trailers.insert(GRPC_MESSAGE, encode_message(&status.message));
    }
    if !status.details.is_empty() {
        let encoded = RpcStatus::from(status).encode_to_vec();
        if encoded.len() <= DETAILS_SIZE_MAX {
            trailers.insert(GRPC_STATUS_DETAILS, encode_binary(&encoded));
        }
    }
}

/// Takes a status out of gRPC trailers; `None` if there is none.
pub fn take_grpc(trailers: &mut HeaderMap) -> Option<Status> {
    let number = trailers.remove(GRPC_STATUS)?;
    let code =
        number.to_str().ok().and_then(|text| text.parse::<i64>().ok()).map_or(Code::Unknown, code_from);
    let message = trailers.remove(GRPC_MESSAGE).map(|value| decode_message(value.as_bytes()));
    let detailed = trailers
        .remove(GRPC_STATUS_DETAILS)
        .and_then(|value| decode_binary(value.as_bytes()))
        .and_then(|bytes| RpcStatus::decode(Bytes::from(bytes)).ok())
        .map(Status::from);
    let message =
        message.or_else(|| detailed.as_ref().map(|status| status.message.clone())).unwrap_or_default();
    // The trailers decide; the details only add to them.
    Some(Status { code, message, details: detailed.map(|status| status.details).unwrap_or_default() })
}

/// The value of `grpc-status`.
pub fn code_value(code: Code) -> HeaderValue {
    const NUMBERS: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    HeaderValue::from_static(NUMBERS[usize::from(code.number())])
}

/// Percent-encodes a message for `grpc-message`.
pub fn encode_message(message: &str) -> HeaderValue {
    let mut end = message.len().min(MESSAGE_SIZE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let encoded = percent_encode(&message.as_bytes()[..end], MESSAGE_ESCAPES).to_string();
    HeaderValue::try_from(encoded).expect("all but printable ASCII is escaped")
}

/// Reads `grpc-message`; whatever does not decode is kept or replaced, never refused.
pub fn decode_message(value: &[u8]) -> String {
    percent_decode(value).decode_utf8_lossy().into_owned()
}

/// The HTTP status of a failed Connect unary call.
pub fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Canceled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unauthenticated => 401,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).expect("the numbers above are statuses")
}

/// What an HTTP status without any status of the protocol means, in gRPC and in Connect.
pub fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(code: Code, message: &str) -> Status {
        Status {
            code,
            message: message.to_owned(),
            details: vec![Detail {
                type_name: "google.rpc.RetryInfo".to_owned(),
                value: Bytes::from_static(b"\x0a\x02\x08\x01"),
            }],
        }
    }

    #[test]
    fn golden_message_of_the_grpc_interop_suite() {
        // special_status_message, doc/interop-test-descriptions.md
        let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
        let encoded = encode_message(message);
        assert_eq!(
            encoded,
            "%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A"
        );
        assert_eq!(decode_message(encoded.as_bytes()), message);
        assert_eq!(decode_message(b"100% bad %zz %ff"), "100% bad %zz \u{fffd}");
    }

    #[test]
    fn golden_trailers() {
        let mut trailers = HeaderMap::new();
        write_grpc(&status(Code::Unavailable, "try later"), &mut trailers);
        assert_eq!(trailers["grpc-status"], "14");
        assert_eq!(trailers["grpc-message"], "try later");
        // What buf convert makes of the same google.rpc.Status, in base64.
        assert_eq!(
            trailers["grpc-status-details-bin"],
            "CA4SCXRyeSBsYXRlchowCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuUmV0cnlJbmZvEgQKAggB"
        );
    }

    #[test]
    fn an_unknown_number_is_unknown_and_no_number_is_no_status() {
        let mut trailers = HeaderMap::new();
        assert_eq!(take_grpc(&mut trailers), None);
        for text in ["17", "-1", "999999999999999999999", "x", ""] {
            trailers.insert(GRPC_STATUS, HeaderValue::from_static(text));
            assert_eq!(take_grpc(&mut trailers).unwrap().code, Code::Unknown, "{text}");
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let value = encode_message(&"☺".repeat(2000));
        assert_eq!(decode_message(value.as_bytes()), "☺".repeat(MESSAGE_SIZE_MAX / 3));
    }

    proptest! {
        #[test]
        fn statuses_come_back(number in 0u8..17, message in "\\PC{0,60}") {
            let sent = status(code_from(number), &message);
            let mut trailers = HeaderMap::new();
            write_grpc(&sent, &mut trailers);
            prop_assert_eq!(take_grpc(&mut trailers), Some(sent));
            prop_assert!(trailers.is_empty());
        }

        #[test]
        fn garbage_never_panics(details: Vec<u8>, message: Vec<u8>) {
            let _ = decode_message(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert(GRPC_STATUS, HeaderValue::from_static("3"));
            trailers.insert(GRPC_STATUS_DETAILS, encode_binary(&details));
            prop_assert_eq!(take_grpc(&mut trailers).unwrap().code, Code::InvalidArgument);
        }
    }
}
