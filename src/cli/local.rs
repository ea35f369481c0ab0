//! This user's own servers, behind the sockets of `local:`: which run, how one is started, how it is stopped.
//!
//! A server that listens at `local:NAME` leaves a [`Registration`] beside its socket. It is believed only as far as the
//! socket's owner bears it out: after a `kill -9` the file stays, and the process does not. One in the background that
//! listens elsewhere only is [`unnamed`], and so is every one of rpc, which calls find wherever it listens.

pub mod down;
pub mod owner;
mod start;
pub mod status;
mod turn;
pub mod unnamed;
pub mod up;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, LOCAL_DEFAULT, Pillar, Place};
use super::errors::word;
use super::exit::{Exit, Failure};
use super::settings::Home;
use crate::storage::RESERVE;
use crate::transport::Address;
pub use start::{ensure, spawn};
pub use turn::{Turn, fits};

/// How a server came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Somebody looks at it in a terminal.
    Foreground,
    /// `up` or `--background`: until it is told to stop.
    Background,
    /// Until nobody has needed it for a while.
    Idle,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its process.
    pub pid: u32,
    /// Where it listens, in the order of its stdout.
    pub urls: Vec<String>,
    /// When it was ready, in milliseconds since 1970.
    pub started_ms: i64,
    /// How it came to be.
    pub mode: Mode,
    /// Where it keeps its data.
    pub data: Option<PathBuf>,
}

impl Registration {
    /// Where it is for `local:NAME`.
    pub fn path(home: &Home, pillar: Pillar, name: &str) -> PathBuf {
        home.socket(pillar, name).with_extension("json")
    }
}

/// A server that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// What it serves.
    pub pillar: Pillar,
    /// That of `local:NAME`; empty if it listens at no such place.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its socket; empty without a name.
    socket: PathBuf,
    /// What it says about itself; `None` if that cannot be read.
    registration: Option<Registration>,
}

impl Running {
    /// All of this user's, by pillar and name.
    pub fn all(home: &Home) -> Vec<Self> {
        let mut found = Vec::new();
        for pillar in Pillar::ALL {
            let folder = std::fs::read_dir(home.runtime.join(pillar.name()));
            let mut names: Vec<_> = folder
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".sock")?.to_owned()))
                .collect();
            names.sort();
            found.extend(names.iter().filter_map(|name| Self::find(home, pillar, name)));
            found.extend(unnamed::all(home, pillar).into_iter().map(|said| Self::unnamed(pillar, said)));
        }
        found
    }

    /// The server of that name, if there is one.
    pub fn find(home: &Home, pillar: Pillar, name: &str) -> Option<Self> {
        let socket = home.socket(pillar, name);
        // A server whose file is gone is found by nobody, although it listens.
        if !socket.exists() {
            return None;
        }
        let text = std::fs::read(Registration::path(home, pillar, name)).unwrap_or_default();
        let registration: Option<Registration> = serde_json::from_slice(&text).ok();
        let owner = owner::of_socket(&socket, registration.as_ref().map(|said| said.pid))?;
        let registration = registration.filter(|said| said.pid == owner.pid);
        Some(Self { pillar, name: name.to_owned(), pid: owner.pid, socket, registration })
    }

    fn unnamed(pillar: Pillar, said: Registration) -> Self {
        Self { pillar, name: String::new(), pid: said.pid, socket: PathBuf::new(), registration: Some(said) }
    }

    /// What a person knows it by: `local:NAME`, or its URL.
    pub fn place(&self) -> String {
        if self.name.is_empty() { self.url() } else { local_url(&self.name) }
    }

    /// The URL for others than our own commands, if it has one; else `local:NAME`.
    pub fn url(&self) -> String {
        let urls = self.registration.as_ref().map_or(&[][..], |said| &said.urls);
        let foreign = match self.pillar {
            // Behind where it meets other nodes: where commands ask it.
            Pillar::Gossip => urls.iter().find(|url| url.starts_with("serf://")),
            Pillar::Rpc | Pillar::Mq | Pillar::Log => urls.iter().find(|url| url.contains("://")),
        };
        foreign.cloned().unwrap_or_else(|| local_url(&self.name))
    }

    /// How it came to be, if it says so.
    pub fn mode(&self) -> Option<Mode> {
        Some(self.registration.as_ref()?.mode)
    }

    /// How long it has been ready.
    pub fn uptime(&self) -> Option<Duration> {
        let since = self.registration.as_ref()?.started_ms;
        let now = jiff::Timestamp::now().as_millisecond();
        u64::try_from(now - since).ok().map(Duration::from_millis)
    }

    /// Connections of others that are open to it, among those.
    pub fn clients(&self, connections: &owner::Connections) -> usize {
        let urls = self.registration.as_ref().map_or(&[][..], |said| &said.urls);
        let ports: Vec<u16> = urls.iter().filter_map(|url| port_of(url)).collect();
        connections.served(self.pid, &self.socket, &ports)
    }

    /// Bytes in the files of its data directory; `None` if it has none.
    pub fn stored(&self) -> Option<u64> {
        let data = self.registration.as_ref()?.data.as_deref()?;
        // Room that is kept free is nothing that is stored.
        let reserve = std::fs::metadata(data.join(RESERVE)).map_or(0, |about| about.len());
        Some(bytes_in(data).saturating_sub(reserve))
    }
}

