//! Record batches as Kafka's clients and brokers use them: packed records, control records; the format itself is storage's.

use std::io;

use bytes::Bytes;

use super::wire::{Compression, CompressionError};
use crate::storage::{
    BATCH_BYTES_MAX, Batch, BatchBuilder, BatchError, HEADER_LEN, Header, Packing, Records,
};

/// Most bytes that the records of one batch may unpack to.
pub const UNPACKED_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Why fetched bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a batch of the format that is known here, or damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Its records cannot be unpacked.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// A batch with its records unpacked.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// Its header; the length is that of the packed batch.
    pub header: Header,
    body: Bytes,
}

impl Unpacked {
    /// Whether [`first`](Self::first) would find a batch, or something wrong, at the front of `bytes`.
    pub fn is_whole(bytes: &[u8]) -> bool {
        !matches!(Batch::parse(bytes), Err(BatchError::Incomplete { .. }))
    }

    /// Checks and unpacks the batch at the front of `bytes`; `None` if only a part of it is there, as at the end of a fetch.
    ///
    /// # Errors
    /// Another format, a wrong checksum, records that do not unpack.
    pub fn first(bytes: &Bytes) -> Result<Option<Self>, Error> {
        let batch = match Batch::parse(bytes) {
            Ok(batch) => batch,
            Err(BatchError::Incomplete { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        batch.check()?;
        let header = batch.header;
        let code = header.compression();
        let body = match Compression::from_code(code).ok_or(CompressionError::Unknown(code))? {
            Compression::None => bytes.slice(HEADER_LEN..header.len),
            codec => codec.unpack(batch.body(), UNPACKED_BYTES_MAX)?.into(),
        };
        Ok(Some(Self { header, body }))
    }

    /// Its records, borrowed.
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.header, &self.body)
    }

    /// The unpacked records, which [`Unpacked::records`] borrows from.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What the batch marks, if it is a control batch of a kind that is known.
    pub fn marker(&self) -> Option<Marker> {
        let record = self.records().next().filter(|_| self.header.is_control())?.ok()?;
        match record.key? {
            [_, _, 0, 0, ..] => Some(Marker::Abort),
            [_, _, 0, 1, ..] => Some(Marker::Commit),
            _ => None,
        }
    }
}

/// The batches of a fetch, one after the other; ends before one that is not all there.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Reads `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for Batches {
    type Item = Result<Unpacked, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match Unpacked::first(&self.rest) {
            Ok(Some(batch)) => {
                self.rest = self.rest.slice(batch.header.len..);
                Some(Ok(batch))
            }
            Ok(None) => None,
            Err(error) => {
                self.rest = Bytes::new();
                Some(Err(error))
            }
        }
    }
}

/// How a transaction ended: what a control record says (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marker {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// The control batch that ends a producer's transaction in a partition, at offset 0.
pub fn control_batch(
    marker: Marker,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    now_ms: i64,
) -> Vec<u8> {
    let kind: u8 = match marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let epoch = coordinator_epoch.to_be_bytes();
    // Key: version 0 and the kind; value: version 0 and the coordinator's epoch.
    let (key, value) = ([0, 0, 0, kind], [0, 0, epoch[0], epoch[1], epoch[2], epoch[3]]);
    let mut batch = BatchBuilder::new();
    batch.set_attributes(16 | 32);
    batch.set_producer(producer_id, producer_epoch, -1);
    batch.push_copied(now_ms, Some(&key), Some(&value), &[]).expect("ten bytes are no batch too large");
    batch.take()
}

