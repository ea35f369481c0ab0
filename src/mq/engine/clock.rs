//! What the engine has to come back to: deadlines of queues and of the engine itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::id::{ExchangeId, QueueId};

/// Milliseconds since 1970. The driver makes it of the wall clock at its start and a monotonic clock since, so that it
/// never goes back: expiry has to survive a restart, which an `Instant` does not.
pub type Millis = u64;

/// What is due at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The message at the front of a queue expires.
    Message(QueueId),
    /// A queue that nobody uses is deleted.
    Queue(QueueId),
    /// A delayed exchange lets messages go.
    Delayed(ExchangeId),
    /// Acknowledgements that were gathered are written.
    Acks,
    /// The log of a queue is told what was delivered.
    Deliveries(QueueId),
    /// Deliveries that were never acknowledged are looked for.
    Unanswered,
}

/// Timers by time. One that is no longer wanted stays until its time and is found idle then.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Millis, Timer)>>,
}

impl Timers {
    pub fn set(&mut self, at: Millis, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    pub fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub fn due(&mut self, now: Millis) -> Option<Timer> {
        match self.heap.peek() {
            Some(Reverse((at, _))) if *at <= now => self.heap.pop().map(|Reverse((_, timer))| timer),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_due_in_order_and_not_early() {
        let mut timers = Timers::default();
        timers.set(30, Timer::Acks);
        timers.set(10, Timer::Unanswered);
        assert_eq!((timers.next(), timers.due(9)), (Some(10), None));
        assert_eq!(
            (timers.due(30), timers.due(30), timers.due(30)),
            (Some(Timer::Unanswered), Some(Timer::Acks), None)
        );
    }
}