/// `local:NAME`, as short as it can be.
pub fn local_url(name: &str) -> String {
    if name == LOCAL_DEFAULT { "local:".to_owned() } else { format!("local:{name}") }
}

/// The port of a URL that names one, whatever its scheme.
fn port_of(url: &str) -> Option<u16> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    authority.rsplit_once(':')?.1.parse().ok()
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_in(&entry.path()),
            Ok(about) => about.len(),
            // Gone in the meantime.
            Err(_) => 0,
        })
        .sum()
}

/// The variables that lead programs to a server: ours, and those that clients in other languages look for.
pub fn variables(pillar: Pillar, url: &str) -> Vec<(&'static str, String)> {
    let address = || url.split_once("://").map_or(url, |(_, address)| address).to_owned();
    let mut variables = match pillar {
        _ if !url.contains("://") => Vec::new(),
        Pillar::Rpc => vec![("GRPC_ADDR", address())],
        Pillar::Mq => vec![("AMQP_URL", url.to_owned())],
        Pillar::Log => vec![("KAFKA_BROKERS", address()), ("BOOTSTRAP_SERVERS", address())],
        Pillar::Gossip => vec![("SERF_RPC_ADDR", address())],
    };
    variables.push((pillar.variable(), url.to_owned()));
    variables
}

/// The pillars that these words name; all if there are none.
///
/// # Errors
/// Usage: a word that names no server.
fn pillars(words: &[String]) -> Result<Vec<Pillar>, Failure> {
    if words.is_empty() {
        return Ok(Pillar::ALL.to_vec());
    }
    let pillar = |word: &String| {
        Pillar::ALL.into_iter().find(|pillar| pillar.name() == word).ok_or_else(|| {
            let failure =
                Failure::new(Exit::Usage, format!("'{word}' is not a server: rpc, mq, log and gossip are"));
            match super::errors::near_miss(word, Pillar::ALL.iter().map(|pillar| pillar.name())) {
                Some(near) => failure.tip(format!("did you mean '{near}'?")),
                None => failure,
            }
        })
    };
    let mut named = words.iter().map(pillar).collect::<Result<Vec<_>, _>>()?;
    let mut seen = Vec::new();
    named.retain(|pillar| {
        !seen.contains(pillar) && {
            seen.push(*pillar);
            true
        }
    });
    Ok(named)
}

