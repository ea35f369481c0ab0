//! Connections that have not come through the handshake: when there is no room, the oldest of them gives way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long one may be silent though others wait: a first packet that is lost comes again within it.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(1);

/// Connections that have not come through the handshake. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Silent(Arc<Mutex<Waiting>>);

/// By number: who came first is first.
#[derive(Debug, Default)]
struct Waiting {
    all: BTreeMap<u64, Entry>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    gives_way: Arc<Notify>,
}

/// A connection before its handshake; it is silent no more once this is dropped.
#[derive(Debug)]
pub(super) struct Newcomer {
    silent: Silent,
    number: u64,
    gives_way: Arc<Notify>,
}

impl Silent {
    /// One that has just come.
    pub fn newcomer(&self) -> Newcomer {
        let gives_way = Arc::new(Notify::new());
        let mut waiting = self.waiting();
        let number = waiting.count;
        waiting.count += 1;
        waiting.all.insert(number, Entry { since: Instant::now(), gives_way: gives_way.clone() });
        Newcomer { silent: self.clone(), number, gives_way }
    }

    /// Returns when the oldest has been told to give way: once it has been silent for long enough.
    pub async fn one_gives_way(&self) {
        loop {
            let now = Instant::now();
            let next = {
                let mut waiting = self.waiting();
                let Some(oldest) = waiting.all.first_entry() else { break };
                if now - oldest.get().since >= SILENT_MAX {
                    oldest.remove().gives_way.notify_one();
                    return;
                }
                oldest.get().since + SILENT_MAX
            };
            sleep_until(next).await;
        }
        // All are served: somebody has to leave.
        std::future::pending().await
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newcomer {
    /// Returns when others need the room.
    pub async fn gives_way(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.silent.waiting().all.remove(&self.number);
    }
}
