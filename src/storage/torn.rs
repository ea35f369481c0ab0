//! Torn or damaged: what a bad batch looks like where nothing says whether it had been on disk.
//!
//! A write that a crash cut short leaves a trace. The machine's end leaves sectors of 512 bytes as they were before, which
//! is zero from some batch on, since files are never used again. The process's end leaves everything from some byte on
//! unwritten. A batch without such a trace was whole once, whatever comes behind it. Bytes at the end that are none of ours
//! were never acknowledged either.

use std::io;

use super::batch::{BATCH_BYTES_MAX, CRC_FROM, HEADER_LEN, Header, LENGTH_FROM};
use super::segment::Scan;

/// What a disk writes at once or not at all, in bytes.
const SECTOR: u64 = 512;
/// Bytes of a batch before its length ends, which is never zero.
const NEVER_BLANK: usize = 12;
/// Most zeros with which a whole batch is believed to end: that of no headers, and of numbers before it.
const ZEROS_MAX: u64 = 8;

/// What a bad batch shows of how it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Parts of it never reached the disk: torn, whatever comes behind it.
    Lost,
    /// Its end may not have been written, or it was never a batch: torn if nothing comes behind it.
    Short,
    /// Nothing of it is missing: it was whole, and is damaged.
    Whole,
}

impl Trace {
    /// Whether it was damaged, if a whole batch comes `behind` it.
    pub(crate) fn is_damage(self, behind: bool) -> bool {
        match self {
            Self::Lost => false,
            Self::Short => behind,
            Self::Whole => true,
        }
    }
}

/// Looks at the bad batch at the scan's position, which would be `len` bytes long if its header can be believed that far.
/// Tells where the next whole batch in the file is, too.
///
/// # Errors
/// The disk's.
pub(crate) fn trace(scan: &mut Scan<'_>, len: Option<usize>) -> io::Result<(Trace, Option<u64>)> {
    let position = scan.position;
    if scan.first_nonzero(position)?.is_none() {
        return Ok((Trace::Lost, None));
    }
    let next = scan.find_batch(position + 1)?;
    let claimed = match len {
        Some(len) => position + len as u64,
        None => position + length_in(scan)?,
    };
    let end = match next {
        Some(next) if len.is_none() => next,
        Some(next) => claimed.min(next),
        None => {
            let written = scan.last_nonzero(position)?.map_or(position, |last| last + 1);
            if is_whole_up_to(scan, written)? {
                return Ok((Trace::Whole, None));
            }
            if claimed > scan.file_len() {
                return Ok((Trace::Lost, None));
            }
            if claimed.saturating_sub(written) > ZEROS_MAX || !is_ours(scan, written)? {
                return Ok((blank_or(Trace::Short, scan, claimed)?, None));
            }
            claimed.max(written)
        }
    };
    Ok((blank_or(Trace::Whole, scan, end)?, next))
}

/// Bytes of the batch, if its header cannot be read: those that it says nevertheless, or those of a header.
fn length_in(scan: &mut Scan<'_>) -> io::Result<u64> {
    let header = scan.bytes_at(scan.position, NEVER_BLANK)?;
    let said = header.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize + LENGTH_FROM);
    Ok(if (HEADER_LEN..=BATCH_BYTES_MAX).contains(&said) { said as u64 } else { HEADER_LEN as u64 })
}

/// Looks for sectors, from the scan's position to `end`, that were never written.
fn blank_or(other: Trace, scan: &mut Scan<'_>, end: u64) -> io::Result<Trace> {
    let is_lost = has_blank_sector(scan, end)? || has_blank_front(scan)?;
    Ok(if is_lost { Trace::Lost } else { other })
}

/// Whether one of the sectors is all zero.
fn has_blank_sector(scan: &mut Scan<'_>, end: u64) -> io::Result<bool> {
    let mut at = scan.position;
    while at < end {
        let next = (at / SECTOR + 1) * SECTOR;
        // In front of the batch the sector holds others; behind it, what was written later than it.
        let own = (next - at) as usize;
        if own >= NEVER_BLANK && scan.bytes_at(at, own)?.iter().all(|&byte| byte == 0) {
            return Ok(true);
        }
        at = next;
    }
    Ok(false)
}

