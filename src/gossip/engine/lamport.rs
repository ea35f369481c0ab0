//! Logical clocks: an event that knows of another one has a later time.

/// The largest step that a message makes us take: a hostile one must not bring the clock to its end.
const STEP_MAX: u64 = 1 << 32;
/// No clock goes beyond.
const TIME_MAX: u64 = 1 << 63;

/// A Lamport clock. It starts at 1, as Serf's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lamport(u64);

impl Default for Lamport {
    fn default() -> Self {
        Self(1)
    }
}

impl Lamport {
    /// The time of what happens next here.
    pub fn time(self) -> u64 {
        self.0
    }

    /// The time of what happens now; the next is later.
    pub fn tick(&mut self) -> u64 {
        self.0 += 1;
        self.0 - 1
    }

    /// Something has come that happened at `time`. False if that time cannot be: it is to be ignored.
    pub fn witness(&mut self, time: u64) -> bool {
        if time >= self.0.saturating_add(STEP_MAX) {
            return false;
        }
        self.witness_any(time);
        true
    }

    /// As [`Self::witness`], from a whole cluster, which may be far ahead of one that is just joining.
    pub fn witness_any(&mut self, time: u64) {
        self.0 = self.0.max(time.min(TIME_MAX).saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_has_a_later_time() {
        let mut clock = Lamport::default();
        assert_eq!((clock.tick(), clock.time()), (1, 2));
        assert!(clock.witness(7) && clock.witness(3));
        assert_eq!(clock.time(), 8);
    }

    #[test]
    fn a_hostile_time_does_not_move_the_clock() {
        let mut clock = Lamport::default();
        assert!(!clock.witness(u64::MAX) && !clock.witness(1 << 40));
        assert_eq!(clock.time(), 1);
        clock.witness_any(u64::MAX);
        assert!(clock.tick() > 1 << 62);
    }
}
