//! The server: connections and datagrams in, calls to the catalog's backends, frames out.

mod connection;
mod datagrams;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::call::Limits;
use super::wire::{Description, Hello, MethodEntry, Piece, description_hash};
use crate::rpc::backend::Peer;
use crate::rpc::budget::Share;
use crate::rpc::catalog::{Catalog, SharedCatalog};
use crate::rpc::{Metrics, jsonrpc, stats};
use crate::shutdown::Shutdown;
use crate::transport::Datagrams;

pub(crate) use datagrams::unguessable;

/// Answers compact calls on streams that somebody else accepts, and on datagrams.
pub struct Server {
    catalog: SharedCatalog,
    metrics: Arc<Metrics>,
    limits: Limits,
    shutdown: Shutdown,
    described: Mutex<Option<Described>>,
}

/// The description of one catalog, encoded once.
#[derive(Clone)]
struct Described {
    catalog: Arc<Catalog>,
    bytes: Bytes,
    hash: u64,
}

impl Server {
    /// A server of what `catalog` holds at the time of each call; numbers and counts its calls with `metrics`.
    pub fn new(
        catalog: SharedCatalog,
        metrics: Arc<Metrics>,
        limits: Limits,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self { catalog, metrics, limits, shutdown, described: Mutex::new(None) })
    }

    /// Serves one stream until the peer leaves, breaks the protocol, or the server stops.
    ///
    /// What it holds is counted with `share`. Dropping the future closes the stream and cancels its calls. When the server drains, the peer
    /// is told to go away and the calls in progress are finished.
    pub async fn serve<S>(self: &Arc<Self>, stream: S, peer: Arc<Peer>, share: Arc<Share>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        connection::serve(Arc::clone(self), stream, peer, share).await;
    }

    /// Serves datagrams until the server stops: compact frames, and JSON-RPC if there is a service for it.
    /// Calls are unary, and each is executed at most once unless its caller asks otherwise.
    pub async fn serve_datagrams(
        self: &Arc<Self>,
        socket: Datagrams,
        json_rpc: Option<jsonrpc::Service>,
        share: Arc<Share>,
    ) {
        datagrams::serve(Arc::clone(self), socket, json_rpc, share).await;
    }

    fn hello(&self) -> Hello {
        Hello {
            message_size_max: self.limits.message_size_max,
            calls_max: self.limits.calls_max,
            window: self.limits.window,
            description_hash: self.described().hash,
            nonce: 0,
            software: concat!("bandy/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    fn described(&self) -> Described {
        let catalog = self.catalog.load();
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        match &*described {
            Some(described) if Arc::ptr_eq(&described.catalog, &catalog) => described.clone(),
            _ => described.insert(describe(catalog)).clone(),
        }
    }

    /// The piece of the description at `asked.offset`, of at most `size_max` bytes.
    fn piece(&self, asked: Option<&Piece>, size_max: usize) -> Piece {
        let described = self.described();
        let total = described.bytes.len();
        let start = asked.map_or(0, |piece| piece.offset as usize).min(total);
        let bytes = described.bytes.slice(start..total.min(start + size_max));
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Piece { hash: described.hash, offset: number(start), total: number(total), bytes }
    }
}

fn describe(catalog: Arc<Catalog>) -> Described {
    let mut methods: Vec<MethodEntry> = catalog
        .routes()
        .filter(|route| route.method.service() != stats::SERVICE)
        .map(|route| MethodEntry {
            id: route.method.id,
            path: route.method.path.clone(),
            client_streams: route.method.kind.client_streams(),
            server_streams: route.method.kind.server_streams(),
            input: route.method.input.full_name().to_owned(),
            output: route.method.output.full_name().to_owned(),
        })
        .collect();
    methods.sort_by(|a, b| a.path.cmp(&b.path));
    let descriptor_set = catalog.schema().descriptor_set().into();
    let bytes: Bytes = Description { methods, descriptor_set }.encode_to_vec().into();
    let hash = description_hash(&bytes);
    Described { catalog, bytes, hash }
}
