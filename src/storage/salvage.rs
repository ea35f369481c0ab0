//! What an operator orders for a log that recovery refuses: keep what is good, and know what is not.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::checkpoint::Flushed;
use super::disk::{Disk, DiskFile, Mode, read_full, replace_file, write_all};
use super::error::{Error, Result};
use super::id::LogId;
use super::log::LogConfig;
use super::recovery::{Names, finish_swap, keep, names, swap_name};
use super::segment::{Expected, Scan, Step};
use super::snapshot::SNAPSHOT;
use super::store::Shared;

/// The file that says that this log has holes, which recovery takes for damage otherwise.
pub(crate) const HOLES: &str = "holes";

/// What becomes of the batches after the first bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Salvage {
    /// The log ends before it.
    Cut,
    /// They stay, at their offsets; where bad ones were, there is a hole.
    Skip,
}

/// What a salvage found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Salvaged {
    /// Batches that are good and stay.
    pub batches: u64,
    /// Offset of the next record.
    pub end: i64,
    /// Offsets that are lost, each range from and to (exclusive). Where the log was cut, the end of the range is that of
    /// the checkpoint, or what was found: there may have been more.
    pub lost: Vec<(i64, i64)>,
    /// Where the bytes are that were taken out, if any were.
    pub kept_in: Option<PathBuf>,
}

struct Work<'a> {
    shared: &'a Shared,
    disk: &'a dyn Disk,
    id: LogId,
    dir: PathBuf,
    trash: PathBuf,
    expected: Expected,
    done: Salvaged,
}

pub(crate) fn run(shared: &Shared, id: LogId, config: &LogConfig, how: Salvage) -> Result<Salvaged> {
    let disk = &*shared.disk;
    let dir = shared.paths.log(id);
    let trash = shared.paths.trash().join(format!("{id}-{}", disk.now_ms()));
    let Names { bases, others } = names(disk, &dir)?;
    // First: it would tell of records that are no more.
    if disk.remove_file(&dir.join(SNAPSHOT)).is_ok() {
        disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
    }
    let known = shared.known().logs.get(&id).copied();
    let first = bases.first().copied().unwrap_or(0);
    let start = known.map_or(first, |known| known.start.max(first));
    let holes = config.compact || others.iter().any(|name| name == HOLES);
    let expected = Expected { offset: first, epoch: i32::MIN, holes };
    let mut work = Work { shared, disk, id, dir, trash, expected, done: Salvaged::default() };
    if let Some(known) = known.filter(|known| known.start < first) {
        work.done.lost.push((known.start, first));
    }
    for (number, &base) in bases.iter().enumerate() {
        let complete = match how {
            Salvage::Cut => work.cut_at_first(base)?,
            Salvage::Skip => work.skip_bad(base)?,
        };
        if !complete {
            work.discard(bases.get(number + 1..).unwrap_or_default())?;
            break;
        }
    }
    // A refused opening left handles of files that are now others.
    bases.iter().for_each(|&base| shared.forget(&(id, base, 0)));
    let end = work.expected.offset;
    if let Some(known) = known.filter(|known| known.end > end) {
        work.done.lost.push((end, known.end));
    }
    // Learned anew from the batches.
    let _ = disk.remove_file(&work.dir.join("epochs"));
    disk.sync_dir(&work.dir).map_err(Error::io("sync", &work.dir))?;
    let high_watermark = known.map_or(end, |known| known.high_watermark.min(end));
    let start = start.min(end);
    shared.note(id, Flushed { start, end, high_watermark });
    let mut done = work.done;
    (done.end, done.lost) = (end, merged(done.lost));
    tracing::warn!(log = %id, ?how, batches = done.batches, lost = ?done.lost, "log salvaged");
    Ok(done)
}

