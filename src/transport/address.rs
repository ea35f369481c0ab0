//! Where a socket is: `HOST:PORT`, `:PORT`, `PORT`, `unix:PATH`, `udp:HOST:PORT`, and names in a test network.

use std::path::PathBuf;

use super::mem;

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
    /// A name in an in-memory network; has no text form that parses, because only tests have one.
    Mem(mem::Name),
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
            Self::Unix(_) | Self::Mem(_) => true,
        }
    }

    /// The address that a socket really has.
    pub(super) fn of(address: std::net::SocketAddr) -> Self {
        Self::tcp(address.ip().to_string(), address.port())
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
    let foreign = |c: char| c.is_whitespace() || c.is_control() || "[]/@?#".contains(c);
    if host.contains(foreign) || (bracketed.is_some() && host.is_empty()) {
        return None;
    }
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
            Self::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"//") => {
                write!(f, "unix://{}", path.display())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Mem(name) => write!(f, "mem:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_port_and_shorthands() {
        let tcp = |host: &str, port| Address::tcp(host, port);
        for (text, expected) in [
            ("example.org:80", tcp("example.org", 80)),
            (":50051", tcp("127.0.0.1", 50051)),
            ("50051", tcp("127.0.0.1", 50051)),
            ("tcp://h:1", tcp("h", 1)),
            ("[::1]:7", tcp("::1", 7)),
            ("udp:h:1", Address::Udp { host: "h".to_owned(), port: 1 }),
            ("udp://:9", Address::Udp { host: "127.0.0.1".to_owned(), port: 9 }),
            ("unix:/run/x", Address::Unix("/run/x".into())),
            ("unix:///run/x", Address::Unix("/run/x".into())),
        ] {
            assert_eq!(text.parse::<Address>(), Ok(expected), "{text}");
        }
        for text in ["", ":", "h", "h:", "h:x", "h:65536", "::1:80", "h:+1", "unix:", "-1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for text in [":1", "localhost:1", "[::1]:1", "127.9.9.9:1", "unix:/x", "udp::1"] {
            assert!(text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "example.org:1", "udp:10.0.0.1:1"] {
            assert!(!text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_again(text in ".{0,40}|(udp:|unix:|tcp://)?[a-z.:0-9\\[\\]]{0,20}:[0-9]{1,5}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
