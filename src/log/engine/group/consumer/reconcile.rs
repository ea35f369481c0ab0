//! How a member comes to have what it is to have: first it gives up, then it takes what nobody has any more.

use super::Member;
use super::parts::{self, Parts};
use crate::log::wire::Uuid;

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It has all that it is to have.
    #[default]
    Stable,
    /// It has to give up partitions.
    Unrevoked,
    /// It waits for partitions that others have to give up.
    Unreleased,
}

impl Phase {
    /// As it is kept.
    pub(super) fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
        }
    }

    pub(super) fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Stable,
        }
    }
}

/// One step. `owned` is what the member says that it has; unless it says so, it has not given anything up.
pub(super) fn step(
    member: &mut Member,
    target: (&Parts, i32),
    owned: Option<&Parts>,
    is_free: impl Fn((Uuid, i32)) -> bool,
) {
    let has_still = |gone: &Parts| owned.is_none_or(|owned| parts::meets(gone, owned));
    match member.phase {
        Phase::Stable if member.epoch == target.1 => {}
        Phase::Stable | Phase::Unreleased => next(member, member.epoch, target, has_still, is_free),
        Phase::Unrevoked if has_still(&member.revoking) => {}
        Phase::Unrevoked => next(member, member.epoch.saturating_add(1), target, has_still, is_free),
    }
}

fn next(
    member: &mut Member,
    epoch: i32,
    (target, target_epoch): (&Parts, i32),
    has_still: impl Fn(&Parts) -> bool,
    is_free: impl Fn((Uuid, i32)) -> bool,
) {
    let kept = parts::filter(&member.assigned, |part| parts::contains(target, part));
    let given_up = parts::filter(&member.assigned, |part| !parts::contains(target, part));
    let missing = parts::filter(target, |part| !parts::contains(&kept, part));
    if !given_up.is_empty() && has_still(&given_up) {
        reach(member, epoch);
        (member.phase, member.assigned, member.revoking) = (Phase::Unrevoked, kept, given_up);
        return;
    }
    let taken = parts::filter(&missing, is_free);
    let is_all = parts::len(&taken) == parts::len(&missing);
    let mut assigned = kept;
    parts::each(&taken).for_each(|part| parts::insert(&mut assigned, part));
    if member.epoch != target_epoch || member.phase == Phase::Unrevoked {
        reach(member, target_epoch);
    }
    member.phase = if is_all { Phase::Stable } else { Phase::Unreleased };
    (member.assigned, member.revoking) = (assigned, Parts::new());
}

fn reach(member: &mut Member, epoch: i32) {
    (member.previous_epoch, member.epoch) = (member.epoch, epoch);
}
