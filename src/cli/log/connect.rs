//! Which cluster the log commands speak to, and what its refusals mean for whoever typed.

use std::time::Duration;

use crate::cli::app::App;
use crate::cli::connect::{Connect, ConnectArgs, Credentials as Given, Tls};
use crate::cli::endpoint::{Endpoint, Pillar, Place, Scheme};
use crate::cli::errors::{near_miss, why, word};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{greet, local, there};
use crate::log::client::{Cluster, Config, Credentials, Error, ErrorKind, Mechanism};
use crate::log::wire::ErrorCode;
use crate::shutdown::Shutdown;
use crate::transport::{self, Address, ConnectOptions};

/// A cluster that a command speaks to.
#[derive(Debug, Clone)]
pub struct Log {
    /// How to connect and log in.
    pub config: Config,
    /// The endpoint, as it may be shown.
    pub url: String,
    /// Which servers.
    pub endpoint: Endpoint,
    /// When to give up.
    pub timeout: Option<Duration>,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

impl Log {
    /// Resolves endpoint, credentials and TLS. `verb` is what the broker lists the client as.
    ///
    /// # Errors
    /// No endpoint of log, words that contradict each other, files that cannot be read, a local broker that does not
    /// start.
    pub fn resolve(args: &ConnectArgs, app: &App, verb: &str) -> anyhow::Result<Self> {
        Self::of(args.resolve_or_start(app, Pillar::Log)?, app, verb)
    }

    /// The same for a command that asks whether there is one: none is started.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_as_it_is(args: &ConnectArgs, app: &App, verb: &str) -> anyhow::Result<Self> {
        Self::of(args.resolve(app, Pillar::Log)?, app, verb)
    }

    fn of(connect: Connect, app: &App, verb: &str) -> anyhow::Result<Self> {
        let endpoint = connect.endpoint;
        let url = endpoint.to_string();
        let bootstrap = match &endpoint.place {
            Place::Local(name) => vec![Address::Unix(app.home.socket(Pillar::Log, name))],
            Place::Dir(_) => {
                let text = format!(
                    "{url} is a data directory: 'log consume' and 'log dump' read it, this needs a broker"
                );
                return Err(Failure::new(Exit::Usage, text).into());
            }
            Place::Unix(_) | Place::Hosts(_) => endpoint.addresses(),
        };
        let tls = if is_encrypted(&endpoint, &connect.tls)? { Some(connect.tls.client()?) } else { None };
        let mut config = Config::new(bootstrap);
        config.connect = ConnectOptions { tls, ..ConnectOptions::default() };
        config.credentials = credentials(connect.credentials, &endpoint)?;
        config.client_id = format!("bandy-{verb}");
        config.seed = fastrand::u64(..);
        Ok(Self { config, url, endpoint, timeout: connect.timeout })
    }

    /// Connects to the cluster.
    ///
    /// # Errors
    /// Unreachable (3), denied (4).
    pub async fn open(&self, shutdown: &Shutdown) -> Result<Cluster, Failure> {
        Cluster::open(self.config.clone(), shutdown).await.map_err(|error| self.failure(&error))
    }

    /// The partitions of topics: all, or those that are named.
    ///
    /// # Errors
    /// No such topic or partition (5).
    pub async fn places(
        &self,
        cluster: &Cluster,
        topics: &[String],
        partitions: &[i32],
    ) -> Result<Vec<(String, i32)>, Failure> {
        let mut places = Vec::new();
        for name in topics {
            let topic = match cluster.topic(name, false).await {
                Ok(topic) => topic,
                Err(error) => return Err(self.about(&error, name, cluster).await),
            };
            let count = topic.partitions.len();
            let is_missing = |it: &&i32| !usize::try_from(**it).is_ok_and(|it| it < count);
            if let Some(&partition) = partitions.iter().find(is_missing) {
                return Err(self.failure(&Error::NoPartition { topic: name.clone(), partition, count }));
            }
            let all = topic.partitions.iter().map(|partition| partition.index);
            let chosen = all.filter(|it| partitions.is_empty() || partitions.contains(it));
            places.extend(chosen.map(|partition| (name.clone(), partition)));
        }
        Ok(places)
    }

    /// What an error of the client means for whoever typed.
    pub fn failure(&self, error: &Error) -> Failure {
        let url = &self.url;
        let plain = || Failure::new(exit_of(error.kind()), format!("{url}: {error}"));
        let failure = match error {
            Error::Unreachable(error) => self.unreachable(error),
            Error::LoginWanted => Failure::new(Exit::Denied, format!("{url} wants a login"))
                .tip("-u USER --password-file FILE, or -u USER to be asked"),
            Error::LoginRefused { user, .. } => {
                let text = format!("{url} does not let {user} in: wrong user or password");
                Failure::new(Exit::Denied, text)
                    .tip(format!("-u {} --password-file FILE, or -u {0} to be asked", word(user)))
            }
            Error::Mechanism { offered, .. } if offered.is_empty() => Failure::new(
                Exit::Denied,
                format!("{url} has no users: it lets everybody in, and nobody log in"),
            )
            .tip("leave the user out: no -u, none in the URL"),
            Error::Mechanism { offered, .. } => plain().tip(format!(
                "say which with ?sasl= at the end of the URL; the broker offers {}",
                offered.to_lowercase()
            )),
            Error::NoTopic(topic) => no_topic(topic, url),
            Error::Ended if self.config.credentials.is_none() => {
                plain().tip("a broker that wants a login closes like this: -u USER --password-file FILE")
            }
            Error::Ended if self.config.connect.tls.is_none() => {
                plain().tip("a broker that speaks TLS closes like this: kafkas://HOST")
            }
            Error::Refused { .. } => Failure::new(exit_of(error.kind()), format!("{url}: {}", words(error))),
            _ => plain(),
        };
        match error {
            Error::Ended | Error::Lost(_) | Error::TooLong { .. } | Error::OutOfTurn | Error::Wire(_) => {
                failure.ask(greet::ask(&self.endpoint, Pillar::Log))
            }
            _ => failure,
        }
    }

