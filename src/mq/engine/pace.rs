//! How far publishers may run ahead of the consumers of their queues: what RabbitMQ's credit flow is for.
//!
//! Taking a message in is cheaper than handing it out, so that on a busy machine publishers would take all of it and
//! consumers nothing. What goes into a queue that has fallen behind its consumers is therefore owed. Every delivery pays
//! for one, and so does time, for consumers may be slow: then a queue is for keeping what they have not come to.

use super::clock::Millis;

/// A queue with consumers has fallen behind with more messages ready than this, or with fewer when all queues together
/// hold much.
const READY_MAX: usize = 10_000;
const READY_MIN: usize = 100;
/// What is much, in bytes.
const RESIDENT_MAX: u64 = 16 << 20;

/// Messages that are forgiven each millisecond, whatever consumers do: some times what RabbitMQ takes at all.
const FORGIVEN: u64 = 100;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Messages ever owed, and those paid for.
    owed: u64,
    paid: u64,
    /// When time paid last.
    at: Millis,
    /// How far it has to be paid for somebody to go on.
    wanted: u64,
    /// It is, since this was last asked.
    reached: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { owed: 0, paid: 0, at: 0, wanted: u64::MAX, reached: false }
    }
}

/// Whether a queue that has consumers is behind.
#[inline]
pub(crate) fn is_behind(ready: usize, resident: u64) -> bool {
    ready > READY_MAX || (ready > READY_MIN && resident > RESIDENT_MAX)
}

impl Pace {
    /// A message went to a queue that is behind.
    #[inline]
    pub fn owe(&mut self, now: Millis) {
        if self.owed == self.paid {
            self.at = now;
        }
        self.owed += 1;
    }

    /// So many messages were handed out.
    #[inline]
    pub fn pay(&mut self, count: u64) {
        self.paid = self.owed.min(self.paid.saturating_add(count));
        if self.paid >= self.wanted {
            self.wanted = u64::MAX;
            self.reached = true;
        }
    }

    /// Everything ever owed: grows when a publisher runs ahead, which has to wait until that is paid.
    pub fn owed(&self) -> u64 {
        self.owed
    }

    /// How long until time alone has paid up to `owed`, in milliseconds; none if it is paid. One waits at a time.
    pub fn wait(&mut self, owed: u64, now: Millis) -> Option<Millis> {
        let elapsed = now.saturating_sub(self.at);
        self.at = now;
        self.wanted = u64::MAX;
        self.pay(elapsed.saturating_mul(FORGIVEN));
        let left = owed.checked_sub(self.paid).filter(|left| *left > 0)?;
        self.wanted = owed;
        Some(left.div_ceil(FORGIVEN))
    }

    /// Whether the one who waits may go on, since the last question.
    #[inline]
    pub fn take_reached(&mut self) -> bool {
        std::mem::take(&mut self.reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_and_time_pay_in_the_order_in_which_it_was_owed() {
        let mut pace = Pace::default();
        (0..1000).for_each(|_| pace.owe(50));
        let first = pace.owed();
        (0..500).for_each(|_| pace.owe(50));
        let second = pace.owed();
        assert_eq!((pace.wait(first, 50), pace.take_reached()), (Some(10), false));
        pace.pay(450);
        assert_eq!((pace.wait(first, 50), pace.take_reached()), (Some(6), false));
        assert_eq!(pace.wait(first, 54), Some(2), "four hundred were forgiven");
        pace.pay(200);
        assert_eq!((pace.take_reached(), pace.take_reached()), (true, false));
        assert_eq!((pace.wait(first, 54), pace.wait(second, 54)), (None, Some(5)));
        // Deliveries before are no credit for later.
        pace.pay(1_000_000);
        (0..100).for_each(|_| pace.owe(10_000));
        assert_eq!(pace.wait(pace.owed(), 10_000), Some(1));
    }

    #[test]
    fn a_queue_is_behind_with_much_in_it_or_with_a_little_when_there_is_much_in_all() {
        assert!(!is_behind(READY_MAX, RESIDENT_MAX) && is_behind(READY_MAX + 1, 0));
        assert!(is_behind(READY_MIN + 1, RESIDENT_MAX + 1) && !is_behind(READY_MIN, u64::MAX));
    }
}
