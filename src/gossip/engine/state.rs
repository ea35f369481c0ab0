//! What this node knows, for another one: all of it, unless that is more than a stream brings. Then those who are there and
//! have answered go first, and those who may have been made up last.

use super::{Engine, Member, NodeState, PushPull, Status};
use crate::gossip::wire::{Node, SerfState};

/// Bytes of members in one state. With all of Serf's state it is what our nodes take, and memberlist's.
const NODES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a member takes beside its name and its tags.
const NODE_BYTES: usize = 96;
/// Bytes of names in Serf's state, of whose 20 MiB keys, values and events take the most.
const NAMES_BYTES_MAX: usize = 3 * 1024 * 1024;
/// What a name takes, with the time at which its status was announced.
const NAME_BYTES: usize = 16;

/// What is left of what a state may have.
struct Budget {
    nodes: usize,
    names: usize,
}

impl Budget {
    /// Whether one more goes in.
    fn take(&mut self, member: &Member) -> bool {
        let node = member.name.len() + member.meta.len() + NODE_BYTES;
        let times = if member.status == Status::Left { 2 } else { 1 };
        let names = times * (member.name.len() + NAME_BYTES);
        let fits = node <= self.nodes && names <= self.names;
        if fits {
            self.nodes -= node;
            self.names -= names;
        }
        fits
    }
}

impl Engine {
    /// All that this node knows. To one who has said which data it has: also what it lacks.
    pub(super) fn state(&self, join: bool, theirs: Option<&SerfState>) -> PushPull {
        let told = self.told();
        let mut nodes = Vec::with_capacity(told.len());
        let mut status_ltimes = Vec::with_capacity(told.len());
        let mut left = Vec::new();
        for member in told {
            // Those gone for long are told by nobody: agents have forgotten them.
            if !(member.status == Status::Failed && member.state == NodeState::Dead && self.long_dead(member))
            {
                nodes.push(Node {
                    name: member.name.clone(),
                    address: member.address,
                    meta: member.meta.clone(),
                    incarnation: member.incarnation,
                    state: member.state,
                    versions: member.versions,
                });
            }
            status_ltimes.push((member.name.clone(), member.status_ltime));
            if member.status == Status::Left {
                left.push(member.name.clone());
            }
        }
        let (digest, data) = self.data.exchanged(join, theirs);
        let serf = SerfState {
            ltime: self.clock.time(),
            status_ltimes,
            left,
            event_ltime: self.event_clock.time(),
            events: self.seen_events.all(),
            query_ltime: self.query_clock.time(),
            digest,
            data,
        };
        PushPull { join, nodes, serf: Some(serf) }
    }

    /// The members that a state has: all of them, in the order in which they became known, if they fit.
    fn told(&self) -> Vec<&Member> {
        let full = || Budget { nodes: NODES_BYTES_MAX, names: NAMES_BYTES_MAX };
        let mut budget = full();
        let all: Vec<&Member> = self.members().collect();
        if all.iter().all(|member| budget.take(member)) {
            return all;
        }
        let (mut first, mut unknown, mut gone) = (vec![self.me()], Vec::new(), Vec::new());
        for (id, member) in self.members.iter().filter(|(id, _)| *id != self.me) {
            match member.is_living() {
                true if self.probes.has_answered(id) => first.push(member),
                true => unknown.push(member),
                false => gone.push(member),
            }
        }
        // From another one on each time: whom one state has no room for, another one has.
        for some in [&mut unknown, &mut gone] {
            let at = usize::try_from(self.now.0).unwrap_or(0) % some.len().max(1);
            some.rotate_left(at);
        }
        let mut budget = full();
        first.into_iter().chain(unknown).chain(gone).filter(|member| budget.take(member)).collect()
    }

    fn long_dead(&self, member: &Member) -> bool {
        self.now - member.since >= self.config.gossip_to_the_dead
    }
}
