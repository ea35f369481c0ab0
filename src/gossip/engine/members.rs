//! Who is known: a dense table, so that a member is a number everywhere else.

use core::net::SocketAddr;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::Time;
use crate::gossip::wire::{Name, NodeState, Versions};

/// Draws that are made to find members at random before fewer are taken.
const DRAWS_MAX: usize = 300;

/// How a member is, as Serf says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It answers.
    Alive,
    /// It has said that it leaves.
    Leaving,
    /// It is gone, as it had said.
    Left,
    /// It is gone, and had not said so.
    Failed,
}

impl Status {
    /// Serf's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Where it receives.
    pub address: SocketAddr,
    /// Its tags, encoded.
    pub meta: Bytes,
    /// What it speaks.
    pub versions: Versions,
    /// Its incarnation.
    pub incarnation: u32,
    /// How it is, as memberlist says it: only this knows suspects.
    pub state: NodeState,
    /// Since when.
    pub since: Time,
    /// How it is, as Serf says it.
    pub status: Status,
    /// When that was announced.
    pub status_ltime: u64,
}

impl Member {
    /// Whether it may still be there.
    pub fn is_living(&self) -> bool {
        matches!(self.state, NodeState::Alive | NodeState::Suspect)
    }

    /// Whether it checks datagrams.
    pub fn takes_checksums(&self) -> bool {
        self.versions[1] >= 5
    }

    /// Whether it says so if another one does not answer.
    pub fn sends_nacks(&self) -> bool {
        self.versions[1] >= 4
    }

    /// Whether it answers over TCP.
    pub fn takes_stream_pings(&self) -> bool {
        self.versions[1] >= 3
    }
}

/// Members that every node of a simulation starts with: held once.
#[derive(Debug, Default)]
pub struct Roster {
    members: Vec<Member>,
    by_name: HashMap<Name, u32>,
    by_address: HashMap<SocketAddr, u32>,
}

impl Roster {
    /// A roster of living members.
    pub fn new(members: Vec<Member>) -> Self {
        let ids = |index: usize| u32::try_from(index).expect("fewer than four thousand million members");
        let by_name = members.iter().enumerate().map(|(at, member)| (member.name.clone(), ids(at))).collect();
        let by_address = members.iter().enumerate().map(|(at, member)| (member.address, ids(at))).collect();
        Self { members, by_name, by_address }
    }
}

/// All members, this node among them. What is asked for when news are told comes first.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Members {
    base: Arc<Roster>,
    living: usize,
    /// Those that came later.
    later: Vec<Option<Member>>,
    /// What became of those of the roster.
    changed: HashMap<u32, Option<Box<Member>>>,
    total: usize,
    free: Vec<u32>,
    by_name: HashMap<Name, u32>,
    by_address: HashMap<SocketAddr, u32>,
    pub failed: BTreeSet<u32>,
    pub left: BTreeSet<u32>,
    round: Round,
}

impl Members {
    pub fn new(base: Arc<Roster>) -> Self {
        let total = base.members.len();
        Self { base, living: total, total, ..Self::default() }
    }

    fn base_len(&self) -> u32 {
        self.base.members.len() as u32
    }

    /// One more than the largest number.
    fn end(&self) -> u32 {
        self.base_len() + self.later.len() as u32
    }

    /// Those that may be there.
    pub fn living(&self) -> usize {
        self.living
    }

    pub fn len(&self) -> usize {
        self.total
    }