    /// The same about a topic, which is named, with the nearest one if there is none of that name.
    pub async fn about(&self, error: &Error, topic: &str, cluster: &Cluster) -> Failure {
        let is_missing = matches!(error, Error::NoTopic(_))
            || error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            || error.code() == Some(ErrorCode::INVALID_TOPIC_EXCEPTION);
        if !is_missing {
            return match error {
                Error::Refused { about: None, .. } if error.kind() == ErrorKind::Denied => {
                    Failure::new(Exit::Denied, format!("{}: topic '{topic}': {}", self.url, words(error)))
                }
                _ => self.failure(error),
            };
        }
        let failure = no_topic(topic, &self.url);
        let Ok(all) = cluster.metadata(None, false).await else { return failure };
        let names = all.topics.iter().filter_map(|topic| topic.name.as_deref());
        match near_miss(topic, names) {
            Some(near) => {
                let mut tips = vec![format!("did you mean '{near}'?")];
                tips.extend(failure.tips);
                Failure { tips, ..failure }
            }
            None => failure,
        }
    }

    fn unreachable(&self, error: &transport::Error) -> Failure {
        let why = why(error);
        if let Place::Local(name) = &self.endpoint.place {
            return local::nobody(Pillar::Log, name);
        }
        let failure =
            Failure::new(Exit::Unreachable, format!("cannot reach the log at {} — {why}", self.url));
        match error {
            transport::Error::Tls { .. } if self.endpoint.scheme == Scheme::Kafkas => {
                failure.tip("--cacert FILE to trust its certificate; kafka:// if it speaks no TLS")
            }
            transport::Error::Connect { .. } => local::nobody_there(failure, Pillar::Log, &self.endpoint),
            _ => failure,
        }
    }
}

/// An error by itself: what a broker refuses in its own words, if it has any, with the name by which others know it.
pub fn words(error: &Error) -> String {
    let Error::Refused { code, said, about, .. } = error else { return error.to_string() };
    let about = about.as_ref().map(|about| format!("{about}: ")).unwrap_or_default();
    let why = said.as_deref().unwrap_or_else(|| code.message());
    match why.contains(code.name()) {
        true => format!("{about}{why}"),
        false => format!("{about}{why} ({})", code.name()),
    }
}

/// There is no such topic.
pub fn no_topic(topic: &str, url: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no topic '{topic}' at {url}"))
        .tip(format!("create it: {}", there::command("bandy log create", topic)))
}

/// The exit code of a kind of error.
fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        // Who speaks another protocol is not whom the command wants to reach.
        ErrorKind::Unreachable | ErrorKind::Protocol => Exit::Unreachable,
        ErrorKind::Denied => Exit::Denied,
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::Refused | ErrorKind::Closed => Exit::Failed,
    }
}

fn credentials(given: Given, endpoint: &Endpoint) -> Result<Option<Credentials>, Failure> {
    let (user, password) = match given {
        Given::None => {
            return match endpoint.option("sasl") {
                Some(_) => Err(usage(format!("{endpoint} says how to log in, but not as whom"))
                    .tip("-u USER --password-file FILE, or -u USER to be asked")),
                None => Ok(None),
            };
        }
        Given::Token(_) => {
            return Err(usage("tokens are not built for log yet: a user and a password are"));
        }
        Given::Password { user, password } => (user, password),
    };
    let mechanism = match endpoint.option("sasl") {
        None => Mechanism::Plain,
        Some(name) => Mechanism::from_name(name)
            .ok_or_else(|| usage(format!("{endpoint}: sasl is one of {}", Mechanism::NAMES.join(", "))))?,
    };
    Ok(Some(Credentials { mechanism, user, password }))
}

fn is_encrypted(endpoint: &Endpoint, tls: &Tls) -> Result<bool, Failure> {
    if endpoint.assumed || endpoint.scheme.is_tls() {
        return Ok(endpoint.scheme.is_tls() || tls.is_wanted());
    }
    if tls.is_wanted() && endpoint.scheme == Scheme::Kafka {
        return Err(usage(format!("{endpoint} is plaintext, but TLS options were given"))
            .tip("write kafkas:// or leave the options out"));
    }
    Ok(false)
}
