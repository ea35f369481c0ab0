//! From the words of the command line to a client: endpoint, protocol, TLS, credentials, headers.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::connector;
use super::fleet::{self, Fleet};
use super::headers;
use crate::cli::app::App;
use crate::cli::connect::{Connect, ConnectArgs, Credentials};
use crate::cli::endpoint::{Endpoint, LOCAL_DEFAULT, Pillar, Place};
use crate::cli::exit::{Exit, Failure};
use crate::rpc::client::resolve::{MethodName, ends_with_words};
use crate::rpc::client::{CallOptions, Cause, Client, Connector, Ending, HttpProtocol, UnaryReply};
use crate::rpc::reflection::cache::{Cache, Memory};
use crate::rpc::registry::{self, Instance, Local, RegistryUrl};
use crate::shutdown::Shutdown;

pub use connector::ProtocolArgs;

/// What was learnt about a server's schema is used this long.
const MEMORY_AGE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A server to call.
pub struct Remote {
    /// The client.
    pub client: Client,
    /// How it is reached.
    pub connector: Connector,
    /// How messages name the server.
    pub url: String,
    /// What every call to it has in common.
    pub options: CallOptions,
    /// True if it was not named but found: `local:`.
    pub is_local: bool,
    /// All instances, this one among them, if a registry knows several.
    fleet: Option<Fleet>,
    /// Services that it has for what is wanted, as far as its own listing says.
    listed: Vec<String>,
    /// What is known from earlier commands.
    cache: Cache,
}

impl Remote {
    /// Finds the server and prepares a client; connects to nothing yet. `wanted` helps to find it where no
    /// endpoint is named.
    ///
    /// # Errors
    /// Words that contradict each other, files that cannot be read, nothing at `local:`.
    pub async fn open(
        args: &ConnectArgs,
        protocol: &ProtocolArgs,
        wanted: Wanted<'_>,
        app: &App,
    ) -> anyhow::Result<Self> {
        let registry = args
            .endpoint
            .as_deref()
            .filter(|text| RegistryUrl::is_registry(text) && !text.starts_with("local:"));
        let Some(text) = registry else {
            return Self::connect(&args.resolve(app, Pillar::Rpc)?, args.timeout, protocol, wanted, app);
        };
        let at = |instance: &Instance| Self::at(instance, args, protocol, app);
        let mut instances = fleet::find(text, wanted.service_name(), app).await?;
        let Some(first) = fleet::take_first(&mut instances).await else {
            return Err(Failure::new(Exit::NotFound, format!("no healthy instance at {text}")).into());
        };
        let mut remote = at(&first)?;
        if !instances.is_empty() {
            let all = std::iter::once(first).chain(instances);
            let members = all.map(|instance| Ok((instance.clone(), at(&instance)?)));
            remote.fleet = Some(Fleet::new(members.collect::<anyhow::Result<_>>()?));
        }
        Ok(remote)
    }

    /// All servers that are meant: every instance that a registry knows, every server of this user at `local:`.
    ///
    /// # Errors
    /// As those of [`Self::open`].
    pub async fn open_all(
        args: &ConnectArgs,
        protocol: &ProtocolArgs,
        app: &App,
    ) -> anyhow::Result<Vec<Self>> {
        let registry = args.endpoint.as_deref().filter(|text| RegistryUrl::is_registry(text));
        let instances = match registry.filter(|text| !text.starts_with("local:")) {
            Some(text) => fleet::find(text, None, app).await?,
            None if args.resolve(app, Pillar::Rpc)?.endpoint == Endpoint::local() => {
                Local::new(&services(app)).list().map_err(|error| registry_failure(&error))?
            }
            None => Vec::new(),
        };
        let mut urls = HashSet::new();
        let mut remotes = Vec::new();
        for instance in instances.iter().filter(|instance| urls.insert(&instance.url)) {
            remotes.push(Self::at(instance, args, protocol, app)?);
        }
        if remotes.is_empty() {
            remotes.push(Self::open(args, protocol, Wanted::Anything, app).await?);
        }
        Ok(remotes)
    }

    fn at(
        instance: &Instance,
        args: &ConnectArgs,
        protocol: &ProtocolArgs,
        app: &App,
    ) -> anyhow::Result<Self> {
        let mut args = ConnectArgs { endpoint: Some(instance.url.clone()), ..args.clone() };
        if args.server_name.is_none() {
            args.server_name.clone_from(&instance.server_name);
        }
        Self::connect(&args.resolve(app, Pillar::Rpc)?, args.timeout, protocol, Wanted::Anything, app)
    }

