//! A client of RabbitMQ's management HTTP API: what AMQP cannot tell, and what it cannot set.
//!
//! Over `transport`, so that TLS, Unix sockets and the words of errors are those of AMQP. One connection, kept while
//! the server keeps it; one question at a time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::transport::{self, Address, ConnectOptions, Stream};

/// How long one answer may take. RabbitMQ gives itself about as long to gather its statistics.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an answer: a hundred thousand queues with all their statistics are less.
const ANSWER_SIZE_MAX: usize = 256 << 20;

/// An error page is shown up to here.
const WHY_SIZE_MAX: usize = 300;

/// Where the API is, and who asks.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where.
    pub address: Address,
    /// TLS, and how long a connection may take.
    pub connect: ConnectOptions,
    /// What the server is called in the question.
    pub host: String,
    /// What stands before `/api`: empty, or `/prefix`.
    pub prefix: String,
    /// Who.
    pub user: String,
    /// With what.
    pub password: Secret,
    /// For each answer.
    pub answer_timeout: Duration,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection to be had.
    #[error(transparent)]
    Unreachable(#[from] transport::Error),
    /// The connection ended, or something answers that is no HTTP server.
    #[error("{0}")]
    Lost(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Credentials or permissions.
    #[error("the management API refused {user}: {why}")]
    Denied {
        /// Who asked.
        user: String,
        /// The server's words.
        why: String,
    },
    /// No such object.
    #[error("not found: {0}")]
    NotFound(String),
    /// The server does not take what was asked for.
    #[error("{0}")]
    Refused(String),
    /// An HTTP server, but not this API.
    #[error("this is no management API: {0}")]
    Foreign(String),
    /// An answer over the limit.
    #[error("the answer is over the limit of {ANSWER_SIZE_MAX} bytes")]
    TooLarge,
}

impl Error {
    /// True if there is no such API there: a broker may do without.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::Foreign(_) | Self::Timeout(_) => true,
            Self::Denied { .. } | Self::NotFound(_) | Self::Refused(_) | Self::TooLarge => false,
        }
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// The API of one server.
#[derive(Debug)]
pub struct Management {
    access: Access,
    shutdown: Shutdown,
    /// Why it is not asked any more.
    given_up: Option<String>,
    sender: Mutex<Option<Sender>>,
}

/// A path below `/api`, each segment encoded: a virtual host is `/`.
pub fn path(segments: &[&str]) -> String {
    segments.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, NON_ALPHANUMERIC))).collect()
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    error: Value,
    #[serde(default)]
    reason: Value,
}

impl Management {
    /// Prepares to ask; connects to nothing yet.
    pub fn new(access: Access, shutdown: &Shutdown) -> Self {
        Self { access, shutdown: shutdown.clone(), given_up: None, sender: Mutex::default() }
    }

    /// Every question from now on has this answer: it was not there, and looking again takes as long.
    pub fn give_up(&mut self, why: String) {
        self.given_up = Some(why);
    }

