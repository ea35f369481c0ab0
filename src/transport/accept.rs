//! The accept loop: a limit, a deadline for the handshake, back-off when the system has no more descriptors, drain on stop.

mod silent;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Listener, Stream, TlsServer};
use crate::backoff::Backoff;
use crate::shutdown::Shutdown;
use silent::{Newcomer, SILENT_MAX, Silent};

/// Connections at the same time, unless the caller says otherwise; an idle one costs a few KiB.
pub const CONNECTIONS_MAX: usize = 20_000;

/// From the connection to the first byte of the protocol, TLS included. RabbitMQ and Envoy wait as long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Without descriptors, until some are free again.
const STARVED: Backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_secs(1) };

/// What all listeners of a server share. Clones share one count of connections.
#[derive(Debug, Clone)]
pub struct Acceptor {
    permits: Arc<Semaphore>,
    silent: Silent,
    connections_max: usize,
    handshake_timeout: Duration,
    tls: Option<TlsServer>,
    counts: Arc<Counts>,
}

/// What has happened at the door.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    failed: AtomicU64,
    starved: AtomicU64,
}

/// A connection that is open, from when it was accepted.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has happened at the door, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// Connections now.
    pub open: usize,
    /// Connections that may be at the same time.
    pub open_max: usize,
    /// Connections since the start.
    pub accepted: u64,
    /// Of these, connections that ended in TLS or were silent for too long, or while others waited.
    pub failed: u64,
    /// How often the system had no descriptor for one.
    pub starved: u64,
}

/// What is done with a connection.
type Serve = dyn Fn(Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

impl Default for Acceptor {
    fn default() -> Self {
        Self::new(CONNECTIONS_MAX)
    }
}

impl Acceptor {
    /// At most `connections_max` at the same time. Who comes later waits until one of them leaves, or has been silent
    /// from the start for a second.
    pub fn new(connections_max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            silent: Silent::default(),
            connections_max,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            tls: None,
            counts: Arc::default(),
        }
    }

    /// With TLS on all listeners but Unix sockets, which never leave the machine.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<TlsServer>) -> Self {
        self.tls = tls;
        self
    }

    /// With another deadline for TLS and the first byte.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// For listeners of another kind beside: with the same TLS and a count of its own.
    #[must_use]
    pub fn beside(&self, connections_max: usize) -> Self {
        Self::new(connections_max).with_tls(self.tls.clone())
    }

    /// When the certificate that is shown runs out, in seconds since 1970.
    pub fn certificate_expires(&self) -> Option<i64> {
        Some(self.tls.as_ref()?.expires()?.as_second())
    }

    /// True if its TCP listeners speak TLS.
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What has happened so far.
    pub fn door(&self) -> Door {
        Door {
            open: self.counts.open.load(Ordering::Relaxed),
            open_max: self.connections_max,
            accepted: self.counts.accepted.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            starved: self.counts.starved.load(Ordering::Relaxed),
        }
    }

    /// Accepts until `shutdown` drains, then closes the listener. Every stream that has sent its first byte is
    /// given to `serve` in a task of its own; that task is dropped when `shutdown` stops.
    pub async fn run<F, Fut>(self, listener: Listener, shutdown: Shutdown, serve: F)
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let serve: Arc<Serve> = Arc::new(move |stream| Box::pin(serve(stream)));
        self.accept(listener, shutdown, serve).await;
    }

    async fn accept(self, listener: Listener, shutdown: Shutdown, serve: Arc<Serve>) {
        let tls = match listener {
            Listener::Tcp(_) | Listener::Mem(_) => self.tls.clone(),
            Listener::Unix(_) => None,
        };
        let mut starved = STARVED.delays(0);
        loop {
            let next = async {
                let stream = listener.accept().await?;
                io::Result::Ok((stream, self.permit().await))
            };
            let accepted = tokio::select! {
                biased;
                () = shutdown.draining() => return,
                accepted = next => accepted,
            };
            let (stream, permit) = match accepted {
                Ok((stream, Some(permit))) => (stream, permit),
                Ok((_, None)) => return,
                Err(error) if of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of descriptors, most likely: spinning would free none.
                    self.counts.starved.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("cannot accept: {error}; trying again");
                    let delay = starved.next().unwrap_or(STARVED.max);
                    tokio::select! {
                        () = shutdown.draining() => return,
                        () = tokio::time::sleep(delay) => continue,
                    }
                }
            };
            starved = STARVED.delays(0);
            let (open, newcomer) = (Open::new(&self.counts), self.silent.newcomer());
            let (this, tls, serve, stopping) = (self.clone(), tls.clone(), serve.clone(), shutdown.clone());
            shutdown.spawn(async move {
                let _held = (permit, open);
                if let Some(stream) = this.handshake(stream, tls, newcomer, &stopping).await {
                    tokio::select! {
                        () = serve(stream) => {}
                        () = stopping.stopped() => {}
                    }
                }
            });
        }
    }

    /// Room for one more. Never none: the semaphore lives in self.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut permit = std::pin::pin!(self.permits.clone().acquire_owned());
        tokio::select! {
            biased;
            permit = &mut permit => return permit.ok(),
            () = self.silent.one_gives_way() => {}
        }
        permit.await.ok()
    }

    /// TLS and the first byte, before the deadline. None if there is nobody to serve.
    async fn handshake(
        &self,
        stream: Stream,
        tls: Option<TlsServer>,
        newcomer: Newcomer,
        shutdown: &Shutdown,
    ) -> Option<Stream> {
        let peer = stream.peer();
        let shake = async {
            let mut stream = stream;
            if let Some(tls) = tls {
                if is_http(stream.peek(PLAIN_START).await?) {
                    tracing::info!("{peer} speaks HTTP without TLS on a port with TLS");
                    stream.write_all(TLS_PORT).await?;
                    stream.shutdown().await?;
                    // Closing on unread bytes would take the answer back.
                    tokio::io::copy(&mut stream.take(PLAIN_SIZE_MAX), &mut tokio::io::sink()).await?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "no TLS"));
                }
                stream = tls.accept(stream).await?;
            }
            let ended = stream.peek(1).await?.is_empty();
            io::Result::Ok((!ended).then_some(stream))
        };
        let result = tokio::select! {
            biased;
            result = tokio::time::timeout(self.handshake_timeout, shake) => result,
            // Whoever has not said a word loses nothing.
            () = shutdown.draining() => return None,
            () = newcomer.gives_way() => {
                tracing::debug!("{peer} said nothing for {SILENT_MAX:?}, and others wait");
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        match result {
            // Looking whether the port is open is not a failure.
            Ok(Ok(stream)) => return stream,
            Ok(Err(error)) => tracing::debug!("{peer} left in the handshake: {error}"),
            Err(_) => tracing::debug!("{peer} said nothing for {:?}", self.handshake_timeout),
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Bytes that tell HTTP/1.1 from TLS, whose first one is 0x16, and from HTTP/2.
const PLAIN_START: usize = 4;

/// So much of a request without TLS is read before it is left.
const PLAIN_SIZE_MAX: u64 = 64 * 1024;

/// The answer to HTTP where TLS is spoken; all web servers say so.
const TLS_PORT: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    This port speaks TLS: use grpcs:// or https://\n";

/// True if someone begins to speak HTTP/1.1: a method in capitals. HTTP/2 and AMQP get TLS's own alert.
fn is_http(start: &[u8]) -> bool {
    start.get(..PLAIN_START).is_some_and(|start| {
        start.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ')
            && start != b"PRI "
            && start != b"AMQP"
    })
}

/// True if only this connection failed, before it could be accepted: accept(2), "Error handling".
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
    )
}