/// The batch, packed, at offset 0; the builder is empty afterwards. A batch that would grow is left as it is.
///
/// # Errors
/// The codec refuses the level.
pub fn pack(batch: &mut BatchBuilder, codec: Compression, level: Option<i32>) -> io::Result<Bytes> {
    let plain = batch.take();
    if codec == Compression::None {
        return Ok(plain.into());
    }
    let mut packed = Vec::with_capacity(HEADER_LEN + plain.len() / 2);
    packed.extend_from_slice(&[0; HEADER_LEN]);
    codec.pack(&plain[HEADER_LEN..], level, &mut packed)?;
    if packed.len() >= plain.len() {
        return Ok(plain.into());
    }
    let mut header = Header::parse(&plain).map_err(io::Error::other)?;
    header.len = packed.len();
    header.attributes |= i16::from(codec.code());
    packed[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    sum_up(&mut packed);
    Ok(packed.into())
}

/// Puts the checksum of a batch into place, after its header has changed. Fewer bytes than a header are left alone.
pub fn sum_up(batch: &mut [u8]) {
    let Some((head, summed)) = batch.split_at_mut_checked(CRC_FROM) else { return };
    head[CRC_FROM - 4..].copy_from_slice(&crc32c::crc32c(summed).to_be_bytes());
}

/// The checksum stands before this place and covers everything from it.
const CRC_FROM: usize = 21;

/// Packs and unpacks for [`storage`](crate::storage), which compacts packed batches without knowing how they are packed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codecs;

impl Packing for Codecs {
    fn unpack(&mut self, compression: u8, body: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
        let codec = Compression::from_code(compression)
            .ok_or_else(|| io::Error::other(CompressionError::Unknown(compression)))?;
        codec.unpack(body, bytes_max).map_err(io::Error::other)
    }

    fn pack(&mut self, compression: u8, records: &[u8]) -> io::Result<Vec<u8>> {
        let codec = Compression::from_code(compression)
            .ok_or_else(|| io::Error::other(CompressionError::Unknown(compression)))?;
        let mut out = Vec::new();
        codec.pack(records, None, &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn builder(values: &[Vec<u8>]) -> BatchBuilder {
        let mut batch = BatchBuilder::new();
        for (number, value) in values.iter().enumerate() {
            batch.push(1000 + number as i64, Some(b"k"), b"", &Bytes::copy_from_slice(value)).unwrap();
        }
        batch
    }

    fn values(bytes: &Bytes) -> Vec<Vec<u8>> {
        let batches = Batches::new(bytes.clone()).map(Result::unwrap).collect::<Vec<_>>();
        let of = |batch: &Unpacked| {
            batch.records().map(|record| record.unwrap().value.unwrap().to_vec()).collect::<Vec<_>>()
        };
        batches.iter().flat_map(of).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn packed_batches_go_round(
            given in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 1..20),
        ) {
            for codec in Compression::ALL {
                let one = pack(&mut builder(&given), codec, None).unwrap();
                prop_assert_eq!(&values(&one), &given);
                // Two of them, the second not whole, as at the end of a fetch.
                let two = Bytes::from([&one[..], &one[..one.len() - 1]].concat());
                prop_assert_eq!(&values(&two), &given);
            }
        }

        #[test]
        fn damage_is_found(at in 21usize.., bit in 0u8..8) {
            let good = pack(&mut builder(&[b"some text, some text, some text".to_vec()]), Compression::None, None).unwrap();
            let mut bad = good.to_vec();
            let at = 21 + at % (bad.len() - 21);
            bad[at] ^= 1 << bit;
            prop_assert!(Unpacked::first(&bad.into()).is_err());
        }
    }

    #[test]
    fn repeated_text_is_packed_smaller_and_noise_is_left_as_it_is() {
        let text = vec![b"lorem ipsum ".repeat(100)];
        let plain = pack(&mut builder(&text), Compression::None, None).unwrap();
        for codec in Compression::ALL.into_iter().skip(1) {
            let packed = pack(&mut builder(&text), codec, None).unwrap();
            assert!(packed.len() < plain.len() / 4, "{codec}: {} of {}", packed.len(), plain.len());
            assert_eq!(Header::parse(&packed).unwrap().compression(), codec.code());
        }
        let noise = vec![b"x".to_vec()];
        let packed = pack(&mut builder(&noise), Compression::Gzip, None).unwrap();
        assert_eq!(Header::parse(&packed).unwrap().compression(), 0);
    }

    /// As librdkafka 2.0.2 (kcat, with a key and two headers of the same name) and Java's kafka-clients 4.2.0 sent them.
    #[test]
    fn batches_of_other_clients_are_read() {
        let mut files = 0;
        for client in ["librdkafka-2.0.2", "java-4.2.0"] {
            for codec in Compression::ALL {
                let Ok(bytes) = std::fs::read(format!("tests/golden/kafka/batch-{client}-{codec}.bin"))
                else {
                    assert_eq!(
                        (client, codec),
                        ("java-4.2.0", Compression::None),
                        "the only file there is not"
                    );
                    continue;
                };
                let bytes = Bytes::from(bytes);
                assert_eq!(Header::parse(&bytes).unwrap().compression(), codec.code());
                let mut number = 0;
                for batch in Batches::new(bytes).map(Result::unwrap) {
                    for record in batch.records().map(Result::unwrap) {
                        number += 1;
                        let line = format!("line {number} of a small batch, line of a small batch");
                        let keyed = client.starts_with("librdkafka");
                        let value = if keyed { line.strip_prefix("line ").unwrap() } else { &line };
                        assert_eq!(record.key, keyed.then_some(&b"line"[..]));
                        assert_eq!(record.value, Some(value.as_bytes()));
                        let headers: Vec<_> = record.headers.iter().collect();
                        let twice = [(&b"a"[..], Some(&b"1"[..])), (b"a", Some(b"2"))];
                        assert_eq!(headers, if keyed { &twice[..] } else { &[] });
                    }
                }
                assert_eq!(number, 12);
                files += 1;
            }
        }
        assert_eq!(files, 9);
    }

    #[test]
    fn markers_are_read_as_they_were_written() {
        for marker in [Marker::Abort, Marker::Commit] {
            let batch = Unpacked::first(&control_batch(marker, 7, 2, 5, 1000).into()).unwrap().unwrap();
            assert!(batch.header.is_control() && batch.header.is_transactional());
            assert_eq!((batch.header.producer_id, batch.header.producer_epoch), (7, 2));
            assert_eq!(batch.marker(), Some(marker));
        }
        let data = Unpacked::first(&builder(&[vec![0; 4]]).take().into()).unwrap().unwrap();
        assert_eq!(data.marker(), None);
    }

    #[test]
    fn a_builder_that_was_taken_from_begins_again() {
        let mut builder = builder(&[vec![1; 2000], vec![2]]);
        let first = Bytes::from(builder.take());
        assert_eq!(values(&first), [vec![1; 2000], vec![2]]);
        builder.push(5, None, b"", &Bytes::from_static(b"x")).unwrap();
        let second = Bytes::from(builder.take());
        assert_eq!(values(&second), [b"x"]);
        assert_eq!(Header::parse(&second).unwrap().base_timestamp, 5);
    }
}
