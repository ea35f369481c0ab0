//! A command per record: the records of a partition one after the other, several partitions at once.

use std::collections::VecDeque;
use std::ffi::OsString;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::codec::Decoder;
use super::connect::Log;
use super::deliver::COMMIT_EVERY;
use super::intake::{Intake, Next, Progress, place_of};
use super::reading::{self, ReadArgs};
use crate::cli::app::App;
use crate::cli::command;
use crate::cli::exit::{Exit, Failure};
use crate::cli::filter::Filter;
use crate::cli::limits::{End, Limits};
use crate::exec::{RecordCommand, Retries, Verdict};
use crate::log::client::Fetched;
use crate::log::client::group::{Place, Release};
use crate::record::Record;
use crate::shutdown::Shutdown;

/// What becomes of records that a command is run for.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Commands")]
pub struct WorkArgs {
    /// Commands at the same time, each for another partition
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = command::parse_jobs, requires = "command")]
    pub jobs: usize,
    /// Run a command that fails so many times more, after growing pauses
    #[arg(hide_short_help = true, long, value_name = "N", default_value = "0", requires = "command")]
    pub retries: u32,
    /// Go on after a record whose command fails, as if it were done
    #[arg(hide_short_help = true, long, requires = "command")]
    pub skip_failed: bool,
}

/// A command for every record.
pub struct Work<'a> {
    app: &'a App,
    args: &'a WorkArgs,
    command: RecordCommand,
    filter: Option<Filter>,
    decoder: std::cell::RefCell<Option<Decoder>>,
}

/// Bytes of records that wait for their commands before no more are taken.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Records of a partition that wait for their turn.
struct Lane {
    place: Place,
    waiting: VecDeque<(i64, Record)>,
    is_running: bool,
    /// What comes after all that were handed out so far, gaps and markers included.
    end: i64,
}

/// What is known of the work so far.
#[derive(Default)]
struct State {
    lanes: Vec<Lane>,
    bytes: usize,
    /// The offsets to go on from.
    done: Progress,
    /// Partitions that others wait for, until their commands have ended.
    leaving: Vec<(Vec<Place>, Release)>,
    succeeded: u64,
    failed: u64,
    /// Records that may still be begun.
    left: Option<u64>,
    /// Why nothing more is begun: the record whose command failed.
    stop: Option<Failure>,
}

/// A command that has ended: its record's partition and offset.
type Ended = (Place, i64, Verdict);

impl<'a> Work<'a> {
    /// The command after `--`; `None` without one.
    ///
    /// # Errors
    /// There is no such command (127), or it cannot be executed (126): before any record is read.
    pub fn new(
        args: &'a WorkArgs,
        words: Vec<OsString>,
        read: &ReadArgs,
        app: &'a App,
    ) -> Result<Option<Self>, Failure> {
        let retries = Retries::times(args.retries);
        let command = command::per_record(words, read.embed(), retries, ("record", "read"), app)?;
        let decoder = Decoder::new(&read.schemas, read.decode_keys, app)?.into();
        Ok(command.map(|command| Self { app, args, command, filter: read.filter.filter(), decoder }))
    }

    /// Runs it for what comes until the end, and leaves the group.
    ///
    /// # Errors
    /// The cluster's; a command that failed; `--timeout`.
    pub async fn run(
        self,
        intake: &mut Intake<'_>,
        log: &Log,
        mut limits: Limits,
        count: Option<u64>,
    ) -> anyhow::Result<Exit> {
        let mut state = State { left: count, ..State::default() };
        let ended = self.work(intake, &mut state, log, &mut limits).await;
        if state.stop.is_none() && matches!(ended, Ok(End::Count | End::Everything | End::Passed)) {
            state.settle(intake);
        }
        // Nobody waits for what is not going to be done.
        state.leaving.clear();
        let finished = intake.finish(&state.done, ended.as_ref().ok().copied()).await;
        let end = ended?;
        finished?;
        if let Some(failure) = state.stop {
            return Err(failure.into());
        }
        let exit = limits.exit(end, state.left.is_some_and(|left| left > 0))?;
        if state.failed > 0 && matches!(exit, Exit::Done | Exit::Nothing) {
            let exit = if state.succeeded > 0 { Exit::Partly } else { Exit::Failed };
            let total = state.succeeded + state.failed;
            let text =
                format!("the command failed for {} of {total} records, which were left out", state.failed);
            return Err(Failure::new(exit, text).into());
        }
        Ok(exit)
    }

