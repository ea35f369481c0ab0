//! Delays before something is tried again: exponential, capped, with jitter, as a pure iterator.

use std::time::Duration;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest that the first delay can be.
    pub first: Duration,
    /// The longest that any delay can be.
    pub max: Duration,
}

impl Default for Backoff {
    /// From 50 ms, which a server needs to start, to 5 s, after which a person wonders.
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The delays, one after the other, without end. The same seed gives the same delays.
    pub fn delays(self, seed: u64) -> Delays {
        Delays { ceiling: self.first.min(self.max), max: self.max, rng: fastrand::Rng::with_seed(seed) }
    }
}

/// Delays between half a ceiling and the ceiling, which doubles each time: peers that failed together do not come
/// back together, and none comes back at once.
#[derive(Debug, Clone)]
pub struct Delays {
    ceiling: Duration,
    max: Duration,
    rng: fastrand::Rng,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.ceiling.mul_f64(0.5 + self.rng.f64() / 2.0);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_never_leave_their_half() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let ceilings = [100, 200, 400, 800, 1000, 1000, 1000];
        for seed in 0..100 {
            for (delay, ceiling) in backoff.delays(seed).zip(ceilings) {
                let ceiling = Duration::from_millis(ceiling);
                assert!(ceiling / 2 <= delay && delay <= ceiling, "{delay:?} of {ceiling:?}");
            }
        }
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let take = |seed| Backoff::default().delays(seed).take(5).collect::<Vec<_>>();
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
    }
}
