//! A classic group: its members, its generation, and what a rebalance does to them (Kafka's group membership protocol).
//!
//! ```text
//!            join                all joined, or time is up          the leader's assignment
//! Empty ───────────▶ Preparing ─────────────────────────▶ Completing ─────────────────────▶ Stable
//!   ▲                 │  ▲  ▲                                  │  join, leave, silence       │
//!   └── nobody left ──┘  │  └──────────────────────────────────┘                             │
//!                        └───────────── join, leave, silence ────────────────────────────────┘
//! ```

mod generation;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{GroupValue, Join, Joined, JoinedMember, Output, Synced, Ticket};
use crate::log::engine::Now;
use crate::log::wire::ErrorCode;

/// A new member that waits to be let in may take so long: its client may be gone and would never be missed (KAFKA-7610).
const NEW_MEMBER_WAIT: Duration = Duration::from_secs(300);

/// How far a rebalance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// Order of arrival.
    number: u64,
    /// It is out when it was silent up to then.
    deadline: Instant,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    can_skip_assignment: bool,
    is_new: bool,
}

impl Member {
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map_or_else(Bytes::new, |(_, bytes)| bytes.clone())
    }

    /// Whoever waits for the group is not silent.
    fn silent_from(&self) -> Option<Instant> {
        let waits = self.joining.is_some() && !self.is_new || self.syncing.is_some();
        (!waits).then_some(self.deadline)
    }
}

/// A classic group without its offsets.
#[derive(Debug, Default)]
pub(super) struct Classic {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) since_ms: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: HashMap<String, Member>,
    pub(super) statics: HashMap<String, String>,
    /// Ids that were given out, and until when they are good.
    pub(super) pending: BTreeMap<String, Instant>,
    /// Members that have to ask for their assignment, until the rebalance's time is up.
    unsynced: HashSet<String>,
    /// How long the first members of an empty group wait for more.
    first_wait: Duration,
    /// When the phase of the rebalance ends.
    phase_ends: Option<Instant>,
    /// The first rebalance of an empty group waits for others, up to then.
    first_wait_ends: Option<Instant>,
    joined_meanwhile: bool,
    next_number: u64,
}

impl Classic {
    pub(super) fn new(id: &str, first_wait: Duration, now: Now) -> Self {
        Self { id: id.to_owned(), first_wait, since_ms: now.unix_ms, ..Self::default() }
    }

    /// From what was kept. Everyone gets a session's time to be heard of again.
    pub(super) fn restored(id: &str, value: GroupValue, first_wait: Duration, now: Now) -> Self {
        let mut group = Self::new(id, first_wait, now);
        group.since_ms = value.since_ms;
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol = value.protocol;
        group.leader = value.leader;
        for one in value.members {
            let protocols =
                group.protocol.iter().map(|name| (name.clone(), one.subscription.clone())).collect();
            let session_timeout = millis(one.session_timeout_ms);
            group.next_number += 1;
            if let Some(instance) = &one.instance_id {
                group.statics.insert(instance.clone(), one.member_id.clone());
            }
            let member = Member {
                instance_id: one.instance_id,
                client_id: one.client_id,
                client_host: one.client_host,
                session_timeout,
                rebalance_timeout: millis(one.rebalance_timeout_ms),
                protocols,
                assignment: one.assignment,
                number: group.next_number,
                deadline: now.instant + session_timeout,
                joining: None,
                syncing: None,
                can_skip_assignment: false,
                is_new: false,
            };
            group.members.insert(one.member_id, member);
        }
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group
    }

