//! One append-only file of batches: its names, and a scan that believes nothing.

use std::io;
use std::path::PathBuf;

use super::batch::{CRC_FROM, HEADER_LEN, Header};
use super::disk::{DiskFile, read_full};
use super::id::LogId;
use super::index::Summary;

/// Bytes that a scan reads at once, and all that it ever holds.
const SCAN_LEN: usize = 256 << 10;

/// Where things are in a data directory. Names come from offsets and UUIDs only.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
}

impl Paths {
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn log(&self, id: LogId) -> PathBuf {
        self.logs().join(id.to_string())
    }

    pub(crate) fn segment(&self, id: LogId, base: i64) -> PathBuf {
        self.log(id).join(format!("{base:020}.log"))
    }

    pub(crate) fn index(&self, id: LogId, base: i64) -> PathBuf {
        self.log(id).join(format!("{base:020}.idx"))
    }

    pub(crate) fn epochs(&self, id: LogId) -> PathBuf {
        self.log(id).join("epochs")
    }

    /// What its user keeps beside a log.
    pub(crate) fn beside(&self, id: LogId) -> PathBuf {
        self.log(id).join("beside")
    }

    pub(crate) fn flushed(&self) -> PathBuf {
        self.root.join("flushed")
    }
}

/// The base offset in a file name such as `00000000000000000042.log`.
pub(crate) fn base_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    let decimal = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| digits.parse().ok())?
}

/// What is known of a segment without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Offset in its name; the first record has it, or a later one after compaction.
    pub(crate) base: i64,
    /// Offset after its last record.
    pub(crate) end: i64,
    /// Bytes of its batches; the file may be longer, with zeros.
    pub(crate) size: u64,
    /// Newest time of a record; -1 when there is none.
    pub(crate) max_timestamp: i64,
    /// Counts up when compaction puts another file in its place.
    pub(crate) generation: u32,
}

impl Segment {
    pub(crate) fn empty(base: i64) -> Self {
        Self { base, end: base, size: 0, max_timestamp: -1, generation: 0 }
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary { end: self.end, size: self.size, max_timestamp: self.max_timestamp }
    }

    pub(crate) fn add(&mut self, header: &Header) {
        self.size += header.len as u64;
        self.end = header.end_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }
}

/// What a scan found next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A batch whose header, place and checksum are right.
    Batch(Header),
    /// Zeros, or nothing, up to the end of the file.
    End,
    /// Something else.
    Bad {
        why: String,
        /// How long the batch would be, if its header can be believed that far.
        len: Option<usize>,
    },
}

/// What the next batch has to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Offset of the next batch, or the least it can be.
    pub(crate) offset: i64,
    /// Epoch of the next batch, at least.
    pub(crate) epoch: i32,
    /// Compaction leaves holes between batches; nothing else does.
    pub(crate) holes: bool,
}

impl Expected {
    /// What is wrong with the place of a batch.
    pub(crate) fn mismatch(&self, header: &Header) -> Option<String> {
        let Self { offset, epoch, holes } = *self;
        let fits = header.base_offset == offset || holes && header.base_offset > offset;
        if !fits {
            return Some(format!("base offset {}, expected {offset}", header.base_offset));
        }
        let rises = header.leader_epoch >= epoch;
        (!rises).then(|| format!("leader epoch {} after {epoch}", header.leader_epoch))
    }

    pub(crate) fn after(&mut self, header: &Header) {
        (self.offset, self.epoch) = (header.end_offset(), header.leader_epoch);
    }
}

