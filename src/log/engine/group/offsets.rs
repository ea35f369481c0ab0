//! How far groups have read: commits, also inside of transactions, and when they are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::classic::State;
use super::message::{Caller, Committed, Output, Place, Record};
use super::subscription;
use super::{Group, Groups, check_name, known_member};
use crate::log::engine::Now;
use crate::log::wire::ErrorCode;

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    pub(super) committed: BTreeMap<Place, Committed>,
    /// What open transactions would commit, by their producer.
    pub(super) pending: BTreeMap<i64, BTreeMap<Place, Committed>>,
}

/// What one partition's offset is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub place: Place,
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the leader that the last record came from, or -1.
    pub leader_epoch: i32,
    /// What the consumer wants to remember.
    pub metadata: String,
}

/// Commits of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// Who commits.
    pub by: Caller,
    /// How long to keep them, in ms; versions 2 to 4 can say so.
    pub retention_ms: Option<i64>,
    /// The partitions.
    pub commits: Vec<Commit>,
}

/// A partition's offset as a group has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The partition.
    pub place: Place,
    /// None if nothing was committed.
    pub committed: Option<Committed>,
    /// A transaction that is open may change it (KIP-447).
    pub is_unstable: bool,
}

impl Groups {
    /// Commits offsets; a result for each.
    pub fn commit(&mut self, now: Now, commits: &Commits, out: &mut Vec<Output>) -> Vec<ErrorCode> {
        let refused = |error| vec![error; commits.commits.len()];
        if let Err(error) = self.may_commit(now, &commits.by) {
            return refused(error);
        }
        let (retention, metadata_max) = (commits.retention_ms, self.config.metadata_bytes_max);
        let group = self.group_or_new(&commits.by.group, now);
        let mut results = Vec::with_capacity(commits.commits.len());
        for commit in &commits.commits {
            if commit.metadata.len() > metadata_max {
                results.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                continue;
            }
            let committed = committed(commit, now, retention);
            group.offsets.committed.insert(commit.place.clone(), committed.clone());
            out.push(stored(&commits.by.group, &commit.place, Some(committed)));
            results.push(ErrorCode::NONE);
        }
        let id = commits.by.group.clone();
        self.settle(&id, out);
        results
    }

    /// Commits offsets as a part of a producer's transaction: they count when that ends well.
    pub fn commit_in_transaction(
        &mut self,
        now: Now,
        producer_id: i64,
        commits: &Commits,
        out: &mut Vec<Output>,
    ) -> Vec<ErrorCode> {
        let by = &commits.by;
        let outside = by.generation < 0 && by.member_id.is_empty() && by.instance_id.is_none();
        // Before KIP-447 producers did not say which member they commit for.
        let checked = if outside { check_name(&by.group) } else { self.may_commit(now, by) };
        // Transactions know of generations only.
        let checked = checked.map_err(|error| match error {
            ErrorCode::STALE_MEMBER_EPOCH => ErrorCode::ILLEGAL_GENERATION,
            other => other,
        });
        if let Err(error) = checked {
            return vec![error; commits.commits.len()];
        }
        let metadata_max = self.config.metadata_bytes_max;
        let group = self.group_or_new(&by.group, now);
        let pending = group.offsets.pending.entry(producer_id).or_default();
        let mut results = Vec::with_capacity(commits.commits.len());
        for commit in &commits.commits {
            if commit.metadata.len() > metadata_max {
                results.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                continue;
            }
            let committed = committed(commit, now, None);
            pending.insert(commit.place.clone(), committed.clone());
            out.push(stored(&by.group, &commit.place, Some(committed)));
            results.push(ErrorCode::NONE);
        }
        results
    }

    /// A producer's transaction has ended: what it would commit counts, or is forgotten.
    pub fn end_transaction(&mut self, producer_id: i64, commits: bool) {
        for group in self.groups.values_mut() {
            let Some(pending) = group.offsets.pending.remove(&producer_id) else { continue };
            if commits {
                group.offsets.committed.extend(pending);
            }
        }
    }

    fn may_commit(&mut self, now: Now, by: &Caller) -> Result<(), ErrorCode> {
        check_name(&by.group)?;
        let Some(group) = self.groups.get_mut(&*by.group) else {
            // Offsets without members are anybody's.
            return if by.generation < 0 { Ok(()) } else { Err(ErrorCode::ILLEGAL_GENERATION) };
        };
        if let Some(consumer) = &mut group.consumer {
            return if by.generation < 0 && consumer.is_empty() { Ok(()) } else { consumer.knows(by) };
        }
        let classic = &mut group.classic;
        if by.generation < 0 && classic.is_empty() {
            return Ok(());
        }
        known_member(classic, &by.member_id, by.instance_id.as_deref())?;
        if by.generation != classic.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        match classic.state {
            State::Completing => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Empty | State::Preparing | State::Stable => {
                classic.touch(&by.member_id, now);
                Ok(())
            }
        }
    }

    /// Whether someone may ask where a group is: anybody, or a member of the next generation at its epoch.
    ///
    /// # Errors
    /// It says that it is a member and is not, or is behind.
    pub fn may_fetch(&self, group: &str, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let consumer = self.groups.get(group).and_then(|group| group.consumer.as_ref());
        match (consumer, member_id) {
            (Some(consumer), Some(id)) if epoch >= 0 => consumer.is_at(id, epoch),
            _ => Ok(()),
        }
    }

