//! A group of the next generation (KIP-848): members say what they want and what they have, the coordinator divides.
//!
//! ```text
//! group epoch       counts changes of members, of what they want, and of the topics
//! assignment epoch  the group epoch for which the target was made
//! member epoch      the target that a member has reached: it gives up first, and takes what nobody has any more
//! ```
//!
//! A member that comes by the classic protocol is one of these members too: see `migration`.

mod assign;
mod beat;
mod expression;
mod migration;
mod parts;
mod reconcile;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::message::{Output, Record};
use crate::log::engine::Now;
use crate::log::wire::Uuid;
use crate::log::wire::group_record::MemberMetadata;
use assign::Wanting;

pub(super) use assign::Assignor;
pub use beat::{Beat, Beaten};
pub use expression::Expression;
pub use parts::Parts;
pub use reconcile::Phase;
pub(super) use record::{parts_of, target};

/// The epoch of a static member that has left for a while.
pub(super) const AWAY: i32 = -2;
/// The epoch with which a member leaves for good.
const LEAVES: i32 = -1;

/// What topics there are, as the coordinator asks for them.
pub trait Catalog {
    /// Another one when topics or their partitions have changed.
    fn version(&self) -> u64;
    /// Id and partitions of a topic.
    fn topic(&self, name: &str) -> Option<(Uuid, i32)>;
    /// Name and partitions of a topic.
    fn by_id(&self, id: Uuid) -> Option<(String, i32)>;
    /// Topics that a regular expression finds; none if nobody has looked, which takes long and is done beforehand: see
    /// [`Groups::expressions`](super::Groups::expressions).
    fn found(&self, expression: &str) -> Option<Vec<String>>;
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// What it says of itself and wants; as it is kept.
    pub(super) wants: MemberMetadata,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) phase: Phase,
    pub(super) assigned: Parts,
    pub(super) revoking: Parts,
    /// It is out when it was silent up to then.
    deadline: Instant,
    /// It is out when it has not given up by then, or as a classic member not joined or asked.
    late: Option<Instant>,
}

impl Member {
    fn new(now: Now) -> Self {
        Self {
            wants: MemberMetadata::default(),
            epoch: 0,
            previous_epoch: -1,
            phase: Phase::Stable,
            assigned: Parts::new(),
            revoking: Parts::new(),
            deadline: now.instant,
            late: None,
        }
    }

    pub(super) fn is_classic(&self) -> bool {
        self.wants.classic.is_some()
    }

    fn rebalance_timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.wants.rebalance_timeout_ms).unwrap_or(0))
    }
}

/// A next-generation group without its offsets.
#[derive(Debug, Default)]
pub(super) struct ConsumerGroup {
    pub(super) id: String,
    pub(super) epoch: i32,
    pub(super) assignment_epoch: i32,
    pub(super) members: BTreeMap<String, Member>,
    pub(super) statics: HashMap<String, String>,
    pub(super) target: BTreeMap<String, Parts>,
    /// Since when nobody is in it, in ms since 1970.
    pub(super) empty_since_ms: i64,
    /// Who has a partition, or has to give it up.
    owners: HashMap<(Uuid, i32), String>,
    /// The topics that are wanted, as they were when last looked at.
    topics: BTreeMap<String, (Uuid, i32)>,
    /// Stands for them; kept, so that a start sees whether they have changed.
    topics_hash: i64,
    /// What regular expressions have found.
    found: BTreeMap<String, Vec<String>>,
    /// The catalog's version at that look.
    seen: Option<u64>,
}

impl ConsumerGroup {
    pub(super) fn new(id: &str, now: Now) -> Self {
        Self { id: id.to_owned(), empty_since_ms: now.unix_ms, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Kafka's word for how it is.
    pub(super) fn state(&self) -> &'static str {
        let is_there = |member: &Member| {
            member.epoch == AWAY || member.phase == Phase::Stable && member.epoch == self.assignment_epoch
        };
        match self {
            _ if self.members.is_empty() => "Empty",
            _ if self.epoch > self.assignment_epoch => "Assigning",
            _ if self.members.values().all(is_there) => "Stable",
            _ => "Reconciling",
        }
    }

    /// When something happens by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.members.values().map(|one| one.late.map_or(one.deadline, |late| late.min(one.deadline))).min()
    }

