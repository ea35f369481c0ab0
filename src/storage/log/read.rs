//! Reading a log: ranges of a file for `sendfile`, batches in order, one record, and what was first at a time.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Log, LogInner, State};
use crate::storage::batch::{Batch, BatchError, HEADER_LEN, Header};
use crate::storage::disk::{DiskFile, Mode, read_full};
use crate::storage::error::{Error, Result};
use crate::storage::index::{Entry, INTERVAL, Index, header_matches};
use crate::storage::record::Records;
use crate::storage::recovery;
use crate::storage::segment::Segment;

/// Bytes that a [`Reader`] asks for at once.
const READ_LEN: usize = 256 << 10;
/// Bytes in which the next batch's header is looked for.
const WALK_LEN: usize = INTERVAL as usize + HEADER_LEN;

/// Whole batches in a row in one file.
#[derive(Debug, Clone)]
pub struct Chunk {
    file: Arc<dyn DiskFile>,
    /// Where they begin in the file, in bytes.
    pub position: u64,
    /// How many bytes they take.
    pub len: usize,
    /// Offset of the first one; at or before what was asked for, or after it in a compacted log.
    pub base_offset: i64,
}

impl Chunk {
    /// The file, to send from; `None` for a store in memory. What lies outside of the range is not to be read.
    pub fn file(&self) -> Option<&Arc<File>> {
        self.file.file()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// The system's, or fewer bytes than there were.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        match read_full(&*self.file, &mut bytes, self.position)? {
            read if read == self.len => Ok(bytes.into()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A batch that was read and whose checksum is right.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// Its header.
    pub header: Header,
    /// All of it.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// The records, borrowed.
    ///
    /// # Errors
    /// They are compressed.
    pub fn records(&self) -> std::result::Result<Records<'_>, BatchError> {
        match self.header.compression() {
            0 => Ok(Records::new(&self.header, self.body())),
            compression => Err(BatchError::Compressed(compression)),
        }
    }

    /// The records as they are, compressed or not.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Shares a part of the batch, such as a record's value, without copying it. It keeps all that was read in memory.
    pub fn share(&self, part: &[u8]) -> Bytes {
        if part.is_empty() { Bytes::new() } else { self.bytes.slice_ref(part) }
    }
}

/// A record that was read by its offset. Its bytes share the batch that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// In ms since 1970.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value, if there is one.
    pub value: Option<Bytes>,
}

/// What a reader needs of a log's state, taken under the lock.
#[derive(Debug)]
struct View {
    segment: Segment,
    /// From the index of the last segment, which changes.
    near: Option<Near>,
}

#[derive(Debug)]
struct Near {
    at: Option<Entry>,
    bound: Option<Entry>,
}

impl LogInner {
    /// The segment with `offset`, or the next one that holds anything.
    fn view(&self, offset: i64, bound: i64) -> Result<Option<View>> {
        let state = self.state();
        self.check_state(&state)?;
        if offset < state.start || offset > state.end {
            return Err(Error::OutOfRange { offset, start: state.start, end: state.end });
        }
        if offset >= bound.min(state.end) {
            return Ok(None);
        }
        let first = state.segments.partition_point(|segment| segment.end <= offset);
        let Some(segment) = state.segments.get(first).copied() else { return Ok(None) };
        let near = (first + 1 == state.segments.len())
            .then(|| Near { at: state.index.at_offset(offset), bound: state.index.at_offset(bound) });
        Ok(Some(View { segment, near }))
    }

