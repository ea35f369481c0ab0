//! How a registry is written: `consul://HOST:8500/SERVICE`, `gossip://HOST/SERVICE`, `srv://NAME`, `dns:///NAME:PORT`, `list:…`, `local:`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::units::parse_duration;

/// Text that is not a registry, or not quite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a registry: {why}")]
pub struct UrlError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Consul's HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulUrl {
    /// `HOST:PORT`.
    pub authority: String,
    /// True for `consuls://`.
    pub tls: bool,
    /// The service, if the URL names it.
    pub service: Option<String>,
    /// Only instances with this tag.
    pub tag: Option<String>,
    /// Another data centre than the agent's own.
    pub datacenter: Option<String>,
    /// A file whose first line is the ACL token.
    pub token_file: Option<PathBuf>,
    /// A file of certificates to trust instead of the system's.
    pub cacert: Option<PathBuf>,
    /// Scheme of instances that were registered without one.
    pub scheme: String,
    /// An entry of ours that is not renewed for this long is unhealthy.
    pub ttl: Option<Duration>,
}

/// Address records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUrl {
    /// The name.
    pub name: String,
    /// Port of every instance.
    pub port: u16,
    /// Server to ask instead of the system's.
    pub server: Option<SocketAddr>,
    /// Scheme of the instances.
    pub scheme: String,
}

/// SRV records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvUrl {
    /// The full name, with `_grpc._tcp.`.
    pub name: String,
    /// Server to ask instead of the system's.
    pub server: Option<SocketAddr>,
    /// Scheme of the instances.
    pub scheme: String,
}

/// A Serf cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipUrl {
    /// Nodes of it: `HOST:PORT`, the port where nodes talk to each other.
    pub seeds: Vec<String>,
    /// The service, if the URL names it.
    pub service: Option<String>,
    /// The cluster's name, memberlist's label.
    pub cluster: String,
    /// A file with the keys that encrypt it.
    pub key_file: Option<PathBuf>,
}

/// A registry as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryUrl {
    /// `local:`: servers of this user on this machine.
    Local,
    /// `list:HOST:PORT,…`, or gRPC's `ipv4:` and `ipv6:`: endpoint URLs.
    List(Vec<String>),
    /// `dns:NAME:PORT`, `dns:///NAME:PORT`, `dns://SERVER/NAME:PORT`, as in gRPC.
    Dns(DnsUrl),
    /// `srv:NAME`, `srv://NAME?server=IP:PORT`.
    Srv(SrvUrl),
    /// `consul://HOST:8500/SERVICE?tag=…`.
    Consul(ConsulUrl),
    /// `gossip://HOST:7946,HOST/SERVICE?cluster=NAME`.
    Gossip(GossipUrl),
}

const SCHEMES: [&str; 9] = ["local", "list", "ipv4", "ipv6", "dns", "srv", "consul", "consuls", "gossip"];
const GRPC_PORT: u16 = 50051;
const CONSUL_PORT: u16 = 8500;
const CONSUL_TLS_PORT: u16 = 8501;
const DNS_PORT: u16 = 53;
const GOSSIP_PORT: u16 = 7946;
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(3600);

impl RegistryUrl {
    /// True if `text` starts with a scheme that is parsed here, well formed or not.
    pub fn is_registry(text: &str) -> bool {
        text.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
    }
}

impl std::str::FromStr for RegistryUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fail = |why: String| UrlError { text: text.to_owned(), why };
        let (scheme, rest) =
            text.split_once(':').ok_or_else(|| fail(format!("expected one of {}:", SCHEMES.join(":, "))))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query = Query::parse(query).map_err(fail)?;
        match scheme {
            "local" => Ok(Self::Local),
            "gossip" => gossip(rest, &query).map_err(fail),
            "list" | "ipv4" | "ipv6" => list(rest, &query).map_err(fail),
            "dns" => dns(rest, &query).map_err(fail),
            "srv" => srv(rest, &query).map_err(fail),
            "consul" | "consuls" => consul(scheme == "consuls", rest, &query).map_err(fail),
            _ => Err(fail(format!("expected one of {}:", SCHEMES.join(":, ")))),
        }
    }
}

/// The part behind the question mark, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, String> {
        text.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((name.to_owned(), decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Refuses names that are not in `known`: a misspelt `?tga=` must not select everything.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(format!("?{name}= is not known here; known are {}", known.join(", "))),
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn scheme(&self) -> String {
        self.get("scheme").unwrap_or("grpc").to_owned()
    }

    fn server(&self) -> Result<Option<SocketAddr>, String> {
        self.get("server").map(dns_server).transpose()
    }
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| format!("{text:?} does not decode to UTF-8"))
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse::<SocketAddr>()
        .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)))
        .map_err(|_| format!("{text:?} is not the IP:PORT of a DNS server"))
}

/// Splits `NAME[:PORT]`, where NAME may be an address in brackets.
fn host_port(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| format!("{port:?} is not a port"))?)
        }
        _ => (text, default_port),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed.unwrap_or(host) {
        "" => Err("the host is missing".to_owned()),
        host if bracketed.is_none() && host.contains(':') => {
            Err(format!("write an IPv6 address in brackets: [{text}]"))
        }
        host if host.contains(|c: char| c.is_whitespace() || "/@#".contains(c)) => {
            Err(format!("{host:?} is not a host name"))
        }
        host => Ok((host.to_owned(), port)),
    }
}

pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn list(rest: &str, query: &Query) -> Result<RegistryUrl, String> {
    query.only(&["scheme"])?;
    let scheme = query.scheme();
    let urls = rest.split(',').filter(|part| !part.is_empty()).map(|part| {
        if part.contains("://") {
            return Ok(part.to_owned());
        }
        let (host, port) = host_port(part, GRPC_PORT)?;
        Ok(format!("{scheme}://{}", authority(&host, port)))
    });
    let urls: Vec<String> = urls.collect::<Result<_, String>>()?;
    if urls.is_empty() {
        return Err("the list is empty: list:HOST:PORT,HOST:PORT".to_owned());
    }
    Ok(RegistryUrl::List(urls))
}

fn dns(rest: &str, query: &Query) -> Result<RegistryUrl, String> {
    query.only(&["scheme", "server"])?;
    let (server, name) = match rest.strip_prefix("//") {
        None => (None, rest),
        Some(rest) => match rest.split_once('/') {
            Some(("", name)) => (None, name),
            Some((server, name)) => (Some(dns_server(server)?), name),
            None => return Err("a DNS server comes before the name: dns:///NAME:PORT".to_owned()),
        },
    };
    let (name, port) = host_port(name, GRPC_PORT)?;
    let server = server.map_or_else(|| query.server(), |server| Ok(Some(server)))?;
    Ok(RegistryUrl::Dns(DnsUrl { name, port, server, scheme: query.scheme() }))
}

fn srv(rest: &str, query: &Query) -> Result<RegistryUrl, String> {
    query.only(&["scheme", "server"])?;
    let name = rest.trim_start_matches('/').trim_end_matches('/');
    if name.is_empty() || name.contains(['/', ':', ' ']) {
        return Err("expected srv://NAME or srv:_grpc._tcp.NAME".to_owned());
    }
    let name = if name.starts_with('_') { name.to_owned() } else { format!("_grpc._tcp.{name}") };
    Ok(RegistryUrl::Srv(SrvUrl { name, server: query.server()?, scheme: query.scheme() }))
}

fn consul(tls: bool, rest: &str, query: &Query) -> Result<RegistryUrl, String> {
    query.only(&["tag", "dc", "token-file", "cacert", "scheme", "ttl"])?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (place, service) = rest.split_once('/').unwrap_or((rest, ""));
    let service = decode(service.trim_end_matches('/'))?;
    if place.contains('@') {
        return Err("Consul knows no users; give its token in a file: ?token-file=FILE".to_owned());
    }
    let place = if place.is_empty() { "127.0.0.1" } else { place };
    let place = if place.starts_with(':') { format!("127.0.0.1{place}") } else { place.to_owned() };
    let (host, port) = host_port(&place, if tls { CONSUL_TLS_PORT } else { CONSUL_PORT })?;
    let text = |name| query.get(name).map(str::to_owned);
    Ok(RegistryUrl::Consul(ConsulUrl {
        authority: authority(&host, port),
        tls,
        service: (!service.is_empty()).then_some(service),
        tag: text("tag"),
        datacenter: text("dc"),
        token_file: text("token-file").map(PathBuf::from),
        cacert: text("cacert").map(PathBuf::from),
        scheme: query.scheme(),
        ttl: query.get("ttl").map(ttl).transpose()?,
    }))
}

fn gossip(rest: &str, query: &Query) -> Result<RegistryUrl, String> {
    query.only(&["cluster", "key-file"])?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (places, service) = rest.split_once('/').unwrap_or((rest, ""));
    let service = decode(service.trim_end_matches('/'))?;
    let seed = |place: &str| {
        let place = if place.is_empty() { "127.0.0.1" } else { place };
        let place = if place.starts_with(':') { format!("127.0.0.1{place}") } else { place.to_owned() };
        host_port(&place, GOSSIP_PORT).map(|(host, port)| authority(&host, port))
    };
    Ok(RegistryUrl::Gossip(GossipUrl {
        seeds: places.split(',').map(seed).collect::<Result<_, _>>()?,
        service: (!service.is_empty()).then_some(service),
        cluster: query.get("cluster").unwrap_or_default().to_owned(),
        key_file: query.get("key-file").map(PathBuf::from),
    }))
}

/// Shorter ones would be renewed all the time, longer ones outlive what they tell.
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|error| error.to_string())?;
    match (TTL_MIN..=TTL_MAX).contains(&ttl) {
        true => Ok(ttl),
        false => Err(format!("?ttl= is from 1s to 1h, not {text}")),
    }
}

impl std::fmt::Display for ConsulUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "consuls" } else { "consul" }, self.authority)
    }
}

