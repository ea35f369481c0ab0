//! When a call is made again, and after how long: a pure schedule.

use std::time::Duration;

use super::{Cause, Ending};
use crate::rpc::Code;

/// First pause.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Which failures are tried again, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after the first.
    pub retries: u32,
    /// Codes worth another attempt.
    pub codes: Vec<Code>,
    /// A server that is not there is waited for, without counting.
    pub wait_for_ready: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 0, codes: vec![Code::Unavailable], wait_for_ready: false }
    }
}

impl RetryPolicy {
    /// The pause before the next attempt; `None` if there is none. `attempts` have been made and counted,
    /// `waits` were not counted. `random` in 0..1 spreads clients that fail together.
    pub fn pause(&self, ending: &Ending, attempts: u32, waits: u32, random: f64) -> Option<Duration> {
        let exponent = if self.is_absence(ending) {
            waits
        } else if attempts <= self.retries && self.codes.contains(&ending.status.code) {
            attempts.saturating_sub(1)
        } else {
            return None;
        };
        Some(spread(exponent, random))
    }

    /// The pause after `waits` earlier ones for a server that is not there yet.
    pub fn pause_between_waits(&self, waits: u32, random: f64) -> Duration {
        spread(waits, random)
    }

    /// True if nobody answered and that is to be waited out.
    pub fn is_absence(&self, ending: &Ending) -> bool {
        self.wait_for_ready && ending.untouched && ending.cause == Cause::Unreachable
    }
}

fn spread(exponent: u32, random: f64) -> Duration {
    let full =
        PAUSE_FIRST.saturating_mul(1u32.checked_shl(exponent.min(16)).unwrap_or(u32::MAX)).min(PAUSE_MAX);
    full.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Status;

    fn answered(code: Code) -> Ending {
        Ending::answered(Status::new(code, ""), http::HeaderMap::new())
    }

    #[test]
    fn only_the_given_codes_are_tried_again_and_only_so_often() {
        let policy = RetryPolicy { retries: 2, ..RetryPolicy::default() };
        assert_eq!(policy.pause(&answered(Code::Unavailable), 1, 0, 0.5), Some(Duration::from_millis(100)));
        assert_eq!(policy.pause(&answered(Code::Unavailable), 2, 0, 0.5), Some(Duration::from_millis(200)));
        assert_eq!(policy.pause(&answered(Code::Unavailable), 3, 0, 0.5), None);
        assert_eq!(policy.pause(&answered(Code::Internal), 1, 0, 0.5), None);
    }

    #[test]
    fn a_server_that_is_not_there_is_waited_for_without_counting() {
        let policy = RetryPolicy { wait_for_ready: true, ..RetryPolicy::default() };
        let absent = Ending { cause: Cause::Unreachable, untouched: true, ..answered(Code::Unavailable) };
        assert_eq!(policy.pause(&absent, 1, 0, 0.5), Some(Duration::from_millis(100)));
        assert_eq!(policy.pause(&absent, 1, 100, 1.0), Some(PAUSE_MAX.mul_f64(1.2)));
        assert_eq!(RetryPolicy::default().pause(&absent, 1, 0, 0.5), None);
    }
}
