//! JSON-RPC error objects and the status they stand for, both ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::rpc::status::{Code, Detail, Status};

/// The text is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The JSON is not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters do not fit the method.
pub const INVALID_PARAMS: i64 = -32602;
/// The server failed.
pub const INTERNAL_ERROR: i64 = -32603;
/// The caller cancelled (Language Server Protocol).
const REQUEST_CANCELLED: i64 = -32800;
/// gRPC code N without a JSON-RPC code of its own is this minus N: -32002 to -32016.
const SERVER_ERROR: i64 = -32000;

/// The `error` member of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorObject {
    /// JSON-RPC's code.
    pub code: i64,
    /// For a person.
    pub message: String,
    /// JSON text of the `data` member.
    pub data: Option<String>,
}

impl ErrorObject {
    /// An error of the protocol itself, which no method has seen.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The error object of a call that ended with `status`.
    pub fn from_status(status: &Status) -> Self {
        let details: Vec<_> = status
            .details
            .iter()
            .map(|detail| serde_json::json!({"type": detail.type_name, "value": STANDARD.encode(&detail.value)}))
            .collect();
        let mut data = serde_json::json!({"code": status.code.number(), "status": status.code.name()});
        if !details.is_empty() {
            data["details"] = details.into();
        }
        Self { code: code_of(status.code), message: status.message.clone(), data: Some(data.to_string()) }
    }

    /// The status that this error stands for: the gRPC code in `data.code` if a server of ours sent it,
    /// what comes nearest to JSON-RPC's code if not.
    pub fn to_status(&self) -> Status {
        let ours = self.data.as_deref().and_then(|data| serde_json::from_str::<Data>(data).ok());
        if let Some(data) = ours
            && let Some(code) = Code::from_number(data.code).filter(|code| *code != Code::Ok)
        {
            let mut status = Status::new(code, self.message.clone());
            status.details = data.details.into_iter().filter_map(DetailText::decode).collect();
            return status;
        }
        let code = match self.code {
            METHOD_NOT_FOUND => Code::Unimplemented,
            INVALID_PARAMS | INVALID_REQUEST => Code::InvalidArgument,
            INTERNAL_ERROR | PARSE_ERROR => Code::Internal,
            REQUEST_CANCELLED => Code::Canceled,
            _ => Code::Unknown,
        };
        let data = self.data.as_deref().map_or_else(String::new, |data| format!(": {data}"));
        Status::new(code, format!("{} ({}){data}", self.message, self.code))
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        out.extend_from_slice(self.code.to_string().as_bytes());
        out.extend_from_slice(b",\"message\":");
        super::message::write_string(out, &self.message);
        if let Some(data) = &self.data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_bytes());
        }
        out.push(b'}');
    }
}

impl<'de> Deserialize<'de> for ErrorObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            code: i64,
            #[serde(default)]
            message: String,
            data: Option<Box<RawValue>>,
        }
        let fields = Fields::deserialize(deserializer)?;
        Ok(Self {
            code: fields.code,
            message: fields.message,
            data: fields.data.map(|data| data.get().to_owned()),
        })
    }
}

#[derive(Deserialize)]
struct Data {
    code: u32,
    #[serde(default)]
    details: Vec<DetailText>,
}

#[derive(Deserialize)]
struct DetailText {
    #[serde(rename = "type")]
    type_name: String,
    value: String,
}

impl DetailText {
    fn decode(self) -> Option<Detail> {
        let value = STANDARD.decode(self.value).ok()?;
        Some(Detail { type_name: self.type_name, value: Bytes::from(value) })
    }
}

fn code_of(code: Code) -> i64 {
    match code {
        Code::Unimplemented => METHOD_NOT_FOUND,
        Code::InvalidArgument => INVALID_PARAMS,
        Code::Internal => INTERNAL_ERROR,
        Code::Canceled => REQUEST_CANCELLED,
        Code::Ok
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => SERVER_ERROR - i64::from(code.number()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_survives_the_way_there_and_back() {
        for code in Code::ALL.iter().copied().filter(|code| *code != Code::Ok) {
            let mut status = Status::new(code, "why \"so\"");
            status
                .details
                .push(Detail { type_name: "demo.Why".into(), value: Bytes::from_static(b"\x08\x01") });
            let mut json = Vec::new();
            ErrorObject::from_status(&status).write(&mut json);
            let back: ErrorObject = serde_json::from_slice(&json).unwrap();
            assert_eq!(back.to_status(), status);
        }
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        let code = |code| ErrorObject::from_status(&Status::new(code, "")).code;
        assert_eq!(code(Code::Unimplemented), -32601);
        assert_eq!(code(Code::InvalidArgument), -32602);
        assert_eq!(code(Code::Internal), -32603);
        assert_eq!(code(Code::NotFound), -32005);
        assert_eq!(code(Code::Unauthenticated), -32016);
    }

    #[test]
    fn a_foreign_error_keeps_its_code_and_data_in_the_message() {
        let error: ErrorObject =
            serde_json::from_str(r#"{"code":-32001,"message":"no","data":{"code":"E1"}}"#).unwrap();
        let status = error.to_status();
        assert_eq!(status, Status::new(Code::Unknown, r#"no (-32001): {"code":"E1"}"#));
        let error: ErrorObject = serde_json::from_str(r#"{"code":-32601,"message":"no"}"#).unwrap();
        assert_eq!(error.to_status().code, Code::Unimplemented);
    }
}
