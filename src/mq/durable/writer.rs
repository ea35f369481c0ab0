//! The writer: takes everything from the inbox, gathers the records of each queue to one batch, and appends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::cursor::Cursors;
use super::definition::{self, binding_key};
use super::keeper::Chore;
use super::live::Live;
use super::metadata::{Metadata, key};
use super::reader::{Load, Past};
use super::spill::Spills;
use super::teller::{DefinitionsTold, QueueTold, Told};
use super::{Batch, Edit, Shared, Waiting, cost, record};
use crate::mq::engine::{Change, Gone, Journal, Place, QueueId};
use crate::storage::{Appended, BatchBuilder, Durability, Error, Importance, Log, LogConfig, LogId};

/// A batch is appended when it is so large, in bytes: what reading one message costs at most.
const BATCH_BYTES_MAX: usize = 128 << 10;
/// How often appending is tried on a full disk.
const FULL_PATIENCE: Duration = Duration::from_millis(50);
/// Pause after which the start of a log is moved, if nothing else happens.
const TRIM_PATIENCE: Duration = Duration::from_millis(200);
/// After so many bytes, the space on the disk is looked at.
const LOOK_AFTER: u64 = 8 << 20;
/// A log is read for a snapshot after so many bytes, or the eighth part of a longer one: what a start then still has to
/// read, and the price of a snapshot, stay small against the log.
const SNAPSHOT_AFTER: u64 = 32 << 20;
/// At an orderly stop what is more than this gets a snapshot, in bytes, while there is time.
const SNAPSHOT_AT_STOP: u64 = 1 << 20;
/// Builders that are kept for the next queues.
const SPARE_MAX: usize = 64;

/// The leader epoch of what is appended to a log from now on: every start is a new leader, so that whoever replicates
/// the log some day can tell what the last one wrote and lost.
pub(super) fn next_epoch(log: &Log) -> i32 {
    log.state().leader_epoch.map_or(0, |newest| newest.saturating_add(1))
}

/// A queue with a log.
pub(super) struct Kept {
    log: Log,
    epoch: i32,
    past: Arc<Past>,
    live: Live,
    /// The offset of the next record.
    next: u64,
    /// Everything before it is not needed.
    start: u64,
    /// Where the log may begin once it is safe up to the second offset.
    trim: Option<(u64, u64)>,
    /// Messages before this offset are being written anew.
    moving: Option<u64>,
    batch: Option<BatchBuilder>,
    /// Whether somebody waits for something in it.
    awaited: bool,
    /// Bytes that a start would read, the last snapshot notwithstanding.
    unread: u64,
    failed: bool,
}

impl Kept {
    /// `unread` bytes of it are in no snapshot.
    pub fn new(log: Log, past: Arc<Past>, live: Live, unread: u64) -> Self {
        let state = log.state();
        Self {
            epoch: next_epoch(&log),
            past,
            live,
            next: state.end as u64,
            start: state.start as u64,
            trim: None,
            moving: None,
            batch: None,
            awaited: false,
            unread,
            failed: false,
            log,
        }
    }

    /// Bytes that a start would read.
    fn to_read(&self) -> u64 {
        self.unread.min(self.live.bytes())
    }
}

type Key = (usize, QueueId);

/// See the module.
pub(super) struct Writer {
    shared: Arc<Shared>,
    metadata: Metadata,
    queues: HashMap<Key, Kept>,
    spills: Spills,
    cursors: Cursors,
    /// Queues with a batch that is not appended.
    touched: Vec<Key>,
    /// Queues whose logs may begin later soon.
    trims: Vec<Key>,
    spare: Vec<BatchBuilder>,
    /// The front of a record's value.
    head: Vec<u8>,
    /// Changes by host, and who waits for them, since the definitions were last appended.
    changes: Vec<(usize, u64)>,
    done: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Queues that are defined with the definitions that are to be appended.
    begun: Vec<Key>,
    /// Logs to be removed with the definitions that are to be appended.
    doomed: Vec<LogId>,
    unlooked: u64,
    now: i64,
}

