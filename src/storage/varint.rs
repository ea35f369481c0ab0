//! Zigzag variable-length integers, as in Kafka's records (the encoding of Protocol Buffers' sint64).

/// Bytes of the longest one.
pub(crate) const LEN_MAX: usize = 10;

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that `value` takes.
pub(crate) const fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Takes a value off the front; `None` when it is cut short or longer than 64 bits.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(LEN_MAX) {
        let bits = u64::from(byte & 0x7f);
        if at == LEN_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = bytes.get(at + 1..)?;
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_round_trip(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            let mut rest = out.as_slice();
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
            prop_assert_eq!(take(&mut &out[..out.len() - 1]), None);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = bytes.as_slice();
            take(&mut rest);
        }
    }

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        for value in [0, -1, 1, 150] {
            put(&mut out, value);
        }
        assert_eq!(out, [0, 1, 2, 0xac, 2]);
    }
}
