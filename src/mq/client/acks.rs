//! Acknowledgements gathered to few methods: pure bookkeeping of a consumer.

use std::collections::BTreeMap;

use crate::mq::wire::method::basic::Ack;

/// Deliveries that are done, until they are told to the broker.
#[derive(Debug)]
pub(super) struct Acks {
    /// All deliveries below are done.
    done: u64,
    /// Of those, how many are not told.
    below: usize,
    /// And the last one of them. A broker takes "all up to" only of a delivery that is not told.
    last_below: u64,
    /// Deliveries above `done` that are done, and whether they are told.
    above: BTreeMap<u64, bool>,
    /// Deliveries that are done and not told.
    pending: usize,
}

impl Acks {
    /// Deliveries of a channel count from 1.
    pub fn new() -> Self {
        Self { done: 1, below: 0, last_below: 0, above: BTreeMap::new(), pending: 0 }
    }

    /// A delivery is done. `told` if the broker knows: it was refused.
    pub fn add(&mut self, tag: u64, told: bool) {
        if tag < self.done || self.above.contains_key(&tag) {
            return;
        }
        self.pending += usize::from(!told);
        if tag > self.done {
            self.above.insert(tag, told);
            return;
        }
        self.pass(told);
        while let Some(entry) = self.above.first_entry().filter(|entry| *entry.key() == self.done) {
            let told = entry.remove();
            self.pass(told);
        }
    }

    /// The delivery that all before are waiting for is done.
    fn pass(&mut self, told: bool) {
        if !told {
            self.below += 1;
            self.last_below = self.done;
        }
        self.done += 1;
    }

    /// Deliveries that are done and not told.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// What to tell the broker now.
    pub fn take(&mut self, mut tell: impl FnMut(Ack)) {
        if self.pending == 0 {
            return;
        }
        self.pending = 0;
        if self.below > 0 {
            tell(Ack { delivery_tag: self.last_below, multiple: self.below > 1 });
            self.below = 0;
        }
        for (delivery_tag, told) in &mut self.above {
            if !std::mem::replace(told, true) {
                tell(Ack { delivery_tag: *delivery_tag, multiple: false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn taken(acks: &mut Acks) -> Vec<(u64, bool)> {
        let mut taken = Vec::new();
        acks.take(|ack| taken.push((ack.delivery_tag, ack.multiple)));
        taken
    }

    #[test]
    fn what_is_done_in_order_is_told_at_once() {
        let mut acks = Acks::new();
        (1..=50).for_each(|tag| acks.add(tag, false));
        assert_eq!(acks.pending(), 50);
        assert_eq!(taken(&mut acks), [(50, true)]);
        acks.add(51, false);
        assert_eq!(taken(&mut acks), [(51, false)]);
        assert_eq!(taken(&mut acks), []);
    }

    #[test]
    fn what_is_done_out_of_order_does_not_wait_for_the_slow_one() {
        let mut acks = Acks::new();
        acks.add(2, false);
        acks.add(4, false);
        assert_eq!(taken(&mut acks), [(2, false), (4, false)]);
        acks.add(1, false);
        acks.add(3, true);
        // All up to 4 are done, but 4 is told: a broker would not know it any more.
        assert_eq!(taken(&mut acks), [(1, false)]);
        acks.add(5, true);
        acks.add(6, false);
        assert_eq!(taken(&mut acks), [(6, false)]);
    }

    proptest! {
        /// A broker that ends the channel over a tag that it does not know.
        #[test]
        fn a_broker_hears_of_every_delivery_once(
            order in Just((1u64..40).collect::<Vec<_>>()).prop_shuffle(),
            steps in prop::collection::vec((any::<bool>(), any::<bool>()), 40),
        ) {
            let mut acks = Acks::new();
            let mut unacked: BTreeSet<u64> = (1..40).collect();
            let mut acked = Vec::new();
            for (tag, (refuse, flush)) in order.iter().zip(&steps) {
                if *refuse {
                    prop_assert!(unacked.remove(tag));
                }
                acks.add(*tag, *refuse);
                if *flush || *tag == *order.last().unwrap() {
                    acks.take(|ack| acked.push(ack));
                }
                for ack in acked.drain(..) {
                    prop_assert!(unacked.contains(&ack.delivery_tag), "unknown delivery tag {}", ack.delivery_tag);
                    unacked.retain(|tag| if ack.multiple { *tag > ack.delivery_tag } else { *tag != ack.delivery_tag });
                }
                // Nothing is told that is not done.
                let done: BTreeSet<u64> = order.iter().take_while(|other| *other != tag).copied().chain([*tag]).collect();
                prop_assert!((1..40).all(|tag| done.contains(&tag) || unacked.contains(&tag)));
            }
            prop_assert!(unacked.is_empty());
        }
    }
}
