//! Making a log shorter: its end, to where a leader's epoch ended; its start, by whole segments.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Log, LogInner, State, flushed};
use crate::storage::checkpoint::Flushed;
use crate::storage::disk::{Disk, Mode, replace_file};
use crate::storage::epochs::Epochs;
use crate::storage::error::{Error, Result};
use crate::storage::index::Index;
use crate::storage::recovery;
use crate::storage::retention::{Retention, SegmentFacts, expired};
use crate::storage::segment::Segment;

impl LogInner {
    pub(crate) fn reshape(&self) -> MutexGuard<'_, ()> {
        self.reshaping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the files so that the log ends with the last batch that ends at or before `offset`.
    fn cut_files(&self, state: &mut State, offset: i64) -> Result<()> {
        let disk = &*self.shared.disk;
        let paths = &self.shared.paths;
        let keep = state.segments.partition_point(|segment| segment.base < offset).max(1);
        let unsynced = std::mem::take(&mut state.unsynced);
        for one in unsynced.iter().filter(|one| state.segments.iter().take(keep).any(|s| s.base == one.key.1))
        {
            let path = paths.segment(self.id, one.key.1);
            let file = one.file.clone().map_or_else(|| disk.open(&path, Mode::Existing), Ok);
            file.and_then(|file| file.sync()).map_err(Error::io("sync", &path))?;
        }
        self.unpin(unsynced);
        self.forget_unsynced(state);
        for segment in state.segments.drain(keep.min(state.segments.len())..).rev() {
            let key = (self.id, segment.base, segment.generation);
            self.shared.forget(&key);
            let path = paths.segment(self.id, segment.base);
            disk.remove_file(&path).map_err(Error::io("remove", &path))?;
            // It may not exist, and is worth nothing without its segment.
            let _ = disk.remove_file(&paths.index(self.id, segment.base));
        }
        let Some(last) = state.segments.last().copied() else { return Ok(()) };
        let file = self.open_segment(&last)?;
        let expected = recovery::expect_any(&last, self.compacts());
        let mut index = Index::new(last.base);
        let kept =
            recovery::walk_segment(&self.shared, self.id, &last, &*file, expected, |header, segment| {
                let keep = header.end_offset() <= offset;
                if keep {
                    index.add(header, segment.size, segment.max_timestamp);
                }
                keep
            })?;
        let path = paths.segment(self.id, last.base);
        let _ = disk.remove_file(&paths.index(self.id, last.base));
        self.shared.indexes.remove(&self.key(Some(&last)));
        file.set_len(kept.size).and_then(|()| file.sync()).map_err(Error::io("cut", &path))?;
        // What is left counts as flushed from here on, so its names have to be on disk as well.
        for dir in [paths.log(self.id), paths.logs()] {
            disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        }
        (state.files_new, state.log_dir_new) = (false, false);
        state.index = index;
        state.allocated = kept.size;
        if let Some(last) = state.segments.last_mut() {
            *last = kept;
        }
        Ok(())
    }
}

