//! A batch that is closed and on its way, and which messages are in it.

use bytes::Bytes;
use tokio::time::Instant;

use super::Error;
use crate::log::batch::{self, Unpacked};
use crate::log::wire::Compression;
use crate::storage::{BatchBuilder, HEADER_LEN, Header};

/// Runs of message numbers, in the order in which the messages stand in a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ids(Vec<(u64, u32)>);

impl Ids {
    pub(super) fn push(&mut self, id: u64) {
        match self.0.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == id => *count += 1,
            _ => self.0.push((id, 1)),
        }
    }

    /// Every number, with its place in the batch.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(first, count)| *first..*first + u64::from(*count))
    }

    fn split(&self, at: usize) -> (Self, Self) {
        let (mut left, mut right) = (Self::default(), Self::default());
        for (place, id) in self.iter().enumerate() {
            if place < at { left.push(id) } else { right.push(id) }
        }
        (left, right)
    }
}

/// A closed batch.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub bytes: Bytes,
    pub ids: Ids,
    pub count: usize,
    /// Sequence number of its first record; -1 without a producer id.
    pub sequence: i32,
    /// When it was closed: it is tried for so long from here.
    pub since: Instant,
    /// It was sent before, and what became of it is not known.
    pub in_doubt: bool,
}

impl Sealed {
    /// The newest time of a record in it, in ms since 1970.
    pub(super) fn timestamp(&self) -> i64 {
        Header::parse(&self.bytes).map_or(-1, |header| header.max_timestamp)
    }

    /// The same records under another producer id and sequence number.
    pub(super) fn renumber(&mut self, (id, epoch): (i64, i16), sequence: i32) {
        let Ok(mut header) = Header::parse(&self.bytes) else { return };
        (header.producer_id, header.producer_epoch, header.base_sequence) = (id, epoch, sequence);
        let mut bytes = self.bytes.to_vec();
        bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        batch::sum_up(&mut bytes);
        (self.bytes, self.sequence) = (bytes.into(), sequence);
    }

    /// Two halves, for a broker that takes no batch as large as this one.
    pub(super) fn split(&self, codec: (Compression, Option<i32>)) -> Result<[Self; 2], Error> {
        let broken = |error: batch::Error| Error::Batch {
            topic: String::new(),
            partition: -1,
            offset: 0,
            error: std::sync::Arc::new(error),
        };
        let whole = Unpacked::first(&self.bytes).map_err(broken)?;
        let whole = whole.ok_or(Error::Closed)?;
        let middle = self.count / 2;
        let mut halves = [BatchBuilder::new(), BatchBuilder::new()];
        for (place, record) in whole.records().enumerate() {
            let record = record.map_err(|error| broken(error.into()))?;
            let headers: Vec<_> = record.headers.iter().collect();
            let half = &mut halves[usize::from(place >= middle)];
            half.push_copied(record.timestamp, record.key, record.value, &headers)
                .map_err(|error| broken(error.into()))?;
        }
        let (left, right) = self.ids.split(middle);
        let header = &whole.header;
        let mut sealed = Vec::with_capacity(2);
        for (mut half, ids, at) in
            halves.into_iter().zip([left, right]).zip([0, middle]).map(|((a, b), c)| (a, b, c))
        {
            let sequence = if self.sequence < 0 { -1 } else { next_sequence(self.sequence, at) };
            half.set_producer(header.producer_id, header.producer_epoch, sequence);
            half.set_attributes(header.attributes);
            let count = half.count();
            let bytes = batch::pack(&mut half, codec.0, codec.1).map_err(Error::from)?;
            sealed.push(Self { bytes, ids, count, sequence, since: self.since, in_doubt: false });
        }
        <[Self; 2]>::try_from(sealed).map_err(|_| Error::Closed)
    }
}

/// Sequence numbers go round after 2^31 - 1.
pub(super) fn next_sequence(sequence: i32, count: usize) -> i32 {
    ((i64::from(sequence) + count as i64) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_have_the_records_numbers_and_sequences_of_the_whole() {
        let mut builder = BatchBuilder::new();
        builder.set_producer(7, 1, 100);
        let mut ids = Ids::default();
        for id in [5u64, 6, 9, 10, 11] {
            builder.push_copied(1000, None, Some(id.to_string().as_bytes()), &[]).unwrap();
            ids.push(id);
        }
        let bytes = Bytes::from(builder.take());
        let whole = Sealed { bytes, ids, count: 5, sequence: 100, since: Instant::now(), in_doubt: true };
        let [left, right] = whole.split((Compression::Zstd, None)).unwrap();
        assert_eq!(left.ids.iter().chain(right.ids.iter()).collect::<Vec<_>>(), [5, 6, 9, 10, 11]);
        assert_eq!((left.sequence, left.count, right.sequence, right.count), (100, 2, 102, 3));
        let mut again = right;
        again.renumber((8, 0), 0);
        let batch = Unpacked::first(&again.bytes).unwrap().unwrap();
        assert_eq!((batch.header.producer_id, batch.header.base_sequence), (8, 0));
        let values: Vec<_> = batch.records().map(|record| record.unwrap().value.unwrap().to_vec()).collect();
        assert_eq!(values, [b"9".to_vec(), b"10".to_vec(), b"11".to_vec()]);
    }

    #[test]
    fn sequence_numbers_go_round() {
        assert_eq!(next_sequence(5, 3), 8);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 4), 2);
    }
}