impl Writer {
    pub fn new(shared: &Arc<Shared>) -> Result<Self, Error> {
        let metadata = shared.with_store(Metadata::open)?;
        metadata.log().observe(Arc::new(DefinitionsTold(Arc::downgrade(shared))));
        Ok(Self {
            shared: Arc::clone(shared),
            metadata,
            queues: HashMap::new(),
            spills: Spills::new(&shared.options.dir),
            cursors: Cursors::default(),
            touched: Vec::new(),
            trims: Vec::new(),
            spare: Vec::new(),
            head: Vec::new(),
            changes: Vec::new(),
            done: Vec::new(),
            begun: Vec::new(),
            doomed: Vec::new(),
            unlooked: 0,
            now: 0,
        })
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Takes in a queue that a start has recovered.
    pub fn take_in(&mut self, host: usize, id: QueueId, kept: Kept) {
        self.observe(host, id, &kept.log);
        self.queues.insert((host, id), kept);
        self.trims.push((host, id));
        self.look_for_snapshot((host, id));
    }

    fn observe(&self, host: usize, id: QueueId, log: &Log) {
        log.observe(Arc::new(QueueTold { shared: Arc::downgrade(&self.shared), host, queue: id }));
    }

    /// The thread: until the inbox is closed and empty.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut batches = Vec::new();
        loop {
            let patience = (!self.trims.is_empty()).then_some(TRIM_PATIENCE);
            if !shared.inbox.take(&mut batches, patience) {
                break;
            }
            self.round(&mut batches);
        }
        // The next start reads less.
        let all: Vec<Key> = self.queues.keys().copied().collect();
        self.trims.extend(all);
        self.trim();
        let mut long: Vec<_> =
            self.queues.into_values().filter(|kept| kept.to_read() >= SNAPSHOT_AT_STOP).collect();
        long.sort_by_key(|kept| std::cmp::Reverse(kept.to_read()));
        shared.snapshots.leave(|logs| logs.extend(long.into_iter().map(|kept| kept.log)));
    }

    /// Writes what was taken, and gives each log one batch of it.
    pub fn round(&mut self, batches: &mut Vec<Batch>) {
        let bytes = self.gather(batches);
        if self.append_definitions() {
            self.await_definitions();
        }
        for at in std::mem::take(&mut self.touched) {
            self.append(at);
        }
        self.trim();
        self.shared.written(bytes);
        self.unlooked += bytes;
        if self.unlooked > LOOK_AFTER {
            self.unlooked = 0;
            self.shared.chores.push(Chore::Look);
        }
    }

    /// Takes edits and operations in, and tells what they cost in bytes.
    pub(super) fn gather(&mut self, batches: &mut Vec<Batch>) -> u64 {
        self.now = now_ms();
        let mut bytes = 0;
        for batch in batches.drain(..) {
            let Batch { host, edits, changes, journal } = batch;
            if !edits.is_empty() {
                bytes += super::OPERATION_SIZE * edits.len() as u64;
                edits.into_iter().for_each(|edit| self.edit(host, edit));
                self.changes.push((host, changes));
            }
            for operation in journal {
                bytes += cost(&operation);
                self.operate(host, operation);
            }
        }
        bytes
    }

    // Definitions

    fn vhost(&self, host: usize) -> String {
        self.shared.lock(&self.shared.hosts).get(host).map(|host| host.name.clone()).unwrap_or_default()
    }

    fn edit(&mut self, host: usize, edit: Edit) {
        let (change, delayed) = match edit {
            Edit::Keep { key, value, done } => {
                self.metadata.set(key, value);
                self.done.push(done);
                return;
            }
            Edit::Change(change, delayed) => (change, delayed),
        };
        let vhost = self.vhost(host);
        match change {
            Change::QueueDeclared(id, definition) => {
                let log = self.begin(host, id);
                let key = key("queue", &[&vhost, &definition.name]);
                self.metadata.set(key, Some(definition::of_queue(log, &definition)));
            }
            Change::QueueDeleted(id, name) => {
                self.end(host, id, &key("queue", &[&vhost, &name]));
                self.metadata.remove_under("binding", &[&vhost, "queue", &name]);
            }
            Change::ExchangeDeclared(definition) => {
                let log = delayed.and_then(|id| self.begin(host, id));
                let key = key("exchange", &[&vhost, &definition.name]);
                self.metadata.set(key, Some(definition::of_exchange(log, &definition)));
            }
            Change::ExchangeDeleted(name) => {
                let key = key("exchange", &[&vhost, &name]);
                let queue = self.metadata.get(&key).and_then(|held| held["log"].as_str()?.parse().ok());
                let held = queue.and_then(|log: LogId| {
                    self.queues
                        .iter()
                        .find(|(at, kept)| at.0 == host && kept.log.id() == log)
                        .map(|(at, _)| at.1)
                });
                match held {
                    Some(id) => self.end(host, id, &key),
                    None => self.metadata.set(key, None),
                }
                // Those from it were named one by one.
                self.metadata.remove_under("binding", &[&vhost, "exchange", &name]);
            }
            Change::Bound(binding) => {
                let value = definition::of_binding(&binding);
                self.metadata.set(binding_key(&vhost, &binding), Some(value));
            }
            Change::Unbound(binding) => self.metadata.set(binding_key(&vhost, &binding), None),
        }
    }

