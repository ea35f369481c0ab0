//! Sockets: the only module that opens one.
//!
//! [`Address`] says where, [`Stream`] and [`Listener`] are closed enums over the kinds there are.

mod address;
mod stream;

pub use address::{Address, AddressError};
pub use stream::{BoundAddress, Listener, Stream};

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
    #[error("{0}")]
    Certificate(String),
}
