//! One HTTP exchange over HTTP/2 or HTTP/1.1: the request goes out while the response comes in.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// The first piece of a request, if it is no larger, does not wait for room: so it leaves together with the headers.
const FIRST_PIECE_BYTES_MAX: usize = 16 << 10;

/// Why an exchange ended before its response did.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HttpError {
    /// The peer certainly did nothing with the request: sending it again is safe.
    #[error("the server refused the stream before working on it")]
    Refused,
    /// The peer reset the stream.
    #[error("the server reset the stream with {0:?}")]
    Reset(Reason),
    /// The connection is gone; whether the request was worked on is unknown.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer speaks something else than HTTP/2.
    #[error("{0}")]
    Other(&'static str),
    /// What came is not HTTP of the expected version.
    #[error("{0}")]
    Malformed(String),
}

/// What is known about the other end of an HTTP/2 connection.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    closed: AtomicBool,
    began: AtomicBool,
    /// The first byte it sent; 0 before that, and of HTTP/2 always: SETTINGS are shorter than 64 KiB.
    first: AtomicU8,
    /// Why the connection broke, in the transport's words: h2 tells a stream of an error in reading, but not
    /// always of one in writing.
    broke: OnceLock<String>,
}

impl Peer {
    pub(super) fn broke(&self, error: &io::Error) {
        self.close();
        // The first is the reason, what follows its consequence.
        let _ = self.broke.set(error.to_string());
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn heard(&self, byte: u8) {
        if !self.began.swap(true, Ordering::Relaxed) {
            self.first.store(byte, Ordering::Relaxed);
        }
    }

    /// What it speaks, if that is not HTTP/2.
    fn other_protocol(&self) -> Option<HttpError> {
        match self.first.load(Ordering::Relaxed) {
            b'H' => Some(HttpError::Other("it speaks HTTP/1.1, not HTTP/2")),
            // TLS: an alert or a handshake.
            0x15 | 0x16 => Some(HttpError::Other("it speaks TLS: write grpcs:// or https://")),
            _ => None,
        }
    }
}

impl HttpError {
    pub(super) fn from_h2(error: &h2::Error, peer: &Peer) -> Self {
        if let Some(other) = peer.other_protocol() {
            return other;
        }
        if let Some(io) = error.get_io() {
            return Self::Lost(peer.broke.get().cloned().unwrap_or_else(|| io.to_string()));
        }
        let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        if error.is_go_away() {
            // While the connection is still open, h2 fails only the streams above the last one that the
            // peer will answer. Once it has closed, the same error stands for all of them.
            return match reason {
                Reason::NO_ERROR if error.is_remote() && !peer.is_closed() => Self::Refused,
                Reason::NO_ERROR => Self::Lost("the server is going away".to_owned()),
                reason if error.is_remote() => Self::Lost(format!("the server went away with {reason:?}")),
                reason => Self::Malformed(format!("the server does not speak HTTP/2 well: {reason}")),
            };
        }
        match reason {
            Reason::REFUSED_STREAM if error.is_remote() => Self::Refused,
            reason if error.is_remote() => Self::Reset(reason),
            reason => Self::Malformed(format!("the server does not speak HTTP/2 well: {reason}")),
        }
    }

    pub(super) fn from_h1(error: &hyper::Error) -> Self {
        if error.is_parse() || error.is_parse_too_large() {
            return Self::Malformed(format!("the answer is not HTTP/1.1: {error}"));
        }
        let mut source: &dyn std::error::Error = error;
        while let Some(next) = source.source() {
            source = next;
        }
        Self::Lost(source.to_string())
    }
}

/// The peer takes no more of the request; the response tells why.
#[derive(Debug)]
pub(crate) struct SendClosed;

/// The side of the request.
pub(crate) enum RequestHalf {
    /// An HTTP/2 stream.
    H2 {
        /// Where pieces go.
        stream: h2::SendStream<Bytes>,
        /// Any has been sent.
        began: bool,
    },
    /// A chunked HTTP/1.1 body.
    H1(H1Sender),
    /// All of it is sent.
    Finished,
}

impl RequestHalf {
    /// Sends a piece, waiting until the peer grants room for some of it.
    pub(crate) async fn send(&mut self, bytes: Bytes, last: bool) -> Result<(), SendClosed> {
        match self {
            Self::H2 { stream, began } => {
                if bytes.is_empty() {
                    if last {
                        stream.send_data(bytes, true).map_err(|_| SendClosed)?;
                    }
                } else if !std::mem::replace(began, true) && bytes.len() <= FIRST_PIECE_BYTES_MAX {
                    stream.send_data(bytes, last).map_err(|_| SendClosed)?;
                } else {
                    stream.reserve_capacity(bytes.len());
                    if stream.capacity() == 0 {
                        match poll_fn(|cx| stream.poll_capacity(cx)).await {
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return Err(SendClosed),
                        }
                    }
                    stream.send_data(bytes, last).map_err(|_| SendClosed)?;
                }
            }
            Self::H1(sender) => {
                if !bytes.is_empty() {
                    sender.pieces.send(bytes).await.map_err(|_| SendClosed)?;
                }
                if last {
                    sender.finished.store(true, Ordering::Release);
                }
            }
            Self::Finished => return Err(SendClosed),
        }
        if last {
            *self = Self::Finished;
        }
        Ok(())
    }