    pub(super) fn open_segment(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>> {
        let path = self.shared.paths.segment(self.id, segment.base);
        self.shared.file(self.key(Some(segment)), Mode::Existing).map_err(Error::io("open", &path))
    }

    /// The index of a finished segment.
    pub(super) fn index_of(&self, segment: &Segment) -> Result<Arc<Index>> {
        let key = self.key(Some(segment));
        if let Some(index) = self.shared.indexes.get(&key) {
            return Ok(index);
        }
        let index = Arc::new(recovery::load_or_build_index(&self.shared, self.id, segment, self.compacts())?);
        self.shared.indexes.insert(key, Arc::clone(&index), index.memory());
        Ok(index)
    }

    fn corrupt(&self, segment: &Segment, offset: i64, position: u64, why: String) -> Error {
        let path = self.shared.paths.segment(self.id, segment.base);
        // Readers come again and again.
        if self.corrupt_at.swap(offset, Ordering::Relaxed) != offset {
            tracing::error!(log = %self.id, offset, position, path = %path.display(), why, "corrupt batch");
        }
        Error::Corrupt { log: self.id, offset, path, position, why }
    }

    /// From a batch that is known on, the first one for which `found` holds.
    fn walk(
        &self,
        file: &dyn DiskFile,
        segment: &Segment,
        from: Option<Entry>,
        found: impl Fn(&Header) -> bool,
    ) -> Result<Option<(u64, Header)>> {
        let (mut position, mut offset) =
            from.map_or((0, segment.base), |entry| (entry.position, entry.offset));
        let mut buffer = [0; WALK_LEN];
        let (mut filled_from, mut filled) = (0, 0);
        while position < segment.size {
            if position < filled_from || position + HEADER_LEN as u64 > filled_from + filled as u64 {
                let want = usize::try_from(segment.size - position).unwrap_or(WALK_LEN).min(WALK_LEN);
                let path = || self.shared.paths.segment(self.id, segment.base);
                let read = read_full(file, &mut buffer[..want], position);
                (filled_from, filled) = (position, read.map_err(|error| Error::io("read", &path())(error))?);
            }
            let inside = usize::try_from(position - filled_from).unwrap_or(usize::MAX);
            let bytes = buffer[..filled].get(inside..).unwrap_or_default();
            let header = Header::parse(bytes)
                .map_err(|why| self.corrupt(segment, offset, position, why.to_string()))?;
            if let Some(entry) = from.filter(|entry| entry.position == position)
                && !bytes.first_chunk().is_some_and(|header| header_matches(&entry, header))
            {
                return Err(self.corrupt(
                    segment,
                    offset,
                    position,
                    "header differs from the index".to_owned(),
                ));
            }
            if header.base_offset < offset || header.end_offset() > segment.end {
                let why = format!("base offset {}, expected {offset}", header.base_offset);
                return Err(self.corrupt(segment, offset, position, why));
            }
            if found(&header) {
                return Ok(Some((position, header)));
            }
            (position, offset) = (position + header.len as u64, header.end_offset());
        }
        Ok(None)
    }

    fn chunk(&self, view: &View, from: i64, bytes_max: usize, bound: i64) -> Result<Option<Chunk>> {
        let segment = &view.segment;
        let file = self.open_segment(segment)?;
        let index = match view.near {
            Some(_) => None,
            None => Some(self.index_of(segment)?),
        };
        let near = |offset| match (&view.near, &index) {
            (_, Some(index)) => index.at_offset(offset),
            (Some(near), None) => {
                if offset == from {
                    near.at
                } else {
                    near.bound
                }
            }
            (None, None) => None,
        };
        let Some((start, first)) =
            self.walk(&*file, segment, near(from), |header| header.end_offset() > from)?
        else {
            return Ok(None);
        };
        let mut end = segment.size;
        if bound < segment.end {
            let before = near(bound).filter(|entry| entry.position >= start);
            let reaches =
                self.walk(&*file, segment, before.or(near(from)), |header| header.end_offset() > bound)?;
            end = reaches.map_or(end, |(position, _)| position);
        }
        if end <= start {
            return Ok(None);
        }
        let limit = start.saturating_add(bytes_max as u64);
        if end > limit {
            let known = match &index {
                Some(index) => index.at_position(limit),
                None => self.state().index.at_position(limit),
            };
            let least = start + first.len as u64;
            end = known.map_or(least, |entry| entry.position).max(least).min(end);
        }
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        Ok(Some(Chunk { file, position: start, len, base_offset: first.base_offset }))
    }

    fn read(&self, from: i64, bytes_max: usize, bound: i64) -> Result<Option<Chunk>> {
        /// A segment may be replaced or trimmed between a look at it and its opening; not again and again.
        const TRIES: usize = 3;
        let (mut at, mut tries) = (from, 0);
        loop {
            let Some(view) = self.view(at, bound)? else { return Ok(None) };
            match self.chunk(&view, at, bytes_max, bound) {
                Ok(None) if view.segment.end < bound => at = view.segment.end,
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn batches(&self, chunk: &Chunk) -> Result<Bytes> {
        let path = self.shared.paths.log(self.id);
        chunk.read().map_err(Error::io("read", &path))
    }

    /// Takes the batch off the front of what was read.
    fn take_batch(&self, rest: &mut Bytes) -> Result<StoredBatch> {
        let batch = Batch::parse(rest).and_then(|batch| batch.check().map(|()| batch.header));
        let header = batch.map_err(|why| {
            let offset = Header::parse(rest).map_or(0, |header| header.base_offset);
            let state = self.state();
            let at = state.segments.partition_point(|segment| segment.base <= offset);
            let segment = at.checked_sub(1).and_then(|at| state.segments.get(at)).copied();
            drop(state);
            self.corrupt(&segment.unwrap_or(Segment::empty(0)), offset, 0, why.to_string())
        })?;
        Ok(StoredBatch { header, bytes: rest.split_to(header.len) })
    }
}

/// Batches of one segment in order.
pub(crate) struct SegmentReader<'a> {
    log: &'a LogInner,
    segment: Segment,
    file: Arc<dyn DiskFile>,
    position: u64,
    rest: Bytes,
}

impl LogInner {
    /// Reads a finished segment from its beginning.
    pub(crate) fn segment_reader(&self, segment: &Segment) -> Result<SegmentReader<'_>> {
        Ok(SegmentReader {
            log: self,
            segment: *segment,
            file: self.open_segment(segment)?,
            position: 0,
            rest: Bytes::new(),
        })
    }
}

impl SegmentReader<'_> {
    /// The next batch, checked, or `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<StoredBatch>> {
        let known = Header::parse(&self.rest).is_ok_and(|header| header.len <= self.rest.len());
        if !known {
            let left = self.segment.size - self.position;
            if left == 0 {
                return Ok(None);
            }
            let mut header = [0; HEADER_LEN];
            let path = self.log.shared.paths.segment(self.log.id, self.segment.base);
            read_full(&*self.file, &mut header, self.position).map_err(Error::io("read", &path))?;
            let least = Header::parse(&header).map_or(HEADER_LEN, |header| header.len);
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(least.max(READ_LEN));
            let mut bytes = vec![0; want];
            let read = read_full(&*self.file, &mut bytes, self.position).map_err(Error::io("read", &path))?;
            bytes.truncate(read);
            self.rest = bytes.into();
        }
        let batch = self.log.take_batch(&mut self.rest)?;
        self.position += batch.header.len as u64;
        Ok(Some(batch))
    }
}

