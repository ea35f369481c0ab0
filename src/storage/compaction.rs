//! Compaction: of each key the newest record stays, at its offset. The rules are those of Kafka's log cleaner.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::batch::{BATCH_BYTES_MAX, BatchError, CRC_FROM, Header};
use super::disk::{DiskFile, Mode, write_all};
use super::error::{Error, Result};
use super::index::Index;
use super::log::{Log, StoredBatch};
use super::record::{Record, Records, put_record};
use super::recovery::{finish_swap, swap_name};
use super::segment::Segment;

/// Bytes of cleaned batches that are written at once.
const WRITE_LEN: usize = 256 << 10;

/// Unpacks and packs compressed records; storage itself knows no compression.
pub trait Packing {
    /// The records of a batch of that compression type, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// Bytes that are not of that type, or too many.
    fn unpack(&mut self, compression: u8, body: &[u8], bytes_max: usize) -> io::Result<Vec<u8>>;
    /// The other way round.
    ///
    /// # Errors
    /// A type that is not known.
    fn pack(&mut self, compression: u8, records: &[u8]) -> io::Result<Vec<u8>>;
}

/// For logs in which nothing is compressed; refuses what is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Packing for Plain {
    fn unpack(&mut self, compression: u8, _body: &[u8], _bytes_max: usize) -> io::Result<Vec<u8>> {
        Err(io::Error::other(BatchError::Compressed(compression)))
    }

    fn pack(&mut self, compression: u8, _records: &[u8]) -> io::Result<Vec<u8>> {
        Err(io::Error::other(BatchError::Compressed(compression)))
    }
}

/// What to compact, and how.
pub struct Compaction<'a> {
    /// Nothing that reaches past this offset: the high watermark, or the last stable offset.
    pub bound: i64,
    /// The time, in ms since 1970.
    pub now_ms: i64,
    /// How long a tombstone stays after it was first compacted, so that slow readers see it (`delete.retention.ms`).
    pub delete_retention_ms: u64,
    /// Most keys remembered in one run, 40 bytes each; what is over waits for the next.
    pub keys_max: usize,
    /// Whether a transactional or control batch goes as a whole: data of aborted transactions, and markers nobody needs
    /// any more. Without a reason to know better: `|_| false`.
    pub discard: &'a mut dyn FnMut(&Header) -> bool,
    /// For compressed batches.
    pub packing: &'a mut dyn Packing,
}

impl std::fmt::Debug for Compaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compaction").field("bound", &self.bound).finish_non_exhaustive()
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Segments that were looked at.
    pub segments: usize,
    /// Their size before, in bytes.
    pub bytes_before: u64,
    /// Their size after, in bytes.
    pub bytes_after: u64,
    /// Records that went.
    pub records_removed: u64,
}

/// The newest offset of each key. Keys as 128 bits of a keyed hash: nobody can make two that are taken for one.
struct Newest {
    states: (RandomState, RandomState),
    offsets: HashMap<u128, i64>,
    /// Offset of the last batch of each idempotent producer, which stays even without records.
    producers: HashMap<i64, i64>,
    max: usize,
    /// Records from here on are not in the map.
    end: i64,
}

impl Newest {
    fn hash(&self, key: &[u8]) -> u128 {
        u128::from(self.states.0.hash_one(key)) << 64 | u128::from(self.states.1.hash_one(key))
    }

    /// `false` when the map is full.
    fn note(&mut self, record: &Record<'_>) -> bool {
        let Some(key) = record.key else { return true };
        let hash = self.hash(key);
        if self.offsets.len() >= self.max && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, record.offset);
        true
    }

    fn is_superseded(&self, record: &Record<'_>) -> bool {
        // A record without a key has no place in a compacted log.
        let Some(key) = record.key else { return record.offset < self.end };
        self.offsets.get(&self.hash(key)).is_some_and(|&newest| newest > record.offset)
    }
}

/// What becomes of a batch.
enum Fate {
    Kept,
    Gone,
    Rewritten(Vec<u8>),
}

/// One file that takes the place of some segments.
struct Output {
    file: Arc<dyn DiskFile>,
    segment: Segment,
    index: Index,
    buffer: Vec<u8>,
    written: u64,
}

