//! A connected byte stream and what accepts them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{Address, Error};

/// A connected byte stream.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP, `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `address`, plainly.
    ///
    /// # Errors
    /// Unresolvable names, refused connections.
    pub async fn connect(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Connect { address: address.clone(), source };
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await.map_err(failed)?)),
            Address::Udp { .. } => {
                Err(failed(io::Error::new(io::ErrorKind::Unsupported, "UDP has no streams")))
            }
        }
    }

    /// The other end, for messages.
    pub fn peer(&self) -> String {
        match self {
            Self::Tcp(stream) => {
                stream.peer_addr().map_or_else(|_| "tcp:gone".to_owned(), |peer| peer.to_string())
            }
            Self::Unix(_) => "unix".to_owned(),
        }
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
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

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Where a listener really is, once the port is known.
pub type BoundAddress = Address;

/// Accepts streams.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// The address is taken, unresolvable or not permitted.
    pub async fn bind(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: address.clone(), source };
        match address {
            Address::Tcp { host, port } => {
                Ok(Self::Tcp(TcpListener::bind((host.as_str(), *port)).await.map_err(failed)?))
            }
            Address::Unix(path) => Ok(Self::Unix(UnixListener::bind(path).map_err(failed)?)),
            Address::Udp { .. } => {
                Err(failed(io::Error::new(io::ErrorKind::Unsupported, "UDP has no streams")))
            }
        }
    }

    /// The next stream.
    ///
    /// # Errors
    /// The operating system's, such as too many open files.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }

    /// Where it listens, with the port it took.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<BoundAddress> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::tcp(address.ip().to_string(), address.port()))
            }
            Self::Unix(listener) => Ok(Address::Unix(
                listener.local_addr()?.as_pathname().map(std::path::Path::to_owned).unwrap_or_default(),
            )),
        }
    }
}
