//! Numbers, names of enums, bytes and text as JSON.

use super::*;

impl Writer<'_> {
    pub(super) fn integer(&mut self, scalar: ScalarType, bits: u64) {
        use ScalarType as S;
        let wide = matches!(scalar, S::Int64 | S::Uint64 | S::Sint64 | S::Fixed64 | S::Sfixed64);
        if wide && !self.options.int64_numbers {
            self.out.push(b'"');
        }
        let _ = match scalar {
            S::Bool => write!(self.out, "{}", bits != 0),
            S::Int32 | S::Sfixed32 => write!(self.out, "{}", truncated(bits)),
            S::Uint32 | S::Fixed32 => write!(self.out, "{}", truncated(bits).cast_unsigned()),
            S::Sint32 => {
                let bits = truncated(bits).cast_unsigned();
                write!(self.out, "{}", (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
            }
            S::Sint64 => write!(self.out, "{}", (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()),
            S::Int64 | S::Sfixed64 => write!(self.out, "{}", bits.cast_signed()),
            S::Uint64 | S::Fixed64 | S::Double | S::Float | S::String | S::Bytes => {
                write!(self.out, "{bits}")
            }
        };
        if wide && !self.options.int64_numbers {
            self.out.push(b'"');
        }
    }

    pub(super) fn double(&mut self, number: f64) {
        if self.finite(number) {
            let size = number.abs();
            // Like JavaScript: digits as long as they stay readable. `-0` would be read as an integer,
            // which has no such value.
            let _ = if size == 0.0 && number.is_sign_negative() {
                write!(self.out, "-0.0")
            } else if size != 0.0 && !(1e-5..1e17).contains(&size) {
                write!(self.out, "{number:e}")
            } else {
                write!(self.out, "{number}")
            };
        }
    }

    pub(super) fn float(&mut self, number: f32) {
        // The shortest text that gives this float again, not the double nearest to it.
        if self.finite(number.into()) {
            let size = number.abs();
            let _ = if size == 0.0 && number.is_sign_negative() {
                write!(self.out, "-0.0")
            } else if size != 0.0 && !(1e-5..1e17).contains(&size) {
                write!(self.out, "{number:e}")
            } else {
                write!(self.out, "{number}")
            };
        }
    }

    pub(super) fn finite(&mut self, number: f64) -> bool {
        let name: &[u8] = match number {
            _ if number.is_nan() => b"\"NaN\"",
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => return true,
        };
        self.out.extend_from_slice(name);
        false
    }

    pub(super) fn enumeration(&mut self, index: EnumIndex, number: i32) {
        let descriptor = self.pool.enumeration(index);
        if descriptor.full_name() == "google.protobuf.NullValue" {
            self.out.extend_from_slice(b"null");
            return;
        }
        match descriptor.value(number) {
            Some(value) if !self.options.enum_numbers => self.text(value.name()),
            _ => {
                let _ = write!(self.out, "{number}");
            }
        }
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let start = self.out.len();
        let size = base64::encoded_len(bytes.len(), true).unwrap_or(0);
        self.out.resize(start + size, 0);
        let written = BASE64_STANDARD.encode_slice(bytes, &mut self.out[start..]).unwrap_or(0);
        self.out.truncate(start + written);
        self.out.push(b'"');
    }

    pub(super) fn text(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..0x20 | 0x7f => b"",
                _ => continue,
            };
            self.out.extend_from_slice(&bytes[from..at]);
            if escape.is_empty() {
                let _ = write!(self.out, "\\u{byte:04x}");
            } else {
                self.out.extend_from_slice(escape);
            }
            from = at + 1;
        }
        self.out.extend_from_slice(&bytes[from..]);
        self.out.push(b'"');
    }
}
