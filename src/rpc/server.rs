//! The server's protocol side: one accepted stream in, calls to the catalog's backends, replies out.
//!
//! ```text
//! stream -> sniff -> connection (HTTP/1.1 or HTTP/2) -> exchange (one request) -> backend
//!                                                        request: body -> messages
//!                                                        reply:   messages -> body
//! ```
//!
//! Whoever accepts streams (with permits, TLS and a limit on connections) gives each to
//! [`Server::serve_connection`].

mod again;
mod connection;
mod cors;
mod exchange;
mod index;
mod json_rpc;
mod leftover;
mod pace;
mod refusal;
mod reply;
mod request;
mod sniff;
mod trace;

pub(crate) use trace::Trace;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::backend::Peer;
use super::budget::Budget;
use super::catalog::SharedCatalog;
use super::jsonrpc::Origin;
use super::{Metrics, compact, jsonrpc, wire};
use crate::shutdown::Shutdown;
use crate::transport::{Datagrams, Stream};

pub use cors::Cors;
use sniff::Protocol;

/// The answer to a TLS handshake where no TLS is spoken.
const PLAIN_PORT: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    This port does not speak TLS: use grpc:// or http://\n";

/// So much of such a handshake is read; nobody's first message is larger.
const HELLO_SIZE_MAX: u64 = 16 * 1024;

/// What the server accepts before it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request message, compressed or not.
    pub message_size_max: usize,
    /// Bytes of requests and replies that are held at a time, whoever sent them: see [`Budget`].
    pub held_size_max: usize,
    /// Bytes of the headers of one request.
    pub header_size_max: u32,
    /// Calls at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Time until the first bytes tell the protocol, and from the first to the last byte of an HTTP/1.1 request's headers.
    pub first_bytes_wait_max: Duration,
    /// Time until the single message of a unary request is complete.
    pub request_wait_max: Duration,
    /// An HTTP/2 peer is pinged after so much silence.
    pub keepalive_interval: Duration,
    /// A pinged peer that is silent for so long is gone.
    pub keepalive_wait_max: Duration,
    /// A connection without calls is closed after so long; `None` keeps it.
    pub idle_max: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size_max: wire::MESSAGE_SIZE_MAX,
            held_size_max: 256 << 20,
            header_size_max: 64 * 1024,
            streams_max: 1000,
            first_bytes_wait_max: Duration::from_secs(10),
            request_wait_max: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(60),
            keepalive_wait_max: Duration::from_secs(20),
            idle_max: None,
        }
    }
}

/// What a server may be told besides its catalog.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it accepts.
    pub limits: Limits,
    /// Which web pages may call it.
    pub cors: Cors,
    /// What counts its calls.
    pub metrics: Arc<Metrics>,
}

/// Answers calls on streams that somebody else accepts.
pub struct Server {
    catalog: SharedCatalog,
    options: Options,
    shutdown: Shutdown,
    budget: Arc<Budget>,
    json_rpc: jsonrpc::Service,
    compact: Arc<compact::server::Server>,
}

impl Server {
    /// A server of what `catalog` holds at the time of each call.
    pub fn new(catalog: SharedCatalog, options: Options, shutdown: Shutdown) -> Arc<Self> {
        let metrics = &options.metrics;
        let limits = jsonrpc::Limits {
            request_size_max: options.limits.message_size_max,
            idle_max: options.limits.idle_max,
            ..jsonrpc::Limits::default()
        };
        let json_rpc = jsonrpc::Service::new(catalog.clone(), Arc::clone(metrics), limits);
        let limits = compact::Limits {
            message_size_max: u32::try_from(options.limits.message_size_max).unwrap_or(u32::MAX / 2),
            calls_max: options.limits.streams_max,
            keepalive_interval: options.limits.keepalive_interval,
            silence_max: options.limits.keepalive_wait_max,
            idle_max: options.limits.idle_max,
            ..compact::Limits::default()
        };
        let compact =
            compact::server::Server::new(catalog.clone(), Arc::clone(metrics), limits, shutdown.clone());
        let budget = Budget::new(options.limits.held_size_max, options.limits.message_size_max);
        Arc::new(Self { catalog, options, shutdown, budget, json_rpc, compact })
    }

    /// What it offers.
    pub fn catalog(&self) -> &SharedCatalog {
        &self.catalog
    }

    /// What it accepts.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Bytes of requests and replies that are held now, beyond what each connection is free to.
    pub fn held(&self) -> usize {
        self.budget.held()
    }

    /// Counters of calls in all protocols.
    pub fn metrics(&self) -> &Metrics {
        &self.options.metrics
    }

    /// Serves a socket's datagrams, compact and JSON-RPC, until the server stops.
    pub async fn serve_datagrams(self: &Arc<Self>, socket: Datagrams) {
        self.compact.serve_datagrams(socket, Some(self.json_rpc.clone()), self.budget.share()).await;
    }

    /// Serves one stream until the peer leaves, breaks the protocol, or the server stops.
    ///
    /// Dropping the future closes the stream and cancels its calls. When the server drains, the peer
    /// is told to go away and the calls in progress are finished.
    pub async fn serve_connection(self: &Arc<Self>, mut stream: Stream, peer: Arc<Peer>) {
        let share = self.budget.share();
        let wait_max = self.options.limits.first_bytes_wait_max;
        let protocol = tokio::select! {
            protocol = tokio::time::timeout(wait_max, sniff::protocol(&mut stream)) => protocol,
            () = self.shutdown.draining() => return,
        };
        match protocol {
            Ok(Ok(Some(Protocol::Http2))) => connection::serve_http2(self, stream, peer, share).await,
            Ok(Ok(Some(Protocol::Http1))) => connection::serve_http1(self, stream, peer, share).await,
            Ok(Ok(Some(Protocol::JsonRpc))) => {
                let origin = Origin::new(peer, share);
                jsonrpc::server::serve(&self.json_rpc, stream, origin, &self.shutdown).await;
            }
            Ok(Ok(Some(Protocol::Compact))) => self.compact.serve(stream, peer, share).await,
            Ok(Ok(Some(Protocol::Tls))) => {
                tracing::info!(peer = peer.address, "TLS spoken on a port without TLS");
                // What OpenSSL, Go and browsers recognise and explain.
                let answer = async {
                    stream.write_all(PLAIN_PORT).await?;
                    stream.shutdown().await?;
                    // Closing on unread bytes would take the answer back.
                    tokio::io::copy(&mut stream.take(HELLO_SIZE_MAX), &mut tokio::io::sink()).await
                };
                let _ = tokio::time::timeout(wait_max, answer).await;
            }
            Ok(Ok(Some(Protocol::Unknown))) => {
                tracing::debug!(peer = peer.address, "first bytes belong to no protocol that is served");
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(peer = peer.address, %error, "connection broke"),
            Err(_) => tracing::debug!(peer = peer.address, ?wait_max, "silent peer"),
        }
    }
}
