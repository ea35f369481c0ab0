//! Users' events: each is told once, and passed on byte by byte as it came.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, Engine, Event, Message, Output, Refusal, Serf, Time};
use crate::gossip::wire::UserEvent;

/// Most bytes of an event's name and payload. Serf, UserEventSizeLimit of its default.
pub const EVENT_BYTES_MAX: usize = 512;
/// Most bytes of one that is taken from others. Serf, UserEventSizeLimit: agents can be told to allow as many.
const FOREIGN_BYTES_MAX: usize = 9 * 1024;
/// Events are told apart for so many times; older ones are ignored. Serf, EventBuffer.
const WINDOW: u64 = 512;
/// Most events that are told apart; of more the oldest times are given up, as if they were over.
const EVENTS_MAX: usize = 4096;
/// Bytes of those that are told to somebody who joins, of the 20 MiB that a state may have.
const TOLD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What of an event is remembered: not the bytes in which it came.
#[derive(Clone, Debug)]
struct Known {
    ltime: u64,
    name: Arc<str>,
    payload: Bytes,
    coalesce: bool,
}

/// Events that have come.
#[derive(Debug, Default)]
pub(super) struct Seen {
    least: u64,
    /// By time: most of what comes is about the last of them.
    events: VecDeque<Known>,
}

impl Seen {
    /// What happened before is not told any more.
    pub fn ignore_until(&mut self, ltime: u64) {
        self.least = self.least.max(ltime);
    }

    /// Those that can be told to somebody who joins, by time; not so many that a state would not be taken.
    pub fn all(&self) -> Vec<UserEvent> {
        let whole = |known: &Known| {
            let Known { ltime, name, payload, coalesce } = known.clone();
            UserEvent { ltime, name, payload, coalesce, raw: Bytes::new() }
        };
        let mut bytes = 0;
        let latest = self.events.iter().rev().take_while(|known| {
            bytes += known.name.len() + known.payload.len();
            bytes <= TOLD_BYTES_MAX
        });
        let count = latest.count();
        self.events.range(self.events.len() - count..).map(whole).collect()
    }

    /// The latest time of one.
    pub fn latest(&self) -> Option<u64> {
        self.events.back().map(|known| known.ltime)
    }

    /// True if it is news.
    fn put(&mut self, event: &UserEvent, clock: u64) -> bool {
        let oldest = clock.saturating_sub(WINDOW);
        let is_over = event.name.len() + event.payload.len() > FOREIGN_BYTES_MAX;
        if event.ltime < self.least || event.ltime < oldest || is_over {
            return false;
        }
        let mut end = self.events.len();
        if self.events.back().is_some_and(|last| last.ltime > event.ltime) {
            end = self.events.partition_point(|known| known.ltime <= event.ltime);
        }
        let same = |known: &Known| known.name == event.name && known.payload == event.payload;
        let of_its_time = self.events.range(..end).rev().take_while(|known| known.ltime == event.ltime);
        if of_its_time.clone().any(same) {
            return false;
        }
        let (ltime, coalesce) = (event.ltime, event.coalesce);
        let known = Known { ltime, name: event.name.clone(), payload: event.payload.clone(), coalesce };
        self.events.insert(end, known);
        self.give_up(oldest);
        // It may itself have been of the oldest time.
        event.ltime >= self.least
    }

    fn give_up(&mut self, oldest: u64) {
        if self.events.len() > EVENTS_MAX {
            let first = self.events.front().map_or(0, |first| first.ltime);
            self.ignore_until(first.saturating_add(1));
        }
        let oldest = oldest.max(self.least);
        while self.events.front().is_some_and(|first| first.ltime < oldest) {
            self.events.pop_front();
        }
    }
}