    /// Begins the log of a queue.
    fn begin(&mut self, host: usize, id: QueueId) -> Option<String> {
        let begun = LogId::random().map_err(|source| Error::Io {
            what: "name a log in",
            path: self.shared.options.dir.clone(),
            source: Arc::new(source),
        });
        let log =
            begun.and_then(|name| self.shared.with_store(|store| store.log(name, LogConfig::default())));
        match log {
            Ok(log) => {
                self.begun.push((host, id));
                self.shared.lock(&self.shared.undefined).insert((host, id), None);
                self.observe(host, id, &log);
                let name = log.id().to_string();
                self.queues.insert((host, id), Kept::new(log, Arc::default(), Live::from(0), 0));
                Some(name)
            }
            Err(error) => {
                tracing::error!(%error, "a queue cannot be stored");
                self.shared.told.push(Told::Failed(host, id));
                None
            }
        }
    }

    /// Ends the log of a queue, once its definition is gone for good.
    fn end(&mut self, host: usize, id: QueueId, key: &str) {
        let named = self.metadata.get(key).and_then(|held| held["log"].as_str()?.parse().ok());
        self.metadata.set(key.to_owned(), None);
        let kept = self.queues.remove(&(host, id)).map(|kept| kept.log.id());
        self.doomed.extend(kept.or(named));
        self.spills.forget((host, id));
    }

