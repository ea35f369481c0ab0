//! Which protocol a server is spoken to in: from its URL, `--protocol` and the TLS options.

use crate::cli::connect::Tls;
use crate::cli::endpoint::{Endpoint, Scheme};
use crate::cli::exit::{Exit, Failure};
use crate::rpc::client::{Connector, HttpProtocol, HttpVersion, Target};
use crate::rpc::jsonrpc::Framing;
use crate::rpc::jsonrpc::client::Carrier;
use crate::rpc::wire::Encoding;
use crate::transport::tls::{IdentityFiles, TlsClientOptions};
use crate::transport::{Address, ConnectOptions, TlsClient};
use crate::units;

/// Which protocol, and how.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Protocol")]
pub struct ProtocolArgs {
    /// grpc, grpc-web, connect, compact or jsonrpc [default: what the URL says, or grpc]
    #[arg(long, value_name = "NAME", value_parser = parse_protocol)]
    pub protocol: Option<Protocol>,
    /// Version of HTTP for gRPC-Web, Connect and JSON-RPC: 1.1 or 2
    #[arg(hide_short_help = true, long, value_name = "VERSION", value_parser = parse_version)]
    pub http: Option<HttpVersion>,
    /// Over udp://, let the server execute every copy of a request that reaches it
    #[arg(hide_short_help = true, long)]
    pub at_least_once: bool,
    /// Send a header: NAME=VALUE, 'NAME: VALUE', or @FILE of such lines; ${VAR} is filled in
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Compress requests: gzip, zstd or deflate
    #[arg(hide_short_help = true, short = 'z', long, value_name = "CODEC", value_parser = parse_compression)]
    pub compress: Option<Encoding>,
    /// Largest message to accept
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = "4MiB", value_parser = units::parse_size)]
    pub max_msg_size: u64,
}

/// What `--protocol` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One of those over HTTP.
    Http(HttpProtocol),
    /// The compact protocol.
    Compact,
    /// JSON-RPC.
    JsonRpc,
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "grpc" => Ok(Protocol::Http(HttpProtocol::Grpc)),
        "grpc-web" | "grpcweb" => Ok(Protocol::Http(HttpProtocol::GrpcWeb)),
        "connect" => Ok(Protocol::Http(HttpProtocol::Connect)),
        "compact" => Ok(Protocol::Compact),
        "jsonrpc" | "json-rpc" => Ok(Protocol::JsonRpc),
        other => Err(format!("{other:?} is none of grpc, grpc-web, connect, compact, jsonrpc")),
    }
}

fn parse_version(text: &str) -> Result<HttpVersion, String> {
    match text {
        "1" | "1.1" => Ok(HttpVersion::H1),
        "2" => Ok(HttpVersion::H2),
        other => Err(format!("{other:?} is none of 1.1, 2")),
    }
}

