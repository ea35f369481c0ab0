//! Which commands are run again, and after how long: a pure policy.

use std::time::Duration;

use super::record::Verdict;
use crate::backoff::{Backoff, Delays};

/// How often a record is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Further attempts after the first.
    pub attempts: u32,
    /// The pauses between them.
    pub backoff: Backoff,
}

impl Retries {
    /// A record has one attempt.
    pub fn none() -> Self {
        Self::times(0)
    }

    /// So many further attempts, half a second apart at first and half a minute at last: what ails a
    /// command is mostly a service that it needs.
    pub fn times(attempts: u32) -> Self {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };
        Self { attempts, backoff }
    }

    /// The pauses for one record.
    pub(super) fn pauses(self, seed: u64) -> Pauses {
        Pauses { left: self.attempts, delays: self.backoff.delays(seed) }
    }
}

/// The attempts that one record has left.
#[derive(Clone, Debug)]
pub(super) struct Pauses {
    left: u32,
    delays: Delays,
}

impl Pauses {
    /// The pause before the next attempt; `None` if there is to be none.
    pub(super) fn after(&mut self, verdict: Verdict) -> Option<Duration> {
        let again = match verdict {
            Verdict::Done | Verdict::NotFound | Verdict::NotExecutable => false,
            Verdict::Failed(_) | Verdict::Killed(_) | Verdict::TimedOut | Verdict::SetUp(_) => true,
        };
        if !again || self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.delays.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_as_often_as_asked_after_growing_pauses() {
        let retries = Retries::times(3);
        for failure in [
            Verdict::Failed(1),
            Verdict::Killed(9),
            Verdict::TimedOut,
            Verdict::SetUp(std::io::ErrorKind::WouldBlock),
        ] {
            let mut pauses = retries.pauses(7);
            let taken: Vec<_> = std::iter::from_fn(|| pauses.after(failure)).collect();
            assert_eq!(taken.len(), 3);
            let ceilings = [500, 1000, 2000].map(Duration::from_millis);
            assert!(
                taken.iter().zip(ceilings).all(|(pause, ceiling)| ceiling / 2 <= *pause && *pause <= ceiling)
            );
        }
        assert_eq!(Retries::none().pauses(7).after(Verdict::Failed(1)), None);
    }

    #[test]
    fn success_and_what_no_attempt_can_mend_are_not_tried_again() {
        for verdict in [Verdict::Done, Verdict::NotFound, Verdict::NotExecutable] {
            assert_eq!(Retries::times(3).pauses(7).after(verdict), None);
        }
    }
}
