//! Groups as tools look at them: listed and described.

use super::classic::{Classic, State};
use super::message::{Described, DescribedMember, DescribedNext, Listed, NextMember};
use super::{Group, Groups};

impl Groups {
    /// All groups, by name.
    pub fn list(&self) -> Vec<Listed> {
        let one = |(id, group): (&std::sync::Arc<str>, &Group)| match &group.consumer {
            Some(consumer) => Listed {
                group: id.to_string(),
                protocol_type: "consumer".to_owned(),
                state: consumer.state(),
                kind: "consumer",
            },
            None => Listed {
                group: id.to_string(),
                protocol_type: group.classic.protocol_type.clone().unwrap_or_default(),
                state: group.classic.state.name(),
                kind: "classic",
            },
        };
        self.groups.iter().map(one).collect()
    }

    /// One classic group in full; none if there is none of that name.
    pub fn describe(&self, group: &str) -> Option<Described> {
        let group = self.groups.get(group).filter(|group| group.consumer.is_none())?;
        let classic = &group.classic;
        let is_stable = classic.state == State::Stable;
        Some(Described {
            state: classic.state.name(),
            protocol_type: classic.protocol_type.clone().unwrap_or_default(),
            protocol: if is_stable { classic.protocol.clone().unwrap_or_default() } else { String::new() },
            members: members(classic, is_stable),
        })
    }

    /// One group of the next generation in full; none if there is none of that name.
    pub fn describe_next(&self, group: &str) -> Option<DescribedNext> {
        let consumer = self.groups.get(group)?.consumer.as_ref()?;
        let member = |(id, member): (&String, &super::consumer::Member)| NextMember {
            member_id: id.clone(),
            wants: member.wants.clone(),
            epoch: member.epoch,
            phase: member.phase,
            assigned: member.assigned.clone(),
            target: consumer.target.get(id).cloned().unwrap_or_default(),
        };
        Some(DescribedNext {
            state: consumer.state(),
            epoch: consumer.epoch,
            assignment_epoch: consumer.assignment_epoch,
            assignor: consumer.assignor().name(),
            members: consumer.members.iter().map(member).collect(),
        })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many members all groups have.
    pub fn members(&self) -> usize {
        let next = |group: &Group| group.consumer.as_ref().map_or(0, |consumer| consumer.members.len());
        self.groups.values().map(|group| group.classic.members.len() + next(group)).sum()
    }
}

/// Everyone; what they said and got only while that is settled.
fn members(classic: &Classic, is_stable: bool) -> Vec<DescribedMember> {
    let protocol = classic.protocol.clone().unwrap_or_default();
    let ordered = classic.in_order().into_iter();
    ordered
        .map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(&protocol) } else { Default::default() },
            assignment: if is_stable { member.assignment.clone() } else { Default::default() },
        })
        .collect()
}