impl std::fmt::Display for GossipUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gossip://{}", self.seeds.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> RegistryUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn why(text: &str) -> String {
        text.parse::<RegistryUrl>().unwrap_err().why
    }

    #[test]
    fn consul_urls_carry_service_tag_and_token_file() {
        let RegistryUrl::Consul(url) =
            parse("consul://10.0.0.1/demo.Greeter?tag=v2&dc=eu&token-file=/etc/a%20b")
        else {
            panic!("not consul");
        };
        assert_eq!(url.authority, "10.0.0.1:8500");
        assert_eq!(url.service.as_deref(), Some("demo.Greeter"));
        assert_eq!((url.tag.as_deref(), url.datacenter.as_deref()), (Some("v2"), Some("eu")));
        assert_eq!(url.token_file, Some(PathBuf::from("/etc/a b")));
        assert_eq!(url.to_string(), "consul://10.0.0.1:8500");
        assert_eq!(url.ttl, None);
        let RegistryUrl::Consul(url) = parse("consul:?ttl=2s") else { panic!("not consul") };
        assert_eq!(url.ttl, Some(Duration::from_secs(2)));
    }

    #[test]
    fn consul_defaults_to_this_machine_and_to_its_ports() {
        for (text, authority) in [
            ("consul:", "127.0.0.1:8500"),
            ("consul://", "127.0.0.1:8500"),
            ("consul://:8600", "127.0.0.1:8600"),
            ("consuls://h", "h:8501"),
            ("consul://[::1]", "[::1]:8500"),
            ("consul://[::1]:9", "[::1]:9"),
        ] {
            let RegistryUrl::Consul(url) = parse(text) else { panic!("not consul") };
            assert_eq!(url.authority, authority, "{text}");
        }
    }

    #[test]
    fn clusters_have_seeds_a_name_and_keys() {
        for (text, seeds) in [
            ("gossip:", "127.0.0.1:7946"),
            ("gossip://:7000", "127.0.0.1:7000"),
            ("gossip://a,b:1", "a:7946,b:1"),
            ("gossip://[::1]", "[::1]:7946"),
        ] {
            let RegistryUrl::Gossip(url) = parse(text) else { panic!("not gossip") };
            assert_eq!(url.seeds.join(","), seeds, "{text}");
            assert_eq!((url.service, url.key_file), (None, None));
        }
        let RegistryUrl::Gossip(url) = parse("gossip://h/demo.Greeter?cluster=eu&key-file=/k") else {
            panic!("not gossip");
        };
        assert_eq!(url.service.as_deref(), Some("demo.Greeter"));
        assert_eq!((url.cluster.as_str(), url.key_file), ("eu", Some(PathBuf::from("/k"))));
        assert!(why("gossip://h?tag=x").contains("cluster, key-file"));
    }

    #[test]
    fn dns_is_written_as_grpc_writes_it() {
        let server = Some("127.0.0.1:53".parse().unwrap());
        for (text, name, port, server) in [
            ("dns:///greeter.example:5000", "greeter.example", 5000, None),
            ("dns:greeter.example", "greeter.example", 50051, None),
            ("dns://127.0.0.1/greeter.example:1", "greeter.example", 1, server),
            ("dns://127.0.0.1:53/greeter.example:1", "greeter.example", 1, server),
            ("dns:greeter.example:1?server=127.0.0.1", "greeter.example", 1, server),
        ] {
            let expected = DnsUrl { name: name.to_owned(), port, server, scheme: "grpc".to_owned() };
            assert_eq!(parse(text), RegistryUrl::Dns(expected), "{text}");
        }
    }

    #[test]
    fn srv_names_get_the_prefix_unless_they_have_one() {
        for text in ["srv://greeter.example", "srv:_grpc._tcp.greeter.example", "srv:greeter.example"] {
            let RegistryUrl::Srv(url) = parse(text) else { panic!("not srv") };
            assert_eq!(url.name, "_grpc._tcp.greeter.example", "{text}");
        }
    }

    #[test]
    fn a_list_takes_addresses_and_urls() {
        assert_eq!(
            parse("list:a:1,grpcs://b:2,[::1]:3"),
            RegistryUrl::List(vec!["grpc://a:1".into(), "grpcs://b:2".into(), "grpc://[::1]:3".into()])
        );
        assert_eq!(parse("ipv4:10.0.0.1"), RegistryUrl::List(vec!["grpc://10.0.0.1:50051".into()]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(why("consul://h?tga=v2").contains("?tga= is not known"));
        assert!(why("consul://bob:pw@h").contains("token-file"));
        assert!(why("consul://h?ttl=0").contains("1s to 1h"));
        assert!(why("consul://h?ttl=2d").contains("1s to 1h"));
        assert!(why("consul://h:port").contains("not a port"));
        assert!(why("dns://name:1").contains("dns:///NAME:PORT"));
        assert!(why("srv://").contains("srv://NAME"));
        assert!(why("srv://n?server=dns.example").contains("IP:PORT"));
        assert!(why("list:").contains("empty"));
        assert!(why("list:::1").contains("brackets"));
        assert!(why("etcd://h").contains("expected one of"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(consul|consuls|dns|srv|list|ipv6)?:?/{0,3}\\PC{0,30}") {
            let _ = text.parse::<RegistryUrl>();
        }
    }
}
