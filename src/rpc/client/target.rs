//! Which server a client talks to, and how: address, TLS, authority, protocol.

use std::time::Duration;

use super::HttpVersion;
use crate::transport::tls::{ALPN_H2, ALPN_HTTP11};
use crate::transport::{self, Address, ConnectOptions, Stream, TlsClient};

/// The protocol of calls over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// gRPC; HTTP/2 only.
    Grpc,
    /// gRPC-Web, binary.
    GrpcWeb,
    /// Connect.
    Connect,
}

impl HttpProtocol {
    /// The word for it in URLs, flags and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Connect => "connect",
        }
    }

    /// How people write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC",
            Self::GrpcWeb => "gRPC-Web",
            Self::Connect => "Connect",
        }
    }
}

/// A server as an HTTP client sees it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect to.
    pub address: Address,
    /// Host and port as requests name them.
    pub authority: String,
    /// What stands before `/package.Service/Method`, without a slash at its end: empty, or `/prefix`.
    pub prefix: String,
    /// The protocol.
    pub protocol: HttpProtocol,
    /// The version of HTTP.
    pub version: HttpVersion,
    /// TLS; `None` for plaintext.
    pub tls: Option<TlsClient>,
    /// Time to wait for a connection.
    pub connect_timeout: Duration,
}

impl Target {
    /// A server that speaks gRPC without TLS.
    pub fn grpc(address: Address) -> Self {
        Self {
            authority: authority_of(&address),
            address,
            prefix: String::new(),
            protocol: HttpProtocol::Grpc,
            version: HttpVersion::H2,
            tls: None,
            connect_timeout: ConnectOptions::default().timeout,
        }
    }

    /// The same server, spoken to in `protocol`: gRPC takes HTTP/2, the others HTTP/1.1.
    #[must_use]
    pub fn protocol(mut self, protocol: HttpProtocol) -> Self {
        self.protocol = protocol;
        self.version = match protocol {
            HttpProtocol::Grpc => HttpVersion::H2,
            HttpProtocol::GrpcWeb | HttpProtocol::Connect => HttpVersion::H1,
        };
        self
    }

    /// The same server, over TLS.
    #[must_use]
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.tls = Some(tls);
        self
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// Host and port of an address as requests name them; sockets without a host are `localhost`, as in
/// gRPC's own clients.
fn authority_of(address: &Address) -> String {
    match address {
        Address::Tcp { .. } => address.to_string(),
        Address::Udp { .. } | Address::Unix(_) | Address::Mem(_) => "localhost".to_owned(),
    }
}

/// Opens connections to a target.
pub(crate) struct Dialer {
    target: Target,
}

impl Dialer {
    pub(crate) fn new(target: Target) -> Self {
        Self { target }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Opens a connection on which `version` can be spoken.
    pub(crate) async fn dial(&self, version: HttpVersion) -> Result<Stream, transport::Error> {
        let protocol = match version {
            HttpVersion::H2 => ALPN_H2,
            HttpVersion::H1 => ALPN_HTTP11,
        };
        let options = ConnectOptions {
            timeout: self.target.connect_timeout,
            tls: self.target.tls.as_ref().map(|tls| tls.with_alpn(&[protocol])),
        };
        Stream::connect_with(&self.target.address, &options).await
    }
}