fn merged(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
        match out.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

impl Work<'_> {
    fn path(&self, base: i64) -> PathBuf {
        self.shared.paths.segment(self.id, base)
    }

    fn trash(&mut self) -> Result<PathBuf> {
        if self.done.kept_in.is_none() {
            self.disk.create_dir(&self.trash).map_err(Error::io("create", &self.trash))?;
            let parent = self.shared.paths.trash();
            self.disk.sync_dir(&parent).map_err(Error::io("sync", &parent))?;
            self.done.kept_in = Some(self.trash.clone());
        }
        Ok(self.trash.clone())
    }

    fn open(&self, base: i64) -> Result<std::sync::Arc<dyn DiskFile>> {
        let path = self.path(base);
        self.disk.open(&path, Mode::Existing).map_err(Error::io("open", &path))
    }

    fn sync(&self, dir: &Path) -> Result<()> {
        self.disk.sync_dir(dir).map_err(Error::io("sync", dir))
    }

    /// Cuts the segment at its first bad batch; `false` when there was one.
    fn cut_at_first(&mut self, base: i64) -> Result<bool> {
        let path = self.path(base);
        let file = self.open(base)?;
        let fits = base == self.expected.offset || self.expected.holes && base > self.expected.offset;
        let mut bad = (!fits).then_some(0);
        if fits {
            self.expected.offset = base;
            let mut scan = Scan::new(&*file, 0, self.expected).map_err(Error::io("read", &path))?;
            bad = loop {
                let at = scan.position;
                match scan.step().map_err(Error::io("read", &path))? {
                    Step::Batch(_) => self.done.batches += 1,
                    Step::End => break None,
                    Step::Bad { .. } => break Some(at),
                }
            };
            self.expected = scan.expected;
        }
        let Some(position) = bad else { return Ok(true) };
        let trash = self.trash()?;
        let kept = trash.join(format!("{base:020}-{position:020}.cut"));
        keep(self.disk, &*file, position, &kept).map_err(Error::io("write", &kept))?;
        self.sync(&trash)?;
        let _ = self.disk.remove_file(&path.with_extension("idx"));
        if fits {
            file.set_len(position).and_then(|()| file.sync()).map_err(Error::io("cut", &path))?;
        } else {
            self.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(false)
    }

    /// Moves segments to the trash.
    fn discard(&mut self, bases: &[i64]) -> Result<()> {
        for &base in bases {
            let trash = self.trash()?;
            let (from, to) = (self.path(base), trash.join(format!("{base:020}.log")));
            self.disk.rename(&from, &to).map_err(Error::io("move", &from))?;
            let _ = self.disk.remove_file(&from.with_extension("idx"));
            self.sync(&trash)?;
        }
        Ok(())
    }

    /// Writes the segment anew without its bad batches, if it has any.
    fn skip_bad(&mut self, base: i64) -> Result<bool> {
        let path = self.path(base);
        let file = self.open(base)?;
        if base > self.expected.offset && !self.expected.holes {
            self.done.lost.push((self.expected.offset, base));
            self.allow_holes()?;
        }
        self.expected.offset = self.expected.offset.max(base);
        let (good, expected) = self.good_ranges(&*file).map_err(Error::io("read", &path))?;
        let whole = matches!(good.as_slice(), [] | [(0, _)]);
        let end = good.last().map_or(0, |&(_, end)| end);
        let mut scan = Scan::new(&*file, end, expected).map_err(Error::io("read", &path))?;
        let clean = whole && scan.first_nonzero(end).map_err(Error::io("read", &path))?.is_none();
        self.expected = expected;
        if clean {
            return Ok(true);
        }
        let trash = self.trash()?;
        let kept = trash.join(format!("{base:020}.log"));
        keep(self.disk, &*file, 0, &kept).map_err(Error::io("write", &kept))?;
        self.sync(&trash)?;
        self.allow_holes()?;
        let cleaned = self.dir.join(format!("{base:020}.cleaned"));
        self.copy(&*file, &good, &cleaned).map_err(Error::io("write", &cleaned))?;
        let swap = self.dir.join(swap_name(base, base));
        let replace = || -> io::Result<()> {
            self.disk.rename(&cleaned, &swap)?;
            self.disk.sync_dir(&self.dir)?;
            let names = self.disk.list(&self.dir)?;
            finish_swap(self.disk, &self.dir, &names, base, base)
        };
        replace().map_err(Error::io("replace", &path))?;
        Ok(true)
    }

    fn allow_holes(&mut self) -> Result<()> {
        let path = self.dir.join(HOLES);
        let text = b"bandy log salvage left holes in this log\n";
        replace_file(self.disk, &path, text).map_err(Error::io("write", &path))
    }

    /// Where good batches are, as ranges of bytes, and what would follow them.
    fn good_ranges(&mut self, file: &dyn DiskFile) -> io::Result<(Vec<(u64, u64)>, Expected)> {
        let mut scan = Scan::new(file, 0, Expected { holes: true, ..self.expected })?;
        let mut good: Vec<(u64, u64)> = Vec::new();
        let mut after_bad = None;
        loop {
            let at = scan.position;
            match scan.step()? {
                Step::Batch(header) => {
                    self.done.batches += 1;
                    if let Some(from) = after_bad.take() {
                        self.done.lost.push((from, header.base_offset));
                    }
                    match good.last_mut().filter(|(_, end)| *end == at) {
                        Some((_, end)) => *end = scan.position,
                        None => good.push((at, scan.position)),
                    }
                }
                Step::End => break,
                Step::Bad { .. } => {
                    after_bad.get_or_insert(scan.expected.offset);
                    match scan.find_batch(at + 1)? {
                        Some(next) => scan.position = next,
                        None => break,
                    }
                }
            }
        }
        Ok((good, Expected { holes: self.expected.holes, ..scan.expected }))
    }

    fn copy(&self, file: &dyn DiskFile, ranges: &[(u64, u64)], to: &Path) -> io::Result<()> {
        const COPY_LEN: usize = 256 << 10;
        let copy = self.disk.open(to, Mode::Truncate)?;
        let (mut written, mut buffer) = (0, vec![0; COPY_LEN]);
        for &(from, end) in ranges {
            let mut at = from;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(COPY_LEN).min(COPY_LEN);
                let read = read_full(file, &mut buffer[..want], at)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                write_all(&*copy, &mut [IoSlice::new(&buffer[..read])], written)?;
                (at, written) = (at + read as u64, written + read as u64);
            }
        }
        copy.sync()
    }
}