/// Whether the sector in which the batch begins was lost, and had less of it than what is never zero.
fn has_blank_front(scan: &mut Scan<'_>) -> io::Result<bool> {
    /// Bytes of the base offset, which is known.
    const OFFSET_LEN: usize = 8;
    let (position, expected) = (scan.position, scan.expected.offset.to_be_bytes());
    let own = ((position / SECTOR + 1) * SECTOR - position) as usize;
    let Some(mut header) = scan.bytes_at(position, HEADER_LEN)?.first_chunk::<HEADER_LEN>().copied() else {
        return Ok(false);
    };
    if own >= NEVER_BLANK || header[..own].iter().any(|&byte| byte != 0) {
        return Ok(false);
    }
    if own > OFFSET_LEN {
        // A part of the length is gone: nobody knows how much there was.
        return Ok(true);
    }
    header[..OFFSET_LEN].copy_from_slice(&expected);
    let Ok(header) = Header::parse(&header) else { return Ok(false) };
    let crc = scan.crc_of(position + CRC_FROM as u64, header.len - CRC_FROM)?;
    Ok(expected[..own].iter().any(|&byte| byte != 0) && crc == Some(header.crc))
}

/// Whether what was written up to there looks like a batch: of place, format and length one at most is not as it has to be.
fn is_ours(scan: &mut Scan<'_>, written: u64) -> io::Result<bool> {
    const MAGIC_AT: usize = 16;
    let (position, expected) = (scan.position, scan.expected.offset);
    let Some(header) = scan.bytes_at(position, HEADER_LEN)?.first_chunk::<HEADER_LEN>().copied() else {
        return Ok(false);
    };
    let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let end = position + LENGTH_FROM as u64 + u64::from(length);
    let signs = [
        header.first_chunk() == Some(&expected.to_be_bytes()),
        header[MAGIC_AT] == 2,
        (written..=written + ZEROS_MAX).contains(&end),
    ];
    Ok(signs.into_iter().filter(|sign| *sign).count() >= 2)
}

/// Whether what was written is a whole batch whose length alone is wrong.
fn is_whole_up_to(scan: &mut Scan<'_>, written: u64) -> io::Result<bool> {
    let from = scan.position + CRC_FROM as u64;
    let Ok(header) = Header::parse(scan.bytes_at(scan.position, HEADER_LEN)?) else { return Ok(false) };
    let Some(len) = written.checked_sub(from).and_then(|len| usize::try_from(len).ok()) else {
        return Ok(false);
    };
    let Some(mut crc) = scan.crc_of(from, len)? else { return Ok(false) };
    for _ in 0..=ZEROS_MAX {
        if crc == header.crc {
            return Ok(true);
        }
        crc = crc32c::crc32c_append(crc, &[0]);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::storage::BatchBuilder;
    use crate::storage::disk::sim::SimDisk;
    use crate::storage::disk::{Disk as _, Mode, write_all};
    use crate::storage::segment::{Expected, Step};

    /// What two batches that begin at `position` show when `spoil` has gone over them.
    fn look(position: usize, offset: i64, spoil: impl Fn(&mut [u8])) -> Trace {
        let batch = |offset| {
            let mut builder = BatchBuilder::new();
            builder.push_copied(1, None, Some(&[b'v'; 700]), &[]).unwrap();
            builder.to_vec(offset, 0)
        };
        let mut bytes = vec![b'.'; position];
        bytes.extend(batch(offset));
        bytes.extend(batch(offset + 1));
        spoil(&mut bytes);
        let disk = SimDisk::default();
        let file = disk.open(Path::new("/f"), Mode::Create).unwrap();
        write_all(&*file, &mut [IoSlice::new(&bytes)], 0).unwrap();
        let expected = Expected { offset, epoch: i32::MIN, holes: false };
        let mut scan = Scan::new(&*file, position as u64, expected).unwrap();
        match scan.step().unwrap() {
            Step::Bad { len, .. } => trace(&mut scan, len).unwrap().0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lost_sector_is_seen_though_it_had_little_of_the_batch() {
        // Eight bytes of the offset, or three of them that are not zero anyway.
        assert_eq!(look(504, 300, |bytes| bytes[504..512].fill(0)), Trace::Lost);
        assert_eq!(look(509, i64::MAX >> 8, |bytes| bytes[509..512].fill(0)), Trace::Lost);
        // The offset and a part of the length.
        assert_eq!(look(501, 300, |bytes| bytes[501..512].fill(0)), Trace::Lost);
        for (position, offset) in [(504, 300), (509, 300), (0, 0), (100, 7)] {
            let trace = look(position, offset, |bytes| bytes[position + 200] ^= 1);
            assert_eq!(trace, Trace::Whole, "at {position}");
        }
        // The sector in the middle, and the first one with all of the header.
        assert_eq!(look(100, 7, |bytes| bytes[512..1024].fill(0)), Trace::Lost);
        assert_eq!(look(100, 7, |bytes| bytes[100..512].fill(0)), Trace::Lost);
    }

    #[test]
    fn a_wrong_length_hides_no_whole_batch() {
        for at in [9, 10] {
            assert_eq!(look(0, 0, |bytes| bytes[at] |= 1), Trace::Whole, "byte {at}");
        }
    }
}
