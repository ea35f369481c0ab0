//! Users' events: each is told once, and passed on byte by byte as it came.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Engine, Event, Message, Output, Refusal, Serf, Time};
use crate::gossip::wire::UserEvent;

/// Most bytes of an event's name and payload. Serf, UserEventSizeLimit of its default.
pub const EVENT_BYTES_MAX: usize = 512;
/// Most bytes of one that is taken from others. Serf, UserEventSizeLimit: agents can be told to allow as many.
const FOREIGN_BYTES_MAX: usize = 9 * 1024;
/// Events are told apart for so many times; older ones are ignored. Serf, EventBuffer.
const WINDOW: u64 = 512;
/// Most events of one time.
const PER_TIME_MAX: usize = 256;

/// Events that have come.
#[derive(Debug, Default)]
pub(super) struct Seen {
    by_ltime: BTreeMap<u64, Vec<UserEvent>>,
    least: u64,
}

impl Seen {
    /// What happened before is not told any more.
    pub fn ignore_until(&mut self, ltime: u64) {
        self.least = self.least.max(ltime);
    }

    /// Those that can be told to somebody who joins, by time.
    pub fn all(&self) -> Vec<UserEvent> {
        let unraw = |event: &UserEvent| UserEvent { raw: Bytes::new(), ..event.clone() };
        self.by_ltime.values().flatten().map(unraw).collect()
    }

    /// True if it is news.
    fn put(&mut self, event: &UserEvent, clock: u64) -> bool {
        let oldest = clock.saturating_sub(WINDOW);
        let is_over = event.name.len() + event.payload.len() > FOREIGN_BYTES_MAX;
        if event.ltime < self.least || event.ltime < oldest || is_over {
            return false;
        }
        while self.by_ltime.first_key_value().is_some_and(|(ltime, _)| *ltime < oldest) {
            self.by_ltime.pop_first();
        }
        let same = |known: &UserEvent| known.name == event.name && known.payload == event.payload;
        let slot = self.by_ltime.entry(event.ltime).or_default();
        if slot.len() >= PER_TIME_MAX || slot.iter().any(same) {
            return false;
        }
        slot.push(event.clone());
        true
    }
}

impl Engine {
    /// An event came. Serf, handleUserEvent.
    pub(super) fn receive_event(&mut self, event: UserEvent, outputs: &mut Vec<Output>) {
        if self.event_clock.witness(event.ltime) && self.take_event(&event, outputs) {
            self.events.pass_on(Message::Serf(Serf::Event(event)), self.room());
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
