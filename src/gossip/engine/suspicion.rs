//! How long a suspect has to object: long if one node accuses it, shorter with each independent accuser. Lifeguard, IV.B

use std::time::Duration;

use crate::gossip::wire::Name;

use super::Time;

/// The case against a member.
#[derive(Debug)]
pub(super) struct Suspicion {
    pub since: Time,
    least: Duration,
    most: Duration,
    /// Accusers that make it as short as can be.
    needed: u32,
    /// Those so far; the first does not shorten it.
    accusers: Vec<Name>,
}

/// What the timers of a suspicion follow from.
pub(super) struct Bounds {
    pub mult: u32,
    pub max_mult: u32,
    pub nodes: usize,
    pub interval: Duration,
}

impl Suspicion {
    pub fn new(since: Time, accuser: Name, bounds: &Bounds) -> Self {
        let scale = (bounds.nodes.max(1) as f64).log10().max(1.0);
        let least = bounds.interval.mul_f64(f64::from(bounds.mult) * scale);
        // Without that many others nobody could confirm it.
        let needed = bounds.mult.saturating_sub(2);
        let enough = bounds.nodes >= needed as usize + 2;
        let needed = if enough { needed } else { 0 };
        let most = if needed == 0 { least } else { least * bounds.max_mult };
        Self { since, least, most, needed, accusers: vec![accuser] }
    }

    /// Another one accuses. True if that is news: to be passed on.
    pub fn confirm(&mut self, accuser: &Name) -> bool {
        if self.accusers.len() > self.needed as usize || self.accusers.contains(accuser) {
            return false;
        }
        self.accusers.push(accuser.clone());
        true
    }

    /// When it is over.
    pub fn deadline(&self) -> Time {
        let confirmed = (self.accusers.len() - 1) as f64;
        if self.needed == 0 {
            return self.since + self.least;
        }
        let share = (confirmed + 1.0).ln() / (f64::from(self.needed) + 1.0).ln();
        let timeout = self.most.as_secs_f64() - share * (self.most - self.least).as_secs_f64();
        self.since + Duration::from_secs_f64(timeout.max(0.0)).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(nodes: usize) -> Bounds {
        Bounds { mult: 4, max_mult: 6, nodes, interval: Duration::from_secs(1) }
    }

    #[test]
    fn each_accuser_shortens_it_down_to_the_least() {
        let mut case = Suspicion::new(Time(0), "a".into(), &bounds(10));
        assert_eq!(case.deadline(), Time(24_000_000));
        assert!(!case.confirm(&"a".into()));
        assert!(case.confirm(&"b".into()));
        // 24 s - ln 2 / ln 3 * 20 s
        assert_eq!(case.deadline().0 / 1000, 11_381);
        assert!(case.confirm(&"c".into()));
        assert_eq!(case.deadline(), Time(4_000_000));
        assert!(!case.confirm(&"d".into()));
    }

    #[test]
    fn nobody_is_waited_for_who_is_not_there() {
        assert_eq!(Suspicion::new(Time(0), "a".into(), &bounds(3)).deadline(), Time(4_000_000));
        assert_eq!(Suspicion::new(Time(0), "a".into(), &bounds(1000)).deadline(), Time(72_000_000));
    }
}
