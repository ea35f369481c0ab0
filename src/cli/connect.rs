//! Arguments that every client shares: which server, credentials, TLS, timeout.

mod several;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::app::App;
use super::endpoint::{Endpoint, Pillar, Place};
use super::exit::{Exit, Failure};
use super::local;
use super::settings::{Config, Context};
use super::there;
use crate::secret::Secret;
use crate::transport::TlsClient;
use crate::transport::tls::{IdentityFiles, TlsClientOptions};
use crate::units::parse_duration;
pub use several::SeveralConnectArgs;

/// Which server, and how to reach it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Which server: a URL, HOST:PORT or :PORT; see 'bandy help endpoints'
    #[arg(short, long, value_name = "URL", add = super::completions::endpoints())]
    pub endpoint: Option<String>,
    /// Named set of endpoints
    #[arg(hide_short_help = true, long, value_name = "NAME", env = "BANDY_CONTEXT", add = super::completions::contexts())]
    pub context: Option<String>,
    /// Give up after this long, with exit code 124
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Who: USER:PASSWORD, or USER to be asked for the password
    #[arg(hide_short_help = true, short, long, value_name = "USER[:PASS]")]
    pub user: Option<String>,
    /// Read the password from the first line of a file
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Read a bearer token from the first line of a file
    #[arg(hide_short_help = true, long, value_name = "FILE", conflicts_with_all = ["user", "password_file"])]
    pub token_file: Option<PathBuf>,
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Present this certificate (PEM)
    #[arg(hide_short_help = true, long, value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// Private key of --cert (PEM)
    #[arg(hide_short_help = true, long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// Do not verify the server's certificate
    #[arg(hide_short_help = true, long)]
    pub insecure: bool,
    /// Expect this name in the server's certificate
    #[arg(hide_short_help = true, long, value_name = "NAME")]
    pub server_name: Option<String>,
}

/// Where the endpoint came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `-e`.
    Flag,
    /// `BANDY_…_URL`.
    Environment,
    /// A context of that name.
    Context(String),
    /// Nothing said anything: `local:`.
    Default,
}

/// How a client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// It does not.
    None,
    /// User and password.
    Password {
        /// Who.
        user: String,
        /// The password; empty if none was given.
        password: Secret,
    },
    /// A bearer token.
    Token(Secret),
}

/// What is expected of the server's certificate, and what is shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of certificates to trust instead of the system's.
    pub cacert: Option<PathBuf>,
    /// PEM files of our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// True if any certificate will do.
    pub insecure: bool,
    /// Name that the certificate must have.
    pub server_name: Option<String>,
}

impl Tls {
    /// True if anything about TLS was asked for: then plaintext is out of the question.
    pub fn is_wanted(&self) -> bool {
        *self != Self::default()
    }

    /// The client side of it.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn client(&self) -> Result<TlsClient, Failure> {
        let options = TlsClientOptions {
            ca: self.cacert.clone(),
            identity: self.identity.clone().map(|(certificate, key)| IdentityFiles { certificate, key }),
            insecure: self.insecure,
            server_name: self.server_name.clone(),
            alpn: Vec::new(),
        };
        TlsClient::new(&options).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }
}

/// The shared arguments, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Which server.
    pub endpoint: Endpoint,
    /// Who said so.
    pub source: Source,
    /// Who we are.
    pub credentials: Credentials,
    /// What TLS is to look like, should there be any.
    pub tls: Tls,
    /// When to give up.
    pub timeout: Option<Duration>,
}

