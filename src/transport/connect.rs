//! Connect with a deadline, over several addresses, again and again if asked to, and with TLS.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

use super::stream::Kind;
use super::{Address, Error, Stream, TlsClient, tcp};
use crate::backoff::Backoff;

/// How long a connection may take, name, TCP and TLS together, unless the caller says otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// For everything together: name, connection, TLS.
    pub timeout: Duration,
    /// TLS, if it is to be spoken.
    pub tls: Option<TlsClient>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: CONNECT_TIMEOUT, tls: None }
    }
}

impl Stream {
    /// Connects to `address`, plainly, within `CONNECT_TIMEOUT`.
    ///
    /// # Errors
    /// Unresolvable names, refused connections, silence.
    pub async fn connect(address: &Address) -> Result<Self, Error> {
        Self::connect_with(address, &ConnectOptions::default()).await
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// Unresolvable names, refused connections, silence, certificates that are not trusted.
    pub async fn connect_with(address: &Address, options: &ConnectOptions) -> Result<Self, Error> {
        match tokio::time::timeout(options.timeout, connect(address, options)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { address: address.clone(), after: options.timeout }),
        }
    }

    /// Connects to `address`, again after each delay of `backoff` as long as nobody listens there and `deadline`
    /// has not passed. Distrust and other lasting failures end it at once. The seed is for the jitter.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn connect_until(
        address: &Address,
        options: &ConnectOptions,
        backoff: Backoff,
        seed: u64,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let mut delays = backoff.delays(seed);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let attempt = ConnectOptions { timeout: options.timeout.min(left), ..options.clone() };
            let error = match Self::connect_with(address, &attempt).await {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            let delay = delays.next().unwrap_or(backoff.max);
            if Instant::now() + delay >= deadline {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }
}

impl Error {
    /// True if the same attempt can succeed later without anybody changing it: the server is not there yet.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::WouldBlock
            ),
            Self::Timeout { .. } | Self::Resolve { .. } => true,
            // A server that goes down in the middle of a handshake, unlike one that is not trusted.
            Self::Tls { source, .. } => {
                matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
            }
            Self::Listen { .. } | Self::Certificate(_) => false,
        }
    }
}

async fn connect(address: &Address, options: &ConnectOptions) -> Result<Stream, Error> {
    let stream = connect_plain(address).await?;
    let Some(tls) = &options.tls else { return Ok(stream) };
    let host = match address {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Udp { .. } | Address::Unix(_) | Address::Mem(_) => "localhost",
    };
    let name = tls.name_for(host)?;
    tls.handshake(stream, name).await.map_err(|source| Error::Tls { address: address.clone(), source })
}

async fn connect_plain(address: &Address) -> Result<Stream, Error> {
    let failed = |source| Error::Connect { address: address.clone(), source };
    let kind = match address {
        Address::Tcp { host, port } => match tcp::connect(host, *port).await {
            Ok(stream) => Kind::Tcp(stream),
            Err(tcp::Failure::Connect(source)) => return Err(failed(source)),
            Err(tcp::Failure::Resolve(source)) => {
                return Err(Error::Resolve { host: host.clone(), source });
            }
        },
        Address::Unix(path) => Kind::Unix(UnixStream::connect(path).await.map_err(failed)?),
        Address::Mem(name) => return name.connect().await.map_err(failed),
        Address::Udp { .. } => {
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "UDP has no streams")));
        }
    };
    Ok(Stream::new(kind))
}
