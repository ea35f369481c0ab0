//! JSON-RPC 2.0 in the body of a POST: the documents are `jsonrpc`'s, only the binding is here.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Body;
use tokio::time::Instant;

use super::exchange::{Answer, CONNECT_TIMEOUT, patient, text};
use super::reply::{LostReply, ReplyBody};
use super::request::MessageReader;
use super::{Server, refusal};
use crate::rpc::backend::{Peer, Requests};
use crate::rpc::budget::Part;
use crate::rpc::jsonrpc::{self, Origin};
use crate::rpc::wire::{ContentType, Dialect, Encoding, metadata, status, timeout};
use crate::rpc::{Code, Format, Kind};

/// True if a POST is JSON-RPC: JSON to the root, or one of the types that only JSON-RPC uses.
pub fn is_json_rpc(path: &str, content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    match name.to_ascii_lowercase().as_str() {
        "application/json" => path == "/",
        "application/json-rpc" | "application/jsonrequest" => true,
        _ => false,
    }
}

/// Answers one document.
pub async fn post<B>(server: Arc<Server>, peer: Arc<Peer>, mut parts: Parts, body: B, held: Part) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    let name = text(&parts.headers, &header::CONTENT_ENCODING);
    let encoding = if name.is_empty() { Some(Encoding::Identity) } else { Encoding::from_name(name) };
    let Some(encoding) = encoding else {
        return Ok(refusal::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("compression {name:?} is not supported: expected one of {}", Encoding::ACCEPTED),
        ));
    };
    let deadline = match deadline(&parts.headers) {
        Ok(deadline) => deadline,
        Err(refusal) => return Ok(refusal::text(StatusCode::BAD_REQUEST, refusal)),
    };
    let limits = &server.options.limits;
    let content = ContentType { dialect: Dialect::ConnectUnary, format: Format::Json };
    let reader = MessageReader::new(body, content, encoding, limits.message_size_max, held.share().part());
    let (document, _document_held) =
        match patient(reader.requests(Kind::Unary), limits.request_wait_max).await {
            Ok((Requests::One(document), held)) => (document.bytes, held),
            Ok((Requests::Stream(_), held)) => (Bytes::new(), held),
            Err(error) if error.code == Code::ResourceExhausted => {
                return Ok(refusal::text(StatusCode::PAYLOAD_TOO_LARGE, error.message));
            }
            Err(error) => return Ok(refusal::text(status::http_status(error.code), error.message)),
        };
    metadata::strip_reserved(&mut parts.headers);
    let origin = Origin { metadata: parts.headers, deadline, ..Origin::new(peer, Arc::clone(held.share())) };
    match server.json_rpc.answer(&origin, &document).await {
        jsonrpc::Answer::Reply(json) => {
            let mut answer = reply(StatusCode::OK, json);
            Ok(match answer.body_mut().hold(held) {
                Ok(()) => answer,
                Err(status) => refusal::text(StatusCode::TOO_MANY_REQUESTS, status.message),
            })
        }
        jsonrpc::Answer::Silence => {
            let mut response = Response::new(ReplyBody::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        jsonrpc::Answer::Lost => Err(LostReply),
    }
}

/// When the caller gives up; JSON-RPC has no word for it, so Connect's is taken. An error says what is wrong with it.
fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, String> {
    let Some(value) = headers.get(CONNECT_TIMEOUT) else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(timeout::parse_connect);
    let timeout = timeout.ok_or_else(|| format!("{CONNECT_TIMEOUT} is {value:?}: not a timeout"))?;
    // More time than the clock has is no deadline.
    Ok(Instant::now().checked_add(timeout))
}

fn reply(status: StatusCode, json: Vec<u8>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::bytes(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_to_the_root_is_json_rpc_and_json_to_a_method_is_connect() {
        assert!(is_json_rpc("/", "application/json; charset=utf-8"));
        assert!(is_json_rpc("/rpc", "application/json-rpc"));
        assert!(!is_json_rpc("/demo.Greeter/Hello", "application/json"));
        assert!(!is_json_rpc("/", "application/proto"));
    }
}
