//! Asks name servers: over UDP, over TCP where an answer does not fit, one after the other until one knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::wire::{self, Kind, Record, Reply};
use crate::transport::{Address, Datagrams, Stream};

/// A name server that does not answer is given up after this.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often all servers are asked.
const ROUNDS: usize = 2;
/// resolv.conf(5): more servers than these are ignored.
const SERVERS_MAX: usize = 3;
/// What a datagram may hold.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// Records are used at least this long and at most a day, whatever they say.
const USABLE_MAX: Duration = Duration::from_secs(86_400);
const SYSTEM_FILE: &str = "/etc/resolv.conf";

/// Name servers and how names are completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    is_system: bool,
    search: Vec<String>,
    /// Names with as many dots are first taken as whole.
    dots: usize,
}

/// Why there are no records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such name.
    NoName,
    /// Nobody could say.
    Unreachable(String),
}

impl Resolver {
    /// Asks that server for names as they are.
    pub(super) fn of(server: SocketAddr) -> Self {
        Self { servers: vec![server], is_system: false, search: Vec::new(), dots: 0 }
    }

    /// Asks the servers of this machine's configuration.
    pub(super) fn of_system() -> io::Result<Self> {
        match fs::read_to_string(Path::new(SYSTEM_FILE)) {
            Ok(text) => Ok(Self::parse(&text)),
            // resolv.conf(5): without one, the server is on this machine.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::parse("")),
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_system(&self) -> bool {
        self.is_system
    }

    /// resolv.conf(5). What is not understood is left out, as other resolvers do.
    fn parse(text: &str) -> Self {
        let mut resolver = Self { servers: Vec::new(), is_system: true, search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(ip.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut dots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.dots = dots.next_back().unwrap_or(resolver.dots);
                }
                _ => {}
            }
        }
        resolver.servers.truncate(SERVERS_MAX);
        if resolver.servers.is_empty() {
            resolver.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        resolver
    }

    /// The names that may be meant, the likeliest first.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let whole = if name.matches('.').count() >= self.dots { 0 } else { names.len() };
        names.insert(whole, name.to_owned());
        names
    }

    /// The records of a name, and how long they may be used.
    pub(super) async fn ask(&self, name: &str, kind: Kind) -> Result<(Vec<Record>, Duration), Failure> {
        let mut nothing = Err(Failure::NoName);
        for name in self.candidates(name) {
            match self.ask_servers(&name, kind).await {
                Ok((records, usable)) if records.is_empty() => nothing = Ok((records, usable)),
                Err(Failure::NoName) => {}
                found => return found,
            }
        }
        nothing
    }

    async fn ask_servers(&self, name: &str, kind: Kind) -> Result<(Vec<Record>, Duration), Failure> {
        let mut last = String::new();
        for _ in 0..ROUNDS {
            for server in &self.servers {
                match timeout(QUERY_TIMEOUT, ask_server(*server, name, kind)).await {
                    Ok(Ok(Reply::Records { records, seconds })) => {
                        return Ok((records, Duration::from_secs(seconds.into()).min(USABLE_MAX)));
                    }
                    Ok(Ok(Reply::NoName)) => return Err(Failure::NoName),
                    Ok(Ok(Reply::Refused(code))) => last = format!("{server} answered {}", meaning(code)),
                    Ok(Ok(Reply::Truncated)) => last = format!("{server} cut its answer off"),
                    Ok(Err(error)) => last = format!("{server}: {error}"),
                    Err(_) => last = format!("{server} did not answer within {QUERY_TIMEOUT:?}"),
                }
            }
        }
        Err(Failure::Unreachable(last))
    }
}

/// RFC 1035, 4.1.1.
fn meaning(code: u8) -> String {
    match code {
        1 => "that the question makes no sense".to_owned(),
        2 => "that it failed".to_owned(),
        4 => "that it cannot do this".to_owned(),
        5 => "that it refuses".to_owned(),
        code => format!("code {code}"),
    }
}

async fn ask_server(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Reply> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "that is no name in DNS");
    // The port is the kernel's choice as well: together they are what a forger would have to guess (RFC 5452).
    let question = wire::question(fastrand::u16(..), name, kind).ok_or_else(invalid)?;
    let (host, port) = (server.ip().to_string(), server.port());
    let socket =
        Datagrams::connect(&Address::Udp { host: host.clone(), port }).await.map_err(io::Error::other)?;
    socket.send(&question).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let reply = loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is somebody else's, or late.
        if let Some(reply) = wire::reply(buffer.get(..length).unwrap_or_default(), &question, kind) {
            break reply;
        }
    };
    if reply != Reply::Truncated {
        return Ok(reply);
    }
    // RFC 1035, 4.2.2: the same with a length before it.
    let mut stream = Stream::connect(&Address::tcp(host, port)).await.map_err(io::Error::other)?;
    let length = u16::try_from(question.len()).map_err(|_| invalid())?;
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    wire::reply(&bytes, &question, kind)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer that makes no sense"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_file_is_understood() {
        let text = "# a comment\nnameserver 10.0.0.2\nnameserver ::1\nnameserver nonsense\n\
                    search svc.cluster.local cluster.local\noptions edns0 ndots:5\n";
        let resolver = Resolver::parse(text);
        let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[::1]:53"]);
        assert_eq!(resolver.candidates("a.b"), ["a.b.svc.cluster.local", "a.b.cluster.local", "a.b"]);
        assert_eq!(resolver.candidates("a.b."), ["a.b."]);
        let resolver = Resolver::parse("search x.test");
        assert_eq!(resolver.servers, [SocketAddr::from(([127, 0, 0, 1], 53))]);
        assert_eq!(resolver.candidates("a.b"), ["a.b", "a.b.x.test"]);
        assert_eq!(resolver.candidates("a"), ["a.x.test", "a"]);
    }
}
