//! What is due when: a queue whose time only goes on.

use crate::gossip::engine::Time;

/// One for each bit in which a time can differ from now, and one for now.
const BUCKETS: usize = u64::BITS as usize + 1;

/// Entries of this bucket and those above are shown before they are spread over nearer ones: below, one at a time would be.
const SOON: usize = 5;

/// A radix heap (Ahuja et al. 1990): an entry moves to a nearer bucket a bounded number of times, through memory in
/// order, however many there are. Entries of one time come in the order in which they were put.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// The time that was taken last.
    now: u64,
    /// By the highest bit in which the time differs from now.
    buckets: Vec<Vec<(u64, T)>>,
    /// Those of now, the next one last.
    due: Vec<(u64, T)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { now: 0, buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), due: Vec::new() }
    }
}

fn bucket_of(now: u64, at: u64) -> usize {
    (u64::BITS - (at ^ now).leading_zeros()) as usize
}

impl<T> Queue<T> {
    /// Puts something that is due then, or now if that is over.
    pub fn put(&mut self, at: Time, what: T) {
        let at = at.0.max(self.now);
        self.buckets[bucket_of(self.now, at)].push((at, what));
    }

    /// Takes the next thing that is due until then. `soon` is shown what is due soon after, several at a time.
    pub fn take(&mut self, until: Time, soon: impl FnOnce(&[(u64, T)])) -> Option<(Time, T)> {
        if self.due.is_empty() {
            self.advance(until, soon)?;
        }
        let (at, what) = self.due.pop_if(|(at, _)| *at <= until.0)?;
        Some((Time(at), what))
    }

    /// Moves what is due at the next time to where it is taken from.
    fn advance(&mut self, until: Time, soon: impl FnOnce(&[(u64, T)])) -> Option<()> {
        let nearest = self.buckets.iter().position(|bucket| !bucket.is_empty())?;
        if nearest > 0 {
            let next = self.buckets[nearest].iter().map(|(at, _)| *at).min()?;
            if next > until.0 {
                return None;
            }
            self.now = next;
            let mut bucket = std::mem::take(&mut self.buckets[nearest]);
            if nearest >= SOON {
                soon(&bucket);
            }
            for (at, what) in bucket.drain(..) {
                self.buckets[bucket_of(next, at)].push((at, what));
            }
            // Its memory is used again.
            self.buckets[nearest] = bucket;
        }
        std::mem::swap(&mut self.due, &mut self.buckets[0]);
        self.due.reverse();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_by_time_and_those_of_one_time_in_order() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut queue, mut model) = (Queue::default(), Vec::new());
        let (mut now, mut count, mut seen) = (0, 0, 0);
        while seen < 20_000 {
            for _ in 0..rng.u32(0..4) {
                let at = now + [0, 1, rng.u64(0..50), rng.u64(0..1 << 20)][rng.usize(0..4)];
                queue.put(Time(at), count);
                model.push((at, count));
                count += 1;
            }
            let until = now + rng.u64(0..3000);
            while let Some((at, what)) = queue.take(Time(until), |_| ()) {
                let next = *model.iter().min().unwrap();
                assert_eq!((at.0, what), next);
                model.retain(|entry| *entry != next);
                seen += 1;
                // What is put for now comes after what is due now already.
                if rng.u8(..) < 30 {
                    queue.put(at, count);
                    model.push((at.0, count));
                    count += 1;
                }
            }
            assert!(model.iter().all(|(at, _)| *at > until));
            now = until;
        }
    }

    #[test]
    fn what_is_late_is_due_now() {
        let mut queue = Queue::default();
        queue.put(Time(10), 'a');
        assert_eq!(queue.take(Time(9), |_| ()), None);
        assert_eq!(queue.take(Time(10), |_| ()), Some((Time(10), 'a')));
        queue.put(Time(3), 'b');
        assert_eq!(queue.take(Time(10), |_| ()), Some((Time(10), 'b')));
        assert_eq!(queue.take(Time(u64::MAX), |_| ()), None);
    }
}
