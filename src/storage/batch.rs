//! RecordBatch v2, the only unit on disk: 61 bytes of header, then records (Kafka's message format, magic 2).
//!
//! Base offset, length, leader epoch and magic are outside the batch's CRC, so that a broker can set them without touching
//! the rest; what guards them is checked by whoever knows what comes before: a log, or a scan of a segment.

use super::record::Records;
use super::varint;

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes that the length field does not count: the base offset and itself.
pub(crate) const LENGTH_FROM: usize = 12;
/// Bytes at the front that a leader sets: base offset, length, leader epoch.
pub(crate) const PATCHED_LEN: usize = 16;
/// The CRC covers everything from here.
pub(crate) const CRC_FROM: usize = 21;
/// Most bytes of one batch that is appended or believed on disk: 256 MiB. AMQP messages go to 128 MiB, Kafka's default is 1 MiB.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
/// Largest base offset: the end of a batch must not overflow.
const BASE_OFFSET_MAX: i64 = i64::MAX - i32::MAX as i64 - 1;

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header says, or than a header has.
    #[error("batch of {expected} bytes, but only {given} are there")]
    Incomplete {
        /// What the header says, or the length of a header.
        expected: usize,
        /// What is there.
        given: usize,
    },
    /// A length that no batch has.
    #[error("batch length {length} is outside of 49 to {}", BATCH_BYTES_MAX - LENGTH_FROM)]
    Length {
        /// The length field.
        length: i32,
    },
    /// Older formats are not stored.
    #[error("record format {magic}, expected 2")]
    Magic {
        /// The version found.
        magic: i8,
    },
    /// The records are not those that were summed up.
    #[error("checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// The CRC32C in the header.
        expected: u32,
        /// The CRC32C of the bytes.
        found: u32,
    },
    /// Header fields that contradict each other.
    #[error("batch header with {what} {value}")]
    Header {
        /// The field.
        what: &'static str,
        /// What is in it.
        value: i64,
    },
    /// A record that is not one.
    #[error("record {number} of the batch is malformed")]
    Record {
        /// Counted from 0.
        number: i32,
    },
    /// Records that have to be unpacked first.
    #[error("the records are compressed (type {0})")]
    Compressed(u8),
}

/// The fields of a batch's first 61 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch, header included.
    pub len: usize,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// CRC32C of everything from the attributes on.
    pub crc: u32,
    /// Bits 0-2 compression, 3 append time, 4 transactional, 5 control, 6 delete horizon.
    pub attributes: i16,
    /// Offset of the last record, counted from the base; compaction keeps it.
    pub last_offset_delta: i32,
    /// What the records' times are counted from, in ms since 1970.
    pub base_timestamp: i64,
    /// Newest time of a record, in ms since 1970.
    pub max_timestamp: i64,
    /// Idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub count: i32,
}

/// A field at a fixed place in a header.
fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl Header {
    /// Reads and checks a header; the CRC needs the whole batch.
    ///
    /// # Errors
    /// Fields that no batch has.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let incomplete = BatchError::Incomplete { expected: HEADER_LEN, given: bytes.len() };
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(incomplete)?;
        let magic = i8::from_be_bytes(field(bytes, 16));
        if magic != 2 {
            return Err(BatchError::Magic { magic });
        }
        let length = i32::from_be_bytes(field(bytes, 8));
        let len = usize::try_from(length).unwrap_or(0) + LENGTH_FROM;
        if !(HEADER_LEN..=BATCH_BYTES_MAX).contains(&len) {
            return Err(BatchError::Length { length });
        }
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            len,
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            count: i32::from_be_bytes(field(bytes, 57)),
        };
        let fail = |what, value| Err(BatchError::Header { what, value });
        if !(0..=BASE_OFFSET_MAX).contains(&header.base_offset) {
            return fail("base offset", header.base_offset);
        }
        if header.last_offset_delta < 0 {
            return fail("last offset delta", header.last_offset_delta.into());
        }
        // Fewer records than offsets is what compaction leaves.
        if header.count < 0 || i64::from(header.count) > i64::from(header.last_offset_delta) + 1 {
            return fail("record count", header.count.into());
        }
        Ok(header)
    }

    /// Offset after the last record.
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> u8 {
        (self.attributes & 7) as u8
    }

    /// Records have the time of the append, which is `max_timestamp`, and not their own.
    pub fn has_append_time(&self) -> bool {
        self.attributes & 8 != 0
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }

    /// Holds a marker of the broker and no data.
    pub fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }

    /// When compaction may drop the tombstones in it, in ms since 1970 (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & 64 != 0).then_some(self.base_timestamp)
    }

    /// The first 16 bytes with another place and epoch: what a leader writes in front of a batch it has checked.
    pub(crate) fn patched(&self, base_offset: i64, leader_epoch: i32) -> [u8; PATCHED_LEN] {
        let mut head = [0; PATCHED_LEN];
        head[..8].copy_from_slice(&base_offset.to_be_bytes());
        head[8..12].copy_from_slice(&((self.len - LENGTH_FROM) as u32).to_be_bytes());
        head[12..].copy_from_slice(&leader_epoch.to_be_bytes());
        head
    }

    /// The 61 bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..PATCHED_LEN].copy_from_slice(&self.patched(self.base_offset, self.leader_epoch));
        out[16] = 2;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..].copy_from_slice(&self.count.to_be_bytes());
        out
    }
}

