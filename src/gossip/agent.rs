//! A live node: sockets and a clock around the engine.
//!
//! One task owns the engine and the datagrams; streams have tasks of their own and talk to it through a channel.
//!
//! ```text
//! feed      what happens, for all who watch
//! figures   what it counts, for Prometheus
//! core      the engine with what waits for it: joins, queries, watchers
//! stream    one message each way over TCP
//! held      what all streams hold, and who gives way
//! ipc       Serf's agent protocol: commands that ask this node
//! snapshot  whom to join again after a restart
//! mismatch  peers that encrypt otherwise
//! keys      the keys of the cluster, in a file
//! ```

mod core;
mod feed;
mod figures;
mod held;
pub mod ipc;
mod keys;
mod mismatch;
mod snapshot;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use self::core::{Answers, Core, KeysOutcome};
use feed::Feed;
pub use feed::Watch;
use figures::Figures;
use held::Held;
pub use keys::{KeyFile, KeyFileError, decode_key};
use mismatch::Mismatch;
pub use snapshot::Snapshot;
pub use stream::members_at;

use super::engine::{Config, Engine, Input, Output, QueryOptions, Refusal, StreamReply, Time};
use super::wire::{Packet, StreamMessage, Wrapping};
use crate::metrics::Registry;
use crate::shutdown::Shutdown;
use crate::transport::{Datagrams, Listener};
use crate::wait::until;

/// Requests to the engine that wait; more wait at their senders.
const COMMANDS_MAX: usize = 1024;
/// Streams of other nodes at a time, at a node that says no other number. More than may hold anything: who says the first
/// byte and no more gives way as well. Less than the descriptors that a process usually has.
pub const STREAMS_MAX: usize = 512;
/// How long the first byte of a stream may take: nodes say it at once.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3);
/// Datagrams that are read before other things have their turn.
const BURST_MAX: usize = 64;

/// What a node is made of.
#[derive(Debug)]
pub struct Options {
    /// The engine's settings.
    pub config: Config,
    /// Label and keys.
    pub wrapping: Wrapping,
    /// Where datagrams come and go.
    pub datagrams: Datagrams,
    /// Where the keys are kept, if they are in a file that can hold several.
    pub key_file: Option<KeyFile>,
    /// Where it is remembered whom to join again.
    pub snapshot: Option<PathBuf>,
    /// For the engine's random numbers.
    pub seed: u64,
    /// Where it tells what it counts.
    pub metrics: Registry,
}

type Work = Box<dyn FnOnce(&mut Core) + Send>;

enum Command {
    /// Do something with the engine.
    Work(Work),
    /// Somebody opened a stream.
    Stream { from: SocketAddr, message: StreamMessage, answer: oneshot::Sender<StreamMessage> },
    /// What came of a stream that was opened.
    Reply { exchange: u64, reply: StreamReply },
}

/// A running node. Clones are the same one.
#[derive(Clone)]
pub struct Agent {
    commands: mpsc::Sender<Command>,
    events: Feed,
    gone: watch::Receiver<bool>,
    shutdown: Shutdown,
    wrapping: Arc<std::sync::RwLock<Wrapping>>,
    figures: Figures,
    held: Held,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

/// The node has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the node has ended")]
pub struct Ended;

impl Agent {
    /// Starts a node. It leaves its cluster when `shutdown` drains.
    ///
    /// # Errors
    /// Its tags do not fit.
    pub fn start(options: Options, shutdown: &Shutdown) -> Result<Self, Refusal> {
        let Options { config, wrapping, datagrams, key_file, snapshot, seed, metrics } = options;
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let (done, gone) = watch::channel(false);
        let wrapping = Arc::new(std::sync::RwLock::new(wrapping));
        let figures = Figures::new(&metrics);
        let events = Feed::new(figures.events_missed.clone());
        let agent = Self {
            commands,
            events,
            gone,
            shutdown: shutdown.clone(),
            wrapping: wrapping.clone(),
            figures: figures.clone(),
            held: Held::default(),
        };
        let mut engine = Engine::new(Time::default(), config, fastrand::Rng::with_seed(seed))?;
        if let Some(remembered) = snapshot.as_deref().and_then(Snapshot::read) {
            engine.restore_clocks(remembered.clocks);
        }
        let core = Core::new(engine, agent.events.clone(), wrapping, key_file, figures);
        let driver = Driver { core, datagrams, requests, agent: agent.clone(), started: Instant::now() };
        shutdown.spawn(async move {
            driver.run().await;
            let _ = done.send(true);
        });
        if let Some(path) = snapshot {
            shutdown.spawn(snapshot::keep(path, agent.clone()));
        }
        Ok(agent)
    }

    /// Serves streams of other nodes at a listener.
    pub fn listen(&self, listener: Listener, acceptor: &crate::transport::Acceptor) {
        let agent = self.clone();
        let serve = move |stream| stream::serve(agent.clone(), stream);
        let acceptor = acceptor.clone().with_handshake_timeout(FIRST_BYTE_TIMEOUT);
        self.shutdown.spawn(acceptor.run(listener, self.shutdown.clone(), serve));
    }