    async fn work(
        &self,
        intake: &mut Intake<'_>,
        state: &mut State,
        log: &Log,
        limits: &mut Limits,
    ) -> anyhow::Result<End> {
        let shutdown = Shutdown::new();
        let mut running = FuturesUnordered::new();
        let (mut seed, mut end, mut is_all_here) = (0, None, false);
        let mut due = Instant::now() + COMMIT_EVERY;
        loop {
            while end.is_none() && state.stop.is_none() && running.len() < self.args.jobs {
                let Some((place, offset, record)) = state.start() else { break };
                seed += 1;
                running.push(self.one(place, offset, record, seed, &shutdown));
            }
            let is_over = end.is_some() || state.stop.is_some() || state.left == Some(0);
            if running.is_empty() && is_over {
                return Ok(end.unwrap_or(End::Count));
            }
            if running.is_empty() && is_all_here && state.is_idle() {
                return Ok(End::Everything);
            }
            let has_room = running.len() < self.args.jobs && state.bytes < WAITING_BYTES_MAX;
            let takes = has_room && !is_over && !is_all_here;
            let is_idle = running.is_empty();
            let is_due = intake.commits() && !state.done.is_empty();
            tokio::select! {
                biased;
                Some(ended) = running.next() => {
                    self.ended(ended, intake, state, limits).await?;
                    limits.is_active();
                }
                () = sleep_until(due), if is_due => {
                    match limits.hurry(intake.commit(&state.done)).await {
                        Ok(told) => told?,
                        Err(over) => return Ok(over),
                    };
                    due = Instant::now() + COMMIT_EVERY;
                }
                next = intake.next(takes) => match next? {
                    Next::Assigned => {
                        is_all_here = false;
                        match limits.hurry(intake.adopt()).await {
                            Ok(adopted) => adopted?,
                            Err(over) => return Ok(over),
                        }
                    }
                    Next::Batch(fetched) => {
                        let mut decoder = self.decoder.take();
                        if let Some(decoder) = &mut decoder {
                            decoder.prepare(&fetched).await?;
                        }
                        state.take(&fetched, self.filter.as_ref(), decoder.as_mut(), (self.app, log))?;
                        self.decoder.replace(decoder);
                        limits.is_active();
                    }
                    Next::Revoked(places, release) => {
                        // What else comes of them is for whoever has them next.
                        intake.stop(&places);
                        state.drop_waiting(&places);
                        state.leaving.push((places, release));
                        self.let_go(intake, state, limits).await?;
                    }
                    Next::Lost(places) => {
                        intake.warn_of_loss(&places, &state.done);
                        state.drop_waiting(&places);
                        state.forget(&places);
                        intake.forget(&places);
                    }
                    // What is here is still to be done.
                    Next::Everything => is_all_here = true,
                },
                over = over(limits, is_idle) => match over {
                    End::Passed => end = Some(over),
                    over => return Ok(over),
                },
            }
        }
    }

    async fn one(&self, place: Place, offset: i64, record: Record, seed: u64, shutdown: &Shutdown) -> Ended {
        let verdict = self.command.run(&record, seed, shutdown).await;
        (place, offset, verdict)
    }

    /// What becomes of a record whose command has ended.
    async fn ended(
        &self,
        (place, offset, verdict): Ended,
        intake: &mut Intake<'_>,
        state: &mut State,
        limits: &mut Limits,
    ) -> anyhow::Result<()> {
        let is_missing = verdict.is_hopeless()
            && self.command.program.is_missing(std::env::var_os("PATH").as_deref()).is_some();
        if is_missing {
            return Err(command::not_run(&self.command.program, verdict, ("more record", "done")).into());
        }
        if verdict != Verdict::Done {
            state.failed += 1;
            let times = match self.args.retries {
                0 => String::new(),
                retries => format!(", {} times", u64::from(retries) + 1),
            };
            let text = format!("{}: the command failed ({verdict}{times})", place_of(&place, offset));
            match self.args.skip_failed {
                true if state.failed == 1 => {
                    self.app.printer.warn(&format!("{text}; reading goes on after it"))
                }
                true => self.app.printer.detail(&text),
                false if state.stop.is_none() => state.stop = Some(self.stopped(&text, intake, state)),
                false => self.app.printer.warn(&text),
            }
        } else {
            state.succeeded += 1;
        }
        let is_done = verdict == Verdict::Done || self.args.skip_failed;
        state.finished(&place, is_done.then_some(offset));
        self.let_go(intake, state, limits).await
    }

    fn stopped(&self, text: &str, intake: &Intake<'_>, state: &State) -> Failure {
        let exit = if state.succeeded > 0 { Exit::Partly } else { Exit::Failed };
        let failure = Failure::new(exit, text);
        match intake.commits() {
            true => failure.tip("the group goes on from there; --skip-failed goes on after it"),
            false => failure.tip("--skip-failed goes on after it"),
        }
    }

