//! What an owner made of a log up to an offset, kept beside it, so that the next start need not read what comes before.
//!
//! ```text
//! magic 8 bytes, log 16 bytes, end i64, leader epoch i32, CRC32C of the header of the batch before the end u32,
//! the owner's bytes, CRC32C of everything u32
//! ```
//!
//! It can always be made again, and is believed only if it is whole and of the log as it is: the batch that ended there
//! still does, with the same epoch, time and checksum. After a cut of the log's end and other appends it does not.

use std::io::IoSlice;

use bytes::Bytes;

use super::batch::HEADER_LEN;
use super::disk::{put_parts, read_file};
use super::error::{Error, Result};
use super::log::Log;

/// The name of the file in a log's directory.
pub(crate) const SNAPSHOT: &str = "snapshot";
const MAGIC: &[u8; 8] = b"bandysn1";
const HEAD_LEN: usize = 8 + 16 + 8 + 4 + 4;
/// Largest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 2 << 30;

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// It covers the records before this offset.
    pub end: i64,
    /// The owner's bytes.
    pub content: Bytes,
}

fn head(log: &Log, end: i64) -> Result<Option<[u8; HEAD_LEN]>> {
    let last = log.read_batch(end - 1)?;
    if last.header.end_offset() != end {
        return Ok(None);
    }
    let header = last.bytes.get(..HEADER_LEN).unwrap_or_default();
    let mut head = [0; HEAD_LEN];
    head[..8].copy_from_slice(MAGIC);
    head[8..24].copy_from_slice(&log.id().to_bytes());
    head[24..32].copy_from_slice(&end.to_be_bytes());
    head[32..36].copy_from_slice(&last.header.leader_epoch.to_be_bytes());
    head[36..].copy_from_slice(&crc32c::crc32c(header).to_be_bytes());
    Ok(Some(head))
}

impl Log {
    /// Keeps what its owner made of the records before `end`, in place of what was kept before. Everything before `end`
    /// is on disk, and a batch ends there. Nothing is lost if this fails, or if a power cut brings the older one back.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `end` is not such an offset; the system's.
    pub fn keep_snapshot(&self, end: i64, content: &[u8]) -> Result<()> {
        let state = self.state();
        let outside = Error::OutOfRange { offset: end, start: state.start, end: state.flushed_end };
        if end <= state.start || end > state.flushed_end {
            return Err(outside);
        }
        let head = head(self, end)?.ok_or(outside)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), content).to_be_bytes();
        let path = self.0.dir().join(SNAPSHOT);
        let mut parts = [&head[..], content, &crc].map(IoSlice::new);
        put_parts(self.0.disk(), &path, &mut parts).map_err(Error::io("write", &path))
    }

    /// What was kept last, if it can be believed.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let path = self.0.dir().join(SNAPSHOT);
        let read = read_file(self.0.disk(), &path, FILE_LEN_MAX);
        let bytes = read
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot be read: not used"))
            .ok()??;
        let end = self.believed(&bytes);
        if end.is_none() {
            tracing::debug!(path = %path.display(), "damaged, or of another time: not used");
        }
        let content = Bytes::from(bytes);
        end.map(|end| Snapshot { end, content: content.slice(HEAD_LEN..content.len() - 4) })
    }

    /// The end of a snapshot that can be believed.
    fn believed(&self, bytes: &[u8]) -> Option<i64> {
        let (body, crc) = bytes.split_last_chunk()?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let found = body.first_chunk::<HEAD_LEN>()?;
        let end = i64::from_be_bytes(*found[24..].first_chunk()?);
        let state = self.state();
        if end <= state.start || end > state.end {
            return None;
        }
        // A batch that cannot be read is found by whoever reads the log instead.
        (head(self, end).ok()?.as_ref() == Some(found)).then_some(end)
    }
}
