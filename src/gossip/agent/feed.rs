//! What happens, for all who watch: each gets it in order and as fast as it likes. Of whoever is too slow only what came last
//! waits, up to a count and up to a number of bytes; it is told how many events it has missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use crate::gossip::engine::Event;
use crate::gossip::wire::data::{Entry, Value};
use crate::metrics::Counter;

/// Events that a slow watcher may be behind.
const EVENTS_MAX: usize = 4096;
/// Bytes of their names and values. All who stand still hold the same ones.
const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of names and values of an event.
pub(super) fn size(event: &Event) -> usize {
    match event {
        Event::User { name, payload, .. } | Event::Query { name, payload, .. } => name.len() + payload.len(),
        Event::Data(Entry { key, value: Value::Bytes(bytes), .. }) => key.len() + bytes.len(),
        Event::Data(Entry { key, .. }) => key.len(),
        Event::Member { member, .. } => member.name.len() + member.meta.len(),
        _ => 0,
    }
}

/// Where events go in. Clones are the same; with the last one everything ends.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    queues: Arc<Queues>,
    missed: Counter,
}

#[derive(Debug, Default)]
struct Queues(Mutex<Vec<Weak<Queue>>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    missed: u64,
    ended: bool,
}

/// What happens from when it was made.
#[derive(Debug)]
pub struct Watch(Arc<Queue>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Counts what is missed.
    pub fn new(missed: Counter) -> Self {
        Self { queues: Arc::default(), missed }
    }

    /// One more watcher.
    pub fn watch(&self) -> Watch {
        let queue = Arc::new(Queue::default());
        lock(&self.queues.0).push(Arc::downgrade(&queue));
        Watch(queue)
    }

    /// Tells all watchers.
    pub fn send(&self, event: &Arc<Event>) {
        let mut missed = 0;
        lock(&self.queues.0).retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            missed += lock(&queue.waiting).push(event.clone());
            queue.changed.notify_one();
            true
        });
        self.missed.add(missed);
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        for queue in lock(&self.0).iter().filter_map(Weak::upgrade) {
            lock(&queue.waiting).ended = true;
            queue.changed.notify_one();
        }
    }
}

impl Waiting {
    /// How many others have to go for it. The last one stays, however large it is.
    fn push(&mut self, event: Arc<Event>) -> u64 {
        self.bytes += size(&event);
        self.events.push_back(event);
        let mut gone = 0;
        while self.events.len() > EVENTS_MAX || self.bytes > EVENTS_BYTES_MAX && self.events.len() > 1 {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            gone += 1;
        }
        self.missed += gone;
        gone
    }

    fn next(&mut self) -> Option<Result<Arc<Event>, RecvError>> {
        match std::mem::take(&mut self.missed) {
            0 => {}
            missed => return Some(Err(RecvError::Lagged(missed))),
        }
        let Some(event) = self.events.pop_front() else {
            return self.ended.then_some(Err(RecvError::Closed));
        };
        self.bytes -= size(&event);
        Some(Ok(event))
    }
}

impl Watch {
    /// The next event. It may be dropped where it waits.
    ///
    /// # Errors
    /// So many have been missed before the next one, or there will be none.
    pub async fn recv(&mut self) -> Result<Arc<Event>, RecvError> {
        loop {
            let next = lock(&self.0.waiting).next();
            match next {
                Some(next) => return next,
                None => self.0.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::wire::data::Version;
    use crate::metrics::Registry;

    fn event(counter: u64, bytes: usize) -> Arc<Event> {
        let version = Version { counter, writer: "a".into() };
        let value = Value::Bytes(vec![0; bytes].into());
        Arc::new(Event::Data(Entry { key: "".into(), version, value }))
    }

    fn feed() -> Feed {
        Feed::new(Registry::default().counter("missed", "Missed."))
    }

    /// What comes next: the counter of an event, or how many were missed.
    async fn next(watch: &mut Watch) -> Result<u64, RecvError> {
        watch.recv().await.map(|event| match &*event {
            Event::Data(entry) => entry.version.counter,
            _ => panic!("no other was sent"),
        })
    }

    #[tokio::test]
    async fn whoever_stands_still_holds_the_last_ones_within_both_bounds() {
        let feed = feed();
        let (mut fast, mut slow) = (feed.watch(), feed.watch());
        for counter in 0..20 {
            feed.send(&event(counter, 1 << 20));
            assert_eq!(next(&mut fast).await, Ok(counter));
        }
        assert_eq!(lock(&slow.0.waiting).bytes, 16 << 20);
        assert_eq!(next(&mut slow).await, Err(RecvError::Lagged(4)));
        assert_eq!(next(&mut slow).await, Ok(4));
        for counter in 20..5000 {
            feed.send(&event(counter, 0));
        }
        assert_eq!(next(&mut slow).await, Err(RecvError::Lagged(4995 - 4096)));
        assert_eq!(next(&mut slow).await, Ok(5000 - 4096));
        assert_eq!(feed.missed.value(), 2 * (4980 - 4096) + 4 + 15);
    }

    #[tokio::test]
    async fn one_that_is_too_large_is_told_and_the_end_comes_after_the_last() {
        let feed = feed();
        let (mut watch, gone) = (feed.watch(), feed.watch());
        drop(gone);
        feed.send(&event(1, 0));
        feed.send(&event(2, EVENTS_BYTES_MAX + 1));
        assert_eq!(lock(&feed.queues.0).len(), 1);
        drop(feed);
        assert_eq!(next(&mut watch).await, Err(RecvError::Lagged(1)));
        assert_eq!(next(&mut watch).await, Ok(2));
        assert_eq!(next(&mut watch).await, Err(RecvError::Closed));
        assert_eq!(lock(&watch.0.waiting).bytes, 0);
    }
}
