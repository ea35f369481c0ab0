//! Members as they are kept, and back.

use super::{ConsumerGroup, Member, Parts, Phase};
use crate::log::engine::Now;
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
            if let Some(member) = self.members.remove(id) {
                self.release(id, &member);
                if let Some(instance) = &member.wants.instance_id
                    && self.statics.get(instance).is_some_and(|owner| owner == id)
                {
                    self.statics.remove(instance);
                }
            }
            return;
        };
        if let Some(instance) = &wants.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        self.members.entry(id.to_owned()).or_insert_with(|| Member::new(now)).wants = wants;
    }

    /// Takes in what a member has, as it was kept.
    pub(in crate::log::engine::group) fn restore_current(
        &mut self,
        id: &str,
        value: Option<CurrentAssignment>,
    ) {
        let Some(before) = self.members.get(id) else { return };
        let mut member = Member {
            epoch: 0,
            previous_epoch: -1,
            phase: Phase::Stable,
            assigned: Parts::new(),
            revoking: Parts::new(),
            ..before.clone()
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
