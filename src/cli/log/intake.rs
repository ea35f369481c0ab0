//! Where records come from: parts of partitions, all of them or those that a group leaves to this reader; and how far the
//! group is told that they are done.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::connect::Log;
use super::ward::Ward;
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::limits::End;
use crate::log::client::group::{self, Event, Member, Place, Release};
use crate::log::client::{Assignment, Cluster, ConsumeOptions, Consumer, Error, Fetched};
use crate::log::wire::ErrorCode;

/// How far partitions are done: the offset to go on from.
pub type Progress = HashMap<Place, i64>;

/// What a reader hears.
#[derive(Debug)]
pub enum Next {
    /// Records.
    Batch(Fetched),
    /// There are more partitions to be read: [`Intake::adopt`] is to be called.
    Assigned,
    /// These go to others, who wait for the answer: what is done of them is to be told first.
    Revoked(Vec<Place>, Release),
    /// These are others' already: to be forgotten.
    Lost(Vec<Place>),
    /// All is read that was to be read.
    Everything,
}

/// The part in a group.
struct Part {
    member: Member,
    /// Text that is stored with offsets; none if nothing is stored.
    commits: Option<String>,
    /// Partitions that are this reader's.
    own: BTreeSet<Place>,
    /// Given, and their stored offsets not asked for yet.
    new: Vec<Place>,
    /// The first division has come.
    is_in: bool,
    /// What the group has stored, as far as it is known here.
    stored: Progress,
}

/// Records of partitions.
pub struct Intake<'a> {
    app: &'a App,
    log: &'a Log,
    consumer: Consumer,
    /// From where to where each partition is read, if nothing is stored for it.
    plan: HashMap<Place, Assignment>,
    part: Option<Part>,
    ward: Ward<'a>,
}

/// A reader of a bounded group to whom nothing is left looks so often whether the others are through.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a group may be divided while the last commit waits for it.
const LAST_COMMIT_MAX: Duration = Duration::from_secs(10);
/// How long the last commit may take by itself: whoever ends does not wait for a broker that is away.
const COMMIT_MAX: Duration = Duration::from_secs(3);

impl<'a> Intake<'a> {
    /// Reads all of these.
    pub fn whole(
        (app, log): (&'a App, &'a Log),
        cluster: Cluster,
        options: ConsumeOptions,
        (plan, ward): (Vec<Assignment>, Ward<'a>),
    ) -> Self {
        let consumer = Consumer::new(cluster, options, plan);
        Self { app, log, consumer, plan: HashMap::new(), part: None, ward: ward.owns_all() }
    }

    /// Reads what the group leaves to `member`, and stores offsets with the text `commits`, if there is one.
    pub fn shared(
        (app, log): (&'a App, &'a Log),
        cluster: Cluster,
        options: ConsumeOptions,
        (plan, ward): (Vec<Assignment>, Ward<'a>),
        (member, commits): (Member, Option<String>),
    ) -> Self {
        let consumer = Consumer::new(cluster, options, Vec::new());
        let plan = plan.into_iter().map(|it| ((it.topic.to_string(), it.partition), it)).collect();
        let (own, new, stored) = (BTreeSet::new(), Vec::new(), Progress::new());
        let part = Some(Part { member, commits, own, new, is_in: false, stored });
        Self { app, log, consumer, plan, part, ward }
    }

    /// Is something here that need not be waited for?
    pub fn has_ready(&self) -> bool {
        self.consumer.has_ready()
    }

    /// Does anybody want to know how far it is done?
    pub fn commits(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.commits.is_some())
    }

    /// How far each partition is handed out: after gaps and markers, too.
    pub fn positions(&self) -> impl Iterator<Item = (Place, i64)> + '_ {
        self.consumer.positions().map(|(topic, partition, offset)| ((topic.to_string(), partition), offset))
    }

