//! Who waits for a partition to go on: acknowledgements and parked fetches, woken by what they wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// So many are kept before those that are gone are looked for.
const PRUNE_FROM: usize = 32;

/// The wake-up calls of connections. Each connection has one, and looks at all that it waits for when it rings.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    calls: Vec<Arc<Notify>>,
    prune_at: usize,
}

impl Waiters {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings when the partition has gone on. Look again after this: it may have, just before.
    pub(super) fn add(&self, call: &Arc<Notify>) {
        let mut list = self.list();
        if list.calls.iter().any(|known| Arc::ptr_eq(known, call)) {
            return;
        }
        if list.calls.len() >= list.prune_at.max(PRUNE_FROM) {
            // Connections that are gone hold no call of theirs any more.
            list.calls.retain(|call| Arc::strong_count(call) > 1);
            list.prune_at = list.calls.len() * 2;
        }
        list.calls.push(Arc::clone(call));
    }

    /// Rings all, once.
    pub(super) fn wake(&self) {
        let calls = std::mem::take(&mut self.list().calls);
        calls.iter().for_each(|call| call.notify_one());
    }
}