    /// Appends what was defined; false if nothing was, or it cannot be.
    pub(super) fn append_definitions(&mut self) -> bool {
        if !self.metadata.is_changed() && self.changes.is_empty() && self.done.is_empty() {
            return false;
        }
        loop {
            match self.metadata.append() {
                Ok(_) => break,
                Err(Error::Full { .. }) if self.waits_for_space() => {}
                Err(error) => {
                    self.changes.clear();
                    self.done.clear();
                    // Logs of queues whose end is not on disk stay.
                    self.doomed.clear();
                    if !self.shared.is_closing() {
                        self.shared.fail(&error);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Notes who waits for the definitions that were appended.
    pub(super) fn await_definitions(&mut self) {
        let log = self.metadata.log();
        let end = log.end();
        {
            let mut waiting = self.shared.lock(&self.shared.definitions);
            for (host, changes) in self.changes.drain(..) {
                waiting.push_back(Waiting { end, host, changes, done: Vec::new(), begun: Vec::new() });
            }
            let (done, begun) = (std::mem::take(&mut self.done), std::mem::take(&mut self.begun));
            waiting.push_back(Waiting { end, host: usize::MAX, changes: 0, done, begun });
            // Or it has failed, and told so when nobody waited yet.
            if self.shared.failure.borrow().is_some() {
                waiting.clear();
            }
        }
        // The flusher may have been quicker, and told of a sync that nobody waited for yet.
        if log.safe_end() >= end {
            self.shared.told.push(Told::Definitions(end));
        }
        for doomed in self.doomed.drain(..) {
            self.shared.chores.push(Chore::Remove { log: doomed, after: log.clone(), end });
        }
    }

    // Operations

    fn operate(&mut self, host: usize, operation: Journal) {
        match operation {
            Journal::Append { queue, offset, message, expires } => {
                self.head.clear();
                let key = record::enqueue(&message, expires, &mut self.head);
                self.put((host, queue), offset, key, &message.body, true);
            }
            Journal::Ack { queue, offset, reason, mut ranges } => {
                self.head.clear();
                let key = record::ack(reason, &mut ranges, &mut self.head);
                if let Some(kept) = self.queues.get_mut(&(host, queue)) {
                    ranges.iter().for_each(|(first, count)| kept.live.gone(*first, *count));
                    if kept.trim.is_none() {
                        self.trims.push((host, queue));
                    }
                }
                self.put((host, queue), offset, key, &Bytes::new(), false);
                if let Some(kept) = self.queues.get_mut(&(host, queue)) {
                    kept.awaited |= reason == Gone::Purged;
                }
            }
            Journal::Requeue { queue, offset, message, returns } => {
                self.head.clear();
                let key = record::requeue(message, returns, &mut self.head);
                self.put((host, queue), offset, key, &Bytes::new(), false);
            }
            Journal::Delivered { queue, offset, up_to } => {
                self.head.clear();
                let key = record::delivered(up_to, &mut self.head);
                self.put((host, queue), offset, key, &Bytes::new(), false);
            }
            Journal::Move { queue, offset, from, returns } => {
                self.move_message((host, queue), offset, from, returns)
            }
            Journal::Spill { queue, number, message, expires } => {
                while let Err(Error::Full { .. }) =
                    self.spills.put((host, queue), number, &message, expires, self.now)
                {
                    if !self.waits_for_space() {
                        break;
                    }
                }
            }
            Journal::Unspill { queue, below } => self.spills.forget_below((host, queue), below),
            Journal::Load { queue, number, runs } => self.load((host, queue), number, &runs),
        }
    }

    /// Has messages read. Whatever is in the way, there is an answer.
    fn load(&mut self, at: Key, number: u64, places: &[(Place, u32)]) {
        let (log, runs, past) = if places.first().is_some_and(|(place, _)| place.as_spill().is_some()) {
            let runs = places.iter().filter_map(|(place, count)| Some((place.as_spill()?, *count)));
            let (log, runs) = self.spills.load(at, runs);
            (log, runs, Arc::default())
        } else {
            // What is asked for may be in what is gathered.
            self.append(at);
            let runs = places.iter().filter_map(|(place, count)| Some((place.as_log()?, *count)));
            let kept = self.queues.get(&at);
            let past = kept.map(|kept| Arc::clone(&kept.past)).unwrap_or_default();
            (kept.map(|kept| kept.log.clone()), runs.collect(), past)
        };
        self.shared.loads.push(Load { host: at.0, queue: at.1, number, log, runs, past });
    }

    /// Adds a record whose value begins with what is in `head`.
    fn put(&mut self, at: Key, offset: u64, key: record::Key, body: &Bytes, is_message: bool) {
        let Some(kept) = self.queues.get_mut(&at).filter(|kept| !kept.failed) else { return };
        if kept.next != offset {
            tracing::error!(log = %kept.log.id(), expected = kept.next, offset, "a queue is out of step with its log");
            self.fail(at);
            return;
        }
        if kept.batch.is_none() {
            kept.batch = Some(self.spare.pop().unwrap_or_default());
            self.touched.push(at);
        }
        let Some(batch) = &mut kept.batch else { return };
        if let Err(error) = batch.push(self.now, Some(&key), &self.head, body) {
            tracing::error!(log = %kept.log.id(), %error, "a message does not fit into its log");
            self.fail(at);
            return;
        }
        kept.next += 1;
        kept.awaited |= is_message;
        kept.live.written(offset, (self.head.len() + body.len() + 10) as u64, is_message);
        let alone = self.shared.options.durability == Durability::Each && is_message;
        if batch.len() >= BATCH_BYTES_MAX || alone {
            self.append(at);
        }
    }

    /// Appends the batch of a queue, if there is one.
    fn append(&mut self, at: Key) {
        let Some(mut batch) = self.queues.get_mut(&at).and_then(|kept| kept.batch.take()) else { return };
        let size = batch.len() as u64;
        let appended = loop {
            let Some(kept) = self.queues.get_mut(&at) else { return };
            let importance = if kept.awaited { Importance::Essential } else { Importance::Patient };
            match kept.log.append_built_as(&mut batch, kept.epoch, importance) {
                Ok(appended) => {
                    kept.awaited = false;
                    break Some(appended);
                }
                Err(Error::Full { .. }) if self.waits_for_space() => {}
                Err(error) => {
                    if !self.shared.is_closing() {
                        tracing::error!(%error, "a queue cannot be stored");
                    }
                    self.fail(at);
                    break None;
                }
            }
        };
        if appended.is_some()
            && let Some(kept) = self.queues.get_mut(&at)
        {
            kept.unread += size;
            self.look_for_snapshot(at);
        }
        if let Some(Appended { safe: true, end, .. }) = appended {
            self.shared.told.push(Told::Stored(at.0, at.1, end as u64));
        }
        if self.spare.len() < SPARE_MAX && appended.is_some() {
            self.spare.push(batch);
        }
    }

    /// Has a snapshot made if a start would have to read too much.
    fn look_for_snapshot(&mut self, at: Key) {
        let Some(kept) = self.queues.get_mut(&at) else { return };
        if kept.to_read() >= SNAPSHOT_AFTER.max(kept.live.bytes() / 8) {
            kept.unread = 0;
            self.shared.snapshots.push(kept.log.clone());
        }
    }

    fn fail(&mut self, at: Key) {
        if let Some(kept) = self.queues.get_mut(&at)
            && !std::mem::replace(&mut kept.failed, true)
        {
            kept.batch = None;
            self.shared.told.push(Told::Failed(at.0, at.1));
        }
    }

    /// Nothing goes on until there is space: false if the broker stops meanwhile.
    fn waits_for_space(&mut self) -> bool {
        if !self.shared.short.load(Ordering::Acquire) {
            self.shared.chores.push(Chore::Look);
        }
        if self.shared.is_closing() {
            return false;
        }
        std::thread::sleep(FULL_PATIENCE);
        true
    }

    /// Writes a message once more.
    fn move_message(&mut self, at: Key, offset: u64, from: u64, returns: u32) {
        self.append(at);
        let Some(kept) = self.queues.get_mut(&at).filter(|kept| !kept.failed) else { return };
        let returns = kept.past.take_returns(from).max(returns);
        let head = &mut self.head;
        head.clear();
        let mut found = None;
        let read = self.cursors.read(&kept.log, &[(from, 1)], |read| {
            let returns = read.returns.max(returns);
            let key = record::moved(read.first, returns, &read.stored, head);
            found = Some((key, read.batch.share(read.stored.body)));
            false
        });
        kept.live.gone(from, 1);
        match (read, found) {
            (Ok(()), Some((key, body))) => self.put(at, offset, key, &body, true),
            (read, _) => {
                let error =
                    read.err().map_or_else(|| "there is no message".to_owned(), |error| error.to_string());
                tracing::error!(log = %kept.log.id(), from, error, "a message cannot be moved");
                self.fail(at);
            }
        }
    }

    /// Moves the starts of logs to where something is needed, and has sparse logs written anew.
    fn trim(&mut self) {
        let mut later = Vec::new();
        for at in std::mem::take(&mut self.trims) {
            let Some(kept) = self.queues.get_mut(&at).filter(|kept| !kept.failed) else { continue };
            if kept.trim.is_none() {
                // One record stays, so that the log is not rolled whenever it is empty.
                let start = kept.live.trim(kept.next).min(kept.next.saturating_sub(1));
                if start > kept.start {
                    kept.trim = Some((start, kept.next));
                }
                kept.moving = kept.moving.filter(|below| start < *below);
                if kept.moving.is_none()
                    && let Some(below) = kept.live.sparse(LogConfig::default().segment_bytes)
                {
                    kept.moving = Some(below);
                    self.shared.told.push(Told::Sparse(at.0, at.1, below));
                }
            }
            let Some((start, end)) = kept.trim else { continue };
            // What was moved from before has to be safe where it is now.
            if (kept.log.safe_end() as u64) < end {
                later.push(at);
                continue;
            }
            kept.trim = None;
            match kept.log.trim(start as i64) {
                Ok(_) => kept.start = start,
                Err(error) => tracing::warn!(%error, "the start of a log stays where it is"),
            }
        }
        self.trims = later;
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
