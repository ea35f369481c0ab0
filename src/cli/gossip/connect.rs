//! Which node a command asks, and what its refusals mean.

use std::time::Duration;

use super::discover;
use crate::cli::app::App;
use crate::cli::connect::{Connect, ConnectArgs, Credentials, Source};
use crate::cli::endpoint::{Pillar, Place, Scheme};
use crate::cli::exit::{Exit, Failure};
use crate::cli::greet;
use crate::gossip::client::{Client, Error};
use crate::gossip::wire::ipc::Request;
use crate::gossip::wire::msgpack::{Fault, Reader};
use crate::transport::{Address, ConnectOptions};

/// How long a node may take to accept a command.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A node that is asked.
#[derive(Debug)]
pub struct Node {
    /// The connection to it.
    pub client: Client,
    /// How it was named.
    pub url: String,
}

impl Node {
    /// Connects to the node that was named; if none was, to this user's newest that is there.
    ///
    /// # Errors
    /// No endpoint of a node; nobody there.
    pub async fn open(args: &ConnectArgs, app: &App, verb: &str) -> anyhow::Result<Self> {
        let connect = args.resolve(app, Pillar::Gossip)?;
        let (address, url) = place(&connect, app, verb).await?;
        let key = match &connect.credentials {
            Credentials::Password { password, .. } => Some(password.expose().to_owned()),
            Credentials::Token(token) => Some(token.expose().to_owned()),
            Credentials::None => None,
        };
        let options = ConnectOptions { timeout: CONNECT_TIMEOUT, ..ConnectOptions::default() };
        let client = Client::connect(&address, &options, key.as_deref().filter(|key| !key.is_empty())).await;
        let client = client.map_err(|error| match error {
            Error::Lost(_) | Error::Malformed(_) => {
                unreachable(&error, &url).ask(greet::ask(&connect.endpoint, Pillar::Gossip))
            }
            Error::Connect(_) | Error::Refused(_) => unreachable(&error, &url),
        })?;
        Ok(Self { client, url })
    }

    /// Asks, and reads the body of the answer.
    ///
    /// # Errors
    /// The node's.
    pub async fn ask<T>(
        &mut self,
        request: &Request,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Failure> {
        let answer = self.client.ask(request, body).await;
        answer.map_err(|error| self.failure(&error))
    }

    /// What an error of the node means for the command.
    pub fn failure(&self, error: &Error) -> Failure {
        let url = &self.url;
        match error {
            Error::Connect(_) | Error::Lost(_) => unreachable(error, url),
            _ if error.is_unsupported() => {
                Failure::new(Exit::Failed, format!("{url} is not a node of bandy: it cannot do this"))
                    .tip("bandy gossip join    be a node of its cluster")
            }
            Error::Refused(why) if why.contains("no member has the name") => {
                Failure::new(Exit::NotFound, format!("{url}: {why}"))
                    .there_for("bandy gossip ls", "who is there")
            }
            Error::Refused(why) if why.contains("uthentication") || why.contains("auth token") => {
                Failure::new(Exit::Denied, format!("{url}: {why}"))
                    .tip("its key as the password: -u agent:KEY, or --token-file FILE")
            }
            Error::Refused(_) | Error::Malformed(_) => Failure::new(Exit::Failed, format!("{url}: {error}")),
        }
    }
}

fn unreachable(error: &Error, url: &str) -> Failure {
    let failure = match error {
        Error::Refused(_) => Failure::new(Exit::Denied, format!("{url}: {error}")),
        Error::Malformed(_) => Failure::new(Exit::Failed, format!("{url}: {error}")),
        Error::Connect(_) | Error::Lost(_) => {
            Failure::new(Exit::Unreachable, format!("cannot reach the node at {url} — {error}"))
        }
    };
    match url.starts_with("serf://") {
        true => {
            failure.tip("a Serf agent listens for commands at 127.0.0.1:7373 unless -rpc-addr says otherwise")
        }
        false => failure.tip("bandy gossip join    be a node, in another terminal"),
    }
}

/// Where the node is that is meant.
async fn place(connect: &Connect, app: &App, verb: &str) -> Result<(Address, String), Failure> {
    let endpoint = &connect.endpoint;
    let url = endpoint.to_string();
    match &endpoint.place {
        Place::Local(_) if connect.source == Source::Default => match discover::newest(app).await {
            Some(found) => Ok((Address::Unix(found.path), format!("local:{}", found.name))),
            None => Err(Failure::new(Exit::Unreachable, "no node of yours is running here (gossip)")
                .tip("bandy gossip join            be one, in another terminal")
                .tip(format!("bandy gossip {verb} -e serf://HOST    ask a Serf agent"))),
        },
        Place::Local(name) => Ok((Address::Unix(app.home.socket(Pillar::Gossip, name)), url)),
        Place::Unix(path) => Ok((Address::Unix(path.clone()), url)),
        Place::Dir(_) => Err(Failure::new(Exit::Usage, format!("{url} is not a node"))),
        Place::Hosts(hosts) if endpoint.scheme == Scheme::Serf => {
            let (host, port) = hosts.first().cloned().unwrap_or_default();
            Ok((Address::tcp(host, port), url))
        }
        Place::Hosts(hosts) => {
            let host = hosts.first().map_or("HOST", |(host, _)| host.as_str());
            Err(Failure::new(
                Exit::Usage,
                format!("{url} is where nodes talk to each other; commands ask a node"),
            )
            .tip(format!("bandy gossip {verb} -e serf://{host}    the port for commands, 7373"))
            .tip(format!("bandy gossip join {host}    be a node of that cluster, then ask this one")))
        }
    }
}

/// This user's newest node that is there.
pub async fn newest(app: &App) -> Option<Address> {
    discover::newest(app).await.map(|found| Address::Unix(found.path))
}

/// Whether a node answers at an endpoint: what `bandy wait` asks.
///
/// # Errors
/// Why not.
pub async fn greet(address: &Address, scheme: Scheme, timeout: Duration) -> Result<(), String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let options = ConnectOptions { timeout, ..ConnectOptions::default() };
    if scheme != Scheme::Gossip {
        let client = Client::connect(address, &options, None).await;
        return client.map(drop).map_err(|error| error.to_string());
    }
    // A ping to whoever is there.
    use crate::gossip::wire::{Ping, StreamDecoder, StreamMessage, Wrapping};
    let talk = async {
        let mut stream = crate::transport::Stream::connect_with(address, &options)
            .await
            .map_err(|error| error.to_string())?;
        let ping = StreamMessage::Ping(Ping { sequence: 1, node: "".into(), source: None });
        let bytes = ping.encode(&Wrapping::default(), [0; 12]);
        stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
        let (mut decoder, mut chunk) = (StreamDecoder::default(), [0; 512]);
        loop {
            let length = stream.read(&mut chunk).await.map_err(|error| error.to_string())?;
            if length == 0 {
                return Err("it speaks something else than gossip".to_owned());
            }
            decoder.push(&chunk[..length]).map_err(|error| error.to_string())?;
            match decoder.next_message(&Wrapping::default()) {
                Ok(None) => {}
                // Whoever wants encryption says so: it is there.
                Ok(Some(_)) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    tokio::time::timeout(timeout, talk).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
}
