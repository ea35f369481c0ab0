//! Asking whether somebody is there: directly, then through others and over TCP; and how slow this node itself may be.
//!
//! SWIM 3.1, with Lifeguard's nacks and awareness.

use core::net::SocketAddr;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::exchange::Purpose;
use super::{Engine, Event, Message, Name, NodeState, Output, Refusal, Time, Timer};
use crate::gossip::wire::{Accusation, Ack, IndirectPing, Ping, Source, StreamMessage};

/// Most pings that are passed on for others at a time.
const FORWARDS_MAX: usize = 1024;
/// Most pings of users at a time.
const USERS_MAX: usize = 1024;

/// What waits for answers.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// The probe that is going on.
    current: Option<Probe>,
    /// Pings that users wanted, by sequence.
    users: HashMap<u32, UserPing>,
    /// Pings for others, by our sequence.
    forwards: HashMap<u32, Forward>,
    /// Members that have answered this node: they are no invention of somebody else.
    answered: HashSet<u32>,
    awareness: u32,
}

#[derive(Debug)]
struct Probe {
    sequence: u32,
    member: u32,
    sent: Time,
    acked: bool,
    nacks_expected: u32,
    nacks: u32,
    /// It answered over TCP.
    contacted: bool,
}

#[derive(Debug)]
struct UserPing {
    tag: u64,
    member: u32,
    sent: Time,
}

#[derive(Debug)]
struct Forward {
    /// Of the one who asked.
    sequence: u32,
    to: SocketAddr,
    nack: bool,
}

impl Probes {
    pub fn awareness(&self) -> u32 {
        self.awareness
    }

    /// This node may be slower than it thought.
    pub fn slower(&mut self, by: u32, max: u32) {
        self.awareness = (self.awareness + by).min(max.saturating_sub(1));
    }

    fn faster(&mut self) {
        self.awareness = self.awareness.saturating_sub(1);
    }

    pub fn nacked(&mut self, sequence: u32) {
        if let Some(probe) = self.current.as_mut().filter(|probe| probe.sequence == sequence) {
            probe.nacks += 1;
        }
    }

    pub fn forward_over(&mut self, sequence: u32) {
        self.forwards.remove(&sequence);
    }

    /// A member has answered.
    pub fn answered(&mut self, member: u32) {
        self.answered.insert(member);
    }

    /// Whether a member has ever answered.
    pub fn has_answered(&self, member: u32) -> bool {
        self.answered.contains(&member)
    }

    /// A member is forgotten: whoever gets its number is another one.
    pub fn forget(&mut self, member: u32) {
        self.answered.remove(&member);
    }

    /// It answered over TCP.
    pub fn contacted(&mut self, sequence: u32) {
        if let Some(probe) = self.current.as_mut().filter(|probe| probe.sequence == sequence) {
            probe.contacted = true;
        }
    }
}

impl Engine {
    fn ping_of(&self, sequence: u32, node: Name) -> Ping {
        let source = Source { address: self.config.address, node: self.config.name.clone() };
        Ping { sequence, node, source: Some(source) }
    }

    /// Probes the next member. memberlist, probeNode.
    pub(super) fn probe(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.timers.set(now + self.config.probe_interval, Timer::Probe);
        // One at a time: a slow node probes less often.
        if self.probes.current.is_some() {
            return;
        }
        let me = self.me;
        let next = self.members.next_in_round(&mut self.rng, |id, member| id != me && member.is_living());
        let Some((member, id)) = next.and_then(|id| Some((self.members.get(id)?.clone(), id))) else {
            return;
        };
        self.counts.probes += 1;
        let sequence = self.next_sequence();
        let ping = Message::Ping(self.ping_of(sequence, member.name.clone()));
        if member.state == NodeState::Alive {
            self.send_with_news(now, member.address, ping, outputs);
        } else {
            // It is told that it is suspected, so that it can object at once. Lifeguard, IV.C
            let accusation = Accusation {
                incarnation: member.incarnation,
                node: member.name.clone(),
                from: self.config.name.clone(),
            };
            self.send_to(id, vec![Message::Suspect(accusation), ping], outputs);
        }
        self.probes.current = Some(Probe {
            sequence,
            member: id,
            sent: now,
            acked: false,
            nacks_expected: 0,
            nacks: 0,
            contacted: false,
        });
        self.timers.set(now + self.config.probe_timeout, Timer::ProbeLate(sequence));
        let whole = self.config.probe_interval * (self.probes.awareness + 1);
        self.timers.set(now + whole, Timer::ProbeOver(sequence));
    }

    pub(super) fn probe_indirectly(&mut self, now: Time, sequence: u32, outputs: &mut Vec<Output>) {
        let Some(probe) = self.probes.current.as_ref().filter(|probe| probe.sequence == sequence) else {
            return;
        };
        let (target, me) = (probe.member, self.me);
        self.counts.probes_indirect += 1;
        let Some(member) = self.members.get(target).cloned() else { return };
        let helpers = self.members.sample(&mut self.rng, self.config.indirect_checks, |id, member| {
            id != me && id != target && member.state == NodeState::Alive
        });
        for id in helpers {
            let Some(helper) = self.members.get(id) else { continue };
            let nack = helper.sends_nacks();
            if let Some(probe) = &mut self.probes.current {
                probe.nacks_expected += u32::from(nack);
            }
            let source = Source { address: self.config.address, node: self.config.name.clone() };
            let (node, address) = (member.name.clone(), helper.address);
            let ping = IndirectPing { sequence, target: member.address, node, nack, source: Some(source) };
            self.send_with_news(now, address, Message::IndirectPing(ping), outputs);
        }
        if member.takes_stream_pings() {
            let message = StreamMessage::Ping(self.ping_of(sequence, member.name.clone()));
            self.open(member.address, message, true, Purpose::Ping { sequence }, outputs);
        }
    }

