//! Which batches a reader of committed records leaves out: those of aborted transactions, and the markers (KIP-98).

use std::collections::HashSet;

use crate::log::batch::{Marker, Unpacked};
use crate::log::wire::api::fetch::AbortedTransaction;

/// The aborted transactions of one partition, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Those that begin further on, the first last.
    later: Vec<AbortedTransaction>,
    /// Producers whose transaction, as it stands here, was aborted.
    aborted: HashSet<i64>,
}

impl Transactions {
    /// The broker tells which transactions in what it sent were aborted; it may tell of one again.
    pub(super) fn learn(&mut self, aborted: Vec<AbortedTransaction>) {
        for transaction in aborted {
            if !self.later.contains(&transaction) {
                self.later.push(transaction);
            }
        }
        self.later.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
    }

    /// Are the records of the next batch to be handed out?
    pub(super) fn wants(&mut self, batch: &Unpacked, committed: bool) -> bool {
        let header = &batch.header;
        while self.later.last().is_some_and(|it| it.first_offset < header.end_offset()) {
            self.aborted.extend(self.later.pop().map(|it| it.producer_id));
        }
        if header.is_control() {
            if batch.marker() == Some(Marker::Abort) {
                self.aborted.remove(&header.producer_id);
            }
            return false;
        }
        !(committed && header.is_transactional() && self.aborted.contains(&header.producer_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::control_batch;
    use crate::storage::BatchBuilder;

    fn at(offset: i64, mut bytes: Vec<u8>) -> Unpacked {
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        Unpacked::first(&bytes.into()).unwrap().unwrap()
    }

    fn data(offset: i64, producer: i64) -> Unpacked {
        let mut batch = BatchBuilder::new();
        batch.set_attributes(16);
        batch.set_producer(producer, 0, 0);
        batch.push_copied(0, None, Some(b"x"), &[]).unwrap();
        at(offset, batch.take())
    }

    #[test]
    fn records_of_aborted_transactions_are_left_out_up_to_their_marker() {
        let mut transactions = Transactions::default();
        let aborted = AbortedTransaction { producer_id: 7, first_offset: 2 };
        transactions.learn(vec![aborted.clone()]);
        transactions.learn(vec![aborted]);
        let abort = at(4, control_batch(Marker::Abort, 7, 0, 0, 0));
        let commit = at(6, control_batch(Marker::Commit, 7, 0, 0, 0));
        let batches = [data(1, 7), data(2, 7), data(3, 8), abort, data(5, 7), commit];
        let wanted: Vec<i64> = batches
            .iter()
            .filter(|batch| transactions.wants(batch, true))
            .map(|batch| batch.header.base_offset)
            .collect();
        assert_eq!(wanted, [1, 3, 5]);
    }

    #[test]
    fn a_reader_of_everything_gets_aborted_records_and_no_markers() {
        let mut transactions = Transactions::default();
        transactions.learn(vec![AbortedTransaction { producer_id: 7, first_offset: 0 }]);
        assert!(transactions.wants(&data(0, 7), false));
        assert!(!transactions.wants(&at(1, control_batch(Marker::Abort, 7, 0, 0, 0)), false));
    }
}
