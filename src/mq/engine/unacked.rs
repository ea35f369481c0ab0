//! Deliveries of a channel that wait for their acknowledgement, by delivery tag.

use std::collections::VecDeque;

use super::id::{ConsumerId, QueueId};
use super::ready::Entry;

/// A message that was handed out and may come back.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub tag: u64,
    pub queue: QueueId,
    /// Absent for basic.get.
    pub consumer: Option<ConsumerId>,
    pub entry: Entry,
    /// When it was handed out, in milliseconds since 1970.
    pub since: u64,
}

/// So many places are kept by a channel that has nothing outstanding.
const KEPT: usize = 256;

/// In order of their tags. Answered ones in the middle leave a hole until there are too many holes.
#[derive(Debug, Default)]
pub(crate) struct UnackedList {
    list: VecDeque<Slot>,
    count: usize,
}

#[derive(Debug)]
struct Slot {
    tag: u64,
    held: Option<Unacked>,
}

impl UnackedList {
    pub fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub fn push(&mut self, unacked: Unacked) {
        self.count += 1;
        self.list.push_back(Slot { tag: unacked.tag, held: Some(unacked) });
    }

    #[inline]
    fn position(&self, tag: u64) -> Option<usize> {
        let first = self.list.front()?.tag;
        // Tags have gaps only where holes were closed or a delivery needed no answer.
        let guess = tag.checked_sub(first)? as usize;
        if self.list.get(guess).is_some_and(|slot| slot.tag == tag) {
            return Some(guess);
        }
        self.list.binary_search_by_key(&tag, |slot| slot.tag).ok()
    }

    /// Takes one delivery out.
    #[inline]
    pub fn take(&mut self, tag: u64) -> Option<Unacked> {
        let at = self.position(tag)?;
        let unacked = self.list[at].held.take()?;
        self.count -= 1;
        self.close_holes();
        Some(unacked)
    }

    /// The oldest delivery, if its tag is at most `tag`; 0 stands for every tag.
    #[inline]
    pub fn take_up_to(&mut self, tag: u64) -> Option<Unacked> {
        while let Some(slot) = self.list.front() {
            if tag != 0 && slot.tag > tag {
                return None;
            }
            if let Some(Slot { held: Some(unacked), .. }) = self.list.pop_front() {
                self.count -= 1;
                return Some(unacked);
            }
        }
        if self.list.capacity() > KEPT {
            self.list = VecDeque::new();
        }
        None
    }

    /// Whether this tag is outstanding.
    pub fn holds(&self, tag: u64) -> bool {
        self.position(tag).is_some_and(|at| self.list[at].held.is_some())
    }

    fn close_holes(&mut self) {
        while let Some(Slot { held: None, .. }) = self.list.front() {
            self.list.pop_front();
        }
        if self.list.is_empty() && self.list.capacity() > KEPT {
            self.list = VecDeque::new();
        }
        if self.list.len() > 64 && self.count * 2 < self.list.len() {
            self.list.retain(|slot| slot.held.is_some());
            if self.list.capacity() > 4096 {
                self.list.shrink_to(self.list.len() * 2);
            }
        }
    }

    /// Puts deliveries back that were taken for a transaction that is undone.
    pub fn restore(&mut self, mut taken: Vec<Unacked>) {
        self.count += taken.len();
        taken.extend(self.list.drain(..).filter_map(|slot| slot.held));
        taken.sort_by_key(|unacked| unacked.tag);
        self.list = taken.into_iter().map(|unacked| Slot { tag: unacked.tag, held: Some(unacked) }).collect();
    }

    /// Everything, oldest first.
    pub fn take_all(&mut self) -> impl Iterator<Item = Unacked> {
        self.count = 0;
        std::mem::take(&mut self.list).into_iter().filter_map(|slot| slot.held)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Unacked> {
        self.list.iter().filter_map(|slot| slot.held.as_ref())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Unacked> {
        self.list.iter_mut().filter_map(|slot| slot.held.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::Id;
    use super::super::message::Message;
    use super::super::ready::Place;
    use super::*;

    fn unacked(tag: u64) -> Unacked {
        let entry = Entry {
            seq: tag,
            place: Place::NOWHERE,
            message: Message::plain("", "q", b"x"),
            expires: 0,
            returns: 0,
            redelivered: false,
        };
        Unacked { tag, queue: QueueId::from_raw(0), consumer: None, entry, since: 0 }
    }

    #[test]
    fn tags_are_found_through_holes_and_gaps() {
        let mut list = UnackedList::default();
        for tag in (1..=1000).filter(|tag| tag % 10 != 0) {
            list.push(unacked(tag));
        }
        for tag in (1..=1000).filter(|tag| tag % 10 != 0 && tag % 7 != 0) {
            assert_eq!(list.take(tag).map(|unacked| unacked.tag), Some(tag));
        }
        assert!(list.take(1).is_none() && list.take(10).is_none() && list.take(5000).is_none());
        assert!(list.list.len() <= 2 * list.len() + 64, "holes are closed: {}", list.list.len());
        let rest: Vec<u64> = std::iter::from_fn(|| list.take_up_to(100)).map(|unacked| unacked.tag).collect();
        assert_eq!(rest, [7, 14, 21, 28, 35, 42, 49, 56, 63, 77, 84, 91, 98]);
        assert!(list.holds(105) && !list.holds(98));
    }

    #[test]
    fn what_a_transaction_took_comes_back_in_order() {
        let mut list = UnackedList::default();
        (1..=6).for_each(|tag| list.push(unacked(tag)));
        let taken = [4, 2].into_iter().filter_map(|tag| list.take(tag)).collect();
        list.restore(taken);
        assert_eq!(list.take_all().map(|unacked| unacked.tag).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(list.len(), 0);
    }
}
