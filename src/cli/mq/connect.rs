//! Which broker the mq commands speak to, and what its refusals mean for whoever typed.

use std::time::Duration;

use super::objects::Kind;
use crate::cli::app::App;
use crate::cli::connect::{Connect, ConnectArgs, Credentials as Given, Tls};
use crate::cli::endpoint::{Endpoint, Pillar, Place, Scheme};
use crate::cli::errors::{why, word};
use crate::cli::exit::{Ask, Exit, Failure};
use crate::cli::{greet, local, there};
use crate::mq::client::{Config, Connection, Credentials, Error, ErrorKind};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::transport::{self, Address, ConnectOptions};

/// A broker that a command speaks to.
#[derive(Debug, Clone)]
pub struct Broker {
    /// How to connect and log in.
    pub config: Config,
    /// The endpoint, as it may be shown.
    pub url: String,
    /// Which server.
    pub endpoint: Endpoint,
    /// When to give up.
    pub timeout: Option<Duration>,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

impl Broker {
    /// Resolves endpoint, virtual host, credentials and TLS. `verb` is what the broker lists the connection as.
    ///
    /// # Errors
    /// No endpoint of mq, words that contradict each other, files that cannot be read, a local broker that does not
    /// start.
    pub fn resolve(args: &ConnectArgs, app: &App, verb: &str) -> anyhow::Result<Self> {
        Self::of(args.resolve_or_start(app, Pillar::Mq)?, app, verb)
    }

    /// The same for a command that asks whether there is one: none is started.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_as_it_is(args: &ConnectArgs, app: &App, verb: &str) -> anyhow::Result<Self> {
        Self::of(args.resolve(app, Pillar::Mq)?, app, verb)
    }

