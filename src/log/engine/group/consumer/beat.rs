//! A heartbeat of a next-generation member: it says what it wants and has, and hears what it is to have.

use std::collections::BTreeSet;

use super::parts::{self, Parts};
use super::{AWAY, Assignor, Catalog, ConsumerGroup, Expression, LEAVES, Member, Phase};
use crate::log::engine::Now;
use crate::log::engine::group::classic::Classic;
use crate::log::engine::group::message::{Output, Record};
use crate::log::engine::group::{Group, Groups, Pace};
use crate::log::wire::group_record::MemberMetadata;
use crate::log::wire::{ErrorCode, Uuid};

/// Members' ids are made by clients since version 1; what is longer than this is no id.
const MEMBER_ID_BYTES_MAX: usize = 4096;

/// A heartbeat (`ConsumerGroupHeartbeat`). What is none has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The group.
    pub group: String,
    /// The member's id; since version 1 it makes that itself.
    pub member_id: String,
    /// The epoch it has reached; 0 to join, -1 to leave, -2 to leave for a while.
    pub epoch: i32,
    /// Its lasting name.
    pub instance_id: Option<String>,
    /// Rack or zone that it stands in.
    pub rack_id: Option<String>,
    /// For people.
    pub client_id: String,
    /// For people.
    pub client_host: String,
    /// How long it may take to give partitions up, in ms.
    pub rebalance_timeout_ms: Option<i32>,
    /// Topics that it wants.
    pub topics: Option<Vec<String>>,
    /// Topics that it wants, as a regular expression; empty for none any more.
    pub regex: Option<String>,
    /// Who is to divide.
    pub assignor: Option<String>,
    /// What it has.
    pub owned: Option<Parts>,
    /// Without an id of its own it gets one (version 0).
    pub is_given_id: bool,
}

/// The answer to [`Beat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    /// None is success.
    pub error: ErrorCode,
    /// What is wrong, in words.
    pub message: Option<String>,
    /// The member's id.
    pub member_id: String,
    /// The epoch it has reached.
    pub epoch: i32,
    /// When it is to be heard of next, in ms.
    pub interval_ms: i32,
    /// What it is to have; none if that has not changed.
    pub assignment: Option<Parts>,
}

type Refusal = (ErrorCode, String);

fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err((error, message.into()))
}

/// Who a heartbeat is from.
enum From {
    Known(String),
    New(String),
    /// A static member that was started anew.
    InPlaceOf(String, String),
}

impl Groups {
    /// A member of a next-generation group says that it is there. The answer is good when the records in `out` are safe.
    pub fn beat(&mut self, now: Now, beat: &Beat, catalog: &dyn Catalog, out: &mut Vec<Output>) -> Beaten {
        let done = check(beat).and_then(|()| match beat.epoch {
            ..0 => self.leave_next(now, beat, out),
            0 => self.join_next(now, beat, catalog, out),
            _ => self.go_on(now, beat, catalog, out),
        });
        self.settle(&beat.group, out);
        done.unwrap_or_else(|(error, message)| Beaten {
            error,
            message: Some(message),
            member_id: beat.member_id.clone(),
            epoch: 0,
            interval_ms: 0,
            assignment: None,
        })
    }

