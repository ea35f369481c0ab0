//! Compression of single messages, bounded on the way back.

use std::io::{Read, Write};

use bytes::Bytes;

/// Messages smaller than this are sent as they are: the header of gzip alone is 18 bytes.
pub const COMPRESS_SIZE_MIN: usize = 64;

/// The largest zstd window that is accepted, as a power of two: 8 MiB, which RFC 8878, 3.1.1.1.2
/// recommends that every decoder supports. It bounds the memory of a decoder.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// HTTP's "deflate": zlib, RFC 1950.
    Deflate,
    /// RFC 8878.
    Zstd,
}

/// Why a message could not be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// It grows over the limit; decompression stopped there.
    #[error("decompressed message is over the limit of {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// It is not what the header says.
    #[error("message is not {encoding}: {reason}")]
    Malformed {
        /// What it was said to be.
        encoding: &'static str,
        /// The decoder's word.
        reason: String,
    },
}

impl Encoding {
    /// What we offer, in the order of preference, for `grpc-accept-encoding` and its siblings.
    pub const ACCEPTED: &'static str = "gzip,zstd,deflate,identity";

    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding of that name; `None` if it is not supported.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Identity, Self::Gzip, Self::Deflate, Self::Zstd]
            .into_iter()
            .find(|encoding| encoding.name().eq_ignore_ascii_case(name.trim()))
    }

    /// The first of a comma-separated list of accepted names that is supported and compresses.
    pub fn first_accepted(list: &str) -> Self {
        list.split(',')
            // A quality value other than zero changes nothing: the order decides.
            .filter_map(|item| match item.split_once(';') {
                Some((_, quality)) if is_zero_quality(quality) => None,
                Some((name, _)) => Self::from_name(name),
                None => Self::from_name(item),
            })
            .find(|encoding| *encoding != Self::Identity)
            .unwrap_or_default()
    }

    /// Compresses.
    pub fn compress(self, data: &Bytes) -> Bytes {
        const WRITES_TO_MEMORY: &str = "writing to memory cannot fail";
        match self {
            Self::Identity => data.clone(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).expect(WRITES_TO_MEMORY);
                encoder.finish().expect(WRITES_TO_MEMORY).into()
            }
            Self::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).expect(WRITES_TO_MEMORY);
                encoder.finish().expect(WRITES_TO_MEMORY).into()
            }
            Self::Zstd => zstd::bulk::compress(data, 1).expect("level 1 exists and memory is enough").into(),
        }
    }

    /// Decompresses at most `size_max` bytes. Nothing in, nothing out, whatever the encoding: some
    /// peers mark empty messages as compressed.
    ///
    /// # Errors
    /// More than `size_max` bytes come out, or the input is malformed or ends early.
    pub fn decompress(self, data: &Bytes, size_max: usize) -> Result<Bytes, CompressionError> {
        if data.is_empty() {
            return Ok(Bytes::new());
        }
        let input: &[u8] = data;
        match self {
            Self::Identity if data.len() > size_max => Err(CompressionError::TooLarge { limit: size_max }),
            Self::Identity => Ok(data.clone()),
            Self::Gzip => self.read_bounded(flate2::bufread::MultiGzDecoder::new(input), size_max),
            Self::Deflate => self.read_bounded(flate2::bufread::ZlibDecoder::new(input), size_max),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(|error| self.malformed(&error))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| self.malformed(&error))?;
                self.read_bounded(decoder, size_max)
            }
        }
    }

    fn read_bounded(self, decoder: impl Read, size_max: usize) -> Result<Bytes, CompressionError> {
        let mut out = Vec::new();
        // One more than allowed, to tell "exactly the limit" from "over it".
        let over = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_add(1);
        decoder.take(over).read_to_end(&mut out).map_err(|error| self.malformed(&error))?;
        if out.len() > size_max {
            return Err(CompressionError::TooLarge { limit: size_max });
        }
        Ok(out.into())
    }

    fn malformed(self, error: &std::io::Error) -> CompressionError {
        CompressionError::Malformed { encoding: self.name(), reason: error.to_string() }
    }
}

fn is_zero_quality(parameter: &str) -> bool {
    parameter.trim().strip_prefix("q=").is_some_and(|value| value.parse() == Ok(0f32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMPRESSING: [Encoding; 3] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeroes = Bytes::from(vec![0; 10_000_000]);
        for encoding in COMPRESSING {
            let bomb = encoding.compress(&zeroes);
            assert!(bomb.len() < 50_000, "{encoding:?}: {}", bomb.len());
            assert_eq!(
                encoding.decompress(&bomb, 1_000_000),
                Err(CompressionError::TooLarge { limit: 1_000_000 })
            );
            assert_eq!(encoding.decompress(&bomb, 10_000_000), Ok(zeroes.clone()));
        }
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        // Magic, descriptor without a single segment, window descriptor 31 << 3: 2^41 bytes.
        let frame = Bytes::from_static(b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00");
        assert!(matches!(Encoding::Zstd.decompress(&frame, 100), Err(CompressionError::Malformed { .. })));
    }

    #[test]
    fn a_truncated_message_is_malformed() {
        for encoding in COMPRESSING {
            let whole = encoding.compress(&Bytes::from_static(b"some text, some text, some text"));
            let cut = whole.slice(..whole.len() - 3);
            assert!(
                matches!(encoding.decompress(&cut, 1000), Err(CompressionError::Malformed { .. })),
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn the_first_supported_encoding_wins() {
        assert_eq!(Encoding::first_accepted("br, zstd;q=0.9, gzip"), Encoding::Zstd);
        assert_eq!(Encoding::first_accepted("identity, gzip"), Encoding::Gzip);
        assert_eq!(Encoding::first_accepted("gzip;q=0, deflate"), Encoding::Deflate);
        assert_eq!(Encoding::first_accepted("br"), Encoding::Identity);
        assert_eq!(Encoding::first_accepted(""), Encoding::Identity);
    }

    proptest! {
        #[test]
        fn messages_come_back(data: Vec<u8>) {
            let data = Bytes::from(data);
            for encoding in COMPRESSING {
                prop_assert_eq!(encoding.decompress(&encoding.compress(&data), data.len()).unwrap(), &data);
            }
        }

        #[test]
        fn garbage_never_panics(data: Vec<u8>) {
            let data = Bytes::from(data);
            for encoding in COMPRESSING {
                let _ = encoding.decompress(&data, 1000);
            }
        }
    }
}
