//! The rest of a generation's life: assignments, members that leave, and what is written down.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Classic, Member, State};
use crate::log::engine::Now;
use crate::log::engine::group::message::Joined;
use crate::log::engine::group::message::{GroupValue, MemberValue, Output, Record, Synced, Ticket};
use crate::log::wire::ErrorCode;

impl Classic {
    /// A member of this generation asks for its assignment, or brings everyone's.
    pub(in crate::log::engine::group) fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        id: &str,
        assignments: Vec<(String, Bytes)>,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.deadline = now.instant + member.session_timeout;
        match self.state {
            State::Empty => out.push(Output::Synced(ticket, Synced::refused(ErrorCode::UNKNOWN_MEMBER_ID))),
            State::Preparing => {
                out.push(Output::Synced(ticket, Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS)))
            }
            State::Completing => {
                self.unsynced.remove(id);
                if let Some(before) = member.syncing.replace(ticket) {
                    out.push(Output::Synced(before, Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS)));
                }
                if self.leader.as_deref() == Some(id) {
                    self.assign(now, assignments, out);
                }
            }
            State::Stable => {
                if self.unsynced.remove(id) && self.unsynced.is_empty() {
                    self.phase_ends = None;
                }
                let synced = self.assigned(id);
                out.push(Output::Synced(ticket, synced));
            }
        }
    }

    pub(super) fn assigned(&self, id: &str) -> Synced {
        Synced {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The leader has decided: everyone gets what is theirs, once that is safe.
    pub(super) fn assign(&mut self, now: Now, assignments: Vec<(String, Bytes)>, out: &mut Vec<Output>) {
        let mut given: HashMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = given.remove(id).unwrap_or_default();
        }
        self.become_state(State::Stable, now);
        out.push(Output::Store(self.record()));
        let ids: Vec<String> = self.in_order().into_iter().map(|(id, _)| id.clone()).collect();
        for id in ids {
            let synced = self.assigned(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.syncing.take() {
                member.deadline = now.instant + member.session_timeout;
                out.push(Output::Synced(ticket, synced));
            }
        }
        // A member that joins and never asks what it got is out when the time is up (KAFKA-9752).
        if self.unsynced.is_empty() {
            self.phase_ends = None;
        }
    }

    pub(super) fn syncing_time_is_up(&mut self, now: Now, out: &mut Vec<Output>) {
        self.phase_ends = None;
        let late: Vec<String> = self.unsynced.drain().collect();
        if late.is_empty() {
            return;
        }
        for id in late {
            self.take_out(&id, ErrorCode::UNKNOWN_MEMBER_ID, out);
        }
        self.rebalance(now, out);
    }

    pub(super) fn refuse_syncs(&mut self, error: ErrorCode, now: Now, out: &mut Vec<Output>) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                member.deadline = now.instant + member.session_timeout;
                out.push(Output::Synced(ticket, Synced::refused(error)));
            }
        }
    }

    /// Takes a member out and lets the others share what it had.
    pub(in crate::log::engine::group) fn remove(
        &mut self,
        id: &str,
        error: ErrorCode,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.take_out(id, error, out) {
            return;
        }
        match self.state {
            State::Empty => {}
            State::Stable | State::Completing => self.rebalance(now, out),
            State::Preparing => self.complete_join_if_all_are_here(now, out),
        }
    }

    pub(super) fn take_out(&mut self, id: &str, error: ErrorCode, out: &mut Vec<Output>) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        if let Some(instance) = &member.instance_id
            && self.statics.get(instance).is_some_and(|owner| owner == id)
        {
            self.statics.remove(instance);
        }
        self.unsynced.remove(id);
        if let Some(ticket) = member.joining {
            out.push(Output::Joined(ticket, Joined::refused(error, id)));
        }
        if let Some(ticket) = member.syncing {
            out.push(Output::Synced(ticket, Synced::refused(error)));
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.in_order().into_iter().next().map(|(id, _)| id.clone());
        }
        true
    }

    /// The group ends as a classic one: whoever waits for it hears that.
    pub(in crate::log::engine::group) fn let_go(&mut self, error: ErrorCode, out: &mut Vec<Output>) {
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.joining.take() {
                out.push(Output::Joined(ticket, Joined::refused(error, id)));
            }
            if let Some(ticket) = member.syncing.take() {
                out.push(Output::Synced(ticket, Synced::refused(error)));
            }
        }
    }

    /// Someone who was waited for may have gone.
    pub(in crate::log::engine::group) fn look_again(&mut self, now: Now, out: &mut Vec<Output>) {
        self.complete_join_if_all_are_here(now, out);
    }

    /// After a start: everyone has a session's time to be heard of.
    pub(in crate::log::engine::group) fn welcome_back(&mut self, now: Now) {
        for member in self.members.values_mut() {
            member.deadline = now.instant + member.session_timeout;
        }
    }

    /// A sign of life.
    pub(in crate::log::engine::group) fn touch(&mut self, id: &str, now: Now) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline = now.instant + member.session_timeout;
        }
    }

    /// As it is kept.
    pub(in crate::log::engine::group) fn record(&self) -> Record {
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = |(id, one): (&String, &Member)| MemberValue {
            member_id: id.clone(),
            instance_id: one.instance_id.clone(),
            client_id: one.client_id.clone(),
            client_host: one.client_host.clone(),
            rebalance_timeout_ms: i32::try_from(one.rebalance_timeout.as_millis()).unwrap_or(i32::MAX),
            session_timeout_ms: i32::try_from(one.session_timeout.as_millis()).unwrap_or(i32::MAX),
            subscription: one.metadata(&protocol),
            assignment: one.assignment.clone(),
        };
        Record::Group {
            group: self.id.clone(),
            value: Some(GroupValue {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                since_ms: self.since_ms,
                members: self.in_order().into_iter().map(member).collect(),
            }),
        }
    }
}