    /// The same of arguments that are resolved already: a password is asked for once.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn of(connect: Connect, app: &App, verb: &str) -> anyhow::Result<Self> {
        let endpoint = connect.endpoint;
        let url = endpoint.to_string();
        let address = match &endpoint.place {
            Place::Local(name) => Address::Unix(app.home.socket(Pillar::Mq, name)),
            Place::Unix(_) | Place::Dir(_) | Place::Hosts(_) => endpoint
                .addresses()
                .into_iter()
                .next()
                .ok_or_else(|| usage(format!("{url} names no host")))?,
        };
        if matches!(endpoint.scheme, Scheme::Http | Scheme::Https) {
            let failure = usage(format!("{url} is a management API, which hands out no messages"));
            return Err(failure.tip("-e amqp://HOST").into());
        }
        let tls = if is_encrypted(&endpoint, &connect.tls)? { Some(connect.tls.client()?) } else { None };
        let mut config = Config::new(address);
        config.connect = ConnectOptions { tls, ..ConnectOptions::default() };
        config.credentials = match connect.credentials {
            Given::Password { user, password } => Credentials::Password { user, password },
            // RabbitMQ takes a token in place of the password, and whom it is for from the token.
            Given::Token(password) => Credentials::Password { user: String::new(), password },
            Given::None if connect.tls.identity.is_some() => Credentials::External,
            Given::None => Credentials::default(),
        };
        // `amqp://host` and `amqp://host/` are the same to most clients, and no virtual host has an empty name.
        if let Some(path) = endpoint.path.as_deref().filter(|path| !path.is_empty()) {
            path.clone_into(&mut config.vhost);
        }
        if let Some(text) = endpoint.option("heartbeat") {
            config.heartbeat = heartbeat(text).ok_or_else(|| {
                usage(format!("{url}: heartbeat is a number of seconds up to 65535, 0 for none"))
            })?;
        }
        config.name = format!("bandy mq {verb} {}", std::process::id());
        config.seed = fastrand::u64(..);
        Ok(Self { config, url, endpoint, timeout: connect.timeout })
    }

    /// The same, with a password that is shown nowhere: for another connection of the same user.
    pub fn password(&self) -> Option<(&str, &Secret)> {
        match &self.config.credentials {
            Credentials::Password { user, password } => Some((user, password)),
            Credentials::External => None,
        }
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// Unreachable (3), denied (4), no such virtual host (5).
    pub async fn open(&self, shutdown: &Shutdown) -> Result<Connection, Failure> {
        Connection::open(&self.config, shutdown).await.map_err(|error| self.failure(&error))
    }

    /// True if it is on this machine.
    pub fn is_near(&self) -> bool {
        self.config.address.is_loopback() || matches!(self.config.address, Address::Unix(_))
    }

    /// True for a broker of this program on this machine: somebody's own, where queues may be made unasked.
    pub fn is_own(&self, connection: &Connection) -> bool {
        self.is_near() && connection.server().platform.starts_with("bandy ")
    }

    /// What an error of the client means for whoever typed.
    pub fn failure(&self, error: &Error) -> Failure {
        let url = &self.url;
        let plain = || Failure::new(exit_of(error.kind()), format!("{url}: {error}"));
        match error {
            Error::Unreachable(error) => self.unreachable(error),
            Error::LoginRefused { .. } | Error::Connection { code: 403, .. } if self.password().is_none() => {
                Failure::new(Exit::Denied, format!("{url} lets nobody in by this certificate"))
                    .tip("a user of the broker has to have the name (CN) or the whole subject of the certificate")
                    .tip("-u USER --password-file FILE    with a password instead")
            }
            Error::LoginRefused { user } => {
                self.denied(user, &format!("{url} does not let {user} in: wrong user or password"))
            }
            Error::Connection { code: 403, text, .. } => {
                let user = self.password().map_or("", |(user, _)| user);
                let why = if text.contains("loopback") {
                    format!("{url} lets {user} in from its own machine only")
                } else {
                    format!("{url} does not let {user} in: wrong user or password")
                };
                self.denied(user, &why)
            }
            Error::Mechanism { .. } => Failure::new(Exit::Denied, format!("{url}: {error}"))
                .tip("-u USER --password-file FILE    with a password instead of the certificate alone"),
            Error::Channel { text, .. } | Error::Connection { text, .. } => self.refusal(error, text),
            Error::Ended | Error::Lost(_) | Error::NotAmqp(_) | Error::Wire(_) | Error::Unexpected(_) => {
                plain().ask(greet::ask(&self.endpoint, Pillar::Mq))
            }
            Error::Mute(_) => self.waiting(plain().ask(greet::ask(&self.endpoint, Pillar::Mq))),
            Error::Timeout { .. } | Error::Silent(_) => self.waiting(plain()),
            _ => plain(),
        }
    }

    /// How to see whether somebody who does not answer ever will.
    fn waiting(&self, failure: Failure) -> Failure {
        match &self.endpoint.place {
            Place::Local(_) => failure
                .tip("bandy status       who it is: a process that Ctrl-Z has stopped accepts and says nothing")
                .tip("bandy down mq      ends it"),
            Place::Hosts(_) => {
                let Some((host, port)) = self.endpoint.host() else { return failure };
                let at = Address::tcp(host, port);
                let scheme = self.endpoint.scheme.name();
                failure.tip(format!("bandy wait {scheme}://{at} --timeout 1m    until it answers"))
            }
            Place::Unix(_) | Place::Dir(_) => failure,
        }
    }

    fn denied(&self, user: &str, why: &str) -> Failure {
        let failure = Failure::new(Exit::Denied, why);
        match user {
            "guest" => failure.tip("-u USER --password-file FILE, or -e amqp://USER:PASSWORD@HOST"),
            user => failure.tip(format!("-u {user} --password-file FILE, or -u {user} to be asked")),
        }
    }

    fn unreachable(&self, error: &transport::Error) -> Failure {
        let why = why(error);
        if let Place::Local(name) = &self.endpoint.place {
            return local::nobody(Pillar::Mq, name);
        }
        let failure =
            Failure::new(Exit::Unreachable, format!("cannot reach the broker at {} — {why}", self.url));
        match error {
            transport::Error::Tls { .. } if self.endpoint.scheme == Scheme::Amqps => {
                failure.tip("--cacert FILE to trust its certificate; amqp:// if it speaks no TLS")
            }
            transport::Error::Connect { .. } => local::nobody_there(failure, Pillar::Mq, &self.endpoint),
            _ => failure,
        }
    }

    /// A refusal in the broker's words: `NOT_FOUND - no queue 'jobs' in vhost '/'`.
    fn refusal(&self, error: &Error, text: &str) -> Failure {
        let url = &self.url;
        let exit = exit_of(error.kind());
        let words = text.split_once(" - ").map_or(text, |(_, words)| words);
        if let Some(queue) = quoted(words, "no queue '") {
            return self.no_queue(queue);
        }
        if let Some(exchange) = quoted(words, "no exchange '") {
            return Failure::new(Exit::NotFound, format!("no exchange '{exchange}' at {url}"))
                .ask(self.meant(Kind::Exchanges, exchange))
                .there(format!("bandy mq create -x {} --type topic", word(exchange)));
        }
        if exit == Exit::NotFound && words.starts_with("vhost ") {
            return Failure::new(Exit::NotFound, format!("{url}: {words}")).tip(
                "the virtual host stands at the end of the URL: amqp://HOST/NAME, with %2F for a slash",
            );
        }
        if words.contains("user_id property") {
            return Failure::new(exit, format!("{url}: {words}")).tip("-p user_id=    leaves it out");
        }
        Failure::new(exit, format!("{url}: {words}"))
    }
}

