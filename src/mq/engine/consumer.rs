//! Consumers of a queue: whose turn it is, by priority and then round.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::mq::wire::TableBuf;

use super::id::{ConnectionId, ConsumerId, QueueId};

/// A subscription to a queue.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub queue: QueueId,
    pub connection: ConnectionId,
    pub channel: u16,
    pub tag: Arc<str>,
    pub no_ack: bool,
    pub exclusive: bool,
    pub priority: i64,
    /// Deliveries it may have unacknowledged; 0 for any number.
    pub prefetch: u32,
    pub unacked: u32,
    pub turn: Turn,
    pub arguments: TableBuf,
}

/// Whether a consumer takes part in the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is in the round of its queue.
    Ready,
    /// It has all it may have; an acknowledgement brings it back.
    Full,
    /// Its channel has all it may have; it stands in line there.
    Limited,
    /// Its connection has not written what it was given.
    Starved,
    /// Another is the single active consumer, or it is about to go.
    Waiting,
}

/// The consumers of a queue.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// Whose turn it is.
    next: Option<ConsumerId>,
    /// Whether that one has its priority for itself.
    alone: bool,
    /// Those whose turn can come, by priority, highest first.
    round: Vec<(i64, VecDeque<ConsumerId>)>,
    /// All, in the order in which they came.
    all: Vec<ConsumerId>,
    /// The one that is served, in a queue with a single active consumer.
    pub active: Option<ConsumerId>,
    /// The one that has the queue for itself.
    pub exclusive: Option<ConsumerId>,
    /// Whether there ever was one: auto-delete queues without do not go.
    pub had_any: bool,
}

impl Consumers {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn all(&self) -> &[ConsumerId] {
        &self.all
    }

    pub fn add(&mut self, id: ConsumerId) {
        self.all.push(id);
        self.had_any = true;
    }

    pub fn remove(&mut self, id: ConsumerId, priority: i64) {
        self.all.retain(|held| *held != id);
        self.leave(id, priority);
        if self.exclusive == Some(id) {
            self.exclusive = None;
        }
    }

    /// The same of many: one by one, each would cost a look at all.
    pub fn remove_all(&mut self, gone: &HashSet<ConsumerId>) {
        self.all.retain(|held| !gone.contains(held));
        self.round.iter_mut().for_each(|(_, level)| level.retain(|held| !gone.contains(held)));
        self.round.retain(|(_, level)| !level.is_empty());
        self.exclusive.take_if(|held| gone.contains(held));
        self.see();
    }

    /// Notes whose turn it is, after any change of the round: with a thousand queues in turn, the round itself has to be
    /// fetched from far.
    #[inline]
    fn see(&mut self) {
        let level = self.round.iter().map(|(_, level)| level).find(|level| !level.is_empty());
        self.next = level.and_then(|level| level.front().copied());
        self.alone = level.is_none_or(|level| level.len() == 1);
    }

    /// Lets a consumer take part, as the last of its priority.
    #[inline]
    pub fn join(&mut self, id: ConsumerId, priority: i64) {
        match self.round.binary_search_by(|(held, _)| priority.cmp(held)) {
            Ok(at) => self.round[at].1.push_back(id),
            Err(at) => self.round.insert(at, (priority, VecDeque::from([id]))),
        }
        self.see();
    }

    pub fn leave(&mut self, id: ConsumerId, priority: i64) {
        if let Ok(at) = self.round.binary_search_by(|(held, _)| priority.cmp(held)) {
            let level = &mut self.round[at].1;
            level.retain(|held| *held != id);
            if level.is_empty() {
                self.round.remove(at);
            }
        }
        self.see();
    }

    /// Whose turn it is.
    #[inline]
    pub fn next(&self) -> Option<ConsumerId> {
        self.next
    }

    /// The one whose turn it was goes to the end of its priority.
    #[inline]
    pub fn pass(&mut self) {
        if self.alone {
            return;
        }
        if let Some((_, level)) = self.round.iter_mut().find(|(_, level)| !level.is_empty()) {
            level.rotate_left(1);
        }
        self.see();
    }

    /// The one whose turn it was leaves the round.
    pub fn park(&mut self) {
        if let Some((_, level)) = self.round.iter_mut().find(|(_, level)| !level.is_empty()) {
            level.pop_front();
        }
        self.see();
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::Id;
    use super::*;

    fn id(number: u64) -> ConsumerId {
        ConsumerId::from_raw(number)
    }

    #[test]
    fn the_highest_priority_is_served_first_and_equals_in_turn() {
        let mut consumers = Consumers::default();
        for (number, priority) in [(1, 0), (2, 10), (3, 10), (4, -5)] {
            consumers.add(id(number));
            consumers.join(id(number), priority);
        }
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.extend(consumers.next());
            consumers.pass();
        }
        assert_eq!(turns, [id(2), id(3), id(2)]);
        consumers.park();
        consumers.park();
        assert_eq!(consumers.next(), Some(id(1)));
        consumers.park();
        assert_eq!(consumers.next(), Some(id(4)));
        consumers.join(id(2), 10);
        assert_eq!(consumers.next(), Some(id(2)));
        consumers.remove(id(2), 10);
        assert_eq!((consumers.next(), consumers.len()), (Some(id(4)), 3));
    }

    #[test]
    fn those_of_a_connection_go_together() {
        let mut consumers = Consumers::default();
        for (number, priority) in [(1, 0), (2, 10), (3, 10), (4, 0)] {
            consumers.add(id(number));
            consumers.join(id(number), priority);
        }
        consumers.exclusive = Some(id(2));
        consumers.remove_all(&HashSet::from([id(2), id(3), id(4)]));
        assert_eq!(
            (consumers.all(), consumers.next(), consumers.exclusive),
            (&[id(1)][..], Some(id(1)), None)
        );
    }
}
