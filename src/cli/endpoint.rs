//! Which server: one URL grammar for all pillars, parsed once, printed with its password masked.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::errors::near_miss;
use super::exit::{Exit, Failure};
use crate::secret::Secret;
use crate::transport::Address;

/// One of the four ways to talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pillar {
    /// Call a function.
    Rpc,
    /// Hand out messages.
    Mq,
    /// Keep messages.
    Log,
    /// Spread news.
    Gossip,
}

impl Pillar {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Rpc, Self::Mq, Self::Log, Self::Gossip];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Mq => "mq",
            Self::Log => "log",
            Self::Gossip => "gossip",
        }
    }

    /// The same as a part of speech: by the sound of the letters, `an mq`.
    fn with_article(self) -> &'static str {
        match self {
            Self::Rpc => "an rpc",
            Self::Mq => "an mq",
            Self::Log => "a log",
            Self::Gossip => "a gossip",
        }
    }

    /// The environment variable that holds its endpoint.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Rpc => "BANDY_RPC_URL",
            Self::Mq => "BANDY_MQ_URL",
            Self::Log => "BANDY_LOG_URL",
            Self::Gossip => "BANDY_GOSSIP_URL",
        }
    }

    /// The scheme of an endpoint that has none.
    pub fn plain_scheme(self) -> Scheme {
        match self {
            Self::Rpc => Scheme::Grpc,
            Self::Mq => Scheme::Amqp,
            Self::Log => Scheme::Kafka,
            Self::Gossip => Scheme::Gossip,
        }
    }

    /// The port of a server that was told none: where URLs of its scheme lead, with TLS those of its twin, unless that port
    /// is the administrator's.
    pub fn port(self, is_tls: bool) -> Option<u16> {
        let plain = self.plain_scheme();
        let twin = SCHEMES.iter().find(|row| row.tls && row.name.strip_suffix('s') == Some(plain.name()));
        twin.filter(|_| is_tls).and_then(|row| row.port).filter(|port| *port >= 1024).or(plain.port())
    }

    /// A command that takes an endpoint, to show in a tip.
    fn example(self) -> &'static str {
        match self {
            Self::Rpc => "bandy rpc ls",
            Self::Mq => "bandy mq ls",
            Self::Log => "bandy log ls",
            Self::Gossip => "bandy gossip ls",
        }
    }

    /// Options that an endpoint of this pillar may carry after `?`.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Rpc => &["protocol", "framing"],
            Self::Mq => &["admin", "heartbeat"],
            Self::Log => &["sasl"],
            Self::Gossip => &["cluster"],
        }
    }
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// This user's own server.
    Local,
    /// A Unix socket by path.
    Unix,
    /// gRPC, plaintext.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
    /// HTTP, plaintext: gRPC, gRPC-Web, Connect, JSON-RPC.
    Http,
    /// HTTP over TLS.
    Https,
    /// The compact protocol over TCP.
    Tcp,
    /// The compact protocol over UDP.
    Udp,
    /// JSON-RPC lines over TCP.
    JsonRpcTcp,
    /// One JSON-RPC object per datagram.
    JsonRpcUdp,
    /// JSON-RPC lines over a Unix socket.
    JsonRpcUnix,
    /// AMQP 0-9-1, plaintext.
    Amqp,
    /// AMQP 0-9-1 over TLS.
    Amqps,
    /// The Kafka protocol, plaintext.
    Kafka,
    /// The Kafka protocol over TLS.
    Kafkas,
    /// A log's data directory, opened without a broker.
    Dir,
    /// A gossip seed.
    Gossip,
    /// A Serf agent's control port.
    Serf,
}

/// One row of the scheme table.
struct SchemeRow {
    scheme: Scheme,
    name: &'static str,
    pillars: &'static [Pillar],
    /// Port of an authority that names none; `None` if it must.
    port: Option<u16>,
    tls: bool,
    /// Several `HOST:PORT`, separated by commas.
    many: bool,
}