    pub(super) fn first_wait(&self) -> Duration {
        self.first_wait
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members in the order in which they came.
    pub(super) fn in_order(&self) -> Vec<(&String, &Member)> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(_, member)| member.number);
        members
    }

    fn become_state(&mut self, state: State, now: Now) {
        (self.state, self.since_ms) = (state, now.unix_ms);
    }

    /// When something happens by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let silent = self.members.values().filter_map(Member::silent_from).min();
        let pending = self.pending.values().min().copied();
        [silent, pending, self.phase_ends].into_iter().flatten().min()
    }

    /// What time brings: silence, and the end of a phase.
    pub(super) fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        self.pending.retain(|_, until| *until > now.instant);
        let silent = |member: &Member| member.silent_from().is_some_and(|at| at <= now.instant);
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, now, out);
        }
        if self.phase_ends.is_some_and(|end| end <= now.instant) {
            match self.state {
                State::Preparing => self.joining_time_is_up(now, out),
                State::Completing | State::Stable => self.syncing_time_is_up(now, out),
                State::Empty => self.phase_ends = None,
            }
        }
        self.complete_join_if_all_are_here(now, out);
    }

    // --- joining -----------------------------------------------------------------------------------------------------

    /// Whether someone with these protocols can be a member beside the others, or in the place of `except`.
    pub(super) fn accepts(&self, kind: &str, protocols: &[(String, Bytes)], except: Option<&str>) -> bool {
        if kind.is_empty() || protocols.is_empty() {
            return false;
        }
        let others: Vec<&Member> = self
            .members
            .iter()
            .filter(|(id, _)| Some(id.as_str()) != except)
            .map(|(_, member)| member)
            .collect();
        if self.members.is_empty() {
            return true;
        }
        let known =
            |name: &str| others.iter().all(|other| other.protocols.iter().any(|(own, _)| own == name));
        self.protocol_type.as_deref() == Some(kind) && protocols.iter().any(|(name, _)| known(name))
    }

    /// A new member, under an id of its own.
    pub(super) fn add(&mut self, now: Now, ticket: Ticket, id: String, join: Join, out: &mut Vec<Output>) {
        self.pending.remove(&id);
        self.next_number += 1;
        self.leader.get_or_insert_with(|| id.clone());
        self.protocol_type.get_or_insert_with(|| join.protocol_type.clone());
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: millis(join.session_timeout_ms),
            rebalance_timeout: millis(join.rebalance_timeout_ms),
            protocols: join.protocols,
            assignment: Bytes::new(),
            number: self.next_number,
            deadline: now.instant + NEW_MEMBER_WAIT,
            joining: Some(ticket),
            syncing: None,
            can_skip_assignment: join.can_skip_assignment,
            is_new: true,
        };
        self.members.insert(id, member);
        self.joined_meanwhile = true;
        if self.state == State::Empty && !self.first_wait.is_zero() {
            return self.wait_for_others(now);
        }
        self.rebalance(now, out);
    }

    /// A member that is known joins again.
    pub(super) fn rejoin(&mut self, now: Now, ticket: Ticket, join: Join, out: &mut Vec<Output>) {
        let id = join.member_id.clone();
        let is_leader = self.leader.as_deref() == Some(&id);
        let Some(member) = self.members.get_mut(&id) else {
            return out.push(Output::Joined(ticket, Joined::refused(ErrorCode::UNKNOWN_MEMBER_ID, &id)));
        };
        member.deadline = now.instant + member.session_timeout;
        let same = member.protocols == join.protocols;
        match self.state {
            // It did not get the answer, or looks whether it is still in.
            State::Completing if same => {
                let joined = self.welcome(&id, is_leader);
                out.push(Output::Joined(ticket, joined));
            }
            State::Stable if same && !is_leader => {
                let joined = self.welcome(&id, false);
                out.push(Output::Joined(ticket, joined));
            }
            State::Empty => {
                out.push(Output::Joined(ticket, Joined::refused(ErrorCode::UNKNOWN_MEMBER_ID, &id)))
            }
            State::Preparing | State::Completing | State::Stable => {
                self.update(&id, ticket, join, out);
                self.rebalance(now, out);
            }
        }
    }

    fn update(&mut self, id: &str, ticket: Ticket, join: Join, out: &mut Vec<Output>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = join.protocols;
        member.session_timeout = millis(join.session_timeout_ms);
        member.rebalance_timeout = millis(join.rebalance_timeout_ms);
        member.can_skip_assignment = join.can_skip_assignment;
        (member.client_id, member.client_host) = (join.client_id, join.client_host);
        if let Some(before) = member.joining.replace(ticket) {
            // A client that gave up waiting and asked again: the first answer is not read by anyone.
            out.push(Output::Joined(before, Joined::refused(ErrorCode::REBALANCE_IN_PROGRESS, id)));
        }
    }

    /// A static member that was started anew takes the place of what it was (KIP-345).
    pub(super) fn replace(
        &mut self,
        now: Now,
        ticket: Ticket,
        ids: (&str, String),
        join: Join,
        out: &mut Vec<Output>,
    ) {
        let (old_id, id) = ids;
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(before) = member.joining.take() {
            out.push(Output::Joined(before, Joined::refused(ErrorCode::FENCED_INSTANCE_ID, old_id)));
        }
        if let Some(before) = member.syncing.take() {
            out.push(Output::Synced(before, Synced::refused(ErrorCode::FENCED_INSTANCE_ID)));
        }
        let old_leader = self.leader.clone().unwrap_or_default();
        let is_leader = old_leader == old_id;
        if is_leader {
            self.leader = Some(id.clone());
        }
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(id.clone());
        }
        self.statics.extend(join.instance_id.clone().map(|instance| (instance, id.clone())));
        member.deadline = now.instant + millis(join.session_timeout_ms);
        let can_skip = join.can_skip_assignment;
        self.members.insert(id.clone(), member);
        self.update(&id, ticket, join, out);
        if self.state != State::Stable || self.chosen_protocol() != self.protocol {
            return self.rebalance(now, out);
        }
        // Nothing changes for the others. A leader that cannot skip must not take itself for one: nobody would hear
        // of what it assigns (KIP-814).
        out.push(Output::Store(self.record()));
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = None;
        }
        let mut joined = self.welcome(&id, is_leader && can_skip);
        joined.skip_assignment = is_leader && can_skip;
        if !can_skip {
            joined.leader = old_leader;
        }
        out.push(Output::Joined(ticket, joined));
    }

    /// What a member of this generation is told.
    fn welcome(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let view = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        };
        let members = if with_members { self.in_order().into_iter().map(view).collect() } else { Vec::new() };
        Joined {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members,
        }
    }

    // --- rebalancing -------------------------------------------------------------------------------------------------

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Begins a rebalance, unless one has begun, and ends it if all are here.
    pub(super) fn rebalance(&mut self, now: Now, out: &mut Vec<Output>) {
        match self.state {
            State::Preparing => {}
            State::Completing | State::Stable | State::Empty => {
                self.refuse_syncs(ErrorCode::REBALANCE_IN_PROGRESS, now, out);
                self.unsynced.clear();
                self.phase_ends = Some(now.instant + self.rebalance_timeout());
                self.become_state(State::Preparing, now);
            }
        }
        self.complete_join_if_all_are_here(now, out);
    }

    /// The first members of an empty group wait for more, so that not each of them is a rebalance.
    fn wait_for_others(&mut self, now: Now) {
        let most = now.instant + self.rebalance_timeout();
        self.become_state(State::Preparing, now);
        self.first_wait_ends = Some(most);
        self.phase_ends = Some((now.instant + self.first_wait).min(most));
        self.joined_meanwhile = false;
    }

    fn joining_time_is_up(&mut self, now: Now, out: &mut Vec<Output>) {
        // As long as others come, the wait goes on.
        if let Some(most) = self.first_wait_ends
            && std::mem::take(&mut self.joined_meanwhile)
            && now.instant < most
        {
            self.phase_ends = Some((now.instant + self.first_wait).min(most));
            return;
        }
        self.first_wait_ends = None;
        self.complete_join(now, out);
    }

    fn complete_join_if_all_are_here(&mut self, now: Now, out: &mut Vec<Output>) {
        let all = self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if self.state == State::Preparing && self.first_wait_ends.is_none() && all {
            self.complete_join(now, out);
        }
    }

    /// The next generation is who has joined; static members are kept until they are silent.
    fn complete_join(&mut self, now: Now, out: &mut Vec<Output>) {
        let late = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        self.members.retain(|_, member| !late(member));
        let leader_is_here = self
            .leader
            .as_ref()
            .is_some_and(|id| self.members.get(id).is_some_and(|one| one.joining.is_some()));
        if !leader_is_here {
            let first = self.in_order().into_iter().find(|(_, member)| member.joining.is_some());
            let first = first.map(|(id, _)| id.clone());
            if first.is_none() && !self.members.is_empty() {
                // Only static members, none of whom is back: they have until they are silent for too long.
                self.phase_ends = Some(now.instant + self.rebalance_timeout());
                return;
            }
            self.leader = first;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.phase_ends = None;
            self.become_state(State::Empty, now);
            return out.push(Output::Store(self.record()));
        }
        self.protocol = self.chosen_protocol();
        self.become_state(State::Completing, now);
        self.phase_ends = Some(now.instant + self.rebalance_timeout());
        self.unsynced = self.members.keys().cloned().collect();
        let ids: Vec<String> = self.in_order().into_iter().map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            let Some(ticket) = member.joining.take() else { continue };
            member.deadline = now.instant + member.session_timeout;
            let joined = self.welcome(&id, self.leader.as_ref() == Some(&id));
            out.push(Output::Joined(ticket, joined));
        }
    }

    /// Members vote with their best protocol among those that all can do.
    fn chosen_protocol(&self) -> Option<String> {
        let members = self.in_order();
        let by_all =
            |name: &str| members.iter().all(|(_, one)| one.protocols.iter().any(|(own, _)| own == name));
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for (_, member) in &members {
            let Some((best, _)) = member.protocols.iter().find(|(name, _)| by_all(name)) else { continue };
            match votes.iter_mut().find(|(name, _)| name == best) {
                Some((_, count)) => *count += 1,
                None => votes.push((best, 1)),
            }
        }
        // The first of the most wanted ones.
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }
}

/// Timeouts of peers: what is negative is none at all.
fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}
