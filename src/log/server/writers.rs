//! Who writes to a partition: idempotent producers, open transactions, and those that were given up. It is found out from the
//! headers of the log; what is kept beside the log spares a start most of them.

use serde_json::{Value as Json, json};

use super::partition::sent;
use crate::log::engine::producer::{Appended, Producer, Producers};
use crate::storage::{Error, Header, Log};

/// Of what is kept.
const VERSION: i64 = 1;

/// Who writes to a partition, and what of it was given up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Writers {
    pub(super) producers: Producers,
    /// Transactions that were given up, in the order of their markers.
    pub(super) aborted: Vec<Aborted>,
}

/// A transaction that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    /// Offset of its first record.
    pub(super) first: i64,
    /// Offset of its marker.
    pub(super) last: i64,
}

impl Writers {
    pub(super) fn end(&mut self, producer: (i64, i16), commits: bool, marker: i64, now_ms: i64) {
        let (producer_id, epoch) = producer;
        let first = self.producers.end_transaction(producer_id, epoch, 0, now_ms);
        if let Some(first) = first
            && !commits
        {
            self.aborted.push(Aborted { producer_id, first, last: marker });
        }
    }

    /// As it is kept: true for the log up to `end`, written under that epoch or older ones.
    pub(super) fn to_bytes(&self, end: i64, epoch: i32) -> Vec<u8> {
        let batch = |one: &Appended| {
            json!([one.base_sequence, one.last_sequence, one.base_offset, one.last_offset, one.timestamp])
        };
        let producer = |(id, one): (i64, &Producer)| {
            let batches: Vec<Json> = one.batches.iter().map(batch).collect();
            json!([id, one.epoch, one.last_ms, one.coordinator_epoch, one.transaction_start, batches])
        };
        let producers: Vec<Json> = self.producers.iter().map(producer).collect();
        let aborted: Vec<Json> =
            self.aborted.iter().map(|one| json!([one.producer_id, one.first, one.last])).collect();
        let all = json!({
            "version": VERSION, "end": end, "epoch": epoch, "producers": producers, "aborted": aborted,
        });
        all.to_string().into_bytes()
    }

    /// The other way round, with up to where it is true; none if this version cannot read it.
    fn from_bytes(bytes: &[u8]) -> Option<(Self, i64, i32)> {
        let all: Json = serde_json::from_slice(bytes).ok()?;
        if all["version"] != VERSION {
            return None;
        }
        let number = |value: &Json| value.as_i64();
        let small = |value: &Json| i32::try_from(value.as_i64()?).ok();
        let mut writers = Self::default();
        for one in all["producers"].as_array()? {
            let mut producer = Producer {
                epoch: i16::try_from(number(&one[1])?).ok()?,
                last_ms: number(&one[2])?,
                coordinator_epoch: small(&one[3])?,
                transaction_start: if one[4].is_null() { None } else { Some(number(&one[4])?) },
                ..Producer::default()
            };
            for batch in one[5].as_array()? {
                producer.batches.push_back(Appended {
                    base_sequence: small(&batch[0])?,
                    last_sequence: small(&batch[1])?,
                    base_offset: number(&batch[2])?,
                    last_offset: number(&batch[3])?,
                    timestamp: number(&batch[4])?,
                });
            }
            writers.producers.insert(number(&one[0])?, producer);
        }
        for one in all["aborted"].as_array()? {
            let (producer_id, first, last) = (number(&one[0])?, number(&one[1])?, number(&one[2])?);
            writers.aborted.push(Aborted { producer_id, first, last });
        }
        Some((writers, number(&all["end"])?, small(&all["epoch"])?))
    }
}

/// Finds out who writes to a log: from what is kept beside it, and the headers behind that. Up to where it was kept.
pub(super) fn restore(log: &Log) -> Result<(Writers, i64), Error> {
    let (mut writers, from) = match kept(log) {
        Some((writers, end)) => (writers, end),
        None => (Writers::default(), log.start()),
    };
    let mut headers: Vec<Header> = Vec::new();
    log.headers(from, &mut |header| {
        if header.producer_id >= 0 {
            headers.push(*header);
        }
    })?;
    for header in headers {
        if !header.is_control() {
            writers.producers.append(&sent(&header), header.base_offset);
            continue;
        }
        let batch = log.read_batch(header.base_offset)?;
        if let Some(commits) = super::coordinator::marker(&batch) {
            let producer = (header.producer_id, header.producer_epoch);
            writers.end(producer, commits, header.base_offset, header.max_timestamp);
        }
    }
    Ok((writers, from))
}

