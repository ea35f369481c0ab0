//! Idempotent producers of one partition: what was sent twice, what is missing, who is too old (KIP-98, KIP-360).
//!
//! ```text
//! check  before an append: a new batch, one that is there already, or a refusal
//! append after it: remember the batch
//! ```
//!
//! The last [`BATCHES_MAX`] batches of a producer are remembered, as many as it may have under way: one of them that
//! comes again gets the offset that it got. Sequence numbers wrap around after `i32::MAX`.

use std::collections::{BTreeMap, VecDeque};

use crate::log::wire::ErrorCode;

/// Batches of a producer that may be under way at the same time, and are remembered.
pub const BATCHES_MAX: usize = 5;

/// A batch of a producer, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch: who has the newest one is alive, the others are fenced.
    pub epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Records in it, less one.
    pub last_delta: i32,
    /// Newest time of a record, in ms since 1970.
    pub max_timestamp: i64,
    /// Part of a transaction.
    pub is_transactional: bool,
}

impl Sent {
    fn last_sequence(&self) -> i32 {
        advance(self.base_sequence, self.last_delta)
    }
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    New,
    /// It is there, at this offset: answer with that.
    Known {
        /// Offset of its first record.
        base_offset: i64,
        /// Newest time of a record, in ms since 1970.
        timestamp: i64,
    },
    /// Refuse it.
    Refused(ErrorCode),
}

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Sequence number of its first record.
    pub base_sequence: i32,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Newest time of a record, in ms since 1970.
    pub timestamp: i64,
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Producer {
    /// Its newest epoch.
    pub epoch: i16,
    /// Its last batches in this epoch, oldest first.
    pub batches: VecDeque<Appended>,
    /// Offset of the first record of its open transaction.
    pub transaction_start: Option<i64>,
    /// When it was last heard of, in ms since 1970.
    pub last_ms: i64,
    /// Epoch of the coordinator that ended its last transaction, or -1.
    pub coordinator_epoch: i32,
}

impl Producer {
    /// Sequence number of its last record; -1 before the first one of an epoch.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }
}

/// The producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Producers {
    producers: BTreeMap<i64, Producer>,
    /// First offsets of open transactions, with their producer.
    open: BTreeMap<i64, i64>,
}

impl Producers {
    /// What to do with a batch.
    pub fn check(&self, sent: &Sent) -> Verdict {
        let Some(producer) = self.producers.get(&sent.producer_id) else {
            // Nothing is known of it: any number is a beginning. A producer that was forgotten, because its records are
            // gone or it was silent for long, goes on where it was (KIP-360).
            return Verdict::New;
        };
        if sent.epoch < producer.epoch {
            return Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if sent.epoch > producer.epoch {
            // A new epoch begins at 0, unless nothing was written in the one before.
            let begins = sent.base_sequence == 0 || producer.batches.is_empty();
            return if begins {
                Verdict::New
            } else {
                Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            };
        }
        let same = |batch: &&Appended| {
            batch.base_sequence == sent.base_sequence && batch.last_sequence == sent.last_sequence()
        };
        if let Some(batch) = producer.batches.iter().rev().find(same) {
            return Verdict::Known { base_offset: batch.base_offset, timestamp: batch.timestamp };
        }
        match producer.batches.back() {
            None => Verdict::New,
            Some(last) if sent.base_sequence == advance(last.last_sequence, 1) => Verdict::New,
            // Also an older one than is remembered: a client has no more under way, so it is not its own.
            Some(_) => Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }

    /// Remembers a batch that is in the log now.
    pub fn append(&mut self, sent: &Sent, base_offset: i64) {
        let producer = self.producers.entry(sent.producer_id).or_insert_with(|| Producer {
            epoch: sent.epoch,
            coordinator_epoch: -1,
            ..Producer::default()
        });
        if producer.epoch != sent.epoch {
            producer.epoch = sent.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Appended {
            base_sequence: sent.base_sequence,
            last_sequence: sent.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(sent.last_delta),
            timestamp: sent.max_timestamp,
        });
        producer.last_ms = producer.last_ms.max(sent.max_timestamp);
        if sent.is_transactional && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base_offset);
            self.open.insert(base_offset, sent.producer_id);
        }
    }

    /// A marker ends the transaction of a producer; where that had begun, if it wrote anything.
    pub fn end_transaction(
        &mut self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
        now_ms: i64,
    ) -> Option<i64> {
        let producer = self.producers.entry(producer_id).or_insert_with(|| Producer {
            epoch,
            coordinator_epoch: -1,
            ..Producer::default()
        });
        if epoch > producer.epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.coordinator_epoch = coordinator_epoch;
        producer.last_ms = producer.last_ms.max(now_ms);
        let start = producer.transaction_start.take();
        if let Some(start) = start {
            self.open.remove(&start);
        }
        start
    }

    /// Takes in a producer that was kept.
    pub fn insert(&mut self, producer_id: i64, producer: Producer) {
        if let Some(start) = producer.transaction_start {
            self.open.insert(start, producer_id);
        }
        self.producers.insert(producer_id, producer);
    }

