//! HTTP/1.1 of small servers beside the protocols: one connection driven with its limits, bodies and queries read.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Stream;
use crate::shutdown::Shutdown;

/// A peer that has sent half a request's head, or none, is dropped after this.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(30);

/// A body that does not come to its end in this time is not waited for.
const BODY_WAIT_MAX: Duration = Duration::from_secs(30);

/// A peer that takes nothing of an answer for so long is dropped.
const STALL_MAX: Duration = Duration::from_secs(30);

/// What is answered: a whole body.
pub type Answer = Response<Full<Bytes>>;

/// Answers on one connection until its end, or until `shutdown` drains and the answer under way is given.
pub async fn serve<F, Fut>(stream: Stream, shutdown: &Shutdown, answer: F)
where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream)), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("connection ended: {error}");
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit, in bytes.
    #[error("the body is over the limit of {0} bytes")]
    TooLarge(usize),
    /// It did not end in time.
    #[error("the body did not come in time")]
    Late,
    /// The connection broke.
    #[error("the body broke off: {0}")]
    Broken(String),
}

/// All of a request's body, of at most `size_max` bytes.
///
/// # Errors
/// It is too large, too slow, or cut off.
pub async fn body(body: Incoming, size_max: usize) -> Result<Bytes, BodyError> {
    // What is announced as too large is not waited for.
    if http_body::Body::size_hint(&body).lower() > size_max as u64 {
        return Err(BodyError::TooLarge(size_max));
    }
    match tokio::time::timeout(BODY_WAIT_MAX, Limited::new(body, size_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(size_max)),
        Ok(Err(error)) => Err(BodyError::Broken(error.to_string())),
        Err(_) => Err(BodyError::Late),
    }
}

/// The part behind the `?`, decoded as forms are.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of a URI. What is no UTF-8 is replaced.
    pub fn new(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let split = |pair| str::split_once(pair, '=').unwrap_or((pair, ""));
        Self(pairs.map(split).map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    /// The first of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All of that name.
    pub fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A stream that fails when the peer takes nothing for too long: hyper waits for ever.
struct Patient {
    stream: Stream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: Stream) -> Self {
        Self { stream, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_MAX)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wrote = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, wrote)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wrote = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, wrote)
    }
}
