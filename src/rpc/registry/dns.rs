//! Instances from DNS: SRV records (RFC 2782), or the address records of a name.

mod resolver;
pub mod wire;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::url::authority;
use super::{DnsUrl, Error, Instance, SrvUrl};
use crate::transport;
use resolver::{Failure, Resolver};
use wire::{Kind, Record};

/// More targets than this are not used; a name server's answer must not make us ask thousands more.
const TARGETS_MAX: usize = 64;
/// How long addresses are used that came from the system, which does not say how long they are good for.
const SYSTEM_TIME: Duration = Duration::from_secs(30);

/// A name to ask for.
#[derive(Debug)]
pub struct Dns {
    resolver: Resolver,
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
        let resolver = match server {
            Some(server) => Resolver::of(server),
            None => Resolver::of_system().map_err(|error| Error::Unreachable {
                registry: "dns".to_owned(),
                why: format!("the system's resolver configuration is unusable: {error}"),
            })?,
        };
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

    fn failed(&self, failure: &Failure) -> Error {
        match failure {
            Failure::NoName => self.not_found(),
            Failure::Unreachable(why) => {
                Error::Unreachable { registry: "dns".to_owned(), why: format!("{}: {why}", self.name()) }
            }
        }
    }

    async fn lookup_addresses(&self, name: &str, port: u16) -> Result<Answer, Error> {
        let (ips, seconds) = match name.trim_end_matches('.').parse::<IpAddr>() {
            Ok(literal) => (vec![literal], SYSTEM_TIME),
            // The system also looks into its hosts file, and wherever else it is told to.
            Err(_) if self.resolver.is_system() => (self.ask_system(name, port).await?, SYSTEM_TIME),
            Err(_) => self.ask_server(name).await?,
        };
        let instances = ips.into_iter().map(|ip| self.instance(name, ip, port)).collect();
        Ok(Answer { instances, valid_until: Instant::now() + seconds })
    }

    async fn ask_system(&self, name: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
        let found = transport::addresses(name, port).await.map_err(|error| {
            let text = error.to_string();
            let absent = ["not known", "No address associated"].iter().any(|words| text.contains(words));
            self.failed(&if absent { Failure::NoName } else { Failure::Unreachable(text) })
        })?;
        let mut ips: Vec<IpAddr> = found.into_iter().map(|address| address.ip()).collect();
        ips.dedup();
        Ok(ips)
    }

    async fn ask_server(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), Error> {
        let both = tokio::join!(self.resolver.ask(name, Kind::Ipv4), self.resolver.ask(name, Kind::Ipv6));
        let (mut ips, mut usable) = (Vec::new(), Duration::MAX);
        let mut failure = None;
        for outcome in [both.0, both.1] {
            match outcome {
                Ok((records, duration)) => {
                    usable = usable.min(duration);
                    ips.extend(records.into_iter().filter_map(|record| match record {
                        Record::Address(ip) => Some(ip),
                        Record::Service { .. } => None,
                    }));
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) if ips.is_empty() => Err(self.failed(&failure)),
            _ => Ok((ips, usable.min(SYSTEM_TIME * 120))),
        }
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
        let found = self.resolver.ask(name, Kind::Service).await;
        let (records, usable) = found.map_err(|failure| self.failed(&failure))?;
        let mut answer = Answer { instances: Vec::new(), valid_until: Instant::now() + usable };
        let mut last_error = None;
        for record in records.into_iter().take(TARGETS_MAX) {
            let Record::Service { priority, weight, port, target } = record else { continue };
            // RFC 2782: a target of "." says that the service is decidedly not available.
            if target.is_empty() {
                continue;
            }
            // A name from a record is a whole one.
            match self.lookup_addresses(&format!("{target}."), port).await {
                Ok(addresses) => {
                    answer.valid_until = answer.valid_until.min(addresses.valid_until);
                    let instances = addresses.instances.into_iter();
                    answer.instances.extend(instances.map(|instance| Instance {
                        priority,
                        weight,
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
