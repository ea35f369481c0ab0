//! Records inside a batch: borrowed reading, and building a batch without copying large bodies.

use std::io::IoSlice;

use bytes::Bytes;

use super::batch::{BATCH_BYTES_MAX, BatchError, CRC_FROM, HEADER_LEN, Header, PATCHED_LEN};
use super::varint;

/// Bodies from this size on are written from where they are; under it a copy is cheaper than a vector's entry.
const COPY_MAX: usize = 1024;

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log.
    pub offset: i64,
    /// In ms since 1970: the producer's time, or the append's.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order, repeated as they were.
    pub headers: Headers<'a>,
}

/// A record's headers: names and values, checked when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Headers<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Name and value, one by one. Names need not be text.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| Some((take_bytes(&mut rest)??, take_bytes(&mut rest)?)))
    }

    /// The bytes after the count, as they stand in the record.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A length and as many bytes; -1 is "none". `None` when it is cut short.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint::take(rest)?;
    if len == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(Some(bytes))
}

/// Reads the records of a batch, one by one, allocating nothing.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: Header,
    rest: &'a [u8],
    number: i32,
    failed: bool,
}

impl<'a> Records<'a> {
    /// `body` holds the records of the batch with that header, not compressed.
    pub fn new(header: &Header, body: &'a [u8]) -> Self {
        Self { header: *header, rest: body, number: 0, failed: false }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self) -> Option<Record<'a>> {
        let len = usize::try_from(varint::take(&mut self.rest)?).ok()?;
        let (mut record, after) = self.rest.split_at_checked(len)?;
        let (_attributes, rest) = record.split_first()?;
        record = rest;
        let timestamp_delta = varint::take(&mut record)?;
        let offset_delta = varint::take(&mut record)?;
        if !(0..=i64::from(self.header.last_offset_delta)).contains(&offset_delta) {
            return None;
        }
        let timestamp = match self.header.has_append_time() {
            true => self.header.max_timestamp,
            false => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        let (key, value) = (take_bytes(&mut record)?, take_bytes(&mut record)?);
        let count = u32::try_from(varint::take(&mut record)?).ok()?;
        let headers = Headers { bytes: record, count };
        for _ in 0..count {
            take_bytes(&mut record)??;
            take_bytes(&mut record)?;
        }
        if !record.is_empty() {
            return None;
        }
        self.rest = after;
        Some(Record { offset: self.header.base_offset + offset_delta, timestamp, key, value, headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.number == self.header.count {
            return None;
        }
        let record = self.take().ok_or(BatchError::Record { number: self.number });
        self.failed = record.is_err();
        self.number += 1;
        Some(record)
    }
}

/// A run of the batch: in the builder's own memory up to `end`, then a body that was not copied.
#[derive(Debug)]
struct Piece {
    end: usize,
    body: Bytes,
}

/// Puts records together to a batch. Large bodies are kept as they are until they are written. To be used again and again.
#[derive(Debug)]
pub struct BatchBuilder {
    header: Header,
    scratch: Vec<u8>,
    pieces: Vec<Piece>,
    len: usize,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty one.
    pub fn new() -> Self {
        let header = Header {
            base_offset: 0,
            len: HEADER_LEN,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: 0,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        Self { header, scratch: vec![0; HEADER_LEN], pieces: Vec::new(), len: HEADER_LEN }
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.scratch.truncate(HEADER_LEN);
        self.pieces.clear();
        self.len = HEADER_LEN;
        self.header = Self::new_header(self.header);
    }

    fn new_header(old: Header) -> Header {
        Header {
            len: HEADER_LEN,
            last_offset_delta: -1,
            count: 0,
            base_timestamp: 0,
            max_timestamp: -1,
            attributes: 0,
            ..old
        }
    }

    /// Says who produced the batch, so that what is sent twice is found.
    pub fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        (self.header.producer_id, self.header.producer_epoch, self.header.base_sequence) =
            (id, epoch, base_sequence);
    }

    /// Marks the batch transactional (16), control (32): see [`Header::attributes`]. Not for compression.
    pub fn set_attributes(&mut self, attributes: i16) {
        self.header.attributes = attributes & !7;
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.header.count as usize
    }

    /// Bytes of the batch so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No record yet.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Adds a record of a key and a value in two parts, the second of which is not copied when it is large.
    ///
    /// # Errors
    /// The batch would be over [`BATCH_BYTES_MAX`]; it stays as it was.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        head: &[u8],
        body: &Bytes,
    ) -> Result<(), BatchError> {
        let value_len = head.len() + body.len();
        self.begin(timestamp, key, Some(value_len), 1)?;
        self.scratch.extend_from_slice(head);
        if body.len() <= COPY_MAX {
            self.scratch.extend_from_slice(body);
        } else {
            self.pieces.push(Piece { end: self.scratch.len(), body: body.clone() });
        }
        self.scratch.push(0);
        Ok(())
    }

    /// Adds a record with headers and perhaps without a value; everything is copied.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    pub fn push_copied(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let size = |bytes: Option<&[u8]>| bytes.map_or(1, |b| varint::len(b.len() as i64) + b.len());
        let each = headers.iter().map(|(name, value)| size(Some(name)) + size(*value));
        let headers_len = varint::len(headers.len() as i64) + each.sum::<usize>();
        self.begin(timestamp, key, value.map(<[u8]>::len), headers_len)?;
        self.scratch.extend_from_slice(value.unwrap_or_default());
        varint::put(&mut self.scratch, headers.len() as i64);
        for (name, value) in headers {
            put_bytes(&mut self.scratch, Some(name));
            put_bytes(&mut self.scratch, *value);
        }
        Ok(())
    }

