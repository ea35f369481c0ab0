//! How long an HTTP/1.1 peer may take: for the head of a request, and between two requests.
//!
//! hyper's own limit begins when the reply before has left, and so cuts a connection that merely rests.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::reply::ReplyBody;

/// What a connection does. Clones share it.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Mutex<Phase>>);

/// What a connection does, since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first bytes of a request have come, and not yet its whole head.
    Head(Instant),
    /// A request is read, worked on, or replied to.
    Call,
    /// Nothing is asked.
    Rest(Instant),
}

impl Phase {
    /// When it has lasted for too long.
    pub fn deadline(self, head_max: Duration, rest_max: Option<Duration>) -> Option<Instant> {
        match self {
            Self::Head(since) => since.checked_add(head_max),
            Self::Call => None,
            Self::Rest(since) => since.checked_add(rest_max?),
        }
    }
}

impl Pace {
    /// Of a connection whose first bytes are there.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Phase::Head(Instant::now()))))
    }

    /// What it does now.
    pub fn phase(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// A head is complete: its call lasts until what is returned is dropped.
    pub fn call(&self) -> Calling {
        self.set(Phase::Call);
        Calling(self.clone())
    }

    /// `stream`, whose bytes are noticed.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, pace: self.clone() }
    }
}

/// A call that runs.
#[derive(Debug)]
pub struct Calling(Pace);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.set(Phase::Rest(Instant::now()));
    }
}

/// A stream on which requests begin.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    pace: Pace,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && matches!(self.pace.phase(), Phase::Rest(_)) {
            self.pace.set(Phase::Head(Instant::now()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of a reply; its call has ended when it is dropped.
#[derive(Debug)]
pub struct Timed {
    body: ReplyBody,
    _calling: Calling,
}

impl Timed {
    /// `body`, which ends that call.
    pub fn new(body: ReplyBody, calling: Calling) -> Self {
        Self { body, _calling: calling }
    }
}

impl Body for Timed {
    type Data = <ReplyBody as Body>::Data;
    type Error = <ReplyBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
