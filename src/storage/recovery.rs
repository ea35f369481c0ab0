//! Opening a log: what is good, what a crash tore off, and what must have been damaged.
//!
//! What the checkpoint says was flushed has to be there. After it, the first bad batch is the end of the log if it looks
//! like a write that never reached the disk; then it is cut and kept in `trash/`. Otherwise the log is not opened.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::batch::{HEADER_LEN, Header};
use super::checkpoint::Flushed;
use super::disk::{Disk, DiskFile, Mode, list_or_none, read_file, read_full, replace_file, write_all};
use super::epochs::Epochs;
use super::error::{Error, Result};
use super::id::LogId;
use super::index::{Index, Summary, header_matches};
use super::log::LogConfig;
use super::salvage::HOLES;
use super::segment::{Expected, Scan, Segment, Step, base_of};
use super::store::Shared;
use super::torn::{self, Trace};

const EPOCHS_FILE_MAX: u64 = 64 << 20;
/// Entries of the largest segment, 20 bytes each, twice over.
const INDEX_FILE_MAX: u64 = 32 << 20;
const COPY_LEN: usize = 256 << 10;

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Batches that were read and checked, in bytes.
    pub scanned_bytes: u64,
    /// Offsets after the checkpoint that were found whole and synced.
    pub recovered: i64,
    /// The torn tail, if there was one.
    pub cut: Option<Cut>,
}

impl Recovery {
    /// Says that a torn tail was cut, if one was, of the log of `whose`.
    pub fn warn_of_cut(&self, whose: impl std::fmt::Display) {
        if let Some(Cut { offset, bytes, kept_in, why }) = &self.cut {
            tracing::warn!(%whose, offset, bytes, why, kept_in = %kept_in.display(), "torn tail cut");
        }
    }
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The log goes on at this offset.
    pub offset: i64,
    /// Bytes that were cut, up to the last that was not zero.
    pub bytes: u64,
    /// Where they are kept.
    pub kept_in: PathBuf,
    /// What was wrong with them.
    pub why: String,
}

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) segments: Vec<Segment>,
    pub(crate) index: Index,
    pub(crate) epochs: Epochs,
    pub(crate) epochs_file: bool,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) high_watermark: i64,
    pub(crate) allocated: u64,
    pub(crate) report: Recovery,
}

/// A bad batch, and where.
struct Bad {
    /// Number of its segment.
    segment: usize,
    position: u64,
    offset: i64,
    why: String,
    len: Option<usize>,
}

struct Recovering<'a> {
    shared: &'a Shared,
    disk: &'a dyn Disk,
    id: LogId,
    dir: PathBuf,
    holes: bool,
    flushed: Option<Flushed>,
    segments: Vec<Segment>,
    epochs: Epochs,
    epochs_known: bool,
    /// The file of epochs, as it was found.
    epochs_file: Option<Vec<u8>>,
    /// Names in the directory that are no segments.
    others: Vec<String>,
    index: Index,
    /// First segment and position from which on everything is checked.
    from: (usize, u64),
    /// Epoch of the batch there, if it is known: none that follows is older.
    from_epoch: i32,
    report: Recovery,
}

/// Opens a log, whatever state it is in.
pub(crate) fn open(shared: &Shared, id: LogId, config: &LogConfig) -> Result<Found> {
    let flushed = shared.known().logs.get(&id).copied();
    let recovering = Recovering {
        shared,
        disk: &*shared.disk,
        id,
        dir: shared.paths.log(id),
        holes: config.compact,
        flushed,
        segments: Vec::new(),
        epochs: Epochs::default(),
        epochs_known: false,
        epochs_file: None,
        others: Vec::new(),
        index: Index::default(),
        from: (0, 0),
        from_epoch: i32::MIN,
        report: Recovery::default(),
    };
    recovering.run()
}

