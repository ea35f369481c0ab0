//! What waits in a queue, in order: entries in memory, runs of entries on disk, and places for what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::message::Message;

/// Below this many entries in memory at the front, what follows on disk is asked for.
const LOAD_BELOW: usize = 512;
/// Most entries asked for at once.
const LOAD_COUNT_MAX: u32 = 1024;
/// Entries that a queue keeps in memory at its front whatever the memory pressure.
pub(crate) const WINDOW: usize = 1024;

/// Where a waiting message is stored, if it is: an offset in the queue's log or in its spill file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(u64);

impl Place {
    /// Only in memory.
    pub const NOWHERE: Self = Self(u64::MAX);
    const SPILL: u64 = 1 << 63;

    /// In the log of the queue, at the offset of its record.
    pub fn log(offset: u64) -> Self {
        Self(offset)
    }

    /// In the spill file of the queue, as its so many-th message.
    pub fn spill(number: u64) -> Self {
        Self(number | Self::SPILL)
    }

    /// The offset in the log.
    pub fn as_log(self) -> Option<u64> {
        (self.0 & Self::SPILL == 0).then_some(self.0)
    }

    /// The number in the spill file.
    pub fn as_spill(self) -> Option<u64> {
        (self != Self::NOWHERE && self.0 & Self::SPILL != 0).then_some(self.0 & !Self::SPILL)
    }

    fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.as_log(), self.as_spill()) {
            (Some(offset), _) => write!(f, "log {offset}"),
            (None, Some(number)) => write!(f, "spill {number}"),
            (None, None) => write!(f, "nowhere"),
        }
    }
}

/// One message in one queue.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its place in the order of the queue: given once, kept when it comes back.
    pub seq: u64,
    pub place: Place,
    pub message: Arc<Message>,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// How often it came back.
    pub returns: u32,
    pub redelivered: bool,
}

/// Neighbours in order and on disk, with nothing of them in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    seq: u64,
    place: Place,
    count: u32,
}

#[derive(Debug)]
enum Later {
    One(Entry),
    Run(Run),
}

/// What a queue needs from disk: `count` messages from `place` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub place: Place,
    pub count: u32,
}

/// A message that came from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The message as it was appended or spilled.
    pub message: Arc<Message>,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// How often it came back to the queue, as far as that was recorded.
    pub returns: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

/// What stands at the front.
#[derive(Debug)]
pub(crate) enum Front<'a> {
    Nothing,
    Here(&'a Entry),
    /// On disk: it was or has to be asked for.
    Absent,
}

/// One order of messages. A queue has one for each priority.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    head: VecDeque<Entry>,
    later: VecDeque<Later>,
    /// What came back and belongs before, or between, what is in `head`.
    returned: BTreeMap<u64, Entry>,
    /// Entries in `later`, those of runs included.
    later_count: usize,
    loading: Option<Load>,
}

impl Lane {
    pub fn len(&self) -> usize {
        self.head.len() + self.returned.len() + self.later_count
    }

    /// Whether a new entry, if its body is on disk, should be kept there only.
    pub fn is_deep(&self) -> bool {
        self.head.len() >= WINDOW || !self.later.is_empty()
    }

    #[inline]
    pub fn push(&mut self, entry: Entry) {
        if self.later.is_empty() {
            self.head.push_back(entry);
        } else {
            self.later_count += 1;
            self.later.push_back(Later::One(entry));
        }
    }

    /// Appends an entry of which only the place is kept.
    pub fn push_absent(&mut self, seq: u64, place: Place) {
        self.later_count += 1;
        if let Some(Later::Run(run)) = self.later.back_mut()
            && run.place.plus(u64::from(run.count)) == place
            && run.seq + u64::from(run.count) == seq
            && run.count < u32::MAX
        {
            run.count += 1;
            return;
        }
        self.later.push_back(Later::Run(Run { seq, place, count: 1 }));
    }

    /// Puts an entry back where it was.
    pub fn put_back(&mut self, entry: Entry) {
        self.returned.insert(entry.seq, entry);
    }

