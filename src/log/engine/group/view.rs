//! Groups as tools look at them: listed and described.

use super::classic::{Classic, State};
use super::message::{Described, DescribedMember, Listed};
use super::{Group, Groups};

impl Groups {
    /// All groups, by name.
    pub fn list(&self) -> Vec<Listed> {
        let one = |(id, group): (&std::sync::Arc<str>, &Group)| Listed {
            group: id.to_string(),
            protocol_type: group.classic.protocol_type.clone().unwrap_or_default(),
            state: group.classic.state.name(),
            kind: "classic",
        };
        self.groups.iter().map(one).collect()
    }

    /// One group in full; none if there is none of that name.
    pub fn describe(&self, group: &str) -> Option<Described> {
        let classic = &self.groups.get(group)?.classic;
        let is_stable = classic.state == State::Stable;
        Some(Described {
            state: classic.state.name(),
            protocol_type: classic.protocol_type.clone().unwrap_or_default(),
            protocol: if is_stable { classic.protocol.clone().unwrap_or_default() } else { String::new() },
            members: members(classic, is_stable),
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
        self.groups.values().map(|group| group.classic.members.len()).sum()
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