impl Log {
    /// Whole batches from the one with offset `from` on: at least one, and otherwise at most `bytes_max` bytes, before
    /// `bound` and in one file. `None` when there is nothing yet. Not checked: the reader compares the checksums.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Corrupt`] when the way there is damaged; the system's.
    pub fn read(&self, from: i64, bytes_max: usize, bound: i64) -> Result<Option<Chunk>> {
        self.0.read(from, bytes_max, bound)
    }

    /// Looks at the headers of all batches from the one with offset `from` on, without reading what is in them.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn headers(&self, from: i64, visit: &mut dyn FnMut(&Header)) -> Result<()> {
        let inner = &self.0;
        let segments: Vec<Segment> = {
            let state = inner.state();
            inner.check_state(&state)?;
            state.segments.iter().filter(|segment| segment.end > from).copied().collect()
        };
        let visit = std::cell::RefCell::new(visit);
        for segment in segments {
            let file = inner.open_segment(&segment)?;
            inner.walk(&*file, &segment, None, |header| {
                if header.end_offset() > from {
                    (visit.borrow_mut())(header);
                }
                false
            })?;
        }
        Ok(())
    }

    /// Reads batches in order, and checks them.
    pub fn reader(&self, from: i64, bound: i64) -> Reader {
        Reader { log: self.clone(), next: from, bound, rest: Bytes::new() }
    }

    /// The batch that holds an offset, or the next one in a compacted log.
    ///
    /// # Errors
    /// As [`Log::read`]; [`Error::OutOfRange`] also for the end.
    pub fn read_batch(&self, offset: i64) -> Result<StoredBatch> {
        let found = self.0.read(offset, 0, i64::MAX)?;
        let outside = || {
            let state = self.0.state();
            Error::OutOfRange { offset, start: state.start, end: state.end }
        };
        let mut bytes = self.0.batches(&found.ok_or_else(outside)?)?;
        self.0.take_batch(&mut bytes)
    }

    /// One record by its offset.
    ///
    /// # Errors
    /// As [`Log::read_batch`]; [`Error::OutOfRange`] for one that compaction removed, and compressed records.
    pub fn read_record(&self, offset: i64) -> Result<StoredRecord> {
        let batch = self.read_batch(offset)?;
        for record in batch.records()? {
            let record = record?;
            if record.offset == offset {
                return Ok(StoredRecord {
                    offset,
                    timestamp: record.timestamp,
                    key: record.key.map(|key| batch.share(key)),
                    value: record.value.map(|value| batch.share(value)),
                });
            }
        }
        let state = self.0.state();
        Err(Error::OutOfRange { offset, start: state.start, end: state.end })
    }

    /// The first batch that has a record at or after a time, in ms since 1970, and ends after `from`. Which record that is,
    /// the batch tells once it is unpacked: it may be one that was trimmed.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn batch_at_time(&self, timestamp: i64, from: i64) -> Result<Option<StoredBatch>> {
        let inner = &self.0;
        let (start, candidates, near) = {
            let state: &State = &inner.state();
            inner.check_state(state)?;
            let start = state.start.max(from);
            let has = |segment: &&Segment| segment.max_timestamp >= timestamp && segment.end > start;
            let candidates: Vec<Segment> = state.segments.iter().filter(has).copied().collect();
            let last = state.segments.last().copied();
            (start, candidates, last.map(|last| (last.base, state.index.at_time(timestamp))))
        };
        for segment in candidates {
            let file = inner.open_segment(&segment)?;
            let from = match near {
                Some((base, entry)) if base == segment.base => entry,
                _ => inner.index_of(&segment)?.at_time(timestamp),
            };
            let wanted = |header: &Header| header.max_timestamp >= timestamp && header.end_offset() > start;
            if let Some((position, header)) = inner.walk(&*file, &segment, from, wanted)? {
                let chunk = Chunk { file, position, len: header.len, base_offset: header.base_offset };
                let mut bytes = inner.batches(&chunk)?;
                return inner.take_batch(&mut bytes).map(Some);
            }
        }
        Ok(None)
    }

    /// The newest time of a record in the batches that begin at or after `offset`, in ms since 1970; -1 when there is none.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn max_timestamp_from(&self, offset: i64) -> Result<i64> {
        let inner = &self.0;
        let segments: Vec<Segment> = {
            let state = inner.state();
            inner.check_state(&state)?;
            state.segments.iter().filter(|segment| segment.end > offset).copied().collect()
        };
        let newest = std::cell::Cell::new(-1);
        for segment in segments {
            if segment.base >= offset {
                newest.set(segment.max_timestamp.max(newest.get()));
                continue;
            }
            let file = inner.open_segment(&segment)?;
            inner.walk(&*file, &segment, None, |header| {
                if header.base_offset >= offset {
                    newest.set(header.max_timestamp.max(newest.get()));
                }
                false
            })?;
        }
        Ok(newest.get())
    }

    /// Reads everything and compares every checksum; the batches that were checked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] at the first that is damaged; the system's.
    pub fn verify(&self) -> Result<u64> {
        let mut reader = self.reader(self.state().start, self.end());
        let mut count = 0;
        while reader.next_batch()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Batches of a log in order.
#[derive(Debug)]
pub struct Reader {
    log: Log,
    next: i64,
    bound: i64,
    rest: Bytes,
}

impl Reader {
    /// The next batch, or `None` at the bound or the end; asking again later goes on.
    ///
    /// # Errors
    /// As [`Log::read`], and a batch whose checksum is wrong.
    pub fn next_batch(&mut self) -> Result<Option<StoredBatch>> {
        if self.rest.is_empty() {
            let Some(chunk) = self.log.0.read(self.next, READ_LEN, self.bound)? else { return Ok(None) };
            self.rest = self.log.0.batches(&chunk)?;
        }
        let batch = self.log.0.take_batch(&mut self.rest)?;
        self.next = batch.header.end_offset();
        Ok(Some(batch))
    }

    /// Where the next batch is expected.
    pub fn offset(&self) -> i64 {
        self.next
    }
}
