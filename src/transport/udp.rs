//! Datagrams: UDP, and the in-memory network's.

use std::io;
use std::net::SocketAddr;

use rustix::net::sockopt;
use tokio::net::UdpSocket;

use super::{Address, Error, mem, tcp};

/// What one UDP datagram over IPv4 can carry: 65,535 less the IP and UDP headers.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Datagrams that the kernel keeps while we are busy; it may grant less (net.core.rmem_max).
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;

/// A socket for datagrams.
#[derive(Debug)]
pub struct Datagrams {
    kind: Kind,
    /// Where `send` sends to, if connected in memory.
    to: Option<SocketAddr>,
}

#[derive(Debug)]
enum Kind {
    Udp(UdpSocket),
    Mem(mem::Socket),
}

impl Datagrams {
    /// Receives at `address`.
    ///
    /// # Errors
    /// The address is taken, unresolvable, not permitted, or not one for datagrams.
    pub async fn bind(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: address.clone(), source };
        match address {
            Address::Udp { host, port } => {
                let addresses = tcp::addresses(host, *port)
                    .await
                    .map_err(|source| Error::Resolve { host: host.clone(), source })?;
                let socket = UdpSocket::bind(addresses.as_slice()).await.map_err(failed)?;
                // Less is not an error: the kernel grants what its administrator allows.
                let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
                Ok(Self { kind: Kind::Udp(socket), to: None })
            }
            Address::Mem(name) => Ok(Self { kind: Kind::Mem(name.socket().map_err(failed)?), to: None }),
            Address::Tcp { .. } | Address::Unix(_) => Err(failed(unsupported())),
        }
    }

    /// A socket of its own that talks to `address` only.
    ///
    /// # Errors
    /// The address is unresolvable or not one for datagrams.
    pub async fn connect(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Connect { address: address.clone(), source };
        match address {
            Address::Udp { host, port } => {
                let addresses = tcp::addresses(host, *port)
                    .await
                    .map_err(|source| Error::Resolve { host: host.clone(), source })?;
                let socket = connect_any(&addresses).await.map_err(failed)?;
                Ok(Self { kind: Kind::Udp(socket), to: None })
            }
            Address::Mem(name) => {
                let (socket, to) = name.socket_to().map_err(failed)?;
                Ok(Self { kind: Kind::Mem(socket), to: Some(to) })
            }
            Address::Tcp { .. } | Address::Unix(_) => Err(failed(unsupported())),
        }
    }

    /// Sends one datagram to the address that it is connected to.
    ///
    /// # Errors
    /// The operating system's; on a connected socket also that nobody received the one before.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        within_limit(bytes)?;
        match &self.kind {
            Kind::Udp(socket) => socket.send(bytes).await.map(drop),
            Kind::Mem(socket) => {
                socket.send_to(bytes, self.to.ok_or(io::ErrorKind::NotConnected)?);
                Ok(())
            }
        }
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        within_limit(bytes)?;
        match &self.kind {
            Kind::Udp(socket) => socket.send_to(bytes, to).await.map(drop),
            Kind::Mem(socket) => {
                socket.send_to(bytes, to);
                Ok(())
            }
        }
    }

    /// Receives one datagram from the address that it is connected to. A buffer of [`DATAGRAM_BYTES_MAX`] holds
    /// any; the rest of a longer one is lost. Dropping the future loses none.
    ///
    /// # Errors
    /// The operating system's, such as that nobody listens there.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Udp(socket) => socket.recv(buffer).await,
            Kind::Mem(socket) => loop {
                let (length, from) = socket.recv_from(buffer).await;
                if Some(from) == self.to {
                    return Ok(length);
                }
            },
        }
    }

    /// Receives one datagram and its sender.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match &self.kind {
            Kind::Udp(socket) => socket.recv_from(buffer).await,
            Kind::Mem(socket) => Ok(socket.recv_from(buffer).await),
        }
    }

    /// Where it receives, with the port it took.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<Address> {
        match &self.kind {
            Kind::Udp(socket) => {
                let address = socket.local_addr()?;
                Ok(Address::Udp { host: address.ip().to_string(), port: address.port() })
            }
            Kind::Mem(socket) => Ok(Address::Mem(socket.name().clone())),
        }
    }

    /// What others send to.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Udp(socket) => socket.local_addr(),
            Kind::Mem(socket) => Ok(socket.address()),
        }
    }
}

async fn connect_any(addresses: &[SocketAddr]) -> io::Result<UdpSocket> {
    let mut failure = None;
    for address in addresses {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let connected = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            Ok(socket)
        };
        match connected.await {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn within_limit(bytes: &[u8]) -> io::Result<()> {
    if bytes.len() <= DATAGRAM_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a datagram of {} bytes is over the limit of {DATAGRAM_BYTES_MAX}", bytes.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "datagrams need udp:HOST:PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connected_socket_talks_to_one_that_is_bound() {
        let network = mem::Network::new(1);
        for address in ["udp:127.0.0.1:0".parse().unwrap(), Address::Mem(network.name("a"))] {
            let server = Datagrams::bind(&address).await.unwrap();
            let client = Datagrams::connect(&server.address().unwrap()).await.unwrap();
            client.send(b"ping").await.unwrap();
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"ping");
            server.send_to(b"pong", from).await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"pong");
        }
    }

    #[tokio::test]
    async fn the_size_is_bounded_before_the_kernel_says_so() {
        let server = Datagrams::bind(&"udp:127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = Datagrams::connect(&server.address().unwrap()).await.unwrap();
        client.send(&vec![7; DATAGRAM_BYTES_MAX]).await.unwrap();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        assert_eq!(server.recv_from(&mut buffer).await.unwrap().0, DATAGRAM_BYTES_MAX);
        let refused = client.send(&vec![7; DATAGRAM_BYTES_MAX + 1]).await.unwrap_err();
        assert_eq!(refused.to_string(), "a datagram of 65508 bytes is over the limit of 65507");
    }
}