/// The table: everything else about schemes is derived from it.
#[rustfmt::skip]
const SCHEMES: &[SchemeRow] = {
    use Pillar::{Gossip, Log, Mq, Rpc};
    &[
        SchemeRow { scheme: Scheme::Local, name: "local", pillars: &Pillar::ALL, port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::Unix, name: "unix", pillars: &Pillar::ALL, port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::Grpc, name: "grpc", pillars: &[Rpc], port: Some(50051), tls: false, many: false },
        SchemeRow { scheme: Scheme::Grpcs, name: "grpcs", pillars: &[Rpc], port: Some(443), tls: true, many: false },
        SchemeRow { scheme: Scheme::Http, name: "http", pillars: &[Rpc, Mq], port: Some(80), tls: false, many: false },
        SchemeRow { scheme: Scheme::Https, name: "https", pillars: &[Rpc, Mq], port: Some(443), tls: true, many: false },
        SchemeRow { scheme: Scheme::Tcp, name: "tcp", pillars: &[Rpc], port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::Udp, name: "udp", pillars: &[Rpc], port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::JsonRpcTcp, name: "jsonrpc+tcp", pillars: &[Rpc], port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::JsonRpcUdp, name: "jsonrpc+udp", pillars: &[Rpc], port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::JsonRpcUnix, name: "jsonrpc+unix", pillars: &[Rpc], port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::Amqp, name: "amqp", pillars: &[Mq], port: Some(5672), tls: false, many: false },
        SchemeRow { scheme: Scheme::Amqps, name: "amqps", pillars: &[Mq], port: Some(5671), tls: true, many: false },
        SchemeRow { scheme: Scheme::Kafka, name: "kafka", pillars: &[Log], port: Some(9092), tls: false, many: true },
        SchemeRow { scheme: Scheme::Kafkas, name: "kafkas", pillars: &[Log], port: Some(9093), tls: true, many: true },
        SchemeRow { scheme: Scheme::Dir, name: "dir", pillars: &[Log], port: None, tls: false, many: false },
        SchemeRow { scheme: Scheme::Gossip, name: "gossip", pillars: &[Gossip], port: Some(7946), tls: false, many: true },
        SchemeRow { scheme: Scheme::Serf, name: "serf", pillars: &[Gossip], port: Some(7373), tls: false, many: false },
    ]
};

impl Scheme {
    fn row(self) -> &'static SchemeRow {
        SCHEMES.iter().find(|row| row.scheme == self).expect("every scheme has a row: tested")
    }

    /// The word before the colon.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The well-known port.
    pub fn port(self) -> Option<u16> {
        self.row().port
    }

    /// True if the scheme itself asks for TLS.
    pub fn is_tls(self) -> bool {
        self.row().tls
    }

    /// What the word before a colon says about TLS: nothing, unless there is another word for the opposite.
    pub fn tls_of(name: &str) -> Option<bool> {
        let row = SCHEMES.iter().find(|row| row.name == name)?;
        let has_twin = || SCHEMES.iter().any(|other| other.tls && other.name.strip_suffix('s') == Some(name));
        (row.tls || has_twin()).then_some(row.tls)
    }

    /// How endpoints of `pillar` may begin, for completion: `grpc://`, `local:`, ….
    pub fn prefixes(pillar: Pillar) -> impl Iterator<Item = String> {
        SCHEMES.iter().filter(move |row| row.pillars.contains(&pillar)).map(|row| match row.scheme {
            Scheme::Local | Scheme::Unix | Scheme::Dir | Scheme::JsonRpcUnix => format!("{}:", row.name),
            _ => format!("{}://", row.name),
        })
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This user's own server of that name.
    Local(String),
    /// A Unix socket.
    Unix(PathBuf),
    /// A data directory.
    Dir(PathBuf),
    /// Host and port; several only where the scheme allows it, never none.
    Hosts(Vec<(String, u16)>),
}