    /// What comes next; no records unless `takes`. May be dropped: nothing is lost.
    ///
    /// # Errors
    /// The cluster's; the group cannot be joined.
    pub async fn next(&mut self, takes: bool) -> Result<Next, Failure> {
        loop {
            let Some(part) = &mut self.part else {
                if !takes {
                    return std::future::pending().await;
                }
                let is_reading = self.consumer.is_reading() || !self.ward.is_waiting();
                let fetched = tokio::select! {
                    biased;
                    fetched = self.consumer.next(), if is_reading => fetched,
                    well = self.ward.recovered() => {
                        self.consumer.add(well);
                        continue;
                    }
                };
                let Some(fetched) = self.unless_lost(fetched)? else { continue };
                self.warn_of_gaps();
                return Ok(fetched.map_or(Next::Everything, Next::Batch));
            };
            // What is to be given up is not read any more, though it is this one's until that is done.
            let is_reading = self.consumer.is_reading();
            let happened = tokio::select! {
                biased;
                event = part.member.event() => Err(event),
                fetched = self.consumer.next(), if takes && is_reading => Ok(fetched),
                well = self.ward.recovered(), if takes => {
                    let known = well.iter().map(|it| ((it.topic.to_string(), it.partition), it.clone()));
                    self.plan.extend(known);
                    self.consumer.add(well);
                    continue;
                }
                () = sleep(LOOK_EVERY), if takes && part.is_in && !is_reading => Ok(Ok(None)),
            };
            match happened {
                Ok(fetched) => match self.unless_lost(fetched)? {
                    None => {}
                    Some(Some(fetched)) => {
                        self.warn_of_gaps();
                        return Ok(Next::Batch(fetched));
                    }
                    Some(None) if self.is_all_read().await? => return Ok(Next::Everything),
                    Some(None) => {}
                },
                Err(Ok(Event::Assigned(places))) => {
                    part.is_in = true;
                    if places.is_empty() {
                        tell(self.app, part, self.plan.len() + self.ward.count());
                    }
                    part.new.extend(places);
                    if !part.new.is_empty() {
                        return Ok(Next::Assigned);
                    }
                }
                Err(Ok(Event::Revoked(places, release))) => return Ok(Next::Revoked(places, release)),
                Err(Ok(Event::Lost(places))) => return Ok(Next::Lost(places)),
                Err(Err(error)) => return Err(self.group_failure(&error)),
            }
        }
    }

    /// None if partitions were given up: the others are read on.
    fn unless_lost(
        &mut self,
        fetched: Result<Option<Fetched>, Error>,
    ) -> Result<Option<Option<Fetched>>, Failure> {
        match fetched {
            Ok(fetched) => Ok(Some(fetched)),
            Err(error) => match self.consumer.lost() {
                lost if lost.is_empty() => Err(self.log.failure(&error)),
                lost => {
                    // Nobody waits until they are read.
                    lost.iter().for_each(|it| drop(self.plan.remove(&(it.topic.to_string(), it.partition))));
                    self.ward.admit(lost);
                    Ok(None)
                }
            },
        }
    }

    /// How a command ends that has read what could be read.
    pub fn exit(&self, exit: Exit) -> Exit {
        self.ward.exit(exit)
    }

