//! The connections of a client to one server: opened when needed, shared by calls, replaced when they end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use http::Version;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;

use super::exchange::{Exchange, FirstBody, H1Body, Head, HttpError, Peer, RequestHalf, ResponseHead};
use super::target::Dialer;
use crate::shutdown::Shutdown;
use crate::transport;

/// Flow-control window of a stream: large enough that a 4 MiB message does not wait for updates.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Flow-control window of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Most headers and trailers of one response together.
const HEADER_LIST_BYTES_MAX: u32 = 256 << 10;
/// Idle HTTP/1.1 connections kept for the next call.
const IDLE_H1_MAX: usize = 64;

/// Why there is no connection, or no exchange on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The server could not be reached.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// It was reached, but HTTP could not begin.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// Which version of HTTP to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2: by prior knowledge on plain connections, by ALPN with TLS.
    H2,
    /// HTTP/1.1.
    H1,
}

type H2Sender = h2::client::SendRequest<Bytes>;
type H1Sender = hyper::client::conn::http1::SendRequest<H1Body>;

/// A usable HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub(crate) struct H2Connection {
    sender: H2Sender,
    peer: Arc<Peer>,
}

impl H2Connection {
    /// Waits until the peer takes another stream.
    pub(crate) async fn ready(&mut self) -> Result<(), HttpError> {
        std::future::poll_fn(|cx| self.sender.poll_ready(cx))
            .await
            // Nothing was sent, so another connection may be tried whatever the reason.
            .map_err(|_| HttpError::Refused)
    }

    /// Opens a stream; the response is not waited for.
    pub(crate) fn open(&mut self, head: Head, body: FirstBody) -> Result<Exchange, HttpError> {
        let ends = matches!(&body, FirstBody::Whole(bytes) if bytes.is_empty());
        let (future, mut stream) =
            self.sender.send_request(head, ends).map_err(|error| HttpError::from_h2(&error, &self.peer))?;
        let request = match body {
            FirstBody::Pieces => RequestHalf::H2 { stream, began: false },
            FirstBody::Whole(bytes) => {
                if !ends {
                    // Refused at once only if the stream is already reset: the response tells.
                    let _ = stream.send_data(bytes, true);
                }
                RequestHalf::Finished
            }
        };
        Ok(Exchange { request, head: ResponseHead::H2(future, Arc::clone(&self.peer)) })
    }
}

/// Opens, keeps and replaces connections to one server. Nothing is dialled before the first call.
pub(crate) struct Pool {
    dialer: Dialer,
    version: HttpVersion,
    shutdown: Shutdown,
    h2: Mutex<Option<H2Connection>>,
    h1_idle: std::sync::Mutex<Vec<H1Sender>>,
}

