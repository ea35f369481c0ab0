//! What was published and not yet confirmed, in order: pure bookkeeping of a publisher.

use std::collections::VecDeque;

use bytes::Bytes;

use super::link::Confirm;
use super::{Failure, Message, Reason, Returned};

/// What a message takes besides its bytes, about, in bytes.
const MESSAGE_OVERHEAD: usize = 200;

/// Publishes without an answer, numbered from 0 over all connections.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// The broker's number for the first slot; it counts from 1 on every channel.
    first_tag: u64,
    /// The number of the next message.
    next_id: u64,
    /// Bytes of messages without an answer.
    bytes: usize,
    /// Messages without an answer.
    waiting: usize,
    /// Where to look for the next message that comes back: they mostly come in order.
    returned_tag: u64,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    /// None when it is answered.
    message: Option<Message>,
    /// Why the broker gave it back; the confirm follows.
    returned: Option<Reason>,
}

impl Window {
    pub fn new() -> Self {
        Self { first_tag: 1, ..Self::default() }
    }

    /// Messages without an answer.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages of which all before have an answer.
    pub fn settled(&self) -> u64 {
        self.slots.front().map_or(self.next_id, |slot| slot.id)
    }

    /// Notes what is sent now, and numbers it.
    pub fn push(&mut self, message: Message) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.bytes += size_of(&message);
        self.waiting += 1;
        self.slots.push_back(Slot { id, message: Some(message), returned: None });
        id
    }

    /// Numbers what is sent without waiting for an answer.
    pub fn pass(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Notes a message that came back. Brokers do not say which publish it was: it is the first one that is the
    /// same in all that came back. Of several that are the same, it does not matter which.
    pub fn returned(&mut self, returned: Returned) {
        let start = self.returned_tag.saturating_sub(self.first_tag) as usize;
        let start = start.min(self.slots.len());
        let is_it = |slot: &Slot| {
            slot.returned.is_none()
                && slot.message.as_ref().is_some_and(|message| is_same(message, &returned))
        };
        let found = (start..self.slots.len()).chain(0..start).find(|at| is_it(&self.slots[*at]));
        if let Some(at) = found {
            self.returned_tag = self.first_tag + at as u64 + 1;
            self.slots[at].returned = Some(Reason::Unroutable { code: returned.code, text: returned.text });
        }
    }

    /// Notes an answer, and what has failed by it.
    pub fn confirmed(&mut self, confirm: Confirm, failures: &mut Vec<Failure>) {
        // 0 with multiple is everything: AMQP 0-9-1, basic.ack.
        let last = match confirm.tag {
            0 => self.slots.len(),
            tag => (tag + 1).saturating_sub(self.first_tag) as usize,
        };
        let last = last.min(self.slots.len());
        let first = if confirm.multiple { 0 } else { last.saturating_sub(1) };
        for at in first..last {
            self.settle(at, confirm.taken, failures);
        }
        while self.slots.front().is_some_and(|slot| slot.message.is_none()) {
            self.slots.pop_front();
            self.first_tag += 1;
        }
    }

    fn settle(&mut self, at: usize, taken: bool, failures: &mut Vec<Failure>) {
        let slot = &mut self.slots[at];
        let Some(message) = slot.message.take() else { return };
        self.bytes -= size_of(&message);
        self.waiting -= 1;
        let reason = match slot.returned.take() {
            Some(reason) => reason,
            None if taken => return,
            None => Reason::Rejected,
        };
        failures.push(Failure { id: slot.id, message, reason });
    }

    /// Begins anew on another channel: what has no answer is to be sent again, in this order.
    pub fn restart(&mut self) -> impl Iterator<Item = &Message> {
        self.slots.retain_mut(|slot| {
            slot.returned = None;
            slot.message.is_some()
        });
        (self.first_tag, self.returned_tag) = (1, 0);
        self.slots.iter().filter_map(|slot| slot.message.as_ref())
    }
}

