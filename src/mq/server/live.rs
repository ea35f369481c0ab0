//! The connections that are open, by the names that management knows them by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::host::Host;
use super::outbox::{Last, Outbox};
use crate::mq::engine::ConnectionId;
use crate::mq::wire::{ReplyCode, TableBuf};
use crate::transport::Stream;

/// What the transport knows of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    pub peer: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    pub is_tls: bool,
    /// Subject of the client's certificate.
    pub subject: Option<String>,
}

impl Ends {
    pub fn of(stream: &Stream) -> Self {
        Self {
            peer: stream.peer_address(),
            local: stream.local_address(),
            is_tls: stream.is_tls(),
            subject: stream.peer_certificate().map(|certificate| certificate.subject),
        }
    }
}

/// What was agreed on in the handshake.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub user: Arc<str>,
    pub mechanism: &'static str,
    pub client_properties: TableBuf,
    pub channel_max: u16,
    pub frame_max: u32,
    /// Seconds; 0 for none.
    pub heartbeat: u16,
    /// Milliseconds since 1970.
    pub connected_at: u64,
}

/// Bytes and pieces that went through a socket.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub received: AtomicU64,
    pub reads: AtomicU64,
    pub sent: AtomicU64,
    pub writes: AtomicU64,
}

impl Traffic {
    pub fn count(bytes: &AtomicU64, pieces: &AtomicU64, size: usize) {
        bytes.fetch_add(size as u64, Ordering::Relaxed);
        pieces.fetch_add(1, Ordering::Relaxed);
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    /// Counted from 1; no other connection ever has it.
    pub serial: u64,
    /// RabbitMQ's form: `127.0.0.1:50000 -> 127.0.0.1:5672`.
    pub name: String,
    pub ends: Ends,
    pub terms: Terms,
    pub host: Arc<Host>,
    pub id: ConnectionId,
    pub outbox: Arc<Outbox>,
    pub traffic: Arc<Traffic>,
}

impl Link {
    /// Sends it away, with RabbitMQ's code and words.
    pub fn close(&self, reason: &str) {
        tracing::info!(connection = self.name, reason, "closed by management");
        let code = ReplyCode::ConnectionForced;
        // What it held is free at once, not when the client has understood.
        self.host.disconnect(self.id);
        let text = code.reply_text(reason);
        self.outbox.finish(Last::Close { code: code.number(), text, method: (0, 0) });
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Live {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    serial: u64,
    links: BTreeMap<u64, Arc<Link>>,
    closed: u64,
}

/// Leaves the list when dropped.
pub(super) struct Listed<'a> {
    live: &'a Live,
    link: Arc<Link>,
}

impl Listed<'_> {
    pub fn user(&self) -> &str {
        &self.link.terms.user
    }

    pub fn close(&self, reason: &str) {
        self.link.close(reason);
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut inner = self.live.inner();
        inner.links.remove(&self.link.serial);
        inner.closed += 1;
    }
}

/// What a connection is called.
pub(super) struct Name {
    serial: u64,
    pub text: String,
}

/// What a connection is listed with.
pub(super) struct Entry {
    pub name: Name,
    pub ends: Ends,
    pub terms: Terms,
    pub host: Arc<Host>,
    pub id: ConnectionId,
    pub outbox: Arc<Outbox>,
    pub traffic: Arc<Traffic>,
}

impl Live {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a connection that will be listed.
    pub fn name(&self, ends: &Ends) -> Name {
        let mut inner = self.inner();
        inner.serial += 1;
        let serial = inner.serial;
        let text = match (ends.peer, ends.local) {
            (Some(peer), Some(local)) => format!("{peer} -> {local}"),
            // Unix sockets have no names of their own.
            _ => format!("local:{serial} -> local"),
        };
        Name { serial, text }
    }

    /// Lists a connection for as long as what is returned lives.
    pub fn enter(&self, entry: Entry) -> Listed<'_> {
        let Entry { name, ends, terms, host, id, outbox, traffic } = entry;
        let Name { serial, text: name } = name;
        let mut inner = self.inner();
        let link = Arc::new(Link { serial, name, ends, terms, host, id, outbox, traffic });
        inner.links.insert(serial, Arc::clone(&link));
        drop(inner);
        Listed { live: self, link }
    }

    /// All, the oldest first.
    pub fn all(&self) -> Vec<Arc<Link>> {
        self.inner().links.values().cloned().collect()
    }

    /// How many there are of which some are counted.
    pub fn count(&self, counts: impl Fn(&Link) -> bool) -> usize {
        self.inner().links.values().filter(|link| counts(link)).count()
    }

    /// Connections that came and that went since the start.
    pub fn churn(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.serial, inner.closed)
    }
}
