//! Both ways to a broker: its management API for what can be listed and set, AMQP for the rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::connect::Broker;
use super::objects::Kind;
use crate::cli::app::App;
use crate::cli::connect::{ConnectArgs, Credentials as Given};
use crate::cli::endpoint::{Endpoint, Pillar, Place, Scheme};
use crate::cli::errors::{near_miss, why};
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::management::{self, Access, Error, Management};
use crate::mq::client::{Config, Connection, Credentials, Error as AmqpError, ErrorKind};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::transport::{self, Address, ConnectOptions};

/// RabbitMQ's API listens at the port of AMQP and so much, by its defaults and by habit: 5672 and 15672.
const PORT_DISTANCE: u16 = 10_000;

/// An address that nobody named may be one where packets vanish.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Which virtual hosts.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct VhostArgs {
    /// Virtual host [default: the URL's, or /; of an http:// endpoint, all]
    #[arg(long, value_name = "NAME", conflicts_with = "all_vhosts")]
    pub vhost: Option<String>,
    /// All virtual hosts
    #[arg(long)]
    pub all_vhosts: bool,
}

/// A broker as its management API shows it.
#[derive(Debug)]
pub struct Api {
    /// The API.
    pub management: Management,
    /// What the user called the server.
    pub url: String,
    /// Where the API is taken to be.
    pub admin: String,
    /// None for all.
    pub vhost: Option<String>,
    /// The way by AMQP; none for an http:// endpoint.
    pub broker: Option<Broker>,
    /// When to give up.
    pub timeout: Option<Duration>,
    /// True if somebody said where the API is.
    is_given: bool,
    /// True of a broker of this program that has no API at its usual place.
    is_own: bool,
}

impl Api {
    /// Finds the API of an endpoint: it is one itself, says so with `?admin=URL`, has it where RabbitMQ has it, or, of a
    /// broker of ours, at its own address.
    ///
    /// # Errors
    /// No endpoint of mq; files that cannot be read; a local broker that is not there.
    pub async fn find(
        args: &ConnectArgs,
        vhosts: &VhostArgs,
        app: &App,
        verb: &str,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let mut api = Self::resolve(args, vhosts, app, verb, shutdown)?;
        api.settle(shutdown).await?;
        Ok(api)
    }

    /// Looks whether the API is where it is taken to be, and for a broker of ours where it is otherwise. RabbitMQ's own
    /// port never hears HTTP.
    async fn settle(&mut self, shutdown: &Shutdown) -> Result<(), Failure> {
        let Some(broker) = self.broker.as_ref().filter(|_| !self.is_given) else { return Ok(()) };
        let is_socket = matches!(broker.config.address, Address::Unix(_));
        let error = match self.management.get("/whoami").await {
            Err(error) if error.is_absent() && !is_socket => error,
            _ => return Ok(()),
        };
        self.is_own = is_own(broker, shutdown).await?;
        if !self.is_own {
            // It was asked once; what is said about it comes from this answer.
            self.management.give_up(absence(&error));
            return Ok(());
        }
        let place = Endpoint { path: None, options: Vec::new(), ..broker.endpoint.clone() };
        let known = self.management.access();
        let access = Access {
            address: broker.config.address.clone(),
            connect: ConnectOptions { tls: broker.config.connect.tls.clone(), ..known.connect.clone() },
            host: place.host().map_or_else(|| "localhost".to_owned(), |(host, port)| authority(host, port)),
            ..known.clone()
        };
        self.management = Management::new(access, shutdown);
        self.admin = place.to_string();
        Ok(())
    }