impl Output {
    fn add(&mut self, header: &Header, bytes: &[u8]) -> io::Result<()> {
        self.index.add(header, self.segment.size, self.segment.max_timestamp);
        self.segment.add(header);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_LEN { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        write_all(&*self.file, &mut [IoSlice::new(&self.buffer)], self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Compaction<'_> {
    fn records(&mut self, batch: &StoredBatch) -> Result<Vec<u8>> {
        let compression = batch.header.compression();
        if compression == 0 {
            return Ok(batch.body().to_vec());
        }
        let unpacked = self.packing.unpack(compression, batch.body(), BATCH_BYTES_MAX);
        unpacked.map_err(|error| Error::Batch(unpackable(compression, &error)))
    }

    /// Decides about one batch.
    fn judge(&mut self, batch: &StoredBatch, newest: &Newest, removed: &mut u64) -> Result<Fate> {
        let header = &batch.header;
        if (header.is_control() || header.is_transactional()) && (self.discard)(header) {
            *removed += header.count as u64;
            return Ok(self.emptied(header, newest));
        }
        if header.is_control() {
            return Ok(Fate::Kept);
        }
        let body = self.records(batch)?;
        let horizon = header.delete_horizon();
        let mut kept = Vec::new();
        let mut tombstones = false;
        for record in Records::new(header, &body) {
            let record = record?;
            let is_tombstone = record.value.is_none();
            let expired = is_tombstone && horizon.is_some_and(|at| at <= self.now_ms);
            if !newest.is_superseded(&record) && !expired {
                tombstones |= is_tombstone;
                kept.push(record);
            }
        }
        *removed += header.count as u64 - kept.len() as u64;
        // KIP-534: the first compaction that sees a tombstone says when it may go.
        let new_horizon = tombstones && horizon.is_none();
        if kept.is_empty() {
            return Ok(self.emptied(header, newest));
        }
        if kept.len() == header.count as usize && !new_horizon {
            return Ok(Fate::Kept);
        }
        let mut new = *header;
        if new_horizon {
            new.base_timestamp = self.now_ms.saturating_add_unsigned(self.delete_retention_ms);
            new.attributes |= 64;
        }
        if !header.has_append_time() {
            new.max_timestamp = kept.iter().map(|record| record.timestamp).max().unwrap_or(new.max_timestamp);
        }
        new.count = kept.len() as i32;
        let mut records = Vec::with_capacity(body.len());
        kept.iter().for_each(|record| put_record(&mut records, &new, record));
        if header.compression() != 0 {
            let packed = self.packing.pack(header.compression(), &records);
            records = packed.map_err(|error| Error::Batch(unpackable(header.compression(), &error)))?;
        }
        Ok(Fate::Rewritten(assemble(&mut new, &records)))
    }

    /// A batch without records: it stays, empty, if it is the last that is known of its producer.
    fn emptied(&self, header: &Header, newest: &Newest) -> Fate {
        let last = newest.producers.get(&header.producer_id);
        if header.producer_id < 0 || last.is_some_and(|&last| last > header.base_offset) {
            return Fate::Gone;
        }
        if header.count == 0 {
            return Fate::Kept;
        }
        let mut new = Header { count: 0, attributes: header.attributes & !(7 | 64), ..*header };
        Fate::Rewritten(assemble(&mut new, &[]))
    }
}

fn unpackable(compression: u8, error: &io::Error) -> BatchError {
    tracing::warn!(compression, %error, "a batch cannot be compacted");
    BatchError::Compressed(compression)
}

/// Header and records as one batch, summed up.
fn assemble(header: &mut Header, records: &[u8]) -> Vec<u8> {
    header.len = super::batch::HEADER_LEN + records.len();
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(records);
    header.crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
    bytes
}

impl Log {
    /// Removes records that newer ones of the same key replace, from finished segments; offsets stay as they are. Takes
    /// time and memory: not for a thread that others wait for. Appending and reading go on meanwhile.
    ///
    /// # Errors
    /// A batch that cannot be unpacked or is damaged: nothing of its segments was changed. The disk's: a crash at any
    /// point leaves the old or the new segments, whole.
    pub fn compact(&self, compaction: &mut Compaction<'_>) -> Result<Compacted> {
        let inner = &self.0;
        let _reshaping = inner.reshape();
        let (finished, from) = inner.compactable(compaction.bound)?;
        let mut done = Compacted::default();
        let Some(last) = finished.last().copied() else { return Ok(done) };
        let newest = self.newest_keys(compaction, from, last.end)?;
        let finished: Vec<Segment> =
            finished.into_iter().take_while(|segment| segment.base < newest.end).collect();
        for group in groups(&finished, inner.segment_bytes()) {
            done.segments += group.len();
            done.bytes_before += group.iter().map(|segment| segment.size).sum::<u64>();
            done.bytes_after += self.compact_group(group, compaction, &newest, &mut done.records_removed)?;
        }
        inner.set_compacted(newest.end);
        Ok(done)
    }

    /// Bytes that a compaction up to `bound` would look at: those that none has seen yet, and all.
    ///
    /// # Errors
    /// The log is offline.
    pub fn compactable_bytes(&self, bound: i64) -> Result<(u64, u64)> {
        let (finished, from) = self.0.compactable(bound)?;
        let size = |segments: &[Segment]| segments.iter().map(|segment| segment.size).sum();
        let seen = finished.partition_point(|segment| segment.end <= from);
        Ok((size(&finished[seen..]), size(&finished)))
    }

    fn newest_keys(&self, compaction: &mut Compaction<'_>, from: i64, to: i64) -> Result<Newest> {
        let mut newest = Newest {
            states: (RandomState::new(), RandomState::new()),
            offsets: HashMap::new(),
            producers: HashMap::new(),
            max: compaction.keys_max.max(1),
            end: to,
        };
        let mut reader = self.reader(from.max(self.state().start), to);
        while let Some(batch) = reader.next_batch()? {
            let header = &batch.header;
            if header.producer_id >= 0 {
                newest.producers.insert(header.producer_id, header.base_offset);
            }
            let aborted = header.is_transactional() && (compaction.discard)(header);
            if header.is_control() || aborted {
                continue;
            }
            let body = compaction.records(&batch)?;
            for record in Records::new(header, &body) {
                let record = record?;
                if record.offset >= from && !newest.note(&record) {
                    newest.end = record.offset;
                    return Ok(newest);
                }
            }
        }
        Ok(newest)
    }

    /// Writes a group of segments anew as one and puts it in their place; its new size.
    fn compact_group(
        &self,
        group: &[Segment],
        compaction: &mut Compaction<'_>,
        newest: &Newest,
        removed: &mut u64,
    ) -> Result<u64> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(0) };
        let inner = &self.0;
        let dir = inner.dir();
        let cleaned = dir.join(format!("{:020}.cleaned", first.base));
        let disk = inner.disk();
        let file = disk.open(&cleaned, Mode::Truncate).map_err(Error::io("create", &cleaned))?;
        let generation = first.generation + 1;
        let segment = Segment { generation, ..Segment::empty(first.base) };
        let mut output =
            Output { file, segment, index: Index::new(first.base), buffer: Vec::new(), written: 0 };
        let mut gone = 0;
        let outcome = self.copy_group(group, compaction, newest, &mut gone, &mut output);
        let size: u64 = group.iter().map(|segment| segment.size).sum();
        let worth_it = output.segment.size < size || group.len() > 1;
        if outcome.is_err() || !worth_it {
            // A leftover is removed when the log is opened next.
            let _ = disk.remove_file(&cleaned);
            return outcome.map(|()| size);
        }
        *removed += gone;
        output.write().and_then(|()| output.file.sync()).map_err(Error::io("write", &cleaned))?;
        // From here on, opening the log finishes the work.
        let swap = dir.join(swap_name(first.base, last.base));
        let named = disk.rename(&cleaned, &swap).and_then(|()| disk.sync_dir(&dir));
        named.map_err(Error::io("name", &swap))?;
        let new = Segment { end: last.end, ..output.segment };
        let size = new.size;
        inner.replace_segments(group, new, output.index, |names| {
            finish_swap(disk, &dir, names, first.base, last.base)
        })?;
        Ok(size)
    }

    fn copy_group(
        &self,
        group: &[Segment],
        compaction: &mut Compaction<'_>,
        newest: &Newest,
        gone: &mut u64,
        output: &mut Output,
    ) -> Result<()> {
        let inner = &self.0;
        let path = inner.dir();
        for segment in group {
            let mut reader = inner.segment_reader(segment)?;
            while let Some(batch) = reader.next_batch()? {
                match compaction.judge(&batch, newest, gone)? {
                    Fate::Gone => {}
                    Fate::Kept => {
                        output.add(&batch.header, &batch.bytes).map_err(Error::io("write", &path))?
                    }
                    Fate::Rewritten(bytes) => {
                        let header = Header::parse(&bytes)?;
                        output.add(&header, &bytes).map_err(Error::io("write", &path))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Neighbours that together are no larger than one segment, and fit one index.
fn groups(segments: &[Segment], bytes_max: u64) -> Vec<&[Segment]> {
    let mut groups = Vec::new();
    let mut rest = segments;
    while let Some((first, _)) = rest.split_first() {
        let mut size = 0;
        let fits = rest.iter().take_while(|segment| {
            size += segment.size;
            size <= bytes_max && segment.end - first.base <= i64::from(u32::MAX)
        });
        let count = fits.count().max(1);
        let (group, later) = rest.split_at(count);
        groups.push(group);
        rest = later;
    }
    groups
}
