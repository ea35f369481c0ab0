//! Appending: batches get their place, are written as one run, and are told to the flusher.

use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::{Appended, Importance, Log, LogInner, PINNED_MAX, State, Unsynced};
use crate::storage::batch::{BATCH_BYTES_MAX, BatchError, Checked, Header, PATCHED_LEN};
use crate::storage::disk::{DiskFile, Mode, write_all};
use crate::storage::error::{Error, Result, is_full};
use crate::storage::flush::{self, Queued};
use crate::storage::index::Index;
use crate::storage::record::BatchBuilder;
use crate::storage::recovery::write_index;
use crate::storage::segment::Segment;
use crate::storage::store::Durability;

/// Smallest first step of reserved space, in bytes: what an almost empty log takes.
const ALLOCATE_MIN: u64 = 16 << 10;

impl LogInner {
    /// The file that is written to.
    pub(super) fn active_file(&self, state: &State) -> std::io::Result<Arc<dyn DiskFile>> {
        let key = self.key(state.segments.last());
        let held = state.unsynced.last().filter(|one| one.key == key).and_then(|one| one.file.clone());
        held.map_or_else(|| self.shared.file(key, Mode::Existing), Ok)
    }

    /// Finishes the last segment and begins another.
    pub(super) fn roll(&self, state: &mut State) -> std::io::Result<()> {
        let before = state.segments.last().copied();
        match &before {
            Some(last) if state.allocated > last.size => {
                let file = self.active_file(state)?;
                file.set_len(last.size)?;
                state.allocated = last.size;
                self.note_unsynced(state, &file);
            }
            Some(_) => {}
            None => self.shared.disk.create_dir(&self.shared.paths.log(self.id))?,
        }
        let segment = Segment { generation: state.generation, ..Segment::empty(state.end) };
        let key = self.key(Some(&segment));
        self.shared.forget(&key);
        self.shared.file(key, Mode::Truncate)?;
        if let Some(last) = before {
            self.keep_index(&state.index, &last);
            let index = std::mem::take(&mut state.index);
            let cost = index.memory();
            self.shared.indexes.insert(self.key(Some(&last)), Arc::new(index), cost);
        }
        state.files_new = true;
        state.allocated = 0;
        state.index = Index::new(segment.base);
        state.segments.push(segment);
        Ok(())
    }

    /// Keeps the index of a finished segment. Not synced: it has a checksum and can be made anew.
    pub(super) fn keep_index(&self, index: &Index, segment: &Segment) {
        write_index(&self.shared, self.id, segment, index);
    }

    pub(super) fn note_unsynced(&self, state: &mut State, file: &Arc<dyn DiskFile>) {
        let key = self.key(state.segments.last());
        if state.unsynced.last().is_some_and(|one| one.key == key) {
            return;
        }
        let pinned = self.shared.pinned.fetch_add(1, Ordering::Relaxed) < PINNED_MAX;
        if !pinned {
            self.shared.pinned.fetch_sub(1, Ordering::Relaxed);
            self.shared.flusher.hurry();
        }
        state.unsynced.push(Unsynced { key, file: pinned.then(|| Arc::clone(file)) });
    }

    /// Reserves space ahead.
    fn allocate(&self, state: &mut State, file: &dyn DiskFile, end: u64) -> std::io::Result<()> {
        let max = self.shared.options.allocate_max;
        if end <= state.allocated || max == 0 {
            return Ok(());
        }
        let step = state.allocated.clamp(ALLOCATE_MIN.min(max), max);
        let limit = self.segment_bytes().max(end);
        let to = (state.allocated + step).max(end).min(limit);
        file.allocate(state.allocated, to - state.allocated)?;
        state.allocated = to;
        Ok(())
    }

