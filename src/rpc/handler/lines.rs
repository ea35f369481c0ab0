//! Cuts a handler's output into JSON values: one per line, or one over several lines.

use bytes::{Bytes, BytesMut};

/// A value of more bytes than are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of more than {bytes_max} bytes")]
pub struct TooLong {
    /// The limit.
    pub bytes_max: usize,
}

/// Collects bytes and gives out what stands between newlines outside of braces, brackets and strings,
/// so that `jq .` serves as well as `jq -c .`.
#[derive(Debug)]
pub struct Values {
    buffer: BytesMut,
    scanned: usize,
    depth: usize,
    quoted: bool,
    escaped: bool,
    bytes_max: usize,
}

impl Values {
    /// Values of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, depth: 0, quoted: false, escaped: false, bytes_max }
    }

    /// Where to read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole value; `None` until more was read.
    ///
    /// # Errors
    /// One that is too long. Nothing sensible can be read after it.
    pub fn next_value(&mut self) -> Result<Option<Bytes>, TooLong> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.ends_with(byte) {
                let line = self.take();
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.scanned > self.bytes_max {
                return Err(TooLong { bytes_max: self.bytes_max });
            }
        }
        Ok(None)
    }

    /// What is left after the last newline, once nothing more will come.
    ///
    /// # Errors
    /// As [`Values::next_value`].
    pub fn rest(&mut self) -> Result<Option<Bytes>, TooLong> {
        if let Some(value) = self.next_value()? {
            return Ok(Some(value));
        }
        let rest = self.take();
        Ok((!rest.is_empty()).then_some(rest))
    }

    fn ends_with(&mut self, byte: u8) -> bool {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.quoted = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b'\n' => return self.depth == 0,
            _ => {}
        }
        false
    }

    fn take(&mut self) -> Bytes {
        let line = self.buffer.split_to(self.scanned).freeze();
        (self.scanned, self.depth, self.quoted, self.escaped) = (0, 0, false, false);
        let text = line.trim_ascii();
        line.slice_ref(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]], bytes_max: usize) -> Result<Vec<Bytes>, TooLong> {
        let mut values = Values::new(bytes_max);
        let mut all = Vec::new();
        for chunk in chunks {
            values.buffer().extend_from_slice(chunk);
            while let Some(value) = values.next_value()? {
                all.push(value);
            }
        }
        while let Some(value) = values.rest()? {
            all.push(value);
        }
        Ok(all)
    }

    #[test]
    fn a_value_ends_at_a_newline_outside_of_everything() {
        let text = b"{\"a\":\n \"}\\\"\\\\\"}\n\n 7 \n[1,\n2]\n\"x";
        assert_eq!(split(&[text], 100).unwrap(), ["{\"a\":\n \"}\\\"\\\\\"}", "7", "[1,\n2]", "\"x"]);
    }

    #[test]
    fn a_value_over_the_limit_is_refused_before_it_ends() {
        assert_eq!(split(&[b"[1,2,3"], 5), Err(TooLong { bytes_max: 5 }));
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(bytes: Vec<u8>, cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(split(&[&bytes], 4096), split(&[&bytes[..cut], &bytes[cut..]], 4096));
        }

        #[test]
        fn compact_values_come_out_as_they_went_in(texts in proptest::collection::vec("[a-z\"\\\\{\\[\n]*", 0..8)) {
            let lines: Vec<String> =
                texts.iter().map(|text| serde_json::json!({ "t": text }).to_string()).collect();
            let all = split(&[lines.join("\n").as_bytes()], 4096).unwrap();
            prop_assert_eq!(all, lines.iter().map(|line| Bytes::from(line.clone())).collect::<Vec<_>>());
        }
    }
}