impl Broker {
    /// There is no such queue; perhaps one of nearly that name.
    pub fn no_queue(&self, queue: &str) -> Failure {
        no_queue(queue, &self.url).ask(self.meant(Kind::Queues, queue))
    }

    fn meant(&self, kind: Kind, name: &str) -> Box<Ask> {
        let (broker, name) = (self.clone(), name.to_owned());
        Box::new(move || Box::pin(super::api::meant(broker, kind, name)))
    }
}

/// There is no such queue.
pub fn no_queue(queue: &str, url: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no queue '{queue}' at {url}"))
        .tip(format!("create it: {}", there::command("bandy mq create", queue)))
}

/// What stands between `start` and the next quote.
fn quoted<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let name = text.split_once(start)?.1;
    // A name may have quotes itself: what follows it is known.
    name.rsplit_once("' in vhost '").map(|(name, _)| name).or_else(|| name.split('\'').next())
}

/// The exit code of a kind of error.
fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        // Who speaks another protocol is not whom the command wants to reach.
        ErrorKind::Unreachable | ErrorKind::Protocol => Exit::Unreachable,
        ErrorKind::Denied => Exit::Denied,
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::Conflict | ErrorKind::Refused | ErrorKind::Closed => Exit::Failed,
    }
}

fn heartbeat(text: &str) -> Option<Duration> {
    text.parse::<u16>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

fn is_encrypted(endpoint: &Endpoint, tls: &Tls) -> Result<bool, Failure> {
    if endpoint.assumed || endpoint.scheme.is_tls() {
        return Ok(endpoint.scheme.is_tls() || tls.is_wanted());
    }
    if tls.is_wanted() && endpoint.scheme == Scheme::Amqp {
        return Err(usage(format!("{endpoint} is plaintext, but TLS options were given"))
            .tip("write amqps:// or leave the options out"));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::there::THERE;

    fn broker(url: &str) -> Broker {
        let endpoint = Endpoint::parse(Pillar::Mq, url).unwrap();
        let config = Config::new(Address::tcp("h", 1));
        Broker { config, url: endpoint.to_string(), endpoint, timeout: None }
    }

    fn told(code: u16, text: &str) -> (Exit, String, Vec<String>) {
        let error = Error::Channel { code, text: text.to_owned(), class: 0, method: 0 };
        let failure = broker("amqp://bob:secret@h/%2Fx").failure(&error);
        (failure.exit, failure.message, failure.tips)
    }

    #[test]
    fn refusals_become_exit_codes_and_tips() {
        let url = "amqp://bob:***@h:5672/%2Fx";
        assert_eq!(
            told(404, "NOT_FOUND - no queue 'it's' in vhost '/x'"),
            (
                Exit::NotFound,
                format!("no queue 'it's' at {url}"),
                vec![format!(r"create it: bandy mq create 'it'\''s'{THERE}")]
            )
        );
        assert_eq!(
            told(404, "NOT_FOUND - no exchange 'x' in vhost '/x'"),
            (
                Exit::NotFound,
                format!("no exchange 'x' at {url}"),
                vec![format!("bandy mq create -x x --type topic{THERE}")]
            )
        );
        let (exit, message, tips) =
            told(403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'bob'");
        assert_eq!(exit, Exit::Denied);
        assert_eq!(message, format!("{url}: access to queue 'q' in vhost '/' refused for user 'bob'"));
        assert!(tips.is_empty());
        assert_eq!(told(406, "PRECONDITION_FAILED - x").0, Exit::Failed);
    }

    #[test]
    fn a_certificate_that_nobody_has_is_told_as_such() {
        let mut broker = broker("amqps://h");
        broker.config.credentials = Credentials::External;
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL.";
        for error in [
            Error::LoginRefused { user: "the certificate's user".into() },
            Error::Connection { code: 403, text: text.into(), class: 0, method: 0 },
        ] {
            let failure = broker.failure(&error);
            assert_eq!(failure.exit, Exit::Denied);
            assert_eq!(failure.message, "amqps://h:5671 lets nobody in by this certificate");
            assert_eq!(failure.tips.len(), 2);
        }
    }

    #[test]
    fn silence_names_what_was_waited_for_and_how_to_see_whether_it_ends() {
        let after = Duration::from_secs(10);
        let failure = broker("amqp://bob:secret@h").failure(&Error::Mute(after));
        assert_eq!(failure.exit, Exit::Unreachable);
        let why = "it accepts connections, but did not answer the first words of AMQP 0-9-1 within 10s";
        assert_eq!(failure.message, format!("amqp://bob:***@h:5672: {why}"));
        assert_eq!(failure.tips, ["bandy wait amqp://h:5672 --timeout 1m    until it answers"]);
        assert!(failure.later.is_some(), "somebody else may be there");
        let failure = broker("local:").failure(&Error::Timeout { what: "connection.open", after });
        assert_eq!(failure.message, "local:: no answer to connection.open within 10s");
        assert!(failure.tips[0].starts_with("bandy status ") && failure.later.is_none(), "{failure:?}");
    }

    #[test]
    fn a_login_that_is_refused_never_shows_the_password() {
        for error in [
            Error::LoginRefused { user: "bob".into() },
            Error::Connection {
                code: 403,
                text: "ACCESS_REFUSED - Login was refused".into(),
                class: 0,
                method: 0,
            },
        ] {
            let failure = broker("amqp://bob:secret@h").failure(&error);
            assert_eq!(failure.exit, Exit::Denied);
            assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        }
    }

    #[test]
    fn a_local_broker_that_is_not_there_has_three_ways_out() {
        let source = std::io::ErrorKind::NotFound.into();
        let error = transport::Error::Connect { address: Address::tcp("h", 1), source };
        let failure = broker("local:").failure(&error.into());
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Unreachable, "nothing listens at local: (mq)")
        );
        assert_eq!(
            failure.tips,
            [
                "bandy up mq               start one in the background",
                "bandy mq broker           …or in this terminal",
                "bandy with mq -- CMD      …or only for one command",
            ]
        );
    }

    #[test]
    fn tls_is_spoken_where_it_was_asked_for() {
        let wanted = Tls { insecure: true, ..Tls::default() };
        let endpoint = |url| Endpoint::parse(Pillar::Mq, url).unwrap();
        assert!(is_encrypted(&endpoint("amqps://h"), &Tls::default()).unwrap());
        assert!(is_encrypted(&endpoint("h:5671"), &wanted).unwrap());
        assert!(!is_encrypted(&endpoint("h:5672"), &Tls::default()).unwrap());
        assert!(is_encrypted(&endpoint("amqp://h"), &wanted).is_err());
    }
}