    /// Where it asks, and as whom.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// What is at a path below `/api`.
    ///
    /// # Errors
    /// No API there, no permission, no such object, or an answer that is none.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        let body = self.ask(Method::GET, path, None).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Foreign(format!("{error} in {}", excerpt(&body))))
    }

    /// The list at a path below `/api`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, Error> {
        match self.get(path).await? {
            Value::Array(items) => Ok(items),
            other => Err(Error::Foreign(format!("no list: {}", excerpt(other.to_string().as_bytes())))),
        }
    }

    /// Creates or changes what is at a path.
    ///
    /// # Errors
    /// As [`get`](Self::get); it exists in another form.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(), Error> {
        self.ask(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// Adds to what is at a path.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn post(&self, path: &str, body: &Value) -> Result<(), Error> {
        self.ask(Method::POST, path, Some(body)).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, Error> {
        if let Some(why) = &self.given_up {
            return Err(Error::Lost(why.clone()));
        }
        let limit = self.access.answer_timeout;
        let asked = async {
            let mut kept = self.sender.lock().await;
            let reused = kept.take().filter(|sender| !sender.is_closed());
            let was_kept = reused.is_some();
            let mut sender = match reused {
                Some(sender) => sender,
                None => self.dial().await?,
            };
            let mut answer = self.exchange(&mut sender, &method, path, body).await;
            // A server may close a connection that was idle just when it is asked again.
            if was_kept && matches!(answer, Err(Error::Lost(_))) {
                sender = self.dial().await?;
                answer = self.exchange(&mut sender, &method, path, body).await;
            }
            let (status, body) = answer?;
            *kept = Some(sender);
            Ok::<_, Error>((status, body))
        };
        let (status, body) = timeout(limit, asked).await.map_err(|_| Error::Timeout(limit))??;
        if status.is_success() { Ok(body) } else { Err(self.complaint(status, &body)) }
    }

    async fn dial(&self) -> Result<Sender, Error> {
        let stream = Stream::connect_with(&self.access.address, &self.access.connect).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = shutdown.draining() => {}
            }
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        sender: &mut Sender,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let Access { host, prefix, user, password, .. } = &self.access;
        let login = BASE64.encode(format!("{user}:{}", password.expose()));
        let mut login = header::HeaderValue::try_from(format!("Basic {login}")).expect("base64 is ASCII");
        login.set_sensitive(true);
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(format!("{prefix}/api{path}"))
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, login);
        let request = match body {
            Some(_) => request.header(header::CONTENT_TYPE, "application/json"),
            None => request,
        };
        let request =
            request.body(Full::new(bytes)).map_err(|error| Error::Refused(format!("{path}: {error}")))?;
        sender.ready().await.map_err(|error| lost(&error))?;
        let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let status = response.status();
        let (mut read, mut incoming) = (Vec::new(), response.into_body());
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| lost(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            if read.len() + data.len() > ANSWER_SIZE_MAX {
                return Err(Error::TooLarge);
            }
            read.extend_from_slice(data);
        }
        Ok((status, read.into()))
    }

    /// An answer that is no success, as an error.
    fn complaint(&self, status: StatusCode, body: &[u8]) -> Error {
        let said = match serde_json::from_slice::<Complaint>(body) {
            Ok(Complaint { reason: Value::String(reason), .. }) if !reason.is_empty() => reason,
            Ok(Complaint { error: Value::String(error), .. }) if !error.is_empty() => error,
            _ => excerpt(body),
        };
        let is_json = serde_json::from_slice::<Value>(body).is_ok();
        let why = if said.is_empty() { status.to_string() } else { said };
        match status.as_u16() {
            401 | 403 => Error::Denied { user: self.access.user.clone(), why },
            404 if is_json => Error::NotFound(why),
            404 => Error::Foreign(format!("404: {why}")),
            300..=399 => Error::Foreign(status.to_string()),
            _ => Error::Refused(format!("{}: {why}", status.as_u16())),
        }
    }
}

fn lost(error: &hyper::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Error::Lost(if error.is_parse() {
        "what answers speaks no HTTP".to_owned()
    } else {
        format!("the connection to the management API was lost: {cause}")
    })
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * WHY_SIZE_MAX)]);
    text.trim().chars().take(WHY_SIZE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport::Listener;

    /// Answers every question on every connection with the same bytes, and keeps what it was asked.
    async fn fake(answer: &'static [u8]) -> (Management, Shutdown) {
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
        let access = Access {
            address: listener.address().unwrap(),
            connect: ConnectOptions::default(),
            host: "h".to_owned(),
            prefix: String::new(),
            user: "guest".to_owned(),
            password: Secret::new("guest"),
            answer_timeout: Duration::from_millis(500),
        };
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            let mut open = Vec::new();
            loop {
                let mut stream = tokio::select! {
                    () = stop.draining() => return,
                    stream = listener.accept() => stream.unwrap(),
                };
                let mut asked = [0; 4096];
                let count = stream.read(&mut asked).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&asked[..count]).into_owned();
                assert!(asked.starts_with("GET /api/queues/%2F HTTP/1.1\r\n"), "{asked}");
                assert!(asked.contains("authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n"), "{asked}");
                let _ = stream.write_all(answer).await;
                open.push(stream);
            }
        });
        (Management::new(access, &shutdown), shutdown)
    }

    #[tokio::test]
    async fn every_answer_is_a_value_or_a_sentence() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": nul"[..], "this is no management API: "),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "this is no management API: no list: {}"),
            (
                b"HTTP/1.1 404 No\r\ncontent-length: 49\r\n\r\n{\"error\":\"Object Not Found\",\"reason\":\"Not Found\"}\n",
                "not found: Not Found",
            ),
            (b"HTTP/1.1 404 No\r\ncontent-length: 6\r\n\r\n<html>", "this is no management API: 404: <html>"),
            (b"HTTP/1.1 301 Go\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "this is no management API: 301"),
            (
                b"HTTP/1.1 401 No\r\ncontent-length: 50\r\n\r\n{\"error\":\"not_authorized\",\"reason\":\"Login failed\"}\n",
                "the management API refused guest: Login failed",
            ),
            (b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad", "500: bad"),
            (b"AMQP\0\0\x09\x01", "what answers speaks no HTTP"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[]", "no answer within 500ms"),
        ] {
            let (management, _life) = fake(answer).await;
            let error = management.list(&path(&["queues", "/"])).await.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_opened_again() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n[1, 2]\n";
        let (management, _life) = fake(answer).await;
        for _ in 0..3 {
            assert_eq!(management.list(&path(&["queues", "/"])).await.unwrap().len(), 2);
        }
    }
}
