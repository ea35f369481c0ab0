//! Sockets: the only module that opens one.
//!
//! [`Address`] says where; [`Stream`] and [`Listener`] are closed enums over the kinds there are, so that no
//! protocol is generic over its transport. TLS is a layer over any stream. Tests use [`mem::Network`] instead of
//! the operating system and pass the same addresses, listeners and streams around.
//!
//! ```text
//! connect  Address -> Stream          deadline, several addresses at once, TLS
//! accept   Listener -> Stream ...     permit first, handshake deadline, back-off, drain on stop
//! framed   Stream -> whole messages   bounded buffers
//! http     Stream -> requests         HTTP/1.1 for what servers offer beside their protocol
//! ```

pub mod accept;
mod address;
mod connect;
pub mod framed;
pub mod http;
mod listener;
pub mod mem;
mod route;
pub mod sasl;
mod split;
mod stream;
mod tcp;
pub mod tls;
pub mod udp;
mod unix;

pub use accept::Acceptor;
pub use address::{Address, AddressError};
pub use connect::ConnectOptions;
pub use listener::{BoundAddress, Listener};
pub use route::own_address;
pub use split::{ReadHalf, WriteHalf};
pub use stream::Stream;
pub use tcp::addresses;
pub use tls::{TlsClient, TlsServer};
pub use udp::Datagrams;
pub use unix::answers;

/// Why a connection or a listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answered, or it refused.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: Address,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's word.
        source: std::io::Error,
    },
    /// The deadline passed before there was a connection.
    #[error("no connection to {address} within {after:?}")]
    Timeout {
        /// Where.
        address: Address,
        /// The time given.
        after: std::time::Duration,
    },
    /// TLS could not be agreed on.
    #[error("TLS with {address} failed: {source}")]
    Tls {
        /// Where.
        address: Address,
        /// rustls' word.
        source: std::io::Error,
    },
    /// A certificate or key file is unusable.
    #[error(transparent)]
    Certificate(#[from] tls::TlsError),
}
