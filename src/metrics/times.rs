//! How long things took: counted in buckets without a lock, and what can be told from the counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of one decade, in tenths of its first: 6 to 13 % apart, and round, so that the coarse bounds that
/// Prometheus is told are among them.
const DECADE: [u64; 22] =
    [10, 11, 12, 13, 14, 16, 18, 20, 22, 25, 28, 30, 34, 38, 42, 46, 50, 56, 62, 70, 78, 88];

/// From a microsecond to 100 seconds.
const DECADES: usize = 8;

/// A tenth of the first bound.
const UNIT_NANOS: u64 = 100;

/// Upper bounds of the buckets, in nanoseconds; a bound belongs to its bucket. What takes longer than the last has
/// a bucket without a bound.
pub static BOUNDS_NANOS: [u64; DECADES * DECADE.len() + 1] = bounds();

const fn bounds() -> [u64; DECADES * DECADE.len() + 1] {
    let mut bounds = [0; DECADES * DECADE.len() + 1];
    let (mut at, mut unit) = (0, UNIT_NANOS);
    while at < bounds.len() {
        bounds[at] = DECADE[at % DECADE.len()] * unit;
        at += 1;
        if at % DECADE.len() == 0 {
            unit *= 10;
        }
    }
    bounds
}

/// Counts how long things took. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    counts: [AtomicU64; BOUNDS_NANOS.len() + 1],
    nanos: AtomicU64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// One that took this long.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        // 584 years until it wraps.
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many until now.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// All times together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed))
    }

    /// How many there are in each bucket of [`BOUNDS_NANOS`], and at last how many took longer.
    pub fn counts(&self) -> Vec<u64> {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Counts of times at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Upper bounds in nanoseconds, rising.
    bounds: Arc<[u64]>,
    /// One for each bound, one for what took longer; what is missing is 0.
    counts: Vec<u64>,
}

impl Spread {
    /// Counts, whoever made them: more than there are buckets for are left out.
    pub fn new(bounds: Arc<[u64]>, mut counts: Vec<u64>) -> Self {
        counts.truncate(bounds.len() + 1);
        Self { bounds, counts }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What has come since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.bounds != before.bounds {
            return self.clone();
        }
        let earlier = before.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(earlier).map(|(now, then)| now.saturating_sub(then)).collect();
        Self { bounds: Arc::clone(&self.bounds), counts }
    }

    /// Adds another's. Where its buckets are not the same, those of this one that hold their bounds are used.
    pub fn add(&mut self, other: &Self) {
        if self.bounds.is_empty() {
            self.bounds = Arc::clone(&other.bounds);
        }
        self.counts.resize(self.bounds.len() + 1, 0);
        for (at, count) in other.counts.iter().enumerate() {
            let bucket = match other.bounds.get(at) {
                _ if self.bounds == other.bounds => at,
                Some(bound) => self.bounds.partition_point(|own| own < bound),
                None => self.bounds.len(),
            };
            self.counts[bucket] = self.counts[bucket].saturating_add(*count);
        }
    }

    /// So long took the part `quantile` of them (0 to 1) at most, as exactly as the buckets tell; `None` of nothing.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a count is a count"
        )]
        let rank = ((all as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, all);
        let mut below = 0_u64;
        for (at, count) in self.counts.iter().enumerate() {
            if below.saturating_add(*count) >= rank {
                let low = at.checked_sub(1).and_then(|at| self.bounds.get(at)).copied().unwrap_or(0);
                // Of what took longer than the last bound only that is known.
                let high = self.bounds.get(at).copied().unwrap_or(low).max(low);
                let part = (rank - below) as f64 / *count as f64;
                return Some(Duration::from_nanos(low) + Duration::from_nanos(high - low).mul_f64(part));
            }
            below = below.saturating_add(*count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(times: &[u64]) -> Spread {
        let histogram = Histogram::default();
        times.iter().for_each(|micros| histogram.observe(Duration::from_micros(*micros)));
        Spread::new(BOUNDS_NANOS.into(), histogram.counts())
    }

    #[test]
    fn bounds_rise_and_are_close_together() {
        assert_eq!((BOUNDS_NANOS[0], BOUNDS_NANOS[BOUNDS_NANOS.len() - 1]), (1_000, 100_000_000_000));
        for pair in BOUNDS_NANOS.windows(2) {
            let step = pair[1] as f64 / pair[0] as f64;
            assert!(step > 1.06 && step < 1.15, "{pair:?}");
        }
    }

    #[test]
    fn a_quantile_is_within_the_bucket_of_the_exact_one() {
        let times: Vec<u64> = (1..=10_000).collect();
        let spread = spread(&times);
        for (quantile, exact) in [(0.0, 1), (0.5, 5_000), (0.9, 9_000), (0.99, 9_900), (1.0, 10_000)] {
            let found = spread.quantile(quantile).unwrap().as_micros() as f64;
            assert!((found / exact as f64 - 1.0).abs() < 0.02, "{quantile}: {found} for {exact}");
        }
        assert_eq!(Spread::default().quantile(0.5), None);
    }

    #[test]
    fn the_shortest_and_the_longest_have_buckets_too() {
        let histogram = Histogram::default();
        for time in [Duration::ZERO, Duration::from_secs(100), Duration::from_secs(101), Duration::MAX] {
            histogram.observe(time);
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[BOUNDS_NANOS.len() - 1], counts[BOUNDS_NANOS.len()]), (1, 1, 2));
        let spread = Spread::new(BOUNDS_NANOS.into(), counts);
        assert_eq!(spread.quantile(1.0), Some(Duration::from_secs(100)));
    }

    #[test]
    fn what_came_since_is_what_was_added() {
        let (early, late) = (spread(&[5, 70]), spread(&[5, 70, 70, 900]));
        assert_eq!(late.since(&early), {
            let mut difference = spread(&[70, 900]);
            difference.counts.truncate(late.counts.len());
            difference
        });
        let mut sum = spread(&[5]);
        sum.add(&spread(&[70]));
        assert_eq!(sum, early);
        // A server that was started again has fewer.
        assert_eq!(early.since(&late).count(), 0);
    }

    #[test]
    fn counts_of_other_buckets_and_too_many_of_them_do_no_harm() {
        let mut coarse = Spread::new([1_000_000, 2_000_000].into(), vec![1, 0, 1, 99]);
        assert_eq!(coarse.count(), 2);
        coarse.add(&spread(&[1_500, 999_999_999]));
        assert_eq!(coarse.counts, [1, 1, 2]);
        let mut nothing = Spread::default();
        nothing.add(&Spread::new(Arc::default(), vec![3]));
        assert_eq!((nothing.count(), nothing.quantile(0.5)), (3, Some(Duration::ZERO)));
    }
}
