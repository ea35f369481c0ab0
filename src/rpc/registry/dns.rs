//! Instances from DNS: SRV records (RFC 2782), or the address records of a name.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::url::authority;
use super::{DnsUrl, Error, Instance, SrvUrl};

/// A name server that does not answer is asked again once after this.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// More targets than this are not used; a name server's answer must not make us ask thousands more.
const TARGETS_MAX: usize = 64;

/// A name to ask for.
#[derive(Debug)]
pub struct Dns {
    resolver: TokioResolver,
    question: Question,
    scheme: String,
}

#[derive(Debug)]
enum Question {
    Addresses { name: String, port: u16 },
    Services { name: String },
}

/// An answer and how long it may be used.
#[derive(Debug)]
pub(super) struct Answer {
    pub instances: Vec<Instance>,
    pub valid_until: Instant,
}

impl Dns {
    /// Address records of a name.
    ///
    /// # Errors
    /// The system's resolver configuration cannot be read.
    pub fn addresses(url: &DnsUrl) -> Result<Self, Error> {
        let question = Question::Addresses { name: url.name.clone(), port: url.port };
        Self::new(question, url.server, &url.scheme)
    }

    /// SRV records of a name.
    ///
    /// # Errors
    /// The system's resolver configuration cannot be read.
    pub fn services(url: &SrvUrl) -> Result<Self, Error> {
        Self::new(Question::Services { name: url.name.clone() }, url.server, &url.scheme)
    }

    fn new(question: Question, server: Option<std::net::SocketAddr>, scheme: &str) -> Result<Self, Error> {
        let unreachable = |error: NetError| Error::Unreachable {
            registry: "dns".to_owned(),
            why: format!("the system's resolver configuration is unusable: {error}"),
        };
        let mut builder = match server {
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(unreachable)?,
        };
        builder.options_mut().timeout = QUERY_TIMEOUT;
        builder.options_mut().attempts = 2;
        let resolver = builder.build().map_err(unreachable)?;
        Ok(Self { resolver, question, scheme: scheme.to_owned() })
    }

    pub(super) async fn resolve(&self) -> Result<Answer, Error> {
        let answer = match &self.question {
            Question::Addresses { name, port } => self.lookup_addresses(name, *port).await?,
            Question::Services { name } => self.lookup_services(name).await?,
        };
        if answer.instances.is_empty() {
            return Err(self.not_found());
        }
        Ok(answer)
    }

    fn name(&self) -> &str {
        match &self.question {
            Question::Addresses { name, .. } | Question::Services { name } => name,
        }
    }

    fn not_found(&self) -> Error {
        Error::NotFound { service: self.name().to_owned(), registry: "dns".to_owned(), unhealthy: 0 }
    }

    fn failed(&self, error: &NetError) -> Error {
        if error.is_no_records_found() {
            return self.not_found();
        }
        Error::Unreachable { registry: "dns".to_owned(), why: format!("{}: {error}", self.name()) }
    }

    async fn lookup_addresses(&self, name: &str, port: u16) -> Result<Answer, Error> {
        let found = self.resolver.lookup_ip(name).await.map_err(|error| self.failed(&error))?;
        let valid_until = found.valid_until();
        let instances = found.iter().map(|ip| self.instance(name, ip, port)).collect();
        Ok(Answer { instances, valid_until })
    }

    fn instance(&self, name: &str, ip: IpAddr, port: u16) -> Instance {
        let place = authority(&ip.to_string(), port);
        let url = format!("{}://{place}", self.scheme);
        Instance {
            server_name: Some(name.trim_end_matches('.').to_owned()),
            ..Instance::new(place, self.name(), url)
        }
    }

    async fn lookup_services(&self, name: &str) -> Result<Answer, Error> {
        let found = self.resolver.srv_lookup(name).await.map_err(|error| self.failed(&error))?;
        let mut answer = Answer { instances: Vec::new(), valid_until: found.valid_until() };
        let mut last_error = None;
        let targets = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        });
        for srv in targets.take(TARGETS_MAX) {
            // RFC 2782: a target of "." says that the service is decidedly not available.
            if srv.target.is_root() {
                continue;
            }
            let target = srv.target.to_utf8();
            match self.lookup_addresses(&target, srv.port).await {
                Ok(addresses) => {
                    answer.valid_until = answer.valid_until.min(addresses.valid_until);
                    answer.instances.extend(addresses.instances.into_iter().map(|instance| Instance {
                        priority: srv.priority,
                        weight: srv.weight,
                        ..instance
                    }));
                }
                Err(error) => last_error = Some(error),
            }
        }
        match last_error {
            Some(error) if answer.instances.is_empty() => Err(error),
            _ => Ok(answer),
        }
    }
}