/// The name of the `local:` server when none is given.
pub const LOCAL_DEFAULT: &str = "default";

/// A parsed endpoint. Its `Display` masks the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// True if the scheme was not written: the client may find TLS out for itself.
    pub assumed: bool,
    /// Where it is.
    pub place: Place,
    /// User name, decoded.
    pub user: Option<String>,
    /// Password, decoded.
    pub password: Option<Secret>,
    /// What follows the authority, decoded, without the leading slash: a method, a prefix, a vhost.
    /// `None` differs from an empty one as `amqp://h` differs from `amqp://h/`.
    pub path: Option<String>,
    /// Options after `?`, decoded, in order.
    pub options: Vec<(String, String)>,
}

/// Text that is not an endpoint of the pillar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EndpointError {
    /// One line, with the password masked.
    pub message: String,
    /// What to type instead.
    pub tip: Option<String>,
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        let failure = Self::new(Exit::Usage, error.message);
        match error.tip {
            Some(tip) => failure.tip(tip),
            None => failure,
        }
    }
}

impl Endpoint {
    /// The default: this user's own server.
    pub fn local() -> Self {
        Self::at(Scheme::Local, Place::Local(LOCAL_DEFAULT.to_owned()))
    }

    fn at(scheme: Scheme, place: Place) -> Self {
        Self { scheme, assumed: false, place, user: None, password: None, path: None, options: Vec::new() }
    }

    /// Parses an endpoint of `pillar`.
    ///
    /// # Errors
    /// Anything that is not one; a scheme of another pillar names that pillar.
    pub fn parse(pillar: Pillar, text: &str) -> Result<Self, EndpointError> {
        Parser { pillar, text }.endpoint()
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first host and port, if it has any.
    pub fn host(&self) -> Option<(&str, u16)> {
        match &self.place {
            Place::Hosts(hosts) => hosts.first().map(|(host, port)| (host.as_str(), *port)),
            Place::Local(_) | Place::Unix(_) | Place::Dir(_) => None,
        }
    }

    /// Takes a trailing `Service/Method` off the path, as in `grpc://h:p/pkg.Svc/Method`.
    /// What stands before it, the prefix of a server behind a proxy, stays.
    pub fn take_method(&mut self) -> Option<String> {
        let path = self.path.as_deref()?;
        let (rest, method) = path.rsplit_once('/')?;
        let (prefix, service) =
            rest.rsplit_once('/').map_or((None, rest), |(prefix, service)| (Some(prefix), service));
        if service.is_empty() || method.is_empty() {
            return None;
        }
        let taken = format!("{service}/{method}");
        self.path = prefix.map(str::to_owned);
        Some(taken)
    }

    /// The sockets behind it; empty for `local:` (whose path the settings know) and `dir:`.
    pub fn addresses(&self) -> Vec<Address> {
        match &self.place {
            Place::Local(_) | Place::Dir(_) => Vec::new(),
            Place::Unix(path) => vec![Address::Unix(path.clone())],
            Place::Hosts(hosts) => hosts
                .iter()
                .map(|(host, port)| match self.scheme {
                    Scheme::Udp | Scheme::JsonRpcUdp => Address::Udp { host: host.clone(), port: *port },
                    _ => Address::tcp(host.clone(), *port),
                })
                .collect(),
        }
    }
}

struct Parser<'a> {
    pillar: Pillar,
    text: &'a str,
}

