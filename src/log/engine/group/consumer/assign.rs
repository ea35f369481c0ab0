//! How the coordinator divides partitions among members: Kafka's two assignors by their names.
//!
//! `uniform` gives everyone as much as everyone else and leaves what it can where it is; `range` gives each member
//! neighbouring partitions of each topic, the same numbers of all topics.

use std::collections::{BTreeMap, BTreeSet};

use super::parts::{self, Parts};
use crate::log::wire::Uuid;

/// Who divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::log::engine::group) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub(in crate::log::engine::group) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(in crate::log::engine::group) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(in crate::log::engine::group) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Divides; what each member gets, in the members' order. `counts` are partitions of topics.
    pub(super) fn divide(self, members: &[Wanting<'_>], counts: &BTreeMap<Uuid, i32>) -> Vec<Parts> {
        match self {
            Self::Uniform => uniform(members, counts),
            Self::Range => range(members, counts),
        }
    }
}

/// A member as an assignor sees it.
#[derive(Debug)]
pub(super) struct Wanting<'a> {
    /// By which members are put in order: the lasting name, or the id.
    pub(super) name: &'a str,
    /// Topics that it wants.
    pub(super) topics: BTreeSet<Uuid>,
    /// What it was to have before.
    pub(super) before: Option<&'a Parts>,
}

