//! The transaction coordinator: who may write under a transactional id, what belongs to a transaction, how it ends
//! (KIP-98, KIP-360, and KIP-890, by which each transaction has an epoch of its own).
//!
//! ```text
//!        first partition          end, timeout, a new producer        all markers are written
//! Empty ───────────────▶ Ongoing ──────────────────────▶ Prepare… ──────────────────▶ Complete…
//!                           ▲                                                             │
//!                           └─────────────────────── first partition ─────────────────────┘
//! ```
//!
//! An end is decided when its preparation is written down; then markers go to all partitions, however often it takes.
//! Whoever asks for an end, or takes over, is answered when it is complete.

mod record;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Now;
use super::group::{Place, Ticket};
use crate::log::wire::ErrorCode;

pub use record::{RecordError, decode, key};

/// Epochs go up to here; then the producer gets a new id.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// How transactions are coordinated. The names in the comments are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Longest timeout that a producer may ask for, in ms (`transaction.max.timeout.ms`).
    pub timeout_max_ms: i32,
    /// How long an id is remembered that is not used, in ms (`transactional.id.expiration.ms`).
    pub id_retention_ms: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { timeout_max_ms: 900_000, id_retention_ms: 7 * 24 * 3_600_000 }
    }
}

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of Kafka's protocol; see the picture above")]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// A transactional id as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Who writes.
    pub producer_id: i64,
    /// In which epoch.
    pub epoch: i16,
    /// How long a transaction may take, in ms.
    pub timeout_ms: i32,
    /// How far it is.
    pub state: State,
    /// What belongs to it.
    pub partitions: BTreeSet<Place>,
    /// When it changed last, in ms since 1970.
    pub changed_ms: i64,
    /// When it began, in ms since 1970, or -1.
    pub started_ms: i64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this down; no value forgets the id.
    Store(String, Option<Value>),
    /// When everything before is safe: write markers to these partitions, then call [`Transactions::marked`].
    Mark(Mark),
    /// Answer, when everything before is safe.
    Answer(Ticket, Answer),
}

/// The end of a transaction for its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The transactional id.
    pub id: String,
    /// Whose records are meant.
    pub producer_id: i64,
    /// Older epochs are fenced by it.
    pub epoch: i16,
    /// Or it is given up.
    pub commits: bool,
    /// Where to.
    pub partitions: BTreeSet<Place>,
}

/// A producer id and epoch, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// None is success.
    pub error: ErrorCode,
    /// Who is to write from now on.
    pub producer_id: i64,
    /// In which epoch.
    pub epoch: i16,
}

impl Answer {
    fn refused(error: ErrorCode) -> Self {
        Self { error, producer_id: -1, epoch: -1 }
    }
}

/// Someone wants to write under an id (`InitProducerId`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// The transactional id.
    pub id: String,
    /// How long a transaction may take, in ms.
    pub timeout_ms: i32,
    /// What the producer has, when it wants to go on after an error (KIP-360).
    pub known: Option<(i64, i16)>,
}

/// A producer as its requests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The transactional id.
    pub id: String,
    /// Its producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// Gives out a producer id that nobody has had.
pub type NewId<'a> = &'a mut dyn FnMut() -> Result<i64, ErrorCode>;

/// Who waits for a transaction to be complete.
#[derive(Debug)]
enum Waiting {
    End(Ticket),
    Init(Ticket, Init),
}

#[derive(Debug)]
struct Transaction {
    value: Value,
    /// The epoch of the transaction before: its end may be asked for again.
    last: Option<(i64, i16)>,
    /// The end gives the producer a new epoch (version 2 of the protocol).
    bumps: bool,
    waiting: Vec<Waiting>,
    /// It is given up then.
    deadline: Option<Instant>,
}

/// All transactional ids of this broker.
#[derive(Debug)]
pub struct Transactions {
    config: Config,
    known: BTreeMap<Arc<str>, Transaction>,
    timers: BTreeSet<(Instant, Arc<str>)>,
}