fn size_of(message: &Message) -> usize {
    message.body.len() + message.properties.len() + MESSAGE_OVERHEAD
}

fn is_same(message: &Message, returned: &Returned) -> bool {
    let same = |ours: &Bytes, theirs: &Bytes| ours == theirs;
    *message.exchange == *returned.exchange
        && same(&message.routing_key, &returned.routing_key)
        && same(&message.body, &returned.body)
        && same(&message.properties, &returned.properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(body: &str) -> Message {
        Message { body: Bytes::copy_from_slice(body.as_bytes()), mandatory: true, ..Message::default() }
    }

    fn back(body: &str) -> Returned {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Returned {
            code: 312,
            text: "NO_ROUTE".to_owned(),
            exchange: String::new(),
            routing_key: Bytes::new(),
            properties: Message::default().properties,
            body,
        }
    }

    fn ack(tag: u64, multiple: bool) -> Confirm {
        Confirm { tag, multiple, taken: true }
    }

    #[test]
    fn answers_settle_from_the_front() {
        let (mut window, mut failures) = (Window::new(), Vec::new());
        for body in ["a", "b", "c", "d"] {
            window.push(message(body));
        }
        window.confirmed(ack(2, false), &mut failures);
        assert_eq!((window.settled(), window.waiting()), (0, 3));
        window.confirmed(Confirm { tag: 1, multiple: false, taken: false }, &mut failures);
        assert_eq!((window.settled(), window.waiting()), (2, 2));
        window.confirmed(ack(4, true), &mut failures);
        assert_eq!((window.settled(), window.waiting(), window.bytes()), (4, 0, 0));
        assert_eq!(failures, [Failure { id: 0, message: message("a"), reason: Reason::Rejected }]);
    }

    #[test]
    fn what_came_back_is_matched_by_what_it_is() {
        let (mut window, mut failures) = (Window::new(), Vec::new());
        for body in ["a", "b", "b", "c"] {
            window.push(message(body));
        }
        window.returned(back("b"));
        window.returned(back("a"));
        window.returned(back("b"));
        window.returned(back("nobody's"));
        window.confirmed(ack(0, true), &mut failures);
        let ids: Vec<u64> = failures.iter().map(|failure| failure.id).collect();
        assert_eq!(ids, [0, 1, 2]);
        let expected = Reason::Unroutable { code: 312, text: "NO_ROUTE".to_owned() };
        assert!(failures.iter().all(|failure| failure.reason == expected));
    }

    #[test]
    fn a_new_channel_counts_anew() {
        let (mut window, mut failures) = (Window::new(), Vec::new());
        for body in ["a", "b", "c"] {
            window.push(message(body));
        }
        window.confirmed(ack(2, false), &mut failures);
        let again: Vec<Message> = window.restart().cloned().collect();
        assert_eq!(again, [message("a"), message("c")]);
        assert_eq!(window.push(message("d")), 3);
        window.confirmed(ack(2, true), &mut failures);
        assert_eq!((window.settled(), window.waiting()), (3, 1));
        window.confirmed(ack(3, false), &mut failures);
        assert_eq!((window.settled(), window.bytes(), failures.len()), (4, 0, 0));
    }

    proptest! {
        #[test]
        fn any_answers_leave_the_sums_right(answers in prop::collection::vec((0u64..40, any::<bool>(), any::<bool>()), 0..60)) {
            let (mut window, mut failures) = (Window::new(), Vec::new());
            for (tag, multiple, taken) in answers {
                window.push(message("x"));
                window.confirmed(Confirm { tag, multiple, taken }, &mut failures);
                let waiting = window.slots.iter().filter(|slot| slot.message.is_some()).count();
                prop_assert_eq!(window.waiting(), waiting);
                prop_assert_eq!(window.bytes(), waiting * size_of(&message("x")));
            }
        }
    }
}