/// What is kept beside a log, if the log is still the one that it is true of: it goes up to there, and nothing before that
/// was written under a later epoch, as it would be if its end had been cut since.
fn kept(log: &Log) -> Option<(Writers, i64)> {
    let (writers, end, epoch) = Writers::from_bytes(&log.kept_beside()?)?;
    let is_later = |(later, from): &(i32, i64)| *later > epoch && *from < end;
    let is_true = (log.start()..=log.end()).contains(&end) && !log.epochs().iter().any(is_later);
    is_true.then_some((writers, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::engine::producer::Sent;
    use crate::storage::{BatchBuilder, Checked, Importance, LogConfig, LogId, Options, Store};

    fn batch(producer_id: i64, sequence: i32) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.push_copied(1, None, Some(b"x"), &[]).unwrap();
        builder.set_producer(producer_id, 0, sequence);
        builder.to_vec(0, -1)
    }

    fn append(log: &Log, epoch: i32, producer_id: i64, sequences: std::ops::Range<i32>) {
        for sequence in sequences {
            let bytes = batch(producer_id, sequence);
            log.append(Checked::new(&bytes).unwrap(), epoch, Importance::Normal).unwrap();
        }
        log.wait(log.end()).unwrap();
    }

    #[test]
    fn everything_comes_back_as_it_was() {
        let mut writers = Writers::default();
        let sent = |producer_id, base_sequence, is_transactional| Sent {
            producer_id,
            epoch: 3,
            base_sequence,
            last_delta: 4,
            max_timestamp: 77,
            is_transactional,
        };
        (0..7).for_each(|at| writers.producers.append(&sent(1, at * 5, false), i64::from(at) * 5));
        writers.producers.append(&sent(2, 0, true), 35);
        writers.producers.append(&sent(3, 0, true), 40);
        writers.end((2, 3), false, 45, 78);
        let bytes = writers.to_bytes(46, 9);
        assert_eq!(Writers::from_bytes(&bytes), Some((writers, 46, 9)));
        assert_eq!(Writers::from_bytes(b"{}"), None);
        for end in 0..bytes.len() {
            assert_eq!(Writers::from_bytes(&bytes[..end]), None);
        }
    }

    #[test]
    fn what_is_kept_spares_reading_and_is_not_believed_when_the_log_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (id, config) = (LogId::from_bytes([7; 16]), LogConfig { segment_bytes: 1 << 20, compact: false });
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let log = store.log(id, config).unwrap();
        append(&log, 0, 5, 0..8);
        let (writers, from) = restore(&log).unwrap();
        assert_eq!(from, 0);
        log.keep_beside(&writers.to_bytes(log.end(), 0)).unwrap();
        append(&log, 0, 6, 0..2);
        let (again, from) = restore(&log).unwrap();
        assert_eq!((from, again.producers.get(5)), (8, writers.producers.get(5)));
        assert_eq!(again.producers.get(6).map(Producer::last_sequence), Some(1));
        // A later leader has written what this says an earlier one had: its end was cut.
        append(&log, 2, 7, 0..1);
        log.keep_beside(&again.to_bytes(11, 1)).unwrap();
        assert_eq!(restore(&log).unwrap().1, 0);
        // Beyond the end, and damaged.
        log.keep_beside(&again.to_bytes(99, 2)).unwrap();
        assert_eq!(restore(&log).unwrap().1, 0);
        log.keep_beside(b"nothing").unwrap();
        assert!(log.keep_beside(&vec![0; 64 << 20]).is_err(), "it would not be read back");
        assert_eq!(restore(&log).unwrap().0.producers.get(5), writers.producers.get(5));
        drop(log);
        store.close().unwrap();
    }
}
