//! The batches of one partition: one that is being filled, those that wait, and how many are on their way.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::log::batch;
use crate::log::client::Error;
use crate::log::client::producer::Message;
use crate::log::client::sealed::{Ids, Sealed, next_sequence};
use crate::log::client::trouble::Trouble;
use crate::log::wire::Request as _;
use crate::log::wire::{Compression, ErrorCode, api};
use crate::storage::BatchBuilder;

/// One partition of one topic.
#[derive(Debug)]
pub(super) struct Lane {
    pub topic: usize,
    pub partition: i32,
    builder: BatchBuilder,
    ids: Ids,
    /// Closed, to be sent in this order.
    ready: VecDeque<Sealed>,
    /// Batches sent and not answered.
    in_flight: usize,
    /// Of the next batch that is closed.
    sequence: i32,
    /// One was not taken: the others are waited for, then they go one by one from here.
    recovers: bool,
    /// Not before this: the pause after an error.
    resumes_at: Option<Instant>,
    failures: u32,
    /// Since when nothing was taken.
    failing_since: Option<Instant>,
    trouble: Trouble,
}

/// The bit of a batch that belongs to a transaction.
const TRANSACTIONAL: i16 = 16;

impl Lane {
    pub(super) fn new((topic, partition): (usize, i32), trouble: Trouble) -> Self {
        Self {
            topic,
            partition,
            builder: BatchBuilder::new(),
            ids: Ids::default(),
            ready: VecDeque::new(),
            in_flight: 0,
            sequence: 0,
            recovers: false,
            resumes_at: None,
            failures: 0,
            failing_since: None,
            trouble,
        }
    }

    /// Adds a record to the batch that is being filled.
    pub(super) fn push(&mut self, id: u64, message: &Message<'_>) -> Result<(), Error> {
        let pushed = self.builder.push_copied(message.timestamp, message.key, message.value, message.headers);
        pushed.map_err(|_| {
            Error::refused(api::produce::ProduceRequest::KEY, ErrorCode::MESSAGE_TOO_LARGE, None)
        })?;
        self.ids.push(id);
        Ok(())
    }

    pub(super) fn is_full(&self, bytes: usize) -> bool {
        self.builder.len() >= bytes
    }

    /// Records are here, and no other batch: nothing is gained by waiting.
    pub(super) fn is_idle(&self) -> bool {
        !self.builder.is_empty() && self.ready.is_empty() && self.in_flight == 0
    }

    /// Closes the batch that is being filled; its size.
    pub(super) fn close(
        &mut self,
        identity: Option<(i64, i16)>,
        is_transactional: bool,
        (codec, level): (Compression, Option<i32>),
    ) -> Result<usize, Error> {
        let count = self.builder.count();
        let sequence = if identity.is_some() { self.sequence } else { -1 };
        let (id, epoch) = identity.unwrap_or((-1, -1));
        self.builder.set_producer(id, epoch, sequence);
        self.builder.set_attributes(if is_transactional { TRANSACTIONAL } else { 0 });
        let bytes = batch::pack(&mut self.builder, codec, level)?;
        let len = bytes.len();
        let ids = std::mem::take(&mut self.ids);
        self.ready.push_back(Sealed { bytes, ids, count, sequence, since: Instant::now(), in_doubt: false });
        self.sequence = next_sequence(self.sequence, count);
        Ok(len)
    }

    /// All batches that wait become those of another producer id, numbered from 0.
    pub(super) fn identify(&mut self, identity: (i64, i16)) {
        self.sequence = 0;
        for sealed in &mut self.ready {
            sealed.renumber(identity, self.sequence);
            self.sequence = next_sequence(self.sequence, sealed.count);
        }
        self.recovers = false;
    }

    /// Is there a batch that may go now?
    pub(super) fn may_send(&self, now: Instant) -> bool {
        let paused = self.resumes_at.is_some_and(|at| at > now);
        let waits = self.recovers && self.in_flight > 0;
        !(self.ready.is_empty() || paused || waits)
    }

    /// Takes the next batch, which is on its way from here.
    pub(super) fn take(&mut self) -> Option<Sealed> {
        let sealed = self.ready.pop_front()?;
        self.in_flight += 1;
        Some(sealed)
    }

    /// A batch is not on its way any more, and does not come back.
    pub(super) fn done(&mut self) {
        self.in_flight -= 1;
        (self.recovers, self.failures, self.resumes_at) = (self.recovers && self.in_flight > 0, 0, None);
    }

    /// A batch was taken.
    pub(super) fn taken(&mut self, topic: &str) {
        self.done();
        self.failing_since = None;
        self.trouble.is_over(topic);
    }

    /// One was not taken, and goes again.
    pub(super) fn fails(&mut self, topic: &str, error: &Error) {
        self.failing_since.get_or_insert_with(Instant::now);
        self.trouble.goes_on(topic, error);
    }

    /// What failed before does not count any more.
    pub(super) fn begins_anew(&mut self) {
        self.failing_since = None;
    }

    /// Since when nothing was taken.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// No batch can be sent until then.
    pub(super) fn wait(&mut self, resumes_at: Instant) {
        self.failures += 1;
        self.resumes_at = self.resumes_at.max(Some(resumes_at));
    }

    /// Batches come back, to be sent again before all that come after them.
    pub(super) fn again(&mut self, batches: impl IntoIterator<Item = Sealed>, resumes_at: Option<Instant>) {
        self.in_flight -= 1;
        self.recovers = true;
        self.failures += 1;
        self.resumes_at = self.resumes_at.max(resumes_at);
        for sealed in batches {
            // By the number of their first message: sequence numbers go round.
            let first = |sealed: &Sealed| sealed.ids.iter().next();
            let at = self.ready.partition_point(|other| first(other) < first(&sealed));
            self.ready.insert(at, sealed);
        }
    }

    /// One of its batches is being sent again.
    pub(super) fn recovers(&self) -> bool {
        self.recovers
    }

    /// Errors in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When it goes on, if it pauses.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        self.resumes_at.filter(|_| !self.ready.is_empty())
    }

    /// All batches that wait: nothing can become of them.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Sealed> + '_ {
        self.ready.drain(..)
    }
}