    /// One producer.
    pub fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.producers.get(&producer_id)
    }

    /// All producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Offset of the first record of the oldest open transaction.
    pub fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// Takes in a producer that was kept.
    pub fn restore(&mut self, producer_id: i64, producer: Producer) {
        if let Some(start) = producer.transaction_start {
            self.open.insert(start, producer_id);
        }
        self.producers.insert(producer_id, producer);
    }

    /// Forgets producers that were silent since `before_ms` and have nothing open.
    pub fn expire(&mut self, before_ms: i64) {
        self.producers
            .retain(|_, producer| producer.transaction_start.is_some() || producer.last_ms >= before_ms);
    }
}

/// Sequence numbers go on at 0 after `i32::MAX`.
fn advance(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(base_sequence: i32, count: i32) -> Sent {
        Sent {
            producer_id: 7,
            epoch: 0,
            base_sequence,
            last_delta: count - 1,
            max_timestamp: 1000,
            is_transactional: false,
        }
    }

    fn refused(code: ErrorCode) -> Verdict {
        Verdict::Refused(code)
    }

    #[test]
    fn a_batch_that_comes_again_gets_the_offset_it_got() {
        let mut producers = Producers::default();
        for number in 0..7 {
            let batch = sent(number * 10, 10);
            assert_eq!(producers.check(&batch), Verdict::New);
            producers.append(&batch, 100 + i64::from(number) * 10);
        }
        let known = |base_offset| Verdict::Known { base_offset, timestamp: 1000 };
        assert_eq!(producers.check(&sent(60, 10)), known(160));
        assert_eq!(producers.check(&sent(20, 10)), known(120));
        assert_eq!(
            producers.check(&sent(10, 10)),
            refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            "no longer known"
        );
        assert_eq!(producers.check(&sent(80, 1)), refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(producers.check(&sent(70, 1)), Verdict::New);
    }

    #[test]
    fn sequence_numbers_go_on_at_zero() {
        let mut producers = Producers::default();
        producers.append(&sent(i32::MAX - 1, 2), 0);
        assert_eq!(producers.check(&sent(0, 5)), Verdict::New);
        producers.append(&sent(0, 5), 2);
        assert_eq!(
            producers.check(&sent(i32::MAX - 1, 2)),
            Verdict::Known { base_offset: 0, timestamp: 1000 }
        );
        let mut producers = Producers::default();
        producers.append(&sent(i32::MAX - 1, 4), 0);
        assert_eq!(producers.get(7).unwrap().last_sequence(), 1);
        assert_eq!(producers.check(&sent(2, 1)), Verdict::New);
    }

    #[test]
    fn an_old_epoch_is_fenced_and_a_new_one_begins_at_zero() {
        let mut producers = Producers::default();
        producers.append(&Sent { epoch: 3, ..sent(0, 10) }, 0);
        assert_eq!(
            producers.check(&Sent { epoch: 2, ..sent(10, 1) }),
            refused(ErrorCode::INVALID_PRODUCER_EPOCH)
        );
        let wrong = Sent { epoch: 4, ..sent(10, 1) };
        assert_eq!(producers.check(&wrong), refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        let right = Sent { epoch: 4, ..sent(0, 1) };
        assert_eq!(producers.check(&right), Verdict::New);
        producers.append(&right, 10);
        assert_eq!(
            producers.check(&Sent { epoch: 3, ..sent(10, 1) }),
            refused(ErrorCode::INVALID_PRODUCER_EPOCH)
        );
    }

    #[test]
    fn a_producer_that_was_forgotten_goes_on() {
        let mut producers = Producers::default();
        assert_eq!(producers.check(&sent(1234, 1)), Verdict::New);
        producers.append(&sent(1234, 1), 0);
        producers.expire(1001);
        assert!(producers.is_empty());
        assert_eq!(producers.check(&sent(1235, 1)), Verdict::New);
    }

    #[test]
    fn open_transactions_hold_back_what_is_stable() {
        let mut producers = Producers::default();
        let of =
            |id, base_sequence| Sent { producer_id: id, is_transactional: true, ..sent(base_sequence, 10) };
        producers.append(&of(1, 0), 100);
        producers.append(&of(2, 0), 110);
        producers.append(&of(1, 10), 120);
        assert_eq!(producers.first_open(), Some(100));
        producers.expire(i64::MAX);
        assert_eq!(producers.len(), 2, "neither is forgotten with a transaction open");
        assert_eq!(producers.end_transaction(1, 0, 5, 2000), Some(100));
        assert_eq!(producers.first_open(), Some(110));
        assert_eq!(producers.end_transaction(2, 1, 5, 2000), Some(110));
        assert_eq!(producers.first_open(), None);
        assert_eq!(
            producers.check(&of(2, 10)),
            refused(ErrorCode::INVALID_PRODUCER_EPOCH),
            "the marker fenced it"
        );
        assert_eq!(producers.end_transaction(3, 0, 5, 2000), None, "it wrote nothing here");
    }
}
