//! What waits in a queue: lanes by priority, and what is to be read of them from disk.

use std::sync::Arc;

use smallvec::SmallVec;

use super::lane::{Ahead, Came, Lane, Load};
use super::message::Message;

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

    pub(crate) fn plus(self, count: u64) -> Self {
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

/// The lanes of a queue by priority: the highest that has something is served first.
#[derive(Debug)]
pub(crate) struct Ready {
    len: usize,
    bytes: u64,
    next_seq: u64,
    /// Most queues have one, and it lies beside their other counters: what is elsewhere in memory has to be waited for.
    lanes: SmallVec<[Lane; 1]>,
    occupied: [u64; 4],
    /// The number of what was last asked for.
    next_load: u64,
    /// Entries that are on disk only.
    absent: usize,
}

impl Ready {
    /// With priorities from 0 to `priority_max`.
    pub fn new(priority_max: u8) -> Self {
        let lanes = (0..=usize::from(priority_max)).map(|_| Lane::default()).collect();
        Self { lanes, occupied: [0; 4], len: 0, bytes: 0, next_seq: 0, next_load: 0, absent: 0 }
    }

    /// Whether something in it is not in the log of the queue.
    pub fn holds_unlogged(&self) -> bool {
        self.lanes.iter().any(Lane::holds_unlogged)
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
        self.absent += 1;
        self.lanes[lane].push_absent(seq, place);
    }

    /// Appends so many entries of a size, of which only the places are kept.
    pub fn push_stored(&mut self, lane: usize, place: Place, count: u32, size: u64) {
        let first = self.next_seq + 1;
        self.next_seq += u64::from(count);
        self.len += count as usize;
        self.absent += count as usize;
        self.bytes += size * u64::from(count);
        self.occupied[lane / 64] |= 1 << (lane % 64);
        self.lanes[lane].push_run(first, place, count);
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

    /// Whether something is on disk only.
    #[inline]
    pub fn has_absent(&self) -> bool {
        self.absent > 0
    }

    /// What to read from disk now: of the lane that is served first of those with something there. `all` asks for the
    /// front of the others too.
    pub fn wanted(&mut self, ahead: Ahead, all: bool) -> Option<Load> {
        let entries = ahead.entries(self.bytes / (self.len.max(1) as u64));
        let number = &mut self.next_load;
        let mut behind = self.lanes.iter_mut().rev().filter(|lane| lane.has_later());
        if let Some(load) = behind.next().and_then(|lane| lane.wanted(entries, number)) {
            return Some(load);
        }
        let front = entries.min(Ahead::Front.entries(1));
        if all { behind.find_map(|lane| lane.wanted(front, number)) } else { None }
    }

    /// Takes in the answer to what was asked for under a number.
    pub fn loaded(
        &mut self,
        number: u64,
        messages: &mut Vec<Loaded>,
        taken: &mut impl FnMut(&Entry, Place),
    ) -> Came {
        let absent = &mut self.absent;
        for lane in &mut self.lanes {
            let came = lane.loaded(number, messages, &mut |entry, place| {
                *absent -= 1;
                taken(entry, place);
            });
            match came {
                Came::Unasked => {}
                came => return came,
            }
        }
        Came::Unasked
    }

    /// The lowest number in the spill file that may be needed.
    pub fn first_spilled(&self) -> u64 {
        self.lanes.iter().map(Lane::first_spilled).min().unwrap_or(0)
    }

    pub fn clear(&mut self, gone: &mut impl FnMut(Option<&Entry>, Place, u32)) -> usize {
        self.lanes.iter_mut().for_each(|lane| lane.clear(gone));
        self.occupied = [0; 4];
        (self.bytes, self.absent) = (0, 0);
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