impl Log {
    /// Cuts the end of the log to where it and a leader agree: to `end_offset`, or to where this log's own batches of
    /// `epoch` and before end, whichever is less (KIP-101). Whole batches go. Returns the new end.
    ///
    /// # Errors
    /// A cut below `not_below`, the high watermark, which nothing must ever ask for; or the log is offline, perhaps
    /// since now.
    pub fn truncate(&self, epoch: i32, end_offset: i64, not_below: i64) -> Result<i64> {
        let inner = &self.0;
        let _reshaping = inner.reshape();
        let mut state = inner.state();
        inner.check_state(&state)?;
        let own = state.epochs.end_of(epoch, state.end).map_or(state.end, |(_, end)| end);
        let target = end_offset.min(own);
        if target >= state.end {
            return Ok(state.end);
        }
        if target < not_below.max(state.start) {
            let start = not_below.max(state.start);
            return Err(Error::OutOfRange { offset: target, start, end: state.end });
        }
        // First the checkpoint: one that says that more is on disk would make a crash after the cut look like damage.
        // A batch may begin before the target; its segment's base is on the safe side.
        let first = state.segments.partition_point(|segment| segment.base < target).max(1) - 1;
        let low = state.segments.get(first).map_or(target, |segment| segment.base);
        let known = flushed(&state);
        let low = low.min(state.flushed);
        inner.shared.note(inner.id, Flushed { start: known.start.min(low), end: low, ..known });
        if !inner.shared.in_memory() {
            inner.shared.write_checkpoint()?;
        }
        if let Err(error) = inner.cut_files(&mut state, target) {
            return Err(inner.poison(&mut state, "cut", &std::io::Error::other(error.to_string())));
        }
        let end = state.segments.last().map_or(target, |last| last.end);
        state.end = end;
        state.flushed = end;
        // The batch in which the log started may be gone.
        state.start = state.start.min(end);
        state.compacted = state.compacted.min(end);
        state.truncations += 1;
        state.epochs.cut_from(end);
        inner.end.store(end, Ordering::Release);
        inner.safe.store(end, Ordering::Release);
        if !inner.shared.in_memory() {
            let content = state.epochs.to_file();
            state.epochs_file = true;
            inner.shared.epochs_due().remove(&inner.id);
            if let Err(error) = replace_file(&*inner.shared.disk, &inner.epochs_path(), &content) {
                return Err(inner.poison(&mut state, "write", &error));
            }
        }
        inner.shared.note(inner.id, flushed(&state));
        inner.shared.flusher.note_checkpoint();
        Ok(end)
    }

    /// Moves the start of the log up to `offset` at most, and removes the segments that lie wholly before it once that
    /// is written down. Returns the new start.
    ///
    /// # Errors
    /// An offset after the end, or the log is offline, perhaps since now.
    pub fn trim(&self, offset: i64) -> Result<i64> {
        let inner = &self.0;
        let _reshaping = inner.reshape();
        let mut state = inner.state();
        inner.check_state(&state)?;
        if offset > state.end {
            return Err(Error::OutOfRange { offset, start: state.start, end: state.end });
        }
        let offset = offset.max(state.start);
        if offset == state.end && state.segments.last().is_some_and(|last| last.size > 0) {
            inner.roll(&mut state).map_err(|error| inner.write_failed(&mut state, None, &error))?;
        }
        state.start = offset;
        // What is not yet on disk goes with a later call: until then a crash must find it, or call the log damaged.
        let removable = offset.min(state.flushed);
        state.epochs.cut_to(removable);
        let gone = state.segments.partition_point(|segment| segment.end <= removable);
        let gone = gone.min(state.segments.len().saturating_sub(1));
        let doomed: Vec<_> = state.segments.drain(..gone).collect();
        {
            let mut known = inner.shared.known();
            known.logs.insert(inner.id, flushed(&state));
            known.changed = true;
            known.doomed.extend(doomed.iter().map(|segment| (inner.id, segment.base)));
        }
        for segment in &doomed {
            inner.shared.forget(&(inner.id, segment.base, segment.generation));
        }
        drop(state);
        match inner.shared.in_memory() {
            true => inner.shared.write_checkpoint()?,
            false => inner.shared.flusher.note_checkpoint(),
        }
        Ok(offset)
    }

    /// Trims what is too old or too much, never past `high_watermark`. Returns the new start.
    ///
    /// # Errors
    /// As [`Log::trim`].
    pub fn retain(&self, retention: &Retention, now_ms: i64, high_watermark: i64) -> Result<i64> {
        let (start, to) = {
            let state = self.0.state();
            let facts = state.segments.iter().map(|segment| SegmentFacts {
                end: segment.end,
                size: segment.size,
                max_timestamp: segment.max_timestamp,
            });
            let facts: Vec<_> = facts.collect();
            let count = expired(&facts, retention, now_ms, high_watermark);
            (state.start, count.checked_sub(1).and_then(|last| facts.get(last)).map(|segment| segment.end))
        };
        to.map_or(Ok(start), |to| self.trim(to))
    }

