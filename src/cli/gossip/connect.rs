//! Which node a command asks, and what its refusals mean.

use std::time::Duration;

use super::discover;
use crate::cli::app::App;
use crate::cli::connect::{Connect, ConnectArgs, Credentials, Source};
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar, Place, Scheme};
use crate::cli::errors::{before_colon, why};
use crate::cli::exit::{Exit, Failure};
use crate::cli::greet;
use crate::cli::local;
use crate::gossip::client::{Client, Error};
use crate::gossip::wire::ipc::Request;
use crate::gossip::wire::msgpack::{Fault, Reader};
use crate::transport::{Address, ConnectOptions};

/// Where Serf's agents listen for commands.
const SERF_PORT: u16 = 7373;
/// What is told of one who says nothing.
const MUTE: &str = "it does not answer";
/// What a refusal says about a tag that no user sets.
const OWN_TAG: &str = "is the node's own";
/// How long a node may take to accept a command.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A node that is asked.
#[derive(Debug)]
pub struct Node {
    /// The connection to it.
    pub client: Client,
    /// How it was named.
    pub url: String,
    place: Place,
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
        let client = client.map_err(|error| {
            let failure = failure(&error, &url, &connect.endpoint.place);
            match error {
                Error::Lost(_) | Error::Malformed(_) | Error::Mute(_) => {
                    failure.ask(greet::ask(&connect.endpoint, Pillar::Gossip))
                }
                Error::Connect(_) | Error::Refused(_) => failure,
            }
        })?;
        Ok(Self { client, url, place: connect.endpoint.place })
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
        failure(error, &self.url, &self.place)
    }
}

fn failure(error: &Error, url: &str, place: &Place) -> Failure {
    let told = |exit| Failure::new(exit, format!("{}: {error}", before_colon(url)));
    match (error, place) {
        (Error::Connect(_), Place::Local(name)) => local::nobody(Pillar::Gossip, name),
        (Error::Connect(_) | Error::Lost(_), _) => {
            let why = if let Error::Connect(error) = error { why(error) } else { error.to_string() };
            let message = format!("cannot reach the node at {url} — {why}");
            where_it_listens(Failure::new(Exit::Unreachable, message), place)
        }
        (Error::Mute(_), Place::Local(_)) => told(Exit::Unreachable)
            .tip("bandy status       who it is: a process that Ctrl-Z has stopped accepts and says nothing"),
        (Error::Mute(_), _) => where_it_listens(told(Exit::Unreachable), place),
        (Error::Malformed(_), _) => where_it_listens(told(Exit::Unreachable), place),
        (Error::Refused(why), _) => refused(why, url),
    }
}

fn where_it_listens(failure: Failure, place: &Place) -> Failure {
    match place {
        Place::Hosts(_) => failure
            .tip("a Serf agent listens for commands at 127.0.0.1:7373 unless its -rpc-addr says otherwise"),
        Place::Local(_) | Place::Unix(_) | Place::Dir(_) => {
            failure.tip("bandy gossip join    be a node, in another terminal")
        }
    }
}

/// What a node does not want to do, by its words and by those of Serf's agent.
fn refused(why: &str, url: &str) -> Failure {
    const KEY: &str = "the agent's configuration calls it rpc_auth: -u agent:KEY, or --token-file FILE";
    let told = |exit| Failure::new(exit, format!("{}: {why}", before_colon(url)));
    let says = |words: &str| why.contains(words);
    if Error::Refused(why.to_owned()).is_unsupported() {
        return Failure::new(Exit::Failed, format!("{url} is not a node of bandy: it cannot do this"))
            .tip("bandy gossip join    be a node of its cluster");
    }
    if says("no member has the name") {
        return told(Exit::NotFound).there_for("bandy gossip ls", "who is there");
    }
    // Serf, authRequired and invalidAuthToken.
    if says("Authentication required") {
        return Failure::new(Exit::Denied, format!("{url} wants the agent's key")).tip(KEY);
    }
    if says("Invalid authentication token") {
        return Failure::new(Exit::Denied, format!("{url} does not know this key")).tip(KEY);
    }
    // Serf, handleMembersFiltered.
    if says("is not a regular expression") || says("Failed to compile regex") || says(OWN_TAG) {
        return told(Exit::Usage);
    }
    told(Exit::Failed)
}

/// Where the node is that is meant.
async fn place(connect: &Connect, app: &App, verb: &str) -> Result<(Address, String), Failure> {
    let endpoint = &connect.endpoint;
    let url = endpoint.to_string();
    match &endpoint.place {
        Place::Local(name) if connect.source == Source::Default || is_any(name, app) => {
            match discover::newest(app).await {
                Some(found) => Ok((Address::Unix(found.path), format!("local:{}", found.name))),
                None => Err(Failure::new(Exit::Unreachable, "no node of yours is running here (gossip)")
                    .tip("bandy gossip join            be one, in another terminal")
                    .tip(format!("bandy gossip {verb} -e serf://HOST    ask a Serf agent"))),
            }
        }
        Place::Local(name) => Ok((Address::Unix(app.home.socket(Pillar::Gossip, name)), url)),
        Place::Unix(path) => Ok((Address::Unix(path.clone()), url)),
        Place::Dir(_) => Err(Failure::new(Exit::Usage, format!("{url} is not a node"))),
        Place::Hosts(hosts) if endpoint.scheme == Scheme::Serf => {
            let (host, port) = hosts.first().cloned().unwrap_or_default();
            Ok((Address::tcp(host, port), url))
        }
        Place::Hosts(_) => {
            let failure = Failure::new(
                Exit::Usage,
                format!("{url} is where nodes talk to each other; commands ask a node"),
            );
            let Some((host, port)) = endpoint.host() else { return Err(failure) };
            let (commands, seed) = (Address::tcp(host, SERF_PORT), Address::tcp(host, port));
            Err(failure
                .tip(format!(
                    "bandy gossip {verb} -e serf://{commands}    where it takes commands, by default"
                ))
                .tip(format!("bandy gossip join {seed}    be a node of that cluster, then ask this one")))
        }
    }
}

/// `local:` without a name is any node of this user, unless one is called so.
fn is_any(name: &str, app: &App) -> bool {
    name == LOCAL_DEFAULT && !app.home.socket(Pillar::Gossip, name).exists()
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
        let client = tokio::time::timeout(timeout, Client::connect(address, &options, None)).await;
        return match client {
            Ok(client) => client.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(MUTE.to_owned()),
        };
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
    tokio::time::timeout(timeout, talk).await.unwrap_or_else(|_| Err(MUTE.to_owned()))
}