impl Engine {
    /// An event came. Serf, handleUserEvent.
    pub(super) fn receive_event(&mut self, event: UserEvent, outputs: &mut Vec<Output>) {
        if self.event_clock.witness(event.ltime) && self.take_event(&event, outputs) {
            self.broadcasts.pass_on(About::Events, Message::Serf(Serf::Event(event)), self.room());
        }
    }

    /// The same from another's state: it is told already.
    pub(super) fn merge_event(&mut self, event: UserEvent, outputs: &mut Vec<Output>) {
        if self.event_clock.witness(event.ltime) {
            self.take_event(&event, outputs);
        }
    }

    fn take_event(&mut self, event: &UserEvent, outputs: &mut Vec<Output>) -> bool {
        let news = self.seen_events.put(event, self.event_clock.time());
        if news {
            outputs.push(Output::Event(Event::User {
                ltime: event.ltime,
                name: event.name.clone(),
                payload: event.payload.clone(),
                coalesce: event.coalesce,
            }));
        }
        news
    }

    /// Tells everybody.
    pub(super) fn send_event(
        &mut self,
        now: Time,
        name: &Arc<str>,
        payload: Bytes,
        coalesce: bool,
        outputs: &mut Vec<Output>,
    ) {
        let _ = now;
        let bytes = name.len() + payload.len();
        if bytes > EVENT_BYTES_MAX {
            let refusal = Refusal::Event { bytes };
            return outputs.push(Output::Event(Event::Refused { tag: None, refusal }));
        }
        let ltime = self.event_clock.tick();
        let event = UserEvent { ltime, name: name.clone(), payload, coalesce, raw: Bytes::new() };
        self.receive_event(event, outputs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ltime: u64, name: &str) -> UserEvent {
        UserEvent { ltime, name: name.into(), payload: Bytes::new(), coalesce: false, raw: Bytes::new() }
    }

    #[test]
    fn events_are_told_apart_by_time_name_and_payload() {
        let mut seen = Seen::default();
        for (ltime, name) in [(5, "a"), (5, "b"), (3, "a"), (4, "a"), (9, "a")] {
            assert!(seen.put(&event(ltime, name), 9));
            assert!(!seen.put(&event(ltime, name), 9));
        }
        let other = UserEvent { payload: Bytes::from_static(b"1"), ..event(4, "a") };
        assert!(seen.put(&other, 9) && !seen.put(&other, 9) && !seen.put(&event(5, "a"), 9));
        assert_eq!(seen.all().iter().map(|event| event.ltime).collect::<Vec<_>>(), [3, 4, 4, 5, 5, 9]);
        // Beyond the window nothing is remembered, and nothing is told.
        assert!(seen.put(&event(517, "a"), 517) && !seen.put(&event(4, "c"), 517));
        assert_eq!(seen.all().len(), 4);
    }

    #[test]
    fn a_flood_of_one_time_is_bounded_and_nothing_is_told_twice() {
        let mut seen = Seen::default();
        let mut told = std::collections::HashSet::new();
        for round in 0..2 {
            for count in 0..3 * EVENTS_MAX {
                let event = event(7 + (count / EVENTS_MAX) as u64, &count.to_string());
                assert!(!seen.put(&event, 9) || told.insert(count), "{count} again, round {round}");
            }
        }
        assert!(seen.events.len() <= EVENTS_MAX);
        assert!(seen.put(&event(11, "later"), 11));
    }

    #[test]
    fn of_many_large_events_the_latest_are_told_to_one_who_joins() {
        let mut seen = Seen::default();
        for ltime in 1..=500 {
            let payload = vec![0; FOREIGN_BYTES_MAX - 1];
            let name = "e".into();
            let raw = Bytes::new();
            let event = UserEvent { ltime, name, payload: payload.into(), coalesce: false, raw };
            assert!(seen.put(&event, ltime));
        }
        let told = seen.all();
        assert_eq!(told.len(), TOLD_BYTES_MAX / FOREIGN_BYTES_MAX);
        assert_eq!(told.last().map(|event| event.ltime), Some(500));
    }
}