    /// Removes everything and begins anew at `offset`, as a follower does whose leader no longer has what it needs.
    ///
    /// # Errors
    /// The log is offline, perhaps since now.
    pub fn reset(&self, offset: i64) -> Result<()> {
        let inner = &self.0;
        let _reshaping = inner.reshape();
        let mut state = inner.state();
        inner.check_state(&state)?;
        // First the checkpoint: what lies before the new start is a leftover, wherever the removal stops.
        inner.shared.note(inner.id, Flushed { start: offset, end: offset, high_watermark: offset });
        if !inner.shared.in_memory() {
            inner.shared.write_checkpoint()?;
        }
        if let Err(error) = inner.remove_all(&mut state, offset) {
            return Err(inner.poison(&mut state, "remove", &error));
        }
        inner.shared.note(inner.id, flushed(&state));
        inner.shared.flusher.note_checkpoint();
        Ok(())
    }
}

impl LogInner {
    fn remove_all(&self, state: &mut State, offset: i64) -> std::io::Result<()> {
        let disk = &*self.shared.disk;
        for segment in std::mem::take(&mut state.segments) {
            self.shared.forget(&(self.id, segment.base, segment.generation));
            disk.remove_file(&self.shared.paths.segment(self.id, segment.base))?;
            // Neither need exist, and both are worth nothing without the segments.
            let _ = disk.remove_file(&self.shared.paths.index(self.id, segment.base));
        }
        self.shared.epochs_due().remove(&self.id);
        let _ = disk.remove_file(&self.epochs_path());
        self.forget_unsynced(state);
        (state.start, state.end, state.flushed, state.high_watermark) = (offset, offset, offset, offset);
        state.epochs = Epochs::default();
        state.epochs_file = false;
        state.allocated = 0;
        state.compacted = 0;
        state.truncations += 1;
        state.generation += 1;
        self.end.store(offset, Ordering::Release);
        self.safe.store(offset, Ordering::Release);
        if state.log_dir_new { Ok(()) } else { disk.sync_dir(&self.shared.paths.log(self.id)) }
    }
}

/// What compaction needs of a log.
impl LogInner {
    /// Finished segments that are on disk and end before `bound`, and up to where compaction has seen them.
    pub(crate) fn compactable(&self, bound: i64) -> Result<(Vec<Segment>, i64)> {
        let state = self.state();
        self.check_state(&state)?;
        let bound = bound.min(state.flushed);
        let finished = state.segments.split_last().map_or(&[][..], |(_, finished)| finished);
        let wanted = finished.iter().take_while(|segment| segment.end <= bound && self.compacts());
        Ok((wanted.copied().collect(), state.compacted))
    }

    pub(crate) fn set_compacted(&self, offset: i64) {
        self.state().compacted = offset;
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.shared.paths.log(self.id)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.shared.disk
    }

    /// Puts one segment, whose file `swap` moves into place, where some were.
    pub(crate) fn replace_segments(
        &self,
        old: &[Segment],
        new: Segment,
        index: Index,
        swap: impl FnOnce(&[String]) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut state = self.state();
        self.check_state(&state)?;
        let at = state.segments.partition_point(|segment| segment.base < new.base);
        // Also the new name: an earlier opening of this log may have counted as far.
        for segment in old.iter().chain([&new]) {
            self.shared.forget(&self.key(Some(segment)));
        }
        if let Err(error) = self.disk().list(&self.dir()).and_then(|names| swap(&names)) {
            return Err(self.poison(&mut state, "replace", &error));
        }
        state.segments.splice(at..at + old.len(), [new]);
        state.generation = state.generation.max(new.generation);
        self.keep_index(&index, &new);
        let cost = index.memory();
        self.shared.indexes.insert(self.key(Some(&new)), Arc::new(index), cost);
        Ok(())
    }
}
