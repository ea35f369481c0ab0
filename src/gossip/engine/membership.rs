//! Alive, suspect, dead: what is said of members, what of it is believed, and what Serf makes of it.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;

use super::suspicion::Bounds;
use super::{
    About, Alive, Change, DATA_TAG, Engine, Event, Member, Message, NodeState, Output, Refusal, Status,
    Suspicion, Time, Timer, VERSIONS, meta_of,
};
use crate::gossip::wire::{Accusation, Name, Versions};

/// No incarnation is believed beyond: whoever is accused there could not object any more.
const INCARNATION_MAX: u32 = u32::MAX - 1024;

/// Most members: three times the largest clusters that are told of. More are none, or whoever says so has made them up.
pub(super) const MEMBERS_MAX: usize = 64 * 1024;

/// Whether a node of these versions and this one understand each other. In memberlist only what cannot be at all is not
/// believed; then one datagram about a node that nobody understands lets no state be merged as long as it is remembered.
fn is_spoken_here(theirs: &Versions) -> bool {
    let fits = |of: &Versions, version: usize, range: usize| {
        (of[range]..=of[range + 1]).contains(&theirs[version])
            && (theirs[range]..=theirs[range + 1]).contains(&of[version])
    };
    [0, 3].into_iter().all(|at| fits(theirs, at + 2, at) && fits(&VERSIONS, at + 2, at))
}

/// Whether one node can be there: what is sent to a group, or to nobody's address, would reach others.
fn is_of_one(address: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST
}

/// A member of which something is said that may be true.
struct Accused {
    id: u32,
    state: NodeState,
}

impl Engine {
    /// A node is said to be there. memberlist, aliveNode.
    pub(super) fn alive(&mut self, now: Time, alive: Alive, outputs: &mut Vec<Output>) {
        let is_me = alive.node == self.config.name;
        let [least, most, ..] = alive.versions;
        let impossible = least == 0 || most == 0 || least > most;
        if impossible || !is_of_one(alive.address) || alive.incarnation > INCARNATION_MAX {
            return;
        }
        if is_me {
            return self.alive_me(now, &alive, outputs);
        }
        if !is_spoken_here(&alive.versions) {
            return;
        }
        let Some(id) = self.members.id(&alive.node) else {
            return self.new_member(now, alive, outputs);
        };
        let Some(member) = self.members.get(id) else { return };
        // Whoever left, or has been gone so long that agents have forgotten it, may come back from elsewhere.
        let forgotten =
            member.state == NodeState::Dead && now - member.since >= self.config.gossip_to_the_dead;
        let moved = member.address != alive.address;
        let may_move = member.state == NodeState::Left || forgotten;
        if moved && !may_move {
            let (node, known) = (alive.node, member.address);
            return outputs.push(Output::Event(Event::Conflict { node, known, other: alive.address }));
        }
        if alive.incarnation <= member.incarnation && !moved {
            return self.remind(&alive, outputs);
        }
        self.suspicions.remove(&id);
        let (state, changed, last) = (member.state, member.meta != alive.meta, member.incarnation);
        if alive.incarnation <= last {
            // Come back younger, from elsewhere: what was said of its last life must not be believed of this one, should
            // somebody say it again. It objects to that now.
            self.accuse(&alive.node, last, alive.address, outputs);
        }
        self.members.change(id, |member| {
            member.incarnation = alive.incarnation;
            member.address = alive.address;
            member.meta = alive.meta.clone();
            member.versions = alive.versions;
            if member.state != NodeState::Alive {
                (member.state, member.since) = (NodeState::Alive, now);
            }
        });
        self.broadcasts.push_about(id, Message::Alive(alive));
        match state {
            NodeState::Dead | NodeState::Left => self.member_joined(id, outputs),
            NodeState::Suspect => self.tell(Change::Refuted, id, outputs),
            NodeState::Alive => {}
        }
        if changed && matches!(state, NodeState::Alive | NodeState::Suspect) {
            self.tell(Change::Update, id, outputs);
        }
    }

    fn new_member(&mut self, now: Time, alive: Alive, outputs: &mut Vec<Output>) {
        if self.members.len() >= MEMBERS_MAX {
            // Of those that are gone the one that became known last: what was made up came after what was there.
            let gone = self.members.failed.last().or_else(|| self.members.left.last()).copied();
            let Some(gone) = gone else {
                self.counts.members_refused += 1;
                return;
            };
            self.erase(gone, outputs);
        }
        let id = self.members.insert(Member {
            name: alive.node.clone(),
            address: alive.address,
            meta: alive.meta.clone(),
            versions: alive.versions,
            incarnation: alive.incarnation,
            state: NodeState::Alive,
            since: now,
            status: Status::Alive,
            status_ltime: 0,
        });
        self.broadcasts.push_about(id, Message::Alive(alive));
        self.broadcasts.prune(About::Members, super::BROADCASTS_MAX.max(2 * self.members.len()));
        self.member_joined(id, outputs);
    }

