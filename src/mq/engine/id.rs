//! Names for the engine's objects: an index with a generation, so that a name of something deleted never finds its successor.

use std::marker::PhantomData;

/// A place in a slab: 32 bits of index, 32 bits of generation.
pub trait Id: Copy {
    /// From the number that [`Id::raw`] gave.
    fn from_raw(raw: u64) -> Self;
    /// The number: generation in the upper half, index in the lower.
    fn raw(self) -> u64;
    /// The index alone, reused after a deletion: for tables beside the slab.
    fn index(self) -> usize {
        (self.raw() & 0xffff_ffff) as usize
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl Id for $name {
            fn from_raw(raw: u64) -> Self {
                Self(raw)
            }

            fn raw(self) -> u64 {
                self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({}.{})", stringify!($name), self.0 & 0xffff_ffff, self.0 >> 32)
            }
        }
    )*};
}

ids! {
    /// A connection that was opened on this virtual host.
    ConnectionId,
    /// A queue, for as long as it exists.
    QueueId,
    /// An exchange, for as long as it exists.
    ExchangeId,
    /// A consumer of a queue.
    ConsumerId,
    /// A dead letter whose new queues have not stored it yet.
    TransferId,
}

/// Values under reusable indexes, each found only by the id it was given.
#[derive(Debug)]
pub(crate) struct Slab<K, T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<K: Id, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), key: PhantomData }
    }
}

impl<K: Id, T> Slab<K, T> {
    /// Makes the value with the id it will have.
    pub fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, value: None });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        let id = K::from_raw((u64::from(slot.generation) << 32) | u64::from(index));
        slot.value = Some(make(id));
        id
    }

    pub fn insert(&mut self, value: T) -> K {
        self.insert_with(|_| value)
    }

    #[inline]
    pub fn get(&self, id: K) -> Option<&T> {
        let slot = self.slots.get(id.index())?;
        if u64::from(slot.generation) == id.raw() >> 32 { slot.value.as_ref() } else { None }
    }

    #[inline]
    pub fn get_mut(&mut self, id: K) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index())?;
        if u64::from(slot.generation) == id.raw() >> 32 { slot.value.as_mut() } else { None }
    }

    pub fn remove(&mut self, id: K) -> Option<T> {
        let slot = self.slots.get_mut(id.index())?;
        if u64::from(slot.generation) != id.raw() >> 32 {
            return None;
        }
        let value = slot.value.take()?;
        // A generation that wrapped could find a successor: such an index is used no more.
        if slot.generation < u32::MAX {
            slot.generation += 1;
            self.free.push(id.index() as u32);
        }
        Some(value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let value = slot.value.as_ref()?;
            Some((K::from_raw((u64::from(slot.generation) << 32) | index as u64), value))
        })
    }

    pub fn ids(&self) -> Vec<K> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_something_removed_finds_nothing() {
        let mut slab = Slab::<QueueId, &str>::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&"second")));
        assert_eq!((slab.remove(first), slab.len()), (None, 1));
    }
}
