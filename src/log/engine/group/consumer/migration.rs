//! Members of the classic protocol in groups of the next generation, and groups that go from one to the other: consumers can
//! be moved one by one, and back.

use std::time::Duration;

use super::parts::{self, Parts};
use super::{Catalog, ConsumerGroup, Member, Phase};
use crate::log::engine::Now;
use crate::log::engine::group::Groups;
use crate::log::engine::group::classic::Classic;
use crate::log::engine::group::message::{
    Caller, GroupValue, Join, Joined, Leaver, MemberValue, Output, Sync, Synced, Ticket,
};
use crate::log::wire::ErrorCode;
use crate::log::wire::consumer_protocol::{
    PROTOCOL_TYPE as CONSUMER, Partitions, Subscription, assignment_to_bytes, parse_assignment,
};
use crate::log::wire::group_record::{ClassicMetadata, ClassicProtocol, MemberMetadata};

/// The group of the next generation that a classic one of consumers becomes; none if it has others. Its members are told to join
/// again, and have what they had.
pub(super) fn from_classic(
    classic: &mut Classic,
    now: Now,
    catalog: &dyn Catalog,
    out: &mut Vec<Output>,
) -> Option<ConsumerGroup> {
    if classic.protocol_type.as_deref() != Some(CONSUMER) {
        return None;
    }
    let mut group = ConsumerGroup::new(&classic.id, now);
    (group.epoch, group.assignment_epoch) = (classic.generation, classic.generation);
    for (id, one) in &classic.members {
        let (_, metadata) = one.protocols.first()?;
        let said = Subscription::parse(metadata).ok()?;
        let assigned = parts_of(&parse_assignment(&one.assignment).ok()?, catalog);
        let session_timeout_ms = millis(one.session_timeout);
        let mut member = Member::new(now);
        member.wants = MemberMetadata {
            instance_id: one.instance_id.clone(),
            client_id: one.client_id.clone(),
            client_host: one.client_host.clone(),
            rebalance_timeout_ms: millis(one.rebalance_timeout),
            classic: Some(ClassicMetadata { session_timeout_ms, protocols: protocols(&one.protocols) }),
            ..wants(said)
        };
        (member.epoch, member.previous_epoch) = (classic.generation, classic.generation);
        member.deadline = now.instant + one.session_timeout;
        group.target.insert(id.clone(), assigned.clone());
        member.assigned = assigned;
        if let Some(instance) = &one.instance_id {
            group.statics.insert(instance.clone(), id.clone());
        }
        group.put(id, member);
    }
    group.look_at_topics(catalog);
    classic.let_go(ErrorCode::REBALANCE_IN_PROGRESS, out);
    Some(group)
}

fn wants(said: Subscription) -> MemberMetadata {
    let mut names = said.topics;
    names.sort_unstable();
    names.dedup();
    MemberMetadata { subscribed_topic_names: names, rack_id: said.rack, ..MemberMetadata::default() }
}

fn protocols(protocols: &[(String, bytes::Bytes)]) -> Vec<ClassicProtocol> {
    let one = |(name, metadata): &(String, bytes::Bytes)| ClassicProtocol {
        name: name.clone(),
        metadata: metadata.clone(),
    };
    protocols.iter().map(one).collect()
}

