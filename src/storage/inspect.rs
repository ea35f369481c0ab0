//! A data directory looked at and not touched: which logs it has, where they are torn or damaged, and every whole batch.
//! For an operator: a start repairs and a process that runs appends, this does neither.

use std::path::{Path, PathBuf};

use super::batch::{Batch, HEADER_LEN};
use super::checkpoint::{self, Checkpoint};
use super::disk::{Disk, DiskFile, Mode, OsDisk, list_or_none, read_file, read_full};
use super::epochs::Epochs;
use super::error::{Error, Result};
use super::id::LogId;
use super::lock::{NodeInfo, SMALL_FILE_MAX};
use super::log::StoredBatch;
use super::recovery::{Names, names};
use super::salvage::HOLES;
use super::segment::{Expected, Paths, Scan, Step};
use super::torn::{self, Trace};

/// A data directory.
#[derive(Debug)]
pub struct Inspection {
    disk: OsDisk,
    paths: Paths,
    known: Option<Checkpoint>,
    /// Whose it is.
    pub node: NodeInfo,
    /// The last process stopped in order.
    pub clean: bool,
}

/// What one log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// First offset that is needed: what is before may still be there.
    pub start: i64,
    /// Offset after the last whole batch.
    pub end: i64,
    /// Up to which offset it is known to have been on disk; none if nothing is known.
    pub flushed_end: Option<i64>,
    /// Files with batches.
    pub segments: usize,
    /// Bytes of whole batches.
    pub bytes: u64,
    /// Whole batches.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Leader epochs and the offsets at which they begin, as the batches tell them.
    pub epochs: Vec<(i32, i64)>,
    /// A salvage left holes.
    pub has_holes: bool,
    /// Places where there is no whole batch, in order.
    pub bad: Vec<Bad>,
}

impl Examined {
    /// Whether data that had been on disk is not there: a start refuses such a log.
    pub fn is_damaged(&self) -> bool {
        self.bad.iter().any(|bad| bad.is_damage)
    }
}

/// A place where there should be a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// The offset that was expected there.
    pub offset: i64,
    /// The offset with which it goes on; none if nothing follows.
    pub next: Option<i64>,
    /// What is wrong.
    pub why: String,
    /// It had been on disk. Otherwise it is the tail that a crash cut short: a start cuts it off.
    pub is_damage: bool,
}

impl Inspection {
    /// Looks at a directory.
    ///
    /// # Errors
    /// It holds no data of ours, or what the system refuses.
    pub fn open(root: &Path) -> Result<Self> {
        let disk = OsDisk::new(root);
        let paths = Paths { root: root.to_owned() };
        let path = root.join("node.json");
        let format = |why: String| Error::Format { path: root.to_owned(), why };
        let node = read_file(&disk, &path, SMALL_FILE_MAX).map_err(Error::io("read", &path))?;
        let node = node.ok_or_else(|| format("it has no node.json".to_owned()))?;
        let node = serde_json::from_slice(&node).map_err(|error| format(format!("node.json: {error}")))?;
        let path = paths.flushed();
        let known = read_file(&disk, &path, checkpoint::FILE_LEN_MAX).map_err(Error::io("read", &path))?;
        let known = known.and_then(|bytes| checkpoint::from_file(&bytes));
        let mark = root.join("clean");
        let clean = read_file(&disk, &mark, SMALL_FILE_MAX).map_err(Error::io("read", &mark))?.is_some();
        Ok(Self { disk, paths, known, node, clean })
    }

    /// Whether it is known how far logs are on disk. Without, damage at the end of a log passes for a torn tail.
    pub fn has_checkpoint(&self) -> bool {
        self.known.is_some()
    }

    /// Its logs, by name: those that have files, and those that should.
    ///
    /// # Errors
    /// The system's.
    pub fn logs(&self) -> Result<Vec<LogId>> {
        let dir = self.paths.logs();
        let found = list_or_none(&self.disk, &dir).map_err(Error::io("list", &dir))?;
        let mut logs: Vec<LogId> = found.iter().filter_map(|name| name.parse().ok()).collect();
        let needed = self.known.iter().flatten().filter(|(_, flushed)| flushed.start < flushed.end);
        logs.extend(needed.map(|(id, _)| *id));
        logs.sort_unstable();
        logs.dedup();
        Ok(logs)
    }

