//! Which protocol a stream speaks, told by its first bytes.

use std::io;

use crate::transport::Stream;

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

/// Waits until the protocol of a stream can be told; `None` if the peer left before. Its first bytes are read again.
///
/// # Errors
/// The stream's.
pub async fn protocol(stream: &mut Stream) -> io::Result<Option<Protocol>> {
    let mut wanted = 1;
    loop {
        let start = stream.peek(wanted).await?;
        if let Some(protocol) = sniff(start) {
            return Ok(Some(protocol));
        }
        if start.len() < wanted {
            return Ok(None);
        }
        wanted = start.len() + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Address, Listener, mem};

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
    async fn a_protocol_is_told_however_its_first_bytes_are_cut() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let address = Address::Mem(mem::Network::new(1).name("a"));
        let listener = Listener::bind(&address).await.unwrap();
        let mut theirs = Stream::connect(&address).await.unwrap();
        let mut ours = listener.accept().await.unwrap();
        let send = async {
            for byte in HTTP2_PREFACE {
                theirs.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            theirs.shutdown().await.unwrap();
        };
        let (told, ()) = tokio::join!(protocol(&mut ours), send);
        assert_eq!(told.unwrap(), Some(Protocol::Http2));
        let mut all = Vec::new();
        ours.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, HTTP2_PREFACE);
        let mut theirs = Stream::connect(&address).await.unwrap();
        theirs.write_all(b"PRI").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(protocol(&mut listener.accept().await.unwrap()).await.unwrap(), None);
    }
}