    /// Makes a unary call. Where a registry knows several instances, they take turns.
    pub async fn unary(&self, path: &str, message: &Bytes, options: &CallOptions) -> UnaryReply {
        if let Some(fleet) = &self.fleet
            && let Some(reply) = Box::pin(fleet.unary(path, message, options)).await
        {
            return reply;
        }
        self.client.unary(path, message, options).await
    }

    fn connect(
        connect: &Connect,
        timeout: Option<Duration>,
        protocol: &ProtocolArgs,
        wanted: Wanted<'_>,
        app: &App,
    ) -> anyhow::Result<Self> {
        let is_local = matches!(connect.endpoint.place, Place::Local(_));
        let (endpoint, listed) = match &connect.endpoint.place {
            Place::Local(name) => local(name, wanted, app)?,
            Place::Unix(_) | Place::Dir(_) | Place::Hosts(_) => (connect.endpoint.clone(), Vec::new()),
        };
        let connector = connector::connector(&endpoint, &connect.tls, protocol)?;
        let mut metadata = HeaderMap::new();
        if let Some(value) = authorization(&connect.credentials)? {
            metadata.insert(AUTHORIZATION, value);
        }
        headers::add(&mut metadata, &protocol.headers, &app.environment)?;
        let options = CallOptions {
            metadata,
            timeout,
            compression: protocol.compress.unwrap_or_default(),
            message_size_max: usize::try_from(protocol.max_msg_size)
                .unwrap_or(usize::MAX)
                .min(u32::MAX as usize),
            format: connector.format(),
            ..CallOptions::default()
        };
        let url = if is_local { connect.endpoint.to_string() } else { endpoint.to_string() };
        let client = connector.client(Shutdown::new());
        let cache = Cache::new(app.home.cache.join("rpc"), MEMORY_AGE_MAX);
        Ok(Self { client, connector, url, options, is_local, fleet: None, listed, cache })
    }

    /// What is known of the server's schema beforehand, for something that is wanted of it.
    pub fn recall(&self, wanted: &str) -> Memory {
        let mut memory = self.cache.recall(&self.url, wanted, SystemTime::now()).unwrap_or_default();
        let symbols = &mut memory.foresight.symbols;
        let new: Vec<&String> = self.listed.iter().filter(|service| !symbols.contains(service)).collect();
        symbols.extend(new.into_iter().cloned().collect::<Vec<_>>());
        memory
    }

    /// Keeps what was learnt for the next command.
    pub fn learn(&self, wanted: &str, memory: Memory) {
        self.cache.keep(&self.url, wanted, memory);
    }

    /// What to tell a person about a call that did not end well.
    pub fn failure(&self, what: &str, ending: &Ending) -> Failure {
        let Ending { status, cause, .. } = ending;
        let url = &self.url;
        match cause {
            Cause::Answered => {
                let message = match status.message.as_str() {
                    "" => format!("{what} at {url} answered {}", status.code.name()),
                    text => format!("{what} at {url} answered {} — {text}", status.code.name()),
                };
                Failure::new(Exit::Status(status.code.number()), message)
            }
            Cause::Deadline => Failure::new(Exit::Timeout, format!("{what} at {url}: {}", status.message)),
            Cause::GivenUp => Failure::new(Exit::Failed, format!("{what} at {url}: {}", status.message)),
            Cause::Unreachable => {
                let failure =
                    Failure::new(Exit::Unreachable, format!("cannot reach {url} — {}", status.message));
                if self.is_local || !ending.untouched {
                    failure
                } else {
                    failure.tip(format!("wait for it: bandy rpc wait -e {url}"))
                }
            }
            Cause::Malformed => {
                let message = format!("{url} does not speak {} well — {}", self.protocol(), status.message);
                self.other_protocol(Failure::new(Exit::Status(status.code.number()), message))
            }
            // RFC 9110, 15.6.6: connect-node's answer to streams both ways.
            Cause::Foreign(http) if *http == StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
                let message = format!("{url} does not take {what} in this version of HTTP");
                Failure::new(Exit::Failed, message).tip("try the other: --http 2 or --http 1.1")
            }
            Cause::Foreign(http) => {
                let exit = match http.as_u16() {
                    401 | 403 | 407 => Exit::Denied,
                    404 | 405 => Exit::NotFound,
                    429 | 502..=504 => Exit::Unreachable,
                    _ => Exit::Failed,
                };
                let message = format!("{url} does not speak {} — it {}", self.protocol(), status.message);
                self.other_protocol(Failure::new(exit, message))
            }
        }
    }

    fn protocol(&self) -> &'static str {
        self.connector.protocol()
    }

    fn other_protocol(&self, failure: Failure) -> Failure {
        let others = match &self.connector {
            Connector::Http(target) => match target.protocol {
                HttpProtocol::Grpc => "--protocol connect or --protocol grpc-web",
                HttpProtocol::GrpcWeb => "--protocol grpc or --protocol connect",
                HttpProtocol::Connect => "--protocol grpc or --protocol grpc-web",
            },
            Connector::Compact(..) | Connector::CompactDatagrams { .. } | Connector::JsonRpc(_) => "grpc://",
        };
        failure.tip(format!("if it is an RPC server, try {others}"))
    }
}

