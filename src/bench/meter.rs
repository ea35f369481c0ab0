//! What a run measures, counted by several threads at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::report::Tally;
use super::{Report, Sample};

/// Counts and latencies of one run. Each thread has a lane, so that nobody waits for a lock but once a second.
#[derive(Debug)]
pub struct Meter {
    begin: Instant,
    lanes: Vec<Mutex<Tally>>,
    total: Mutex<Tally>,
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// For a run that begins at `begin`, measured by `lanes` threads, at least one.
    pub fn new(lanes: usize, begin: Instant) -> Self {
        Self { begin, lanes: (0..lanes.max(1)).map(|_| Mutex::default()).collect(), total: Mutex::default() }
    }

    /// Where one thread counts.
    ///
    /// # Panics
    /// `lane` is not below the number of lanes.
    pub fn lane(&self, lane: usize) -> MutexGuard<'_, Tally> {
        lock(&self.lanes[lane])
    }

    /// What happened since the last time this was called.
    pub fn sample(&self) -> Sample {
        let mut interval = Tally::default();
        for lane in &self.lanes {
            interval.merge(std::mem::take(&mut *lock(lane)));
        }
        let sample = Sample::new(self.begin.elapsed(), &interval);
        lock(&self.total).merge(interval);
        sample
    }

    /// Everything until now. The run's time is that of what came last.
    pub fn report(&self) -> Report {
        self.sample();
        Report::new(&lock(&self.total))
    }
}