fn parts_of(named: &Partitions, catalog: &dyn Catalog) -> Parts {
    let mut all = Parts::new();
    for (name, partitions) in named {
        let Some((id, _)) = catalog.topic(name) else { continue };
        partitions.iter().for_each(|partition| parts::insert(&mut all, (id, *partition)));
    }
    all
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn session_timeout(member: &Member) -> Duration {
    let ms = member.wants.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl ConsumerGroup {
    /// The first of these protocols that all members of the classic protocol know, beside the one of that id.
    fn common_protocol(&self, id: &str, names: &[String]) -> Option<String> {
        let classic = self.members.iter().filter(|(other, _)| *other != id);
        let known: Vec<&ClassicMetadata> =
            classic.filter_map(|(_, member)| member.wants.classic.as_ref()).collect();
        let by_all = |name: &&String| {
            known.iter().all(|one| one.protocols.iter().any(|protocol| protocol.name == **name))
        };
        names.iter().find(by_all).cloned()
    }

    /// The member of the classic protocol that asks.
    fn classic_member(&self, by: &Caller) -> Result<&Member, ErrorCode> {
        if let Some(instance) = &by.instance_id {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(owner) if *owner != by.member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        let member = self.members.get(&by.member_id).filter(|member| member.is_classic());
        let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch != by.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(member)
    }

    /// Whether someone may commit offsets: a member at its epoch.
    pub(in crate::log::engine::group) fn knows(&self, by: &Caller) -> Result<(), ErrorCode> {
        match self.members.get(&by.member_id) {
            Some(member) if member.is_classic() => self.classic_member(by).map(drop),
            _ => self.is_at(&by.member_id, by.generation),
        }
    }

    /// Whether there is such a member at such an epoch.
    pub(in crate::log::engine::group) fn is_at(&self, id: &str, epoch: i32) -> Result<(), ErrorCode> {
        match self.members.get(id) {
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(member) if member.epoch != epoch => Err(ErrorCode::STALE_MEMBER_EPOCH),
            Some(_) => Ok(()),
        }
    }

    /// Whether a member of the classic protocol is to join again: to give up, to take, or because the group has moved on.
    fn is_to_join(&self, id: &str, member: &Member) -> bool {
        let is_missing = |part| {
            !parts::contains(&member.assigned, part) && self.owners.get(&part).is_none_or(|owner| owner == id)
        };
        member.epoch < self.epoch
            || match member.phase {
                Phase::Stable => false,
                Phase::Unrevoked => true,
                Phase::Unreleased => {
                    self.target.get(id).is_some_and(|target| parts::each(target).any(is_missing))
                }
            }
    }
}

impl Groups {
    /// Whether members of the classic protocol are members of a group of the next generation here.
    pub(in crate::log::engine::group) fn is_next(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.consumer.is_some())
    }

    /// A group of the next generation that nobody is in is a classic one for the next who joins.
    pub(in crate::log::engine::group) fn become_classic_if_empty(&mut self, id: &str, out: &mut Vec<Output>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        if let Some(mut consumer) = group.consumer.take_if(|consumer| consumer.is_empty()) {
            consumer.forget(out);
        }
    }

    /// `JoinGroup` in a group of the next generation.
    pub(in crate::log::engine::group) fn join_mixed(
        &mut self,
        now: Now,
        ticket: Ticket,
        join: Join,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) {
        let member_id = join.member_id.clone();
        match self.joined_mixed(now, join, catalog, out) {
            Ok(joined) => out.push(Output::Joined(ticket, joined)),
            Err((error, id)) => {
                let id = id.unwrap_or(member_id);
                out.push(Output::Joined(ticket, Joined::refused(error, &id)));
            }
        }
    }

    fn joined_mixed(
        &mut self,
        now: Now,
        join: Join,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) -> Result<Joined, (ErrorCode, Option<String>)> {
        let refused = |error| (error, None);
        let new_id = self.new_member_id(join.instance_id.as_ref().unwrap_or(&join.client_id));
        let members_max = self.config.members_max;
        let group = self.groups.get_mut(&*join.group).and_then(|group| group.consumer.as_mut());
        let group = group.ok_or(refused(ErrorCode::UNKNOWN_MEMBER_ID))?;
        let names: Vec<String> = join.protocols.iter().map(|(name, _)| name.clone()).collect();
        let said = join.protocols.first().and_then(|(_, metadata)| Subscription::parse(metadata).ok());
        let (Some(said), CONSUMER) = (said, join.protocol_type.as_str()) else {
            return Err(refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        };
        let protocol = group.common_protocol(&join.member_id, &names);
        let protocol = protocol.ok_or(refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL))?;
        let owner = join.instance_id.as_ref().and_then(|instance| group.statics.get(instance).cloned());
        let id = match (owner, join.member_id.as_str()) {
            (Some(owner), "") => {
                group.replace(&owner, &new_id, out);
                new_id
            }
            (Some(owner), id) if owner == id => owner,
            (Some(_), _) => return Err(refused(ErrorCode::FENCED_INSTANCE_ID)),
            (None, "") if join.needs_member_id && join.instance_id.is_none() => {
                return Err((ErrorCode::MEMBER_ID_REQUIRED, Some(new_id)));
            }
            (None, "") => new_id,
            (None, id) => id.to_owned(),
        };
        if !group.members.contains_key(&id) && group.members.len() >= members_max {
            return Err(refused(ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        let owned = parts_of(&said.owned, catalog);
        let before = group.members.get(&id).map(|member| member.wants.clone());
        let wants = MemberMetadata {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            classic: Some(ClassicMetadata {
                session_timeout_ms: join.session_timeout_ms,
                protocols: protocols(&join.protocols),
            }),
            ..wants(said)
        };
        let changed = group.want(now, &id, before.as_ref(), wants, out);
        group.catch_up(now, changed, false, catalog, out);
        group.reconcile(now, &id, Some(&owned), out);
        let Some(member) = group.members.get_mut(&id) else {
            return Err(refused(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        member.deadline = now.instant + session_timeout(member);
        member.late = Some(now.instant + member.rebalance_timeout());
        Ok(Joined {
            error: ErrorCode::NONE,
            generation: member.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(protocol),
            // The coordinator divides: no member does.
            leader: String::new(),
            skip_assignment: false,
            member_id: id,
            members: Vec::new(),
        })
    }

    /// `SyncGroup` in a group of the next generation.
    pub(in crate::log::engine::group) fn sync_mixed(
        &mut self,
        now: Now,
        ticket: Ticket,
        sync: Sync,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) {
        let synced = self.synced_mixed(now, sync, catalog);
        out.push(Output::Synced(ticket, synced.unwrap_or_else(Synced::refused)));
    }

    fn synced_mixed(&mut self, now: Now, sync: Sync, catalog: &dyn Catalog) -> Result<Synced, ErrorCode> {
        let group = self.groups.get_mut(&*sync.by.group).and_then(|group| group.consumer.as_mut());
        let group = group.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let member = group.classic_member(&sync.by)?;
        if sync.protocol_type.as_deref().is_some_and(|kind| kind != CONSUMER) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if member.epoch < group.epoch && member.phase != Phase::Unrevoked {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let said = member.wants.classic.as_ref().and_then(|classic| classic.protocols.first());
        let version =
            said.and_then(|first| Subscription::parse(&first.metadata).ok()).map_or(0, |said| said.version);
        let name = |(topic, partitions): (&_, &std::collections::BTreeSet<i32>)| {
            catalog.by_id(*topic).map(|(name, _)| (name, partitions.iter().copied().collect()))
        };
        let named: Partitions = member.assigned.iter().filter_map(name).collect();
        let protocol = sync.protocol.or_else(|| said.map(|first| first.name.clone()));
        if let Some(member) = group.members.get_mut(&sync.by.member_id) {
            member.deadline = now.instant + session_timeout(member);
            member.late = None;
        }
        Ok(Synced {
            error: ErrorCode::NONE,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            assignment: assignment_to_bytes(version, &named),
        })
    }

    /// `Heartbeat` in a group of the next generation.
    pub(in crate::log::engine::group) fn heartbeat_mixed(&mut self, now: Now, by: &Caller) -> ErrorCode {
        let group = self.groups.get_mut(&*by.group).and_then(|group| group.consumer.as_mut());
        let Some(group) = group else { return ErrorCode::UNKNOWN_MEMBER_ID };
        let is_to_join = match group.classic_member(by) {
            Err(error) => return error,
            Ok(member) => group.is_to_join(&by.member_id, member),
        };
        let Some(member) = group.members.get_mut(&by.member_id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        member.deadline = now.instant + session_timeout(member);
        if is_to_join {
            // It has so long to join.
            let until = now.instant + member.rebalance_timeout();
            member.late.get_or_insert(until);
            return ErrorCode::REBALANCE_IN_PROGRESS;
        }
        ErrorCode::NONE
    }

    /// `LeaveGroup` in a group of the next generation.
    pub(in crate::log::engine::group) fn leave_mixed(
        &mut self,
        now: Now,
        id: &str,
        leavers: &[Leaver],
        out: &mut Vec<Output>,
    ) -> Vec<ErrorCode> {
        let Some(group) = self.groups.get_mut(id).and_then(|group| group.consumer.as_mut()) else {
            return leavers.iter().map(|_| ErrorCode::UNKNOWN_MEMBER_ID).collect();
        };
        let mut results = Vec::with_capacity(leavers.len());
        let mut any = false;
        for leaver in leavers {
            let owner = leaver.instance_id.as_ref().map(|instance| group.statics.get(instance).cloned());
            let known = match (owner, leaver.member_id.as_str()) {
                (Some(None), _) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                (Some(Some(owner)), "") => Ok(owner),
                (Some(Some(owner)), id) if owner != id => Err(ErrorCode::FENCED_INSTANCE_ID),
                (_, id) if group.members.contains_key(id) => Ok(id.to_owned()),
                _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            };
            results.push(match known {
                Ok(member) => {
                    group.take_out(&member, out);
                    any = true;
                    ErrorCode::NONE
                }
                Err(error) => error,
            });
        }
        if any {
            group.bump(now, out);
            self.become_classic_if_all_are(now, id, out);
        }
        results
    }

    /// When the last member of the next generation has gone and there are classic ones, they are a classic group again, and
    /// divide among themselves.
    pub(in crate::log::engine::group) fn become_classic_if_all_are(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<Output>,
    ) {
        let first_wait = self.config.first_wait;
        let Some(group) = self.groups.get_mut(id) else { return };
        let all_classic = |consumer: &mut ConsumerGroup| {
            !consumer.is_empty() && consumer.members.values().all(Member::is_classic)
        };
        let Some(mut consumer) = group.consumer.take_if(all_classic) else { return };
        let value = classic_value(&consumer, now);
        consumer.forget(out);
        group.classic = Classic::restored(id, value, first_wait, now);
        out.push(Output::Store(group.classic.record()));
        group.classic.rebalance(now, out);
    }
}

/// The group as a classic one. What everyone has is not in it: they divide anew at once, and say themselves what they have.
fn classic_value(group: &ConsumerGroup, now: Now) -> GroupValue {
    let classic = |member: &Member| member.wants.classic.clone().unwrap_or_default();
    let names: Vec<String> = group
        .members
        .values()
        .next()
        .map(|first| classic(first).protocols.into_iter().map(|protocol| protocol.name).collect())
        .unwrap_or_default();
    let protocol = group.common_protocol("", &names);
    let member = |(id, one): (&String, &Member)| {
        let classic = classic(one);
        let chosen = |said: &&ClassicProtocol| Some(&said.name) == protocol.as_ref();
        MemberValue {
            member_id: id.clone(),
            instance_id: one.wants.instance_id.clone(),
            client_id: one.wants.client_id.clone(),
            client_host: one.wants.client_host.clone(),
            rebalance_timeout_ms: one.wants.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            subscription: classic
                .protocols
                .iter()
                .find(chosen)
                .map(|said| said.metadata.clone())
                .unwrap_or_default(),
            assignment: bytes::Bytes::new(),
        }
    };
    let members: Vec<MemberValue> = group.members.iter().map(member).collect();
    GroupValue {
        protocol_type: CONSUMER.to_owned(),
        generation: group.epoch,
        protocol: protocol.clone(),
        leader: members.first().map(|member| member.member_id.clone()),
        since_ms: now.unix_ms,
        members,
    }
}

impl ConsumerGroup {
    /// After a start: everyone has a session's time to be heard of.
    pub(in crate::log::engine::group) fn welcome_back(&mut self, now: Now, session: Duration) {
        // Of whom it is only known what it had wanted nothing, and is no member.
        let says_nothing = |member: &Member| member.wants == MemberMetadata::default();
        let unknown = self.members.iter().filter(|(_, member)| says_nothing(member));
        let unknown: Vec<String> = unknown.map(|(id, _)| id.clone()).collect();
        for id in unknown {
            self.remove(&id);
        }
        for member in self.members.values_mut() {
            let own = if member.is_classic() { session_timeout(member) } else { session };
            member.deadline = now.instant + own;
            if member.phase == Phase::Unrevoked {
                member.late = Some(now.instant + member.rebalance_timeout());
            }
        }
    }
}