    /// Where a group is; everywhere if no partitions are named. A group that is not there has been nowhere.
    pub fn fetch(&self, group: &str, places: Option<&[Place]>) -> Vec<Fetched> {
        let offsets = self.groups.get(group).map(|group| &group.offsets);
        let one = |place: &Place| Fetched {
            place: place.clone(),
            committed: offsets.and_then(|offsets| offsets.committed.get(place).cloned()),
            is_unstable: offsets
                .is_some_and(|offsets| offsets.pending.values().any(|pending| pending.contains_key(place))),
        };
        match places {
            Some(places) => places.iter().map(one).collect(),
            None => offsets.map(|offsets| offsets.committed.keys().map(one).collect()).unwrap_or_default(),
        }
    }

    /// Forgets single offsets of a group (`OffsetDelete`); a result for each, or why not.
    ///
    /// # Errors
    /// No such group; one with members that are not consumers.
    pub fn delete_offsets(
        &mut self,
        group: &str,
        places: &[Place],
        out: &mut Vec<Output>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let id = group;
        let group = self.groups.get_mut(id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        let subscribed = match &group.consumer {
            Some(consumer) => consumer.subscribed(),
            None if group.classic.is_empty() => BTreeSet::new(),
            None => subscription::topics(&group.classic).ok_or(ErrorCode::NON_EMPTY_GROUP)?,
        };
        let mut results = Vec::with_capacity(places.len());
        for place in places {
            if subscribed.contains(&place.topic) {
                results.push(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
                continue;
            }
            if group.offsets.committed.remove(place).is_some() {
                out.push(stored(id, place, None));
            }
            results.push(ErrorCode::NONE);
        }
        Ok(results)
    }

    /// Forgets a group that nobody is in (`DeleteGroups`).
    pub fn delete(&mut self, group: &str, out: &mut Vec<Output>) -> ErrorCode {
        match self.groups.get(group) {
            None => ErrorCode::GROUP_ID_NOT_FOUND,
            Some(found) if !found.is_empty() => ErrorCode::NON_EMPTY_GROUP,
            Some(_) => {
                self.forget(group, out);
                ErrorCode::NONE
            }
        }
    }

    fn forget(&mut self, id: &str, out: &mut Vec<Output>) {
        let Some((id, mut group)) = self.groups.remove_entry(id) else { return };
        if let Some(at) = group.scheduled {
            self.timers.remove(&(at, id.clone()));
        }
        out.extend(group.offsets.committed.keys().map(|place| stored(&id, place, None)));
        if let Some(consumer) = &mut group.consumer {
            consumer.forget(out);
        }
        if group.is_stored {
            out.push(Output::Store(Record::Group { group: id.to_string(), value: None }));
        }
    }

    /// A topic is gone, and with it what groups had read of it.
    pub fn forget_topic(&mut self, topic: &str, out: &mut Vec<Output>) {
        for (id, group) in &mut self.groups {
            let gone: Vec<Place> =
                group.offsets.committed.keys().filter(|place| place.topic == topic).cloned().collect();
            for place in gone {
                group.offsets.committed.remove(&place);
                out.push(stored(id, &place, None));
            }
            for pending in group.offsets.pending.values_mut() {
                pending.retain(|place, _| place.topic != topic);
            }
        }
    }

    /// Forgets offsets that are too old, and groups of which nothing is left.
    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<Output>) {
        let retention = self.config.offsets_retention_ms;
        let mut empty = Vec::new();
        for (id, group) in &mut self.groups {
            let old = old_offsets(group, now.unix_ms, retention);
            for place in old {
                group.offsets.committed.remove(&place);
                out.push(stored(id, &place, None));
            }
            let is_used = !group.is_empty() || !group.classic.pending.is_empty();
            if !is_used && group.offsets.committed.is_empty() && group.offsets.pending.is_empty() {
                empty.push(id.clone());
            }
        }
        for id in empty {
            self.forget(&id, out);
        }
    }
}

/// Offsets whose time has come (KIP-211): of a group that lost its members, counted from then; of one that never had
/// any, from the commit; of one that has some, only of topics that none of them reads.
fn old_offsets(group: &Group, now_ms: i64, retention_ms: i64) -> Vec<Place> {
    let classic = &group.classic;
    let subscribed = match &group.consumer {
        Some(consumer) => consumer.subscribed(),
        None if classic.is_empty() => BTreeSet::new(),
        None => match subscription::topics(classic) {
            Some(topics) if classic.state == State::Stable => topics,
            _ => return Vec::new(),
        },
    };
    let left_at = match &group.consumer {
        Some(consumer) => consumer.is_empty().then_some(consumer.empty_since_ms),
        None => (classic.protocol_type.is_some() && classic.is_empty()).then_some(classic.since_ms),
    };
    let is_old = |(place, committed): &(&Place, &Committed)| {
        let from = committed.time_ms.max(left_at.unwrap_or(committed.time_ms));
        let ends = committed.expires_ms.unwrap_or_else(|| from.saturating_add(retention_ms));
        let in_transaction = group.offsets.pending.values().any(|pending| pending.contains_key(place));
        ends <= now_ms && !subscribed.contains(&place.topic) && !in_transaction
    };
    group.offsets.committed.iter().filter(is_old).map(|(place, _)| place.clone()).collect()
}

fn committed(commit: &Commit, now: Now, retention_ms: Option<i64>) -> Committed {
    Committed {
        offset: commit.offset,
        leader_epoch: commit.leader_epoch,
        metadata: commit.metadata.clone(),
        time_ms: now.unix_ms,
        expires_ms: retention_ms.map(|retention| now.unix_ms.saturating_add(retention)),
    }
}

fn stored(group: &str, place: &Place, value: Option<Committed>) -> Output {
    Output::Store(Record::Offset { group: group.to_owned(), place: place.clone(), value })
}
