//! How the records of a batch are compressed: gzip, snappy, LZ4 and zstd, with a bound on what comes out.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Snappy, in the framing of Xerial's snappy-java.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Why records could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// A type that the protocol does not have.
    #[error("compression type {0} is not known")]
    Unknown(u8),
    /// Bytes that are not of that type.
    #[error("damaged {codec} data: {error}")]
    Damaged {
        /// What they should be.
        codec: Compression,
        /// What is wrong with them.
        error: io::Error,
    },
    /// They grow over the limit; unpacking stopped there.
    #[error("unpacked {codec} data is over the limit of {limit} bytes")]
    TooLarge {
        /// How they are compressed.
        codec: Compression,
        /// The limit.
        limit: usize,
    },
}

impl Compression {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The type of that number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its name in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// Unpacks at most `limit` bytes.
    ///
    /// # Errors
    /// Damaged bytes, or more than `limit` of them: a batch of a few bytes can unpack to gigabytes.
    pub fn unpack(self, packed: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        let damaged = |error| CompressionError::Damaged { codec: self, error };
        let unpacked = match self {
            Self::None => packed.get(..=limit).unwrap_or(packed).to_vec(),
            Self::Gzip => read_up_to(MultiGzDecoder::new(packed), packed.len(), limit).map_err(damaged)?,
            Self::Snappy => return snappy::unpack(packed, limit),
            Self::Lz4 => read_up_to(lz4_flex::frame::FrameDecoder::new(packed), packed.len(), limit)
                .map_err(damaged)?,
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(damaged)?;
                read_up_to(decoder, packed.len(), limit).map_err(damaged)?
            }
        };
        if unpacked.len() > limit {
            return Err(CompressionError::TooLarge { codec: self, limit });
        }
        Ok(unpacked)
    }

    /// Appends `data`, packed, to `out`. A level means something to gzip (0 to 9, else 6) and zstd (1 to 22, else 3); others have
    /// none.
    ///
    /// # Errors
    /// The library refuses: not for want of memory, and not for these bytes.
    pub fn pack(self, data: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => out.extend_from_slice(data),
            Self::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(6).min(9);
                let mut encoder = GzEncoder::new(out, flate2::Compression::new(level));
                encoder.write_all(data)?;
                encoder.finish()?;
            }
            Self::Snappy => snappy::pack(data, out)?,
            Self::Lz4 => {
                use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
                // Kafka's Java reader takes independent blocks only.
                let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(info, out);
                encoder.write_all(data)?;
                encoder.finish()?;
            }
            Self::Zstd => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                zstd::stream::copy_encode(data, out, level)?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads to the end, or one byte over the limit. Memory grows with what is read, not with what the bytes claim.
fn read_up_to(reader: impl Read, packed_len: usize, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(packed_len.saturating_mul(3).min(limit));
    reader.take(limit as u64 + 1).read_to_end(&mut out)?;
    Ok(out)
}

/// Snappy as Kafka's clients send it: mostly in Xerial's framing, from librdkafka and franz-go bare.
mod snappy {
    use std::io;

    use super::{Compression, CompressionError};

    /// Before the blocks: the name, a version, and the oldest version that can read it.
    const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    const HEADER_LEN: usize = 16;
    /// Bytes that are packed together, as snappy-java does by default.
    const BLOCK_LEN: usize = 32 << 10;
    /// Three bytes of Snappy stand for 64 at most.
    const RATIO_MAX: usize = 22;

    fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CompressionError {
        CompressionError::Damaged { codec: Compression::Snappy, error: io::Error::other(error) }
    }

    pub(super) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        let Some(mut rest) = packed.strip_prefix(&MAGIC) else {
            block(packed, limit, &mut out)?;
            return Ok(out);
        };
        rest = rest.get(HEADER_LEN - MAGIC.len()..).ok_or_else(|| damaged("the header is cut short"))?;
        while !rest.is_empty() {
            let (len, after) = rest.split_first_chunk().ok_or_else(|| damaged("a block is cut short"))?;
            let len = usize::try_from(u32::from_be_bytes(*len)).map_err(damaged)?;
            let (packed, after) =
                after.split_at_checked(len).ok_or_else(|| damaged("a block is cut short"))?;
            block(packed, limit, &mut out)?;
            rest = after;
        }
        Ok(out)
    }

    fn block(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let len = snap::raw::decompress_len(packed).map_err(damaged)?;
        let from = out.len();
        if len > limit - from {
            return Err(CompressionError::TooLarge { codec: Compression::Snappy, limit });
        }
        if len > packed.len().saturating_mul(RATIO_MAX) {
            return Err(damaged("a block claims more than it can hold"));
        }
        out.resize(from + len, 0);
        let written = snap::raw::Decoder::new().decompress(packed, &mut out[from..]).map_err(damaged)?;
        out.truncate(from + written);
        Ok(())
    }

    pub(super) fn pack(data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&1u32.to_be_bytes());
        out.extend_from_slice(&1u32.to_be_bytes());
        let mut encoder = snap::raw::Encoder::new();
        for block in data.chunks(BLOCK_LEN) {
            let from = out.len() + 4;
            out.resize(from + snap::raw::max_compress_len(block.len()), 0);
            let len = encoder.compress(block, &mut out[from..]).map_err(io::Error::other)?;
            out[from - 4..from].copy_from_slice(&(len as u32).to_be_bytes());
            out.truncate(from + len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    fn packed(codec: Compression, data: &[u8]) -> Vec<u8> {
        let mut out = vec![9];
        codec.pack(data, None, &mut out).unwrap();
        out.split_off(1)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn data_goes_round(data in proptest::collection::vec(any::<u8>(), 0..2000), times in 1usize..50) {
            let data = data.repeat(times);
            for codec in Compression::ALL {
                prop_assert_eq!(&codec.unpack(&packed(codec, &data), LIMIT).unwrap(), &data, "{}", codec);
            }
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in Compression::ALL {
                let _ = codec.unpack(&bytes, LIMIT);
            }
            bytes.splice(..0, [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1]);
            let _ = Compression::Snappy.unpack(&bytes, LIMIT);
        }

        #[test]
        fn damage_never_panics(at in any::<usize>(), byte in 1u8..) {
            let data = b"some text, some text, some other text".repeat(20);
            for codec in Compression::ALL {
                let mut packed = packed(codec, &data);
                let at = at % packed.len();
                packed[at] ^= byte;
                let _ = codec.unpack(&packed, LIMIT);
                let _ = codec.unpack(&packed[..at], LIMIT);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for codec in Compression::ALL {
            let bomb = packed(codec, &zeros);
            let refused = codec.unpack(&bomb, LIMIT);
            assert!(
                matches!(refused, Err(CompressionError::TooLarge { limit: LIMIT, .. })),
                "{codec}: {refused:?}"
            );
            assert_eq!(codec.unpack(&bomb, zeros.len()).unwrap().len(), zeros.len());
        }
    }

    #[test]
    fn bare_snappy_is_read_and_a_claim_it_cannot_hold_is_refused() {
        let bare = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(Compression::Snappy.unpack(&bare, LIMIT).unwrap(), b"hello hello hello");
        // A block of five bytes that says it unpacks to a million.
        let refused = Compression::Snappy.unpack(&[0xc0, 0x84, 0x3d, 0, 0], LIMIT);
        assert!(matches!(refused, Err(CompressionError::Damaged { .. })), "{refused:?}");
    }

    #[test]
    fn types_have_numbers_and_names() {
        for codec in Compression::ALL {
            assert_eq!(Compression::from_code(codec.code()), Some(codec));
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Compression::from_code(5), None);
    }
}
