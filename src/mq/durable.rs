//! Durable queues: what the engines want kept goes to the storage, and what is safe there is told to the engines.
//!
//! ```text
//! host ── changes, journal ──▶ inbox ─▶ writer ──▶ storage: one log a queue, one of definitions ──▶ flusher
//!  ▲                                      │ loads                                                      │
//!  │                                      ▼                                                            ▼
//!  └── engine: loaded ◀───────────────── reader        engine: stored, failed ◀── teller ◀─────────────┘
//! ```
//!
//! Five threads beside the storage's own: the writer appends in the order of the inbox and never waits for a sync; the
//! reader reads messages that left memory; the teller takes an engine's lock once for everything a sync brought; the
//! keeper removes logs of deleted queues and watches the space on the disk; the summarizer reads long logs from their last
//! snapshot on and makes the next one, so that a start does not read them whole. With a full inbox, connections that
//! publish are not read ([`Link::is_behind`]).
//!
//! What always holds: a publisher is answered after its message is as safe as `--durability` says, replies to
//! declarations after the definition is; nothing that an engine let go of is needed to read what it kept.

mod cursor;
mod definition;
pub mod dump;
mod keeper;
mod live;
mod mailbox;
mod metadata;
mod reader;
mod record;
mod recover;
mod replay;
mod snapshot;
mod spill;
mod teller;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;

use serde_json::Value as Json;
use tokio::sync::{oneshot, watch};

use crate::mq::engine::{Change, Engine, Journal, Millis, Outputs, QueueId};
use crate::storage::{self, Durability, Log, Store};
use keeper::Chore;
use mailbox::Mailbox;
use reader::Load;
use teller::Told;
use writer::Writer;

/// Bytes of messages that may wait to be written before publishers are made to wait.
const INBOX_BYTES_MAX: u64 = 8 << 20;
/// Bytes that were appended and are not on disk before publishers are made to wait: some seconds of a slow disk, and no
/// reason to wait on one that is not stuck.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// What an operation costs beside the bytes of its message.
const OPERATION_SIZE: u64 = 96;

/// How queues are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// What a confirm means: `Os`, `Group` or `Each`.
    pub durability: Durability,
    /// With fewer free bytes than this, publishers are blocked.
    pub disk_free_min: u64,
}

/// Whose engine it is: does what the storage says under the engine's lock, and sends what comes of it.
pub trait Owner: Send + Sync {
    /// Runs `work` as one batch.
    fn with_engine(&self, work: &mut dyn FnMut(&mut Engine, &mut Outputs, Millis));
    /// So many changes of definitions are on disk.
    fn definitions_stored(&self, changes: u64);
    /// Definitions cannot be stored any more: nothing that waits for that is going to be answered.
    fn definitions_failed(&self);
    /// The disk is short of space, or no more.
    fn disk_is_short(&self, short: bool);
}

/// One virtual host as the storage knows it.
struct Host {
    name: String,
    owner: Mutex<Option<Weak<dyn Owner>>>,
}

/// Something to define, or to let go of.
#[derive(Debug)]
enum Edit {
    /// Of an engine; for a delayed exchange with the queue whose log it keeps.
    Change(Change, Option<QueueId>),
    /// Of somebody else.
    Keep { key: String, value: Option<Json>, done: oneshot::Sender<()> },
}

/// What a host wants kept: first the edits, then the operations.
#[derive(Debug, Default)]
struct Batch {
    host: usize,
    edits: Vec<Edit>,
    /// How many changes there have been on that host, these included.
    changes: u64,
    journal: Vec<Journal>,
}

/// Who waits until the log of definitions is on disk up to an offset.
struct Waiting {
    end: i64,
    host: usize,
    changes: u64,
    done: Vec<oneshot::Sender<()>>,
    /// Queues that are defined then.
    begun: Vec<(usize, QueueId)>,
}