    /// Partitions whose commands have ended go to whoever waits for them; not after a signal, which ends the reading.
    async fn let_go(
        &self,
        intake: &mut Intake<'_>,
        state: &mut State,
        limits: &mut Limits,
    ) -> anyhow::Result<()> {
        for (places, release) in std::mem::take(&mut state.leaving) {
            if state.lanes.iter().any(|lane| lane.is_running && places.contains(&lane.place)) {
                state.leaving.push((places, release));
                continue;
            }
            let Ok(told) = limits.hurry(intake.commit(&state.done)).await else { break };
            told?;
            intake.forget(&places);
            state.forget(&places);
            drop(release);
        }
        Ok(())
    }
}

impl State {
    /// The records of a batch wait from here on.
    fn take(
        &mut self,
        fetched: &Fetched,
        filter: Option<&Filter>,
        mut decoder: Option<&mut Decoder>,
        (app, log): (&App, &Log),
    ) -> Result<(), Failure> {
        let place: Place = (fetched.topic.to_string(), fetched.partition);
        let at = self.lanes.iter().position(|lane| lane.place == place).unwrap_or_else(|| {
            self.lanes.push(Lane { place, waiting: VecDeque::new(), is_running: false, end: fetched.from });
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[at];
        for record in fetched.wanted() {
            let stored = record.map_err(|error| log.failure(&error))?;
            let decoded = decoder.as_mut().map(|decoder| decoder.decode(&stored, fetched, app));
            let is_wanted = filter.is_none_or(|filter| match &decoded {
                Some(decoded) => reading::wants(filter, &decoded.shown(&stored)),
                None => reading::wants(filter, &stored),
            });
            if !is_wanted {
                continue;
            }
            let mut record = reading::record(&stored, fetched);
            if let Some(decoded) = decoded {
                decoded.put(&mut record);
            }
            self.bytes += size(&record);
            lane.waiting.push_back((stored.offset, record));
        }
        lane.end = lane.end.max(fetched.end());
        // Where nothing is wanted nothing will be done.
        if lane.waiting.is_empty() && !lane.is_running {
            self.done.insert(lane.place.clone(), lane.end);
        }
        Ok(())
    }

    /// The next record that may begin: of a partition in which none is running; partitions take turns.
    fn start(&mut self) -> Option<(Place, i64, Record)> {
        if self.left == Some(0) {
            return None;
        }
        let at = self.lanes.iter().position(|lane| !lane.is_running && !lane.waiting.is_empty())?;
        let mut lane = self.lanes.remove(at);
        let (offset, record) = lane.waiting.pop_front()?;
        self.bytes -= size(&record);
        self.left = self.left.map(|left| left - 1);
        lane.is_running = true;
        let place = lane.place.clone();
        self.lanes.push(lane);
        Some((place, offset, record))
    }

    fn finished(&mut self, place: &Place, done: Option<i64>) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.place == *place) else { return };
        lane.is_running = false;
        if let Some(offset) = done {
            let next = if lane.waiting.is_empty() { lane.end } else { offset + 1 };
            // With -n what waits is never begun, and is not done.
            self.done.insert(place.clone(), next.max(offset + 1));
        }
    }

    /// Does nothing run or wait?
    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_running && lane.waiting.is_empty())
    }

    fn drop_waiting(&mut self, places: &[Place]) {
        for lane in self.lanes.iter_mut().filter(|lane| places.contains(&lane.place)) {
            self.bytes -= lane.waiting.iter().map(|(_, record)| size(record)).sum::<usize>();
            lane.waiting.clear();
            // What was dropped is not done.
            lane.end = 0;
        }
    }

    fn forget(&mut self, places: &[Place]) {
        self.lanes.retain(|lane| !places.contains(&lane.place));
        self.done.retain(|place, _| !places.contains(place));
    }

    /// Where nothing is left, markers and gaps before the position are done as well.
    fn settle(&mut self, intake: &Intake<'_>) {
        for (place, position) in intake.positions() {
            let lane = self.lanes.iter().find(|lane| lane.place == place);
            if lane.is_none_or(|lane| lane.waiting.is_empty() && !lane.is_running) {
                self.done.insert(place, position);
            }
        }
    }
}

/// The end; `--for` and `--idle` only while nothing runs.
async fn over(limits: &mut Limits, is_idle: bool) -> End {
    if is_idle { limits.end().await } else { limits.cut().await }
}

fn size(record: &Record) -> usize {
    let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    // The envelope around it counts as well: records may be empty.
    len(&record.key) + len(&record.value) + 128
}