impl Parser<'_> {
    fn fail(&self, why: &str) -> EndpointError {
        EndpointError { message: format!("'{}' is not an endpoint: {why}", mask(self.text)), tip: None }
    }

    fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        let text = self.text;
        if text.is_empty() {
            return Err(self.fail("it is empty"));
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(self.fail("spaces and control characters are written %20"));
        }
        if let Some((name, rest)) = text.split_once("://") {
            let scheme = self.scheme(name)?;
            return match scheme {
                Scheme::Local | Scheme::Unix | Scheme::Dir | Scheme::JsonRpcUnix => self.opaque(scheme, rest),
                _ => self.authority(scheme, rest),
            };
        }
        if let Some((name @ ("local" | "unix" | "dir" | "jsonrpc+unix"), rest)) = text.split_once(':') {
            return self.opaque(self.scheme(name)?, rest);
        }
        if let Some((name, rest)) = text.split_once(':')
            && SCHEMES.iter().any(|row| row.name == name)
            && !rest.starts_with(|first: char| first.is_ascii_digit())
        {
            let rest = mask(&format!("{name}://{}", rest.trim_start_matches('/')));
            let failure = self.fail(&format!("{name} is followed by ://"));
            return Err(EndpointError { tip: Some(format!("did you mean '{rest}'?")), ..failure });
        }
        let mut endpoint = self.authority(self.pillar.plain_scheme(), text)?;
        endpoint.assumed = true;
        Ok(endpoint)
    }

    fn scheme(&self, name: &str) -> Result<Scheme, EndpointError> {
        let lower = name.to_ascii_lowercase();
        let Some(row) = SCHEMES.iter().find(|row| row.name == lower) else {
            let known: Vec<_> = self.known().collect();
            let tip = match near_miss(&lower, known.iter().copied()) {
                Some(near) => format!("did you mean '{near}{}'?", &mask(self.text)[name.len()..]),
                None => format!("schemes of {}: {}", self.pillar.name(), known.join(" ")),
            };
            return Err(EndpointError { message: format!("unknown scheme {lower}://"), tip: Some(tip) });
        };
        if row.pillars.contains(&self.pillar) {
            return Ok(row.scheme);
        }
        let right = row.pillars.first().expect("every scheme has a pillar: tested");
        Err(EndpointError {
            message: format!(
                "{lower}:// is {} endpoint, not one of {}",
                right.with_article(),
                self.pillar.name()
            ),
            tip: Some(format!("{} -e {}", right.example(), mask(self.text))),
        })
    }

    fn known(&self) -> impl Iterator<Item = &'static str> {
        let pillar = self.pillar;
        SCHEMES.iter().filter(move |row| row.pillars.contains(&pillar)).map(|row| row.name)
    }

    /// `local:NAME`, `unix:PATH`, `dir:PATH`, with or without two slashes.
    fn opaque(&self, scheme: Scheme, rest: &str) -> Result<Endpoint, EndpointError> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (place, query) = split_query(rest);
        let place = self.decode(place)?;
        let place = match scheme {
            Scheme::Local if place.is_empty() => Place::Local(LOCAL_DEFAULT.to_owned()),
            Scheme::Local if is_local_name(&place) => Place::Local(place),
            Scheme::Local => {
                return Err(
                    self.fail("a name is up to 64 letters, digits, '.', '_' and '-', and starts with no '.'")
                );
            }
            _ if place.is_empty() => return Err(self.fail("the path is missing")),
            Scheme::Dir => Place::Dir(place.into()),
            _ => Place::Unix(place.into()),
        };
        Ok(Endpoint { options: self.query(query)?, ..Endpoint::at(scheme, place) })
    }

    fn authority(&self, scheme: Scheme, rest: &str) -> Result<Endpoint, EndpointError> {
        if rest.contains('#') {
            return Err(self.fail("'#' is written %23"));
        }
        let (rest, query) = split_query(rest);
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        let (user, password) =
            match user_info.map(|text| text.split_once(':').map_or((text, None), |(u, p)| (u, Some(p)))) {
                Some((user, password)) => {
                    (Some(self.decode(user)?), password.map(|text| self.decode(text)).transpose()?)
                }
                None => (None, None),
            };
        Ok(Endpoint {
            user,
            password: password.map(Secret::new),
            path: path.map(|path| self.path(scheme, path)).transpose()?,
            options: self.query(query)?,
            ..Endpoint::at(scheme, Place::Hosts(self.hosts(scheme, hosts)?))
        })
    }

    /// Decodes segment by segment. A vhost is one segment, in which `%2F` is a slash.
    fn path(&self, scheme: Scheme, path: &str) -> Result<String, EndpointError> {
        match scheme {
            Scheme::Amqp | Scheme::Amqps if path.contains('/') => {
                Err(self.fail("a vhost with a slash is written with %2F"))
            }
            Scheme::Amqp | Scheme::Amqps => self.decode(path),
            _ => self.decode(path.trim_end_matches('/')),
        }
    }

    fn hosts(&self, scheme: Scheme, text: &str) -> Result<Vec<(String, u16)>, EndpointError> {
        if text.contains(',') && !scheme.row().many {
            return Err(self.fail("only one host is possible here"));
        }
        text.split(',').map(|host| self.host(scheme, host)).collect()
    }

    fn host(&self, scheme: Scheme, text: &str) -> Result<(String, u16), EndpointError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(|| self.fail("']' is missing"))?;
            let address = host.split_once('%').map_or(host, |(address, _zone)| address);
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(self.fail("the brackets hold no IPv6 address"));
            }
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(self.fail("':PORT' is expected after ']'")),
            }
        } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            ("", Some(text))
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(self.fail("an IPv6 address goes into [brackets]"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if !host.contains(':') && !host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(self.fail("the host has a character that no host name has"));
        }
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|number| *number != 0 && port.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| self.fail("the port is not a number from 1 to 65535"))?,
            None if host.is_empty() => return Err(self.fail("host and port are missing")),
            None => {
                scheme.row().port.ok_or_else(|| self.fail(&format!("{}:// needs a port", scheme.name())))?
            }
        };
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok((host.to_owned(), port))
    }

    fn query(&self, query: Option<&str>) -> Result<Vec<(String, String)>, EndpointError> {
        let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        let known = self.pillar.options();
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let name = self.decode(name)?;
                if !known.contains(&name.as_str()) {
                    let mut error = self.fail(&format!("unknown option '{name}'"));
                    error.tip = Some(match near_miss(&name, known.iter().copied()) {
                        Some(near) => format!("did you mean '{near}='?"),
                        None => format!("options of {}: {}", self.pillar.name(), known.join(" ")),
                    });
                    return Err(error);
                }
                Ok((name, self.decode(value)?))
            })
            .collect()
    }

    fn decode(&self, text: &str) -> Result<String, EndpointError> {
        let bytes = text.as_bytes();
        let broken = bytes.iter().enumerate().any(|(at, byte)| {
            *byte == b'%'
                && !bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
        if broken {
            return Err(self.fail("a '%' is not followed by two hex digits"));
        }
        let text = percent_decode_str(text).decode_utf8().map_err(|_| self.fail("it is not UTF-8"))?;
        if text.contains('\0') {
            return Err(self.fail("it contains a NUL byte"));
        }
        Ok(text.into_owned())
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(text, query)| (text, Some(query)))
}

/// True for a name that may become a file name.
pub fn is_local_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// `text` with the password of its user info, if it has one, replaced by `***`.
pub fn mask(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let rest = &text[start..];
    // To the last '@' before the path: an unencoded '@' or '/' in a password must not leak its tail.
    let Some(at) = rest.rfind('@') else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{}{user}:***{}", &text[..start], &rest[at..]),
        None => text.to_owned(),
    }
}

