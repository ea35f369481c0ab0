//! Who reads which partitions: the assignors of Kafka by their names. Pure: the leader of a group calls it.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::wire::consumer_protocol::{Partitions, Subscription};

/// A way of dividing partitions among members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Even, with as few moves as may be, and nobody stops reading what stays with him (KIP-429).
    CooperativeSticky,
    /// Of each topic a run of partitions.
    Range,
    /// Partitions of all topics in turn.
    RoundRobin,
}

impl Assignor {
    /// All of them, the preferred first.
    pub const ALL: [Self; 3] = [Self::CooperativeSticky, Self::Range, Self::RoundRobin];

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Do members keep their partitions while the group is being divided anew?
    pub fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// Divides the partitions of topics (by their number) among members, who are told apart by their ids. Every
    /// member is in the result. What a cooperative division takes from one member it gives to nobody yet.
    pub fn divide(
        self,
        members: &[Member],
        topics: &BTreeMap<String, usize>,
    ) -> BTreeMap<String, Partitions> {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let shares = match self {
            Self::CooperativeSticky => sticky(&members, topics),
            Self::Range => range(&members, topics),
            Self::RoundRobin => round_robin(&members, topics),
        };
        let shares = shares.into_iter().map(|share| {
            let mut partitions = Partitions::new();
            for (topic, number) in share {
                partitions.entry(topic.to_owned()).or_default().push(number);
            }
            partitions
        });
        members.iter().map(|member| member.id.clone()).zip(shares).collect()
    }
}

/// A member, as the leader hears of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its lasting name, if it has one.
    pub instance: Option<String>,
    /// What it wants to read.
    pub subscription: Subscription,
}

impl Member {
    /// Members with lasting names come first and in the order of these, so that restarts change nothing.
    fn rank(&self) -> (bool, &str) {
        (self.instance.is_none(), self.instance.as_deref().unwrap_or(&self.id))
    }

    fn wants(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|it| it == topic)
    }
}

/// A partition.
type Place<'a> = (&'a str, i32);
/// What each member gets.
type Shares<'a> = Vec<BTreeSet<Place<'a>>>;

fn numbers(count: usize) -> std::ops::Range<i32> {
    0..i32::try_from(count).unwrap_or(i32::MAX)
}

fn range<'a>(members: &[&Member], topics: &'a BTreeMap<String, usize>) -> Shares<'a> {
    let mut shares = vec![BTreeSet::new(); members.len()];
    for (topic, count) in topics {
        let readers: Vec<usize> = (0..members.len()).filter(|at| members[*at].wants(topic)).collect();
        let mut rest = numbers(*count);
        for (place, reader) in readers.iter().enumerate() {
            // The first ones get what does not go round.
            let own = count / readers.len() + usize::from(place < count % readers.len());
            shares[*reader].extend(rest.by_ref().take(own).map(|number| (topic.as_str(), number)));
        }
    }
    shares
}

fn round_robin<'a>(members: &[&Member], topics: &'a BTreeMap<String, usize>) -> Shares<'a> {
    let mut shares = vec![BTreeSet::new(); members.len()];
    let mut turn = 0;
    for (topic, count) in topics {
        if !members.iter().any(|member| member.wants(topic)) {
            continue;
        }
        for number in numbers(*count) {
            while !members[turn % members.len()].wants(topic) {
                turn += 1;
            }
            shares[turn % members.len()].insert((topic.as_str(), number));
            turn += 1;
        }
    }
    shares
}

/// As even as single moves make it, from what everybody has.
fn sticky<'a>(members: &[&Member], topics: &'a BTreeMap<String, usize>) -> Shares<'a> {
    let owners = owners(members, topics);
    let mut shares: Shares<'a> = vec![BTreeSet::new(); members.len()];
    for (place, owner) in &owners {
        shares[*owner].insert(*place);
    }
    for (topic, count) in topics {
        for number in numbers(*count).filter(|number| !owners.contains_key(&(topic.as_str(), *number))) {
            let readers = (0..members.len()).filter(|at| members[*at].wants(topic));
            if let Some(reader) = readers.min_by_key(|at| shares[*at].len()) {
                shares[reader].insert((topic.as_str(), number));
            }
        }
    }
    // Each move makes two shares more alike, so this comes to an end.
    while let Some((from, to, place)) = next_move(members, &shares, &owners) {
        shares[from].remove(&place);
        shares[to].insert(place);
    }
    // What somebody else still reads is given up by him first, and given out in the next round.
    for (at, share) in shares.iter_mut().enumerate() {
        share.retain(|place| owners.get(place).is_none_or(|owner| *owner == at));
    }
    shares
}

