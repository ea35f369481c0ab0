//! The keeper: removes logs of queues that were deleted, and watches the space on the disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use crate::storage::{Error, Log, LogId};

/// How often a disk that is short of space is looked at.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);
/// How often any other is: other programs fill it, too.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What was cut or is of no known queue is kept for so long: a week.
const TRASH_AGE_MS: u64 = 7 * 24 * 3600 * 1000;

/// Something that can wait.
pub(super) enum Chore {
    /// Remove a log once another one is safe up to an offset: the one that says that it is no more.
    Remove { log: LogId, after: Log, end: i64 },
    /// Put a log aside that no definition knows.
    Discard(LogId),
    /// Look for space.
    Look,
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    let mut chores = vec![Chore::Look];
    let _ = shared.with_store(|store| store.empty_trash(TRASH_AGE_MS));
    loop {
        work(shared, &mut chores);
        look(shared);
        let patience = if shared.short.load(Ordering::Acquire) { SHORT_PATIENCE } else { LOOK_EVERY };
        if !shared.chores.take(&mut chores, Some(patience)) {
            return;
        }
    }
}

/// Does all there is to do, and removes what is to be removed together: what that costs is mostly the checkpoint.
pub(super) fn work(shared: &Shared, chores: &mut Vec<Chore>) {
    let (mut doomed, mut unknown) = (Vec::new(), Vec::new());
    for chore in chores.drain(..) {
        let done = match chore {
            Chore::Look => Ok(()),
            Chore::Discard(log) => {
                tracing::warn!(%log, "no queue has this log: it is in trash/ for a week");
                unknown.push(log);
                Ok(())
            }
            Chore::Remove { log, after, end } => after.wait(end).map(|()| doomed.push(log)),
        };
        tell(shared, done);
    }
    if !unknown.is_empty() {
        tell(shared, shared.with_store(|store| store.discard_all(&unknown)));
    }
    if !doomed.is_empty() {
        tell(shared, shared.with_store(|store| store.remove_all(&doomed)));
    }
    // What was not synced of it need not be.
    shared.look_behind();
}

fn tell(shared: &Shared, done: Result<(), Error>) {
    if let Err(error) = done
        && !shared.is_closing()
    {
        tracing::warn!(%error, "a log that nobody needs is not removed");
    }
}

/// Compares the space with what there has to be.
pub(super) fn look(shared: &Shared) {
    let min = shared.options.disk_free_min;
    let short =
        shared.with_store(|store| Ok(store.is_full() || store.free_bytes().is_ok_and(|free| free < min)));
    let Ok(short) = short else { return };
    if shared.short.swap(short, Ordering::AcqRel) == short {
        return;
    }
    let dir = shared.options.dir.display();
    if short {
        tracing::warn!(%dir, min, "the disk is short of space: publishers are blocked");
    } else {
        // As loud as what it takes back.
        tracing::warn!(%dir, "there is space on the disk again: publishers go on");
    }
    shared.owners().iter().for_each(|owner| owner.disk_is_short(short));
}
