//! The teller: what became safe, or failed, goes to the engines, each locked once for all that came together.

use std::sync::Weak;

use super::Shared;
use crate::mq::engine::QueueId;
use crate::storage::{Error, LogId, Observer, Synced};

/// What the storage has to tell.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// A queue's log is safe before an offset.
    Stored(usize, QueueId, u64),
    /// A queue's log cannot be written any more.
    Failed(usize, QueueId),
    /// A queue's log should be rid of what stands before an offset.
    Sparse(usize, QueueId, u64),
    /// The definitions are safe before an offset.
    Definitions(i64),
    /// Definitions cannot be written any more.
    DefinitionsFailed,
}

impl Told {
    fn host(&self) -> Option<usize> {
        match self {
            Self::Stored(host, ..) | Self::Failed(host, _) | Self::Sparse(host, ..) => Some(*host),
            Self::Definitions(_) | Self::DefinitionsFailed => None,
        }
    }
}

/// Hears of a queue's log.
pub(super) struct QueueTold {
    pub shared: Weak<Shared>,
    pub host: usize,
    pub queue: QueueId,
}

impl Observer for QueueTold {
    fn synced(&self, synced: Synced) {
        if let Some(shared) = self.shared.upgrade() {
            shared.told.push(Told::Stored(self.host, self.queue, u64::try_from(synced.end).unwrap_or(0)));
            shared.look_behind();
        }
    }

    fn failed(&self, _log: LogId, _error: &Error) {
        if let Some(shared) = self.shared.upgrade() {
            shared.told.push(Told::Failed(self.host, self.queue));
            shared.look_behind();
        }
    }
}

/// Hears of the log of definitions.
pub(super) struct DefinitionsTold(pub Weak<Shared>);

impl Observer for DefinitionsTold {
    fn synced(&self, synced: Synced) {
        if let Some(shared) = self.0.upgrade() {
            shared.told.push(Told::Definitions(synced.end));
            shared.look_behind();
        }
    }

    fn failed(&self, _log: LogId, error: &Error) {
        if let Some(shared) = self.0.upgrade() {
            shared.fail(error);
        }
    }
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    let mut told = Vec::new();
    while shared.told.take(&mut told, None) {
        tell(shared, &mut told);
    }
}

/// Tells everything.
pub(super) fn tell(shared: &Shared, told: &mut Vec<Told>) {
    let mut defined = Vec::new();
    for one in told.iter() {
        match one {
            Told::Definitions(end) => definitions(shared, *end, &mut defined),
            Told::DefinitionsFailed => {
                // Whoever waits for his word hears that it is not kept.
                shared.lock(&shared.definitions).clear();
                shared.owners().iter().for_each(|owner| owner.definitions_failed());
                shared.failure.send_modify(|_| {});
            }
            _ => {}
        }
    }
    told.retain(|one| one.host().is_some());
    hold_undefined(shared, told);
    // Before what is told of the same queues by now.
    told.splice(..0, defined);
    told.sort_by_key(Told::host);
    for same in told.chunk_by(|one, other| one.host() == other.host()) {
        let owner = same.first().and_then(Told::host).and_then(|host| shared.owner(host));
        let Some(owner) = owner else { continue };
        owner.with_engine(&mut |engine, out, now| {
            for one in same {
                match one {
                    Told::Stored(_, queue, end) => engine.stored(now, *queue, *end, out),
                    Told::Failed(_, queue) => engine.store_failed(now, *queue, out),
                    Told::Sparse(_, queue, below) => engine.compact(*queue, *below, out),
                    Told::Definitions(_) | Told::DefinitionsFailed => {}
                }
            }
        });
    }
    told.clear();
}

/// What is in the log of a queue is safe once its definition is: without it, a start does not find the log.
fn hold_undefined(shared: &Shared, told: &mut Vec<Told>) {
    let mut undefined = shared.lock(&shared.undefined);
    if undefined.is_empty() {
        return;
    }
    told.retain(|one| match one {
        Told::Stored(host, queue, end) => {
            let held = undefined.get_mut(&(*host, *queue));
            held.map(|held| *held = (*held).max(Some(*end))).is_none()
        }
        _ => true,
    });
}

/// Tells who waited for the definitions before an offset, and what is safe with them.
fn definitions(shared: &Shared, end: i64, defined: &mut Vec<Told>) {
    let mut done = Vec::new();
    {
        let mut waiting = shared.lock(&shared.definitions);
        while waiting.front().is_some_and(|one| one.end <= end) {
            done.extend(waiting.pop_front());
        }
    }
    for one in done {
        if !one.begun.is_empty() {
            let mut undefined = shared.lock(&shared.undefined);
            let stored = one.begun.iter().filter_map(|at| Some((at, undefined.remove(at)??)));
            defined.extend(stored.map(|((host, queue), end)| Told::Stored(*host, *queue, end)));
        }
        if let Some(owner) = shared.owner(one.host) {
            owner.definitions_stored(one.changes);
        }
        for done in one.done {
            // Who asked may be gone.
            let _ = done.send(());
        }
    }
}
