//! One virtual host: the engine behind its lock, the outboxes of its connections, its clock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::outbox::{Last, Outbox};
use crate::mq::durable::{Durable, Link, Owner};
use crate::mq::engine::{Config, ConnectionId, Engine, Id as _, Millis, Outputs, Peer, Totals};
use crate::mq::wire::ReplyCode;

/// How long one gives way to a thread that waits for the state: one that slept is awake by then.
const GIVE_WAY_MAX: Duration = Duration::from_millis(1);

/// What is short, as `connection.blocked` says it: RabbitMQ's words.
fn reason(memory: bool, disk: bool) -> Option<&'static str> {
    match (memory, disk) {
        (false, false) => None,
        (true, false) => Some("low on memory"),
        (false, true) => Some("low on disk"),
        (true, true) => Some("low on memory & disk"),
    }
}

/// See the module.
pub(super) struct Host {
    name: String,
    state: Mutex<State>,
    /// Threads that wait for the state, or are about to have it.
    waiting: AtomicUsize,
    /// The engine's deadline has come nearer.
    sooner: Notify,
    clock: Clock,
    /// How many changes of definitions are on disk.
    stored: watch::Sender<u64>,
    memory_max: u64,
    /// Bytes of deliveries that a connection is given before it has written any.
    pub credit: u32,
    /// Bytes of contents that have not all come, of all its connections.
    partial: AtomicU64,
    /// Where durable queues are kept, if anywhere.
    link: Option<Link>,
    /// The publisher whose turn it is to wait for consumers may go on.
    caught_up: Notify,
    turn: tokio::sync::Mutex<()>,
    /// Nothing comes in any more.
    closed: watch::Sender<bool>,
}

struct State {
    engine: Engine,
    out: Outputs,
    /// By the index of the connection.
    outboxes: Vec<Option<(ConnectionId, Arc<Outbox>)>>,
    /// The time given to the engine last: it must not go back.
    now: Millis,
    /// What the clock waits for.
    armed: Millis,
    /// Memory is short.
    memory_short: bool,
    disk_short: bool,
    /// Both, as the engine knows it.
    alarm: (bool, bool),
    /// Changes of definitions so far.
    changes: u64,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Host {
    /// An empty one, or one with what `durable` has of it.
    pub fn new(name: &str, config: Config, memory_max: u64, durable: Option<&Durable>) -> Arc<Self> {
        let random = Box::new(|| {
            let mut bytes = [0; 8];
            // Names and reply addresses must not be guessed; a kernel that cannot fill eight bytes does not exist.
            if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(bytes.len()) {
                return fastrand::u64(..);
            }
            u64::from_ne_bytes(bytes)
        });
        let link = durable.map(|durable| durable.link(name));
        let credit = config.credit;
        let host = Arc::new(Self {
            link: link.clone(),
            name: name.to_owned(),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State {
                engine: Engine::new(name, config, random),
                out: Outputs::default(),
                outboxes: Vec::new(),
                now: 0,
                armed: Millis::MAX,
                memory_short: false,
                disk_short: false,
                alarm: (false, false),
                changes: 0,
            }),
            sooner: Notify::new(),
            clock: Clock::start(),
            stored: watch::Sender::new(0),
            memory_max,
            credit,
            partial: AtomicU64::new(0),
            caught_up: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            closed: watch::Sender::new(false),
        });
        if let (Some(durable), Some(link)) = (durable, link) {
            host.run(|engine, out, now| durable.recover(&link, engine, now, out));
            let owner: Arc<dyn Owner> = host.clone();
            durable.own(&link, Arc::downgrade(&owner));
            // It may have been short before there was anybody to tell.
            host.disk_is_short(link.disk_is_short());
        }
        host
    }

