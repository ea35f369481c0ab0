//! The group coordinator: who is in a group, who gets what, and how far a group has read.
//!
//! A driver calls it with the time, does what comes out in the order in which it comes out, and calls
//! [`Groups::tick`] when [`Groups::deadline`] has come.

mod classic;
mod consumer;
mod message;
mod offsets;
mod record;
mod subscription;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Now;
use crate::log::wire::ErrorCode;
use classic::{Classic, State};
use consumer::ConsumerGroup;
use offsets::Offsets;

pub use consumer::{Beat, Beaten, Catalog, Expression, Parts, Phase};
pub use message::{
    Caller, Committed, Described, DescribedMember, DescribedNext, GroupValue, Join, Joined, JoinedMember,
    Leaver, Listed, MemberValue, NextMember, Output, Place, Record, Sync, Synced, Ticket,
};
pub use offsets::{Commit, Commits, Fetched};
pub use record::{KeyError, Restored};

/// Longest name of a group, in bytes: names of members are made of it and kept.
pub const GROUP_NAME_BYTES_MAX: usize = 4096;

/// How groups are coordinated. The names in the comments are Kafka's.
#[derive(Debug, Clone)]
pub struct Config {
    /// Shortest session timeout, in ms (`group.min.session.timeout.ms`). Kafka wants 6 s; tests want their consumers
    /// to be missed sooner.
    pub session_timeout_min_ms: i32,
    /// Longest session timeout, in ms (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: i32,
    /// How long the first members of an empty group wait for more (`group.initial.rebalance.delay.ms`). Kafka waits 3 s
    /// to spare large groups some rebalances; a test, or one consumer at a terminal, is better off without.
    pub first_wait: Duration,
    /// Most members of a group (`group.max.size`).
    pub members_max: usize,
    /// Most bytes of what a consumer remembers beside an offset (`offset.metadata.max.bytes`).
    pub metadata_bytes_max: usize,
    /// How long offsets are kept when nobody is in the group any more, in ms (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// How often old offsets are looked for (`offsets.retention.check.interval.ms`).
    pub expiry_interval: Duration,
    /// A member of a next-generation group that is silent for so long is out (`group.consumer.session.timeout.ms`).
    pub consumer_session: Duration,
    /// How often it is to be heard of, in ms (`group.consumer.heartbeat.interval.ms`). Kafka says 5 s, and a member hears no
    /// sooner that it has to give partitions up; a test or somebody at a terminal does not want to wait for so long.
    pub heartbeat_interval_ms: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 10,
            session_timeout_max_ms: 1_800_000,
            first_wait: Duration::ZERO,
            members_max: 10_000,
            metadata_bytes_max: 4096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            expiry_interval: Duration::from_secs(600),
            consumer_session: Duration::from_secs(45),
            heartbeat_interval_ms: 1000,
        }
    }
}

/// How often members of a group of the next generation are to be heard of, where that was set of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Who is silent for so long is out.
    pub session: Duration,
    /// How often a member is to be heard of, in ms.
    pub interval_ms: i32,
}

/// One group: its members, and where it is.
#[derive(Debug)]
struct Group {
    /// Empty if it is of the next generation.
    classic: Classic,
    /// What it is if it is of the next generation.
    consumer: Option<ConsumerGroup>,
    offsets: Offsets,
    /// When it is in the timers.
    scheduled: Option<Instant>,
    /// There is a record of it.
    is_stored: bool,
}

impl Group {
    /// Nobody is in it.
    fn is_empty(&self) -> bool {
        self.classic.is_empty() && self.consumer.as_ref().is_none_or(ConsumerGroup::is_empty)
    }

    fn deadline(&self) -> Option<Instant> {
        let next = self.consumer.as_ref().and_then(ConsumerGroup::deadline);
        [self.classic.deadline(), next].into_iter().flatten().min()
    }
}

/// All groups of this broker.
#[derive(Debug)]
pub struct Groups {
    config: Config,
    /// Of groups of which it was set, whether they are there or not.
    paces: BTreeMap<String, Pace>,
    groups: BTreeMap<Arc<str>, Group>,
    /// When a group has something to do by itself, at the latest.
    timers: BTreeSet<(Instant, Arc<str>)>,
    next_expiry: Instant,
    rng: fastrand::Rng,
}

impl Groups {
    /// None yet. `rng` makes the ids of members.
    pub fn new(now: Now, config: Config, rng: fastrand::Rng) -> Self {
        let next_expiry = now.instant + config.expiry_interval;
        let (paces, groups, timers) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { config, paces, groups, timers, next_expiry, rng }
    }

    /// Sets how often members of a group are to be heard of; each from its next heartbeat on. None is the default.
    pub fn set_pace(&mut self, group: &str, pace: Option<Pace>) {
        match pace {
            Some(pace) => drop(self.paces.insert(group.to_owned(), pace)),
            None => drop(self.paces.remove(group)),
        }
    }