impl Recovering<'_> {
    fn run(mut self) -> Result<Found> {
        let Names { bases, others } = names(self.disk, &self.dir)?;
        self.holes |= others.iter().any(|name| name == HOLES);
        self.others = others;
        let first = bases.first().copied().unwrap_or(0);
        let start = self
            .flushed
            .map_or(if self.shared.found_checkpoint { 0 } else { first }, |flushed| flushed.start);
        let bases = self.without_orphans(bases, start)?;
        self.segments = bases.into_iter().map(Segment::empty).collect();
        let flushed_end = self.flushed.map_or(start, |flushed| flushed.end);
        let high_watermark = self.flushed.map_or(start, |flushed| flushed.high_watermark);
        self.remove_leftovers(start)?;
        self.load_epochs(start, flushed_end)?;
        self.load_finished(flushed_end)?;
        let bad = self.scan(flushed_end)?;
        if let Some(bad) = &bad {
            self.judge(bad, flushed_end)?;
            self.cut(bad)?;
        }
        let mut end = self.segments.last().map_or(flushed_end, |last| last.end);
        if end < flushed_end && start == flushed_end {
            // The log was made to begin anew there, and what is left of before was not yet removed.
            self.remove_all()?;
            end = start;
        }
        let gone = self.segments.is_empty() && start < flushed_end;
        if end < flushed_end || gone {
            let end = if gone { start } else { end };
            let why = format!("the log ends there, but offsets up to {flushed_end} had been on disk");
            return Err(self.corrupt(self.segments.len().saturating_sub(1), end, None, why));
        }
        self.sync(end > flushed_end || bad.is_some() || self.flushed.is_none())?;
        self.report.recovered = end - flushed_end;
        self.epochs.cut_to(start);
        self.keep_epochs()?;
        let allocated = match self.segments.last() {
            Some(last) => self.open(last.base)?.len().map_err(Error::io("measure", &self.dir))?,
            None => 0,
        };
        Ok(Found {
            epochs_file: self.epochs_file.is_some(),
            segments: self.segments,
            index: self.index,
            epochs: self.epochs,
            start,
            end,
            high_watermark,
            allocated,
            report: self.report,
        })
    }

    fn open(&self, base: i64) -> Result<std::sync::Arc<dyn DiskFile>> {
        let path = self.shared.paths.segment(self.id, base);
        self.shared.file((self.id, base, 0), Mode::Existing).map_err(Error::io("open", &path))
    }

    fn path(&self, segment: usize) -> PathBuf {
        let base = self.segments.get(segment).map_or(0, |segment| segment.base);
        self.shared.paths.segment(self.id, base)
    }

    fn corrupt(&self, segment: usize, offset: i64, position: Option<u64>, why: String) -> Error {
        let at = self.segments.get(segment).map_or(0, |segment| segment.size);
        let (path, position) = (self.path(segment), position.unwrap_or(at));
        Error::Corrupt { log: self.id, offset, path, position, why }
    }

    /// When nothing of a log was flushed and its first file never reached the disk, what comes later is the tail of
    /// nothing: it is kept in the trash. A log that no checkpoint knows begins at 0, because nothing is trimmed or reset
    /// before a checkpoint says so.
    fn without_orphans(&mut self, bases: Vec<i64>, start: i64) -> Result<Vec<i64>> {
        let first = bases.first().copied().unwrap_or(0);
        if first <= start || self.flushed.is_some_and(|flushed| flushed.end > start) {
            return Ok(bases);
        }
        let trash = self.make_trash()?;
        for &base in &bases {
            let from = self.shared.paths.segment(self.id, base);
            let to = trash.join(format!("{base:020}.log"));
            self.disk.rename(&from, &to).map_err(Error::io("move", &from))?;
            // It may not exist, and is worth nothing without its segment.
            let _ = self.disk.remove_file(&from.with_extension("idx"));
        }
        let _ = self.disk.remove_file(&self.dir.join("epochs"));
        self.others.retain(|name| name != "epochs");
        for dir in [&trash, &self.dir] {
            self.disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        let why = format!("the first file is missing, {first} is the next");
        self.note_cut(Cut { offset: start, bytes: 0, kept_in: trash, why });
        Ok(Vec::new())
    }

    fn make_trash(&self) -> Result<PathBuf> {
        let trash = self.shared.paths.trash().join(format!("{}-{}", self.id, self.disk.now_ms()));
        self.disk.create_dir(&trash).map_err(Error::io("create", &trash))?;
        let parent = self.shared.paths.trash();
        self.disk.sync_dir(&parent).map_err(Error::io("sync", &parent))?;
        Ok(trash)
    }

    fn note_cut(&mut self, cut: Cut) {
        self.shared.counters.torn.fetch_add(1, Ordering::Relaxed);
        self.report.cut = Some(cut);
    }

    /// Segments wholly before the start: a crash came between writing that down and removing them.
    fn remove_leftovers(&mut self, start: i64) -> Result<()> {
        let keep_from = self.segments.partition_point(|segment| segment.base <= start).saturating_sub(1);
        for segment in self.segments.drain(..keep_from) {
            let path = self.shared.paths.segment(self.id, segment.base);
            self.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
            // It may not exist, and is worth nothing without its segment.
            let _ = self.disk.remove_file(&self.shared.paths.index(self.id, segment.base));
        }
        match self.segments.first() {
            Some(first) if first.base > start => {
                let why =
                    format!("the log starts at {start}, but its first file holds {} and later", first.base);
                Err(self.corrupt(0, start, Some(0), why))
            }
            _ => Ok(()),
        }
    }

    fn remove_all(&mut self) -> Result<()> {
        for segment in std::mem::take(&mut self.segments) {
            self.shared.forget(&(self.id, segment.base, 0));
            let path = self.shared.paths.segment(self.id, segment.base);
            self.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
            let _ = self.disk.remove_file(&self.shared.paths.index(self.id, segment.base));
        }
        self.epochs = Epochs::default();
        self.epochs_file = None;
        let _ = self.disk.remove_file(&self.dir.join("epochs"));
        self.disk.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    /// The epochs before `flushed_end`: from their file, which is only there when there are several.
    fn load_epochs(&mut self, start: i64, flushed_end: i64) -> Result<()> {
        if !self.others.iter().any(|name| name == "epochs") {
            return Ok(());
        }
        let path = self.dir.join("epochs");
        let bytes = read_file(self.disk, &path, EPOCHS_FILE_MAX).map_err(Error::io("read", &path))?;
        let Some(bytes) = bytes else { return Ok(()) };
        match Epochs::from_file(&bytes) {
            Some(epochs) => {
                self.epochs = epochs;
                self.epochs.cut_from(flushed_end);
                self.epochs.cut_to(start);
                self.epochs_known = !self.epochs.list().is_empty();
            }
            None => tracing::warn!(path = %path.display(), "damaged; made anew from the batches"),
        }
        self.epochs_file = Some(bytes);
        Ok(())
    }

    /// Learns what is known of the segments that were flushed as a whole, and where to begin to check.
    fn load_finished(&mut self, flushed_end: i64) -> Result<()> {
        let first = self.segments.partition_point(|segment| segment.base <= flushed_end).saturating_sub(1);
        for number in 0..first {
            let base = self.segments[number].base;
            let file = self.open(base)?;
            let len = file.len().map_err(Error::io("measure", &self.path(number)))?;
            let next = self.segments[number + 1].base;
            // A crash can bring back an index from before a truncation. A finished segment is as long as its batches.
            let fits = |summary: &Summary| {
                summary.size == len && (summary.end == next || self.holes && summary.end < next)
            };
            let summary = read_summary(self.shared, self.id, base).filter(fits);
            match summary {
                Some(Summary { end, size, max_timestamp }) => {
                    self.segments[number] = Segment { base, end, size, max_timestamp, generation: 0 };
                    let after = self.header_at(&*self.open(next)?, number + 1, 0)?;
                    self.note_epochs(number, &*file, size, after.map_or(i32::MAX, |next| next.leader_epoch))?;
                }
                None => self.rebuild(number, &*file)?,
            }
            let end = self.segments[number].end;
            let fits = end == next || self.holes && end < next;
            if !fits {
                let why = format!("the segment ends at offset {end}, the next begins at {next}");
                return Err(self.corrupt(number, end, None, why));
            }
        }
        self.from = (first, 0);
        let Some(&Segment { base, .. }) = self.segments.get(first) else { return Ok(()) };
        self.index = Index::new(base);
        // The last note before the flushed end: what comes before it was checked when it was written.
        let has_index = self.others.iter().any(|name| base_of(name, ".idx") == Some(base));
        let index = has_index.then(|| load_index(self.shared, self.id, base)).flatten();
        let Some((mut index, _)) = index else { return Ok(()) };
        let Some(entry) = index.at_offset(flushed_end - 1) else { return Ok(()) };
        let file = self.open(base)?;
        let mut bytes = [0; HEADER_LEN];
        let read =
            read_full(&*file, &mut bytes, entry.position).map_err(Error::io("read", &self.path(first)))?;
        let header = Header::parse(bytes.get(..read).unwrap_or_default());
        let Some(header) = header.ok().filter(|_| header_matches(&entry, &bytes)) else {
            // The index may be of a time before a truncation. The check of all of the segment tells.
            return Ok(());
        };
        self.note_epochs(first, &*file, entry.position, header.leader_epoch)?;
        index.cut(entry.position);
        self.index = index;
        let segment = &mut self.segments[first];
        (segment.end, segment.size) = (entry.offset, entry.position);
        segment.max_timestamp = entry.max_timestamp_before;
        self.from = (first, entry.position);
        self.from_epoch = header.leader_epoch;
        Ok(())
    }

    /// Checks a finished segment whose index is gone, and makes the index anew.
    fn rebuild(&mut self, number: usize, file: &dyn DiskFile) -> Result<()> {
        let base = self.segments[number].base;
        let whole = Segment { size: u64::MAX, end: i64::MAX, ..Segment::empty(base) };
        let expected = Expected { offset: base, epoch: i32::MIN, holes: self.holes };
        let mut index = Index::new(base);
        let epochs = &mut self.epochs;
        let known = self.epochs_known;
        let segment = walk_segment(self.shared, self.id, &whole, file, expected, |header, segment| {
            index.add(header, segment.size, segment.max_timestamp);
            if !known {
                epochs.note(header.leader_epoch, header.base_offset);
            }
            true
        })?;
        self.report.scanned_bytes += segment.size;
        self.segments[number] = segment;
        write_index(self.shared, self.id, &segment, &index);
        Ok(())
    }

    /// Without the file of epochs: learns those in the first `size` bytes of a segment after which comes `after`. Epochs
    /// rise: when the first batch has that epoch, so have all.
    fn note_epochs(&mut self, number: usize, file: &dyn DiskFile, size: u64, after: i32) -> Result<()> {
        let mut position = 0;
        while !self.epochs_known && position < size {
            let Some(header) = self.header_at(file, number, position)? else {
                let why = "not a batch header".to_owned();
                return Err(self.corrupt(number, self.segments[number].base, Some(position), why));
            };
            self.epochs.note(header.leader_epoch, header.base_offset);
            if header.leader_epoch == after {
                break;
            }
            position += header.len as u64;
        }
        Ok(())
    }

    fn header_at(&self, file: &dyn DiskFile, number: usize, position: u64) -> Result<Option<Header>> {
        let mut bytes = [0; HEADER_LEN];
        let read = read_full(file, &mut bytes, position).map_err(Error::io("read", &self.path(number)))?;
        Ok(bytes.get(..read).and_then(|bytes| Header::parse(bytes).ok()))
    }

    /// Checks every batch from there on, over all segments; the first bad one.
    fn scan(&mut self, flushed_end: i64) -> Result<Option<Bad>> {
        let (first, _) = self.from;
        let Some(begin) = self.segments.get(first) else { return Ok(None) };
        let mut expected = Expected { offset: begin.end, epoch: self.from_epoch, holes: self.holes };
        for number in first..self.segments.len() {
            let base = self.segments[number].base;
            if number > first {
                let fits = base == expected.offset || self.holes && base > expected.offset;
                if !fits {
                    let why = format!("the segment ends at {}, the next begins at {base}", expected.offset);
                    let position = self.segments[number - 1].size;
                    let offset = expected.offset;
                    return Ok(Some(Bad { segment: number - 1, position, offset, why, len: None }));
                }
                let before = self.segments[number - 1];
                write_index(self.shared, self.id, &before, &self.index);
                self.index = Index::new(base);
                // The hole in front of it was left by a compaction.
                expected.offset = base;
                self.segments[number] = Segment::empty(base);
            }
            let file = self.open(base)?;
            let path = self.path(number);
            let position = self.segments[number].size;
            let mut scan = Scan::new(&*file, position, expected).map_err(Error::io("read", &path))?;
            loop {
                let at = scan.position;
                match scan.step().map_err(Error::io("read", &path))? {
                    Step::Batch(header) => self.found(number, at, &header, flushed_end)?,
                    Step::End => break,
                    Step::Bad { why, len } => {
                        let offset = scan.expected.offset;
                        return Ok(Some(Bad { segment: number, position: at, offset, why, len }));
                    }
                }
            }
            expected = scan.expected;
        }
        Ok(None)
    }

    fn found(&mut self, number: usize, position: u64, header: &Header, flushed_end: i64) -> Result<()> {
        let offset = header.base_offset;
        let known = self.epochs.at(offset).filter(|_| self.epochs_known && offset < flushed_end);
        if known.is_some_and(|known| known != header.leader_epoch) {
            let why = format!("leader epoch {} differs from the file of epochs", header.leader_epoch);
            return Err(self.corrupt(number, offset, Some(position), why));
        }
        self.epochs.note(header.leader_epoch, offset);
        let segment = &mut self.segments[number];
        self.index.add(header, position, segment.max_timestamp);
        segment.add(header);
        self.report.scanned_bytes += header.len as u64;
        Ok(())
    }

    /// Torn is `Ok`, damaged is an error.
    fn judge(&self, bad: &Bad, flushed_end: i64) -> Result<()> {
        let damaged = |why: String| Err(self.corrupt(bad.segment, bad.offset, Some(bad.position), why));
        // A log that starts where it was flushed to had nothing on disk that it still needs.
        let needed = self.flushed.is_some_and(|flushed| flushed.start < flushed.end);
        if bad.offset < flushed_end && needed {
            return damaged(format!("{}; offsets up to {flushed_end} had been on disk", bad.why));
        }
        let path = self.path(bad.segment);
        let file = self.open(self.segments[bad.segment].base)?;
        let expected = Expected { offset: bad.offset, epoch: i32::MIN, holes: true };
        let judge = || -> io::Result<Option<&str>> {
            let mut scan = Scan::new(&*file, bad.position, expected)?;
            let (trace, next) = torn::trace(&mut scan, bad.len)?;
            let mut follows = next.is_some();
            for later in self.segments.iter().skip(bad.segment + 1) {
                if follows || trace != Trace::Short {
                    break;
                }
                let file = self.disk.open(&self.shared.paths.segment(self.id, later.base), Mode::Existing)?;
                follows = Scan::new(&*file, 0, expected)?.find_batch(0)?.is_some();
            }
            Ok(trace.is_damage(follows).then_some(match trace {
                Trace::Whole => "nothing of it is missing",
                Trace::Lost | Trace::Short => "whole batches follow",
            }))
        };
        match judge().map_err(Error::io("read", &path))? {
            None => Ok(()),
            Some(sign) => damaged(format!("{}; {sign}, so it was not a write cut short", bad.why)),
        }
    }

    /// Cuts at the bad batch, after keeping everything from there on in the trash.
    fn cut(&mut self, bad: &Bad) -> Result<()> {
        let trash = self.make_trash()?;
        let base = self.segments[bad.segment].base;
        let path = self.path(bad.segment);
        let file = self.open(base)?;
        let kept = trash.join(format!("{base:020}-{:020}.cut", bad.position));
        let bytes = keep(self.disk, &*file, bad.position, &kept).map_err(Error::io("write", &kept))?;
        let sync = |dir: &Path| self.disk.sync_dir(dir).map_err(Error::io("sync", dir));
        for later in self.segments.drain(bad.segment + 1..) {
            self.shared.forget(&(self.id, later.base, 0));
            let from = self.shared.paths.segment(self.id, later.base);
            let to = trash.join(format!("{:020}.log", later.base));
            self.disk.rename(&from, &to).map_err(Error::io("move", &from))?;
            // It may not exist, and is worth nothing without its segment.
            let _ = self.disk.remove_file(&self.shared.paths.index(self.id, later.base));
        }
        sync(&trash)?;
        let _ = self.disk.remove_file(&self.shared.paths.index(self.id, base));
        // What is appended next must not stand on old bytes: zero means never written.
        file.set_len(bad.position).map_err(Error::io("cut", &path))?;
        self.index.cut(bad.position);
        self.epochs.cut_from(bad.offset);
        self.note_cut(Cut { offset: bad.offset, bytes, kept_in: kept, why: bad.why.clone() });
        Ok(())
    }

    /// Writes the epochs down before a checkpoint says that what they describe is on disk.
    fn keep_epochs(&mut self) -> Result<()> {
        let several = self.epochs.list().len() > 1;
        let content = self.epochs.to_file();
        let is_news = self.epochs_file.as_ref().map_or(several, |before| *before != content);
        if is_news && !self.shared.in_memory() && !self.segments.is_empty() {
            let path = self.dir.join("epochs");
            replace_file(self.disk, &path, &content).map_err(Error::io("write", &path))?;
            self.epochs_file = Some(content);
        }
        Ok(())
    }

    /// Makes what was found permanent before anybody is told of it.
    fn sync(&self, changed: bool) -> Result<()> {
        if !changed || self.segments.is_empty() || self.shared.in_memory() {
            return Ok(());
        }
        for (number, segment) in self.segments.iter().enumerate().skip(self.from.0) {
            let path = self.path(number);
            let file = self.open(segment.base)?;
            if self.shared.rewrite_tails {
                let from = if number == self.from.0 { self.from.1 } else { 0 };
                rewrite(&*file, from, segment.size).map_err(Error::io("rewrite", &path))?;
            }
            file.sync().map_err(Error::io("sync", &path))?;
        }
        for dir in [&self.dir, &self.shared.paths.logs()] {
            self.disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        Ok(())
    }
}

/// What is in a log's directory.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Base offsets of the segments, in order.
    pub(crate) bases: Vec<i64>,
    /// Everything else.
    pub(crate) others: Vec<String>,
}

/// Lists a log's directory, after a compaction that was under way is finished or undone.
pub(crate) fn names(disk: &dyn Disk, dir: &Path) -> Result<Names> {
    let mut all = list_or_none(disk, dir).map_err(Error::io("list", dir))?;
    let mut changed = false;
    for name in &all {
        let path = dir.join(name);
        if name.ends_with(".cleaned") || name.ends_with(".tmp") {
            disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        } else if let Some((base, last)) = swap_of(name) {
            finish_swap(disk, dir, &all, base, last).map_err(Error::io("replace", &path))?;
            changed = true;
        }
    }
    if changed {
        all = disk.list(dir).map_err(Error::io("list", dir))?;
    }
    let mut names = Names::default();
    for name in all {
        match base_of(&name, ".log") {
            Some(base) => names.bases.push(base),
            None => names.others.push(name),
        }
    }
    names.bases.sort_unstable();
    Ok(names)
}

/// Copies a tail up to its last byte that is not zero, and syncs the copy; its length in bytes.
pub(crate) fn keep(disk: &dyn Disk, file: &dyn DiskFile, from: u64, to: &Path) -> io::Result<u64> {
    let copy = disk.open(to, Mode::Truncate)?;
    let (mut at, mut end) = (from, from);
    let mut buffer = vec![0; COPY_LEN];
    loop {
        let read = read_full(file, &mut buffer, at)?;
        if read == 0 {
            break;
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
            let bytes = &bytes[..=last];
            write_all(&*copy, &mut [IoSlice::new(bytes)], at - from)?;
            end = at + bytes.len() as u64;
        }
        at += read as u64;
    }
    copy.sync()?;
    Ok(end - from)
}

/// Writes bytes over themselves: a sync that failed in the process before left them in memory, marked as written.
fn rewrite(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_LEN];
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(COPY_LEN).min(COPY_LEN);
        let read = read_full(file, &mut buffer[..want], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all(file, &mut [IoSlice::new(&buffer[..read])], at)?;
        at += read as u64;
    }
    Ok(())
}

