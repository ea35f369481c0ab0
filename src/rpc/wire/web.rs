//! gRPC-Web: trailers as header lines, and bodies in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A trailer block over this size is refused.
pub const TRAILERS_SIZE_MAX: usize = 64 * 1024;

/// Writes trailers as `name: value` lines.
pub fn encode_trailers(trailers: &HeaderMap) -> Bytes {
    let mut out = Vec::with_capacity(64);
    for (name, value) in trailers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.into()
}

/// Reads such lines. `None` if a line has no colon or an impossible name or value.
pub fn decode_trailers(block: &[u8]) -> Option<HeaderMap> {
    if block.len() > TRAILERS_SIZE_MAX {
        return None;
    }
    let mut trailers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        trailers.try_append(name, value).ok()?;
    }
    Some(trailers)
}

/// Encodes one piece of a text body. Pieces are padded, so that each can be decoded when it arrives.
pub fn encode_text(piece: &[u8]) -> Bytes {
    STANDARD.encode(piece).into()
}

/// Bytes of a text body that are not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body is not base64")]
pub struct TextError;

/// Decodes a text body that comes in chunks of any size; padding may occur after each piece.
#[derive(Debug, Default)]
pub struct TextDecoder {
    // Up to three characters that wait for the rest of their group of four.
    held: BytesMut,
}

impl TextDecoder {
    /// Decodes what is complete.
    ///
    /// # Errors
    /// Characters that are not base64.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Bytes, TextError> {
        self.held.extend(chunk.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let complete = self.held.split_to(self.held.len() / 4 * 4);
        let mut out = Vec::with_capacity(complete.len() / 4 * 3);
        let mut rest = &complete[..];
        while !rest.is_empty() {
            // A padded group ends a piece; the engine wants padding at the end only.
            let end = rest.iter().position(|byte| *byte == b'=').map_or(rest.len(), |at| at / 4 * 4 + 4);
            STANDARD.decode_vec(&rest[..end], &mut out).map_err(|_| TextError)?;
            rest = &rest[end..];
        }
        Ok(out.into())
    }

    /// Call it at the end of the body. Decodes a last group without padding.
    ///
    /// # Errors
    /// A group of one character.
    pub fn finish(&mut self) -> Result<Bytes, TextError> {
        super::metadata::BASE64.decode(self.held.split()).map(Bytes::from).map_err(|_| TextError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_trailers() {
        let trailers = decode_trailers(b"grpc-status:0\r\nGrpc-Message: it is: fine\r\n\r\n").unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["grpc-message"], "it is: fine");
        assert_eq!(decode_trailers(b"no colon"), None);
        assert_eq!(decode_trailers(b"bad name: 1"), None);
        assert_eq!(decode_trailers(&vec![b'a'; TRAILERS_SIZE_MAX + 1]), None);
    }

    #[test]
    fn pieces_that_were_padded_one_by_one_are_decoded() {
        let mut decoder = TextDecoder::default();
        assert_eq!(decoder.push(b"YQ==YmM=ZGVm").unwrap(), "abcdef");
        assert_eq!(decoder.push(b"Z").unwrap(), "");
        assert_eq!(decoder.push(b"w").unwrap(), "");
        assert_eq!(decoder.finish().unwrap(), "g");
        assert_eq!(decoder.push(b"Y=Q="), Err(TextError));
    }

    proptest! {
        #[test]
        fn trailers_come_back(values in prop::collection::vec(("[a-z][a-z0-9-]{0,9}", "[!-~]([ -~]{0,9}[!-~])?"), 0..8)) {
            let mut trailers = HeaderMap::new();
            for (name, value) in values {
                trailers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            prop_assert_eq!(decode_trailers(&encode_trailers(&trailers)), Some(trailers));
        }

        #[test]
        fn text_survives_any_cutting(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6), cut in 1usize..9) {
            let text: Vec<u8> = pieces.iter().flat_map(|piece| encode_text(piece)).collect();
            let mut decoder = TextDecoder::default();
            let mut out = Vec::new();
            for chunk in text.chunks(cut) {
                out.extend_from_slice(&decoder.push(chunk).unwrap());
            }
            out.extend_from_slice(&decoder.finish().unwrap());
            prop_assert_eq!(out, pieces.concat());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, cut in 1usize..9) {
            let _ = decode_trailers(&bytes);
            let mut decoder = TextDecoder::default();
            for chunk in bytes.chunks(cut) {
                let _ = decoder.push(chunk);
            }
            let _ = decoder.finish();
        }
    }
}
