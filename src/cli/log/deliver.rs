//! Records of a group to stdout: what was written out, and nothing else, is told to the group as done.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connect::Log;
use super::intake::{Intake, Next, Progress};
use super::reading::Writing;
use crate::cli::limits::{End, Limits};
use crate::cli::pipe::Reader;
use crate::log::client::Fetched;
use crate::log::client::group::{Place, Release};
use crate::output::WriteError;

/// Offsets are stored so often.
pub const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// So many records go one by one into a pipe, the next when the one before was read: `| head` takes exactly what it
/// prints, and whoever stays gets the rest at full speed.
const ONE_BY_ONE: u32 = 100;
/// How long after a signal the reader may take to read what is written.
const LAST_WORDS_MAX: Duration = Duration::from_millis(100);

/// Writes the records of a group.
pub struct Delivery<'a, 'b> {
    intake: &'b mut Intake<'a>,
    writing: &'b mut Writing<'a>,
    limits: &'b mut Limits,
    log: &'a Log,
    reader: Option<Reader>,
    /// Written, and perhaps not out of our hands.
    written: Progress,
    /// Out of our hands.
    handed: Progress,
    /// A batch is written in part only.
    is_partial: bool,
    one_by_one: u32,
    due: Instant,
}

impl<'a, 'b> Delivery<'a, 'b> {
    /// Writes what comes from `intake`.
    pub fn new(
        intake: &'b mut Intake<'a>,
        writing: &'b mut Writing<'a>,
        limits: &'b mut Limits,
        log: &'a Log,
    ) -> Self {
        let reader = Reader::of_stdout();
        let one_by_one = if reader.is_some() { ONE_BY_ONE } else { 0 };
        let (written, handed) = (HashMap::new(), HashMap::new());
        let due = Instant::now() + COMMIT_EVERY;
        let is_partial = false;
        Self { intake, writing, limits, log, reader, written, handed, is_partial, one_by_one, due }
    }

    /// Until the end, and leaves the group.
    ///
    /// # Errors
    /// The cluster's; output that cannot be written.
    pub async fn run(&mut self) -> anyhow::Result<End> {
        let ended = match self.deliver().await {
            Err(error) if matches!(error.downcast_ref(), Some(WriteError::ReaderGone)) => Ok(End::ReaderGone),
            ended => ended,
        };
        let ended = match ended {
            Ok(end) if end != End::ReaderGone => self.last_words().await.map(|gone| gone.unwrap_or(end)),
            ended => ended,
        };
        let finished = self.intake.finish(&self.handed, ended.as_ref().ok().copied()).await;
        let end = ended?;
        finished?;
        Ok(end)
    }

    async fn deliver(&mut self) -> anyhow::Result<End> {
        if self.writing.is_enough() {
            return Ok(End::Count);
        }
        loop {
            if !self.intake.has_ready() {
                self.writing.flush()?;
            }
            if Instant::now() >= self.due {
                if let Some(end) = self.settle().await? {
                    return Ok(end);
                }
                self.due = Instant::now() + COMMIT_EVERY;
            }
            let is_due = !self.written.is_empty();
            let gone = Reader::any_gone(self.reader.as_ref());
            let next = tokio::select! {
                biased;
                next = self.intake.next(true) => next?,
                () = gone => return Ok(End::ReaderGone),
                () = sleep_until(self.due), if is_due => continue,
                end = self.limits.end() => return Ok(end),
            };
            match next {
                Next::Batch(fetched) => {
                    if let Some(end) = self.batch(&fetched).await? {
                        return Ok(end);
                    }
                    self.limits.is_active();
                }
                Next::Revoked(places, release) => {
                    if let Some(end) = self.revoked(&places, release).await? {
                        return Ok(end);
                    }
                }
                Next::Lost(places) => {
                    self.intake.warn_of_loss(&places, &self.handed);
                    self.forget(&places);
                }
                Next::Assigned => match self.limits.hurry(self.intake.adopt()).await {
                    Ok(adopted) => adopted?,
                    Err(end) => return Ok(end),
                },
                Next::Everything => return Ok(End::Everything),
            }
            if let Some(end) = self.limits.passed() {
                return Ok(end);
            }
        }
    }

    /// Writes the records of a batch.
    async fn batch(&mut self, fetched: &Fetched) -> anyhow::Result<Option<End>> {
        let place: Place = (fetched.topic.to_string(), fetched.partition);
        self.writing.prepare(fetched).await?;
        self.writing.begin(fetched);
        self.is_partial = true;
        let mut next = fetched.from;
        let mut end = None;
        for record in fetched.wanted() {
            let record = record.map_err(|error| self.log.failure(&error))?;
            next = record.offset + 1;
            if !self.writing.put(&record, fetched)? {
                continue;
            }
            if let (1.., Some(reader)) = (self.one_by_one, &self.reader) {
                self.one_by_one -= 1;
                self.writing.flush()?;
                match self.limits.hurry(reader.takes()).await {
                    Ok(true) => drop(self.handed.insert(place.clone(), next)),
                    Ok(false) => return Ok(Some(End::ReaderGone)),
                    Err(end) => {
                        self.written.insert(place, next);
                        return Ok(Some(end));
                    }
                }
            }
            if self.writing.is_enough() {
                end = Some(End::Count);
                break;
            }
        }
        if end.is_none() {
            self.is_partial = false;
            next = next.max(fetched.end());
        }
        self.written.insert(place, next);
        Ok(end)
    }

    /// Passes on what was written; when it is out of our hands the group is told.
    async fn settle(&mut self) -> anyhow::Result<Option<End>> {
        self.writing.flush()?;
        if let Some(reader) = &self.reader {
            match self.limits.hurry(reader.takes()).await {
                Ok(true) => {}
                Ok(false) => return Ok(Some(End::ReaderGone)),
                Err(end) => return Ok(Some(end)),
            }
        }
        self.is_handed();
        match self.limits.hurry(self.intake.commit(&self.handed)).await {
            // While the group is being divided it is told later.
            Ok(committed) => committed.map(|_| None).map_err(Into::into),
            Err(end) => Ok(Some(end)),
        }
    }

    fn is_handed(&mut self) {
        self.handed.extend(self.written.drain());
        // Where nothing is read, markers and gaps before the position are done as well.
        if !self.is_partial {
            self.handed.extend(self.intake.positions());
        }
    }

    /// The last that was written. A reader that has stopped reading is not waited for.
    async fn last_words(&mut self) -> anyhow::Result<Option<End>> {
        match self.writing.flush() {
            Ok(()) => {}
            Err(WriteError::ReaderGone) => return Ok(Some(End::ReaderGone)),
            Err(error) => return Err(error.into()),
        }
        let is_taken = match (&self.reader, self.limits.passed()) {
            (None, _) => true,
            (Some(reader), None) => {
                matches!(self.limits.hurry(reader.takes()).await, Ok(true))
            }
            (Some(reader), Some(_)) => {
                matches!(tokio::time::timeout(LAST_WORDS_MAX, reader.takes()).await, Ok(true))
            }
        };
        if is_taken {
            self.is_handed();
        }
        Ok(None)
    }

    async fn revoked(&mut self, places: &[Place], release: Release) -> anyhow::Result<Option<End>> {
        if let Some(end) = self.settle().await? {
            return Ok(Some(end));
        }
        self.forget(places);
        drop(release);
        Ok(None)
    }

    fn forget(&mut self, places: &[Place]) {
        self.intake.forget(places);
        self.written.retain(|place, _| !places.contains(place));
        self.handed.retain(|place, _| !places.contains(place));
    }
}
