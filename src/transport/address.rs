//! Where a socket is: `HOST:PORT`, `:PORT`, `PORT`, `unix:PATH`, `mem:NAME`.

use std::path::PathBuf;

/// Text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: expected HOST:PORT, :PORT, PORT or unix:PATH")]
pub struct AddressError {
    /// What was given.
    pub text: String,
}

/// One place to connect to or to listen at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP. An empty host is 127.0.0.1.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port; 0 asks for a free one when listening.
        port: u16,
    },
    /// UDP, written `udp:HOST:PORT`.
    Udp {
        /// Name or address, without brackets.
        host: String,
        /// Port; 0 asks for a free one when listening.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A TCP address.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }

    /// True if only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp { host, .. } | Self::Udp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
            Self::Unix(_) => true,
        }
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = || AddressError { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(fail()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(rest) = text.strip_prefix("udp:") {
            let (host, port) = host_port(rest.strip_prefix("//").unwrap_or(rest)).ok_or_else(fail)?;
            return Ok(Self::Udp { host, port });
        }
        let rest = text.strip_prefix("tcp:").map_or(text, |rest| rest.strip_prefix("//").unwrap_or(rest));
        let (host, port) = host_port(rest).ok_or_else(fail)?;
        Ok(Self::Tcp { host, port })
    }
}

fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_none() && host.contains(':') {
        return None;
    }
    let host = bracketed.unwrap_or(host);
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Some((host.to_owned(), port.parse().ok()?))
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp:[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "udp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