    /// Writes batches, which have their final headers, as one run, and publishes them.
    fn write_run(&self, state: &mut State, headers: &[Header], parts: &mut [IoSlice<'_>]) -> Result<()> {
        let len: usize = headers.iter().map(|header| header.len).sum();
        let end = headers.last().map_or(state.end, Header::end_offset);
        let full = state.segments.last().is_none_or(|last| {
            let too_large = last.size + len as u64 > self.segment_bytes() && last.size > 0;
            too_large || end - last.base > i64::from(u32::MAX)
        });
        if full {
            self.roll(state).map_err(|error| self.write_failed(state, None, &error))?;
        }
        let file = self.active_file(state).map_err(|error| self.write_failed(state, None, &error))?;
        let position = state.segments.last().map_or(0, |last| last.size);
        // Before the write: a failure in the middle of it leaves something to sync or to cut.
        self.note_unsynced(state, &file);
        self.allocate(state, &*file, position + len as u64)
            .and_then(|()| write_all(&*file, parts, position))
            .map_err(|error| self.write_failed(state, Some(&*file), &error))?;
        for header in headers {
            if state.epochs.note(header.leader_epoch, header.base_offset) {
                state.epochs_changed = true;
            }
            let State { segments, index, .. } = state;
            if let Some(last) = segments.last_mut() {
                index.add(header, last.size, last.max_timestamp);
                last.add(header);
            }
        }
        state.end = end;
        self.end.store(end, Ordering::Release);
        self.shared.counters.bytes.fetch_add(len as u64, Ordering::Relaxed);
        state.unsynced_bytes += len as u64;
        self.shared.unsynced.fetch_add(len as u64, Ordering::SeqCst);
        Ok(())
    }

    /// A write failed. Out of space: cut off what was written of it, and go on; anything else takes the log offline.
    pub(super) fn write_failed(
        &self,
        state: &mut State,
        file: Option<&dyn DiskFile>,
        error: &std::io::Error,
    ) -> Error {
        if !is_full(error) {
            return self.poison(state, "write", error);
        }
        self.shared.note_full();
        self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        let size = state.segments.last().map_or(0, |last| last.size);
        if let Some(file) = file {
            if let Err(error) = file.set_len(size) {
                return self.poison(state, "cut", &error);
            }
            state.allocated = size;
        }
        Error::Full { path: self.shared.paths.root.clone() }
    }

    fn check_space(&self, importance: Importance) -> Result<()> {
        if importance == Importance::Normal && self.shared.is_full() {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Full { path: self.shared.paths.root.clone() });
        }
        Ok(())
    }
}

impl Log {
    /// Appends batches as the leader: they get the next offsets and the epoch, and are otherwise kept as they are.
    ///
    /// # Errors
    /// An epoch older than the log's; [`Error::Full`], after which nothing of it was kept; [`Error::Poisoned`], after
    /// which it is unknown what was.
    pub fn append(
        &self,
        batches: Checked<'_>,
        leader_epoch: i32,
        importance: Importance,
    ) -> Result<Appended> {
        let mut state = self.ready(leader_epoch, importance)?;
        let base = state.end;
        let mut at = base;
        let (mut headers, mut heads) = (Vec::with_capacity(1), Vec::with_capacity(1));
        for batch in batches.batches() {
            let header = Header { base_offset: at, leader_epoch, ..batch.header };
            heads.push(header.patched(at, leader_epoch));
            headers.push(header);
            at += i64::from(header.last_offset_delta) + 1;
        }
        let tails = batches.batches().map(|batch| &batch.bytes()[PATCHED_LEN..]);
        let pairs = heads.iter().zip(tails).flat_map(|(head, tail)| [IoSlice::new(head), IoSlice::new(tail)]);
        let mut parts: Vec<IoSlice<'_>> = pairs.collect();
        run_fits(&headers)?;
        self.0.write_run(&mut state, &headers, &mut parts)?;
        self.published(state, base, importance)
    }

    /// Appends what a builder holds, without copying large bodies, and empties it when that worked.
    ///
    /// # Errors
    /// As [`Log::append`]; a builder without records.
    pub fn append_built(&self, batch: &mut BatchBuilder, leader_epoch: i32) -> Result<Appended> {
        self.append_built_as(batch, leader_epoch, Importance::Normal)
    }