    /// Does something with the engine, and returns what comes of it.
    ///
    /// # Errors
    /// The node has ended.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |core| drop(sender.send(work(core))));
        self.commands.send(Command::Work(work)).await.map_err(|_| Ended)?;
        receiver.await.map_err(|_| Ended)
    }

    /// What happens from now on.
    pub fn watch(&self) -> Watch {
        self.events.watch()
    }

    /// Joins the cluster that a node is in.
    ///
    /// # Errors
    /// Why it did not come to that.
    pub async fn join(&self, seed: SocketAddr, replay: bool) -> Result<(), String> {
        let waiting =
            self.with(move |core| core.join(seed, replay)).await.map_err(|error| error.to_string())?;
        waiting.await.unwrap_or_else(|_| Err(Ended.to_string()))
    }

    /// Asks, and returns where answers come.
    ///
    /// # Errors
    /// The query does not fit, or the node has ended.
    pub async fn query(&self, options: QueryOptions) -> Result<Answers, String> {
        let asked = self.with(move |core| core.query(options)).await.map_err(|error| error.to_string())?;
        asked.map_err(|refusal| refusal.to_string())
    }

    /// Returns when the node has left its cluster and ended.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Ends the node: it leaves its cluster first.
    pub fn leave(&self) {
        self.shutdown.drain();
    }

    fn wrapping(&self) -> Wrapping {
        self.wrapping.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// The task that owns the engine.
struct Driver {
    core: Core,
    datagrams: Datagrams,
    requests: mpsc::Receiver<Command>,
    agent: Agent,
    started: Instant,
}

impl Driver {
    async fn run(mut self) {
        let mut buffer = vec![0; 64 * 1024];
        let shutdown = self.agent.shutdown.clone();
        let mut leaving = false;
        while !self.core.has_left() {
            let deadline = self.core.deadline().map(|at| self.started + Duration::from_micros(at.0));
            tokio::select! {
                received = self.datagrams.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => {
                        self.datagram(&buffer[..length], from);
                        self.more_datagrams(&mut buffer).await;
                    }
                    // Somebody we sent to is not there; on some systems the next call says so.
                    Err(error) => {
                        tracing::debug!("receiving: {error}");
                        tokio::task::yield_now().await;
                    }
                },
                Some(command) = self.requests.recv() => self.command(command),
                () = until(deadline) => self.act(Input::Tick),
                () = shutdown.draining(), if !leaving => {
                    leaving = true;
                    self.act(Input::Leave);
                }
                () = shutdown.stopped() => break,
            }
            self.send().await;
        }
    }

    /// What else has come already: a burst costs one turn of the loop.
    async fn more_datagrams(&mut self, buffer: &mut [u8]) {
        for _ in 0..BURST_MAX {
            let received = {
                let mut next = std::pin::pin!(self.datagrams.recv_from(buffer));
                std::future::poll_fn(|context| {
                    std::task::Poll::Ready(std::future::Future::poll(next.as_mut(), context))
                })
                .await
            };
            match received {
                std::task::Poll::Ready(Ok((length, from))) => self.datagram(&buffer[..length], from),
                std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending => return,
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn act(&mut self, input: Input) {
        let now = self.now();
        self.core.act(now, input);
    }

    fn datagram(&mut self, bytes: &[u8], from: SocketAddr) {
        let packet = {
            let wrapping = self.agent.wrapping.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            Packet::decode(bytes, &wrapping)
        };
        let figures = &self.agent.figures;
        figures.received.datagram(bytes.len(), &packet.messages);
        if let Some(fault) = packet.fault {
            figures.malformed.increment();
            figures.mismatches.seen(from.ip(), Mismatch::of_packet(&fault));
            tracing::info!("a datagram from {from}: {fault}");
        }
        if !packet.messages.is_empty() {
            self.act(Input::Packet { from, messages: packet.messages });
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        self.core.set_now(now);
        match command {
            Command::Work(work) => work(&mut self.core),
            Command::Stream { from, message, answer } => self.core.stream(now, from, message, answer),
            Command::Reply { exchange, reply } => self.act(Input::Reply { exchange, reply }),
        }
    }

    /// Sends what the engine wants sent.
    async fn send(&mut self) {
        self.core.look();
        for output in self.core.take_outputs() {
            match output {
                Output::Send { to, messages, checksum } => {
                    let bytes = self.core.encode(&messages, checksum);
                    let figures = &self.agent.figures;
                    figures.sent.datagram(bytes.len(), &messages);
                    if let Err(error) = self.datagrams.send_to(&bytes, to).await {
                        figures.unsent.increment();
                        tracing::debug!("sending to {to}: {error}");
                    }
                }
                Output::Open { exchange, to, message, answered } => {
                    let agent = self.agent.clone();
                    self.agent.shutdown.spawn(async move {
                        let wrapping = agent.wrapping();
                        let Agent { figures, held, .. } = &agent;
                        let reply = stream::exchange(to, &message, answered, &wrapping, figures, held).await;
                        let _ = agent.commands.send(Command::Reply { exchange, reply }).await;
                    });
                }
                Output::Answer { .. } | Output::Event(_) => {}
            }
        }
    }
}
