//! Which part of a queue's log is still needed: counted in blocks of offsets, so that it costs the same for any length.

use std::collections::VecDeque;

/// Offsets of a block.
const BLOCK: u64 = 1024;

/// Messages that are needed and bytes, block by block, from the first block on that has any.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Live {
    /// Number of the first block.
    first: u64,
    blocks: VecDeque<Block>,
    /// Messages that are needed.
    messages: u64,
    /// Bytes of all blocks.
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Block {
    /// Messages that are needed.
    live: u32,
    /// Messages that were written.
    messages: u32,
    /// Bytes that were written, other records included.
    bytes: u64,
}

impl Live {
    /// Of a log that begins at this offset.
    pub fn from(start: u64) -> Self {
        Self { first: start / BLOCK, ..Self::default() }
    }

    /// What was written, block by block: messages and bytes.
    pub fn written_blocks(&self) -> (u64, impl ExactSizeIterator<Item = (u32, u64)>) {
        (self.first, self.blocks.iter().map(|block| (block.messages, block.bytes)))
    }

    /// What [`Live::written_blocks`] said of blocks before, and nothing of it needed so far.
    pub fn with_written(first: u64, written: impl Iterator<Item = (u32, u64)>) -> Self {
        let blocks: VecDeque<Block> =
            written.map(|(messages, bytes)| Block { live: 0, messages, bytes }).collect();
        let bytes = blocks.iter().map(|block| block.bytes).fold(0, u64::saturating_add);
        Self { first, blocks, messages: 0, bytes }
    }

    /// So many messages from this offset on, whose records were counted already, are needed.
    pub fn needed(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count);
        let mut at = first;
        while at < end {
            let next = ((at / BLOCK + 1) * BLOCK).min(end);
            if let Some(block) = self.block(at) {
                block.live += (next - at) as u32;
                self.messages += next - at;
            }
            at = next;
        }
    }

    /// Bytes from the first block that is needed on.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn block(&mut self, offset: u64) -> Option<&mut Block> {
        let index = usize::try_from((offset / BLOCK).checked_sub(self.first)?).ok()?;
        self.blocks.get_mut(index)
    }

    /// A record was written at this offset.
    pub fn written(&mut self, offset: u64, bytes: u64, is_message: bool) {
        let last = offset / BLOCK;
        while self.first + (self.blocks.len() as u64) <= last {
            self.blocks.push_back(Block::default());
        }
        self.bytes += bytes;
        self.messages += u64::from(is_message);
        if let Some(block) = self.block(offset) {
            block.bytes += bytes;
            block.messages += u32::from(is_message);
            block.live += u32::from(is_message);
        }
    }

    /// So many messages from this offset on are needed no more.
    pub fn gone(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count);
        let mut at = first;
        while at < end {
            let next = ((at / BLOCK + 1) * BLOCK).min(end);
            if let Some(block) = self.block(at) {
                let gone = block.live.min(u32::try_from(next - at).unwrap_or(u32::MAX));
                block.live -= gone;
                self.messages -= u64::from(gone);
            }
            at = next;
        }
    }

    #[cfg(test)]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Everything before this offset is not needed; blocks that were found so are forgotten. `end` is that of the log.
    pub fn trim(&mut self, end: u64) -> u64 {
        while self.blocks.len() > 1
            && let Some(front) = self.blocks.front().filter(|front| front.live == 0)
        {
            self.bytes -= front.bytes;
            self.blocks.pop_front();
            self.first += 1;
        }
        if self.messages == 0 { end } else { self.first * BLOCK }
    }

    /// Up to which offset what is needed should be written anew, so that `segment` bytes and more can go: when they are
    /// less than half needed, and the log is long enough for that to matter.
    pub fn sparse(&self, segment: u64) -> Option<u64> {
        if self.bytes < segment * 4 {
            return None;
        }
        let (mut bytes, mut needed) = (0, 0);
        for (number, block) in self.blocks.iter().enumerate() {
            bytes += block.bytes;
            needed += block.bytes * u64::from(block.live) / u64::from(block.messages.max(1));
            if bytes >= segment {
                return (needed * 2 < bytes).then(|| (self.first + number as u64 + 1) * BLOCK);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_at_the_front_goes() {
        let mut live = Live::from(0);
        (0..5000).for_each(|offset| live.written(offset, 100, true));
        live.gone(0, 1500);
        assert_eq!(live.trim(5000), 1024);
        live.gone(1500, 3000);
        assert_eq!((live.trim(5000), live.messages()), (4096, 500));
        live.gone(4500, 500);
        assert_eq!((live.trim(5000), live.messages()), (5000, 0));
        live.written(5000, 10, false);
        assert_eq!(live.trim(5001), 5001);
    }

    #[test]
    fn one_old_message_is_written_anew_when_the_rest_is_dead() {
        let mut live = Live::from(0);
        (0..5000).for_each(|offset| live.written(offset, 100, true));
        assert_eq!(live.sparse(100_000), None, "all of it is needed");
        live.gone(1, 600);
        assert_eq!(live.sparse(100_000), Some(1024));
        assert_eq!(live.sparse(1_000_000), None, "too short to matter");
    }
}
