//! The first words of each pillar's protocol: whether it is spoken at a place, and whose is spoken at one where a command
//! found something else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::endpoint::{Endpoint, Pillar, Place, Scheme};
use super::exit::Ask;
use crate::log::client::{Config as LogConfig, Connection as LogConnection};
use crate::mq::wire::PROTOCOL_HEADER;
use crate::rpc::client::probe::{HTTP2_PREFACE, is_http};
use crate::rpc::client::{CallOptions, Cause, Client, Connector};
use crate::rpc::jsonrpc::Framing;
use crate::rpc::jsonrpc::client::Carrier;
use crate::shutdown::Shutdown;
use crate::transport::tls::{ALPN_H2, ALPN_HTTP11, TlsClientOptions};
use crate::transport::{Address, ConnectOptions, Stream, TlsClient};

/// One attempt: a machine that drops packets must not use up the whole time.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Somebody who does not answer in his own protocol for so long is asked in others: many wait for more words of a language
/// that they do not know. Less than half of what a tip may take.
const EXPECTED_WAIT_MAX: Duration = Duration::from_millis(200);

/// Bytes of an answer that are looked at for who it is.
const MANAGEMENT_ANSWER_MAX: u64 = 4096;

/// Ends well if the pillar's protocol is spoken there; else says why not.
pub async fn greet(pillar: Pillar, address: &Address, scheme: Scheme) -> Result<(), String> {
    match pillar {
        Pillar::Rpc => greet_rpc(address, scheme).await,
        Pillar::Mq => greet_broker(address, scheme).await,
        Pillar::Log => greet_log(address, scheme).await,
        Pillar::Gossip => super::gossip::greet(address, scheme, ATTEMPT_TIMEOUT).await,
    }
}

/// How to reach it.
fn options(scheme: Scheme, alpn: Vec<Vec<u8>>) -> Result<ConnectOptions, String> {
    let tls = if scheme.is_tls() {
        // Nothing is told to this server but that we are here: whoever it is, it is ready.
        let options = TlsClientOptions { insecure: true, alpn, ..TlsClientOptions::default() };
        Some(TlsClient::new(&options).map_err(|error| error.to_string())?)
    } else {
        None
    };
    Ok(ConnectOptions { timeout: ATTEMPT_TIMEOUT, tls })
}

/// The first words of a broker: it says who it is before anybody logs in.
async fn greet_broker(address: &Address, scheme: Scheme) -> Result<(), String> {
    let options = options(scheme, Vec::new())?;
    let mut stream = Stream::connect_with(address, &options).await.map_err(|error| error.to_string())?;
    let talk = async {
        stream.write_all(&PROTOCOL_HEADER).await?;
        stream.flush().await?;
        let mut head = [0; 11];
        stream.read_exact(&mut head).await?;
        std::io::Result::Ok(head)
    };
    let head = talk.await.map_err(|error| format!("no AMQP handshake: {error}"))?;
    // A method frame of channel 0, with connection.start.
    if head[..3] == [1, 0, 0] && head[7..] == [0, 10, 0, 10] {
        return Ok(());
    }
    Err("it speaks something else than AMQP 0-9-1".to_owned())
}

/// What a Kafka broker speaks: it says so before anybody logs in.
async fn greet_log(address: &Address, scheme: Scheme) -> Result<(), String> {
    let mut config = LogConfig::new(vec![address.clone()]);
    config.connect = options(scheme, Vec::new())?;
    // The connection's task ends with this attempt.
    let met = LogConnection::open(address, &config, &Shutdown::new()).await;
    met.map(drop).map_err(|error| error.to_string())
}

/// One handshake.
async fn greet_rpc(address: &Address, scheme: Scheme) -> Result<(), String> {
    let options = options(scheme, vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()])?;
    let connector = match scheme {
        Scheme::Tcp => Some(Connector::Compact(address.clone(), options.clone())),
        Scheme::Udp => Some(Connector::CompactDatagrams { address: address.clone(), at_least_once: false }),
        Scheme::JsonRpcTcp | Scheme::JsonRpcUnix => {
            Some(Connector::JsonRpc(Carrier::Stream(address.clone(), options.clone(), Framing::Lines)))
        }
        Scheme::JsonRpcUdp => Some(Connector::JsonRpc(Carrier::Datagrams(address.clone()))),
        _ => None,
    };
    if let Some(connector) = connector {
        return exchange(&connector.client(Shutdown::new())).await;
    }
    let mut stream = Stream::connect_with(address, &options).await.map_err(|error| error.to_string())?;
    let talk = async {
        stream.write_all(HTTP2_PREFACE).await?;
        stream.flush().await?;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        std::io::Result::Ok(head)
    };
    let head = talk.await.map_err(|error| format!("no HTTP/2 handshake: {error}"))?;
    if is_http(&head) {
        return Ok(());
    }
    Err("it speaks something else than HTTP".to_owned())
}