    /// Gives up: the peer sees a cancelled stream.
    pub(crate) fn cancel(&mut self) {
        if let Self::H2 { stream, .. } = self {
            stream.send_reset(Reason::CANCEL);
        }
        // An HTTP/1.1 body that is dropped unfinished closes the connection.
        *self = Self::Finished;
    }
}

/// Feeds an [`H1Body`].
pub(crate) struct H1Sender {
    pieces: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

/// Request body of HTTP/1.1.
pub(crate) enum H1Body {
    /// Known whole.
    Whole(Option<Bytes>),
    /// Piece by piece.
    Pieces {
        /// The pieces.
        pieces: mpsc::Receiver<Bytes>,
        /// Set before the sender goes away in order.
        finished: Arc<AtomicBool>,
    },
}

impl H1Body {
    pub(super) fn pieces() -> (H1Sender, Self) {
        let (tx, rx) = mpsc::channel(4);
        let finished = Arc::new(AtomicBool::new(false));
        (H1Sender { pieces: tx, finished: Arc::clone(&finished) }, Self::Pieces { pieces: rx, finished })
    }
}

/// The caller gave up in the middle of a request body.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(crate) struct Cancelled;

impl Body for H1Body {
    type Data = Bytes;
    type Error = Cancelled;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cancelled>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces { pieces, finished } => match pieces.poll_recv(cx) {
                Poll::Ready(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(None) if finished.load(Ordering::Acquire) => Poll::Ready(None),
                Poll::Ready(None) => Poll::Ready(Some(Err(Cancelled))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pieces { .. } => http_body::SizeHint::default(),
        }
    }
}

/// The response that is to come.
pub(crate) enum ResponseHead {
    /// On an HTTP/2 stream.
    H2(h2::client::ResponseFuture, Arc<Peer>),
    /// On an HTTP/1.1 connection.
    H1(BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>),
}

impl ResponseHead {
    /// Waits for the response's headers.
    pub(crate) async fn wait(&mut self) -> Result<Response<ResponseBody>, HttpError> {
        match self {
            Self::H2(future, closed) => match future.await {
                Ok(response) => Ok(response.map(|body| ResponseBody::H2(body, Arc::clone(closed)))),
                Err(error) => Err(HttpError::from_h2(&error, closed)),
            },
            Self::H1(future) => match future.await {
                Ok(response) => Ok(response.map(|body| ResponseBody::H1 { body, trailers: None })),
                Err(error) => Err(HttpError::from_h1(&error)),
            },
        }
    }
}

/// The body of a response and the trailers after it.
pub(crate) enum ResponseBody {
    /// On an HTTP/2 stream.
    H2(h2::RecvStream, Arc<Peer>),
    /// On an HTTP/1.1 connection.
    H1 {
        /// What is left of the body.
        body: Incoming,
        /// The trailers, once they came.
        trailers: Option<HeaderMap>,
    },
}

impl ResponseBody {
    /// The next piece; `None` at the end.
    pub(crate) async fn data(&mut self) -> Option<Result<Bytes, HttpError>> {
        match self {
            Self::H2(stream, closed) => match stream.data().await? {
                Ok(bytes) => {
                    // It is in memory and bounded by the caller from here on. The only failure is releasing
                    // more than was received.
                    let _ = stream.flow_control().release_capacity(bytes.len());
                    Some(Ok(bytes))
                }
                // A server that has said all it has to say may stop the rest of our request so.
                Err(error) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => None,
                Err(error) => Some(Err(HttpError::from_h2(&error, closed))),
            },
            Self::H1 { body, trailers } => loop {
                match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
                    Ok(frame) => match frame.into_data() {
                        Ok(bytes) => return Some(Ok(bytes)),
                        Err(frame) => *trailers = frame.into_trailers().ok(),
                    },
                    Err(error) => return Some(Err(HttpError::from_h1(&error))),
                }
            },
        }
    }

    /// The trailers, after the last piece.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, HttpError> {
        match self {
            Self::H2(stream, closed) => match stream.trailers().await {
                Ok(trailers) => Ok(trailers),
                Err(error) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => Ok(None),
                Err(error) => Err(HttpError::from_h2(&error, closed)),
            },
            Self::H1 { trailers, .. } => Ok(trailers.take()),
        }
    }
}

/// A request in flight.
pub(crate) struct Exchange {
    /// Where the request goes out.
    pub(crate) request: RequestHalf,
    /// Where the response comes in.
    pub(crate) head: ResponseHead,
}

/// What goes out with the headers.
pub(crate) enum FirstBody {
    /// All there is.
    Whole(Bytes),
    /// Pieces follow.
    Pieces,
}

/// A request without its body.
pub(crate) type Head = Request<()>;
