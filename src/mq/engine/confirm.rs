//! What a publisher is still owed: which messages of a channel wait for their queues, and how the answers are grouped.

use std::collections::VecDeque;

/// An answer to publishes: `basic.ack` or `basic.nack` from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ack { seq: u64, multiple: bool },
    Nack { seq: u64 },
}

/// The publishes of a channel since `confirm.select`, or those of a transaction that commits.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The first publish that is not settled; they count from 1.
    base: u64,
    waiting: VecDeque<Waiting>,
    /// Settled since the last answers, though something before them is not.
    early: Vec<u64>,
    refused: Vec<u64>,
    /// Up to here everything was answered.
    answered: u64,
    /// Refused since the beginning.
    refusals: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    queues: u32,
    refused: bool,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            base: 1,
            waiting: VecDeque::new(),
            early: Vec::new(),
            refused: Vec::new(),
            answered: 0,
            refusals: 0,
        }
    }
}

impl Confirms {
    /// Takes note of the next publish; call [`Confirms::add`] for each queue that has to store it, then
    /// [`Confirms::settle`] once.
    #[inline]
    pub fn open(&mut self) -> u64 {
        self.waiting.push_back(Waiting { queues: 1, refused: false });
        self.base + self.waiting.len() as u64 - 1
    }

    #[inline]
    fn at(&mut self, seq: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(seq.checked_sub(self.base)? as usize)
    }

    /// One more queue has to store it.
    pub fn add(&mut self, seq: u64) {
        if let Some(waiting) = self.at(seq) {
            waiting.queues += 1;
        }
    }

    /// A queue did not take it, or could not store it.
    pub fn refuse(&mut self, seq: u64) {
        if let Some(waiting) = self.at(seq) {
            waiting.refused = true;
        }
    }

    /// One of those it waited for is done.
    #[inline]
    pub fn settle(&mut self, seq: u64) {
        let base = self.base;
        let Some(waiting) = self.at(seq) else { return };
        waiting.queues = waiting.queues.saturating_sub(1);
        if waiting.queues > 0 {
            return;
        }
        if waiting.refused {
            self.refused.push(seq);
            self.refusals += 1;
        } else if seq != base {
            self.early.push(seq);
        }
        while let Some(Waiting { queues: 0, .. }) = self.waiting.front() {
            self.waiting.pop_front();
            self.base += 1;
        }
    }

    /// How many publishes are not settled.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.queues > 0).count()
    }

    /// How many publishes were confirmed, those not counted that wait for one before them.
    pub fn confirmed(&self) -> u64 {
        (self.base - 1).saturating_sub(self.refusals)
    }

    /// Whether everything is settled.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The answers due: refusals singly, then one acknowledgement of all that are settled without a gap, then
    /// single ones, as RabbitMQ orders them.
    pub fn answers(&mut self, give: &mut impl FnMut(Answer)) {
        for seq in self.refused.drain(..) {
            give(Answer::Nack { seq });
            if seq == self.answered + 1 {
                self.answered = seq;
            }
        }
        let settled = self.base - 1;
        if settled > self.answered {
            give(Answer::Ack { seq: settled, multiple: settled > self.answered + 1 });
            self.answered = settled;
        }
        for seq in self.early.drain(..).filter(|seq| *seq > settled) {
            give(Answer::Ack { seq, multiple: false });
        }
    }

    /// Forgets what was settled, answered or not: for transactions, which answer once.
    pub fn discard_answers(&mut self) {
        self.refused.clear();
        self.early.clear();
        self.answered = self.base - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(confirms: &mut Confirms) -> Vec<Answer> {
        let mut answers = Vec::new();
        confirms.answers(&mut |answer| answers.push(answer));
        answers
    }

    #[test]
    fn settled_without_a_gap_is_one_answer() {
        let mut confirms = Confirms::default();
        (0..5).for_each(|_| {
            let seq = confirms.open();
            confirms.settle(seq);
        });
        assert_eq!(answers(&mut confirms), [Answer::Ack { seq: 5, multiple: true }]);
        assert_eq!(answers(&mut confirms), []);
        let seq = confirms.open();
        confirms.settle(seq);
        assert_eq!(answers(&mut confirms), [Answer::Ack { seq: 6, multiple: false }]);
    }

    #[test]
    fn one_that_waits_holds_nobody_up() {
        let mut confirms = Confirms::default();
        let slow = confirms.open();
        confirms.add(slow);
        confirms.settle(slow);
        for _ in 0..3 {
            let seq = confirms.open();
            confirms.settle(seq);
        }
        let single = |seq| Answer::Ack { seq, multiple: false };
        assert_eq!(answers(&mut confirms), [single(2), single(3), single(4)]);
        confirms.settle(slow);
        assert_eq!(answers(&mut confirms), [Answer::Ack { seq: 4, multiple: true }]);
        assert!(confirms.is_idle());
    }

    #[test]
    fn refused_by_one_queue_is_refused_once_all_have_answered() {
        let mut confirms = Confirms::default();
        let first = confirms.open();
        confirms.add(first);
        confirms.refuse(first);
        confirms.settle(first);
        assert_eq!(answers(&mut confirms), []);
        confirms.settle(first);
        assert_eq!(answers(&mut confirms), [Answer::Nack { seq: 1 }]);
    }
}
