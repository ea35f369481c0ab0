//! `--admin`: where the management API is served.

use std::sync::Arc;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{Entrance, Harness, no_certificate, resident_bytes};
use crate::mq::server::{Broker, Facts, ListenerFact, Management};
use crate::transport::{Acceptor, Address, Error, Listener};

/// RabbitMQ's ports, and that of its management plugin.
const AMQP_PORTS: [u16; 2] = [5672, 5671];
const ADMIN_PORT: u16 = 15672;

/// Requests at the same time; a person with a dashboard and some scripts are a few.
const CONNECTIONS_MAX: usize = 256;

/// One `--admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// There, with TLS or without.
    At(Address, Scheme),
}

/// What is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Admin {
    /// True if it speaks TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::At(_, Scheme::Https))
    }

    /// Parses `HOST:PORT`, `:PORT`, `PORT`, a URL with one of these, or `none`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        if matches!(text, "none" | "off") {
            return Ok(Self::Off);
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Http, text),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((other, _)) => return Err(format!("expected http:// or https://, got '{other}://'")),
        };
        let expected =
            || format!("expected HOST:PORT, :PORT, PORT, http://…, https://… or none, got '{text}'");
        match rest.trim_end_matches('/').parse() {
            Ok(address @ Address::Tcp { .. }) => Ok(Self::At(address, scheme)),
            _ => Err(expected()),
        }
    }
}

/// Where the API is served, beside the broker's own addresses.
pub struct Opened {
    /// Not at the broker's own addresses either.
    pub is_off: bool,
    door: Option<Door>,
}

struct Door {
    listener: Listener,
    acceptor: Acceptor,
    bound: Address,
    scheme: Scheme,
}

impl Opened {
    /// The URL that leads there.
    pub fn urls(&self) -> Vec<String> {
        self.door.iter().map(|door| format!("{}://{}", door.scheme.name(), door.bound)).collect()
    }
}

/// Opens the port that was asked for; without that RabbitMQ's own port, if the broker has RabbitMQ's own too and it is
/// free.
///
/// # Errors
/// The address cannot be had, or TLS is asked for without a certificate.
pub async fn open(wanted: Option<&Admin>, harness: &Harness, app: &App) -> anyhow::Result<Opened> {
    let door = open_port(wanted, harness, app).await?;
    Ok(Opened { is_off: wanted == Some(&Admin::Off), door })
}

async fn open_port(wanted: Option<&Admin>, harness: &Harness, app: &App) -> anyhow::Result<Option<Door>> {
    let (address, scheme) = match wanted {
        Some(Admin::Off) => return Ok(None),
        Some(Admin::At(address, scheme)) => (address.clone(), *scheme),
        None => {
            let mut ports = harness.listeners.iter().filter_map(Entrance::host_port);
            let is_well_known = ports.any(|(_, port)| AMQP_PORTS.contains(&port));
            if !is_well_known {
                return Ok(None);
            }
            (Address::tcp("127.0.0.1", ADMIN_PORT), Scheme::Http)
        }
    };
    let acceptor = match scheme {
        Scheme::Http => Acceptor::new(CONNECTIONS_MAX),
        Scheme::Https if harness.acceptor.speaks_tls() => harness.acceptor.beside(CONNECTIONS_MAX),
        Scheme::Https => {
            return Err(no_certificate("--admin https://").into());
        }
    };
    let listener = match Listener::bind(&address).await {
        Ok(listener) => listener,
        Err(error) if wanted.is_none() => {
            app.printer
                .note(&format!("no management API: {error}; use '--admin :0' for any port that is free"));
            return Ok(None);
        }
        Err(error) => {
            let failure = Failure::new(Exit::Failed, format!("--admin: {error}"));
            return Err(failure.tip("--admin :0    listen at a free port and print it").into());
        }
    };
    let bound = listener.address().map_err(|source| Error::Listen { address, source })?;
    Ok(Some(Door { listener, acceptor, bound, scheme }))
}

/// Makes the API of a broker, and serves it there.
pub fn serve(opened: Opened, broker: &Arc<Broker>, harness: &Harness) -> Arc<Management> {
    let amqp = harness.listeners.iter().filter_map(|entrance| {
        let (host, port) = entrance.host_port()?;
        Some(ListenerFact { protocol: if entrance.is_tls { "amqp/ssl" } else { "amqp" }, host, port })
    });
    let mut listeners: Vec<ListenerFact> = amqp.collect();
    if let Some(Door { bound: Address::Tcp { host, port }, scheme, .. }) = &opened.door {
        listeners.push(ListenerFact { protocol: scheme.name(), host: host.clone(), port: *port });
    }
    let facts = Facts {
        listeners,
        memory: Box::new(|| resident_bytes().unwrap_or(0)),
        certificate_expires: harness.acceptor.certificate_expires(),
    };
    let management = Management::new(Arc::clone(broker), facts);
    if let Some(Door { listener, acceptor, .. }) = opened.door {
        let management = Arc::clone(&management);
        let serve = move |stream| {
            let management = Arc::clone(&management);
            async move { management.serve(stream).await }
        };
        let shutdown = harness.shutdown.clone();
        shutdown.spawn(acceptor.run(listener, shutdown.clone(), serve));
    }
    management
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_urls_and_none() {
        let at = |text: &str, scheme| Ok(Admin::At(text.parse().unwrap(), scheme));
        assert_eq!(Admin::parse("none"), Ok(Admin::Off));
        assert_eq!(Admin::parse("off"), Ok(Admin::Off));
        assert_eq!(Admin::parse(":0"), at(":0", Scheme::Http));
        assert_eq!(Admin::parse("http://0.0.0.0:15672/"), at("0.0.0.0:15672", Scheme::Http));
        assert_eq!(Admin::parse("https://[::1]:5"), at("[::1]:5", Scheme::Https));
        for wrong in ["", "x", "amqp://h:1", "unix:/x", "udp::0", "http://"] {
            assert!(Admin::parse(wrong).is_err(), "{wrong}");
        }
    }
}