    #[inline]
    fn returned_is_first(&self) -> bool {
        let Some((seq, _)) = self.returned.first_key_value() else { return false };
        match (self.head.front(), self.later.front()) {
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
        match (self.head.front(), self.later.front()) {
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

    /// What to read from disk now, each thing asked for once.
    pub fn wanted(&mut self) -> Option<Load> {
        if self.later.is_empty() || self.head.len() >= LOAD_BELOW || self.loading.is_some() {
            return None;
        }
        while let Some(Later::One(_)) = self.later.front()
            && self.head.len() < WINDOW
        {
            if let Some(Later::One(entry)) = self.later.pop_front() {
                self.later_count -= 1;
                self.head.push_back(entry);
            }
        }
        let Some(Later::Run(run)) = self.later.front() else { return None };
        let load = Load { place: run.place, count: run.count.min(LOAD_COUNT_MAX) };
        self.loading = Some(load);
        Some(load)
    }

    /// Whether this is what was asked for.
    pub fn expects(&self, place: Place) -> bool {
        self.loading.is_some_and(|load| load.place == place)
    }

    /// Takes in what was asked for, as far as it came; false if this lane did not ask for it.
    pub fn loaded(
        &mut self,
        place: Place,
        messages: &mut Vec<Loaded>,
        taken: &mut impl FnMut(&Entry),
    ) -> bool {
        let Some(Load { place: expected, count }) = self.loading else { return false };
        if expected != place {
            return false;
        }
        self.loading = None;
        let Some(Later::Run(run)) = self.later.front_mut() else { return true };
        let count = (messages.len() as u32).min(count).min(run.count);
        for (number, loaded) in messages.drain(..).take(count as usize).enumerate() {
            let entry = Entry {
                seq: run.seq + number as u64,
                // What was spilled is in memory again, and nowhere else.
                place: if place.as_spill().is_some() { Place::NOWHERE } else { place.plus(number as u64) },
                message: loaded.message,
                expires: loaded.expires,
                returns: loaded.returns,
                redelivered: loaded.redelivered,
            };
            taken(&entry);
            self.head.push_back(entry);
        }
        *run = Run {
            seq: run.seq + u64::from(count),
            place: run.place.plus(u64::from(count)),
            count: run.count - count,
        };
        if run.count == 0 {
            self.later.pop_front();
        }
        self.later_count -= count as usize;
        true
    }

    /// Empties the lane, telling where what was in it is stored: `(first, count)`.
    pub fn clear(&mut self, gone: &mut impl FnMut(Option<&Entry>, Place, u32)) {
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
        self.loading = None;
    }

    /// Gives everything that is stored below an offset of the log a new place there, first to last.
    pub fn relocate(&mut self, below: u64, next: &mut impl FnMut(&mut u32, Place) -> Place) {
        let moves = |place: Place| place.as_log().is_some_and(|offset| offset < below);
        for entry in self.returned.values_mut().chain(&mut self.head).filter(|entry| moves(entry.place)) {
            entry.place = next(&mut entry.returns, entry.place);
        }
        // What is asked for is named by its old place: it comes in vain and is asked for again.
        self.loading = None;
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
        let later = self.later.iter().filter_map(|later| match later {
            Later::One(entry) => Some(entry),
            Later::Run(_) => None,
        });
        self.returned.values().chain(&self.head).chain(later)
    }

    /// Gives back memory that a longer queue needed.
    pub fn shrink(&mut self) {
        if self.head.capacity() > 4096 && self.head.len() * 8 < self.head.capacity() {
            self.head.shrink_to(self.head.len() * 2);
        }
        if self.later.is_empty() && self.later.capacity() > 64 {
            self.later = VecDeque::new();
        }
    }
}

/// The lanes of a queue by priority: the highest that has something is served first.
#[derive(Debug)]
pub(crate) struct Ready {
    lanes: Vec<Lane>,
    occupied: [u64; 4],
    len: usize,
    bytes: u64,
    next_seq: u64,
}

impl Ready {
    /// With priorities from 0 to `priority_max`.
    pub fn new(priority_max: u8) -> Self {
        let lanes = (0..=usize::from(priority_max)).map(|_| Lane::default()).collect();
        Self { lanes, occupied: [0; 4], len: 0, bytes: 0, next_seq: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the bodies of what is ready.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn next_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    #[inline]
    pub fn lane_of(&self, priority: u8) -> usize {
        usize::from(priority).min(self.lanes.len() - 1)
    }

    /// Whether what is pushed to this lane should be kept on disk only, memory being short.
    pub fn is_deep(&self, lane: usize) -> bool {
        self.lanes[lane].is_deep()
    }

    #[inline]
    fn count_in(&mut self, lane: usize, size: u64) {
        self.len += 1;
        self.bytes += size;
        self.occupied[lane / 64] |= 1 << (lane % 64);
    }

    #[inline]
    pub fn push(&mut self, lane: usize, entry: Entry) {
        self.count_in(lane, entry.message.body_len());
        self.lanes[lane].push(entry);
    }

    pub fn push_absent(&mut self, lane: usize, seq: u64, place: Place, size: u64) {
        self.count_in(lane, size);
        self.lanes[lane].push_absent(seq, place);
    }

    pub fn put_back(&mut self, entry: Entry) {
        let lane = self.lane_of(entry.message.priority());
        self.count_in(lane, entry.message.body_len());
        self.lanes[lane].put_back(entry);
    }

    /// The lane that is served next.
    #[inline]
    fn first(&self) -> Option<usize> {
        if self.lanes.len() == 1 {
            return (self.len > 0).then_some(0);
        }
        let word = (0..4).rev().find(|word| self.occupied[*word] != 0)?;
        Some(word * 64 + 63 - self.occupied[word].leading_zeros() as usize)
    }

    #[inline]
    pub fn front(&self) -> Front<'_> {
        self.first().map_or(Front::Nothing, |lane| self.lanes[lane].front())
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        let lane = self.first()?;
        self.pop_from(lane)
    }

    #[inline]
    pub fn pop_from(&mut self, lane: usize) -> Option<Entry> {
        let entry = self.lanes[lane].pop()?;
        self.len -= 1;
        self.bytes -= entry.message.body_len();
        if self.lanes[lane].len() == 0 {
            self.occupied[lane / 64] &= !(1 << (lane % 64));
            self.lanes[lane].shrink();
        }
        Some(entry)
    }

    /// The front of each lane that has one in memory.
    pub fn fronts(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.lanes.iter().enumerate().filter_map(|(number, lane)| match lane.front() {
            Front::Here(entry) => Some((number, entry)),
            Front::Nothing | Front::Absent => None,
        })
    }

    /// What to read from disk now.
    #[inline]
    pub fn wanted(&mut self) -> Option<Load> {
        if self.len == 0 {
            return None;
        }
        self.lanes.iter_mut().rev().find_map(Lane::wanted)
    }

    /// Whether something was asked for that begins there.
    pub fn expects(&self, place: Place) -> bool {
        self.lanes.iter().any(|lane| lane.expects(place))
    }

    pub fn loaded(
        &mut self,
        place: Place,
        messages: &mut Vec<Loaded>,
        taken: &mut impl FnMut(&Entry),
    ) -> bool {
        self.lanes.iter_mut().any(|lane| lane.loaded(place, messages, taken))
    }

    pub fn clear(&mut self, gone: &mut impl FnMut(Option<&Entry>, Place, u32)) -> usize {
        self.lanes.iter_mut().for_each(|lane| lane.clear(gone));
        self.occupied = [0; 4];
        self.bytes = 0;
        std::mem::take(&mut self.len)
    }

    pub fn relocate(&mut self, below: u64, next: &mut impl FnMut(&mut u32, Place) -> Place) {
        self.lanes.iter_mut().for_each(|lane| lane.relocate(below, next));
    }

    /// Entries in memory, in no order.
    #[cfg(test)]
    pub fn resident(&self) -> impl Iterator<Item = &Entry> {
        self.lanes.iter().flat_map(Lane::resident)
    }
}
