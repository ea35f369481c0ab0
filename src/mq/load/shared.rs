//! What producers and consumers of a run share: the time, what was sent and received, the end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::bench::Meter;

/// Nanoseconds since the run was prepared: what stands in messages.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
}

impl Clock {
    /// Begins now.
    #[expect(clippy::new_without_default, reason = "it reads the time")]
    pub fn new() -> Self {
        Self { base: Instant::now() }
    }

    /// The time.
    #[inline]
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// An instant as a time; zero for one before the beginning.
    pub fn at(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// When the sending begins.
    pub start: u64,
    /// When measuring begins: what comes before is warming up.
    pub begin: u64,
    /// Deliveries, with their latencies end to end; without consumers what producers sent, or had confirmed.
    pub meter: Meter,
    /// Confirms, with their latencies. A lane for each thread of producers.
    pub confirms: Meter,
    /// Messages sent since `begin`.
    pub sent: AtomicU64,
    /// All messages sent, and all deliveries, warming up included.
    sent_ever: AtomicU64,
    received_ever: AtomicU64,
    /// So many deliveries are all; unknown while it is not known what will be sent.
    expected: AtomicU64,
    complete: Notify,
    over: AtomicBool,
}

impl Shared {
    /// For threads of that many lanes, sending from `start` on and measuring from `begin` on.
    pub fn new(clock: Clock, start: Instant, begin: Instant, lanes: usize) -> Self {
        Self {
            clock,
            start: clock.at(start),
            begin: clock.at(begin),
            meter: Meter::new(lanes, begin.into()),
            confirms: Meter::new(lanes, begin.into()),
            sent: AtomicU64::new(0),
            sent_ever: AtomicU64::new(0),
            received_ever: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
            complete: Notify::new(),
            over: AtomicBool::new(false),
        }
    }

    /// Time since measuring began.
    pub(super) fn elapsed(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.begin))
    }

    /// Producers stop at their next message.
    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether producers have to stop.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn add_sent(&self, count: u64, now: u64) {
        self.sent_ever.fetch_add(count, Ordering::Relaxed);
        if now >= self.begin {
            self.sent.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn add_received(&self, count: u64) {
        let before = self.received_ever.fetch_add(count, Ordering::AcqRel);
        if before + count >= self.expected.load(Ordering::Acquire) {
            self.complete.notify_one();
        }
    }

    /// Messages sent so far.
    pub fn sent_ever(&self) -> u64 {
        self.sent_ever.load(Ordering::Acquire)
    }

    /// Deliveries so far.
    pub fn received_ever(&self) -> u64 {
        self.received_ever.load(Ordering::Acquire)
    }

    /// Waits until so many deliveries have come. Cancel safe.
    pub async fn receive_all(&self, expected: u64) {
        self.expected.store(expected, Ordering::Release);
        while self.received_ever() < expected {
            self.complete.notified().await;
        }
    }
}