impl Transactions {
    /// None yet.
    pub fn new(config: Config) -> Self {
        Self { config, known: BTreeMap::new(), timers: BTreeSet::new() }
    }

    /// When [`Transactions::tick`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Gives up what took too long.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.instant
        {
            let Some((_, id)) = self.timers.pop_first() else { break };
            let Some(one) = self.known.get_mut(&id) else { continue };
            one.deadline = None;
            if one.value.state == State::Ongoing {
                // The producer that was too slow is fenced.
                one.value.epoch = one.value.epoch.saturating_add(1);
                one.bumps = false;
                prepare(&id, one, false, now, out);
            }
        }
    }

    /// One id.
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.known.get(id).map(|one| &one.value)
    }

    /// All ids, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.known.iter().map(|(id, one)| (&**id, &one.value))
    }

    /// Someone wants to write under an id; who did before is fenced, and what it had open is given up.
    pub fn init(&mut self, now: Now, ticket: Ticket, init: Init, new_id: NewId<'_>, out: &mut Vec<Output>) {
        if init.id.is_empty() {
            return out.push(Output::Answer(ticket, Answer::refused(ErrorCode::INVALID_REQUEST)));
        }
        if !(1..=self.config.timeout_max_ms).contains(&init.timeout_ms) {
            return out.push(Output::Answer(ticket, Answer::refused(ErrorCode::INVALID_TRANSACTION_TIMEOUT)));
        }
        let id: Arc<str> = init.id.as_str().into();
        let Some(one) = self.known.get_mut(&id) else {
            let producer_id = match new_id() {
                Ok(producer_id) => producer_id,
                Err(error) => return out.push(Output::Answer(ticket, Answer::refused(error))),
            };
            let value = Value {
                producer_id,
                epoch: 0,
                timeout_ms: init.timeout_ms,
                state: State::Empty,
                partitions: BTreeSet::new(),
                changed_ms: now.unix_ms,
                started_ms: -1,
            };
            out.push(Output::Store(init.id, Some(value.clone())));
            out.push(Output::Answer(ticket, answer(&value)));
            let one = Transaction { value, last: None, bumps: false, waiting: Vec::new(), deadline: None };
            self.known.insert(id, one);
            return;
        };
        if let Some(known) = init.known {
            let current = (one.value.producer_id, one.value.epoch);
            if Some(known) == one.last && one.value.state != State::Ongoing && !one.value.state.is_prepared()
            {
                // It asks again for what it was given.
                return out.push(Output::Answer(ticket, answer(&one.value)));
            }
            if known != current {
                return out.push(Output::Answer(ticket, Answer::refused(ErrorCode::PRODUCER_FENCED)));
            }
        }
        match one.value.state {
            State::PrepareCommit | State::PrepareAbort => one.waiting.push(Waiting::Init(ticket, init)),
            State::Ongoing => {
                one.value.epoch = one.value.epoch.saturating_add(1);
                one.bumps = false;
                // The epoch is another one now, which the waiting request cannot know.
                one.waiting.push(Waiting::Init(ticket, Init { known: None, ..init }));
                prepare(&id, one, false, now, out);
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let before = (one.value.producer_id, one.value.epoch);
                if let Err(error) = next_epoch(&mut one.value, new_id) {
                    return out.push(Output::Answer(ticket, Answer::refused(error)));
                }
                one.last = init.known.map(|_| before);
                one.value.timeout_ms = init.timeout_ms;
                one.value.state = State::Empty;
                one.value.changed_ms = now.unix_ms;
                out.push(Output::Store(init.id, Some(one.value.clone())));
                out.push(Output::Answer(ticket, answer(&one.value)));
            }
        }
    }

    /// Makes partitions a part of the transaction.
    ///
    /// # Errors
    /// The producer is not the one that writes; the last transaction is still being ended.
    pub fn add(
        &mut self,
        now: Now,
        writer: &Writer,
        partitions: &[Place],
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        let one = writing(&mut self.known, writer)?;
        if one.value.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let is_new = one.value.state != State::Ongoing;
        if !is_new && partitions.iter().all(|place| one.value.partitions.contains(place)) {
            return Ok(());
        }
        if is_new {
            one.value.partitions.clear();
            one.value.started_ms = now.unix_ms;
            one.value.state = State::Ongoing;
            let timeout = Duration::from_millis(u64::try_from(one.value.timeout_ms).unwrap_or(0));
            let deadline = now.instant + timeout;
            if let Some(before) = one.deadline.replace(deadline) {
                self.timers.remove(&(before, writer.id.as_str().into()));
            }
            self.timers.insert((deadline, writer.id.as_str().into()));
        }
        one.value.partitions.extend(partitions.iter().cloned());
        one.value.changed_ms = now.unix_ms;
        out.push(Output::Store(writer.id.clone(), Some(one.value.clone())));
        Ok(())
    }

    /// Whether a partition is a part of the producer's transaction (KIP-890: before anything is appended to it).
    ///
    /// # Errors
    /// It is not; the producer is not the one that writes.
    pub fn verify(&mut self, writer: &Writer, partition: &Place) -> Result<(), ErrorCode> {
        let one = writing(&mut self.known, writer)?;
        match one.value.state {
            State::Ongoing if one.value.partitions.contains(partition) => Ok(()),
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// The transaction ends. `bumps` says that the producer speaks version 2 of the protocol and gets a new epoch.
    pub fn end(
        &mut self,
        now: Now,
        ticket: Ticket,
        end: (&Writer, bool, bool),
        new_id: NewId<'_>,
        out: &mut Vec<Output>,
    ) {
        let (writer, commits, bumps) = end;
        let refuse = |out: &mut Vec<Output>, error| out.push(Output::Answer(ticket, Answer::refused(error)));
        let Some(one) = self.known.get_mut(&*writer.id) else {
            return refuse(out, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        };
        let asked = (writer.producer_id, writer.epoch);
        let complete = if commits { State::CompleteCommit } else { State::CompleteAbort };
        if bumps && Some(asked) == one.last && one.value.state == complete {
            // The answer to its end was lost.
            return out.push(Output::Answer(ticket, answer(&one.value)));
        }
        let one = match writing(&mut self.known, writer) {
            Ok(one) => one,
            Err(error) => return refuse(out, error),
        };
        let prepared = if commits { State::PrepareCommit } else { State::PrepareAbort };
        match one.value.state {
            State::Ongoing => {
                one.bumps = bumps;
                if bumps {
                    let before = (one.value.producer_id, one.value.epoch);
                    // With the last epoch the markers go out; the producer goes on with a new id.
                    if one.value.epoch < EPOCH_MAX {
                        one.value.epoch += 1;
                    }
                    one.last = Some(before);
                }
                one.waiting.push(Waiting::End(ticket));
                prepare(&writer.id, one, commits, now, out);
            }
            state if state == prepared => one.waiting.push(Waiting::End(ticket)),
            state if state.is_prepared() => refuse(out, ErrorCode::INVALID_TXN_STATE),
            state if state == complete && !bumps => out.push(Output::Answer(ticket, answer(&one.value))),
            // Nothing was written: there is nothing to give up, but the epoch is the transaction's own.
            State::Empty | State::CompleteCommit | State::CompleteAbort if bumps && !commits => {
                let before = (one.value.producer_id, one.value.epoch);
                if let Err(error) = next_epoch(&mut one.value, new_id) {
                    return refuse(out, error);
                }
                one.last = Some(before);
                one.value.state = State::CompleteAbort;
                one.value.changed_ms = now.unix_ms;
                out.push(Output::Store(writer.id.clone(), Some(one.value.clone())));
                out.push(Output::Answer(ticket, answer(&one.value)));
            }
            _ => refuse(out, ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// All markers of an end are safe: the transaction is complete, and who waited for that goes on.
    pub fn marked(&mut self, now: Now, id: &str, new_id: NewId<'_>, out: &mut Vec<Output>) {
        let Some(one) = self.known.get_mut(id).filter(|one| one.value.state.is_prepared()) else { return };
        one.value.state = match one.value.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        one.value.partitions.clear();
        one.value.changed_ms = now.unix_ms;
        if let Some(before) = one.deadline.take() {
            self.timers.remove(&(before, id.into()));
        }
        if std::mem::take(&mut one.bumps)
            && one.value.epoch >= EPOCH_MAX
            && let Ok(producer_id) = new_id()
        {
            (one.value.producer_id, one.value.epoch) = (producer_id, 0);
        }
        out.push(Output::Store(id.to_owned(), Some(one.value.clone())));
        let answered = answer(&one.value);
        for waiting in std::mem::take(&mut one.waiting) {
            match waiting {
                Waiting::End(ticket) => out.push(Output::Answer(ticket, answered)),
                Waiting::Init(ticket, init) => self.init(now, ticket, init, new_id, out),
            }
        }
    }

    /// Forgets ids that were not used for long.
    pub fn expire(&mut self, now: Now, out: &mut Vec<Output>) {
        let before = now.unix_ms.saturating_sub(self.config.id_retention_ms);
        self.known.retain(|id, one| {
            let is_busy = one.value.state == State::Ongoing || one.value.state.is_prepared();
            let stays = is_busy || one.value.changed_ms >= before;
            if !stays {
                out.push(Output::Store(id.to_string(), None));
            }
            stays
        });
    }

    /// Takes in what was kept, in the order in which it was.
    pub fn restore(&mut self, id: &str, value: Option<Value>) {
        match value {
            None => drop(self.known.remove(id)),
            Some(value) => {
                let one =
                    Transaction { value, last: None, bumps: false, waiting: Vec::new(), deadline: None };
                self.known.insert(id.into(), one);
            }
        }
    }

    /// Everything is taken in: ends that were decided are carried out, and the others have their time anew.
    pub fn restored(&mut self, now: Now, out: &mut Vec<Output>) {
        for (id, one) in &mut self.known {
            match one.value.state {
                State::PrepareCommit | State::PrepareAbort => out.push(Output::Mark(mark(id, &one.value))),
                State::Ongoing => {
                    let timeout = Duration::from_millis(u64::try_from(one.value.timeout_ms).unwrap_or(0));
                    one.deadline = Some(now.instant + timeout);
                    self.timers.insert((now.instant + timeout, Arc::clone(id)));
                }
                State::Empty | State::CompleteCommit | State::CompleteAbort => {}
            }
        }
    }
}

/// The transaction of a producer that is the one that writes.
fn writing<'a>(
    known: &'a mut BTreeMap<Arc<str>, Transaction>,
    writer: &Writer,
) -> Result<&'a mut Transaction, ErrorCode> {
    let one = known.get_mut(&*writer.id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
    if one.value.producer_id != writer.producer_id {
        return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    }
    if one.value.epoch != writer.epoch {
        return Err(ErrorCode::PRODUCER_FENCED);
    }
    Ok(one)
}

/// The end is decided.
fn prepare(id: &str, one: &mut Transaction, commits: bool, now: Now, out: &mut Vec<Output>) {
    one.value.state = if commits { State::PrepareCommit } else { State::PrepareAbort };
    one.value.changed_ms = now.unix_ms;
    out.push(Output::Store(id.to_owned(), Some(one.value.clone())));
    out.push(Output::Mark(mark(id, &one.value)));
}

fn mark(id: &str, value: &Value) -> Mark {
    Mark {
        id: id.to_owned(),
        producer_id: value.producer_id,
        epoch: value.epoch,
        commits: value.state == State::PrepareCommit,
        partitions: value.partitions.clone(),
    }
}

fn answer(value: &Value) -> Answer {
    Answer { error: ErrorCode::NONE, producer_id: value.producer_id, epoch: value.epoch }
}

/// The epoch after this one: of another producer id when there is none.
fn next_epoch(value: &mut Value, new_id: NewId<'_>) -> Result<(), ErrorCode> {
    if value.epoch >= EPOCH_MAX {
        value.producer_id = new_id()?;
        value.epoch = 0;
    } else {
        value.epoch += 1;
    }
    Ok(())
}
