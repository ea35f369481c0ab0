//! What requests that are still coming in may hold, all connections together.
//!
//! A request costs memory as it comes, and who begins one need never end it. Small ones are free; larger ones take of a
//! bound that all share, wait for each other, and are ended when they stand still while others wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What each connection holds without asking.
pub(super) const FREE_BYTES: usize = 16 << 10;
/// Beyond what is free, a connection takes so much at a time.
const STEP_BYTES: usize = 64 << 10;
/// How long a request waits for room. Those before it are done, or ended, by then.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// While others wait for room, a request that has begun may stand still for so long.
pub(super) const STILL_MAX: Duration = Duration::from_secs(5);

/// The bound of all connections.
#[derive(Debug)]
pub(super) struct Rooms {
    bytes_max: usize,
    held: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
}

impl Rooms {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        let (held, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { bytes_max, held, waiting, freed: Notify::new() })
    }

    /// Nothing yet, for one connection.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        Room { rooms: Arc::clone(self), held: 0 }
    }

    fn take(&self, more: usize) -> bool {
        let grow = |held: usize| held.checked_add(more).filter(|sum| *sum <= self.bytes_max);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }
}

/// What one connection holds; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    rooms: Arc<Rooms>,
    held: usize,
}

impl Room {
    /// Holds at least `bytes` from now on. Waits for others to give back, if they do so soon.
    ///
    /// # Errors
    /// They do not.
    pub(super) async fn hold(&mut self, bytes: usize) -> io::Result<()> {
        let missing = bytes.saturating_sub(FREE_BYTES).saturating_sub(self.held);
        if missing == 0 {
            return Ok(());
        }
        let more = missing.next_multiple_of(STEP_BYTES);
        if !self.rooms.take(more) {
            let _waiting = Waiting::new(&self.rooms.waiting);
            let until = Instant::now() + WAIT_MAX;
            loop {
                let freed = self.rooms.freed.notified();
                tokio::pin!(freed);
                // Before it is looked at, so that nothing that is given back meanwhile is missed.
                freed.as_mut().enable();
                if self.rooms.take(more) {
                    break;
                }
                if timeout_at(until, freed).await.is_err() {
                    let max = self.rooms.bytes_max;
                    let text = format!("no room for {more} bytes more: requests hold {max} bytes already");
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
                }
            }
        }
        self.held += more;
        Ok(())
    }

    /// Holds something that others wait for.
    pub(super) fn is_wanted(&self) -> bool {
        self.held > 0 && self.rooms.waiting.load(Ordering::Relaxed) > 0
    }

    /// Holds anything beyond what is free.
    pub(super) fn is_held(&self) -> bool {
        self.held > 0
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held > 0 {
            self.rooms.held.fetch_sub(held, Ordering::Relaxed);
            self.rooms.freed.notify_waiters();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn connections_share_one_bound_and_small_requests_are_free() {
        let rooms = Rooms::new(MIB);
        let mut rooms_of: Vec<Room> = (0..1000).map(|_| rooms.room()).collect();
        for room in &mut rooms_of {
            room.hold(FREE_BYTES).await.unwrap();
        }
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
        rooms_of[0].hold(MIB).await.unwrap();
        let since = Instant::now();
        let error = rooms_of[1].hold(MIB).await.unwrap_err();
        assert_eq!((error.kind(), since.elapsed()), (io::ErrorKind::OutOfMemory, WAIT_MAX));
        assert!(!rooms_of[0].is_wanted(), "nobody waits any more");
        drop(rooms_of);
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_its_room_when_another_gives_it_back() {
        let rooms = Rooms::new(MIB);
        let (mut one, mut other) = (rooms.room(), rooms.room());
        one.hold(MIB).await.unwrap();
        let gives_back = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(one.is_wanted());
            one.clear();
        };
        let (held, ()) = tokio::join!(other.hold(MIB), gives_back);
        held.unwrap();
        assert!(other.is_held() && !other.is_wanted());
    }
}