/// One whole batch in memory, its header checked.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Its header.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Takes the batch at the front of `bytes`; what follows it is left alone.
    ///
    /// # Errors
    /// Not a batch, or not all of it. The CRC is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = Header::parse(bytes)?;
        let incomplete = BatchError::Incomplete { expected: header.len, given: bytes.len() };
        Ok(Self { header, bytes: bytes.get(..header.len).ok_or(incomplete)? })
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// It differs.
    pub fn check(&self) -> Result<(), BatchError> {
        let found = crc32c::crc32c(&self.bytes[CRC_FROM..]);
        let expected = self.header.crc;
        if found == expected { Ok(()) } else { Err(BatchError::Checksum { expected, found }) }
    }

    /// Header and records, as they are.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they are, compressed or not.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Whether there are as many records as the header says, going by the lengths that they begin with. Of compressed ones
    /// nobody can tell who does not unpack them, but they are not more than could be unpacked.
    fn has_all_records(&self) -> bool {
        /// Of the shortest record.
        const RECORD_BYTES_MIN: i64 = 7;
        let count = i64::from(self.header.count);
        if self.header.compression() != 0 {
            return count * RECORD_BYTES_MIN <= i64::from(i32::MAX);
        }
        let mut rest = self.body();
        for _ in 0..count {
            let length = varint::take(&mut rest).and_then(|length| usize::try_from(length).ok());
            match length.and_then(|length| rest.get(length..)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// The records one by one, borrowed.
    ///
    /// # Errors
    /// They are compressed: unpack [`Batch::body`] and use [`Records::new`].
    pub fn records(&self) -> Result<Records<'a>, BatchError> {
        match self.header.compression() {
            0 => Ok(Records::new(&self.header, self.body())),
            compression => Err(BatchError::Compressed(compression)),
        }
    }
}

/// One or more batches back to back whose headers and checksums are right: what a log takes.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    bytes: &'a [u8],
    offsets: i64,
}

impl<'a> Checked<'a> {
    /// Checks every header and CRC in `bytes`. Needs no lock, so do it before taking one.
    ///
    /// # Errors
    /// The first thing that is wrong, a batch that is cut short, or no batch at all.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let (mut rest, mut offsets) = (bytes, 0i64);
        loop {
            let batch = Batch::parse(rest)?;
            batch.check()?;
            offsets += i64::from(batch.header.last_offset_delta) + 1;
            rest = &rest[batch.header.len..];
            if rest.is_empty() {
                return Ok(Self { bytes, offsets });
            }
        }
    }

    /// As [`Checked::new`], and as a producer must send them: a record for each offset.
    ///
    /// # Errors
    /// As [`Checked::new`]; batches with holes, or without records.
    pub fn produced(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let checked = Self::new(bytes)?;
        for batch in checked.batches() {
            let is_whole = i64::from(batch.header.count) == i64::from(batch.header.last_offset_delta) + 1;
            if !is_whole || !batch.has_all_records() {
                return Err(BatchError::Header { what: "record count", value: batch.header.count.into() });
            }
        }
        Ok(checked)
    }

    /// The batches in order.
    pub fn batches(&self) -> impl Iterator<Item = Batch<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let batch = Batch::parse(rest).ok()?;
            rest = &rest[batch.header.len..];
            Some(batch)
        })
    }

    /// All of the bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Offsets that the batches take.
    pub fn offsets(&self) -> i64 {
        self.offsets
    }
}

/// The same batch with its records packed in another way: its compression, and the packed records.
///
/// # Errors
/// Not a whole batch, or one that would be longer than a batch can be.
pub fn repacked(batch: &[u8], compression: u8, body: &[u8]) -> Result<Vec<u8>, BatchError> {
    /// Bits of the attributes that name the compression.
    const COMPRESSION: i16 = 7;
    /// Bytes of a batch that its length does not count: the offset and the length itself.
    const NOT_COUNTED: usize = 12;
    let header = Batch::parse(batch)?.header;
    let mut out = batch[..HEADER_LEN].to_vec();
    out.extend_from_slice(body);
    let len = i32::try_from(out.len() - NOT_COUNTED).unwrap_or(i32::MAX);
    if out.len() > BATCH_BYTES_MAX {
        return Err(BatchError::Length { length: len });
    }
    out[8..12].copy_from_slice(&len.to_be_bytes());
    let attributes = header.attributes & !COMPRESSION | i16::from(compression) & COMPRESSION;
    out[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(out)
}

/// Gives a batch the time of its append (`LogAppendTime`): sets the bit and the newest time, and sums up anew.
///
/// # Errors
/// Not a whole batch.
pub fn set_append_time(batch: &mut [u8], now_ms: i64) -> Result<(), BatchError> {
    let header = Batch::parse(batch)?.header;
    let bytes = &mut batch[..header.len];
    bytes[21..23].copy_from_slice(&(header.attributes | 8).to_be_bytes());
    bytes[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}