    /// A node that came back as a younger one than was known does not know that it is held for dead: told so, it
    /// objects with an incarnation that everybody believes.
    fn remind(&mut self, alive: &Alive, outputs: &mut Vec<Output>) {
        let Some(member) = self.members.by_name(&alive.node).filter(|member| !member.is_living()) else {
            return;
        };
        self.accuse(&alive.node, member.incarnation, alive.address, outputs);
    }

    /// Tells a node that it is suspected, so that it objects.
    fn accuse(&self, node: &Name, incarnation: u32, to: SocketAddr, outputs: &mut Vec<Output>) {
        let from = self.config.name.clone();
        let accusation = Accusation { incarnation, node: node.clone(), from };
        self.send_plainly(to, vec![Message::Suspect(accusation)], outputs);
    }

    /// What others say of this node is corrected unless it is so.
    fn alive_me(&mut self, now: Time, alive: &Alive, outputs: &mut Vec<Output>) {
        let me = self.me();
        if self.leaving.begun() || alive.incarnation < me.incarnation {
            return;
        }
        if alive.address != me.address {
            return self.conflict(now, alive.address, outputs);
        }
        let same = alive.meta == me.meta && alive.versions == me.versions;
        if alive.incarnation > me.incarnation || !same {
            self.refute(alive.incarnation);
        }
    }

    /// Says that this node is there, and newer than what was said of it.
    fn refute(&mut self, said: u32) {
        self.counts.refutations += 1;
        let me = self.me;
        self.members.change(me, |member| {
            member.incarnation = member.incarnation.max(said).saturating_add(1).min(INCARNATION_MAX);
        });
        self.announce();
    }

    fn announce(&mut self) {
        let me = self.me();
        let alive = Alive {
            incarnation: me.incarnation,
            node: me.name.clone(),
            address: me.address,
            meta: me.meta.clone(),
            versions: VERSIONS,
        };
        self.broadcasts.push_about(self.me, Message::Alive(alive));
    }

    /// The node has other tags.
    pub(super) fn change_tags(
        &mut self,
        now: Time,
        tags: &BTreeMap<String, String>,
        outputs: &mut Vec<Output>,
    ) {
        let meta = match meta_of(tags) {
            Ok(meta) => meta,
            Err(refusal) => return outputs.push(Output::Event(Event::Refused { tag: None, refusal })),
        };
        let refusal = if self.leaving.begun() {
            Some(Refusal::Leaving)
        } else if tags.get(DATA_TAG) != self.config.tags.get(DATA_TAG) {
            // Others tell keys only to whom it says that they want them.
            Some(Refusal::OwnTag)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return outputs.push(Output::Event(Event::Refused { tag: None, refusal }));
        }
        let _ = now;
        let me = self.me;
        self.members.change(me, |member| {
            member.meta = meta;
            member.incarnation = member.incarnation.saturating_add(1).min(INCARNATION_MAX);
        });
        self.announce();
        self.tell(Change::Update, me, outputs);
    }

    /// A node is said not to answer. memberlist, suspectNode.
    pub(super) fn suspect(&mut self, now: Time, accusation: &Accusation, outputs: &mut Vec<Output>) {
        let Some(Accused { id, state }) = self.accused(accusation) else { return };
        if id == self.me {
            return self.accused_myself(accusation);
        }
        if let Some(suspicion) = self.suspicions.get_mut(&id) {
            if suspicion.confirm(&accusation.from) {
                let deadline = suspicion.deadline();
                self.timers.set(deadline.max(now), Timer::Suspicion(id));
                self.broadcasts.push_about(id, Message::Suspect(accusation.clone()));
            }
            return;
        }
        if state != NodeState::Alive {
            return;
        }
        let bounds = Bounds {
            mult: self.config.suspicion_mult,
            max_mult: self.config.suspicion_max_mult,
            nodes: self.members.living(),
            interval: self.config.probe_interval,
        };
        let suspicion = Suspicion::new(now, accusation.from.clone(), &bounds);
        self.timers.set(suspicion.deadline(), Timer::Suspicion(id));
        self.suspicions.insert(id, suspicion);
        self.members.change(id, |member| {
            (member.state, member.since) = (NodeState::Suspect, now);
            member.incarnation = accusation.incarnation;
        });
        self.broadcasts.push_about(id, Message::Suspect(accusation.clone()));
        self.tell(Change::Suspect, id, outputs);
    }

    /// Whom it is about, unless that one is not known or has objected since.
    fn accused(&self, accusation: &Accusation) -> Option<Accused> {
        let id = self.members.id(&accusation.node)?;
        let member = self.members.get(id)?;
        let believed =
            accusation.incarnation >= member.incarnation && accusation.incarnation <= INCARNATION_MAX;
        believed.then_some(Accused { id, state: member.state })
    }

    fn accused_myself(&mut self, accusation: &Accusation) {
        if !self.leaving.begun() {
            self.probes.slower(1, self.config.awareness_max);
            self.refute(accusation.incarnation);
        }
    }