    fn pace(&self, group: &str) -> Pace {
        let (session, interval_ms) = (self.config.consumer_session, self.config.heartbeat_interval_ms);
        self.paces.get(group).copied().unwrap_or(Pace { session, interval_ms })
    }

    /// When [`Groups::tick`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.timers.first().map(|(at, _)| *at);
        first.into_iter().chain([self.next_expiry]).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.instant
        {
            let Some((_, id)) = self.timers.pop_first() else { break };
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.scheduled = None;
            group.classic.tick(now, out);
            if let Some(consumer) = &mut group.consumer {
                consumer.tick(now, out);
                self.become_classic_if_all_are(now, &id, out);
            }
            self.settle(&id, out);
        }
        if self.next_expiry <= now.instant {
            self.next_expiry = now.instant + self.config.expiry_interval;
            self.expire(now, out);
        }
    }

    /// Notes records and timers after something happened to a group.
    fn settle(&mut self, id: &str, out: &[Output]) {
        let Some((id, group)) = self.groups.get_key_value(id).map(|(id, _)| Arc::clone(id)).and_then(|id| {
            let group = self.groups.get_mut(&id)?;
            Some((id, group))
        }) else {
            return;
        };
        let is_own = |output: &Output| matches!(output, Output::Store(Record::Group { group, value: Some(_) }) if **group == *id);
        group.is_stored |= out.iter().any(is_own);
        let wanted = group.deadline();
        // An entry that comes too early is looked at and moved; a member's sign of life need not touch it.
        let sooner = match (group.scheduled, wanted) {
            (Some(scheduled), Some(wanted)) => wanted < scheduled,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if sooner && let Some(wanted) = wanted {
            if let Some(before) = group.scheduled.replace(wanted) {
                self.timers.remove(&(before, Arc::clone(&id)));
            }
            self.timers.insert((wanted, id));
        }
    }

    fn group_or_new(&mut self, id: &str, now: Now) -> &mut Group {
        let first_wait = self.config.first_wait;
        self.groups.entry(id.into()).or_insert_with(|| Group {
            classic: Classic::new(id, first_wait, now),
            consumer: None,
            offsets: Offsets::default(),
            scheduled: None,
            is_stored: false,
        })
    }

    fn new_member_id(&mut self, prefix: &str) -> String {
        let bits = self.rng.u128(..);
        let hex = format!("{bits:032x}");
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{prefix}-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }

    /// Someone wants to be a member. The answer comes out now or when the others are here.
    pub fn join(
        &mut self,
        now: Now,
        ticket: Ticket,
        join: Join,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) {
        let id = join.group.clone();
        if let Err(error) = self.check_join(&join) {
            return out.push(Output::Joined(ticket, Joined::refused(error, &join.member_id)));
        }
        self.become_classic_if_empty(&id, out);
        if self.is_next(&id) {
            self.join_mixed(now, ticket, join, catalog, out);
        } else if join.member_id.is_empty() {
            self.join_anew(now, ticket, join, out);
        } else {
            self.join_again(now, ticket, join, out);
        }
        self.settle(&id, out);
    }

    fn check_join(&self, join: &Join) -> Result<(), ErrorCode> {
        check_name(&join.group)?;
        let range = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        if !range.contains(&join.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        let Some(group) = self.groups.get(&*join.group) else {
            // Only an id that was given out here is good.
            return if join.member_id.is_empty() { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        };
        if group.consumer.as_ref().is_some_and(|consumer| !consumer.is_empty()) {
            return Ok(());
        }
        let classic = &group.classic;
        let known = classic.members.contains_key(&join.member_id);
        let replaced = join.instance_id.as_ref().and_then(|instance| classic.statics.get(instance));
        if !known && replaced.is_none() && classic.members.len() >= self.config.members_max {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let in_place_of = if known { Some(join.member_id.as_str()) } else { replaced.map(String::as_str) };
        if !classic.accepts(&join.protocol_type, &join.protocols, in_place_of) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    fn join_anew(&mut self, now: Now, ticket: Ticket, join: Join, out: &mut Vec<Output>) {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            let refused = Joined::refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "");
            return out.push(Output::Joined(ticket, refused));
        }
        let id = self.new_member_id(join.instance_id.as_ref().unwrap_or(&join.client_id));
        let session_timeout = Duration::from_millis(u64::try_from(join.session_timeout_ms).unwrap_or(0));
        let group = &mut self.group_or_new(&join.group, now).classic;
        let replaced = join.instance_id.as_ref().and_then(|instance| group.statics.get(instance).cloned());
        match replaced {
            Some(old) => group.replace(now, ticket, (&old, id), join, out),
            None if join.needs_member_id && join.instance_id.is_none() => {
                group.pending.insert(id.clone(), now.instant + session_timeout);
                out.push(Output::Joined(ticket, Joined::refused(ErrorCode::MEMBER_ID_REQUIRED, &id)));
            }
            None => group.add(now, ticket, id, join, out),
        }
    }

    fn join_again(&mut self, now: Now, ticket: Ticket, join: Join, out: &mut Vec<Output>) {
        let id = join.member_id.clone();
        let group = &mut self.group_or_new(&join.group, now).classic;
        if group.pending.contains_key(&id) && join.instance_id.is_none() {
            return group.add(now, ticket, id, join, out);
        }
        match known_member(group, &id, join.instance_id.as_deref()) {
            Ok(()) => group.rejoin(now, ticket, join, out),
            Err(error) => out.push(Output::Joined(ticket, Joined::refused(error, &id))),
        }
    }

    /// A member asks for its assignment, or the leader brings everyone's.
    pub fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        sync: Sync,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) {
        let by = &sync.by;
        let id = by.group.clone();
        if self.is_next(&id) {
            self.sync_mixed(now, ticket, sync, catalog, out);
            return self.settle(&id, out);
        }
        let checked = self.member_of(by).and_then(|group| {
            let same = |said: &Option<String>, ours: &Option<String>| said.is_none() || said == ours;
            if !same(&sync.protocol_type, &group.protocol_type) || !same(&sync.protocol, &group.protocol) {
                return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
            }
            Ok(group)
        });
        match checked {
            Ok(group) => group.sync(now, ticket, &by.member_id, sync.assignments, out),
            Err(error) => out.push(Output::Synced(ticket, Synced::refused(error))),
        }
        self.settle(&id, out);
    }

    /// A sign of life. Says whether the member is to join again.
    pub fn heartbeat(&mut self, now: Now, by: &Caller) -> ErrorCode {
        if self.is_next(&by.group) {
            let error = self.heartbeat_mixed(now, by);
            self.settle(&by.group, &[]);
            return error;
        }
        match self.member_of(by) {
            Err(error) => error,
            Ok(group) => {
                group.touch(&by.member_id, now);
                match group.state {
                    State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
                    State::Preparing => ErrorCode::REBALANCE_IN_PROGRESS,
                    State::Completing | State::Stable => ErrorCode::NONE,
                }
            }
        }
    }

    /// Members leave. For each: whether it was one.
    pub fn leave(
        &mut self,
        now: Now,
        group: &str,
        leavers: &[Leaver],
        out: &mut Vec<Output>,
    ) -> Vec<ErrorCode> {
        if self.is_next(group) {
            let results = self.leave_mixed(now, group, leavers, out);
            self.settle(group, out);
            return results;
        }
        let Some(found) = self.groups.get_mut(group) else {
            return leavers.iter().map(|_| ErrorCode::UNKNOWN_MEMBER_ID).collect();
        };
        let classic = &mut found.classic;
        let mut results = Vec::with_capacity(leavers.len());
        for leaver in leavers {
            let known = match (&leaver.instance_id, leaver.member_id.as_str()) {
                (Some(instance), "") => {
                    classic.statics.get(instance).cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
                }
                (instance, id) => known_member(classic, id, instance.as_deref()).map(|()| id.to_owned()),
            };
            results.push(match known {
                Ok(id) => {
                    classic.remove(&id, ErrorCode::UNKNOWN_MEMBER_ID, now, out);
                    ErrorCode::NONE
                }
                Err(_) if classic.pending.remove(&leaver.member_id).is_some() => ErrorCode::NONE,
                Err(error) => error,
            });
        }
        // Someone who was given an id and does not come back is not waited for.
        classic.look_again(now, out);
        self.settle(group, out);
        results
    }

    /// The group of a caller who is a member of its generation.
    fn member_of(&mut self, by: &Caller) -> Result<&mut Classic, ErrorCode> {
        let group = self.groups.get_mut(&*by.group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let classic = &mut group.classic;
        known_member(classic, &by.member_id, by.instance_id.as_deref())?;
        if by.generation != classic.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(classic)
    }
}

/// Whether there is a member of that id, and whether a static name is still its own.
fn known_member(group: &Classic, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
    if let Some(instance) = instance {
        match group.statics.get(instance) {
            None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(owner) if owner != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(_) => {}
        }
    }
    if group.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
}

/// Groups have names.
fn check_name(group: &str) -> Result<(), ErrorCode> {
    match group.len() {
        0 => Err(ErrorCode::INVALID_GROUP_ID),
        len if len > GROUP_NAME_BYTES_MAX => Err(ErrorCode::INVALID_GROUP_ID),
        _ => Ok(()),
    }
}