/// The range in a name such as `00000000000000000000-00000000000000000042.swap`.
fn swap_of(name: &str) -> Option<(i64, i64)> {
    let (base, last) = name.strip_suffix(".swap")?.split_once('-')?;
    Some((base_of(base, "")?, base_of(last, "")?))
}

/// The compacted file that takes the place of the segments from `base` to `last`.
pub(crate) fn swap_name(base: i64, last: i64) -> String {
    format!("{base:020}-{last:020}.swap")
}

/// Puts a compacted file, which is whole, in the place of the segments it was made of.
pub(crate) fn finish_swap(
    disk: &dyn Disk,
    dir: &Path,
    names: &[String],
    base: i64,
    last: i64,
) -> io::Result<()> {
    for name in names {
        let of = base_of(name, ".log").or_else(|| base_of(name, ".idx"));
        if of.is_some_and(|of| base <= of && of <= last) {
            disk.remove_file(&dir.join(name))?;
        }
    }
    // Until the old ones are gone for good, the name says what is to be removed.
    disk.sync_dir(dir)?;
    disk.rename(&dir.join(swap_name(base, last)), &dir.join(format!("{base:020}.log")))?;
    disk.sync_dir(dir)
}

/// What the batches of a segment are checked against when nothing is known of what comes before it.
pub(crate) fn expect_any(segment: &Segment, holes: bool) -> Expected {
    Expected { offset: segment.base, epoch: i32::MIN, holes }
}

