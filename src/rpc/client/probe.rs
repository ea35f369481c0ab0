//! What answers at an address, for a person whose call failed there: TLS, or HTTP without it. Nothing of the call
//! is told to whoever it is.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::transport::tls::{ALPN_H2, ALPN_HTTP11, Fault, TlsClientOptions, fault};
use crate::transport::{Address, ConnectOptions, Error, Stream, TlsClient};

/// RFC 9113, 3.4: the client's preface, and an empty SETTINGS frame.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Bytes that tell HTTP: the head of a frame, or the begin of a status line.
const HEAD_SIZE: usize = 9;

/// True if TLS is spoken there, by whomever, within `limit`.
pub async fn speaks_tls(address: &Address, limit: Duration) -> bool {
    let alpn = vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()];
    let options = TlsClientOptions { insecure: true, alpn, ..TlsClientOptions::default() };
    let Ok(tls) = TlsClient::new(&options) else { return false };
    let options = ConnectOptions { timeout: limit, tls: Some(tls) };
    match Stream::connect_with(address, &options).await {
        Ok(_) => true,
        // Who refuses us in the words of TLS speaks it.
        Err(Error::Tls { source, .. }) => {
            matches!(
                fault(&source),
                Some(Fault::OurCertificate | Fault::DistrustsUs | Fault::NoCommonProtocol)
            )
        }
        Err(_) => false,
    }
}

/// True if HTTP is spoken there without TLS, within `limit`.
pub async fn speaks_http(address: &Address, limit: Duration) -> bool {
    let talk = async {
        let options = ConnectOptions { timeout: limit, tls: None };
        let mut stream = Stream::connect_with(address, &options).await.ok()?;
        stream.write_all(HTTP2_PREFACE).await.ok()?;
        stream.flush().await.ok()?;
        Some(is_http(stream.peek(HEAD_SIZE).await.ok()?))
    };
    matches!(timeout(limit, talk).await, Ok(Some(true)))
}

/// True if an answer to [`HTTP2_PREFACE`] begins so: with SETTINGS, or in words of HTTP/1.
pub fn is_http(head: &[u8]) -> bool {
    head.get(3) == Some(&4) && head.first() == Some(&0) || head.starts_with(b"HTTP/1.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_looks_like_http() {
        assert!(is_http(&[0, 0, 18, 4, 0, 0, 0, 0, 0]));
        assert!(is_http(b"HTTP/1.1 400 Bad Request"));
        for other in [&b""[..], b"\x15\x03\x03\x00\x02\x02\x46", b"SSH-2.0-x", b"abc\x04"] {
            assert!(!is_http(other), "{other:?}");
        }
    }
}