    /// Where durable queues are kept, if anywhere.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                state
            }
        }
    }

    /// How many changes of definitions are on disk, as it goes on.
    pub fn stored(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn totals(&self) -> Totals {
        self.state().engine.totals()
    }

    /// Whether something waits here that a restart would not find.
    pub fn would_lose(&self) -> bool {
        self.state().engine.would_lose()
    }

    /// Ends it with everything on it: it was deleted.
    pub fn close(&self) {
        self.run(|engine, out, now| engine.delete_all(now, out));
        self.closed.send_replace(true);
    }

    /// Returns when it was.
    pub async fn closed(&self) {
        // The sender lives in self, so this cannot fail while we are borrowed.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Returns when every change of definitions so far is on disk; false if that is not to be.
    pub async fn settled(&self) -> bool {
        let changes = self.state().changes;
        let mut stored = self.stored.subscribe();
        tokio::select! {
            stored = stored.wait_for(|stored| *stored >= changes) => stored.is_ok(),
            () = self.closed() => false,
        }
    }

    /// Looks at what there is.
    pub fn look<R>(&self, at: impl FnOnce(&Engine) -> R) -> R {
        at(&self.state().engine)
    }

    /// Whether memory is short.
    pub fn is_short(&self) -> bool {
        self.state().memory_short
    }

    /// The same, with what has changed since the last batch.
    pub fn is_short_now(&self) -> bool {
        self.run(|_, _, _| ());
        self.is_short()
    }

    /// A connection that held `old` bytes of contents that have not all come holds `new` now.
    pub fn count_partial(&self, old: u64, new: u64) {
        if old != new {
            self.partial.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
        }
    }

    /// Takes in a connection.
    pub fn connect(&self, peer: Peer, outbox: Arc<Outbox>) -> ConnectionId {
        let mut state = self.state();
        let id = state.engine.connect(peer);
        let index = id.index();
        if index >= state.outboxes.len() {
            state.outboxes.resize_with(index + 1, || None);
        }
        state.outboxes[index] = Some((id, outbox));
        id
    }

    /// Lets go of everything a connection holds.
    pub fn disconnect(&self, id: ConnectionId) {
        self.run(|engine, out, now| engine.disconnect(now, id, out));
        let mut state = self.state();
        if let Some(slot) = state.outboxes.get_mut(id.index())
            && slot.as_ref().is_some_and(|(held, _)| *held == id)
        {
            *slot = None;
        }
    }

    /// Lets others have the state who wait for it: a lock that is taken again at once would be had by the same thread for ever.
    pub async fn give_way(&self) {
        tokio::task::yield_now().await;
        let until = Instant::now() + GIVE_WAY_MAX;
        while self.waiting.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    /// One batch: `work` under the lock, then what came out to where it goes.
    pub fn run<R>(&self, work: impl FnOnce(&mut Engine, &mut Outputs, Millis) -> R) -> R {
        let mut state = self.state();
        let State { engine, out, outboxes, now, armed, memory_short, disk_short, alarm, changes } =
            &mut *state;
        *now = (*now).max(self.clock.now());
        let result = work(engine, out, *now);
        engine.finish(out);
        let resident = engine.resident() + self.partial.load(Ordering::Relaxed);
        let is_short = resident > self.memory_max;
        if *memory_short != is_short && (!*memory_short || resident < self.memory_max / 10 * 9) {
            *memory_short = is_short;
            let what = if is_short { "short" } else { "free again" };
            tracing::warn!(vhost = self.name, resident, "memory is {what}");
        }
        if *alarm != (*memory_short, *disk_short) {
            *alarm = (*memory_short, *disk_short);
            engine.set_alarm(reason(*memory_short, *disk_short), out);
        }
        if !out.is_empty() {
            *changes += out.changes.len() as u64;
            if let Some(link) = &self.link {
                link.submit(engine, out, *changes);
            } else if !out.changes.is_empty() {
                self.stored.send_replace(*changes);
            }
            let stored = *self.stored.borrow();
            for lane in out.connections() {
                if let Some(Some((id, outbox))) = outboxes.get(lane.connection.index())
                    && *id == lane.connection
                {
                    outbox.push(&mut lane.sends, lane.cost, *changes, stored);
                }
            }
            out.clear();
        }
        if engine.take_paced() {
            self.caught_up.notify_waiters();
        }
        if engine.deadline().is_some_and(|deadline| deadline < *armed) {
            self.sooner.notify_one();
        }
        result
    }

    /// Waits until consumers have taken what `ran_ahead` of them, or would have if they were not slow. Cancel safe.
    pub async fn keep_pace(&self, ran_ahead: u64) {
        // First come, first served.
        let _turn = self.turn.lock().await;
        loop {
            let caught_up = self.caught_up.notified();
            let Some(wait) = self.run(|engine, _, now| engine.pace(ran_ahead, now)) else { return };
            // Whichever comes first is looked at again.
            let _ = timeout(Duration::from_millis(wait), caught_up).await;
        }
    }

    /// Gives the engine the time whenever it asked for it. Never ends.
    pub async fn keep_time(&self) {
        loop {
            let wait = {
                let mut state = self.state();
                state.armed = state.engine.deadline().unwrap_or(Millis::MAX);
                let armed = state.armed;
                (armed != Millis::MAX).then(|| Duration::from_millis(armed.saturating_sub(self.clock.now())))
            };
            match wait {
                None => self.sooner.notified().await,
                Some(Duration::ZERO) => {
                    self.run(|engine, out, now| engine.tick(now, out));
                    tokio::task::yield_now().await;
                }
                Some(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.sooner.notified() => {}
                },
            }
        }
    }
}

impl Owner for Host {
    fn with_engine(&self, work: &mut dyn FnMut(&mut Engine, &mut Outputs, Millis)) {
        self.run(|engine, out, now| work(engine, out, now));
    }

    fn definitions_stored(&self, changes: u64) {
        self.stored.send_if_modified(|stored| std::mem::replace(stored, (*stored).max(changes)) < changes);
    }

    fn definitions_failed(&self) {
        let code = ReplyCode::InternalError;
        let last = Last::Close {
            code: code.number(),
            text: code.reply_text("definitions cannot be stored: the broker stops"),
            method: (0, 0),
        };
        let state = self.state();
        state.outboxes.iter().flatten().for_each(|(_, outbox)| outbox.give_up(last.clone()));
        drop(state);
        self.closed.send_replace(true);
    }

    fn disk_is_short(&self, short: bool) {
        {
            let mut state = self.state();
            // Whoever comes last says what is true now.
            state.disk_short = self.link.as_ref().map_or(short, Link::disk_is_short);
        }
        self.run(|_, _, _| ());
    }
}

/// The time of the engine: that of the wall at the start, and from there on a clock that nobody sets. What expires would
/// otherwise wait for as long as the wall clock was set back.
#[derive(Debug)]
struct Clock {
    start: Millis,
    since: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { start: wall_clock(), since: Instant::now() }
    }

    fn now(&self) -> Millis {
        let since = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(Millis::MAX);
        self.start.saturating_add(since)
    }
}

/// Milliseconds since 1970.
pub(super) fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_engine_follows_a_clock_that_nobody_sets() {
        let host = Host::new("/", Config::default(), u64::MAX, None);
        let before = host.run(|_, _, now| now);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(host.run(|_, _, now| now) - before, 10_000);
    }
}