/// The words that start a server of a pillar.
fn words(pillar: Pillar) -> [&'static str; 2] {
    match pillar {
        Pillar::Rpc => ["rpc", "serve"],
        Pillar::Mq => ["mq", "broker"],
        Pillar::Log => ["log", "broker"],
        Pillar::Gossip => ["gossip", "join"],
    }
}

/// What a person calls the server of a pillar.
fn what(pillar: Pillar) -> &'static str {
    match pillar {
        Pillar::Rpc => "server",
        Pillar::Mq | Pillar::Log => "broker",
        Pillar::Gossip => "node",
    }
}

/// Nobody listens at `local:NAME`, and how that can be changed.
pub fn nobody(pillar: Pillar, name: &str) -> Failure {
    let server = words(pillar).join(" ");
    let failure = Failure::new(
        Exit::Unreachable,
        format!("nothing listens at {} ({})", local_url(name), pillar.name()),
    );
    if name != LOCAL_DEFAULT {
        let here = format!("bandy {server} --name {name}");
        return failure
            .tip(format!("{here}     start one in this terminal"))
            .tip(format!("{here} -b  …or in the background"));
    }
    failure
        .tip(format!("{:<24}  start one in the background", format!("bandy up {}", pillar.name())))
        .tip(format!("{:<24}  …or in this terminal", format!("bandy {server}")))
        .tip(format!("{:<24}  …or only for one command", format!("bandy with {} -- CMD", pillar.name())))
}

/// What helps where a server of a pillar was looked for and none is: one there, if that is on this machine, or the own one.
pub fn nobody_there(failure: Failure, pillar: Pillar, endpoint: &Endpoint) -> Failure {
    let server = words(pillar).join(" ");
    let there = match (&endpoint.place, endpoint.host()) {
        (Place::Unix(path), _) => Some(format!("unix:{}", path.display())),
        (_, Some((host, port))) if !endpoint.scheme.is_tls() => {
            let address = Address::tcp(host, port);
            address.is_loopback().then(|| format!("{}://{address}", endpoint.scheme.name()))
        }
        _ => None,
    };
    match there {
        Some(there) => failure.tip(format!("bandy {server} -l {}    starts one there", word(&there))),
        None => {
            failure.tip(format!("use your own local one with '-e local:', or start one here: bandy {server}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_that_programs_look_for() {
        let names =
            |pillar, url| variables(pillar, url).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(variables(Pillar::Log, "kafka://h:1")[0].1, "h:1");
        assert_eq!(
            names(Pillar::Log, "kafka://h:1"),
            ["KAFKA_BROKERS", "BOOTSTRAP_SERVERS", "BANDY_LOG_URL"]
        );
        assert_eq!(names(Pillar::Mq, "amqp://h:1"), ["AMQP_URL", "BANDY_MQ_URL"]);
        // Nobody else knows what that is.
        assert_eq!(names(Pillar::Mq, "local:"), ["BANDY_MQ_URL"]);
    }

    #[test]
    fn ports_and_bytes_are_found() {
        assert_eq!(port_of("amqp://127.0.0.1:5672"), Some(5672));
        assert_eq!(port_of("http://[::1]:15672/"), Some(15672));
        assert_eq!((port_of("local:a"), port_of("unix:/x:1")), (None, None));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b"), "12345").unwrap();
        std::fs::write(folder.path().join("c"), "67").unwrap();
        assert_eq!((bytes_in(folder.path()), bytes_in(Path::new("/nowhere"))), (7, 0));
    }

    #[test]
    fn a_pillar_is_named_once_and_rightly() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(pillars(&[]).unwrap(), Pillar::ALL);
        assert_eq!(pillars(&words("log mq log")).unwrap(), [Pillar::Log, Pillar::Mq]);
        let failure = pillars(&words("gosip")).unwrap_err();
        assert_eq!((failure.exit, failure.tips), (Exit::Usage, vec!["did you mean 'gossip'?".to_owned()]));
    }
}