    /// Everything of a record up to its value.
    fn begin(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value_len: Option<usize>,
        headers_len: usize,
    ) -> Result<(), BatchError> {
        if self.header.count == 0 {
            self.header.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let offset_delta = i64::from(self.header.count);
        let of = |len: Option<usize>| len.map_or(-1, |len| len as i64);
        let (key_len, value_field) = (of(key.map(<[u8]>::len)), of(value_len));
        let record_len = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + varint::len(key_len)
            + key.map_or(0, <[u8]>::len)
            + varint::len(value_field)
            + value_len.unwrap_or(0)
            + headers_len;
        let len = self.len + varint::len(record_len as i64) + record_len;
        if len > BATCH_BYTES_MAX {
            return Err(BatchError::Length { length: i32::try_from(len).unwrap_or(i32::MAX) });
        }
        varint::put(&mut self.scratch, record_len as i64);
        self.scratch.push(0);
        varint::put(&mut self.scratch, timestamp_delta);
        varint::put(&mut self.scratch, offset_delta);
        varint::put(&mut self.scratch, key_len);
        self.scratch.extend_from_slice(key.unwrap_or_default());
        varint::put(&mut self.scratch, value_field);
        self.len = len;
        self.header.count += 1;
        self.header.last_offset_delta += 1;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Sums up and writes the header into place; returns it.
    pub(crate) fn seal(&mut self) -> Header {
        self.header.len = self.len;
        self.scratch[..HEADER_LEN].copy_from_slice(&self.header.to_bytes());
        let mut crc = 0;
        self.each_from(CRC_FROM, |part| crc = crc32c::crc32c_append(crc, part));
        self.header.crc = crc;
        self.scratch[17..21].copy_from_slice(&crc.to_be_bytes());
        self.header
    }

    /// The sealed batch after the bytes that the leader sets.
    pub(crate) fn tail(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.pieces.len() + 2);
        self.each_from(PATCHED_LEN, |part| slices.push(IoSlice::new(part)));
        slices
    }

    fn each_from<'a>(&'a self, from: usize, mut visit: impl FnMut(&'a [u8])) {
        let mut at = from;
        for piece in &self.pieces {
            visit(&self.scratch[at..piece.end]);
            visit(&piece.body);
            at = piece.end;
        }
        visit(&self.scratch[at..]);
    }

    /// The batch as one run of bytes, at offset 0, and the builder empty again. What was copied in is not copied once more.
    pub fn take(&mut self) -> Vec<u8> {
        if !self.pieces.is_empty() {
            let out = self.to_vec(0, 0);
            self.clear();
            return out;
        }
        self.seal();
        let mut next = Vec::with_capacity(self.scratch.capacity());
        next.resize(HEADER_LEN, 0);
        let out = std::mem::replace(&mut self.scratch, next);
        self.clear();
        out
    }

    /// The batch as one run of bytes, at that offset: for tests, for clients that produce, and for compaction.
    pub fn to_vec(&mut self, base_offset: i64, leader_epoch: i32) -> Vec<u8> {
        let header = self.seal();
        let mut out = Vec::with_capacity(self.len);
        out.extend_from_slice(&header.patched(base_offset, leader_epoch));
        self.each_from(PATCHED_LEN, |part| out.extend_from_slice(part));
        out
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint::put(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Appends one record as it stands in a batch, headers verbatim: compaction moves records between batches.
pub(crate) fn put_record(out: &mut Vec<u8>, header: &Header, record: &Record<'_>) {
    let mut inner = Vec::with_capacity(32 + record.value.map_or(0, <[u8]>::len));
    inner.push(0);
    varint::put(&mut inner, record.timestamp.wrapping_sub(header.base_timestamp));
    varint::put(&mut inner, record.offset - header.base_offset);
    put_bytes(&mut inner, record.key);
    put_bytes(&mut inner, record.value);
    varint::put(&mut inner, record.headers.len() as i64);
    inner.extend_from_slice(record.headers.raw());
    varint::put(out, inner.len() as i64);
    out.extend_from_slice(&inner);
}