/// Checks the batches of a segment, as far as it goes and `visit` wants, and sums them up.
pub(crate) fn walk_segment(
    shared: &Shared,
    id: LogId,
    segment: &Segment,
    file: &dyn DiskFile,
    expected: Expected,
    mut visit: impl FnMut(&Header, &Segment) -> bool,
) -> Result<Segment> {
    let path = shared.paths.segment(id, segment.base);
    let mut seen = Segment { generation: segment.generation, ..Segment::empty(segment.base) };
    let mut scan = Scan::new(file, 0, expected).map_err(Error::io("read", &path))?;
    while seen.size < segment.size {
        let position = scan.position;
        match scan.step().map_err(Error::io("read", &path))? {
            Step::Batch(header) => {
                if !visit(&header, &seen) {
                    break;
                }
                seen.add(&header);
            }
            Step::End => break,
            Step::Bad { why, .. } => {
                let offset = scan.expected.offset;
                tracing::error!(log = %id, offset, position, path = %path.display(), why, "corrupt segment");
                return Err(Error::Corrupt { log: id, offset, path, position, why });
            }
        }
    }
    Ok(seen)
}

/// Writes a segment's index beside it, unsynced: it has a checksum and can be made anew.
pub(crate) fn write_index(shared: &Shared, id: LogId, segment: &Segment, index: &Index) {
    let path = shared.paths.index(id, segment.base);
    let content = index.to_file(&segment.summary());
    let written = shared.disk.open(&path, Mode::Truncate);
    if let Err(error) = written.and_then(|file| write_all(&*file, &mut [IoSlice::new(&content)], 0)) {
        tracing::warn!(path = %path.display(), %error, "the index was not written");
    }
}

