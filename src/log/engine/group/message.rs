//! What the group coordinator is asked and what it answers, free of any version of the wire.

use bytes::Bytes;

use super::consumer::{Parts, Phase};
use crate::log::wire::ErrorCode;
use crate::log::wire::group_record::{CurrentAssignment, MemberMetadata};

/// Names whoever waits for an answer that may come later.
pub type Ticket = u64;

/// Someone wants to be a member, or to be one again (`JoinGroup`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Empty for a new member.
    pub member_id: String,
    /// The name that a static member keeps over restarts (KIP-345).
    pub instance_id: Option<String>,
    /// For the member id and for people.
    pub client_id: String,
    /// For people.
    pub client_host: String,
    /// A member that is silent for so long is out, in ms.
    pub session_timeout_ms: i32,
    /// How long members may take to join again, in ms.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ….
    pub protocol_type: String,
    /// What the member can do, best first, each with its subscription or so.
    pub protocols: Vec<(String, Bytes)>,
    /// A new member gets an id first and joins with it (KIP-394; version 4).
    pub needs_member_id: bool,
    /// A leader can be told that there is nothing to assign (KIP-814; version 9).
    pub can_skip_assignment: bool,
}

/// The answer to [`Join`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// None is success.
    pub error: ErrorCode,
    /// Counts rebalances; -1 with an error.
    pub generation: i32,
    /// The group's.
    pub protocol_type: Option<String>,
    /// The one that all members can do.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: String,
    /// The leader is not to assign.
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: String,
    /// Everyone, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// What it said for the protocol that was chosen.
    pub metadata: Bytes,
}

impl Joined {
    /// A refusal.
    pub fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A member wants its assignment; the leader brings everyone's (`SyncGroup`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// Who asks.
    pub by: Caller,
    /// What the member thinks the group is; from version 5 on.
    pub protocol_type: Option<String>,
    /// What the member thinks was chosen; from version 5 on.
    pub protocol: Option<String>,
    /// By the leader: member ids and what they get.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to [`Sync`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// None is success.
    pub error: ErrorCode,
    /// The group's.
    pub protocol_type: Option<String>,
    /// The one that was chosen.
    pub protocol: Option<String>,
    /// What the member gets.
    pub assignment: Bytes,
}

impl Synced {
    /// A refusal.
    pub fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// A member of a generation, as requests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The group.
    pub group: String,
    /// The generation it knows; of a member of the next generation of groups, its epoch. -1 outside of any.
    pub generation: i32,
    /// Its id, empty outside of any generation.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
}

/// Who leaves: by id, by static name, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// Its id; empty when only the static name is known.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
}

/// Where a group is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the leader that the last record came from, or -1.
    pub leader_epoch: i32,
    /// What the consumer wants to remember.
    pub metadata: String,
    /// When it was committed, in ms since 1970.
    pub time_ms: i64,
    /// When it may be forgotten, in ms since 1970, if the consumer said so (version 2 to 4).
    pub expires_ms: Option<i64>,
}

/// A partition by its topic's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// What is to be written to the log of groups, keyed so that the last one of a key counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A classic group's generation; none removes it.
    Group {
        /// The group.
        group: String,
        /// Its members and what they are assigned.
        value: Option<GroupValue>,
    },
    /// A committed offset; none removes it.
    Offset {
        /// The group.
        group: String,
        /// The partition.
        place: Place,
        /// Where the group is.
        value: Option<Committed>,
    },
    /// A group of the next generation; none removes it.
    Epoch {
        /// The group.
        group: String,
        /// Its epoch, and what stands for the topics that it wants.
        value: Option<(i32, i64)>,
    },
    /// What a member of the next generation wants; none removes it.
    Member {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// What it says of itself.
        value: Option<Box<MemberMetadata>>,
    },
    /// For which epoch a group was divided; none removes it.
    TargetEpoch {
        /// The group.
        group: String,
        /// The epoch.
        value: Option<i32>,
    },
    /// What a member is to have; none removes it.
    Target {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// The partitions.
        value: Option<Parts>,
    },
    /// What a member has; none removes it.
    Current {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Partitions, and how far it is.
        value: Option<CurrentAssignment>,
    },
}

/// A generation of a classic group as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// `consumer`, ….
    pub protocol_type: String,
    /// Counts rebalances.
    pub generation: i32,
    /// The one that was chosen.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: Option<String>,
    /// Since when it is in its state, in ms since 1970.
    pub since_ms: i64,
    /// Everyone.
    pub members: Vec<MemberValue>,
}

/// A member as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// For people.
    pub client_id: String,
    /// For people.
    pub client_host: String,
    /// In ms.
    pub rebalance_timeout_ms: i32,
    /// In ms.
    pub session_timeout_ms: i32,
    /// What it said for the protocol that was chosen.
    pub subscription: Bytes,
    /// What it got.
    pub assignment: Bytes,
}

/// What the coordinator wants done. An answer that stands behind a record in one list is sent when that is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this down.
    Store(Record),
    /// Answer whoever wanted to join.
    Joined(Ticket, Joined),
    /// Answer whoever wanted its assignment.
    Synced(Ticket, Synced),
}

/// A group among others (`ListGroups`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub group: String,
    /// `consumer`, …; empty for offsets without members.
    pub protocol_type: String,
    /// `Stable`, ….
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub kind: &'static str,
}

/// A classic group in full (`DescribeGroups`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// `Stable`, …; `Dead` for one that is not there.
    pub state: &'static str,
    /// `consumer`, ….
    pub protocol_type: String,
    /// The protocol that was chosen, of a stable group.
    pub protocol: String,
    /// Everyone.
    pub members: Vec<DescribedMember>,
}

/// A member in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// For people.
    pub client_id: String,
    /// For people.
    pub client_host: String,
    /// What it said.
    pub metadata: Bytes,
    /// What it got.
    pub assignment: Bytes,
}

/// A group of the next generation in full (`ConsumerGroupDescribe`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedNext {
    /// `Stable`, ….
    pub state: &'static str,
    /// Counts changes.
    pub epoch: i32,
    /// What its members move to was made for this epoch.
    pub assignment_epoch: i32,
    /// Who divides.
    pub assignor: &'static str,
    /// Everyone.
    pub members: Vec<NextMember>,
}

/// A member of it in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextMember {
    /// Its id.
    pub member_id: String,
    /// What it says of itself and wants.
    pub wants: MemberMetadata,
    /// The epoch that it has reached.
    pub epoch: i32,
    /// How far it is.
    pub phase: Phase,
    /// What it has.
    pub assigned: Parts,
    /// What it is to have.
    pub target: Parts,
}
