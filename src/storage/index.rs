//! Where in a segment an offset or a time is, every few KiB. Can always be rebuilt from the segment.

use super::batch::{HEADER_LEN, Header};

/// Bytes of one entry: offset from the segment's base, position, newest time before it, checksum of the header there.
const ENTRY_LEN: usize = 20;
/// Bytes after the entries.
const TRAILER_LEN: usize = 40;
/// Bytes of batches between two entries.
pub(crate) const INTERVAL: u64 = 4096;
const MAGIC: &[u8; 4] = b"bix1";

/// A batch that begins at a known place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) position: u64,
    /// Newest time in the segment before this batch.
    pub(crate) max_timestamp_before: i64,
    /// CRC32C of the 61 bytes of the header, of which the batch's own CRC leaves out the first 17.
    pub(crate) header_crc: u32,
}

/// The entries of one segment, in the form they have on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    base: i64,
    entries: Vec<u8>,
    next_from: u64,
}

/// What the index of a finished segment says about all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) end: i64,
    pub(crate) size: u64,
    pub(crate) max_timestamp: i64,
}

impl Index {
    pub(crate) fn new(base: i64) -> Self {
        Self { base, entries: Vec::new(), next_from: 0 }
    }

    pub(crate) fn memory(&self) -> usize {
        self.entries.len() + size_of::<Self>()
    }

    fn len(&self) -> usize {
        self.entries.len() / ENTRY_LEN
    }

    fn entry(&self, number: usize) -> Option<Entry> {
        let bytes = self.entries.get(number * ENTRY_LEN..(number + 1) * ENTRY_LEN)?;
        let (offset, rest) = bytes.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        Some(Entry {
            offset: self.base + i64::from(u32::from_be_bytes(*offset)),
            position: u64::from(u32::from_be_bytes(*position)),
            max_timestamp_before: i64::from_be_bytes(*time),
            header_crc: u32::from_be_bytes(*rest.first_chunk()?),
        })
    }

    /// Notes a batch when the last note is far enough away. `header` are its first 61 bytes as they are on disk.
    pub(crate) fn add(&mut self, batch: &Header, position: u64, max_timestamp_before: i64) {
        if position < self.next_from {
            return;
        }
        // Segments are too small for this to fail; without an entry the one before serves.
        let Ok(offset) = u32::try_from(batch.base_offset - self.base) else { return };
        let Ok(at) = u32::try_from(position) else { return };
        let crc = crc32c::crc32c(&batch.to_bytes());
        self.entries.extend_from_slice(&offset.to_be_bytes());
        self.entries.extend_from_slice(&at.to_be_bytes());
        self.entries.extend_from_slice(&max_timestamp_before.to_be_bytes());
        self.entries.extend_from_slice(&crc.to_be_bytes());
        self.next_from = position + INTERVAL;
    }

    /// Number of entries for which `before` holds, of which all come first.
    fn partition(&self, before: impl Fn(&Entry) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle).is_some_and(|entry| before(&entry)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The last entry at or before an offset.
    pub(crate) fn at_offset(&self, offset: i64) -> Option<Entry> {
        self.entry(self.partition(|entry| entry.offset <= offset).checked_sub(1)?)
    }

    /// The last entry at or before a position.
    pub(crate) fn at_position(&self, position: u64) -> Option<Entry> {
        self.entry(self.partition(|entry| entry.position <= position).checked_sub(1)?)
    }

    /// The last entry before which everything is older than `timestamp`.
    pub(crate) fn at_time(&self, timestamp: i64) -> Option<Entry> {
        self.entry(self.partition(|entry| entry.max_timestamp_before < timestamp).checked_sub(1)?)
    }

    /// Forgets entries at or after a position.
    pub(crate) fn cut(&mut self, position: u64) {
        let keep = self.partition(|entry| entry.position < position);
        self.entries.truncate(keep * ENTRY_LEN);
        let last = keep.checked_sub(1).and_then(|last| self.entry(last));
        self.next_from = last.map_or(0, |last| last.position + INTERVAL);
    }

    /// The file that holds this index.
    pub(crate) fn to_file(&self, summary: &Summary) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() + TRAILER_LEN);
        out.extend_from_slice(&self.entries);
        out.extend_from_slice(&crc32c::crc32c(&self.entries).to_be_bytes());
        out.extend_from_slice(&summary.end.to_be_bytes());
        out.extend_from_slice(&summary.size.to_be_bytes());
        out.extend_from_slice(&summary.max_timestamp.to_be_bytes());
        out.extend_from_slice(&(self.len() as u32).to_be_bytes());
        out.extend_from_slice(MAGIC);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.base.to_be_bytes()), &out[self.entries.len()..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads such a file; `None` when it is not one, or of another segment.
    pub(crate) fn from_file(base: i64, bytes: &[u8]) -> Option<(Self, Summary)> {
        let (entries, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER_LEN)?)?;
        let (summary, crc) = Self::trailer(base, entries.len(), trailer)?;
        if crc32c::crc32c(entries) != crc {
            return None;
        }
        let mut index = Self { base, entries: entries.to_owned(), next_from: 0 };
        index.cut(summary.size);
        (index.entries.len() == entries.len()).then_some((index, summary))
    }

    /// Bytes at the end of an index file that tell its summary.
    pub(crate) const TRAILER_LEN: usize = TRAILER_LEN;

    /// The summary from the end of an index file with that many bytes of entries, and their checksum.
    pub(crate) fn trailer(base: i64, entries_len: usize, trailer: &[u8]) -> Option<(Summary, u32)> {
        let (body, crc) = trailer.split_at_checked(TRAILER_LEN - 4)?;
        let crc = u32::from_be_bytes(*crc.first_chunk()?);
        if crc32c::crc32c_append(crc32c::crc32c(&base.to_be_bytes()), body) != crc {
            return None;
        }
        let (entries_crc, rest) = body.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (max_timestamp, rest) = rest.split_first_chunk()?;
        let (count, magic) = rest.split_first_chunk()?;
        let summary = Summary {
            end: i64::from_be_bytes(*end),
            size: u64::from_be_bytes(*size),
            max_timestamp: i64::from_be_bytes(*max_timestamp),
        };
        let fits = u32::from_be_bytes(*count) as usize * ENTRY_LEN == entries_len && magic == MAGIC;
        (fits && summary.end >= base).then_some((summary, u32::from_be_bytes(*entries_crc)))
    }
}

/// Compares the header at an entry's place with what was noted when it was written.
pub(crate) fn header_matches(entry: &Entry, header: &[u8; HEADER_LEN]) -> bool {
    crc32c::crc32c(header) == entry.header_crc
}