    fn join_next(
        &mut self,
        now: Now,
        beat: &Beat,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) -> Result<Beaten, Refusal> {
        let new_id = match (beat.member_id.as_str(), beat.is_given_id) {
            ("", true) => self.new_uuid(),
            (id, _) => id.to_owned(),
        };
        let members_max = self.config.members_max;
        let found = self.group_or_new(&beat.group, now);
        if found.consumer.is_none() {
            become_next(&beat.group, found, now, catalog, out)?;
        }
        let Some(group) = &mut found.consumer else { return no_group(&beat.group) };
        let from = who_joins(group, beat, new_id)?;
        if matches!(from, From::New(_)) && group.members.len() >= members_max {
            let message = format!("the group has {members_max} members, and no more are let in");
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED, message);
        }
        let was_replaced = matches!(from, From::InPlaceOf(..));
        let (id, is_new) = match from {
            From::New(id) => (id, true),
            From::Known(id) => {
                group.start_over(&id);
                (id, false)
            }
            From::InPlaceOf(old, id) => {
                group.replace(&old, &id, out);
                (id, false)
            }
        };
        self.beaten(now, beat, (&id, is_new, was_replaced), catalog, out)
    }

    fn go_on(
        &mut self,
        now: Now,
        beat: &Beat,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) -> Result<Beaten, Refusal> {
        let group = self.groups.get(&*beat.group).and_then(|group| group.consumer.as_ref());
        let Some(group) = group else { return no_group(&beat.group) };
        let member = known(group, &beat.member_id, beat.instance_id.as_deref())?;
        check_epoch(member, beat)?;
        self.beaten(now, beat, (&beat.member_id, false, false), catalog, out)
    }

    /// What a heartbeat does once it is known who it is from.
    fn beaten(
        &mut self,
        now: Now,
        beat: &Beat,
        (id, is_new, was_replaced): (&str, bool, bool),
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) -> Result<Beaten, Refusal> {
        let Pace { session, interval_ms } = self.pace(&beat.group);
        let Some(group) = self.groups.get_mut(&*beat.group).and_then(|group| group.consumer.as_mut()) else {
            return no_group(&beat.group);
        };
        let wants_changed = group.take_in(now, id, beat, out) || is_new;
        group.catch_up(now, wants_changed, was_replaced, catalog, out);
        let changed = group.reconcile(now, id, beat.owned.as_ref(), out);
        let Some(member) = group.members.get_mut(id) else { return no_group(&beat.group) };
        member.deadline = now.instant + session;
        let says_all = beat.rebalance_timeout_ms.is_some()
            && (beat.topics.is_some() || beat.regex.is_some())
            && beat.owned.is_some();
        let assignment = (changed || beat.epoch == 0 || says_all).then(|| member.assigned.clone());
        Ok(Beaten {
            error: ErrorCode::NONE,
            message: None,
            member_id: id.to_owned(),
            epoch: member.epoch,
            interval_ms,
            assignment,
        })
    }

    fn leave_next(&mut self, now: Now, beat: &Beat, out: &mut Vec<Output>) -> Result<Beaten, Refusal> {
        let session = self.pace(&beat.group).session;
        let group = self.groups.get_mut(&*beat.group).and_then(|group| group.consumer.as_mut());
        let Some(group) = group else { return no_group(&beat.group) };
        known(group, &beat.member_id, beat.instance_id.as_deref())?;
        if beat.epoch == LEAVES {
            group.take_out(&beat.member_id, out);
            group.bump(now, out);
        } else if let Some(before) = group.members.get(&beat.member_id) {
            // Its partitions are kept for it, until it is silent for too long.
            let mut member = before.clone();
            member.epoch = AWAY;
            member.phase = Phase::Stable;
            (member.revoking, member.late) = (Parts::new(), None);
            member.deadline = now.instant + session;
            out.push(group.current(&beat.member_id, &member));
            group.put(&beat.member_id, member);
        }
        self.become_classic_if_all_are(now, &beat.group, out);
        Ok(Beaten {
            error: ErrorCode::NONE,
            message: None,
            member_id: beat.member_id.clone(),
            epoch: beat.epoch,
            interval_ms: 0,
            assignment: None,
        })
    }

    /// The expressions whose finds the next heartbeat or join wants of its catalog: those of a group that has not seen that
    /// version of it.
    pub fn expressions(&self, group: &str, version: u64) -> BTreeSet<String> {
        let group = self.groups.get(group).and_then(|group| group.consumer.as_ref());
        let Some(group) = group.filter(|group| group.seen < Some(version)) else { return BTreeSet::new() };
        group.expressions().into_iter().cloned().collect()
    }

    /// An id as Kafka makes them, which does not look like a flag.
    fn new_uuid(&mut self) -> String {
        loop {
            let id = Uuid(self.rng.u128(..).to_be_bytes()).to_string();
            if !id.starts_with('-') {
                return id;
            }
        }
    }
}

