//! From the words of the command line to a client: endpoint, protocol, TLS, credentials, headers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::connector;
use super::fleet::{self, Fleet, Member};
use super::headers;
use super::mistake::Way;
use crate::cli::app::App;
use crate::cli::connect::{Connect, ConnectArgs, Credentials};
use crate::cli::endpoint::{Endpoint, LOCAL_DEFAULT, Pillar, Place};
use crate::cli::exit::{Exit, Failure};
use crate::cli::greet;
use crate::cli::local;
use crate::rpc::client::resolve::{MethodName, ends_with_words};
use crate::rpc::client::{
    CallOptions, Cause, Client, Connector, Ending, HttpProtocol, Replies, Requests, UnaryReply,
};
use crate::rpc::reflection::cache::{Cache, Memory};
use crate::rpc::registry::{self, Instance, Local, RegistryUrl};
use crate::rpc::{Format, Kind};
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
    /// What is known about the way there.
    way: Way,
    /// How it is spoken to.
    protocol: ProtocolArgs,
    /// All instances, this one among them, if a registry knows them.
    fleet: Option<Arc<Fleet>>,
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
        let mut instances = fleet::find(text, wanted.service_name(), app).await?;
        let Some(first) = fleet::first(instances.clone()).await else {
            return Err(Failure::new(Exit::NotFound, format!("no healthy instance at {text}")).into());
        };
        let mut remote = Self::at(&first, args, protocol, app)?;
        // What the first one is called by is not what the others are.
        remote.way.tls.server_name.clone_from(&args.server_name);
        // Their turns begin with it: commands that make one call must not all make it at the same one.
        instances.sort_by_key(|instance| *instance != first);
        let source = fleet::Source::new(text, wanted.service_name(), app)?;
        remote.fleet = Some(Arc::new(Fleet::new(remote.template(), instances, source)));
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

    /// All instances that a registry knows, if one was asked.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref()
    }

    /// Keeps up with the registry, if there is one, for as long as the command runs.
    ///
    /// # Errors
    /// The registry cannot be opened any more.
    pub fn follow(&self) -> Result<(), Failure> {
        self.fleet.as_ref().map_or(Ok(()), |fleet| fleet.follow())
    }

    /// Asks something of the server. Of the instances that a registry knows it is the one that was found first; if that
    /// cannot be reached any more, it rests, and the next one is asked.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn ask<T>(&self, work: impl AsyncFn(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut asked = Box::pin(work(self)).await;
        let Some(fleet) = &self.fleet else { return asked };
        let mut gone = self.url.clone();
        for _ in 0..2 * fleet.len() {
            if !is_unreachable(&asked) {
                break;
            }
            let Ok(member) = fleet.pick() else { break };
            if member.remote.url != gone {
                gone.clone_from(&member.remote.url);
                asked = Box::pin(work(&member.remote)).await;
            }
            fleet.note(&member, !is_unreachable(&asked));
        }
        asked
    }

    /// Makes a unary call. Where a registry knows several instances, they take turns; the last that was called
    /// is returned, too.
    pub async fn unary(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
    ) -> (UnaryReply, Option<Arc<Member>>) {
        match &self.fleet {
            Some(fleet) => Box::pin(fleet.unary(path, message, options)).await,
            None => (self.client.unary(path, message, options).await, None),
        }
    }

    /// Makes a call with one request and a stream of replies, at the instance whose turn it is.
    ///
    /// # Errors
    /// There is no connection, or the protocol has no streams.
    pub async fn server_stream(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
    ) -> (Result<Replies, Ending>, Option<Arc<Member>>) {
        match &self.fleet {
            Some(fleet) => {
                fleet.open(async |client| client.server_stream(path, message, options).await).await
            }
            None => (self.client.server_stream(path, message, options).await, None),
        }
    }

    /// Starts a call of a method that takes a stream, at the instance whose turn it is.
    ///
    /// # Errors
    /// There is no connection, or the protocol has no streams.
    pub async fn stream(
        &self,
        path: &str,
        kind: Kind,
        options: &CallOptions,
    ) -> (Result<(Requests, Replies), Ending>, Option<Arc<Member>>) {
        match &self.fleet {
            Some(fleet) => fleet.open(async |client| client.stream(path, kind, options).await).await,
            None => (self.client.stream(path, kind, options).await, None),
        }
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
            ..CallOptions::default()
        };
        let url = if is_local { connect.endpoint.to_string() } else { endpoint.to_string() };
        let cache = Cache::new(app.home.cache.join("rpc"), MEMORY_AGE_MAX);
        let words = app.words.clone();
        let way = Way { endpoint, tls: connect.tls.clone(), encrypted: false, words };
        Ok(Self {
            is_local,
            listed,
            ..Template { options, way, protocol: protocol.clone(), cache }.remote(url)?
        })
    }

    fn template(&self) -> Template {
        Template {
            options: self.options.clone(),
            way: self.way.clone(),
            protocol: self.protocol.clone(),
            cache: self.cache.clone(),
        }
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

    /// What to tell a person about a call that did not end well at `member`, or here; a connection that failed
    /// is looked into.
    pub async fn explain(&self, member: Option<&Member>, what: &str, ending: &Ending) -> Failure {
        let remote = member.map_or(self, |member| &member.remote);
        match remote.way.explain(ending).await {
            Some(failure) => failure,
            None => remote.failure(what, ending),
        }
    }

    /// What to tell a person about a call that did not end well.
    fn failure(&self, what: &str, ending: &Ending) -> Failure {
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
            // A server that was killed leaves its socket and its entry behind.
            Cause::Unreachable if self.is_local && ending.untouched => match url.strip_prefix("local:") {
                Some(name) if !name.is_empty() => local::nobody(Pillar::Rpc, name),
                Some(_) | None => {
                    nobody(&format!("nothing listens at {url} (rpc) any more — {}", status.message))
                }
            },
            Cause::Unreachable => {
                let failure =
                    Failure::new(Exit::Unreachable, format!("cannot reach {url} — {}", status.message));
                if self.is_local {
                    failure
                } else if !ending.untouched {
                    failure.ask(greet::ask(&self.way.endpoint, Pillar::Rpc))
                } else if ending.unresolved {
                    failure.tip("is the name right? 'getent hosts NAME' asks the same resolver")
                } else {
                    failure.tip(format!("wait for it: bandy rpc wait -e {url}"))
                }
            }
            Cause::Malformed => {
                let message = format!("{url} does not speak {} well — {}", self.protocol(), status.message);
                self.other_protocol(Failure::new(Exit::Status(status.code.number()), message))
                    .ask(greet::ask(&self.way.endpoint, Pillar::Rpc))
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

/// What the instances of one service have in common.
#[derive(Clone)]
pub struct Template {
    options: CallOptions,
    way: Way,
    protocol: ProtocolArgs,
    cache: Cache,
}

impl Template {
    /// How the messages of their calls are encoded.
    pub fn format(&self) -> Format {
        self.options.format
    }

    /// A client of one instance. Credentials are the command line's, not the registry's.
    ///
    /// # Errors
    /// It is registered with a URL that is none, or that the protocol does not go with.
    pub fn at(&self, instance: &Instance) -> anyhow::Result<Remote> {
        let endpoint = Endpoint::parse(Pillar::Rpc, &instance.url).map_err(Failure::from)?;
        let mut template = self.clone();
        if template.way.tls.server_name.is_none() {
            template.way.tls.server_name.clone_from(&instance.server_name);
        }
        template.way.endpoint = endpoint;
        let url = template.way.endpoint.to_string();
        template.remote(url)
    }

    fn remote(mut self, url: String) -> anyhow::Result<Remote> {
        let connector = connector::connector(&self.way.endpoint, &self.way.tls, &self.protocol)?;
        self.way.encrypted = connector.is_encrypted();
        self.options.format = connector.format();
        let client = connector.client(Shutdown::new());
        let Self { options, way, protocol, cache } = self;
        Ok(Remote {
            client,
            connector,
            url,
            options,
            is_local: false,
            way,
            protocol,
            fleet: None,
            listed: Vec::new(),
            cache,
        })
    }
}

/// Whether something went wrong because nobody could be reached.
pub fn is_unreachable<T>(outcome: &anyhow::Result<T>) -> bool {
    let failure = outcome.as_ref().err().and_then(|error| error.downcast_ref::<Failure>());
    failure.is_some_and(|failure| failure.exit == Exit::Unreachable)
}

/// What to tell a person about a registry that does not help.
pub fn registry_failure(error: &registry::Error) -> Failure {
    let exit = match error {
        registry::Error::Unreachable { .. } | registry::Error::Answer { .. } => Exit::Unreachable,
        registry::Error::Denied { .. } => Exit::Denied,
        registry::Error::NotFound { .. } => Exit::NotFound,
        registry::Error::NoService { .. } | registry::Error::Unsupported(_) => Exit::Usage,
        registry::Error::File { .. } | registry::Error::Tls(_) => Exit::Failed,
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
    match found.map_or_else(|| newest_of(&listed), |instance| Ok(Some(instance))) {
        Ok(Some(instance)) => {
            let fitting = instance.methods.iter().filter(|path| wanted.fits(path));
            let mut services: Vec<String> =
                fitting.filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect();
            services.dedup();
            Ok((Endpoint::parse(Pillar::Rpc, &instance.url).map_err(Failure::from)?, services))
        }
        Ok(None) if socket.exists() => Ok((unix()?, Vec::new())),
        Ok(None) => Err(nobody("nothing listens at local: (rpc)").into()),
        Err(error) => Err(registry_failure(&error).into()),
    }
}

/// The server that was started last: commands that name none mean it.
fn newest_of(listed: &Local) -> Result<Option<Instance>, registry::Error> {
    Ok(listed.list()?.pop())
}

/// Where this user's newest server is, at whatever address it listens.
///
/// # Errors
/// The list of them cannot be read.
pub fn newest(app: &App) -> Result<Option<Endpoint>, Failure> {
    let newest = newest_of(&Local::new(&services(app))).map_err(|error| registry_failure(&error))?;
    Ok(newest.map(|instance| Endpoint::parse(Pillar::Rpc, &instance.url)).transpose()?)
}

/// There is no server at `local:`.
fn nobody(message: &str) -> Failure {
    Failure::new(Exit::Unreachable, message)
        .tip("bandy rpc serve                start one in another terminal")
        .tip("bandy rpc call -e HOST:PORT …  call another server")
}

/// The URLs of this user's servers on this machine, if it is `local:` that is asked and there are several.
///
/// # Errors
/// Those of [`ConnectArgs::resolve`], and an unreadable list.
pub fn local_servers(args: &ConnectArgs, app: &App) -> anyhow::Result<Option<Vec<String>>> {
    let is_registry = args.endpoint.as_deref().is_some_and(RegistryUrl::is_registry);
    if is_registry && !args.endpoint.as_deref().is_some_and(|text| text.starts_with("local:")) {
        return Ok(None);
    }
    if args.resolve(app, Pillar::Rpc)?.endpoint != Endpoint::local() {
        return Ok(None);
    }
    let instances = Local::new(&services(app)).list().map_err(|error| registry_failure(&error))?;
    let mut urls: Vec<String> = Vec::new();
    for instance in instances {
        if !urls.contains(&instance.url) {
            urls.push(instance.url);
        }
    }
    Ok((urls.len() > 1).then_some(urls))
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