/// Walks over the batches of a segment, checks each, and holds a bounded piece of the file at a time.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    /// Where the next batch begins.
    pub(crate) position: u64,
    /// What it has to be.
    pub(crate) expected: Expected,
    buffer: Vec<u8>,
    buffer_from: u64,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, position: u64, expected: Expected) -> io::Result<Self> {
        Ok(Self { file, len: file.len()?, position, expected, buffer: Vec::new(), buffer_from: 0 })
    }

    /// Length of the file in bytes.
    pub(crate) fn file_len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes at a place, fewer where the buffer or the file ends, none past the end.
    pub(super) fn bytes_at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.buffer_from + self.buffer.len() as u64;
        let wanted_end = (position + len.min(SCAN_LEN) as u64).min(self.len);
        if position < self.buffer_from || wanted_end > end {
            let want = usize::try_from(self.len.saturating_sub(position)).unwrap_or(SCAN_LEN).min(SCAN_LEN);
            self.buffer.resize(want, 0);
            let read = read_full(self.file, &mut self.buffer, position)?;
            self.buffer.truncate(read);
            self.buffer_from = position;
        }
        let from = usize::try_from(position.saturating_sub(self.buffer_from)).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        Ok(&rest[..len.min(rest.len())])
    }

    /// The CRC32C of a part of the file, or `None` when the file is shorter.
    pub(super) fn crc_of(&mut self, from: u64, len: usize) -> io::Result<Option<u32>> {
        let (mut crc, mut at, mut rest) = (0, from, len);
        while rest > 0 {
            let piece = self.bytes_at(at, rest)?;
            if piece.is_empty() {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, piece);
            (at, rest) = (at + piece.len() as u64, rest - piece.len());
        }
        Ok(Some(crc))
    }

    /// The position of the first byte that is not zero, from `from` on.
    pub(crate) fn first_nonzero(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        loop {
            let piece = self.bytes_at(at, SCAN_LEN)?;
            if piece.is_empty() {
                return Ok(None);
            }
            if let Some(found) = piece.iter().position(|&byte| byte != 0) {
                return Ok(Some(at + found as u64));
            }
            at += piece.len() as u64;
        }
    }

    /// The position of the last byte that is not zero, at or after `from`.
    pub(super) fn last_nonzero(&mut self, from: u64) -> io::Result<Option<u64>> {
        let (mut at, mut last) = (from, None);
        loop {
            let piece = self.bytes_at(at, SCAN_LEN)?;
            if piece.is_empty() {
                return Ok(last);
            }
            last = piece.iter().rposition(|&byte| byte != 0).map_or(last, |found| Some(at + found as u64));
            at += piece.len() as u64;
        }
    }

    /// Reads and checks the next batch, and steps over it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let position = self.position;
        let bytes = self.bytes_at(position, HEADER_LEN)?;
        let parsed = Header::parse(bytes);
        let blank = bytes.iter().all(|&byte| byte == 0);
        if blank {
            return Ok(match self.first_nonzero(position)? {
                None => Step::End,
                Some(_) => Step::Bad { why: "zeros before more data".to_owned(), len: None },
            });
        }
        let header = match parsed {
            Ok(header) => header,
            Err(error) => return Ok(Step::Bad { why: error.to_string(), len: None }),
        };
        let bad = |why| Ok(Step::Bad { why, len: Some(header.len) });
        if let Some(why) = self.expected.mismatch(&header) {
            return bad(why);
        }
        match self.crc_of(position + CRC_FROM as u64, header.len - CRC_FROM)? {
            Some(crc) if crc == header.crc => {}
            Some(crc) => return bad(format!("checksum {crc:08x}, expected {:08x}", header.crc)),
            None => return bad(format!("batch of {} bytes goes past the end of the file", header.len)),
        }
        self.expected.after(&header);
        self.position += header.len as u64;
        Ok(Step::Batch(header))
    }

    /// Where, from `from` on, the next whole batch is that could come later in this log.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn find_batch(&mut self, from: u64) -> io::Result<Option<u64>> {
        /// Bytes of checksums after which the search gives up and takes what it has: crafted data must not hold up a start.
        const WORK_MAX: u64 = 1 << 30;
        let (mut at, mut work) = (from, 0u64);
        while at + HEADER_LEN as u64 <= self.len {
            let piece = self.bytes_at(at, SCAN_LEN)?;
            if piece.len() < HEADER_LEN {
                return Ok(None);
            }
            let windows = piece.windows(HEADER_LEN).enumerate();
            let candidates = windows.filter(|(_, window)| window[16] == 2);
            let parsed: Vec<_> = candidates
                .filter_map(|(inside, window)| Some((at + inside as u64, Header::parse(window).ok()?)))
                .collect();
            let step = (piece.len() - HEADER_LEN + 1) as u64;
            for (position, header) in parsed {
                let follows =
                    header.base_offset >= self.expected.offset && header.leader_epoch >= self.expected.epoch;
                if !follows || position + header.len as u64 > self.len {
                    continue;
                }
                work += header.len as u64;
                if work > WORK_MAX {
                    return Ok(Some(position));
                }
                let crc = self.crc_of(position + CRC_FROM as u64, header.len - CRC_FROM)?;
                if crc == Some(header.crc) {
                    return Ok(Some(position));
                }
            }
            at += step;
        }
        Ok(None)
    }
}