    pub fn get(&self, id: u32) -> Option<&Member> {
        match id.checked_sub(self.base_len()) {
            Some(later) => self.later.get(later as usize)?.as_ref(),
            None => match self.changed.get(&id) {
                Some(changed) => changed.as_deref(),
                None => self.base.members.get(id as usize),
            },
        }
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Member> {
        match id.checked_sub(self.base_len()) {
            Some(later) => self.later.get_mut(later as usize)?.as_mut(),
            None => {
                let base = &self.base.members[id as usize];
                self.changed.entry(id).or_insert_with(|| Some(Box::new(base.clone()))).as_deref_mut()
            }
        }
    }

    /// Changes a member, and counts it as what it has become.
    pub fn change(&mut self, id: u32, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.get_mut(id) else { return };
        let (living, address) = (member.is_living(), member.address);
        change(member);
        let (lives, moved, status) = (member.is_living(), member.address, member.status);
        self.living = self.living + usize::from(lives) - usize::from(living);
        if moved != address {
            self.by_address.remove(&address);
            self.by_address.insert(moved, id);
        }
        self.count(id, status);
    }

    fn count(&mut self, id: u32, status: Status) {
        let put = |set: &mut BTreeSet<u32>, wanted: bool| {
            if wanted {
                set.insert(id)
            } else {
                set.remove(&id)
            };
        };
        put(&mut self.failed, status == Status::Failed);
        put(&mut self.left, status == Status::Left);
    }

    pub fn id(&self, name: &str) -> Option<u32> {
        self.by_name
            .get(name)
            .or_else(|| self.base.by_name.get(name))
            .copied()
            .filter(|id| self.get(*id).is_some_and(|member| &*member.name == name))
    }

    pub fn by_name(&self, name: &str) -> Option<&Member> {
        self.id(name).and_then(|id| self.get(id))
    }

    pub fn by_address(&self, address: SocketAddr) -> Option<&Member> {
        self.by_address
            .get(&address)
            .or_else(|| self.base.by_address.get(&address))
            .and_then(|id| self.get(*id))
            .filter(|member| member.address == address)
    }

    pub fn insert(&mut self, member: Member) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.later.push(None);
            self.end() - 1
        });
        self.by_name.insert(member.name.clone(), id);
        self.by_address.insert(member.address, id);
        self.living += usize::from(member.is_living());
        self.total += 1;
        self.count(id, member.status);
        let later = (id - self.base_len()) as usize;
        self.later[later] = Some(member);
        id
    }

    pub fn remove(&mut self, id: u32) -> Option<Member> {
        let member = match id.checked_sub(self.base_len()) {
            Some(later) => {
                let member = self.later.get_mut(later as usize)?.take()?;
                self.free.push(id);
                member
            }
            None => {
                let member = self.get(id)?.clone();
                self.changed.insert(id, None);
                member
            }
        };
        self.living -= usize::from(member.is_living());
        self.total -= 1;
        self.by_name.remove(&member.name);
        if self.by_address.get(&member.address) == Some(&id) {
            self.by_address.remove(&member.address);
        }
        self.failed.remove(&id);
        self.left.remove(&id);
        Some(member)
    }

    /// All members, in the order in which they became known.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Member)> {
        (0..self.end()).filter_map(|id| Some((id, self.get(id)?)))
    }

    /// Up to `count` different members at random of those that are wanted.
    pub fn sample(
        &self,
        rng: &mut fastrand::Rng,
        count: usize,
        mut wanted: impl FnMut(u32, &Member) -> bool,
    ) -> Vec<u32> {
        let mut found = Vec::with_capacity(count);
        let end = self.end();
        if (end as usize) <= 2 * count.max(4) {
            // So few that draws would miss some.
            let mut ids: Vec<u32> = (0..end).collect();
            rng.shuffle(&mut ids);
            let wanted = ids.into_iter().filter(|id| self.get(*id).is_some_and(|member| wanted(*id, member)));
            return wanted.take(count).collect();
        }
        for _ in 0..DRAWS_MAX.min(3 * end as usize) {
            if found.len() == count {
                break;
            }
            let id = rng.u32(0..end);
            if !found.contains(&id) && self.get(id).is_some_and(|member| wanted(id, member)) {
                found.push(id);
            }
        }
        found
    }

    /// The next member to be probed: every one comes once in a round, in an order that is another one each time.
    pub fn next_in_round(
        &mut self,
        rng: &mut fastrand::Rng,
        mut wanted: impl FnMut(u32, &Member) -> bool,
    ) -> Option<u32> {
        for _ in 0..DRAWS_MAX.min(2 * self.end() as usize) {
            let id = self.round.next(self.end(), rng)?;
            if self.get(id).is_some_and(|member| wanted(id, member)) {
                return Some(id);
            }
        }
        None
    }
}

/// A walk over `0..len` in steps that have no divisor in common with `len`, so that it meets each number once.
#[derive(Debug, Default)]
struct Round {
    len: u32,
    at: u32,
    step: u32,
    rest: u32,
}

impl Round {
    fn next(&mut self, end: u32, rng: &mut fastrand::Rng) -> Option<u32> {
        if self.rest == 0 {
            if end == 0 {
                return None;
            }
            let coprime = |step: u32| gcd(step, end) == 1;
            // One in about ln ln n numbers is coprime at worst, and 1 always is.
            let step = (0..64).map(|_| rng.u32(0..end)).find(|step| coprime(*step)).unwrap_or(1);
            *self = Self { len: end, at: rng.u32(0..end), step, rest: end };
        }
        self.rest -= 1;
        self.at = ((u64::from(self.at) + u64::from(self.step)) % u64::from(self.len)) as u32;
        Some(self.at)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::wire::VERSIONS;

    fn member(index: usize) -> Member {
        Member {
            name: format!("n{index}").into(),
            address: SocketAddr::from(([10, 0, 0, index as u8], 1)),
            meta: Bytes::new(),
            versions: VERSIONS,
            incarnation: 1,
            state: NodeState::Alive,
            since: Time(0),
            status: Status::Alive,
            status_ltime: 1,
        }
    }

    #[test]
    fn a_round_meets_everybody_once() {
        let mut members = Members::default();
        for index in 0..37 {
            members.insert(member(index));
        }
        let rng = &mut fastrand::Rng::with_seed(1);
        for _ in 0..3 {
            let mut seen: Vec<u32> =
                (0..37).map(|_| members.next_in_round(rng, |_, _| true).unwrap()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..37).collect::<Vec<_>>());
        }
        assert_eq!(members.next_in_round(rng, |_, _| false), None);
    }

    #[test]
    fn a_shared_roster_is_changed_for_one_node_only() {
        let roster = Arc::new(Roster::new((0..5).map(member).collect()));
        let (mut one, two) = (Members::new(roster.clone()), Members::new(roster));
        one.change(3, |member| (member.state, member.status) = (NodeState::Dead, Status::Failed));
        one.remove(4);
        assert_eq!((one.living(), one.len(), one.failed.len()), (3, 4, 1));
        assert_eq!((two.living(), two.len(), two.failed.len()), (5, 5, 0));
        assert_eq!(one.id("n4"), None);
        let id = one.insert(member(9));
        assert_eq!((id, one.id("n9"), one.iter().count()), (5, Some(5), 5));
        assert_eq!(one.by_address(member(9).address).map(|found| &*found.name), Some("n9"));
        let again = one.remove(5).map(|gone| one.insert(gone));
        assert_eq!(again, Some(5));
    }
}
