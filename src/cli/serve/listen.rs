//! Where a server listens: the words of `-l`, the sockets behind them, and the URLs that lead there.

use crate::cli::app::App;
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar, Scheme};
use crate::cli::exit::{Exit, Failure};
use crate::cli::local::{fits, local_url, owner};
use crate::cli::settings::Home;
use crate::transport::{Address, Datagrams, Error, Listener};

/// One `-l`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// The socket of `local:NAME`.
    Local(String),
    /// Anywhere else.
    At(Address, Speaks),
}

/// Whether TLS is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// If the server has a certificate.
    WhatItCan,
    /// Never: `amqp://`, `http://`.
    Plaintext,
    /// Always: `amqps://`, `https://`.
    Tls,
}

impl Speaks {
    fn of_scheme(name: &str) -> Self {
        match Scheme::tls_of(name) {
            None => Self::WhatItCan,
            Some(false) => Self::Plaintext,
            Some(true) => Self::Tls,
        }
    }
}

impl Listen {
    /// Parses `HOST:PORT`, `:PORT`, `PORT`, `unix:PATH`, `udp:HOST:PORT`, `local:NAME`, or a URL with one of these, whose
    /// scheme says whether TLS is spoken there.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("local:") {
            let name = if name.is_empty() { LOCAL_DEFAULT } else { name };
            return local_name(name).map(Self::Local);
        }
        let (address, speaks) = match text.split_once("://") {
            None | Some(("tcp" | "udp" | "unix", _)) => (text.to_owned(), Speaks::WhatItCan),
            Some((scheme, rest)) if scheme.ends_with("+udp") => {
                (format!("udp:{}", rest.trim_end_matches('/')), Speaks::WhatItCan)
            }
            Some((scheme, rest)) => (rest.trim_end_matches('/').to_owned(), Speaks::of_scheme(scheme)),
        };
        address.parse().map(|address| Self::At(address, speaks)).map_err(|_| {
            format!("expected HOST:PORT, :PORT, PORT, unix:PATH, udp:HOST:PORT or local:NAME, got '{text}'")
        })
    }
}

/// A name that is one part of a path.
pub fn local_name(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.chars().all(fits) {
        return Err(format!("a name has up to 64 letters, digits, '-', '_' and '.', got '{name}'"));
    }
    Ok(name.to_owned())
}

/// Which port a server takes beside its local socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// None.
    None,
    /// This one, if it is free.
    IfFree(u16),
    /// This one, or else any that is free.
    OrAny(u16),
}

/// Where streams come in.
#[derive(Debug)]
pub struct Entrance {
    /// Open and waiting.
    pub listener: Listener,
    /// True if TLS is spoken there.
    pub is_tls: bool,
}

impl Entrance {
    /// Its host and port, if it has these.
    pub fn host_port(&self) -> Option<(String, u16)> {
        match self.listener.address() {
            Ok(Address::Tcp { host, port }) => Some((host, port)),
            Ok(Address::Udp { .. } | Address::Unix(_) | Address::Mem(_)) | Err(_) => None,
        }
    }
}

/// How the URLs of a server begin.
#[derive(Debug, Clone, Copy)]
pub struct Front {
    /// The scheme without TLS; with it an `s` follows.
    pub scheme: &'static str,
    /// True if the server has a certificate.
    pub has_tls: bool,
}

impl Front {
    fn speaks_tls(self, wanted: Speaks) -> bool {
        match wanted {
            Speaks::WhatItCan => self.has_tls,
            Speaks::Plaintext => false,
            Speaks::Tls => true,
        }
    }

    fn url(self, is_tls: bool, bound: &Address) -> String {
        format!("{}{}://{bound}", self.scheme, if is_tls { "s" } else { "" })
    }
}

/// What a server listens at.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Streams.
    pub listeners: Vec<Entrance>,
    /// Datagrams.
    pub datagrams: Vec<Datagrams>,
    /// The URL of each, in the order asked for.
    pub urls: Vec<String>,
    /// True if other machines reach one of them.
    pub exposed: bool,
    /// True if they reach one of them that speaks no TLS.
    pub exposed_plaintext: bool,
    /// `local:`, where it listens as well without having been asked: it uses the data that belong there.
    pub unasked: Option<String>,
}

impl Sockets {
    /// Opens what was asked for, all or nothing.
    pub async fn open(wanted: &[Listen], front: Front, pillar: Pillar, app: &App) -> anyhow::Result<Self> {
        let mut sockets = Self::default();
        for listen in wanted {
            match listen {
                Listen::Local(name) => sockets.local(name, pillar, app).await?,
                Listen::At(address, Speaks::Tls) if !front.has_tls => {
                    return Err(no_certificate(&format!("-l {}", front.url(true, address))).into());
                }
                Listen::At(address, speaks) => sockets.at(address, *speaks, front).await.map_err(explain)?,
            }
        }
        Ok(sockets)
    }

    /// Opens a port on loopback and the local socket.
    pub async fn open_default(
        name: &str,
        port_wanted: Port,
        front: Front,
        pillar: Pillar,
        app: &App,
    ) -> anyhow::Result<Self> {
        let mut sockets = Self::default();
        // First of all, because two servers of one name are a mistake, and two ports are not.
        sockets.local(name, pillar, app).await?;
        let local = sockets.urls.pop();
        if let Port::IfFree(port) | Port::OrAny(port) = port_wanted
            && let Err(error) = sockets.at(&Address::tcp("127.0.0.1", port), Speaks::WhatItCan, front).await
        {
            if let Port::OrAny(_) = port_wanted {
                sockets.at(&Address::tcp("127.0.0.1", 0), Speaks::WhatItCan, front).await.map_err(explain)?;
            } else {
                let owner = owner::of_port(port);
                let owner = owner.map_or_else(|| error.to_string(), |owner| format!("{owner} has it"));
                app.printer.note(&format!("port {port} is not free: {owner}; use '-l :0' for any that is"));
            }
        }
        sockets.urls.extend(local);
        Ok(sockets)
    }