/// One question and its answer, whatever it says.
async fn exchange(client: &Client) -> Result<(), String> {
    let options = CallOptions { timeout: Some(ATTEMPT_TIMEOUT), ..CallOptions::default() };
    let met = match client {
        Client::Compact(client) => match client.connection(&options).await {
            Ok(connection) => connection.ping().await.map(drop),
            Err(ending) => Err(ending),
        },
        Client::CompactDatagrams(client) => match client.socket().await {
            Ok(socket) => socket.reach().await,
            Err(ending) => Err(ending),
        },
        Client::JsonRpc(client) => {
            // Every server has some answer to it, and be it that there is no such method.
            let reply = client.call("rpc.discover", None, &options).await;
            let answered = reply.ending.status.is_ok() || reply.ending.cause == Cause::Answered;
            if answered { Ok(()) } else { Err(reply.ending) }
        }
        Client::Http(_) => Ok(()),
    };
    met.map_err(|ending| ending.status.message)
}

/// True if RabbitMQ's management API is there, or one like it: it says so to who has not logged in. HTTP/1.0, so that the
/// answer ends with the connection.
async fn is_management(address: &Address) -> bool {
    let ask = async {
        let mut stream = Stream::connect(address).await.ok()?;
        stream.write_all(b"GET /api/overview HTTP/1.0\r\nhost: localhost\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
        let mut answer = Vec::new();
        let mut head = stream.take(MANAGEMENT_ANSWER_MAX);
        let read = head.read_to_end(&mut answer);
        // What has come by then is enough.
        let _ = tokio::time::timeout(EXPECTED_WAIT_MAX, read).await;
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        (answer.starts_with("http/1.") && answer.contains(" 401 ") && answer.contains("management"))
            .then_some(())
    };
    tokio::time::timeout(ATTEMPT_TIMEOUT, ask).await.ok().flatten().is_some()
}

/// Asks for a tip to a command of `pillar` that found somebody else at `endpoint`: whose protocol is spoken there. None
/// where that cannot be asked. Nothing of the command is told to whoever it is.
pub fn ask(endpoint: &Endpoint, pillar: Pillar) -> Option<Box<Ask>> {
    let Place::Hosts(_) = endpoint.place else { return None };
    let address = endpoint.addresses().into_iter().next()?;
    if !matches!(address, Address::Tcp { .. }) {
        return None;
    }
    let encrypted = match pillar {
        // Looked into where the call failed.
        Pillar::Rpc | Pillar::Gossip => None,
        Pillar::Mq => Some(Scheme::Amqps),
        Pillar::Log => Some(Scheme::Kafkas),
    };
    let encrypted = encrypted.filter(|_| !endpoint.scheme.is_tls()).map(|scheme| (pillar, scheme));
    let plain = [
        (Pillar::Mq, Scheme::Amqp),
        (Pillar::Log, Scheme::Kafka),
        (Pillar::Rpc, Scheme::Grpc),
        (Pillar::Gossip, Scheme::Serf),
        (Pillar::Gossip, Scheme::Gossip),
    ];
    // A node has two: for others, and for commands.
    let own = endpoint.scheme;
    let others = plain
        .into_iter()
        .filter(move |&(other, scheme)| other != pillar || pillar == Pillar::Gossip && scheme != own);
    Some(Box::new(move || {
        Box::pin(async move {
            // Who speaks what was expected is asked nothing else: it may be somebody's busy broker, with a log.
            let expected = tokio::time::timeout(EXPECTED_WAIT_MAX, greet(pillar, &address, own)).await;
            if expected.is_ok_and(|met| met.is_ok()) {
                return None;
            }
            let looks = encrypted.into_iter().chain(others).map(async |(pillar, scheme)| {
                greet(pillar, &address, scheme).await.ok()?;
                let is_api = scheme == Scheme::Grpc && is_management(&address).await;
                Some(if is_api { (Pillar::Mq, Scheme::Http) } else { (pillar, scheme) })
            });
            let (pillar, scheme) = first(looks).await?;
            let what = match scheme {
                Scheme::Gossip => return Some(format!("bandy gossip join {address}    a node is there")),
                Scheme::Serf => "an agent of Serf is there",
                Scheme::Amqp => "AMQP is spoken there",
                Scheme::Kafka => "Kafka's protocol is spoken there",
                Scheme::Grpc => "HTTP is spoken there",
                Scheme::Http => {
                    "it is a management API; messages are at its broker's AMQP port, usually 5672"
                }
                _ => "it speaks TLS",
            };
            Some(format!("bandy {} ls -e {}://{address}    {what}", pillar.name(), scheme.name()))
        })
    }))
}

/// What the first of these finds that finds something.
async fn first<T>(looks: impl Iterator<Item = impl Future<Output = Option<T>>>) -> Option<T> {
    use futures_util::StreamExt as _;
    let mut looks: futures_util::stream::FuturesUnordered<_> = looks.collect();
    while let Some(found) = looks.next().await {
        if found.is_some() {
            return found;
        }
    }
    None
}