    /// What time brings: members that were silent, or did not give up in time, are out.
    pub(super) fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_out = |member: &Member| {
            member.deadline <= now.instant || member.late.is_some_and(|late| late <= now.instant)
        };
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| is_out(member)).map(|(id, _)| id.clone()).collect();
        if !gone.is_empty() {
            gone.iter().for_each(|id| self.take_out(id, out));
            self.bump(now, out);
        }
    }

    /// Takes a member out. The epoch has to be raised after it.
    pub(super) fn take_out(&mut self, id: &str, out: &mut Vec<Output>) {
        if !self.remove(id) {
            return;
        }
        let (group, member) = (self.id.clone(), id.to_owned());
        out.push(Output::Store(Record::Current {
            group: group.clone(),
            member: member.clone(),
            value: None,
        }));
        out.push(Output::Store(Record::Target { group: group.clone(), member: member.clone(), value: None }));
        out.push(Output::Store(Record::Member { group, member, value: None }));
    }

    /// Forgets a member. Says whether there was one.
    fn remove(&mut self, id: &str) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        self.release(id, &member);
        if let Some(instance) = &member.wants.instance_id
            && self.statics.get(instance).is_some_and(|owner| owner == id)
        {
            self.statics.remove(instance);
        }
        self.target.remove(id);
        true
    }

    /// Members, what they want, or topics are others now.
    pub(super) fn bump(&mut self, now: Now, out: &mut Vec<Output>) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.empty_since_ms = now.unix_ms;
        }
        out.push(Output::Store(Record::Epoch {
            group: self.id.clone(),
            value: Some((self.epoch, self.topics_hash)),
        }));
    }

    /// Forgets the whole group; its offsets are another matter.
    pub(super) fn forget(&mut self, out: &mut Vec<Output>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.take_out(id, out));
        out.push(Output::Store(Record::TargetEpoch { group: self.id.clone(), value: None }));
        out.push(Output::Store(Record::Epoch { group: self.id.clone(), value: None }));
    }

    fn release(&mut self, id: &str, member: &Member) {
        for part in parts::each(&member.assigned).chain(parts::each(&member.revoking)) {
            if self.owners.get(&part).is_some_and(|owner| owner == id) {
                self.owners.remove(&part);
            }
        }
    }

    fn occupy(&mut self, id: &str, member: &Member) {
        for part in parts::each(&member.assigned).chain(parts::each(&member.revoking)) {
            self.owners.insert(part, id.to_owned());
        }
    }

    /// Puts a member in the place of what it was.
    fn put(&mut self, id: &str, member: Member) {
        if let Some(before) = self.members.remove(id) {
            self.release(id, &before);
        }
        self.occupy(id, &member);
        self.members.insert(id.to_owned(), member);
    }

    /// Topics that members want, by their names.
    pub(super) fn subscribed(&self) -> BTreeSet<String> {
        let names = self.members.values().flat_map(|member| member.wants.subscribed_topic_names.iter());
        names.chain(self.found.values().flatten()).cloned().collect()
    }

    /// The regular expressions of its members.
    fn expressions(&self) -> BTreeSet<&String> {
        self.members.values().filter_map(|member| member.wants.subscribed_topic_regex.as_ref()).collect()
    }

    /// Looks at the topics that are wanted. Says whether they are others than at the last look.
    fn look_at_topics(&mut self, catalog: &dyn Catalog) -> bool {
        self.seen = Some(catalog.version());
        let find = |expression: &String| {
            let before = || self.found.get(expression).cloned().unwrap_or_default();
            (expression.clone(), catalog.found(expression).unwrap_or_else(before))
        };
        self.found = self.expressions().into_iter().map(find).collect();
        let known = |name: String| catalog.topic(&name).map(|topic| (name, topic));
        self.topics = self.subscribed().into_iter().filter_map(known).collect();
        let hash = hash_of(&self.topics);
        std::mem::replace(&mut self.topics_hash, hash) != hash
    }

    /// Whom members want to divide: the most wanted one.
    pub(super) fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(wanted) = member.wants.server_assignor.as_deref().and_then(Assignor::from_name) {
                *votes.entry(wanted).or_default() += 1;
            }
        }
        // Of as many the first.
        let most = votes.into_iter().max_by_key(|(assignor, count)| (*count, std::cmp::Reverse(*assignor)));
        most.map_or(Assignor::Uniform, |(assignor, _)| assignor)
    }

    /// Divides anew, for the group's epoch.
    fn divide(&mut self, out: &mut Vec<Output>) {
        let counts: BTreeMap<Uuid, i32> = self.topics.values().copied().collect();
        let ids_of = |member: &Member| -> BTreeSet<Uuid> {
            let found = member.wants.subscribed_topic_regex.as_ref().and_then(|regex| self.found.get(regex));
            let names = member.wants.subscribed_topic_names.iter().chain(found.into_iter().flatten());
            names.filter_map(|name| self.topics.get(name)).map(|(id, _)| *id).collect()
        };
        let wanting: Vec<Wanting<'_>> = self
            .members
            .iter()
            .map(|(id, member)| Wanting {
                name: member.wants.instance_id.as_deref().unwrap_or(id),
                topics: ids_of(member),
                before: self.target.get(id),
            })
            .collect();
        let given = self.assignor().divide(&wanting, &counts);
        let target: BTreeMap<String, Parts> = self.members.keys().cloned().zip(given).collect();
        for (member, value) in &target {
            if self.target.get(member) != Some(value) {
                let (group, member, value) = (self.id.clone(), member.clone(), Some(value.clone()));
                out.push(Output::Store(Record::Target { group, member, value }));
            }
        }
        self.target = target;
        self.assignment_epoch = self.epoch;
        out.push(Output::Store(Record::TargetEpoch { group: self.id.clone(), value: Some(self.epoch) }));
    }

    /// Takes in that a member wants something, and divides anew if that or a topic has changed.
    fn catch_up(
        &mut self,
        now: Now,
        wants_changed: bool,
        was_replaced: bool,
        catalog: &dyn Catalog,
        out: &mut Vec<Output>,
    ) {
        let topics_changed =
            (wants_changed || self.seen < Some(catalog.version())) && self.look_at_topics(catalog);
        if wants_changed || topics_changed {
            self.bump(now, out);
        }
        if self.epoch > self.assignment_epoch || was_replaced {
            self.divide(out);
        }
    }

    /// Brings a member nearer to its target. `owned` is what it says that it has. Says whether what it is to have is
    /// another.
    fn reconcile(&mut self, now: Now, id: &str, owned: Option<&Parts>, out: &mut Vec<Output>) -> bool {
        let Some(before) = self.members.get(id) else { return false };
        let none = Parts::new();
        let target = (self.target.get(id).unwrap_or(&none), self.assignment_epoch);
        let is_free = |part: (Uuid, i32)| self.owners.get(&part).is_none_or(|owner| owner == id);
        let mut member = before.clone();
        reconcile::step(&mut member, target, owned, is_free);
        let is_same = member.phase == before.phase
            && (member.epoch, member.previous_epoch) == (before.epoch, before.previous_epoch)
            && member.assigned == before.assigned
            && member.revoking == before.revoking;
        if is_same {
            return false;
        }
        let changed = member.assigned != before.assigned;
        if !member.is_classic() {
            let until = || now.instant + member.rebalance_timeout();
            member.late = (member.phase == Phase::Unrevoked).then(until);
        }
        out.push(self.current(id, &member));
        self.put(id, member);
        changed
    }

    fn current(&self, id: &str, member: &Member) -> Output {
        let value = Some(record::current(member));
        Output::Store(Record::Current { group: self.id.clone(), member: id.to_owned(), value })
    }
}

/// FNV-1a of topics; 0 for none at all.
fn hash_of(topics: &BTreeMap<String, (Uuid, i32)>) -> i64 {
    const PRIME: u64 = 0x100_0000_01b3;
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    if topics.is_empty() {
        return 0;
    }
    let mut hash = BASIS;
    for (name, (id, partitions)) in topics {
        for byte in name.bytes().chain([0]).chain(id.0).chain(partitions.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash.cast_signed()
}
