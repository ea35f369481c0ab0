//! One order of messages: entries in memory, runs of entries on disk, what was asked for, and places for what comes back.

use std::collections::{BTreeMap, VecDeque};

use super::ready::{Entry, Front, Loaded, Place};

/// Entries that are in memory or asked for while somebody takes them as fast as they come: some milliseconds' worth.
const AHEAD_MAX: usize = 8 * 1024;
/// And their bytes, of bodies of the average size.
const AHEAD_BYTES_MAX: u64 = 4 << 20;
/// Most entries asked for at once.
const LOAD_COUNT_MAX: usize = 1024;
/// Most runs asked for at once.
const LOAD_RUNS_MAX: usize = 256;
/// Entries that a queue keeps in memory at its front whatever the memory pressure.
pub(crate) const WINDOW: usize = 1024;

/// Neighbours in order and on disk, with nothing of them in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    seq: u64,
    place: Place,
    count: u32,
}

impl Run {
    /// Takes up to so many off its front.
    fn first(&mut self, count: usize) -> Self {
        let count = self.count.min(u32::try_from(count).unwrap_or(u32::MAX));
        let first = Self { count, ..*self };
        *self = Self {
            seq: self.seq + u64::from(count),
            place: self.place.plus(u64::from(count)),
            count: self.count - count,
        };
        first
    }

    /// Whether another goes on where it ends.
    fn joins(&self, next: &Self) -> bool {
        let count = u64::from(self.count);
        self.place.plus(count) == next.place
            && self.seq + count == next.seq
            && self.count.checked_add(next.count).is_some()
    }
}

#[derive(Debug)]
enum Later {
    One(Entry),
    Run(Run),
}

/// What a queue needs from disk, all from its log or all from its spill file: `count` messages from each place on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load {
    pub number: u64,
    pub runs: Vec<(Place, u32)>,
}

/// How many entries there should be in memory or on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// For somebody who takes them as fast as they come.
    Full,
    /// For somebody who takes one now and perhaps more, or when memory is short.
    Small,
    /// To know when the first one expires.
    Front,
}

impl Ahead {
    /// Of bodies with so many bytes on average.
    pub fn entries(self, average: u64) -> usize {
        let entries = match self {
            Self::Full => AHEAD_MAX,
            Self::Small => 512,
            Self::Front => 32,
        };
        entries.min(usize::try_from(AHEAD_BYTES_MAX / average.max(1)).unwrap_or(usize::MAX)).max(1)
    }
}

/// What came of an answer of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nobody waits for it any more.
    Unasked,
    /// Nothing of what was asked for.
    Nothing,
    /// Something.
    Some,
}

/// One order of messages. A queue has one for each priority.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    head: VecDeque<Entry>,
    /// What came back and belongs before, or between, what is in `head`.
    returned: BTreeMap<u64, Entry>,
    /// Entries in `coming` and in `later`, those of runs included.
    coming_count: usize,
    later_count: usize,
    /// What was asked for, and what stands between: the first is a run.
    coming: VecDeque<Later>,
    later: VecDeque<Later>,
    /// Numbers of what was asked for and has not been answered, with how many entries.
    asked: VecDeque<(u64, usize)>,
}

impl Lane {
    pub fn len(&self) -> usize {
        self.head.len() + self.returned.len() + self.coming_count + self.later_count
    }

    /// Whether something in it is not in the log of the queue.
    pub fn holds_unlogged(&self) -> bool {
        let entries = self.head.iter().chain(self.returned.values()).map(|entry| entry.place);
        let later = self.coming.iter().chain(&self.later).map(|later| match later {
            Later::One(entry) => entry.place,
            Later::Run(run) => run.place,
        });
        entries.chain(later).any(|place| place.as_log().is_none())
    }

    /// Whether there is something that may be on disk and was not asked for.
    #[inline]
    pub fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    fn is_whole(&self) -> bool {
        self.coming_count == 0 && self.later_count == 0
    }

    /// Whether a new entry, if its body is on disk, should be kept there only.
    pub fn is_deep(&self) -> bool {
        self.head.len() >= WINDOW || !self.is_whole()
    }

    #[inline]
    pub fn push(&mut self, entry: Entry) {
        if self.is_whole() {
            self.head.push_back(entry);
        } else {
            self.later_count += 1;
            self.later.push_back(Later::One(entry));
        }
    }

    /// Appends an entry of which only the place is kept.
    pub fn push_absent(&mut self, seq: u64, place: Place) {
        self.push_run(seq, place, 1);
    }

    /// Appends so many entries, of which only the places are kept.
    pub fn push_run(&mut self, seq: u64, place: Place, count: u32) {
        self.later_count += count as usize;
        let next = Run { seq, place, count };
        match self.later.back_mut() {
            Some(Later::Run(run)) if run.joins(&next) => run.count += count,
            _ => self.later.push_back(Later::Run(next)),
        }
    }