impl ConnectArgs {
    /// Finds the endpoint: flag, environment, context, `local:`; then what belongs to it.
    ///
    /// A context's credentials and certificates go to the context's own endpoint and to no other.
    ///
    /// # Errors
    /// No endpoint of the pillar, no such context, an unreadable file.
    pub fn resolve(&self, app: &App, pillar: Pillar) -> anyhow::Result<Connect> {
        let (endpoint, source, context) = self.endpoint(app, pillar)?;
        if let Place::Local(name) = &endpoint.place {
            app.home.trust(pillar, name)?;
        }
        if let (Source::Context(name), false) = (&source, endpoint == Endpoint::local()) {
            app.printer.status(&format!("context {name}: {endpoint}"));
        }
        let own = |given: &Option<PathBuf>, theirs: Option<PathBuf>| given.clone().or(theirs);
        let cert = own(&self.cert, context.cert);
        let cert_key = own(&self.cert_key, context.cert_key);
        let tls = Tls {
            cacert: own(&self.cacert, context.cacert),
            identity: cert.zip(cert_key),
            insecure: self.insecure,
            server_name: self.server_name.clone().or(context.server_name),
        };
        let password_file = own(&self.password_file, context.password_file);
        let token_file = if self.user.is_some() || self.password_file.is_some() {
            None
        } else {
            own(&self.token_file, context.token_file)
        };
        let user = self.user.clone().or(context.user);
        let credentials = credentials(&endpoint, user, password_file, token_file, app.asks)?;
        let connect = Connect { endpoint, source, credentials, tls, timeout: self.timeout };
        app.there.get_or_init(|| there::words(self, &connect, app));
        Ok(connect)
    }

    /// The same for a command that needs a server: where nothing said which, this user's own is started if it can be.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); a server that does not start.
    pub fn resolve_or_start(&self, app: &App, pillar: Pillar) -> anyhow::Result<Connect> {
        let connect = self.resolve(app, pillar)?;
        if connect.source == Source::Default {
            local::ensure(app, pillar)?;
        }
        Ok(connect)
    }

    /// The data directory that is to be read without its server, if the endpoint is one.
    ///
    /// # Errors
    /// No endpoint of the pillar, no such context.
    pub fn directory(&self, app: &App, pillar: Pillar) -> anyhow::Result<Option<PathBuf>> {
        match self.endpoint(app, pillar)?.0.place {
            Place::Dir(path) => Ok(Some(path)),
            Place::Local(_) | Place::Unix(_) | Place::Hosts(_) => Ok(None),
        }
    }

    fn endpoint(&self, app: &App, pillar: Pillar) -> anyhow::Result<(Endpoint, Source, Context)> {
        let parse = |text: &str| Endpoint::parse(pillar, text).map_err(Failure::from);
        if let Some(text) = &self.endpoint {
            return Ok((parse(text)?, Source::Flag, Context::default()));
        }
        if let Some(text) = app.environment.get(pillar.variable()) {
            let endpoint = parse(&text).map_err(|mut failure| {
                failure.message = format!("{}: {}", pillar.variable(), failure.message);
                failure
            })?;
            return Ok((endpoint, Source::Environment, Context::default()));
        }
        let config = Config::load(&app.home.config)?;
        let Some(name) =
            self.context.clone().filter(|name| !name.is_empty()).or_else(|| config.current.clone())
        else {
            return Ok((Endpoint::local(), Source::Default, Context::default()));
        };
        let context = config.context(&name)?;
        match context.endpoint(pillar) {
            Some(text) => {
                let endpoint = parse(text)?;
                Ok((endpoint, Source::Context(name), context.clone()))
            }
            None => Ok((Endpoint::local(), Source::Default, Context::default())),
        }
    }
}

fn credentials(
    endpoint: &Endpoint,
    user: Option<String>,
    password_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    asks: bool,
) -> anyhow::Result<Credentials> {
    if let Some(file) = token_file {
        return Ok(Credentials::Token(first_line(&file)?));
    }
    let is_named = user.is_some();
    let (user, password) = match user {
        Some(user) => match user.split_once(':') {
            Some((user, password)) => (Some(user.to_owned()), Some(Secret::new(password))),
            None => (Some(user), None),
        },
        None => (endpoint.user.clone(), endpoint.password.clone()),
    };
    let password = match password_file {
        Some(file) => Some(first_line(&file)?),
        None => password,
    };
    match (user, password) {
        // A user of a URL may have none: bob@host is how people name themselves.
        (Some(user), None) if is_named && asks => {
            let password = super::password::ask(&user, &endpoint.to_string())?;
            Ok(Credentials::Password { user, password })
        }
        (Some(user), password) => Ok(Credentials::Password { user, password: password.unwrap_or_default() }),
        (None, None) => Ok(Credentials::None),
        (None, Some(_)) => {
            Err(Failure::new(Exit::Usage, "a password without a user").tip("add --user NAME").into())
        }
    }
}

fn first_line(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let line = text.lines().next().unwrap_or("");
    if line.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("{} is empty", file.display())).into());
    }
    Ok(Secret::new(line))
}
