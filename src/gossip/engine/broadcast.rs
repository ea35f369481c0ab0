//! News to be passed on, each a bounded number of times, the least told first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::gossip::wire::{Message, PART_BYTES};

/// Fewest transmissions first; of those the largest that fits, then the newest.
type Place = (u32, Reverse<usize>, Reverse<u64>);

/// A queue of news.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    queue: BTreeMap<Place, Box<Queued>>,
    /// Where the news about each member is: newer news replace it.
    about: HashMap<u32, Place>,
    count: u64,
}

#[derive(Debug)]
struct Queued {
    message: Message,
    about: Option<u32>,
    last: bool,
}

/// What of a datagram is left.
#[derive(Debug)]
pub(super) struct Room {
    pub bytes: usize,
    pub parts: usize,
}

impl Room {
    /// Takes what a message needs, if there is that much.
    pub fn take(&mut self, message_bytes: usize) -> bool {
        let needed = message_bytes + PART_BYTES;
        let fits = needed <= self.bytes && self.parts > 0;
        if fits {
            self.bytes -= needed;
            self.parts -= 1;
        }
        fits
    }
}

impl Broadcasts {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// News that nothing replaces.
    pub fn push(&mut self, message: Message) {
        self.insert(message, None, false);
    }

    /// News of another's that is passed on; if `room` is too small for it, it would wait for ever.
    pub fn pass_on(&mut self, message: Message, mut room: Room) {
        if room.take(message.encode().len()) {
            self.push(message);
            self.prune(super::BROADCASTS_MAX);
        }
    }

    /// News about a member, which replace what was to be told of it before.
    pub fn push_about(&mut self, member: u32, message: Message) {
        self.forget(member);
        self.insert(message, Some(member), false);
    }

    /// The last news of a node that leaves: told once they have been sent often enough.
    pub fn push_last(&mut self, message: Message) {
        self.insert(message, None, true);
    }

    fn insert(&mut self, message: Message, about: Option<u32>, last: bool) {
        self.count += 1;
        let place = (0, Reverse(message.encode().len()), Reverse(self.count));
        if let Some(member) = about {
            self.about.insert(member, place);
        }
        self.queue.insert(place, Box::new(Queued { message, about, last }));
    }

    /// Nothing more is told of a member.
    pub fn forget(&mut self, member: u32) {
        if let Some(place) = self.about.remove(&member) {
            self.queue.remove(&place);
        }
    }

    /// Drops the oldest of the most told until there are no more than that.
    pub fn prune(&mut self, len_max: usize) {
        while self.queue.len() > len_max {
            let Some((place, queued)) = self.queue.pop_last() else { break };
            if let Some(member) = queued.about {
                debug_assert_eq!(self.about.get(&member), Some(&place));
                self.about.remove(&member);
            }
        }
    }

    /// Moves as many as fit to `messages`. True if a last one has been told often enough.
    pub fn fill(&mut self, room: &mut Room, limit: u32, messages: &mut Vec<Message>) -> bool {
        let (mut taken, mut done) = (Vec::new(), false);
        let mut tier = 0;
        while room.parts > 0 && room.bytes > PART_BYTES {
            let largest = (tier, Reverse(room.bytes - PART_BYTES), Reverse(u64::MAX));
            let Some((&place, _)) = self.queue.range(largest..).next() else { break };
            if place.0 > tier {
                // None of this tier fits: the largest of the next one may not either.
                tier = place.0;
                continue;
            }
            let Some(queued) = self.queue.remove(&place) else { break };
            room.take(place.1.0);
            messages.push(queued.message.clone());
            taken.push((place, queued));
        }
        for ((sent, length, id), queued) in taken {
            let place = (sent + 1, length, id);
            if place.0 < limit {
                if let Some(member) = queued.about {
                    self.about.insert(member, place);
                }
                self.queue.insert(place, queued);
                continue;
            }
            done |= queued.last;
            if let Some(member) = queued.about {
                self.about.remove(&member);
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nack(sequence: u32) -> Message {
        Message::Nack { sequence }
    }

    fn fill(queue: &mut Broadcasts, bytes: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        queue.fill(&mut Room { bytes, parts: 255 }, 3, &mut messages);
        messages
    }

    #[test]
    fn the_least_told_come_first_and_all_end() {
        let mut queue = Broadcasts::default();
        let size = nack(1).encode().len() + PART_BYTES;
        queue.push(nack(1));
        assert_eq!(fill(&mut queue, size), [nack(1)]);
        queue.push(nack(2));
        assert_eq!(fill(&mut queue, size), [nack(2)]);
        assert_eq!(fill(&mut queue, 2 * size), [nack(2), nack(1)]);
        assert_eq!(fill(&mut queue, 2 * size), [nack(2), nack(1)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn newer_news_about_a_member_replace_older_ones() {
        let mut queue = Broadcasts::default();
        queue.push_about(7, nack(1));
        queue.push_about(7, nack(2));
        queue.push_about(8, nack(3));
        assert_eq!(queue.len(), 2);
        fill(&mut queue, 1000);
        queue.push_about(7, nack(4));
        assert_eq!(fill(&mut queue, 1000), [nack(4), nack(3)]);
        queue.forget(8);
        assert_eq!(fill(&mut queue, 1000), [nack(4)]);
    }

    #[test]
    fn the_largest_that_fits_goes_along() {
        let mut queue = Broadcasts::default();
        let (small, large) = (nack(1), nack(70_000));
        queue.push(large.clone());
        queue.push(small.clone());
        assert_eq!(fill(&mut queue, small.encode().len() + PART_BYTES), std::slice::from_ref(&small));
        assert_eq!(fill(&mut queue, 1000), [large, small]);
    }

    #[test]
    fn the_last_news_say_when_they_are_told() {
        let mut queue = Broadcasts::default();
        queue.push_last(nack(1));
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(queue.fill(&mut Room { bytes: 100, parts: 9 }, 3, &mut Vec::new()));
        }
        assert_eq!(told, [false, false, true]);
    }
}