    /// Puts an entry back where it was.
    pub fn put_back(&mut self, entry: Entry) {
        self.returned.insert(entry.seq, entry);
    }

    #[inline]
    fn first_later(&self) -> Option<&Later> {
        self.coming.front().or_else(|| self.later.front())
    }

    #[inline]
    fn returned_is_first(&self) -> bool {
        let Some((seq, _)) = self.returned.first_key_value() else { return false };
        match (self.head.front(), self.first_later()) {
            (Some(entry), _) => *seq < entry.seq,
            (None, Some(Later::One(entry))) => *seq < entry.seq,
            (None, Some(Later::Run(run))) => *seq < run.seq,
            (None, None) => true,
        }
    }

    #[inline]
    pub fn front(&self) -> Front<'_> {
        if !self.returned.is_empty() && self.returned_is_first() {
            return self.returned.values().next().map_or(Front::Nothing, Front::Here);
        }
        match (self.head.front(), self.first_later()) {
            (Some(entry), _) | (None, Some(Later::One(entry))) => Front::Here(entry),
            (None, Some(Later::Run(_))) => Front::Absent,
            (None, None) => Front::Nothing,
        }
    }

    /// Takes the first entry if it is in memory.
    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        if !self.returned.is_empty() && self.returned_is_first() {
            return self.returned.pop_first().map(|(_, entry)| entry);
        }
        if let Some(entry) = self.head.pop_front() {
            return Some(entry);
        }
        if !self.coming.is_empty() {
            return None;
        }
        match self.later.pop_front() {
            Some(Later::One(entry)) => {
                self.later_count -= 1;
                Some(entry)
            }
            Some(run) => {
                self.later.push_front(run);
                None
            }
            None => None,
        }
    }

    /// What to read from disk now, each thing asked for once: as much as is missing from `ahead` entries, but no small
    /// pieces while there is some left to wait with.
    pub fn wanted(&mut self, ahead: usize, number: &mut u64) -> Option<Load> {
        if self.later.is_empty() {
            return None;
        }
        if self.coming.is_empty() {
            while let Some(Later::One(_)) = self.later.front()
                && self.head.len() < WINDOW
            {
                if let Some(Later::One(entry)) = self.later.pop_front() {
                    self.later_count -= 1;
                    self.head.push_back(entry);
                }
            }
        }
        let room = ahead.saturating_sub(self.head.len() + self.coming_count).min(LOAD_COUNT_MAX);
        if room == 0 || room < (ahead / 2).min(LOAD_COUNT_MAX) {
            return None;
        }
        let (mut runs, mut count, mut passed) = (Vec::new(), 0, 0);
        while count < room && passed < LOAD_COUNT_MAX && runs.len() < LOAD_RUNS_MAX {
            match self.later.front_mut() {
                None => break,
                Some(Later::One(_)) => {
                    if self.coming.is_empty() {
                        // In memory, and enough of it.
                        break;
                    }
                    passed += 1;
                    self.coming.extend(self.later.pop_front());
                    (self.coming_count, self.later_count) = (self.coming_count + 1, self.later_count - 1);
                }
                Some(Later::Run(run)) => {
                    let kind = |place: Place| place.as_spill().is_some();
                    if runs.first().is_some_and(|(first, _)| kind(*first) != kind(run.place)) {
                        break;
                    }
                    let taken = run.first(room - count);
                    if run.count == 0 {
                        self.later.pop_front();
                    }
                    runs.push((taken.place, taken.count));
                    let entries = taken.count as usize;
                    count += entries;
                    (self.coming_count, self.later_count) =
                        (self.coming_count + entries, self.later_count - entries);
                    self.coming.push_back(Later::Run(taken));
                }
            }
        }
        if runs.is_empty() {
            return None;
        }
        *number += 1;
        self.asked.push_back((*number, count));
        Some(Load { number: *number, runs })
    }

    /// Takes in what was asked for, as far as it came.
    pub fn loaded(
        &mut self,
        number: u64,
        messages: &mut Vec<Loaded>,
        taken: &mut impl FnMut(&Entry, Place),
    ) -> Came {
        // Answers come in the order in which they were asked for.
        let Some((_, count)) = self.asked.front().copied().filter(|(asked, _)| *asked == number) else {
            return Came::Unasked;
        };
        self.asked.pop_front();
        let came = messages.len().min(count);
        for loaded in messages.drain(..).take(count) {
            self.pass_those_here();
            let Some(Later::Run(run)) = self.coming.front_mut() else { break };
            let first = run.first(1);
            if run.count == 0 {
                self.coming.pop_front();
            }
            self.coming_count -= 1;
            let entry = Entry {
                seq: first.seq,
                // What was spilled is in memory again, and nowhere else.
                place: if first.place.as_spill().is_some() { Place::NOWHERE } else { first.place },
                message: loaded.message,
                expires: loaded.expires,
                returns: loaded.returns,
                redelivered: loaded.redelivered,
            };
            taken(&entry, first.place);
            self.head.push_back(entry);
        }
        self.pass_those_here();
        if came < count {
            self.recall();
        }
        if came == 0 { Came::Nothing } else { Came::Some }
    }

    /// What stood behind something that has come, and is in memory, goes to the head.
    fn pass_those_here(&mut self) {
        while let Some(Later::One(_)) = self.coming.front()
            && let Some(Later::One(entry)) = self.coming.pop_front()
        {
            self.coming_count -= 1;
            self.head.push_back(entry);
        }
    }

    /// What was asked for and has not come is to be asked for again.
    fn recall(&mut self) {
        while let Some(last) = self.coming.pop_back() {
            if let (Later::Run(last), Some(Later::Run(next))) = (&last, self.later.front_mut())
                && last.joins(next)
            {
                *next = Run { count: last.count + next.count, ..*last };
                continue;
            }
            self.later.push_front(last);
        }
        self.later_count += std::mem::take(&mut self.coming_count);
        self.asked.clear();
    }

    /// The number of the first entry that is in the spill file, or less: it is looked for nearby only.
    pub fn first_spilled(&self) -> u64 {
        let mut all = self.coming.iter().chain(&self.later);
        let found = all.by_ref().take(LOAD_COUNT_MAX).find_map(|later| match later {
            Later::Run(run) => run.place.as_spill(),
            Later::One(_) => None,
        });
        found.unwrap_or(if all.next().is_some() { 0 } else { u64::MAX })
    }

    /// Empties the lane, telling where what was in it is stored: `(first, count)`.
    pub fn clear(&mut self, gone: &mut impl FnMut(Option<&Entry>, Place, u32)) {
        self.recall();
        for entry in std::mem::take(&mut self.returned).values() {
            gone(Some(entry), entry.place, 1);
        }
        for entry in std::mem::take(&mut self.head) {
            gone(Some(&entry), entry.place, 1);
        }
        for later in std::mem::take(&mut self.later) {
            match later {
                Later::One(entry) => gone(Some(&entry), entry.place, 1),
                Later::Run(run) => gone(None, run.place, run.count),
            }
        }
        self.later_count = 0;
    }

    /// Gives everything that is stored below an offset of the log a new place there, first to last.
    pub fn relocate(&mut self, below: u64, next: &mut impl FnMut(&mut u32, Place) -> Place) {
        let moves = |place: Place| place.as_log().is_some_and(|offset| offset < below);
        for entry in self.returned.values_mut().chain(&mut self.head).filter(|entry| moves(entry.place)) {
            entry.place = next(&mut entry.returns, entry.place);
        }
        // It comes in vain, for its place is another one now.
        self.recall();
        self.later_count = 0;
        for later in std::mem::take(&mut self.later) {
            match later {
                Later::One(mut entry) => {
                    if moves(entry.place) {
                        entry.place = next(&mut entry.returns, entry.place);
                    }
                    self.later_count += 1;
                    self.later.push_back(Later::One(entry));
                }
                Later::Run(run) if !moves(run.place) => {
                    self.later_count += run.count as usize;
                    self.later.push_back(Later::Run(run));
                }
                Later::Run(run) => {
                    for number in 0..u64::from(run.count) {
                        let from = run.place.plus(number);
                        let to = if moves(from) { next(&mut 0, from) } else { from };
                        self.push_absent(run.seq + number, to);
                    }
                }
            }
        }
    }

    /// Every entry in memory, in no order.
    #[cfg(test)]
    pub fn resident(&self) -> impl Iterator<Item = &Entry> {
        let later = self.coming.iter().chain(&self.later).filter_map(|later| match later {
            Later::One(entry) => Some(entry),
            Later::Run(_) => None,
        });
        self.returned.values().chain(&self.head).chain(later)
    }

    /// What a longer queue needed is given back by an empty one, and its next entry takes the place of the last: in the
    /// order of the ring, each would be written where none has been for long.
    pub fn shrink(&mut self) {
        if self.head.is_empty() {
            self.head.clear();
        }
        if self.head.capacity() > 4096 && self.head.len() * 8 < self.head.capacity() {
            self.head.shrink_to(self.head.len() * 2);
        }
        for empty in [&mut self.coming, &mut self.later] {
            if empty.is_empty() && empty.capacity() > 64 {
                *empty = VecDeque::new();
            }
        }
    }
}