    async fn local(&mut self, name: &str, pillar: Pillar, app: &App) -> anyhow::Result<()> {
        let path = app.home.socket(pillar, name);
        fits(&path)?;
        if let Some(folder) = path.parent() {
            Home::create_private(folder).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot keep a socket in {}: {error}", folder.display()))
            })?;
        }
        let url = local_url(name);
        let listener = Listener::bind(&Address::Unix(path.clone())).await.map_err(|error| match error {
            Error::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                let owner =
                    owner::of_socket(&path, None).map_or_else(String::new, |owner| format!(": {owner}"));
                let failure =
                    Failure::new(Exit::Failed, format!("a server of yours is already at {url}{owner}"))
                        .tip(format!("{:<20}stop that one", format!("bandy down {}", pillar.name())));
                let failure = match pillar {
                    Pillar::Rpc => failure.tip("-l :0               listen at a free port instead"),
                    Pillar::Mq | Pillar::Log => failure
                        .tip("-l :0               listen at a free port instead, with --dir or --memory"),
                    // There the name is what is taken.
                    Pillar::Gossip => failure,
                };
                failure.tip("--name NAME         be local:NAME")
            }
            other => Failure::new(Exit::Failed, other.to_string()),
        })?;
        self.listeners.push(Entrance { listener, is_tls: false });
        self.urls.push(url);
        Ok(())
    }

    async fn at(&mut self, address: &Address, speaks: Speaks, front: Front) -> Result<(), Error> {
        let (bound, url) = match address {
            Address::Udp { .. } => {
                let socket = Datagrams::bind(address).await?;
                let bound = socket.address().map_err(|source| failed(address, source))?;
                self.datagrams.push(socket);
                let url = bound.to_string().replacen("udp:", "udp://", 1);
                (bound, url)
            }
            Address::Tcp { .. } | Address::Unix(_) | Address::Mem(_) => {
                let listener = Listener::bind(address).await?;
                let bound = listener.address().map_err(|source| failed(address, source))?;
                // What comes through a Unix socket never leaves the machine.
                let is_tls = matches!(bound, Address::Tcp { .. }) && front.speaks_tls(speaks);
                self.listeners.push(Entrance { listener, is_tls });
                self.exposed_plaintext |= !bound.is_loopback() && !is_tls;
                let url = match &bound {
                    Address::Tcp { .. } => front.url(is_tls, &bound),
                    Address::Unix(_) | Address::Udp { .. } | Address::Mem(_) => bound.to_string(),
                };
                (bound, url)
            }
        };
        self.exposed |= !bound.is_loopback();
        self.urls.push(url);
        Ok(())
    }
}

/// TLS is asked for, and there is nothing to show.
pub fn no_certificate(what: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{what} needs a certificate"))
        .tip("add --tls-cert FILE --tls-key FILE, or --tls-self-signed")
}

fn failed(address: &Address, source: std::io::Error) -> Error {
    Error::Listen { address: address.clone(), source }
}

/// Says who has the address, and how to get another one.
fn explain(error: Error) -> Failure {
    let Error::Listen { address, source } = &error else {
        return Failure::new(Exit::Failed, error.to_string());
    };
    let owner = match address {
        Address::Tcp { port, .. } => owner::of_port(*port),
        Address::Unix(path) => owner::of_socket(path, None),
        Address::Udp { .. } | Address::Mem(_) => None,
    };
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            let owner = owner.map_or_else(|| source.to_string(), |owner| format!("{owner} listens there"));
            let failure = Failure::new(Exit::Failed, format!("cannot listen on {address}: {owner}"));
            match address {
                Address::Tcp { .. } => failure.tip("-l :0    listen at a free port and print it"),
                Address::Udp { .. } => failure.tip("-l udp::0    listen at a free port and print it"),
                Address::Unix(_) | Address::Mem(_) => failure,
            }
        }
        std::io::ErrorKind::PermissionDenied => Failure::new(Exit::Denied, error.to_string())
            .tip("ports below 1024 are the administrator's: -l :0 for a free one"),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_urls_and_names() {
        let speaks = |text: &str, speaks| Listen::At(text.parse().unwrap(), speaks);
        let at = |text: &str| speaks(text, Speaks::WhatItCan);
        for (text, expected) in [
            (":0", at(":0")),
            ("0.0.0.0:80", at("0.0.0.0:80")),
            ("grpc://[::1]:5/", speaks("[::1]:5", Speaks::Plaintext)),
            ("amqp://:5672", speaks(":5672", Speaks::Plaintext)),
            ("amqps://0.0.0.0:5671", speaks("0.0.0.0:5671", Speaks::Tls)),
            ("jsonrpc+tcp://:7", at(":7")),
            ("consul://:8500", at(":8500")),
            ("udp://:7", at("udp::7")),
            ("jsonrpc+udp://:7", at("udp::7")),
            ("tcp://h:7", at("h:7")),
            ("unix:/x", at("unix:/x")),
            ("local:", Listen::Local("default".to_owned())),
            ("local:a-1", Listen::Local("a-1".to_owned())),
        ] {
            assert_eq!(Listen::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "local:..", "local:a/b", "local:.x", "grpc://", "host:99999"] {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }
}
