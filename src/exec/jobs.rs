//! Which record's turn it is: so many at once, and those of one lane one after the other.

use std::collections::{HashSet, VecDeque};

/// What is done in order among itself, such as the records of a partition.
pub type Lane = Vec<u8>;

/// Work that waits and lanes that are taken. Decides; runs nothing.
#[derive(Debug)]
pub struct Jobs<T> {
    jobs_max: usize,
    running: usize,
    lanes: HashSet<Lane>,
    waiting: VecDeque<(Option<Lane>, T)>,
}

impl<T> Jobs<T> {
    /// Nothing to do yet, and at most `jobs_max` things (at least one) at once.
    pub fn new(jobs_max: usize) -> Self {
        Self { jobs_max: jobs_max.max(1), running: 0, lanes: HashSet::new(), waiting: VecDeque::new() }
    }

    /// True if another piece of work should be fetched. As much may wait as may run: a single full lane
    /// does not keep others idle at once, and neither is all of the input read ahead.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < self.jobs_max
    }

    /// Adds work; without a lane its order does not matter.
    pub fn push(&mut self, lane: Option<Lane>, work: T) {
        self.waiting.push_back((lane, work));
    }

    /// Takes the next work that may begin now, with the lane to give back by [`Self::finished`].
    pub fn start(&mut self) -> Option<(Option<Lane>, T)> {
        if self.running >= self.jobs_max {
            return None;
        }
        let is_free = |lane: &Option<Lane>| lane.as_ref().is_none_or(|lane| !self.lanes.contains(lane));
        // Of a lane only the first can be found here: it takes the lane before the second is looked at.
        let at = self.waiting.iter().position(|(lane, _)| is_free(lane))?;
        let (lane, work) = self.waiting.remove(at)?;
        self.running += 1;
        self.lanes.extend(lane.clone());
        Some((lane, work))
    }

    /// Work of that lane, or of none, has ended.
    pub fn finished(&mut self, lane: Option<&Lane>) {
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = lane {
            self.lanes.remove(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane(name: &str) -> Option<Lane> {
        Some(name.as_bytes().to_vec())
    }

    fn started(jobs: &mut Jobs<u32>) -> Vec<u32> {
        std::iter::from_fn(|| jobs.start()).map(|(_, work)| work).collect()
    }

    #[test]
    fn no_more_run_than_are_allowed() {
        let mut jobs = Jobs::new(2);
        (1..=3).for_each(|work| jobs.push(None, work));
        assert_eq!(started(&mut jobs), [1, 2]);
        jobs.finished(None);
        assert_eq!(started(&mut jobs), [3]);
        assert_eq!((jobs.running, jobs.waiting.len()), (2, 0));
    }

    #[test]
    fn a_lane_keeps_its_order_and_others_pass_it() {
        let mut jobs = Jobs::new(4);
        for (name, work) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            jobs.push(lane(name), work);
        }
        assert!(!jobs.has_room());
        assert_eq!(started(&mut jobs), [1, 3]);
        jobs.finished(lane("b").as_ref());
        assert_eq!(started(&mut jobs), [0u32; 0]);
        jobs.finished(lane("a").as_ref());
        assert_eq!(started(&mut jobs), [2]);
        jobs.finished(lane("a").as_ref());
        assert_eq!(started(&mut jobs), [4]);
    }

    proptest! {
        /// Whatever order things end in: all are done, each lane in order, never too many at once.
        #[test]
        fn every_schedule_keeps_the_rules(lanes in proptest::collection::vec(0u8..4, 0..40), picks: Vec<u8>, jobs_max in 1usize..5) {
            let mut jobs = Jobs::new(jobs_max);
            let mut input = lanes.iter().enumerate().peekable();
            let (mut running, mut done) = (Vec::new(), Vec::new());
            let mut picks = picks.into_iter().chain(std::iter::repeat(0));
            loop {
                while jobs.has_room() && let Some((number, lane)) = input.next() {
                    jobs.push((*lane > 0).then(|| vec![*lane]), (number, *lane));
                }
                running.extend(std::iter::from_fn(|| jobs.start()));
                prop_assert!(running.len() <= jobs_max);
                if running.is_empty() {
                    break;
                }
                let pick = usize::from(picks.next().unwrap()) % running.len();
                let (lane, work) = running.remove(pick);
                jobs.finished(lane.as_ref());
                done.push(work);
            }
            prop_assert!(jobs.running == 0 && jobs.waiting.is_empty() && input.peek().is_none());
            for lane in 1..4 {
                let numbers: Vec<_> = done.iter().filter(|(_, of)| *of == lane).map(|(n, _)| *n).collect();
                prop_assert!(numbers.is_sorted());
            }
            prop_assert_eq!(done.len(), lanes.len());
        }
    }
}