/// What the threads share.
struct Shared {
    /// Until it is closed.
    store: RwLock<Option<Store>>,
    options: Options,
    inbox: Mailbox<Batch>,
    /// Bytes in the inbox and in the writer's hands.
    waiting: AtomicU64,
    behind: watch::Sender<bool>,
    loads: Mailbox<Load>,
    told: Mailbox<Told>,
    chores: Mailbox<Chore>,
    /// Logs that want a snapshot.
    snapshots: Mailbox<Log>,
    /// For definitions on their way to the disk, oldest first.
    definitions: Mutex<std::collections::VecDeque<Waiting>>,
    /// Queues whose definitions are not on disk, and up to where their logs are: a log that no definition knows is lost.
    undefined: Mutex<HashMap<(usize, QueueId), Option<u64>>>,
    hosts: Mutex<Vec<Arc<Host>>>,
    closing: AtomicBool,
    /// The disk is short of space.
    short: AtomicBool,
    /// Why definitions cannot be stored any more.
    failure: watch::Sender<Option<storage::Error>>,
}

impl Shared {
    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_store<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, storage::Error>,
    ) -> Result<T, storage::Error> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or(Err(storage::Error::Closed), work)
    }

    fn owner(&self, host: usize) -> Option<Arc<dyn Owner>> {
        let host = self.lock(&self.hosts).get(host).cloned()?;
        self.lock(&host.owner).as_ref().and_then(Weak::upgrade)
    }

    fn owners(&self) -> Vec<Arc<dyn Owner>> {
        let hosts = self.lock(&self.hosts).clone();
        hosts.iter().filter_map(|host| self.lock(&host.owner).as_ref().and_then(Weak::upgrade)).collect()
    }

    /// So many bytes wait no more.
    fn written(&self, bytes: u64) {
        self.waiting.fetch_sub(bytes, Ordering::SeqCst);
        self.look_behind();
    }

    /// Compares what is to be written and synced with what may be: after each part of it is done.
    fn look_behind(&self) {
        let waiting = self.waiting.load(Ordering::SeqCst);
        // With the other levels nobody waits for a sync.
        let unsynced = match self.options.durability {
            Durability::Group => self.with_store(|store| Ok(store.unsynced_bytes())).unwrap_or(0),
            Durability::Memory | Durability::Os | Durability::Each => 0,
        };
        let behind = if waiting > INBOX_BYTES_MAX || unsynced > UNSYNCED_BYTES_MAX {
            true
        } else if waiting < INBOX_BYTES_MAX / 2 && unsynced < UNSYNCED_BYTES_MAX / 2 {
            false
        } else {
            return;
        };
        self.behind.send_if_modified(|held| std::mem::replace(held, behind) != behind);
    }

    /// Definitions cannot be stored any more. The first reason counts.
    fn fail(&self, error: &storage::Error) {
        let mut is_first = false;
        // Whoever waits for it is woken once the hosts have heard.
        self.failure.send_if_modified(|failure| {
            is_first = failure.is_none();
            failure.get_or_insert_with(|| error.clone());
            false
        });
        if is_first {
            tracing::error!(%error, "definitions cannot be stored: the broker stops");
            self.told.push(Told::DefinitionsFailed);
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// What it costs to keep an operation, in bytes.
fn cost(operation: &Journal) -> u64 {
    match operation {
        Journal::Append { message, .. } | Journal::Spill { message, .. } => {
            OPERATION_SIZE + message.body_len() + message.properties.len() as u64
        }
        _ => OPERATION_SIZE,
    }
}

/// A host's way to the storage.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    host: usize,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Link {
    /// Takes changes and journal out of the outputs of an engine, under whose lock it is called. `changes` counts the
    /// changes so far, these included.
    pub fn submit(&self, engine: &Engine, out: &mut Outputs, changes: u64) {
        let bytes = out.journal.iter().map(cost).sum::<u64>() + OPERATION_SIZE * out.changes.len() as u64;
        if bytes == 0 {
            return;
        }
        let waiting = self.shared.waiting.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if waiting > INBOX_BYTES_MAX && !*self.shared.behind.borrow() {
            self.shared.behind.send_if_modified(|behind| !std::mem::replace(behind, true));
        }
        let delayed = |change: &Change| match change {
            Change::ExchangeDeclared(new) => engine.delay_queue(&new.name),
            _ => None,
        };
        let edits: Vec<Edit> = out
            .changes
            .drain(..)
            .map(|change| {
                let queue = delayed(&change);
                Edit::Change(change, queue)
            })
            .collect();
        self.shared.inbox.leave(|batches| {
            if let Some(last) = batches.last_mut().filter(|last| last.host == self.host && edits.is_empty()) {
                last.journal.append(&mut out.journal);
                return;
            }
            let journal = out.journal.drain(..).collect();
            batches.push(Batch { host: self.host, edits, changes, journal });
        });
    }

    /// Whether whoever publishes should wait: more is to be written than is good.
    pub fn is_behind(&self) -> bool {
        *self.shared.behind.borrow()
    }

    /// Returns when the storage has caught up.
    pub async fn caught_up(&self) {
        let mut behind = self.shared.behind.subscribe();
        // The sender lives as long as this.
        let _ = behind.wait_for(|behind| !behind).await;
    }

    /// Whether the disk is short of space.
    pub fn disk_is_short(&self) -> bool {
        self.shared.short.load(Ordering::Acquire)
    }
}

/// Queues on a disk.
pub struct Durable {
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    refused: AtomicU64,
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durable").field("dir", &self.shared.options.dir).finish_non_exhaustive()
    }
}

