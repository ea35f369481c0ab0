//! At which offset each leader's epoch began: what a replica needs to find where it and its leader part ways (KIP-101).

/// Leader epochs of one log, each with the offset of its first batch; both rise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(i32, i64)>);

const MAGIC: &str = "bandy epochs 1";

impl Epochs {
    /// The newest one.
    pub(crate) fn newest(&self) -> Option<i32> {
        self.0.last().map(|&(epoch, _)| epoch)
    }

    /// All of them.
    pub(crate) fn list(&self) -> &[(i32, i64)] {
        &self.0
    }

    /// Notes that a batch of that epoch is at that offset; `true` when the epoch is new.
    pub(crate) fn note(&mut self, epoch: i32, offset: i64) -> bool {
        if self.newest().is_some_and(|newest| newest >= epoch) {
            return false;
        }
        self.0.push((epoch, offset));
        true
    }

    /// The largest epoch at or under `epoch`, and where it ends in a log that ends at `end`: what Kafka's
    /// `OffsetForLeaderEpoch` answers. `None` when `epoch` is newer than all of this log.
    pub(crate) fn end_of(&self, epoch: i32, end: i64) -> Option<(i32, i64)> {
        let above = self.0.partition_point(|&(known, _)| known <= epoch);
        match (self.0.get(above), above.checked_sub(1).and_then(|at| self.0.get(at))) {
            (Some(&(_, start)), Some(&(known, _))) => Some((known, start)),
            // Older than all we have: its records are gone, the log goes on where the next one starts.
            (Some(&(_, start)), None) => Some((epoch, start)),
            (None, Some(&(known, _))) if known == epoch => Some((epoch, end)),
            (None, _) => None,
        }
    }

    /// The epoch of the batch at `offset`.
    pub(crate) fn at(&self, offset: i64) -> Option<i32> {
        let above = self.0.partition_point(|&(_, start)| start <= offset);
        self.0.get(above.checked_sub(1)?).map(|&(epoch, _)| epoch)
    }

    /// Forgets what begins at or after a log's new end.
    pub(crate) fn cut_from(&mut self, end: i64) {
        self.0.retain(|&(_, start)| start < end);
    }

    /// Forgets what ends before a log's new start. The epoch of that start keeps the offset at which it began: a cut of
    /// the end can move the start back.
    pub(crate) fn cut_to(&mut self, start: i64) {
        let first = self.0.partition_point(|&(_, from)| from <= start).saturating_sub(1);
        self.0.drain(..first);
    }

    /// The file: a line for each epoch, and a checksum.
    pub(crate) fn to_file(&self) -> Vec<u8> {
        let mut text = format!("{MAGIC}\n");
        for (epoch, start) in &self.0 {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc {crc:08x}\n"));
        text.into_bytes()
    }

    /// Reads such a file; `None` when it is not whole.
    pub(crate) fn from_file(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (body, crc) = text.strip_suffix('\n')?.rsplit_once("crc ")?;
        if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut epochs = Self::default();
        for line in body.strip_prefix(MAGIC)?.lines().skip(1) {
            let (epoch, start) = line.split_once(' ')?;
            let start = start.parse().ok()?;
            let rises = epochs.0.last().is_none_or(|&(_, before)| before < start);
            if !rises || !epochs.note(epoch.parse().ok()?, start) {
                return None;
            }
        }
        Some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        Epochs(vec![(1, 0), (3, 10), (4, 25)])
    }

    #[test]
    fn ends_of_epochs_are_those_of_kafka() {
        let epochs = epochs();
        assert_eq!(epochs.end_of(4, 30), Some((4, 30)));
        assert_eq!(epochs.end_of(3, 30), Some((3, 25)));
        assert_eq!(epochs.end_of(2, 30), Some((1, 10)), "a gap belongs to the epoch below");
        assert_eq!(epochs.end_of(0, 30), Some((0, 0)));
        assert_eq!(epochs.end_of(5, 30), None);
        assert_eq!(Epochs::default().end_of(0, 0), None);
        assert_eq!((epochs.at(9), epochs.at(10), epochs.at(99)), (Some(1), Some(3), Some(4)));
    }

    #[test]
    fn cuts_keep_what_is_still_in_the_log() {
        let mut cut = epochs();
        cut.cut_from(25);
        assert_eq!(cut.list(), [(1, 0), (3, 10)]);
        cut.cut_to(12);
        assert_eq!(cut.list(), [(3, 10)]);
        cut.cut_from(10);
        assert!(cut.list().is_empty());
    }

    #[test]
    fn files_round_trip_and_damage_shows() {
        let bytes = epochs().to_file();
        assert_eq!(Epochs::from_file(&bytes), Some(epochs()));
        assert_eq!(Epochs::from_file(&Epochs::default().to_file()), Some(Epochs::default()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Epochs::from_file(&damaged), None, "byte {at}");
            assert_eq!(Epochs::from_file(&bytes[..at]), None, "cut at {at}");
        }
    }
}