/// Who owns what, of what there is and is wanted. Of two who say that they own it the later generation is right.
fn owners<'a>(members: &[&Member], topics: &'a BTreeMap<String, usize>) -> BTreeMap<Place<'a>, usize> {
    let mut owners: BTreeMap<Place<'a>, usize> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let generation = |at: &usize| members[*at].subscription.generation;
        for (topic, owned) in &member.subscription.owned {
            let Some((topic, count)) = topics.get_key_value(topic).filter(|_| member.wants(topic)) else {
                continue;
            };
            for number in owned.iter().filter(|number| numbers(*count).contains(number)) {
                let place = (topic.as_str(), *number);
                if owners.get(&place).is_none_or(|other| generation(other) < generation(&at)) {
                    owners.insert(place, at);
                }
            }
        }
    }
    owners
}

/// A partition of somebody who has two more than somebody else who wants it, too; from the largest share to the
/// smallest. What changes hands anyway goes first.
fn next_move<'a>(
    members: &[&Member],
    shares: &Shares<'a>,
    owners: &BTreeMap<Place<'a>, usize>,
) -> Option<(usize, usize, Place<'a>)> {
    let mut by_size: Vec<usize> = (0..members.len()).collect();
    by_size.sort_by_key(|at| shares[*at].len());
    for from in by_size.iter().rev() {
        for to in by_size.iter().take_while(|to| shares[**to].len() + 1 < shares[*from].len()) {
            let mut wanted = shares[*from].iter().filter(|(topic, _)| members[*to].wants(topic));
            let is_held = |place: &&Place<'_>| owners.get(*place) == Some(from);
            let first = wanted.clone().find(|place| !is_held(place)).or_else(|| wanted.next_back());
            if let Some(place) = first {
                return Some((*from, *to, *place));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: &str, topics: &[&str], owned: &[(&str, &[i32])], generation: i32) -> Member {
        let owned = owned.iter().map(|(topic, numbers)| ((*topic).to_owned(), numbers.to_vec())).collect();
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Member {
            id: id.to_owned(),
            instance: None,
            subscription: Subscription { topics, owned, generation, ..Subscription::default() },
        }
    }

    fn topics(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
        of.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
    }

    /// `c1: a[0, 1] b[0]; c2: …`
    fn text(division: &BTreeMap<String, Partitions>) -> String {
        let of = |(id, partitions): (&String, &Partitions)| {
            let topics: Vec<String> =
                partitions.iter().map(|(topic, numbers)| format!("{topic}{numbers:?}")).collect();
            format!("{id}: {}", topics.join(" "))
        };
        division.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// The examples in the documentation of Kafka's RangeAssignor and RoundRobinAssignor.
    #[test]
    fn range_and_round_robin_divide_as_kafkas() {
        let two = [member("C0", &["t0", "t1"], &[], -1), member("C1", &["t0", "t1"], &[], -1)];
        let three_each = topics(&[("t0", 3), ("t1", 3)]);
        let ranges = Assignor::Range.divide(&two, &three_each);
        assert_eq!(text(&ranges), "C0: t0[0, 1] t1[0, 1]; C1: t0[2] t1[2]");
        let turns = Assignor::RoundRobin.divide(&two, &three_each);
        assert_eq!(text(&turns), "C0: t0[0, 2] t1[1]; C1: t0[1] t1[0, 2]");
        let differ = [
            member("C0", &["t0"], &[], -1),
            member("C1", &["t0", "t1"], &[], -1),
            member("C2", &["t0", "t1", "t2"], &[], -1),
        ];
        let turns = Assignor::RoundRobin.divide(&differ, &topics(&[("t0", 1), ("t1", 2), ("t2", 3)]));
        assert_eq!(text(&turns), "C0: t0[0]; C1: t1[0]; C2: t1[1] t2[0, 1, 2]");
    }

    #[test]
    fn lasting_names_decide_the_order() {
        let named =
            |id: &str, name: &str| Member { instance: Some(name.to_owned()), ..member(id, &["t"], &[], -1) };
        let members = [member("a", &["t"], &[], -1), named("z", "1"), named("b", "2")];
        let division = Assignor::Range.divide(&members, &topics(&[("t", 3)]));
        assert_eq!(text(&division), "a: t[2]; b: t[1]; z: t[0]");
    }

    #[test]
    fn who_joins_waits_for_what_others_give_up_first() {
        let all = topics(&[("t", 4)]);
        let alone = [member("a", &["t"], &[], -1)];
        assert_eq!(text(&Assignor::CooperativeSticky.divide(&alone, &all)), "a: t[0, 1, 2, 3]");
        let joined = [member("a", &["t"], &[("t", &[0, 1, 2, 3])], 1), member("b", &["t"], &[], -1)];
        assert_eq!(text(&Assignor::CooperativeSticky.divide(&joined, &all)), "a: t[0, 1]; b: ");
        let given = [member("a", &["t"], &[("t", &[0, 1])], 2), member("b", &["t"], &[], 2)];
        assert_eq!(text(&Assignor::CooperativeSticky.divide(&given, &all)), "a: t[0, 1]; b: t[2, 3]");
    }

    #[test]
    fn of_two_who_claim_a_partition_the_later_one_has_it() {
        let members = [member("a", &["t"], &[("t", &[0, 1])], 3), member("b", &["t"], &[("t", &[0, 1])], 5)];
        let division = Assignor::CooperativeSticky.divide(&members, &topics(&[("t", 2)]));
        assert_eq!(text(&division), "a: ; b: t[0]");
    }

    /// Divides as often as members of a group would until nothing changes.
    fn settle(members: &mut [Member], all: &BTreeMap<String, usize>) -> (u32, BTreeMap<String, Partitions>) {
        for round in 1.. {
            let division = Assignor::CooperativeSticky.divide(members, all);
            let mut gives_up = false;
            for member in members.iter_mut() {
                let new = &division[&member.id];
                let keeps = |topic: &str, number: &i32| new.get(topic).is_some_and(|it| it.contains(number));
                gives_up |= member.subscription.owned.iter().any(|(t, n)| n.iter().any(|n| !keeps(t, n)));
                member.subscription.owned = new.clone();
                member.subscription.generation = round;
            }
            if !gives_up {
                return (round as u32, division);
            }
        }
        unreachable!("it comes to an end")
    }

    fn count(partitions: &Partitions) -> usize {
        partitions.values().map(Vec::len).sum()
    }

    proptest! {
        #[test]
        fn everything_is_read_once_and_evenly(
            wants in proptest::collection::vec(proptest::collection::vec(0usize..3, 1..4), 1..7),
            counts in proptest::collection::vec(0usize..9, 3),
            leavers in 0usize..3,
        ) {
            let names = ["x", "y", "z"];
            let all: BTreeMap<String, usize> = names.iter().map(|it| (*it).to_owned()).zip(counts).collect();
            let mut members: Vec<Member> = wants.iter().enumerate().map(|(at, wants)| {
                let topics: Vec<&str> = wants.iter().map(|it| names[*it]).collect();
                member(&format!("m{at}"), &topics, &[], -1)
            }).collect();
            let mut divisions = vec![
                Assignor::Range.divide(&members, &all), Assignor::RoundRobin.divide(&members, &all),
            ];
            let (rounds, division) = settle(&mut members, &all);
            prop_assert!(rounds <= 2);
            divisions.push(division);
            members.truncate((members.len() - leavers.min(members.len() - 1)).max(1));
            let before: BTreeMap<String, Partitions> =
                members.iter().map(|it| (it.id.clone(), it.subscription.owned.clone())).collect();
            let (rounds, after) = settle(&mut members, &all);
            prop_assert!(rounds <= 2);
            for division in &divisions {
                for (topic, count) in &all {
                    let mut read: Vec<i32> = division.values().filter_map(|it| it.get(topic)).flatten().copied().collect();
                    read.sort();
                    let wanted = wants.iter().any(|wants| wants.iter().any(|it| names[*it] == topic));
                    let expected: Vec<i32> = if wanted { numbers(*count).collect() } else { Vec::new() };
                    prop_assert_eq!(read, expected);
                }
            }
            // Where all want the same, shares differ by one at most, and nobody who stays loses more than he must.
            if members.iter().all(|it| it.subscription.topics == members[0].subscription.topics) {
                let sizes: Vec<usize> = after.values().map(count).collect();
                let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
                prop_assert!(most - least <= 1, "{sizes:?}");
                for (id, had) in &before {
                    let kept: usize = had.iter().map(|(topic, numbers)| {
                        let now = after[id].get(topic).cloned().unwrap_or_default();
                        numbers.iter().filter(|it| now.contains(it)).count()
                    }).sum();
                    prop_assert!(kept >= count(had).min(least), "{before:?} {after:?}");
                }
            }
        }
    }
}