impl Durable {
    /// Opens a data directory, and reads the definitions. Nothing is written on behalf of hosts before
    /// [`Durable::start`].
    ///
    /// # Errors
    /// Another process has it; the definitions are damaged; the system refuses.
    pub fn open(options: Options) -> Result<Self, storage::Error> {
        let store = Store::open(&options.dir, storage_options(options.durability))?;
        spill::sweep(&options.dir);
        Self::on(store, options)
    }

    /// On a store that is open already.
    pub(in crate::mq) fn on(store: Store, options: Options) -> Result<Self, storage::Error> {
        let shared = Arc::new(Shared {
            store: RwLock::new(Some(store)),
            options,
            inbox: Mailbox::default(),
            waiting: AtomicU64::new(0),
            behind: watch::Sender::new(false),
            loads: Mailbox::default(),
            told: Mailbox::default(),
            chores: Mailbox::default(),
            snapshots: Mailbox::default(),
            definitions: Mutex::default(),
            undefined: Mutex::default(),
            hosts: Mutex::default(),
            closing: AtomicBool::new(false),
            short: AtomicBool::new(false),
            failure: watch::Sender::new(None),
        });
        let writer = Writer::new(&shared)?;
        Ok(Self {
            shared,
            writer: Mutex::new(Some(writer)),
            threads: Mutex::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// The way for a virtual host.
    pub fn link(&self, vhost: &str) -> Link {
        let mut hosts = self.shared.lock(&self.shared.hosts);
        let host = hosts.iter().position(|host| host.name == vhost).unwrap_or_else(|| {
            hosts.push(Arc::new(Host { name: vhost.to_owned(), owner: Mutex::new(None) }));
            hosts.len() - 1
        });
        Link { shared: Arc::clone(&self.shared), host }
    }

    /// Says whose engine a host is: from here on it is told.
    pub fn own(&self, link: &Link, owner: Weak<dyn Owner>) {
        let host = self.shared.lock(&self.shared.hosts).get(link.host).cloned();
        if let Some(host) = host {
            *self.shared.lock(&host.owner) = Some(owner);
        }
    }

    /// Everything of a kind that [`Durable::keep`] was given before the start: names and values.
    pub fn kept(&self, kind: &str) -> Vec<(Vec<String>, Json)> {
        let writer = self.shared.lock(&self.writer);
        let Some(writer) = &*writer else { return Vec::new() };
        writer.metadata().of_kind(kind).map(|(names, value)| (names, value.clone())).collect()
    }

    /// Keeps a value over restarts, under a kind and names of the caller's; `None` lets go of it. The last one given
    /// counts. Returns when it is on disk; false if that is not to be.
    pub async fn keep(&self, kind: &str, names: &[&str], value: Option<Json>) -> bool {
        let (done, stored) = oneshot::channel();
        let edit = Edit::Keep { key: metadata::key(kind, names), value, done };
        self.shared.waiting.fetch_add(OPERATION_SIZE, Ordering::SeqCst);
        self.shared.inbox.push(Batch { host: usize::MAX, edits: vec![edit], ..Batch::default() });
        stored.await.is_ok()
    }

    /// Returns when definitions cannot be stored any more, which no more than a new start can change.
    pub async fn failed(&self) {
        // The sender lives in self, so this cannot fail while we are borrowed.
        let _ = self.shared.failure.subscribe().wait_for(Option::is_some).await;
    }

    /// Why definitions cannot be stored any more, if that is so.
    pub fn failure(&self) -> Option<storage::Error> {
        self.shared.failure.borrow().clone()
    }

    /// Starts the threads, once every host that there is has been recovered.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(&self) -> Result<(), storage::Error> {
        let Some(writer) = self.shared.lock(&self.writer).take() else { return Ok(()) };
        self.discard_unknown(writer.metadata());
        let mut threads = self.shared.lock(&self.threads);
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let dir = self.shared.options.dir.clone();
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map(|thread| threads.push(thread)).map_err(|source| storage::Error::Io {
                what: "start a thread for",
                path: dir,
                source: Arc::new(source),
            })
        };
        let shared = || Arc::clone(&self.shared);
        let (reading, telling, keeping, summarizing) = (shared(), shared(), shared(), shared());
        spawn("mq-writer", Box::new(move || writer.run()))?;
        spawn("mq-reader", Box::new(move || reader::run(&reading)))?;
        spawn("mq-teller", Box::new(move || teller::run(&telling)))?;
        spawn("mq-keeper", Box::new(move || keeper::run(&keeping)))?;
        spawn("mq-summarizer", Box::new(move || snapshot::run(&summarizing)))
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.options.dir
    }

    /// Bytes that are free on its disk.
    pub fn disk_free(&self) -> Option<u64> {
        self.shared.with_store(|store| store.free_bytes()).ok()
    }

    /// With fewer free bytes than this, publishers are blocked.
    pub fn disk_free_min(&self) -> u64 {
        self.shared.options.disk_free_min
    }

    /// Whether that is so.
    pub fn disk_is_short(&self) -> bool {
        self.shared.short.load(Ordering::Acquire)
    }

    /// Queues that are not served because their logs are damaged.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Numbers of the storage since the start.
    pub fn counts(&self) -> storage::Counts {
        self.shared.with_store(|store| Ok(store.counts())).unwrap_or_default()
    }

    /// Stops in order: writes what is left, and marks the directory as cleanly left.
    ///
    /// # Errors
    /// Something could not be written; the next start then does what it does after a crash.
    pub fn close(&self) -> Result<(), storage::Error> {
        for owner in self.shared.owners() {
            owner.with_engine(&mut |engine, out, _| engine.write_logs(out));
        }
        self.shared.closing.store(true, Ordering::Release);
        self.shared.inbox.close();
        let mut threads = std::mem::take(&mut *self.shared.lock(&self.threads));
        // The writer first: it gives work to the others.
        let others = threads.split_off(1.min(threads.len()));
        for thread in threads {
            // Its panic was printed.
            let _ = thread.join();
        }
        // What a snapshot covers has to be on disk.
        let _ = self.shared.with_store(Store::flush);
        self.shared.snapshots.close();
        self.shared.loads.close();
        self.shared.told.close();
        self.shared.chores.close();
        for thread in others {
            let _ = thread.join();
        }
        *self.shared.lock(&self.writer) = None;
        let store = self.shared.store.write().unwrap_or_else(PoisonError::into_inner).take();
        store.map_or(Ok(()), Store::close)
    }
}

fn storage_options(durability: Durability) -> storage::Options {
    storage::Options { durability, ..storage::Options::default() }
}