/// A classic group becomes one of the next generation, with its members if it has any.
fn become_next(
    id: &str,
    found: &mut Group,
    now: Now,
    catalog: &dyn Catalog,
    out: &mut Vec<Output>,
) -> Result<(), Refusal> {
    let was_stored = found.is_stored;
    let group = if found.classic.is_empty() {
        ConsumerGroup::new(id, now)
    } else {
        match super::migration::from_classic(&mut found.classic, now, catalog, out) {
            Some(group) => group,
            None => {
                let message = format!(
                    "Group {id} has members that are no consumers and cannot become one group with them."
                );
                return refuse(ErrorCode::GROUP_ID_NOT_FOUND, message);
            }
        }
    };
    if was_stored {
        out.push(Output::Store(Record::Group { group: id.to_owned(), value: None }));
        found.is_stored = false;
    }
    found.classic = Classic::new(id, found.classic.first_wait(), now);
    if !group.is_empty() {
        out.extend(group.records().into_iter().map(Output::Store));
    }
    found.consumer = Some(group);
    Ok(())
}

fn no_group<T>(id: &str) -> Result<T, Refusal> {
    refuse(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} is not a consumer group."))
}

/// What Kafka refuses whatever the group is.
fn check(beat: &Beat) -> Result<(), Refusal> {
    let invalid = |message: &str| refuse(ErrorCode::INVALID_REQUEST, message);
    let is_blank = |text: &Option<String>| text.as_ref().is_some_and(|text| text.is_empty());
    if crate::log::engine::group::check_name(&beat.group).is_err() {
        return invalid("GroupId can't be empty.");
    }
    if is_blank(&beat.instance_id) || is_blank(&beat.rack_id) {
        return invalid("InstanceId and RackId can't be empty.");
    }
    if beat.member_id.len() > MEMBER_ID_BYTES_MAX {
        return invalid("MemberId is too long.");
    }
    if beat.member_id.is_empty() && !(beat.epoch == 0 && beat.is_given_id) {
        return invalid("MemberId can't be empty.");
    }
    match beat.epoch {
        ..AWAY => return invalid("MemberEpoch is invalid."),
        AWAY if beat.instance_id.is_none() => return invalid("InstanceId can't be null."),
        0 => {
            if beat.rebalance_timeout_ms.is_none() {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if beat.owned.as_ref().is_some_and(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if beat.topics.is_none() && beat.regex.as_ref().is_none_or(String::is_empty) {
                return invalid("SubscribedTopicNames or SubscribedTopicRegex must be set in first request.");
            }
        }
        _ => {}
    }
    if let Some(name) = &beat.assignor
        && Assignor::from_name(name).is_none()
    {
        let known = Assignor::ALL.map(Assignor::name).join(", ");
        let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
        return refuse(ErrorCode::UNSUPPORTED_ASSIGNOR, message);
    }
    if let Some(regex) = beat.regex.as_deref().filter(|regex| !regex.is_empty())
        && let Err(error) = Expression::compile(regex)
    {
        let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.");
        return refuse(ErrorCode::INVALID_REGULAR_EXPRESSION, message);
    }
    Ok(())
}

fn who_joins(group: &ConsumerGroup, beat: &Beat, new_id: String) -> Result<From, Refusal> {
    let known = |id: String| if group.members.contains_key(&id) { From::Known(id) } else { From::New(id) };
    let Some(instance) = &beat.instance_id else { return Ok(known(new_id)) };
    let Some(owner) = group.statics.get(instance) else { return Ok(known(new_id)) };
    if *owner == new_id {
        return Ok(From::Known(new_id));
    }
    if group.members.get(owner).is_some_and(|member| member.epoch != AWAY) {
        let message = format!(
            "Static member {new_id} with instance id {instance} cannot join the group because the instance id is owned by member {owner}."
        );
        return refuse(ErrorCode::UNRELEASED_INSTANCE_ID, message);
    }
    Ok(From::InPlaceOf(owner.clone(), new_id))
}

/// The member of that id, whose lasting name is still its own.
fn known<'a>(group: &'a ConsumerGroup, id: &str, instance: Option<&str>) -> Result<&'a Member, Refusal> {
    let unknown =
        || (ErrorCode::UNKNOWN_MEMBER_ID, format!("Member {id} is not a member of group {}.", group.id));
    if let Some(instance) = instance {
        let owner = group
            .statics
            .get(instance)
            .ok_or_else(|| (ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance} is unknown.")))?;
        if owner != id {
            let message =
                format!("Static member {id} with instance id {instance} was fenced by member {owner}.");
            return refuse(ErrorCode::FENCED_INSTANCE_ID, message);
        }
    }
    group.members.get(id).ok_or_else(unknown)
}

/// A member is at the epoch where the coordinator has it, or did not get the last answer.
fn check_epoch(member: &Member, beat: &Beat) -> Result<(), Refusal> {
    let missed_it = || {
        let has_no_more = beat.owned.as_ref().is_some_and(|owned| parts::is_within(owned, &member.assigned));
        beat.epoch == member.previous_epoch && has_no_more
    };
    if beat.epoch == member.epoch || beat.epoch < member.epoch && missed_it() {
        return Ok(());
    }
    let message = format!(
        "The consumer group member has epoch {} and the coordinator knows epoch {}. The member must abandon all its partitions and rejoin.",
        beat.epoch, member.epoch
    );
    refuse(ErrorCode::FENCED_MEMBER_EPOCH, message)
}

impl ConsumerGroup {
    /// A member that joins again has nothing.
    fn start_over(&mut self, id: &str) {
        let Some(before) = self.members.get(id) else { return };
        let member = Member {
            epoch: 0,
            previous_epoch: -1,
            phase: Phase::Stable,
            assigned: Parts::new(),
            revoking: Parts::new(),
            late: None,
            ..before.clone()
        };
        self.put(id, member);
    }

    /// A static member under a new id has what it had and is to have.
    pub(super) fn replace(&mut self, old: &str, id: &str, out: &mut Vec<Output>) {
        let (Some(before), target) = (self.members.get(old).cloned(), self.target.get(old).cloned()) else {
            return;
        };
        self.take_out(old, out);
        let member = Member { epoch: 0, previous_epoch: 0, late: None, ..before };
        if let Some(instance) = &member.wants.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        out.push(self.metadata(id, &member.wants));
        if let Some(target) = target {
            let (group, member, value) = (self.id.clone(), id.to_owned(), Some(target.clone()));
            out.push(Output::Store(Record::Target { group, member, value }));
            self.target.insert(id.to_owned(), target);
        }
        self.put(id, member);
    }

    fn metadata(&self, id: &str, wants: &MemberMetadata) -> Output {
        let value = Some(Box::new(wants.clone()));
        Output::Store(Record::Member { group: self.id.clone(), member: id.to_owned(), value })
    }

    /// Takes in what a member says that it wants. Says whether that is another than before.
    fn take_in(&mut self, now: Now, id: &str, beat: &Beat, out: &mut Vec<Output>) -> bool {
        let before = self.members.get(id).map(|member| member.wants.clone());
        let mut wants = before.clone().unwrap_or_default();
        (wants.client_id, wants.client_host) = (beat.client_id.clone(), beat.client_host.clone());
        wants.classic = None;
        if beat.instance_id.is_some() {
            wants.instance_id.clone_from(&beat.instance_id);
        }
        if beat.rack_id.is_some() {
            wants.rack_id.clone_from(&beat.rack_id);
        }
        if let Some(timeout) = beat.rebalance_timeout_ms {
            wants.rebalance_timeout_ms = timeout;
        }
        if let Some(topics) = &beat.topics {
            wants.subscribed_topic_names.clone_from(topics);
            wants.subscribed_topic_names.sort_unstable();
            wants.subscribed_topic_names.dedup();
        } else if beat.epoch == 0 {
            wants.subscribed_topic_names.clear();
        }
        match &beat.regex {
            Some(regex) => {
                wants.subscribed_topic_regex = Some(regex.clone()).filter(|regex| !regex.is_empty())
            }
            None if beat.epoch == 0 => wants.subscribed_topic_regex = None,
            None => {}
        }
        if beat.assignor.is_some() {
            wants.server_assignor.clone_from(&beat.assignor);
        }
        self.want(now, id, before.as_ref(), wants, out)
    }

    /// A member wants this now. Says whether its topics are others than before.
    pub(super) fn want(
        &mut self,
        now: Now,
        id: &str,
        before: Option<&MemberMetadata>,
        wants: MemberMetadata,
        out: &mut Vec<Output>,
    ) -> bool {
        let changed = before.is_none_or(|before| {
            before.subscribed_topic_names != wants.subscribed_topic_names
                || before.subscribed_topic_regex != wants.subscribed_topic_regex
        });
        if before != Some(&wants) {
            if let Some(instance) = &wants.instance_id {
                self.statics.insert(instance.clone(), id.to_owned());
            }
            out.push(self.metadata(id, &wants));
            self.members.entry(id.to_owned()).or_insert_with(|| Member::new(now)).wants = wants;
        }
        changed
    }
}
