//! Which protocol a stream speaks, told by its first bytes, which are then read again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A protocol by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/1.1.
    Http1,
    /// JSON-RPC documents, as lines or with `Content-Length`.
    JsonRpc,
    /// bandy's compact protocol, whose preface starts with a byte that is not ASCII.
    Compact,
    /// A TLS handshake on a port that does not do TLS.
    Tls,
    /// None of them.
    Unknown,
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Tells the protocol; `None` if it takes more bytes.
pub fn sniff(start: &[u8]) -> Option<Protocol> {
    let first = *start.first()?;
    if HTTP2_PREFACE.starts_with(start) || start.starts_with(HTTP2_PREFACE) {
        // "PRI" alone is no method of HTTP/1.1: the whole preface decides.
        return (start.len() >= HTTP2_PREFACE.len()).then_some(Protocol::Http2);
    }
    match first {
        b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n' => Some(Protocol::JsonRpc),
        // RFC 8446, 5.1: a record of type handshake.
        0x16 => Some(Protocol::Tls),
        0x80.. => Some(Protocol::Compact),
        b'c' => Some(Protocol::JsonRpc),
        b'C' => match start.get(1) {
            Some(b'o') => Some(Protocol::JsonRpc),
            Some(_) => Some(Protocol::Http1),
            None => None,
        },
        b'A'..=b'Z' => Some(Protocol::Http1),
        _ => Some(Protocol::Unknown),
    }
}

/// A stream whose first bytes can be looked at before they are read.
#[derive(Debug)]
pub struct Rewind<S> {
    head: BytesMut,
    stream: S,
}

impl<S: AsyncRead + Unpin> Rewind<S> {
    /// Nothing has been read yet.
    pub fn new(stream: S) -> Self {
        Self { head: BytesMut::with_capacity(64), stream }
    }

    /// Waits until the protocol can be told; `None` if the peer left before.
    pub async fn protocol(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            if let Some(protocol) = sniff(&self.head) {
                return Ok(Some(protocol));
            }
            if self.stream.read_buf(&mut self.head).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..count]);
        self.head.advance(count);
        if self.head.is_empty() {
            // Free it: idle connections are many.
            self.head = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let cases: &[(&[u8], Option<Protocol>)] = &[
            (b"", None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Some(Protocol::Http2)),
            (b"PRI / HTTP/1.1", Some(Protocol::Http1)),
            (b"PO", Some(Protocol::Http1)),
            (b"GET / HTTP/1.1", Some(Protocol::Http1)),
            (b"C", None),
            (b"CONNECT", Some(Protocol::Http1)),
            (b"Content-Length: 5", Some(Protocol::JsonRpc)),
            (b"content-length: 5", Some(Protocol::JsonRpc)),
            (b"{\"jsonrpc\"", Some(Protocol::JsonRpc)),
            (b"[", Some(Protocol::JsonRpc)),
            (b"\n", Some(Protocol::JsonRpc)),
            (b"\x16\x03\x01", Some(Protocol::Tls)),
            (b"\xb4\x00", Some(Protocol::Compact)),
            (b"\0\0\0\0", Some(Protocol::Unknown)),
            (b"ssh", Some(Protocol::Unknown)),
        ];
        for (start, expected) in cases {
            assert_eq!(sniff(start), *expected, "{}", start.escape_ascii());
        }
    }

    #[tokio::test]
    async fn looked_at_bytes_are_read_again() {
        let mut stream = Rewind::new(&b"GET / HTTP/1.1\r\n"[..]);
        assert_eq!(stream.protocol().await.unwrap(), Some(Protocol::Http1));
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\n");
    }
}
