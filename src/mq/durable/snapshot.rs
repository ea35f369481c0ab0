//! What a log says up to an offset, as bytes: a start reads this and what was written since.
//!
//! ```text
//! version, start, delivered + 1 or 0
//! blocks         first, count, then messages and bytes of each
//! facts          count of the runs, then count and fact of each, from the start on
//! priorities     count, then offset, priority
//! moved          count, then first offset, offset
//! returns        count, then offset, times
//! ```
//!
//! All are zigzag varints. The storage says whether the bytes are whole and of this log; they are believed no further than the
//! log goes all the same.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use super::Shared;
use super::live::Live;
use super::replay::{self, CHUNK, Fact, LIVE, Replayed};
use crate::storage::{Log, LogState, varint};

/// Longest that an orderly stop waits for snapshots.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const VERSION: u64 = 1;

fn put(out: &mut Vec<u8>, number: u64) {
    varint::put(out, number as i64);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    varint::take(bytes).map(|number| number as u64)
}

fn put_pairs(out: &mut Vec<u8>, mut pairs: Vec<(u64, u64)>) {
    pairs.sort_unstable();
    put(out, pairs.len() as u64);
    for (one, other) in pairs {
        put(out, one);
        put(out, other);
    }
}

fn take_pairs(bytes: &mut &[u8], mut found: impl FnMut(u64, u64)) -> Option<()> {
    for _ in 0..take(bytes)? {
        let (one, other) = (take(bytes)?, take(bytes)?);
        found(one, other);
    }
    Some(())
}

/// Facts and how often each stands in a row. They are gone through twice instead of gathered: there can be one for each
/// message.
fn each_run(replayed: &Replayed, mut found: impl FnMut(u64, Fact)) {
    let (mut held, mut last) = (0, 0);
    let mut add = |count: u64, fact: Fact| {
        if fact != last && count > 0 {
            if held > 0 {
                found(held, last);
            }
            (held, last) = (0, fact);
        }
        held += count;
    };
    for chunk in &replayed.facts {
        for same in chunk.chunk_by(|one, other| one == other) {
            add(same.len() as u64, same[0]);
        }
        add((CHUNK - chunk.len()) as u64, 0);
    }
    if held > 0 {
        found(held, last);
    }
}

/// What is to be kept.
pub(super) fn to_bytes(replayed: &Replayed) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, VERSION);
    put(&mut out, replayed.start);
    put(&mut out, replayed.delivered.map_or(0, |delivered| delivered.saturating_add(1)));
    let (first, blocks) = replayed.live.written_blocks();
    put(&mut out, first);
    put(&mut out, blocks.len() as u64);
    for (messages, bytes) in blocks {
        put(&mut out, messages.into());
        put(&mut out, bytes);
    }
    let mut runs = 0;
    each_run(replayed, |_, _| runs += 1);
    put(&mut out, runs);
    each_run(replayed, |count, fact| {
        put(&mut out, count);
        put(&mut out, fact.into());
    });
    let pairs = |number: (&u64, &u8)| (*number.0, u64::from(*number.1));
    put_pairs(&mut out, replayed.priorities.iter().map(pairs).collect());
    let moved = replayed.moved.iter().filter(|(_, offset)| replayed.fact(**offset).is_some());
    put_pairs(&mut out, moved.map(|(first, offset)| (*first, *offset)).collect());
    put_pairs(
        &mut out,
        replayed.returns.iter().map(|(offset, times)| (*offset, u64::from(*times))).collect(),
    );
    out
}