    /// Walks over a log, and gives every whole batch to `found` until it says that it has had enough.
    ///
    /// # Errors
    /// The system's.
    pub fn examine(&self, id: LogId, mut found: impl FnMut(&StoredBatch) -> bool) -> Result<Examined> {
        let dir = self.paths.log(id);
        let missing = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        let Names { bases, others } = match names(&self.disk, &dir) {
            Err(error) if missing(&error) => Names::default(),
            other => other?,
        };
        let known = self.known.as_ref().and_then(|known| known.get(&id).copied());
        let has_holes = others.iter().any(|name| name == HOLES);
        let first = bases.first().copied().unwrap_or(known.map_or(0, |known| known.start));
        let mut walk = Walk {
            inspection: self,
            expected: Expected { offset: first, epoch: i32::MIN, holes: has_holes },
            epochs: Epochs::default(),
            pending: None,
            wants_more: true,
            done: Examined {
                start: known.map_or(first, |known| known.start),
                end: first,
                flushed_end: known.map(|known| known.end),
                segments: bases.len(),
                bytes: 0,
                batches: 0,
                records: 0,
                epochs: Vec::new(),
                has_holes,
                bad: Vec::new(),
            },
        };
        if walk.done.start < first {
            let start = walk.done.start;
            walk.note_bad(self.paths.segment(id, start), 0, start, "its file is gone".to_owned());
            walk.settle(Some(first));
        }
        for base in bases {
            walk.segment(&self.paths.segment(id, base), base, &mut found)?;
        }
        walk.settle(None);
        let mut done = walk.done;
        done.epochs = walk.epochs.list().to_vec();
        if let Some(known) = known.filter(|known| known.end > done.end && known.start < known.end)
            && !done.is_damaged()
        {
            let path = self.paths.log(id);
            let why = format!("it ends before offset {}, up to which it had been on disk", known.end);
            done.bad.push(Bad { path, position: 0, offset: done.end, next: None, why, is_damage: true });
        }
        Ok(done)
    }
}

struct Walk<'a> {
    inspection: &'a Inspection,
    expected: Expected,
    epochs: Epochs,
    /// A bad place behind which nothing good has come, and what it looks like.
    pending: Option<(Bad, Trace)>,
    wants_more: bool,
    done: Examined,
}

impl Walk<'_> {
    fn note_bad(&mut self, path: PathBuf, position: u64, offset: i64, why: String) {
        let is_damage = self.done.flushed_end.is_some_and(|end| offset < end && self.done.start < end);
        self.pending = Some((Bad { path, position, offset, next: None, why, is_damage }, Trace::Lost));
    }

    /// What came behind the bad place decides what it was: docs/storage.md, After a crash.
    fn settle(&mut self, next: Option<i64>) {
        if let Some((bad, trace)) = self.pending.take() {
            let is_damage = bad.is_damage || trace.is_damage(next.is_some());
            self.done.bad.push(Bad { next, is_damage, ..bad });
        }
    }

    fn segment(
        &mut self,
        path: &Path,
        base: i64,
        found: &mut impl FnMut(&StoredBatch) -> bool,
    ) -> Result<()> {
        let file = self.inspection.disk.open(path, Mode::Existing).map_err(Error::io("open", path))?;
        if base > self.expected.offset && !self.expected.holes && self.pending.is_none() {
            let why = format!("offset {} is missing", self.expected.offset);
            self.note_bad(path.to_owned(), 0, self.expected.offset, why);
        }
        self.expected.offset = self.expected.offset.max(base);
        // Behind a bad place nobody knows where it goes on.
        let expected = Expected { holes: self.expected.holes || self.pending.is_some(), ..self.expected };
        let mut scan = Scan::new(&*file, 0, expected).map_err(Error::io("read", path))?;
        let mut is_sure = false;
        loop {
            let at = scan.position;
            match scan.step().map_err(Error::io("read", path))? {
                // What is just being written is whole at the second look.
                Step::Bad { .. } if !std::mem::replace(&mut is_sure, true) => {
                    scan = Scan::new(&*file, at, scan.expected).map_err(Error::io("read", path))?;
                }
                Step::Batch(header) => {
                    is_sure = false;
                    self.settle(Some(header.base_offset));
                    scan.expected.holes = self.expected.holes;
                    self.epochs.note(header.leader_epoch, header.base_offset);
                    self.done.end = header.end_offset();
                    self.done.bytes += header.len as u64;
                    self.done.batches += 1;
                    self.done.records += u64::try_from(header.count).unwrap_or(0);
                    if self.wants_more {
                        self.wants_more = found(&self.read(path, &*file, at, header.len)?);
                    }
                }
                Step::End => break,
                Step::Bad { why, len } => {
                    let offset = scan.expected.offset;
                    let (trace, next) = torn::trace(&mut scan, len).map_err(Error::io("read", path))?;
                    if self.pending.is_none() {
                        self.note_bad(path.to_owned(), at, offset, why);
                        self.pending = self.pending.take().map(|(bad, _)| (bad, trace));
                    }
                    is_sure = false;
                    scan.expected.holes = true;
                    match next {
                        Some(next) => scan.position = next,
                        None => break,
                    }
                }
            }
        }
        self.expected = Expected { holes: self.expected.holes, ..scan.expected };
        Ok(())
    }

    fn read(&self, path: &Path, file: &dyn DiskFile, position: u64, len: usize) -> Result<StoredBatch> {
        // Its length was checked with its checksum.
        let mut bytes = vec![0; len.max(HEADER_LEN)];
        read_full(file, &mut bytes, position).map_err(Error::io("read", path))?;
        let header = Batch::parse(&bytes)?.header;
        Ok(StoredBatch { header, bytes: bytes.into() })
    }
}
