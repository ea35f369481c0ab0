//! News to be passed on, each a bounded number of times, the least told first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::gossip::wire::{Message, PART_BYTES};

/// Of a datagram, what news about members leave to news of users, in percent.
const USER_SHARE: usize = 25;

/// What news are about, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Who is there and who is not, as memberlist says it.
    Members,
    /// Who joins and who leaves, as Serf says it.
    Intents,
    /// Questions of users.
    Queries,
    /// Events of users.
    Events,
}

/// Fewest transmissions first; of those the largest that fits, then the newest.
type Place = (u32, Reverse<usize>, Reverse<u64>);

/// News that wait to be told.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Broadcasts {
    /// By what they are about.
    queues: [Queue; 4],
    count: u64,
    /// Where the news about each member is: newer news replace it.
    members: BTreeMap<u32, Place>,
}

type Queue = BTreeMap<Place, Box<Queued>>;

#[derive(Debug)]
struct Queued {
    message: Message,
    member: Option<u32>,
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
    /// Whether there is nothing to be told.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(BTreeMap::is_empty)
    }

    pub fn len(&self, about: About) -> usize {
        self.queues[about as usize].len()
    }

    /// Whether the event that is told next is a last one.
    pub fn first(&self) -> Option<bool> {
        self.queues[About::Events as usize].first_key_value().map(|(_, queued)| queued.last)
    }

    /// News that nothing replaces.
    pub fn push(&mut self, about: About, message: Message) {
        let bytes = message.encode().len();
        self.insert(about, bytes, Queued { message, member: None, last: false });
    }

    /// News of another's that is passed on; if `room` is too small for it, it would wait for ever.
    pub fn pass_on(&mut self, about: About, message: Message, mut room: Room) {
        let bytes = message.encode().len();
        if room.take(bytes) {
            self.insert(about, bytes, Queued { message, member: None, last: false });
            self.prune(about, super::BROADCASTS_MAX);
        }
    }

    /// News about a member, which replace what was to be told of it before.
    pub fn push_about(&mut self, member: u32, message: Message) {
        self.forget(member);
        let bytes = message.encode().len();
        self.insert(About::Members, bytes, Queued { message, member: Some(member), last: false });
    }

    /// The last news of a node that leaves: told once they have been sent often enough.
    pub fn push_last(&mut self, about: About, message: Message) {
        let bytes = message.encode().len();
        self.insert(about, bytes, Queued { message, member: None, last: true });
    }

    fn insert(&mut self, about: About, bytes: usize, queued: Queued) {
        self.count += 1;
        let place = (0, Reverse(bytes), Reverse(self.count));
        if let Some(member) = queued.member {
            self.members.insert(member, place);
        }
        self.queues[about as usize].insert(place, Box::new(queued));
    }

    /// Nothing more is told of a member.
    pub fn forget(&mut self, member: u32) {
        if let Some(place) = self.members.remove(&member) {
            self.queues[About::Members as usize].remove(&place);
        }
    }

    /// Drops the oldest of the most told until there are no more than that.
    pub fn prune(&mut self, about: About, len_max: usize) {
        let queue = &mut self.queues[about as usize];
        while queue.len() > len_max {
            let Some((place, queued)) = queue.pop_last() else { break };
            if let Some(member) = queued.member {
                debug_assert_eq!(self.members.get(&member), Some(&place));
                self.members.remove(&member);
            }
        }
    }

    /// Moves as many as fit to `messages`; those about members leave room for the others. True if a last one has been
    /// told often enough.
    pub fn fill(&mut self, room: &mut Room, limit: u32, messages: &mut Vec<Message>) -> bool {
        let [of_members, of_users @ ..] = &mut self.queues;
        let mut done = false;
        if !of_members.is_empty() {
            let users = of_users.iter().any(|queue| !queue.is_empty());
            let kept = if users { room.bytes * USER_SHARE / 100 } else { 0 };
            room.bytes -= kept;
            done = fill(of_members, &mut self.members, room, limit, messages);
            room.bytes += kept;
        }
        for queue in of_users {
            if !queue.is_empty() {
                done |= fill(queue, &mut self.members, room, limit, messages);
            }
        }
        done
    }
}

fn fill(
    queue: &mut Queue,
    members: &mut BTreeMap<u32, Place>,
    room: &mut Room,
    limit: u32,
    messages: &mut Vec<Message>,
) -> bool {
    let (mut taken, mut done) = (Vec::new(), false);
    let mut tier = 0;
    while room.parts > 0 && room.bytes > PART_BYTES {
        let largest = (tier, Reverse(room.bytes - PART_BYTES), Reverse(u64::MAX));
        let Some((&place, _)) = queue.range(largest..).next() else { break };
        if place.0 > tier {
            // None of this tier fits: the largest of the next one may not either.
            tier = place.0;
            continue;
        }
        let Some(queued) = queue.remove(&place) else { break };
        room.take(place.1.0);
        messages.push(queued.message.clone());
        taken.push((place, queued));
    }
    for ((sent, length, id), queued) in taken {
        let place = (sent + 1, length, id);
        if place.0 < limit {
            if let Some(member) = queued.member {
                members.insert(member, place);
            }
            queue.insert(place, queued);
            continue;
        }
        done |= queued.last;
        if let Some(member) = queued.member {
            members.remove(&member);
        }
    }
    done
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
        queue.push(About::Events, nack(1));
        assert_eq!(fill(&mut queue, size), [nack(1)]);
        queue.push(About::Events, nack(2));
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
        assert_eq!(queue.len(About::Members), 2);
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
        queue.push(About::Events, large.clone());
        queue.push(About::Events, small.clone());
        assert_eq!(fill(&mut queue, small.encode().len() + PART_BYTES), std::slice::from_ref(&small));
        assert_eq!(fill(&mut queue, 1000), [large, small]);
    }

    #[test]
    fn the_last_news_say_when_they_are_told() {
        let mut queue = Broadcasts::default();
        queue.push_last(About::Members, nack(1));
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(queue.fill(&mut Room { bytes: 100, parts: 9 }, 3, &mut Vec::new()));
        }
        assert_eq!(told, [false, false, true]);
    }
}