    pub(super) fn probe_over(&mut self, now: Time, sequence: u32, outputs: &mut Vec<Output>) {
        let Some(probe) = self.probes.current.take_if(|probe| probe.sequence == sequence) else { return };
        if probe.contacted {
            self.probes.answered(probe.member);
        }
        if probe.acked || probe.contacted {
            return;
        }
        self.counts.probes_failed += 1;
        // Helpers that do not answer either: it may be us.
        let missing = probe.nacks_expected.saturating_sub(probe.nacks);
        let slower = if probe.nacks_expected > 0 { missing } else { 1 };
        self.probes.slower(slower, self.config.awareness_max);
        let Some(member) = self.members.get(probe.member) else { return };
        let accusation = Accusation {
            incarnation: member.incarnation,
            node: member.name.clone(),
            from: self.config.name.clone(),
        };
        self.suspect(now, &accusation, outputs);
    }

    pub(super) fn acked(&mut self, now: Time, ack: &Ack, outputs: &mut Vec<Output>) {
        let sequence = ack.sequence;
        if let Some(forward) = self.probes.forwards.remove(&sequence) {
            let ack = Ack { sequence: forward.sequence, payload: Bytes::new() };
            return self.send_with_news(now, forward.to, Message::Ack(ack), outputs);
        }
        if let Some(ping) = self.probes.users.remove(&sequence) {
            self.probes.answered(ping.member);
            self.learn_coordinate(ping.member, &ack.payload, now - ping.sent);
            let time = Some(now - ping.sent);
            return outputs.push(Output::Event(Event::Pinged { tag: ping.tag, time }));
        }
        let Some(probe) = self.probes.current.take_if(|probe| probe.sequence == sequence) else { return };
        self.probes.faster();
        self.probes.answered(probe.member);
        self.learn_coordinate(probe.member, &ack.payload, now - probe.sent);
    }

    pub(super) fn answer_ping(&mut self, now: Time, from: SocketAddr, ping: Ping, outputs: &mut Vec<Output>) {
        if !ping.node.is_empty() && ping.node != self.config.name {
            return;
        }
        // Whoever it says wants the answer has to be known, or it would be us who flood it.
        let wants = ping.source.map(|source| source.address).filter(|to| self.is_member_address(*to));
        let known = wants.is_some() || self.is_member_address(from);
        let to = wants.unwrap_or(from);
        let payload = if known && self.config.coordinates {
            self.coordinate.own().encode().into()
        } else {
            Bytes::new()
        };
        self.send_with_news(now, to, Message::Ack(Ack { sequence: ping.sequence, payload }), outputs);
    }

    pub(super) fn forward_ping(
        &mut self,
        now: Time,
        from: SocketAddr,
        ping: IndirectPing,
        outputs: &mut Vec<Output>,
    ) {
        let known = self.members.by_name(&ping.node).is_some_and(|member| member.address == ping.target);
        let to = ping.source.map(|source| source.address).filter(|to| self.is_member_address(*to));
        if !known || self.probes.forwards.len() >= FORWARDS_MAX {
            return;
        }
        let sequence = self.next_sequence();
        let forward = Forward { sequence: ping.sequence, to: to.unwrap_or(from), nack: ping.nack };
        self.probes.forwards.insert(sequence, forward);
        let inner = Message::Ping(self.ping_of(sequence, ping.node));
        self.send_with_news(now, ping.target, inner, outputs);
        if ping.nack {
            self.timers.set(now + self.config.probe_timeout, Timer::ForwardLate(sequence));
        }
        self.timers.set(now + self.config.probe_interval * 8, Timer::ForwardOver(sequence));
    }

    pub(super) fn forward_late(&mut self, sequence: u32, outputs: &mut Vec<Output>) {
        let Some(forward) = self.probes.forwards.get(&sequence).filter(|forward| forward.nack) else {
            return;
        };
        let message = Message::Nack { sequence: forward.sequence };
        self.send_plainly(forward.to, vec![message], outputs);
    }

    /// Measures the way to a member for a user.
    pub(super) fn ping(&mut self, now: Time, node: &Name, tag: u64, outputs: &mut Vec<Output>) {
        let Some(id) = self.members.id(node) else {
            let refusal = Refusal::Unknown { node: node.clone() };
            return outputs.push(Output::Event(Event::Refused { tag: Some(tag), refusal }));
        };
        if id == self.me {
            let time = Some(std::time::Duration::ZERO);
            return outputs.push(Output::Event(Event::Pinged { tag, time }));
        }
        if self.probes.users.len() >= USERS_MAX {
            // Those that never came back.
            let late = self.config.probe_interval * 8;
            self.probes.users.retain(|_, ping| now - ping.sent < late);
        }
        let sequence = self.next_sequence();
        self.probes.users.insert(sequence, UserPing { tag, member: id, sent: now });
        let message = Message::Ping(self.ping_of(sequence, node.clone()));
        if let Some(to) = self.members.get(id).map(|member| member.address) {
            self.send_plainly(to, vec![message], outputs);
        }
    }
}