    /// Goes on where the group has stored that it was, with what is new.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn adopt(&mut self) -> Result<(), Failure> {
        let Some(part) = &mut self.part else { return Ok(()) };
        let stored = part.member.stored().await.map_err(|error| self.log.failure(&error))?;
        for place in part.new.drain(..) {
            let at = stored.get(&place).copied();
            part.stored.extend(at.map(|at| (place.clone(), at)));
            if self.ward.takes(&place, at) {
                part.own.insert(place);
                continue;
            }
            let planned = self.plan.get(&place).cloned();
            // Partitions that have been added since the command began have no end that was asked for.
            let mut assignment = planned.unwrap_or_else(|| Assignment {
                topic: place.0.as_str().into(),
                partition: place.1,
                from: 0,
                to: self.plan.values().any(|it| it.to.is_some()).then_some(0),
            });
            assignment.from = at.unwrap_or(assignment.from);
            self.consumer.add([assignment]);
            part.own.insert(place);
        }
        tell(self.app, part, self.plan.len() + self.ward.count());
        Ok(())
    }

    /// Those who have partitions are through when those are; who has none waits for the group to be.
    async fn is_all_read(&self) -> Result<bool, Failure> {
        let Some(part) = &self.part else { return Ok(true) };
        if self.consumer.is_reading() {
            return Ok(true);
        }
        if self.plan.values().any(|it| it.to.is_none()) {
            return Ok(false);
        }
        let stored = part.member.stored().await.map_err(|error| self.log.failure(&error))?;
        let is_read = |(place, it): (&Place, &Assignment)| {
            let at = stored.get(place).copied().unwrap_or(it.from);
            it.to.is_none_or(|to| at >= to)
        };
        Ok(self.plan.iter().all(is_read))
    }

    fn warn_of_gaps(&mut self) {
        for gap in self.consumer.gaps() {
            let place = format!("topic '{}' partition {}", gap.topic, gap.partition);
            let (from, to) = (gap.from, gap.to);
            self.app.printer.warn(&format!("{place} has no offset {from}: reading goes on at {to}"));
        }
    }

    /// Reads these no more; they are this reader's until [`Self::forget`], for the last commit.
    pub fn stop(&mut self, places: &[Place]) {
        self.consumer.remove(places);
        self.ward.discharge(places);
        if let Some(part) = &self.part {
            let (group, count) = (part.member.group(), places.len() as u64);
            self.app.printer.detail(&format!(
                "group {group}: it is divided anew, {} given up",
                counted(count, "partition")
            ));
        }
    }

    /// Reads these no more, and they are another's.
    pub fn forget(&mut self, places: &[Place]) {
        self.consumer.remove(places);
        self.ward.discharge(places);
        if let Some(part) = &mut self.part {
            part.new.retain(|place| !places.contains(place));
            part.own.retain(|place| !places.contains(place));
            part.stored.retain(|place, _| !places.contains(place));
        }
    }

    /// Tells the group how far its partitions are done. False if it is being divided just now: once more after the next event.
    ///
    /// # Errors
    /// It refuses for good.
    pub async fn commit(&mut self, done: &Progress) -> Result<bool, Failure> {
        let Some(part) = &mut self.part else { return Ok(true) };
        let Some(text) = &part.commits else { return Ok(true) };
        let is_new =
            |(place, at): &(&Place, &i64)| part.own.contains(*place) && part.stored.get(*place) != Some(*at);
        let offsets: Vec<(String, i32, i64)> = done
            .iter()
            .filter(is_new)
            .map(|((topic, partition), offset)| (topic.clone(), *partition, *offset))
            .collect();
        if offsets.is_empty() {
            return Ok(true);
        }
        match part.member.commit(&offsets, text).await {
            Ok(()) => {
                let told = offsets.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset));
                part.stored.extend(told);
                Ok(true)
            }
            Err(error) if group::is_about_generation(&error) => Ok(false),
            Err(error) => Err(self.group_failure(&error)),
        }
    }

    /// Tells the group of the last that was done, and leaves it. Whoever was ended by a signal ends by that, whatever comes of it.
    ///
    /// # Errors
    /// It refuses for good, or does not answer.
    pub async fn finish(&mut self, done: &Progress, end: Option<End>) -> Result<(), Failure> {
        match self.told_last(done).await {
            Err(failure) if matches!(end, Some(End::Signal(_))) => {
                self.app.printer.warn(&failure.message);
                Ok(())
            }
            told => told,
        }
    }

    async fn told_last(&mut self, done: &Progress) -> Result<(), Failure> {
        let until = Instant::now() + LAST_COMMIT_MAX;
        let mut result = Ok(());
        loop {
            match timeout(COMMIT_MAX, self.commit(done)).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                Ok(Err(failure)) => {
                    result = Err(failure);
                    break;
                }
                Err(_) => {
                    let text = "the group cannot be told of the last records: they come again";
                    result = Err(Failure::new(Exit::Unreachable, text));
                    // Nor can it be told that this member leaves.
                    self.part = None;
                }
            }
            let Some(part) = &mut self.part else { break };
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, part.member.event()).await {
                Ok(Ok(Event::Assigned(_))) => {}
                Ok(Ok(Event::Revoked(places, release))) => {
                    let _ = timeout(COMMIT_MAX, self.commit(done)).await;
                    self.forget(&places);
                    drop(release);
                }
                Ok(Ok(Event::Lost(places))) => {
                    self.warn_of_loss(&places, done);
                    self.forget(&places);
                }
                Ok(Err(error)) => {
                    result = Err(self.group_failure(&error));
                    break;
                }
                Err(_) => {
                    let text = "the group was divided for too long: the last records come again";
                    self.app.printer.warn(text);
                    break;
                }
            }
        }
        if let Some(part) = self.part.take() {
            part.member.leave().await;
        }
        result
    }

    /// Says what comes a second time because somebody else has the partition already.
    pub fn warn_of_loss(&self, places: &[Place], done: &Progress) {
        let Some(part) = self.part.as_ref().filter(|part| part.commits.is_some()) else { return };
        let again: i64 = places
            .iter()
            .filter_map(|place| Some(done.get(place)? - part.stored.get(place).copied()?))
            .filter(|count| *count > 0)
            .sum();
        let group = part.member.group();
        let text = match again {
            0 => format!("group {group} has given {} to others", counted(places.len() as u64, "partition")),
            1 => format!("group {group} has given partitions to others: one record comes again there"),
            again => {
                format!("group {group} has given partitions to others: {again} records come again there")
            }
        };
        self.app.printer.warn(&text);
    }

    fn group_failure(&self, error: &Error) -> Failure {
        let group = self.part.as_ref().map_or("", |part| part.member.group());
        let failure = self.log.failure(error);
        let text = format!("group '{group}': {}", failure.message);
        let failure = Failure { message: text, ..failure };
        match error.code() {
            Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL) => {
                failure.tip("its members divide partitions in another way: --assignor range, or roundrobin")
            }
            Some(ErrorCode::FENCED_INSTANCE_ID) => {
                failure.tip("somebody else has joined under this --instance")
            }
            Some(ErrorCode::INVALID_SESSION_TIMEOUT) => {
                failure.tip("--session-timeout 10s: brokers take 6 s to 30 min unless told otherwise")
            }
            _ => failure,
        }
    }
}

/// How much of what is read is this reader's.
fn tell(app: &App, part: &Part, of: usize) {
    let own = part.own.len();
    app.printer.detail(&format!(
        "group {}: {own} of {}",
        part.member.group(),
        counted(of as u64, "partition")
    ));
}

/// Where partitions are, for those that ask of a place in a failure.
pub fn place_of(place: &Place, offset: i64) -> String {
    format!("{} p{} @{offset}", place.0, place.1)
}
