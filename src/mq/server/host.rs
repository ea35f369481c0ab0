//! One virtual host: the engine behind its lock, the outboxes of its connections, its clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use super::outbox::Outbox;
use crate::mq::engine::{Config, ConnectionId, Engine, Id as _, Millis, Outputs, Peer, Totals};

/// What memory being short is called in `connection.blocked`: RabbitMQ's word.
const LOW_ON_MEMORY: &str = "low on memory";

/// See the module.
pub(super) struct Host {
    name: String,
    state: Mutex<State>,
    /// The engine's deadline has come nearer.
    sooner: Notify,
    /// How many changes of definitions are on disk.
    stored: watch::Sender<u64>,
    memory_max: u64,
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
    alarm: bool,
    /// Changes of definitions so far.
    changes: u64,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Host {
    pub fn new(name: &str, config: Config, memory_max: u64) -> Arc<Self> {
        let random = Box::new(|| {
            let mut bytes = [0; 8];
            // Names and reply addresses must not be guessed; a kernel that cannot fill eight bytes does not exist.
            if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(bytes.len()) {
                return fastrand::u64(..);
            }
            u64::from_ne_bytes(bytes)
        });
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::new(State {
                engine: Engine::new(name, config, random),
                out: Outputs::default(),
                outboxes: Vec::new(),
                now: 0,
                armed: Millis::MAX,
                alarm: false,
                changes: 0,
            }),
            sooner: Notify::new(),
            stored: watch::Sender::new(0),
            memory_max,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes of definitions are on disk, as it goes on.
    pub fn stored(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }

    pub fn totals(&self) -> Totals {
        self.state().engine.totals()
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

    /// One batch: `work` under the lock, then what came out to where it goes.
    pub fn run<R>(&self, work: impl FnOnce(&mut Engine, &mut Outputs, Millis) -> R) -> R {
        let mut state = self.state();
        let State { engine, out, outboxes, now, armed, alarm, changes } = &mut *state;
        *now = (*now).max(wall_clock());
        let result = work(engine, out, *now);
        engine.finish(out);
        let resident = engine.resident();
        if *alarm != (resident > self.memory_max) && (!*alarm || resident < self.memory_max / 10 * 9) {
            *alarm = !*alarm;
            tracing::warn!(
                vhost = self.name,
                resident,
                "memory is {}",
                if *alarm { "short" } else { "free again" }
            );
            engine.set_alarm(alarm.then_some(LOW_ON_MEMORY), out);
        }
        if !out.is_empty() {
            for lane in out.connections() {
                if let Some(Some((id, outbox))) = outboxes.get(lane.connection.index())
                    && *id == lane.connection
                {
                    outbox.push(&mut lane.sends, lane.cost, *changes);
                }
            }
            out.clear();
        }
        if engine.deadline().is_some_and(|deadline| deadline < *armed) {
            self.sooner.notify_one();
        }
        result
    }

    /// Gives the engine the time whenever it asked for it. Never ends.
    pub async fn keep_time(&self) {
        loop {
            let wait = {
                let mut state = self.state();
                state.armed = state.engine.deadline().unwrap_or(Millis::MAX);
                let armed = state.armed;
                (armed != Millis::MAX).then(|| Duration::from_millis(armed.saturating_sub(wall_clock())))
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

/// Milliseconds since 1970.
fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