    fn resolve(
        args: &ConnectArgs,
        vhosts: &VhostArgs,
        app: &App,
        verb: &str,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let connect = args.resolve_or_start(app, Pillar::Mq)?;
        let endpoint = connect.endpoint.clone();
        let is_http = matches!(endpoint.scheme, Scheme::Http | Scheme::Https);
        let broker = if is_http { None } else { Some(Broker::of(connect.clone(), app, verb)?) };
        let (user, password) = match (&broker, connect.credentials) {
            (Some(broker), _) => match &broker.config.credentials {
                Credentials::Password { user, password } => (user.clone(), password.clone()),
                // The API knows users by password only.
                Credentials::External => (String::new(), Secret::default()),
            },
            (None, Given::Password { user, password }) => (user, password),
            (None, Given::Token(token)) => (String::new(), token),
            (None, Given::None) => ("guest".to_owned(), Secret::new("guest")),
        };
        let mut place = match (endpoint.option("admin"), is_http) {
            (Some(text), false) => Endpoint::parse(Pillar::Mq, text).map_err(Failure::from)?,
            (_, true) => endpoint.clone(),
            (None, false) => {
                let encrypted = broker.as_ref().is_some_and(|broker| broker.config.connect.tls.is_some());
                derived(&endpoint, encrypted)
            }
        };
        let (user, password) = match (place.user.take(), place.password.take()) {
            (Some(user), password) if !is_http => (user, password.unwrap_or_default()),
            _ => (user, password),
        };
        let given = endpoint.option("admin").is_some() || is_http;
        let address = match &place.place {
            Place::Local(name) => Address::Unix(app.home.socket(Pillar::Mq, name)),
            _ => place.addresses().into_iter().next().ok_or_else(|| {
                Failure::new(Exit::Usage, format!("{place} is no place of a management API"))
                    .tip("http://HOST:15672")
            })?,
        };
        if let (Address::Unix(path), false, Some(broker)) = (&address, given, &broker)
            && !crate::transport::answers(path)
        {
            // Not the API is missing, but the broker.
            return Err(broker.failure(&nobody(path.clone())).into());
        }
        let tls = place.scheme.is_tls().then(|| connect.tls.client()).transpose()?;
        let access = Access {
            host: place.host().map_or_else(|| "localhost".to_owned(), |(host, port)| authority(host, port)),
            prefix: prefix(&place),
            connect: ConnectOptions { tls, timeout: CONNECT_TIMEOUT },
            answer_timeout: management::ANSWER_TIMEOUT,
            address,
            user,
            password,
        };
        let vhost = match (&vhosts.vhost, vhosts.all_vhosts, &broker) {
            (Some(vhost), ..) => Some(vhost.clone()),
            (None, false, Some(broker)) => Some(broker.config.vhost.clone()),
            (None, true, _) | (None, false, None) => None,
        };
        place.options.clear();
        let management = Management::new(access, shutdown);
        Ok(Self {
            url: endpoint.to_string(),
            admin: match &management.access().address {
                Address::Unix(path) => format!("unix:{}", path.display()),
                _ => place.to_string(),
            },
            management,
            vhost,
            broker,
            timeout: connect.timeout,
            is_given: given,
            is_own: false,
        })
    }

    /// The virtual host, where one is meant.
    pub fn one_vhost(&self) -> &str {
        self.vhost.as_deref().unwrap_or("/")
    }

    /// The objects of a kind in the virtual hosts that were asked for.
    ///
    /// # Errors
    /// The API's.
    pub async fn objects(&self, kind: &str) -> Result<Vec<Value>, Error> {
        match &self.vhost {
            Some(vhost) => self.management.list(&management::path(&[kind, vhost])).await,
            None => self.management.list(&management::path(&[kind])).await,
        }
    }

    /// What an error of the API means for whoever wanted to do `what`, such as `list queues`.
    pub fn failure(&self, error: &Error, what: &str) -> Failure {
        // It was killed after it had been looked for: not the API is missing, but the broker.
        if let (Error::Unreachable(_), Address::Unix(path), Some(broker), false) =
            (error, &self.management.access().address, &self.broker, self.is_given)
        {
            return broker.failure(&nobody(path.clone()));
        }
        let (url, admin) = (&self.url, &self.admin);
        match error {
            Error::Denied { user, why } if why == "Login failed" => {
                Failure::new(Exit::Denied, format!("{admin} does not let {user} in: wrong user or password"))
                    .tip("-u USER --password-file FILE")
            }
            Error::Denied { user, why } => Failure::new(
                Exit::Denied,
                format!("cannot {what} of {url}: its management API does not let {user} in: {why}"),
            )
            .tip(format!(
                "rabbitmqctl set_user_tags {} monitoring",
                if user.is_empty() { "USER" } else { user }
            )),
            Error::NotFound(_) => Failure::new(
                Exit::NotFound,
                match &self.vhost {
                    Some(vhost) => format!("cannot {what} of {url}: there is no virtual host '{vhost}'"),
                    None => format!("cannot {what} of {url}: not found"),
                },
            ),
            Error::Refused(why) => Failure::new(Exit::Failed, format!("cannot {what} of {url}: {why}")),
            Error::TooLarge => Failure::new(Exit::Failed, format!("cannot {what} of {url}: {error}")),
            Error::Timeout(_) | Error::Unreachable(_) | Error::Lost(_) | Error::Foreign(_) => {
                let failure = Failure::new(
                    Exit::Unreachable,
                    format!(
                        "cannot {what} of {url} without its management API — {admin}: {}",
                        absence(error)
                    ),
                );
                if self.broker.is_none() {
                    return failure;
                }
                let is_socket = matches!(self.management.access().address, Address::Unix(_));
                match (self.is_given, self.is_own || is_socket) {
                    (true, _) => failure.tip("without ?admin= it is looked for where it is usually"),
                    (false, true) => failure
                        .tip("bandy mq broker    without '--admin none'")
                        .tip("-e 'amqp://HOST?admin=http://HOST:PORT'    if it is somewhere else"),
                    (false, false) => failure
                        .tip("rabbitmq-plugins enable rabbitmq_management    on RabbitMQ's machine")
                        .tip("-e 'amqp://HOST?admin=http://HOST:15672'       if it is somewhere else"),
                }
            }
        }
    }
}

