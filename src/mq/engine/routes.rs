//! Where messages went before: checked and routed once, found again by exchange and key.
//!
//! Each channel remembers where its last message went; this is for those that publish to many places in turn.
//! Whoever chooses keys so that they meet here makes everybody route anew, which is right and only slower.

use std::sync::Arc;

use super::access::Access;
use super::connection::Route;

/// Places at first, and at most: half a megabyte for a virtual host.
const SLOTS_MIN: usize = 64;
const SLOTS_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Who was allowed to.
    access: Option<Arc<Access>>,
    route: Route,
}

impl Slot {
    fn is_current(&self, generation: u64) -> bool {
        self.route.is_known && self.route.generation == generation
    }
}

/// A fast hash of both: eight bytes at a time.
#[inline]
fn hash(exchange: &str, key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = exchange.len() as u64;
    let mut add = |bytes: &[u8]| {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let number = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
            hash = (hash.rotate_left(23) ^ number).wrapping_mul(FACTOR);
        }
        let mut last = [0; 8];
        let rest = chunks.remainder();
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    };
    add(exchange.as_bytes());
    add(key);
    (hash ^ (hash >> 29)).wrapping_mul(FACTOR) as usize >> 40
}

impl Routes {
    /// The place of a route that still holds for whoever has this access.
    #[inline]
    pub fn find(&self, generation: u64, access: &Arc<Access>, exchange: &str, key: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let at = hash(exchange, key) & mask;
        [at, at ^ 1].into_iter().find(|at| {
            let slot = &self.slots[*at];
            slot.is_current(generation)
                && slot.route.leads(exchange, key)
                && slot.access.as_ref().is_some_and(|held| Arc::ptr_eq(held, access))
        })
    }

    /// The route at a place.
    #[inline]
    pub fn at(&mut self, place: usize) -> &mut Route {
        &mut self.slots[place].route
    }

    /// Remembers a route, in place of an older one if it has to be.
    pub fn keep(&mut self, access: &Arc<Access>, route: &Route) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS_MIN, Slot::default);
        }
        let generation = route.generation;
        loop {
            let at = hash(&route.exchange, &route.key) & (self.slots.len() - 1);
            let is_free = |at: &usize| {
                let slot = &self.slots[*at];
                !slot.is_current(generation) || slot.route.leads(&route.exchange, &route.key)
            };
            let found = [at, at ^ 1].into_iter().find(is_free);
            if found.is_none() && self.slots.len() < SLOTS_MAX {
                self.grow(generation);
                continue;
            }
            let slot = &mut self.slots[found.unwrap_or(at)];
            slot.access = Some(Arc::clone(access));
            slot.route = Route { asked: Vec::new(), ..route.clone() };
            return;
        }
    }

    fn grow(&mut self, generation: u64) {
        let length = self.slots.len() * 2;
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(length, Slot::default);
        for slot in old.into_iter().filter(|slot| slot.is_current(generation)) {
            let at = hash(&slot.route.exchange, &slot.route.key) & (length - 1);
            // One that meets two others is routed anew.
            if let Some(free) = [at, at ^ 1].into_iter().find(|at| !self.slots[*at].is_current(generation)) {
                self.slots[free] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mq::engine::id::{Id as _, QueueId};

    fn route(generation: u64, key: &str, queue: u64) -> Route {
        Route {
            generation,
            exchange: "x".into(),
            key: key.as_bytes().into(),
            targets: [QueueId::from_raw(queue)].into_iter().collect(),
            is_known: true,
            ..Route::default()
        }
    }

    #[test]
    fn a_thousand_routes_are_found_again_by_whom_they_hold_for() {
        let (mine, other) = (Arc::new(Access::full()), Arc::new(Access::full()));
        let mut routes = Routes::default();
        for number in 0..1000 {
            routes.keep(&mine, &route(1, &format!("key.{number}"), number));
        }
        let mut found = 0;
        for number in 0..1000 {
            let key = format!("key.{number}");
            if let Some(place) = routes.find(1, &mine, "x", key.as_bytes()) {
                assert_eq!(routes.at(place).targets[..], [QueueId::from_raw(number)]);
                found += 1;
            }
            assert_eq!(routes.find(1, &other, "x", key.as_bytes()), None);
            assert_eq!(routes.find(2, &mine, "x", key.as_bytes()), None);
            assert_eq!(routes.find(1, &mine, "", format!("x{key}").as_bytes()), None);
        }
        assert!(found > 900, "{found} of 1000");
        assert!(routes.slots.len() <= SLOTS_MAX);
    }

    #[test]
    fn what_is_outdated_makes_room() {
        let mine = Arc::new(Access::full());
        let mut routes = Routes::default();
        for generation in 0..100 {
            for number in 0..10 {
                routes.keep(&mine, &route(generation, &number.to_string(), generation));
            }
        }
        assert_eq!(routes.slots.len(), SLOTS_MIN);
    }
}