fn range(members: &[Wanting<'_>], counts: &BTreeMap<Uuid, i32>) -> Vec<Parts> {
    let mut given = vec![Parts::new(); members.len()];
    for (topic, count) in counts {
        let mut wanting: Vec<usize> = (0..members.len())
            .filter(|at| members.get(*at).is_some_and(|member| member.topics.contains(topic)))
            .collect();
        if wanting.is_empty() {
            continue;
        }
        wanting.sort_by_key(|at| members.get(*at).map(|member| member.name));
        let count = usize::try_from(*count).unwrap_or(0);
        let (each, extra) = (count / wanting.len(), count % wanting.len());
        let mut next = 0;
        for (place, at) in wanting.into_iter().enumerate() {
            let share = each + usize::from(place < extra);
            let numbers = (next..next + share).filter_map(|number| i32::try_from(number).ok());
            next += share;
            if share > 0
                && let Some(own) = given.get_mut(at)
            {
                own.insert(*topic, numbers.collect());
            }
        }
    }
    given
}

fn uniform(members: &[Wanting<'_>], counts: &BTreeMap<Uuid, i32>) -> Vec<Parts> {
    if members.is_empty() {
        return Vec::new();
    }
    let all_want_the_same = members.windows(2).all(|pair| matches!(pair, [a, b] if a.topics == b.topics));
    let mut division = Division::keeping(members, counts, all_want_the_same);
    division.give_the_rest(members, counts);
    if !all_want_the_same {
        division.level(members);
    }
    division.given
}

/// A division that is being made.
struct Division {
    given: Vec<Parts>,
    loads: Vec<usize>,
    taken: BTreeSet<(Uuid, i32)>,
}

impl Division {
    /// Everyone keeps what it had and still wants; where all want the same, not more than its share.
    fn keeping(members: &[Wanting<'_>], counts: &BTreeMap<Uuid, i32>, is_bounded: bool) -> Self {
        let wanted = |topic: &Uuid| members.iter().any(|member| member.topics.contains(topic));
        let total: usize = counts
            .iter()
            .filter(|(topic, _)| wanted(topic))
            .map(|(_, count)| usize::try_from(*count).unwrap_or(0))
            .sum();
        let (share, mut extra) = (total / members.len(), total % members.len());
        let mut division = Self {
            given: vec![Parts::new(); members.len()],
            loads: vec![0; members.len()],
            taken: BTreeSet::new(),
        };
        for (at, member) in members.iter().enumerate() {
            let Some(before) = member.before else { continue };
            let mut left = if is_bounded { share } else { usize::MAX };
            for part @ (topic, partition) in parts::each(before) {
                let is_there = counts.get(&topic).is_some_and(|count| (0..*count).contains(&partition));
                if !is_there || !member.topics.contains(&topic) || division.taken.contains(&part) {
                    continue;
                }
                if left == 0 {
                    if extra == 0 {
                        break;
                    }
                    // One of those that have one more than others.
                    (extra, left) = (extra - 1, 1);
                }
                left -= 1;
                division.give(at, part);
                if left == 0 && is_bounded && division.load(at) > share {
                    break;
                }
            }
        }
        division
    }

    fn load(&self, at: usize) -> usize {
        self.loads.get(at).copied().unwrap_or(0)
    }

    fn give(&mut self, at: usize, part: (Uuid, i32)) {
        self.taken.insert(part);
        if let (Some(given), Some(load)) = (self.given.get_mut(at), self.loads.get_mut(at)) {
            parts::insert(given, part);
            *load += 1;
        }
    }

    /// What nobody has goes to whoever wants it and has least.
    fn give_the_rest(&mut self, members: &[Wanting<'_>], counts: &BTreeMap<Uuid, i32>) {
        let mut by_load: BTreeSet<(usize, usize)> = self.loads.iter().copied().zip(0..).collect();
        for (topic, count) in counts {
            for partition in 0..*count {
                let part = (*topic, partition);
                if self.taken.contains(&part) {
                    continue;
                }
                let wants = |at: usize| members.get(at).is_some_and(|member| member.topics.contains(topic));
                let Some(least) = by_load.iter().copied().find(|(_, at)| wants(*at)) else { break };
                by_load.remove(&least);
                self.give(least.1, part);
                by_load.insert((least.0 + 1, least.1));
            }
        }
    }

    /// Moves partitions from those with more to those with less, as far as they want them.
    fn level(&mut self, members: &[Wanting<'_>]) {
        loop {
            let mut moved = false;
            for from in 0..members.len() {
                let own: Vec<(Uuid, i32)> =
                    self.given.get(from).map(parts::each).into_iter().flatten().collect();
                for part in own {
                    let wants = |at: &usize| members.get(*at).is_some_and(|one| one.topics.contains(&part.0));
                    let least = (0..members.len()).filter(wants).min_by_key(|at| self.load(*at));
                    // Each move makes the sum of squares smaller, so this ends.
                    if let Some(to) = least
                        && self.load(to) + 1 < self.load(from)
                    {
                        self.take(from, part);
                        self.give(to, part);
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn take(&mut self, at: usize, (topic, partition): (Uuid, i32)) {
        if let (Some(given), Some(load)) = (self.given.get_mut(at), self.loads.get_mut(at))
            && let Some(partitions) = given.get_mut(&topic)
        {
            *load -= usize::from(partitions.remove(&partition));
            if partitions.is_empty() {
                given.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u8) -> Uuid {
        Uuid([number; 16])
    }

    fn wanting<'a>(name: &'a str, topics: &[u8], before: Option<&'a Parts>) -> Wanting<'a> {
        Wanting { name, topics: topics.iter().map(|number| topic(*number)).collect(), before }
    }

    fn counts(of: &[(u8, i32)]) -> BTreeMap<Uuid, i32> {
        of.iter().map(|(number, count)| (topic(*number), *count)).collect()
    }

    /// All are given, each once, and only to those who want them; loads.
    fn check(members: &[Wanting<'_>], counts: &BTreeMap<Uuid, i32>, given: &[Parts]) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        for (member, own) in members.iter().zip(given) {
            for part in parts::each(own) {
                assert!(seen.insert(part), "{part:?} is given twice");
                assert!(member.topics.contains(&part.0));
            }
        }
        let wanted = counts.iter().filter(|(topic, _)| members.iter().any(|one| one.topics.contains(topic)));
        assert_eq!(seen.len(), wanted.map(|(_, count)| *count as usize).sum::<usize>());
        given.iter().map(parts::len).collect()
    }

    #[test]
    fn range_gives_neighbours_and_the_same_numbers_of_all_topics() {
        let members = [wanting("b", &[1, 2], None), wanting("a", &[1, 2], None), wanting("c", &[2], None)];
        let counts = counts(&[(1, 3), (2, 4)]);
        let given = range(&members, &counts);
        check(&members, &counts, &given);
        let numbers = |at: usize, number: u8| -> Vec<i32> {
            given[at].get(&topic(number)).into_iter().flatten().copied().collect()
        };
        assert_eq!((numbers(1, 1), numbers(0, 1)), (vec![0, 1], vec![2]));
        assert_eq!((numbers(1, 2), numbers(0, 2), numbers(2, 2)), (vec![0, 1], vec![2], vec![3]));
    }

    #[test]
    fn uniform_shares_evenly_and_moves_no_more_than_it_has_to() {
        let counts = counts(&[(1, 5), (2, 5)]);
        let two = [wanting("a", &[1, 2], None), wanting("b", &[1, 2], None)];
        let first = uniform(&two, &counts);
        assert_eq!(check(&two, &counts, &first), [5, 5]);
        // One comes: each of the others loses what is over its share, and gets nothing new.
        let three = [
            wanting("a", &[1, 2], Some(&first[0])),
            wanting("b", &[1, 2], Some(&first[1])),
            wanting("c", &[1, 2], None),
        ];
        let second = uniform(&three, &counts);
        let mut loads = check(&three, &counts, &second);
        assert!(parts::is_within(&second[0], &first[0]) && parts::is_within(&second[1], &first[1]));
        loads.sort_unstable();
        assert_eq!(loads, [3, 3, 4]);
        // One goes: the others keep all.
        let left = [wanting("a", &[1, 2], Some(&second[0])), wanting("c", &[1, 2], Some(&second[2]))];
        let third = uniform(&left, &counts);
        assert_eq!(check(&left, &counts, &third), [5, 5]);
        assert!(parts::is_within(&second[0], &third[0]) && parts::is_within(&second[2], &third[1]));
    }

    #[test]
    fn uniform_levels_among_those_who_want_different_topics() {
        let counts = counts(&[(1, 4), (2, 4), (3, 1)]);
        let members = [wanting("a", &[1], None), wanting("b", &[1, 2], None), wanting("c", &[3], None)];
        let given = uniform(&members, &counts);
        assert_eq!(check(&members, &counts, &given), [4, 4, 1]);
        // A topic that somebody had and does not want any more, and partitions that are gone.
        let had = Parts::from([(topic(1), (0..9).collect()), (topic(2), [0].into())]);
        let members = [wanting("a", &[1], Some(&had)), wanting("b", &[1, 2], None)];
        let given = uniform(&members, &counts);
        assert_eq!(check(&members, &counts, &given), [4, 4]);
    }

    #[test]
    fn whoever_wants_whatever_all_is_given_once_and_evenly() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let counts: BTreeMap<Uuid, i32> =
                (0..rng.u8(1..5)).map(|number| (topic(number), rng.i32(1..9))).collect();
            let names: Vec<String> = (0..rng.usize(1..6)).map(|number| number.to_string()).collect();
            let mut before: Vec<Parts> = vec![Parts::new(); names.len()];
            for _ in 0..3 {
                let same = rng.bool();
                let members: Vec<Wanting<'_>> = names
                    .iter()
                    .zip(&before)
                    .map(|(name, before)| Wanting {
                        name,
                        topics: counts.keys().copied().filter(|_| same || rng.bool()).collect(),
                        before: Some(before),
                    })
                    .collect();
                for assignor in Assignor::ALL {
                    let given = assignor.divide(&members, &counts);
                    let loads = check(&members, &counts, &given);
                    if same && assignor == Assignor::Uniform {
                        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
                    }
                }
                before = uniform(&members, &counts);
            }
        }
    }
}
