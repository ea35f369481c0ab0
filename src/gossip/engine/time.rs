//! Time as an engine knows it: since a moment that its driver chose; and what it has to come back to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since the driver's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// How long ago the other time was; nothing if it is still to come.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What is due at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Pass on what is queued.
    Gossip,
    /// Ask the next member whether it is there.
    Probe,
    /// No answer yet: ask others, and ask over TCP.
    ProbeLate(u32),
    /// No answer at all.
    ProbeOver(u32),
    /// The one we asked for somebody does not answer.
    ForwardLate(u32),
    /// Nothing that comes for somebody is passed on any more.
    ForwardOver(u32),
    /// A suspect has not objected.
    Suspicion(u32),
    /// Exchange states with somebody.
    PushPull,
    /// A query is not answered any more.
    Query(u64, u32),
    /// Forget who has been gone for long.
    Reap,
    /// Try to reach somebody who failed.
    Reconnect,
    /// Leaving goes on even if not everything has been told.
    Leave,
    /// Data of our own: ask, remind, forget.
    Data,
}

/// Timers by time. One that is no longer wanted stays until its time and is found idle then.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    /// Those of one time are due in the order in which they were set.
    count: u64,
}

impl Timers {
    pub fn set(&mut self, at: Time, timer: Timer) {
        self.count += 1;
        self.heap.push(Reverse((at, self.count, timer)));
    }

    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn due(&mut self, now: Time) -> Option<Timer> {
        match self.heap.peek() {
            Some(Reverse((at, ..))) if *at <= now => self.heap.pop().map(|Reverse((_, _, timer))| timer),
            _ => None,
        }
    }
}
