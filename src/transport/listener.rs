//! What accepts streams.

use std::io;

use tokio::net::TcpListener;

use super::stream::Kind;
use super::unix::SocketFile;
use super::{Address, Error, Stream, mem, tcp};

/// Where a listener really is, once the port is known.
pub type BoundAddress = Address;

/// Accepts streams.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(SocketFile),
    /// A name in an in-memory network.
    Mem(mem::Listener),
}

impl Listener {
    /// Listens at `address`. A socket file that nobody listens at is replaced.
    ///
    /// # Errors
    /// The address is taken, unresolvable or not permitted.
    pub async fn bind(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: address.clone(), source };
        match address {
            Address::Tcp { host, port } => Ok(Self::Tcp(tcp::listen(host, *port).await.map_err(failed)?)),
            Address::Unix(path) => Ok(Self::Unix(SocketFile::bind(path).map_err(failed)?)),
            Address::Mem(name) => Ok(Self::Mem(name.listen().map_err(failed)?)),
            Address::Udp { .. } => {
                Err(failed(io::Error::new(io::ErrorKind::Unsupported, "UDP has no streams")))
            }
        }
    }

    /// The next stream. TLS is for the caller to add, so that a slow handshake delays nobody else.
    /// Dropping the future loses no connection.
    ///
    /// # Errors
    /// The operating system's, such as too many open files.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                tcp::prepare(&stream)?;
                Ok(Stream::new(Kind::Tcp(stream)))
            }
            Self::Unix(socket) => Ok(Stream::new(Kind::Unix(socket.accept().await?))),
            Self::Mem(listener) => listener.accept().await,
        }
    }

    /// Where it listens, with the port it took.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<BoundAddress> {
        match self {
            Self::Tcp(listener) => Ok(Address::of(listener.local_addr()?)),
            Self::Unix(socket) => Ok(Address::Unix(socket.path().to_owned())),
            Self::Mem(listener) => Ok(Address::Mem(listener.name().clone())),
        }
    }
}
