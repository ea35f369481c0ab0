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

impl Time {
    /// The next moment that is as far into its interval as the phase says. Intervals are counted from the beginning.
    pub(super) fn next_in_phase(self, interval: Duration, phase: Duration) -> Self {
        let [interval, phase] =
            [interval, phase].map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let interval = interval.max(1);
        let since = (self.0 % interval + interval - phase % interval) % interval;
        Self(self.0.saturating_add(interval - since))
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
    /// The first of the heap: asked for after every input.
    next: Option<Time>,
    heap: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    /// Those of one time are due in the order in which they were set.
    count: u64,
}

impl Timers {
    pub fn set(&mut self, at: Time, timer: Timer) {
        self.count += 1;
        self.heap.push(Reverse((at, self.count, timer)));
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    pub fn next(&self) -> Option<Time> {
        self.next
    }

    /// The number of the next one.
    pub fn first_set(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((_, count, _))| *count)
    }

    pub fn due(&mut self, now: Time) -> Option<Timer> {
        self.next.filter(|at| *at <= now)?;
        let Reverse((_, _, timer)) = self.heap.pop()?;
        self.next = self.heap.peek().map(|Reverse((at, ..))| *at);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_a_phase_come_once_in_each_interval() {
        let [interval, phase] = [200, 30].map(Duration::from_micros);
        let next = |now| Time(now).next_in_phase(interval, phase).0;
        assert_eq!([0, 29, 30, 31, 229, 230, 1000].map(next), [30, 30, 230, 230, 230, 430, 1030]);
        assert_eq!(Time(7).next_in_phase(interval, Duration::from_micros(430)), Time(30));
        assert_eq!(Time(7).next_in_phase(Duration::ZERO, Duration::ZERO), Time(8));
        assert_eq!(Time(u64::MAX).next_in_phase(interval, phase), Time(u64::MAX));
    }
}
