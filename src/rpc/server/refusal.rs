//! Plain HTTP refusals, for requests that speak none of the protocols or come to the wrong place.

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::reply::ReplyBody;
use crate::rpc::wire::ContentType;
use crate::rpc::wire::connect::encode_error;
use crate::rpc::{Code, Status};

/// A response of plain text, closed by a line end.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response<ReplyBody> {
    let mut text = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut response = Response::new(ReplyBody::bytes(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The content type is none of ours, or not one that this method takes.
pub fn unsupported_media_type(content_type: &str) -> Response<ReplyBody> {
    const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
    let shown = if content_type.is_empty() { "a request without content-type" } else { content_type };
    let mut response = text(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("{shown} is not supported here: try -H 'content-type: application/json'"),
    );
    response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(ContentType::ACCEPTED));
    // gRPC clients read the status if there is one.
    if ContentType::is_grpc_like(content_type) {
        let headers = response.headers_mut();
        crate::rpc::wire::status::write_grpc(
            &Status::new(Code::Unimplemented, format!("content-type {content_type} is not supported")),
            headers,
        );
    }
    response
}

/// The method of HTTP is not one that can be used here.
pub fn method_not_allowed(allowed: &'static str) -> Response<ReplyBody> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// gRPC came over HTTP/1.1, which has no trailers that clients would read.
pub fn needs_http2() -> Response<ReplyBody> {
    text(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "gRPC needs HTTP/2: use it, or content-type application/grpc-web or application/json on HTTP/1.1",
    )
}

/// A web page that may not call.
pub fn foreign_origin(origin: &HeaderValue) -> Response<ReplyBody> {
    let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
    text(StatusCode::FORBIDDEN, format!("pages of {origin} may not call this server"))
}

/// A failure as Connect's JSON, with a given HTTP status.
pub fn json(http_status: StatusCode, status: &Status) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::bytes(encode_error(status, &|_| None)));
    *response.status_mut() = http_status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// True if the request comes from a person's browser rather than a program.
pub fn wants_text(headers: &http::HeaderMap) -> bool {
    headers.get(ACCEPT).is_none_or(|accept| !accept.as_bytes().starts_with(b"application/"))
}