impl Pool {
    pub(crate) fn new(dialer: Dialer, version: HttpVersion, shutdown: Shutdown) -> Self {
        Self { dialer, version, shutdown, h2: Mutex::new(None), h1_idle: std::sync::Mutex::default() }
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Starts a request on a connection that is there or on a new one.
    ///
    /// A connection that turns out to be dead before anything was sent on it is replaced once.
    pub(crate) async fn open(
        &self,
        head: impl Fn(Version) -> Head,
        body: impl Fn() -> FirstBody,
    ) -> Result<Exchange, OpenError> {
        match self.version {
            HttpVersion::H2 => {
                let mut connection = self.h2().await?;
                if connection.ready().await.is_err() {
                    self.forget_h2(&connection).await;
                    connection = self.h2().await?;
                    connection.ready().await?;
                }
                Ok(connection.open(head(Version::HTTP_2), body())?)
            }
            HttpVersion::H1 => Ok(self.open_h1(head(Version::HTTP_11), body()).await?),
        }
    }

    /// The shared HTTP/2 connection, opened if there is none. Callers that come meanwhile wait for the
    /// same one.
    pub(crate) async fn h2(&self) -> Result<H2Connection, OpenError> {
        let mut slot = self.h2.lock().await;
        if let Some(connection) = slot.as_ref().filter(|it| !it.peer.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = self.dial_h2().await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// The next call gets another connection than `dead`.
    pub(crate) async fn forget_h2(&self, dead: &H2Connection) {
        let mut slot = self.h2.lock().await;
        if slot.as_ref().is_some_and(|it| Arc::ptr_eq(&it.peer, &dead.peer)) {
            *slot = None;
        }
    }

    /// An HTTP/2 connection that nobody else uses.
    pub(crate) async fn dial_h2(&self) -> Result<H2Connection, OpenError> {
        let stream = self.dialer.dial(HttpVersion::H2).await?;
        let peer = Arc::new(Peer::default());
        let watched = Watched { stream, peer: Arc::clone(&peer), held: Bytes::new(), began: false };
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .enable_push(false)
            .handshake::<_, Bytes>(watched)
            .await
            .map_err(|error| HttpError::from_h2(&error, &peer))?;
        let driven = Arc::clone(&peer);
        self.shutdown.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            driven.close();
        });
        Ok(H2Connection { sender, peer })
    }

    async fn open_h1(&self, head: Head, body: FirstBody) -> Result<Exchange, OpenError> {
        let idle = {
            let mut idle = self.h1_idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            idle.retain(|sender| !sender.is_closed());
            idle.iter().position(H1Sender::is_ready).map(|at| idle.swap_remove(at))
        };
        let mut sender = match idle {
            Some(sender) => sender,
            None => self.dial_h1().await?,
        };
        let (request, body) = match body {
            FirstBody::Whole(bytes) => {
                (RequestHalf::Finished, H1Body::Whole(Some(bytes).filter(|it| !it.is_empty())))
            }
            FirstBody::Pieces => {
                let (half, body) = H1Body::pieces();
                (RequestHalf::H1(half), body)
            }
        };
        let (parts, ()) = head.into_parts();
        // The request is queued here, before the future is first polled.
        let future = sender.send_request(http::Request::from_parts(parts, body)).boxed();
        let mut idle = self.h1_idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < IDLE_H1_MAX {
            // It becomes ready again when this exchange is over.
            idle.push(sender);
        }
        Ok(Exchange { request, head: ResponseHead::H1(future) })
    }

    async fn dial_h1(&self) -> Result<H1Sender, OpenError> {
        let stream = self.dialer.dial(HttpVersion::H1).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .handshake::<_, H1Body>(TokioIo::new(stream))
            .await
            .map_err(|error| HttpError::from_h1(&error))?;
        self.shutdown.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        sender.ready().await.map_err(|error| HttpError::from_h1(&error))?;
        Ok(sender)
    }
}

/// A stream that remembers how its peer began, and that it has closed it before anyone who reads can know.
///
/// It keeps back what h2 writes first, the preface, until the frames that must follow it: one packet, and one time
/// that the server is woken up, less.
struct Watched<S> {
    stream: S,
    peer: Arc<Peer>,
    /// What is kept back.
    held: Bytes,
    /// Something was written, or kept back.
    began: bool,
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes what was kept back and `slices`; the number of bytes of `slices` that were written.
    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let (false, Some(first)) = (self.began, slices.first()) {
            self.began = true;
            self.held = Bytes::copy_from_slice(first);
            return Poll::Ready(Ok(self.held.len()));
        }
        while !self.held.is_empty() {
            let mut all = Vec::with_capacity(1 + slices.len());
            all.push(io::IoSlice::new(&self.held));
            all.extend(slices.iter().map(|slice| io::IoSlice::new(slice)));
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &all))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let more = written.checked_sub(self.held.len());
            self.held.advance(written.min(self.held.len()));
            if let Some(more @ 1..) = more {
                return Poll::Ready(Ok(more));
            }
        }
        match slices {
            [] => Poll::Ready(Ok(0)),
            [one] => Pin::new(&mut self.stream).poll_write(cx, one),
            several => Pin::new(&mut self.stream).poll_write_vectored(cx, several),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if let Err(error) = &result {
            self.peer.broke(error);
        } else if buf.filled().len() == before && buf.remaining() > 0 {
            self.peer.close();
        } else if let Some(first) = buf.filled().get(before) {
            self.peer.heard(*first);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(self.poll_write_all(cx, &[io::IoSlice::new(bytes)]));
        Poll::Ready(result.inspect_err(|error| self.peer.broke(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = match this.poll_write_all(cx, &[]) {
            Poll::Ready(Ok(_)) => ready!(Pin::new(&mut this.stream).poll_flush(cx)),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(result.inspect_err(|error| self.peer.broke(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.poll_write_all(cx, slices));
        Poll::Ready(result.inspect_err(|error| self.peer.broke(error)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
