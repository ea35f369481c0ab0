//! What is answered, and why not: status codes and bodies in RabbitMQ's form.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value as Json, json};

use super::list;
use crate::mq::server::session::Closed;
use crate::transport::http::{Answer, BodyError, Query};

pub(super) type Outcome = Result<Reply, Refusal>;

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// One thing.
    One(Json),
    /// Many, in their usual order; the query may want another, or a part.
    Many(Vec<Json>),
    /// A file of definitions, and the name to keep it under.
    File(Json, Option<String>),
    /// Something for people.
    Text(String),
    /// Something was made, and where it is from here.
    Created(Option<String>),
    /// It was there, or is gone.
    Done,
    /// Which methods there are.
    Methods(&'static str),
    /// A check that failed: the status says so.
    Failed(Json),
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Option<Json>,
    allow: Option<&'static str>,
    challenge: bool,
}

impl Refusal {
    /// A status without a word.
    pub fn bare(status: StatusCode) -> Self {
        Self { status, body: None, allow: None, challenge: false }
    }

    pub fn with(status: StatusCode, error: &str, reason: impl Into<Json>) -> Self {
        let body = json!({"error": error, "reason": reason.into()});
        Self { body: Some(body), ..Self::bare(status) }
    }

    pub fn bad_request(reason: impl Into<Json>) -> Self {
        Self::with(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// The broker could not.
    pub fn failed(reason: &str) -> Self {
        Self::with(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", reason)
    }

    /// What somebody named is not there.
    pub fn not_found(reason: impl Into<Json>) -> Self {
        Self::with(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// What the path names is not there.
    pub fn nothing_there() -> Self {
        Self::with(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// The user may not do that.
    pub fn not_authorised(reason: &str) -> Self {
        Self { challenge: true, ..Self::with(StatusCode::UNAUTHORIZED, "not_authorised", reason) }
    }

    /// Nobody has said who asks.
    pub fn who_are_you() -> Self {
        Self { challenge: true, ..Self::bare(StatusCode::UNAUTHORIZED) }
    }

    /// The wrong password.
    pub fn login_failed() -> Self {
        Self { challenge: true, ..Self::with(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed") }
    }

    pub fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::bare(StatusCode::METHOD_NOT_ALLOWED) }
    }

    pub fn of_body(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(_) => Self::bad_request("Exceeded HTTP request body size limit"),
            BodyError::Late => Self::bare(StatusCode::REQUEST_TIMEOUT),
            BodyError::Broken(_) => Self::bare(StatusCode::BAD_REQUEST),
        }
    }

    /// What the engine said of a declaration.
    pub fn of_declaration(closed: &Closed) -> Self {
        match closed.code {
            403 | 530 => Self::not_authorised("Access refused."),
            404 => Self::not_found(closed.explanation()),
            _ => Self::bad_request(closed.explanation()),
        }
    }

    /// What the engine said of a message.
    pub fn of_channel(closed: &Closed) -> Self {
        match closed.code {
            403 => Self::not_authorised(&closed.text),
            404 => Self::not_found(&*closed.text),
            code => Self::bad_request(format!("{code} {}", closed.text)),
        }
    }

    pub fn into_answer(self) -> Answer {
        let mut answer = match self.body {
            Some(body) => of_json(self.status, &body),
            None => empty(self.status),
        };
        let headers = answer.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.challenge {
            let realm = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            headers.insert(header::WWW_AUTHENTICATE, realm);
        }
        answer
    }
}

impl Reply {
    /// In the order, the part and the columns that the query wants.
    pub fn shaped(self, query: &Query) -> Outcome {
        match self {
            Self::Many(items) => list::shape(items, query).map(Self::One),
            Self::One(value) => Ok(Self::One(list::columns(value, query))),
            other => Ok(other),
        }
    }

    pub fn into_answer(self) -> Answer {
        match self {
            Self::One(value) => of_json(StatusCode::OK, &value),
            Self::Many(items) => of_json(StatusCode::OK, &Json::Array(items)),
            Self::File(value, name) => {
                let mut answer = of_json(StatusCode::OK, &value);
                let name = name.map(|name| format!("attachment; filename={name}"));
                if let Some(name) = name.and_then(|name| HeaderValue::from_str(&name).ok()) {
                    answer.headers_mut().insert(header::CONTENT_DISPOSITION, name);
                }
                answer
            }
            Self::Text(text) => {
                let mut answer = Response::new(Full::new(Bytes::from(text)));
                let kind = HeaderValue::from_static("text/plain; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            Self::Created(location) => {
                let mut answer = empty(StatusCode::CREATED);
                if let Some(location) = location.and_then(|place| HeaderValue::from_str(&place).ok()) {
                    answer.headers_mut().insert(header::LOCATION, location);
                }
                answer
            }
            Self::Done => empty(StatusCode::NO_CONTENT),
            Self::Methods(methods) => {
                let mut answer = empty(StatusCode::OK);
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
                answer
            }
            Self::Failed(value) => of_json(StatusCode::SERVICE_UNAVAILABLE, &value),
        }
    }
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn of_json(status: StatusCode, value: &Json) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // No page of another site is to be fooled into running an answer.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// The answer to HEAD.
pub(super) fn without_body(answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    let size = http_body::Body::size_hint(&body).exact().unwrap_or(0);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Response::from_parts(parts, Full::default())
}