    /// As [`Log::append_built`], for what has to work on a full disk.
    ///
    /// # Errors
    /// As [`Log::append`]; a builder without records.
    pub fn append_built_as(
        &self,
        batch: &mut BatchBuilder,
        leader_epoch: i32,
        importance: Importance,
    ) -> Result<Appended> {
        if batch.is_empty() {
            return Err(BatchError::Header { what: "record count", value: 0 }.into());
        }
        let sealed = batch.seal();
        let mut state = self.ready(leader_epoch, importance)?;
        let header = Header { base_offset: state.end, leader_epoch, ..sealed };
        let head = header.patched(header.base_offset, leader_epoch);
        let mut parts = batch.tail();
        parts.insert(0, IoSlice::new(&head));
        self.0.write_run(&mut state, &[header], &mut parts)?;
        let appended = self.published(state, header.base_offset, importance)?;
        batch.clear();
        Ok(appended)
    }

    /// Appends batches as a follower: with the leader's offsets and epochs.
    ///
    /// # Errors
    /// As [`Log::append`]; [`Error::NotNext`] for batches that do not continue the log.
    pub fn append_replicated(&self, batches: Checked<'_>) -> Result<Appended> {
        let headers: Vec<Header> = batches.batches().map(|batch| batch.header).collect();
        let first = headers.first().map_or(0, |header| header.leader_epoch);
        run_fits(&headers)?;
        let mut state = self.ready(first, Importance::Normal)?;
        let (mut end, mut newest) = (state.end, first);
        for header in &headers {
            let follows = header.base_offset == end || self.0.compacts() && header.base_offset > end;
            if !follows {
                return Err(Error::NotNext { given: header.base_offset, end });
            }
            if header.leader_epoch < newest {
                return Err(Error::EpochFell { given: header.leader_epoch, newest });
            }
            (end, newest) = (header.end_offset(), header.leader_epoch);
        }
        let base = headers.first().map_or(state.end, |header| header.base_offset);
        self.0.write_run(&mut state, &headers, &mut [IoSlice::new(batches.bytes())])?;
        self.published(state, base, Importance::Normal)
    }

    fn ready(&self, leader_epoch: i32, importance: Importance) -> Result<MutexGuard<'_, State>> {
        self.0.check_space(importance)?;
        let state = self.0.state();
        self.0.check_state(&state)?;
        match state.epochs.newest() {
            Some(newest) if newest > leader_epoch => Err(Error::EpochFell { given: leader_epoch, newest }),
            _ => Ok(state),
        }
    }

    /// What was appended is in the file: does what the store's durability asks for.
    fn published(
        &self,
        mut state: MutexGuard<'_, State>,
        base: i64,
        importance: Importance,
    ) -> Result<Appended> {
        let inner = &self.0;
        let end = state.end;
        let appended = |safe| Ok(Appended { base, end, safe });
        let durability = inner.shared.options.durability;
        if durability == Durability::Memory {
            state.flushed = end;
            inner.forget_unsynced(&mut state);
            inner.raise_safe(&mut state, end);
            return appended(true);
        }
        let when = match (durability, importance) {
            (Durability::Each, _) => Queued::No,
            (Durability::Group, Importance::Normal | Importance::Essential) => Queued::Now,
            (Durability::Group, Importance::Patient) | (Durability::Os | Durability::Memory, _) => {
                Queued::Later
            }
        };
        let before = state.queued;
        state.queued = before.max(when);
        if durability == Durability::Os {
            inner.raise_safe(&mut state, end);
        }
        drop(state);
        match before {
            Queued::No if when > Queued::No => inner.shared.flusher.push(Arc::clone(inner), when),
            Queued::Later if when > Queued::Later => inner.shared.flusher.hurry(),
            Queued::No | Queued::Later | Queued::Now => {}
        }
        match durability {
            Durability::Each => {
                flush::flush_one(&inner.shared, inner)?;
                // Another append's sync may have taken ours along and not be done.
                self.wait(end)?;
                appended(true)
            }
            Durability::Group => appended(false),
            Durability::Os | Durability::Memory => appended(true),
        }
    }
}

/// A run of batches fits into a segment and its index.
fn run_fits(headers: &[Header]) -> Result<()> {
    let len: usize = headers.iter().map(|header| header.len).sum();
    if len > BATCH_BYTES_MAX {
        return Err(BatchError::Length { length: i32::try_from(len).unwrap_or(i32::MAX) }.into());
    }
    Ok(())
}