fn parse_compression(text: &str) -> Result<Encoding, String> {
    Encoding::from_name(text).ok_or_else(|| format!("{text:?} is none of gzip, zstd, deflate, identity"))
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// How to reach the server of `endpoint`.
///
/// # Errors
/// Words that contradict each other; certificates that cannot be read.
pub fn connector(endpoint: &Endpoint, tls: &Tls, args: &ProtocolArgs) -> anyhow::Result<Connector> {
    let asked = match (args.protocol, endpoint.option("protocol")) {
        (Some(protocol), _) => Some(protocol),
        (None, Some(name)) => {
            Some(parse_protocol(name).map_err(|error| usage(format!("{endpoint}: {error}")))?)
        }
        (None, None) => None,
    };
    let address =
        endpoint.addresses().into_iter().next().ok_or_else(|| usage(format!("{endpoint} names no host")))?;
    let protocol = protocol_of(endpoint, asked)?;
    let is_compact_udp = protocol == Protocol::Compact && endpoint.scheme == Scheme::Udp;
    if args.at_least_once && !is_compact_udp {
        return Err(usage("--at-least-once is for udp://, where a request may come twice").into());
    }
    if args.compress.is_some_and(|it| it != Encoding::Identity) && !matches!(protocol, Protocol::Http(_)) {
        return Err(usage(format!("{endpoint} carries no compressed messages"))
            .tip("compression is for gRPC, gRPC-Web and Connect")
            .into());
    }
    let over_http = is_http(endpoint);
    let encrypted = is_encrypted(endpoint, &address, tls)?;
    let options =
        ConnectOptions { tls: encrypted.then(|| tls_client(tls)).transpose()?, ..ConnectOptions::default() };
    Ok(match protocol {
        Protocol::Compact if endpoint.scheme == Scheme::Udp => {
            Connector::CompactDatagrams { address, at_least_once: args.at_least_once }
        }
        Protocol::Compact => Connector::Compact(address, options),
        Protocol::JsonRpc if matches!(address, Address::Udp { .. }) => {
            Connector::JsonRpc(Carrier::Datagrams(address))
        }
        Protocol::JsonRpc if !over_http => {
            Connector::JsonRpc(Carrier::Stream(address, options, framing(endpoint)?))
        }
        Protocol::JsonRpc => Connector::JsonRpc(Carrier::Http(target(
            endpoint,
            address,
            HttpProtocol::Connect,
            args,
            options,
        )?)),
        Protocol::Http(protocol) => Connector::Http(target(endpoint, address, protocol, args, options)?),
    })
}

/// How JSON-RPC's documents are told apart on a stream.
fn framing(endpoint: &Endpoint) -> Result<Framing, Failure> {
    match endpoint.option("framing") {
        None | Some("lines") => Ok(Framing::Lines),
        Some("headers") => Ok(Framing::Headers),
        Some(other) => Err(usage(format!("{endpoint}: framing {other:?} is none of lines, headers"))
            .tip("headers: Content-Length before each document, as language servers have it")),
    }
}

/// True if HTTP is what JSON-RPC travels in there.
fn is_http(endpoint: &Endpoint) -> bool {
    matches!(endpoint.scheme, Scheme::Grpc | Scheme::Grpcs | Scheme::Http | Scheme::Https)
}

/// What the scheme says, unless something else was asked for that it can carry.
fn protocol_of(endpoint: &Endpoint, asked: Option<Protocol>) -> Result<Protocol, Failure> {
    let scheme = endpoint.scheme;
    let (default, carried): (Protocol, &[Protocol]) = match scheme {
        Scheme::Tcp | Scheme::Udp => (Protocol::Compact, &[Protocol::Compact, Protocol::JsonRpc]),
        Scheme::JsonRpcTcp | Scheme::JsonRpcUdp | Scheme::JsonRpcUnix => {
            (Protocol::JsonRpc, &[Protocol::JsonRpc])
        }
        _ => {
            return match asked {
                Some(Protocol::Compact) if is_http(endpoint) && !endpoint.assumed => {
                    Err(usage(format!("{endpoint} is HTTP, which the compact protocol does without"))
                        .tip("write tcp:// or udp://"))
                }
                Some(protocol) => Ok(protocol),
                None => Ok(Protocol::Http(HttpProtocol::Grpc)),
            };
        }
    };
    let protocol = asked.unwrap_or(default);
    if carried.contains(&protocol) {
        return Ok(protocol);
    }
    let message = format!("{}:// does not carry that protocol", scheme.name());
    Err(usage(message).tip("use grpc://, grpcs://, http://, https:// or unix:"))
}

fn target(
    endpoint: &Endpoint,
    address: Address,
    protocol: HttpProtocol,
    args: &ProtocolArgs,
    options: ConnectOptions,
) -> Result<Target, Failure> {
    let mut target = Target::grpc(address).protocol(protocol);
    if let Some(version) = args.http {
        if protocol == HttpProtocol::Grpc && version == HttpVersion::H1 {
            return Err(usage("gRPC needs HTTP/2").tip("use --protocol grpc-web or connect with --http 1.1"));
        }
        target.version = version;
    }
    target.tls = options.tls;
    if let Some(path) =
        endpoint.path.as_deref().map(|path| path.trim_matches('/')).filter(|path| !path.is_empty())
    {
        target.prefix = format!("/{path}");
    }
    Ok(target)
}

/// Without a scheme, plaintext is for this machine only, and never if TLS was spoken of.
fn is_encrypted(endpoint: &Endpoint, address: &Address, tls: &Tls) -> Result<bool, Failure> {
    if endpoint.assumed {
        return Ok(tls.is_wanted() || !address.is_loopback());
    }
    match endpoint.scheme {
        // There is no scheme for these with TLS: asking for a certificate asks for it.
        Scheme::Tcp | Scheme::JsonRpcTcp => return Ok(tls.is_wanted()),
        Scheme::Udp | Scheme::JsonRpcUdp if tls.is_wanted() => {
            return Err(usage(format!("{endpoint} cannot be encrypted, but TLS options were given"))
                .tip("use tcp://, or leave the options out"));
        }
        _ => {}
    }
    if !endpoint.scheme.is_tls() && tls.is_wanted() && !matches!(address, Address::Unix(_)) {
        let secure = if endpoint.scheme == Scheme::Http { "https://" } else { "grpcs://" };
        return Err(usage(format!("{endpoint} is plaintext, but TLS options were given"))
            .tip(format!("write {secure} or leave the options out")));
    }
    Ok(endpoint.scheme.is_tls())
}

fn tls_client(tls: &Tls) -> anyhow::Result<TlsClient> {
    let options = TlsClientOptions {
        ca: tls.cacert.clone(),
        identity: tls.identity.clone().map(|(certificate, key)| IdentityFiles { certificate, key }),
        insecure: tls.insecure,
        server_name: tls.server_name.clone(),
        alpn: Vec::new(),
    };
    Ok(TlsClient::new(&options).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?)
}