fn from_bytes(mut bytes: &[u8], end: u64, log_start: u64) -> Option<Replayed> {
    let bytes = &mut bytes;
    if take(bytes)? != VERSION {
        return None;
    }
    let from = take(bytes).filter(|from| *from <= end && *from <= log_start)?;
    let mut replayed = Replayed::new(log_start);
    replayed.end = end;
    replayed.delivered = take(bytes)?.checked_sub(1);
    let first = take(bytes)?;
    let mut blocks = Vec::new();
    for _ in 0..take(bytes)? {
        blocks.push((u32::try_from(take(bytes)?).ok()?, take(bytes)?));
    }
    replayed.live = Live::with_written(first, blocks.into_iter());
    let mut at = from;
    for _ in 0..take(bytes)? {
        let (count, fact) = (take(bytes)?, Fact::try_from(take(bytes)?).ok()?);
        let to = at.checked_add(count)?;
        if fact & LIVE != 0 {
            // What the log no longer has is not needed.
            let first = at.max(log_start);
            if to > end {
                return None;
            }
            let count = to.saturating_sub(first);
            replayed.set(first, count, fact);
            replayed.live.needed(first, count);
        }
        at = to;
    }
    take_pairs(bytes, |offset, priority| {
        if offset >= log_start {
            replayed.priorities.insert(offset, u8::try_from(priority).unwrap_or(u8::MAX));
        }
    })?;
    take_pairs(bytes, |first, offset| {
        replayed.moved.insert(first, offset);
    })?;
    take_pairs(bytes, |offset, times| {
        if offset >= log_start {
            replayed.returns.insert(offset, u32::try_from(times).unwrap_or(u32::MAX));
        }
    })?;
    bytes.is_empty().then_some(replayed)
}

/// What a log says up to its last snapshot, if there is one.
pub(super) fn load(log: &Log, state: &LogState) -> Option<Replayed> {
    let snapshot = log.snapshot()?;
    let number = |offset: i64| u64::try_from(offset).ok();
    let replayed = from_bytes(&snapshot.content, number(snapshot.end)?, number(state.start)?);
    if replayed.is_none() {
        tracing::warn!(log = %log.id(), "a snapshot that this version cannot read is not used");
    }
    replayed
}

/// The thread: makes the snapshots that are wanted; at an orderly stop as many as there is time for.
pub(super) fn run(shared: &Shared) {
    let (mut logs, stop) = (Vec::new(), OnceCell::new());
    let stops = || shared.is_closing() && stop.get_or_init(Instant::now).elapsed() > STOP_PATIENCE;
    while shared.snapshots.take(&mut logs, None) {
        for log in logs.drain(..) {
            if stops() {
                return;
            }
            keep(shared, &log, &stops);
        }
    }
}

/// Makes one. When that fails, a start reads more.
pub(super) fn keep(shared: &Shared, log: &Log, stops: &dyn Fn() -> bool) {
    if let Err(error) = replay::keep_snapshot(log, stops)
        && !shared.is_closing()
    {
        // The log was trimmed meanwhile, or its queue deleted, or it is damaged, which whoever reads it says.
        tracing::debug!(log = %log.id(), %error, "no snapshot");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Replayed {
        let mut replayed = Replayed::new(100);
        replayed.set(100, 70_000, 7 | LIVE);
        replayed.set(150, 10, 0);
        replayed.set(300_000, 5, 8 | LIVE);
        replayed.priorities = [(101, 3), (300_001, 255)].into();
        replayed.moved = [(50, 300_000)].into();
        replayed.returns = [(120, 4)].into();
        replayed.delivered = Some(0);
        replayed.end = 300_010;
        for offset in 100..300_010 {
            let is_message = replayed.fact(offset).is_some();
            replayed.live.written(offset, 50, is_message);
        }
        replayed
    }

    #[test]
    fn what_is_kept_comes_back_and_is_short() {
        let before = sample();
        let bytes = to_bytes(&before);
        assert!(bytes.len() < 3000, "{} bytes", bytes.len());
        let after = from_bytes(&bytes, before.end, 100).unwrap();
        let messages = |replayed: &Replayed| replayed.messages().collect::<Vec<_>>();
        assert_eq!(messages(&after), messages(&before));
        assert_eq!(to_bytes(&after), bytes);
        assert_eq!(after.live, before.live);
        // A log that begins later by now.
        let later = from_bytes(&bytes, before.end, 200_000).unwrap();
        assert_eq!(messages(&later).len(), 5);
        assert!(from_bytes(&bytes, 300_000, 100).is_none(), "further than the log goes");
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index, bits: u8) {
            let _ = from_bytes(&bytes, 1000, 0);
            let mut bytes = to_bytes(&sample());
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            let _ = from_bytes(&bytes, 300_010, 100);
            let _ = from_bytes(&bytes[..at], 300_010, 100);
        }
    }
}