/// The summary at the end of an index file, without reading all of it.
fn read_summary(shared: &Shared, id: LogId, base: i64) -> Option<Summary> {
    let file = shared.disk.open(&shared.paths.index(id, base), Mode::Existing).ok()?;
    let entries = usize::try_from(file.len().ok()?).ok()?.checked_sub(Index::TRAILER_LEN)?;
    let mut trailer = [0; Index::TRAILER_LEN];
    let read = read_full(&*file, &mut trailer, entries as u64).ok()?;
    Index::trailer(base, entries, trailer.get(..read)?).map(|(summary, _)| summary)
}

/// An index from its file; none when that is missing or damaged.
fn load_index(shared: &Shared, id: LogId, base: i64) -> Option<(Index, Summary)> {
    let path = shared.paths.index(id, base);
    let bytes = read_file(&*shared.disk, &path, INDEX_FILE_MAX).ok()??;
    Index::from_file(base, &bytes)
}

/// The index of a finished segment: from its file, or made anew.
pub(crate) fn load_or_build_index(
    shared: &Shared,
    id: LogId,
    segment: &Segment,
    holes: bool,
) -> Result<Index> {
    let known = load_index(shared, id, segment.base).filter(|(_, summary)| *summary == segment.summary());
    if let Some((index, _)) = known {
        return Ok(index);
    }
    let path = shared.paths.segment(id, segment.base);
    let key = (id, segment.base, segment.generation);
    let file = shared.file(key, Mode::Existing).map_err(Error::io("open", &path))?;
    let mut index = Index::new(segment.base);
    walk_segment(shared, id, segment, &*file, expect_any(segment, holes), |header, seen| {
        index.add(header, seen.size, seen.max_timestamp);
        true
    })?;
    write_index(shared, id, segment, &index);
    Ok(index)
}