/// What is percent-encoded in user names and paths.
const RESERVED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'@').add(b'?').add(b'#').add(b':');
const SEGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'/');
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.scheme.name();
        match &self.place {
            Place::Local(local) if local == LOCAL_DEFAULT => write!(f, "local:")?,
            Place::Local(local) => write!(f, "local:{local}")?,
            Place::Unix(path) | Place::Dir(path) => {
                let path = path.to_string_lossy();
                write!(f, "{name}:{}", utf8_percent_encode(&path, PATH))?;
            }
            Place::Hosts(hosts) => {
                write!(f, "{name}://")?;
                if let Some(user) = &self.user {
                    write!(f, "{}", utf8_percent_encode(user, RESERVED))?;
                    if self.password.is_some() {
                        write!(f, ":***")?;
                    }
                    write!(f, "@")?;
                }
                for (n, (host, port)) in hosts.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    if host.contains(':') {
                        write!(f, "{comma}[{host}]:{port}")?;
                    } else {
                        write!(f, "{comma}{host}:{port}")?;
                    }
                }
            }
        }
        if let Some(path) = &self.path {
            let set = if matches!(self.scheme, Scheme::Amqp | Scheme::Amqps) { SEGMENT } else { PATH };
            write!(f, "/{}", utf8_percent_encode(path, set))?;
        }
        for (n, (name, value)) in self.options.iter().enumerate() {
            let mark = if n == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", utf8_percent_encode(value, PATH))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rpc(text: &str) -> Endpoint {
        Endpoint::parse(Pillar::Rpc, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(pillar: Pillar, text: &str) -> (String, String) {
        let error = Endpoint::parse(pillar, text).expect_err(text);
        (error.message, error.tip.unwrap_or_default())
    }

    #[test]
    fn every_scheme_has_one_row_and_a_pillar() {
        for row in SCHEMES {
            assert_eq!(row.scheme.row().name, row.name);
            assert!(!row.pillars.is_empty(), "{}", row.name);
        }
        for pillar in Pillar::ALL {
            assert!(pillar.plain_scheme().row().pillars.contains(&pillar));
        }
    }

    #[test]
    fn a_server_listens_where_its_urls_lead() {
        let ports = Pillar::ALL.map(|pillar| (pillar.port(false), pillar.port(true)));
        let both = |plain, tls| (Some(plain), Some(tls));
        assert_eq!(ports, [both(50051, 50051), both(5672, 5671), both(9092, 9093), both(7946, 7946)]);
    }

    #[test]
    fn urls_print_as_they_are_meant() {
        for (given, printed) in [
            ("grpc://h", "grpc://h:50051"),
            ("GRPCS://h", "grpcs://h:443"),
            ("http://h/", "http://h:80/"),
            ("https://h/prefix/", "https://h:443/prefix"),
            ("tcp://:7000", "tcp://127.0.0.1:7000"),
            ("udp://[::1]:7000", "udp://[::1]:7000"),
            ("jsonrpc+tcp://h:1", "jsonrpc+tcp://h:1"),
            ("unix:/run/a b", ""),
            ("unix:/run/a%20b", "unix:/run/a%20b"),
            ("unix:///run/x", "unix:/run/x"),
            ("local:", "local:"),
            ("local:two", "local:two"),
            ("h:1", "grpc://h:1"),
            (":1", "grpc://127.0.0.1:1"),
            ("1", "grpc://127.0.0.1:1"),
            ("localhost", "grpc://localhost:50051"),
            ("grpc://bob:s%40cret@h/a.B/C?protocol=connect", "grpc://bob:***@h:50051/a.B/C?protocol=connect"),
        ] {
            match Endpoint::parse(Pillar::Rpc, given) {
                Ok(endpoint) => assert_eq!(endpoint.to_string(), printed, "{given}"),
                Err(error) => assert_eq!(printed, "", "{given}: {error}"),
            }
        }
        let mq = Endpoint::parse(Pillar::Mq, "amqp://u:p@h/%2Ftest?heartbeat=5").unwrap();
        assert_eq!(
            (mq.path.as_deref(), mq.to_string().as_str()),
            (Some("/test"), "amqp://u:***@h:5672/%2Ftest?heartbeat=5")
        );
        let log = Endpoint::parse(Pillar::Log, "kafka://a,b:1,[::1]?sasl=plain").unwrap();
        assert_eq!(log.to_string(), "kafka://a:9092,b:1,[::1]:9092?sasl=plain");
        assert!(rpc("h:1").assumed && !rpc("grpc://h:1").assumed);
    }

    #[test]
    fn a_method_is_taken_off_the_path() {
        for (given, method, rest) in [
            ("grpc://h/a.B/C", Some("a.B/C"), "grpc://h:50051"),
            ("http://h/api/v1/a.B/C", Some("a.B/C"), "http://h:80/api/v1"),
            ("http://h/api", None, "http://h:80/api"),
            ("http://h", None, "http://h:80"),
        ] {
            let mut endpoint = rpc(given);
            assert_eq!(endpoint.take_method().as_deref(), method, "{given}");
            assert_eq!(endpoint.to_string(), rest, "{given}");
        }
    }

    #[test]
    fn a_wrong_scheme_names_the_right_pillar() {
        assert_eq!(
            error(Pillar::Rpc, "kafka://u:secret@h"),
            ("kafka:// is a log endpoint, not one of rpc".into(), "bandy log ls -e kafka://u:***@h".into())
        );
        assert_eq!(error(Pillar::Rpc, "gprc://h:1").1, "did you mean 'grpc://h:1'?");
        let (message, tip) = error(Pillar::Mq, "amqp:/bob:secret@h/x");
        assert_eq!(tip, "did you mean 'amqp://bob:***@h/x'?");
        assert!(!message.contains("secret"), "{message}");
        assert!(error(Pillar::Log, "grpc://h").1.starts_with("bandy rpc ls -e"));
        assert!(error(Pillar::Gossip, "ftp://h").1.starts_with("schemes of gossip: local unix gossip serf"));
    }

    #[test]
    fn broken_endpoints_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("grpc://", "missing"),
            ("grpc://h:0", "1 to 65535"),
            ("grpc://h:+5", "1 to 65535"),
            ("grpc://h:99999", "1 to 65535"),
            ("grpc://::1", "brackets"),
            ("grpc://[::1", "']' is missing"),
            ("grpc://[x]", "no IPv6"),
            ("grpc://a,b", "only one host"),
            ("grpc://h%", "no host name"),
            ("grpc://u%4@h", "hex digits"),
            ("grpc://h/%00", "NUL"),
            ("grpc://h/a#b", "%23"),
            ("grpc:/h", "grpc is followed by ://"),
            ("grpc:h", "grpc is followed by ://"),
            ("tcp://h", "needs a port"),
            ("unix:", "path is missing"),
            ("local:../x", "a name is"),
            ("grpc://h?protocoll=x", "unknown option"),
            ("grpc://h:1 ", "spaces"),
        ] {
            let (message, _) = error(Pillar::Rpc, text);
            assert!(message.contains(why), "{text}: {message}");
        }
        assert_eq!(error(Pillar::Rpc, "grpc://u:pa/ss@h:bad").0.matches("ss").count(), 0);
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_never_shows_a_password(text in "[a-z0-9:/@,%?&=\\[\\].#+ é\0-]{0,40}") {
            for pillar in Pillar::ALL {
                let _ = Endpoint::parse(pillar, &text);
            }
        }

        #[test]
        fn what_is_printed_parses_to_the_same(
            user in "[a-z@:/%é ]{0,8}", host in "[a-z][a-z0-9.-]{0,8}", port in 1u16.., path in "[a-z.%?#/]{0,12}"
        ) {
            let mut endpoint = Endpoint::at(Scheme::Grpc, Place::Hosts(vec![(host, port)]));
            endpoint.user = Some(user.replace('/', ""));
            endpoint.path = Some(path.trim_end_matches('/').to_owned());
            prop_assert_eq!(rpc(&endpoint.to_string()), endpoint);
        }

        #[test]
        fn passwords_are_masked(password in "[a-z0-9@:%/-]{9,20}") {
            let text = format!("grpc://u:{password}@h:1");
            prop_assert_eq!(mask(&text), "grpc://u:***@h:1");
            if let Err(error) = Endpoint::parse(Pillar::Rpc, &text) {
                prop_assert!(!error.message.contains(&password), "{}", error.message);
            }
        }
    }
}
