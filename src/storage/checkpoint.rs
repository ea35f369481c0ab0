//! The file `flushed`: how far each log is known to be on disk. Below that, what is unreadable was damaged, not torn.

use std::collections::BTreeMap;

use super::id::LogId;

/// What is known of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// First offset that the log still holds.
    pub(crate) start: i64,
    /// Offset up to which everything was synced.
    pub(crate) end: i64,
    /// The owner's high watermark; storage only keeps it.
    pub(crate) high_watermark: i64,
}

/// All logs of a data directory.
pub(crate) type Checkpoint = BTreeMap<LogId, Flushed>;

const MAGIC: &[u8; 8] = b"bandyfl1";
const ENTRY_LEN: usize = 40;
/// Largest file that is read: 10 million logs.
pub(crate) const FILE_LEN_MAX: u64 = 10_000_000 * ENTRY_LEN as u64;

pub(crate) fn to_file(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + checkpoint.len() * ENTRY_LEN + 4);
    out.extend_from_slice(MAGIC);
    for (id, flushed) in checkpoint {
        out.extend_from_slice(&id.to_bytes());
        for number in [flushed.start, flushed.end, flushed.high_watermark] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Reads such a file; `None` when it is damaged. It is replaced in one step, so it is never torn.
pub(crate) fn from_file(bytes: &[u8]) -> Option<Checkpoint> {
    let (body, crc) = bytes.split_last_chunk()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let entries = body.strip_prefix(MAGIC)?.chunks(ENTRY_LEN);
    entries
        .map(|entry| {
            let (id, rest) = entry.split_first_chunk()?;
            let (start, rest) = rest.split_first_chunk()?;
            let (end, rest) = rest.split_first_chunk()?;
            let flushed = Flushed {
                start: i64::from_be_bytes(*start),
                end: i64::from_be_bytes(*end),
                high_watermark: i64::from_be_bytes(*rest.first_chunk()?),
            };
            (0 <= flushed.start && flushed.start <= flushed.end).then_some((LogId::from_bytes(*id), flushed))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_damage_shows() {
        let mut checkpoint = Checkpoint::new();
        for number in 0..3 {
            let id = LogId::from_bytes([number; 16]);
            checkpoint.insert(id, Flushed { start: 1, end: 2 + i64::from(number), high_watermark: 2 });
        }
        let bytes = to_file(&checkpoint);
        assert_eq!(from_file(&bytes), Some(checkpoint));
        assert_eq!(from_file(&to_file(&Checkpoint::new())), Some(Checkpoint::new()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(from_file(&damaged), None, "byte {at}");
            assert_eq!(from_file(&bytes[..at]), None, "cut at {at}");
        }
    }
}