/// What to tell a person about a registry that does not help.
pub fn registry_failure(error: &registry::Error) -> Failure {
    let exit = match error {
        registry::Error::Unreachable { .. } | registry::Error::Answer { .. } => Exit::Unreachable,
        registry::Error::Denied { .. } => Exit::Denied,
        registry::Error::NotFound { .. } => Exit::NotFound,
        registry::Error::NoService { .. } | registry::Error::Unsupported(_) => Exit::Usage,
        registry::Error::File { .. } => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// Where running servers of this user are listed.
pub fn services(app: &App) -> std::path::PathBuf {
    app.home.runtime.join("services")
}

/// What is wanted of a server, so that it can be found without an address.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Any will do: the newest.
    Anything,
    /// A service.
    Service(&'a str),
    /// A method.
    Method(&'a MethodName),
    /// A method or a service, as far as can be told from its name.
    Symbol(&'a str),
}

impl<'a> Wanted<'a> {
    /// A service, if it is named.
    pub fn service(name: Option<&'a str>) -> Self {
        name.map_or(Self::Anything, Self::Service)
    }

    fn service_name(self) -> Option<&'a str> {
        match self {
            Self::Anything | Self::Symbol(_) => None,
            Self::Service(name) => Some(name),
            Self::Method(name) => name.service.as_deref(),
        }
    }

    fn fits(self, path: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Service(name) => {
                path.split_once('/').is_some_and(|(service, _)| ends_with_words(service, name))
            }
            Self::Method(name) => name.fits(path),
            Self::Symbol(name) => Self::Service(name).fits(path) || MethodName::parse(name).fits(path),
        }
    }
}

/// One of the instances, each as often as its weight says, of those that come first. Every command makes its own
/// choice, so commands together spread over all.
pub(super) fn choose(mut instances: Vec<Instance>) -> Option<Instance> {
    let first = instances.iter().map(|instance| instance.priority).min()?;
    instances.retain(|instance| instance.priority == first);
    let weight = |instance: &Instance| u64::from(instance.weight.max(1));
    let total: u64 = instances.iter().map(weight).sum();
    let mut place = fastrand::u64(..total);
    instances.into_iter().find(|instance| match place.checked_sub(weight(instance)) {
        None => true,
        Some(rest) => {
            place = rest;
            false
        }
    })
}

/// The server behind `local:`: the one of that name, or one that offers what is wanted, or else the newest.
/// With it, the services that may be meant.
fn local(name: &str, wanted: Wanted<'_>, app: &App) -> anyhow::Result<(Endpoint, Vec<String>)> {
    let socket = app.home.socket(Pillar::Rpc, name);
    let unix = || Endpoint::parse(Pillar::Rpc, &format!("unix:{}", socket.display())).map_err(Failure::from);
    if name != LOCAL_DEFAULT {
        return Ok((unix()?, Vec::new()));
    }
    let listed = Local::new(&services(app));
    let found = match wanted {
        Wanted::Anything => None,
        Wanted::Service(_) | Wanted::Method(_) | Wanted::Symbol(_) => {
            choose(listed.offering(|path| wanted.fits(path)).map_err(|error| registry_failure(&error))?)
        }
    };
    let newest = || listed.list().map(|mut instances| instances.pop());
    match found.map_or_else(newest, |instance| Ok(Some(instance))) {
        Ok(Some(instance)) => {
            let fitting = instance.methods.iter().filter(|path| wanted.fits(path));
            let mut services: Vec<String> =
                fitting.filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect();
            services.dedup();
            Ok((Endpoint::parse(Pillar::Rpc, &instance.url).map_err(Failure::from)?, services))
        }
        Ok(None) if socket.exists() => Ok((unix()?, Vec::new())),
        Ok(None) => Err(Failure::new(Exit::Unreachable, "nothing listens at local: (rpc)")
            .tip("bandy rpc serve                start one in another terminal")
            .tip("bandy rpc call -e HOST:PORT …  call another server")
            .into()),
        Err(error) => Err(registry_failure(&error).into()),
    }
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, Failure> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Token(token) => format!("Bearer {}", token.expose()),
        Credentials::Password { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
        }
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Failure::new(Exit::Usage, "the token has characters that a header cannot hold"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
