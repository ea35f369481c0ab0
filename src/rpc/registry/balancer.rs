//! Which instance gets the next call: priority, weighted round-robin, and a rest for those that failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Instance;

/// Rest after the first failure; doubles with each further one.
const REST_MIN: Duration = Duration::from_secs(1);
/// The longest rest: what a registry's health check would take to notice, roughly.
const REST_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Slot {
    instance: Arc<Instance>,
    credit: i64,
    failures: u32,
    resting_until: Option<Instant>,
}

/// Chooses among the instances of one service. The clock is the caller's.
#[derive(Debug, Default)]
pub struct Balancer {
    slots: Mutex<Vec<Slot>>,
}

impl Balancer {
    /// Starts with all of them healthy.
    pub fn new(instances: Vec<Instance>) -> Self {
        let balancer = Self::default();
        balancer.replace(instances);
        balancer
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many instances there are, resting ones included: as often may one call be tried.
    pub fn len(&self) -> usize {
        self.slots().len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.slots().is_empty()
    }

    /// Takes the registry's new answer; what is known about instances that stay is kept.
    pub fn replace(&self, instances: Vec<Instance>) {
        let mut slots = self.slots();
        let is_same = |slot: &Slot, instance: &Instance| {
            slot.instance.id == instance.id && slot.instance.url == instance.url
        };
        let (mut left, mut kept) = (instances, Vec::new());
        // In the order that they had: whose turn it is does not change because the registry answers in another.
        for slot in std::mem::take(&mut *slots) {
            if let Some(at) = left.iter().position(|instance| is_same(&slot, instance)) {
                kept.push(Slot { instance: Arc::new(left.remove(at)), ..slot });
            }
        }
        kept.extend(left.into_iter().map(|instance| Slot {
            instance: Arc::new(instance),
            credit: 0,
            failures: 0,
            resting_until: None,
        }));
        *slots = kept;
    }

    /// The instance for the next call; `None` only if there are none.
    ///
    /// Of the instances that do not rest, those of the lowest priority take turns by weight. If all
    /// rest, it is the one whose rest ends first: a call is worth a try.
    pub fn pick(&self, now: Instant) -> Option<Arc<Instance>> {
        let mut slots = self.slots();
        let awake = |slot: &Slot| slot.resting_until.is_none_or(|until| until <= now);
        let Some(priority) = slots.iter().filter(|slot| awake(slot)).map(|slot| slot.instance.priority).min()
        else {
            let first = slots.iter().min_by_key(|slot| slot.resting_until)?;
            return Some(Arc::clone(&first.instance));
        };
        // Smooth weighted round-robin, as nginx does it: every candidate earns its weight, the
        // richest is chosen and pays for all.
        let mut total = 0i64;
        let mut richest: Option<usize> = None;
        for index in 0..slots.len() {
            if slots[index].instance.priority != priority || !awake(&slots[index]) {
                continue;
            }
            let weight = i64::from(slots[index].instance.weight.max(1));
            total += weight;
            slots[index].credit += weight;
            if richest.is_none_or(|best| slots[index].credit > slots[best].credit) {
                richest = Some(index);
            }
        }
        let chosen = &mut slots[richest?];
        chosen.credit -= total;
        Some(Arc::clone(&chosen.instance))
    }

    /// Nothing answered at `instance`: it rests, longer with each failure in a row.
    pub fn failed(&self, instance: &Instance, now: Instant) {
        if let Some(slot) = self.slots().iter_mut().find(|slot| slot.instance.id == instance.id) {
            let rest = REST_MIN.saturating_mul(1 << slot.failures.min(5)).min(REST_MAX);
            slot.failures = slot.failures.saturating_add(1);
            slot.resting_until = Some(now + rest);
        }
    }

    /// `instance` answered.
    pub fn succeeded(&self, instance: &Instance) {
        if let Some(slot) = self.slots().iter_mut().find(|slot| slot.instance.id == instance.id) {
            slot.failures = 0;
            slot.resting_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn instance(id: &str, priority: u16, weight: u16) -> Instance {
        Instance { priority, weight, ..Instance::new(id, "s", format!("grpc://{id}")) }
    }

    fn picks(balancer: &Balancer, now: Instant, count: usize) -> String {
        (0..count).map(|_| balancer.pick(now).unwrap().id.clone()).collect()
    }

    #[test]
    fn equal_instances_take_turns() {
        let balancer = Balancer::new(["a", "b", "c"].map(|id| instance(id, 0, 1)).to_vec());
        assert_eq!(picks(&balancer, Instant::now(), 7), "abcabca");
    }

    #[test]
    fn a_failed_instance_rests_and_comes_back() {
        let start = Instant::now();
        let balancer = Balancer::new(vec![instance("a", 0, 1), instance("b", 0, 1)]);
        let first = balancer.pick(start).unwrap();
        balancer.failed(&first, start);
        assert_eq!(picks(&balancer, start, 3), "bbb");
        assert!(picks(&balancer, start + REST_MIN, 4).contains('a'));
        balancer.failed(&first, start);
        assert!(!picks(&balancer, start + REST_MIN, 4).contains('a'), "the second rest is longer");
        balancer.succeeded(&first);
        assert!(picks(&balancer, start, 4).contains('a'));
    }

    #[test]
    fn a_lower_priority_is_used_only_when_the_higher_rests() {
        let start = Instant::now();
        let balancer = Balancer::new(vec![instance("a", 10, 1), instance("b", 20, 1)]);
        assert_eq!(picks(&balancer, start, 3), "aaa");
        balancer.failed(&instance("a", 10, 1), start);
        assert_eq!(picks(&balancer, start, 3), "bbb");
        balancer.failed(&instance("b", 20, 1), start + Duration::from_millis(1));
        assert_eq!(picks(&balancer, start, 1), "a", "all rest: the one that has rested longest");
    }

    #[test]
    fn a_new_answer_keeps_what_is_known() {
        let start = Instant::now();
        let balancer = Balancer::new(vec![instance("a", 0, 1), instance("b", 0, 1)]);
        balancer.failed(&instance("a", 0, 1), start);
        balancer.replace(vec![instance("a", 0, 1), instance("c", 0, 1)]);
        assert_eq!(picks(&balancer, start, 2), "cc");
        let balancer = Balancer::new(["b", "a"].map(|id| instance(id, 0, 1)).to_vec());
        let first = picks(&balancer, start, 1);
        balancer.replace(vec![instance("a", 0, 1), instance("b", 0, 1)]);
        assert_eq!(first + &picks(&balancer, start, 3), "baba", "the order of an answer changes no turns");
        balancer.replace(Vec::new());
        assert!(balancer.is_empty() && balancer.pick(start).is_none());
    }

    proptest! {
        #[test]
        fn calls_are_shared_by_weight(weights in prop::collection::vec(1u16..50, 1..6)) {
            let instances = weights.iter().enumerate().map(|(n, w)| instance(&n.to_string(), 0, *w));
            let balancer = Balancer::new(instances.collect());
            let now = Instant::now();
            let round: u32 = weights.iter().map(|w| u32::from(*w)).sum();
            let mut counts: HashMap<String, u16> = HashMap::new();
            for _ in 0..round {
                *counts.entry(balancer.pick(now).unwrap().id.clone()).or_default() += 1;
            }
            for (n, weight) in weights.iter().enumerate() {
                prop_assert_eq!(counts.get(&n.to_string()), Some(weight));
            }
        }
    }
}
