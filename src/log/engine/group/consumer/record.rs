//! Members as they are kept, and back.

use super::{ConsumerGroup, Member, Parts, Phase};
use crate::log::engine::Now;
use crate::log::engine::group::message::Record;
use crate::log::wire::group_record::{CurrentAssignment, MemberMetadata, OfTopic, TargetAssignment};

pub(in crate::log::engine::group) fn of_topics(parts: &Parts) -> Vec<OfTopic> {
    let one = |(topic, partitions): (&_, &std::collections::BTreeSet<i32>)| OfTopic {
        topic_id: *topic,
        partitions: partitions.iter().copied().collect(),
    };
    parts.iter().map(one).collect()
}

pub(in crate::log::engine::group) fn parts_of(topics: &[OfTopic]) -> Parts {
    let mut parts = Parts::new();
    for of_topic in topics.iter().filter(|of_topic| !of_topic.partitions.is_empty()) {
        parts.entry(of_topic.topic_id).or_default().extend(&of_topic.partitions);
    }
    parts
}

pub(super) fn current(member: &Member) -> CurrentAssignment {
    CurrentAssignment {
        member_epoch: member.epoch,
        previous_member_epoch: member.previous_epoch,
        state: member.phase.code(),
        assigned: of_topics(&member.assigned),
        revoking: of_topics(&member.revoking),
    }
}

pub(in crate::log::engine::group) fn target(parts: &Parts) -> TargetAssignment {
    TargetAssignment { topic_partitions: of_topics(parts) }
}

impl ConsumerGroup {
    /// Everything of it that is to be kept.
    pub(in crate::log::engine::group) fn records(&self) -> Vec<Record> {
        let group = || self.id.clone();
        let mut records = Vec::new();
        for (id, member) in &self.members {
            let value = Some(Box::new(member.wants.clone()));
            records.push(Record::Member { group: group(), member: id.clone(), value });
        }
        records.push(Record::Epoch { group: group(), value: Some((self.epoch, self.topics_hash)) });
        for (id, parts) in &self.target {
            records.push(Record::Target { group: group(), member: id.clone(), value: Some(parts.clone()) });
        }
        records.push(Record::TargetEpoch { group: group(), value: Some(self.assignment_epoch) });
        for (id, member) in &self.members {
            let value = Some(current(member));
            records.push(Record::Current { group: group(), member: id.clone(), value });
        }
        records
    }

    /// Takes in the group itself, as it was kept.
    pub(in crate::log::engine::group) fn restore_epoch(&mut self, epoch: i32, topics_hash: i64) {
        (self.epoch, self.topics_hash) = (epoch, topics_hash);
    }

    /// Takes in what a member wants, as it was kept.
    pub(in crate::log::engine::group) fn restore_wants(
        &mut self,
        now: Now,
        id: &str,
        value: Option<MemberMetadata>,
    ) {
        let Some(wants) = value else {
            self.remove(id);
            return;
        };
        if let Some(instance) = &wants.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        self.members.entry(id.to_owned()).or_insert_with(|| Member::new(now)).wants = wants;
    }

    /// Takes in what a member has, as it was kept. After a compaction that can come before what it wants.
    pub(in crate::log::engine::group) fn restore_current(
        &mut self,
        now: Now,
        id: &str,
        value: Option<CurrentAssignment>,
    ) {
        let mut member = match self.members.get(id) {
            Some(before) => Member { wants: before.wants.clone(), ..Member::new(now) },
            None if value.is_none() => return,
            None => Member::new(now),
        };
        if let Some(value) = value {
            (member.epoch, member.previous_epoch) = (value.member_epoch, value.previous_member_epoch);
            member.phase = Phase::from_code(value.state);
            member.assigned = parts_of(&value.assigned);
            member.revoking = parts_of(&value.revoking);
        }
        self.put(id, member);
    }

    /// Takes in what a member is to have, as it was kept.
    pub(in crate::log::engine::group) fn restore_target(&mut self, id: &str, value: Option<Parts>) {
        match value {
            Some(parts) => drop(self.target.insert(id.to_owned(), parts)),
            None => drop(self.target.remove(id)),
        }
    }
}
