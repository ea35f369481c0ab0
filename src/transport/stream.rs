//! A connected byte stream of any kind, with its first bytes to be looked at before they are read.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::{self, Certificate};

/// Bytes that may be looked at ahead: enough to tell any protocol by its preface, cheap for an idle connection.
pub const PEEK_BYTES_MAX: usize = 1024;

/// What is asked of the system at once: an HTTP/2 preface and its first frame's header.
const PEEK_BYTES_MIN: usize = 64;

/// So much is read of what a peer said before it cut the connection: alerts come after few bytes.
const LAST_WORDS_BYTES_MAX: usize = 64 * 1024;

/// A connected byte stream.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
    /// Taken from the socket, not yet read by anyone.
    ahead: BytesMut,
    since: Instant,
}

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Kind {
    /// Plain TCP, `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// A pipe in this process, and who holds the other end.
    Mem(DuplexStream, String),
    /// TLS over one of the others.
    Tls(Box<tokio_rustls::TlsStream<Stream>>),
}

impl Stream {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, ahead: BytesMut::new(), since: Instant::now() }
    }

    /// When it was accepted, or dialled.
    pub fn since(&self) -> Instant {
        match &self.kind {
            Kind::Tls(tls) => tls.get_ref().0.since(),
            Kind::Tcp(_) | Kind::Unix(_) | Kind::Mem(..) => self.since,
        }
    }

    pub(super) fn into_kind(self) -> (Kind, BytesMut) {
        (self.kind, self.ahead)
    }

    /// The other end, for messages.
    pub fn peer(&self) -> String {
        match &self.kind {
            Kind::Tcp(stream) => {
                stream.peer_addr().map_or_else(|_| "tcp:gone".to_owned(), |peer| peer.to_string())
            }
            Kind::Unix(_) => "unix".to_owned(),
            Kind::Mem(_, name) => format!("mem:{name}"),
            Kind::Tls(stream) => stream.get_ref().0.peer(),
        }
    }

    /// The other end's internet address; none for Unix sockets.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream) => stream.peer_addr().ok(),
            Kind::Unix(_) | Kind::Mem(..) => None,
            Kind::Tls(stream) => stream.get_ref().0.peer_address(),
        }
    }

    /// This end's internet address; none for Unix sockets.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream) => stream.local_addr().ok(),
            Kind::Unix(_) | Kind::Mem(..) => None,
            Kind::Tls(stream) => stream.get_ref().0.local_address(),
        }
    }

    /// True if TLS protects it.
    pub fn is_tls(&self) -> bool {
        matches!(self.kind, Kind::Tls(_))
    }

    /// The protocol that both ends chose by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Kind::Tcp(_) | Kind::Unix(_) | Kind::Mem(..) => None,
        }
    }

    /// The other end's certificate. On a server it was verified; on a client too, unless it was told not to.
    pub fn peer_certificate(&self) -> Option<Certificate> {
        match &self.kind {
            Kind::Tls(stream) => Certificate::read(stream.get_ref().1.peer_certificates()?.first()?),
            Kind::Tcp(_) | Kind::Unix(_) | Kind::Mem(..) => None,
        }
    }

    /// Waits for `wanted` bytes (at most `PEEK_BYTES_MAX`) and shows what has come, without taking it:
    /// the next reader sees them again. Fewer than `wanted` means that the other end has finished writing.
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The operating system's, and TLS's.
    pub async fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(PEEK_BYTES_MAX);
        while self.ahead.len() < wanted {
            self.ahead.reserve((wanted - self.ahead.len()).max(PEEK_BYTES_MIN));
            if self.kind.read_buf(&mut self.ahead).await? == 0 {
                break;
            }
        }
        Ok(&self.ahead)
    }

    /// Gives back bytes that were read too far: the next reader sees them first.
    pub fn unread(&mut self, mut bytes: BytesMut) {
        if !bytes.is_empty() {
            bytes.extend_from_slice(&self.ahead);
            self.ahead = bytes;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.kind).poll_read(cx, buf);
        }
        let taken = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..taken]);
        this.ahead.advance(taken);
        if this.ahead.is_empty() {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    /// Why writing fails: with TLS 1.3 a server refuses a client's certificate when the client has long begun
    /// to talk. Its alert waits to be read behind a connection that can no longer be written to.
    fn explained(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let is_cut = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
        );
        if !is_cut || !self.is_tls() {
            return error;
        }
        let mut part = [0; 1024];
        while self.ahead.len() < LAST_WORDS_BYTES_MAX {
            let mut read = ReadBuf::new(&mut part);
            match Pin::new(&mut self.kind).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => break,
                // What was said before the alert is still there for who reads.
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(read.filled()),
                Poll::Ready(Err(reason)) if tls::is_alert(&reason) => return reason,
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        error
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.kind).poll_write(cx, buf));
        Poll::Ready(result.map_err(|error| this.explained(cx, error)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.kind).poll_flush(cx));
        Poll::Ready(result.map_err(|error| this.explained(cx, error)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().kind).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.kind).poll_write_vectored(cx, bufs));
        Poll::Ready(result.map_err(|error| this.explained(cx, error)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Kind::Tcp($stream) => $call,
            Kind::Unix($stream) => $call,
            Kind::Mem($stream, _) => $call,
            Kind::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Kind {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Kind {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn pair() -> (Stream, Stream) {
        let (left, right) = tokio::io::duplex(4096);
        (Stream::new(Kind::Mem(left, "right".to_owned())), Stream::new(Kind::Mem(right, "left".to_owned())))
    }

    #[tokio::test]
    async fn what_was_peeked_is_read_again() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"PRI * HTTP/2.0").await.unwrap();
        assert_eq!(ours.peek(4).await.unwrap(), b"PRI * HTTP/2.0");
        let mut first = [0; 5];
        ours.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"PRI *");
        theirs.shutdown().await.unwrap();
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, " HTTP/2.0");
    }

    #[tokio::test]
    async fn a_peek_ends_with_the_stream() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"ab").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(ours.peek(4).await.unwrap(), b"ab");
    }

    #[tokio::test]
    async fn a_dropped_peek_loses_nothing() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"ab").await.unwrap();
        tokio::select! {
            biased;
            _ = ours.peek(3) => panic!("only two bytes were sent"),
            () = std::future::ready(()) => {}
        }
        theirs.write_all(b"c").await.unwrap();
        assert_eq!(ours.peek(3).await.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn unread_bytes_come_before_peeked_ones() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"cd").await.unwrap();
        ours.peek(1).await.unwrap();
        ours.unread(BytesMut::from(&b"ab"[..]));
        let mut all = [0; 4];
        ours.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"abcd");
    }
}