/// Why there is no API, in few words.
fn absence(error: &Error) -> String {
    match error {
        Error::Unreachable(error @ transport::Error::Connect { .. }) => why(error),
        error => error.to_string(),
    }
}

/// True if a broker of this program answers: what it really is stands in its properties.
///
/// # Errors
/// It does not let us in.
async fn is_own(broker: &Broker, shutdown: &Shutdown) -> Result<bool, Failure> {
    let config = Config { reconnect_for: Duration::ZERO, ..broker.config.clone() };
    match Connection::open(&config, shutdown).await {
        Ok(connection) => {
            let is_own = connection.server().platform.starts_with("bandy ");
            let _ = connection.close().await;
            Ok(is_own)
        }
        // Without an API and without a broker it is the broker that is missing.
        Err(error)
            if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unreachable | ErrorKind::Protocol) =>
        {
            Err(broker.failure(&error))
        }
        Err(_) => Ok(false),
    }
}

/// `did you mean 'orders'?`, of a queue or an exchange that is not there; none if nothing is near, or nobody tells.
pub async fn meant(broker: Broker, kind: Kind, name: String) -> Option<String> {
    let shutdown = Shutdown::new();
    let Credentials::Password { user, password } = broker.config.credentials.clone() else { return None };
    let is_socket = matches!(broker.config.address, Address::Unix(_));
    let encrypted = broker.config.connect.tls.is_some();
    let (place, is_given) = match broker.endpoint.option("admin") {
        Some(text) => (Endpoint::parse(Pillar::Mq, text).ok()?, true),
        None => (derived(&broker.endpoint, encrypted), false),
    };
    let address = if is_socket && !is_given {
        broker.config.address.clone()
    } else {
        place.addresses().into_iter().next()?
    };
    let tls = if place.scheme.is_tls() { Some(broker.config.connect.tls.clone()?) } else { None };
    let access = Access {
        host: place.host().map_or_else(|| "localhost".to_owned(), |(host, port)| authority(host, port)),
        prefix: prefix(&place),
        connect: ConnectOptions { tls, timeout: CONNECT_TIMEOUT },
        answer_timeout: management::ANSWER_TIMEOUT,
        address,
        user,
        password,
    };
    let mut api = Api {
        url: broker.url.clone(),
        admin: place.to_string(),
        management: Management::new(access, &shutdown),
        vhost: Some(broker.config.vhost.clone()),
        timeout: None,
        is_given,
        is_own: false,
        broker: Some(broker),
    };
    api.settle(&shutdown).await.ok()?;
    let objects = api.objects(kind.name()).await.ok()?;
    // The default exchange has no name.
    let names = objects.iter().filter_map(|object| object["name"].as_str()).filter(|name| !name.is_empty());
    near_miss(&name, names).map(|near| format!("did you mean '{near}'?"))
}

fn nobody(path: PathBuf) -> AmqpError {
    let source = std::io::ErrorKind::NotFound.into();
    AmqpError::Unreachable(Arc::new(transport::Error::Connect { address: Address::Unix(path), source }))
}

/// Where RabbitMQ has its API by default.
fn derived(endpoint: &Endpoint, encrypted: bool) -> Endpoint {
    let mut place = endpoint.clone();
    place.path = None;
    place.options.clear();
    (place.user, place.password) = (None, None);
    if let Place::Hosts(hosts) = &mut place.place {
        place.assumed = false;
        place.scheme = if encrypted { Scheme::Https } else { Scheme::Http };
        for (_, port) in hosts {
            *port = port.checked_add(PORT_DISTANCE).unwrap_or(*port);
        }
    }
    place
}

/// What stands before `/api`: RabbitMQ's `management.path_prefix`. A pasted address of the API itself is as good.
fn prefix(place: &Endpoint) -> String {
    let path = place.path.as_deref().unwrap_or_default().trim_matches('/');
    let path = path.strip_suffix("api").map_or(path, |before| before.trim_end_matches('/'));
    if path.is_empty() { String::new() } else { format!("/{path}") }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Endpoint {
        Endpoint::parse(Pillar::Mq, url).unwrap()
    }

    #[test]
    fn the_api_is_where_rabbitmq_has_it() {
        for (url, expected) in [
            ("amqp://bob:x@h/v?admin=http://a", "http://h:15672"),
            ("amqps://h", "https://h:15671"),
            (":5673", "http://127.0.0.1:15673"),
            ("local:", "local:"),
            ("unix:/run/mq", "unix:/run/mq"),
        ] {
            let endpoint = parse(url);
            assert_eq!(derived(&endpoint, endpoint.scheme.is_tls()).to_string(), expected, "{url}");
        }
    }

    #[test]
    fn a_prefix_may_stand_before_the_api() {
        for (url, expected) in [
            ("http://h:15672", ""),
            ("http://h:15672/", ""),
            ("http://h:15672/api/", ""),
            ("http://h/rabbit", "/rabbit"),
            ("http://h/rabbit/api", "/rabbit"),
        ] {
            assert_eq!(prefix(&parse(url)), expected, "{url}");
        }
    }
}
