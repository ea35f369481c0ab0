//! Which partition a record goes to: as Kafka's Java client has it, so that keys stay together whoever produces.

/// MurmurHash2 with Kafka's seed.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (byte, shift) in tail.iter().zip([0, 8, 16]) {
        hash ^= u32::from(*byte) << shift;
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key, of so many.
pub fn of_key(key: &[u8], count: usize) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    (positive as usize % count.max(1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From org.apache.kafka.common.utils.Utils.murmur2 of kafka-clients 4.2.0.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        for (text, hash) in JAVA {
            assert_eq!(murmur2(text.as_bytes()) as i32, *hash, "{text}");
        }
        assert_eq!(of_key(b"21", 6), (JAVA[0].1 & 0x7fff_ffff) % 6);
    }

    const JAVA: &[(&str, i32)] = &[
        ("21", -973932308),
        ("", 275646681),
        ("a", -1563381124),
        ("ab", 316155434),
        ("abc", 479470107),
        ("abcd", -1323649548),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("some key with words", -756338815),
    ];
}