    pub(super) fn suspicion_due(&mut self, now: Time, id: u32, outputs: &mut Vec<Output>) {
        if self.suspicions.get(&id).is_none_or(|suspicion| suspicion.deadline() > now) {
            return;
        }
        let Some(member) = self.members.get(id).filter(|member| member.state == NodeState::Suspect) else {
            self.suspicions.remove(&id);
            return;
        };
        let accusation = Accusation {
            incarnation: member.incarnation,
            node: member.name.clone(),
            from: self.config.name.clone(),
        };
        self.dead(now, &accusation, outputs);
    }

    /// A node is said to be gone; by itself, if it left. memberlist, deadNode.
    pub(super) fn dead(&mut self, now: Time, accusation: &Accusation, outputs: &mut Vec<Output>) {
        let Some(Accused { id, state }) = self.accused(accusation) else { return };
        if id == self.me {
            return self.accused_myself(accusation);
        }
        self.suspicions.remove(&id);
        if matches!(state, NodeState::Dead | NodeState::Left) {
            return;
        }
        let left = accusation.from == accusation.node;
        self.members.change(id, |member| {
            member.incarnation = accusation.incarnation;
            member.since = now;
            member.state = if left { NodeState::Left } else { NodeState::Dead };
        });
        self.broadcasts.push_about(id, Message::Dead(accusation.clone()));
        self.member_gone(id, outputs);
    }

    /// A member is there. Serf, handleNodeJoin.
    fn member_joined(&mut self, id: u32, outputs: &mut Vec<Output>) {
        let Some(member) = self.members.get(id) else { return };
        let intended = self.intended.take(&member.name);
        self.members.change(id, |member| {
            member.status = Status::Alive;
            if let Some(intended) = intended {
                member.status_ltime = intended.ltime;
                if intended.leaves {
                    member.status = Status::Leaving;
                }
            }
        });
        self.tell(Change::Join, id, outputs);
    }

    /// A member is gone: as it had announced, or not. Serf, handleNodeLeave.
    fn member_gone(&mut self, id: u32, outputs: &mut Vec<Output>) {
        let Some(member) = self.members.get(id) else { return };
        let (status, change) = match (member.status, member.state) {
            // It said so itself, even if the announcement has not come this far.
            (Status::Leaving, _) | (Status::Alive, NodeState::Left) => (Status::Left, Change::Leave),
            (Status::Alive, _) => (Status::Failed, Change::Failed),
            (Status::Left | Status::Failed, _) => return,
        };
        self.members.change(id, |member| member.status = status);
        self.coordinate.forget(id);
        self.data.forget(id);
        self.tell(change, id, outputs);
    }

    pub(super) fn tell(&self, change: Change, id: u32, outputs: &mut Vec<Output>) {
        if let Some(member) = self.members.get(id) {
            outputs.push(Output::Event(Event::Member { change, member: Box::new(member.clone()) }));
        }
    }

    /// Forgets who has been gone for long. Serf, handleReap.
    pub(super) fn reap(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.timers.set(now + self.config.reap_interval, Timer::Reap);
        self.intended.forget_before(now);
        let gone = |ids: &std::collections::BTreeSet<u32>, after| {
            let long = |id: &&u32| self.members.get(**id).is_some_and(|member| now - member.since > after);
            ids.iter().filter(long).copied().collect::<Vec<_>>()
        };
        let mut reaped = gone(&self.members.failed, self.config.failed_timeout);
        reaped.extend(gone(&self.members.left, self.config.left_timeout));
        for id in reaped {
            self.erase(id, outputs);
        }
    }

    pub(super) fn erase(&mut self, id: u32, outputs: &mut Vec<Output>) {
        if id == self.me {
            return;
        }
        if let Some(member) = self.members.remove(id) {
            self.suspicions.remove(&id);
            self.broadcasts.forget(id);
            self.probes.forget(id);
            self.coordinate.forget(id);
            self.data.forget(id);
            outputs.push(Output::Event(Event::Member { change: Change::Reap, member: Box::new(member) }));
        }
    }

    /// The first node in a state that speaks what the cluster does not. memberlist, verifyProtocol.
    pub(super) fn incompatible(&self, nodes: &[(Name, Versions)]) -> Option<Name> {
        let known = self.members().filter(|member| member.is_living());
        let mut spoken: Vec<(&Name, Versions)> =
            known.map(|member| (&member.name, member.versions)).collect();
        spoken.extend(nodes.iter().map(|(name, versions)| (name, *versions)));
        let most = |at: usize| spoken.iter().map(|(_, versions)| versions[at]).max().unwrap_or(0);
        let least = |at: usize| spoken.iter().map(|(_, versions)| versions[at]).min().unwrap_or(u8::MAX);
        let (protocol, delegate) = (most(0)..=least(1), most(3)..=least(4));
        let speaks = |versions: &Versions| protocol.contains(&versions[2]) && delegate.contains(&versions[5]);
        spoken.iter().find(|(_, versions)| !speaks(versions)).map(|(name, _)| (*name).clone())
    }

    /// Whether datagrams that a message asks us to send there go to somebody who is known to want them.
    pub(super) fn is_member_address(&self, address: SocketAddr) -> bool {
        self.members.by_address(address).is_some()
    }
}
