//! Payloads with blanks to fill in, for `-T`: `{{n}}`, `{{now}}`, `{{uuid}}`, `{{rand 10 100}}`.

use std::fmt::Write as _;

use fastrand::Rng;
use jiff::Timestamp;

/// What can stand between the braces; every error ends with it.
const BLANKS: &str = "{{n}}, {{now}}, {{now rfc3339}}, {{uuid}}, {{rand LOW HIGH}}";

/// Text with blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Number,
    Milliseconds,
    Rfc3339,
    Uuid,
    Random(i64, i64),
}

/// A payload that is not written as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Two braces and never the other two.
    #[error("'{{{{' without '}}}}': write \\{{{{ for the braces themselves")]
    Open,
    /// Something else between the braces.
    #[error("'{{{{{0}}}}}' is unknown: there are {BLANKS}")]
    Unknown(String),
    /// `rand` without two whole numbers in order.
    #[error("'{{{{{0}}}}}': rand takes two whole numbers, the smaller first: {{{{rand 10 100}}}}")]
    Range(String),
}

impl Payload {
    /// Parses `text`, in which `\{{` stands for two braces.
    ///
    /// # Errors
    /// A blank that is unknown or does not end.
    pub fn parse(text: &[u8]) -> Result<Self, PayloadError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(br"\{{") {
                literal.extend_from_slice(b"{{");
                rest = after;
            } else if let Some(inside) = rest.strip_prefix(b"{{") {
                let end = inside.windows(2).position(|pair| pair == b"}}").ok_or(PayloadError::Open)?;
                let blank = Part::parse(&String::from_utf8_lossy(&inside[..end]))?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(blank);
                rest = &inside[end + 2..];
            } else {
                literal.push(*first);
                rest = after;
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// Fills in the blanks: `number` counts payloads, from 1.
    pub fn fill(&self, number: u64, now: Timestamp, rng: &mut Rng) -> Vec<u8> {
        let mut filled = Vec::new();
        for part in &self.parts {
            let text = match part {
                Part::Literal(bytes) => {
                    filled.extend_from_slice(bytes);
                    continue;
                }
                Part::Number => number.to_string(),
                Part::Milliseconds => now.as_millisecond().to_string(),
                Part::Rfc3339 => format!("{now:.3}"),
                Part::Uuid => uuid(rng),
                Part::Random(low, high) => rng.i64(*low..=*high).to_string(),
            };
            filled.extend_from_slice(text.as_bytes());
        }
        filled
    }
}

impl Part {
    fn parse(blank: &str) -> Result<Self, PayloadError> {
        let words: Vec<&str> = blank.split_whitespace().collect();
        match words.as_slice() {
            ["n"] => Ok(Self::Number),
            ["now"] => Ok(Self::Milliseconds),
            ["now", "rfc3339"] => Ok(Self::Rfc3339),
            ["uuid"] => Ok(Self::Uuid),
            ["rand", low, high] => match (low.parse(), high.parse()) {
                (Ok(low), Ok(high)) if low <= high => Ok(Self::Random(low, high)),
                _ => Err(PayloadError::Range(blank.to_owned())),
            },
            ["rand", ..] => Err(PayloadError::Range(blank.to_owned())),
            _ => Err(PayloadError::Unknown(blank.to_owned())),
        }
    }
}

/// A random one: RFC 9562, version 4.
fn uuid(rng: &mut Rng) -> String {
    let bits = (rng.u128(..) & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let mut text = String::with_capacity(36);
    for (n, group) in [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].into_iter().enumerate()
    {
        let dash = if n == 0 { "" } else { "-" };
        write!(text, "{dash}{group}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Payload, Rng, Timestamp};
    use proptest::prelude::{prop_assert_eq, proptest};

    fn filled(text: &str, number: u64) -> String {
        let now = Timestamp::from_millisecond(1_763_884_814_123).unwrap();
        let bytes = Payload::parse(text.as_bytes()).unwrap().fill(number, now, &mut Rng::with_seed(7));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn blanks_are_filled_in_and_all_else_stays() {
        assert_eq!(filled(r#"{"id":{{n}},"a":{"b":{{ n }}}}"#, 42), r#"{"id":42,"a":{"b":42}}"#);
        assert_eq!(filled("{{now}} {{now rfc3339}}", 1), "1763884814123 2025-11-23T08:00:14.123Z");
        assert_eq!(filled(r"\{{n}} { {n} }} \{ é", 1), "{{n}} { {n} }} \\{ é");
        assert_eq!(filled("", 1), "");
        assert_eq!(filled("{{rand -3 -3}}", 1), "-3");
        assert_eq!(filled(&format!("{{{{rand {0} {0}}}}}", i64::MIN), 1), i64::MIN.to_string());
    }

    #[test]
    fn random_numbers_reach_both_ends_and_a_seed_is_a_sequence() {
        let payload = Payload::parse(b"{{rand 1 3}}").unwrap();
        let draw = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..100).map(|n| payload.fill(n, Timestamp::UNIX_EPOCH, &mut rng)).collect::<Vec<_>>()
        };
        let mut drawn = draw(1);
        assert_eq!(drawn, draw(1));
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn, [b"1", b"2", b"3"]);
    }

    #[test]
    fn a_uuid_is_random_and_of_version_4() {
        let two = filled("{{uuid}} {{uuid}}", 1);
        let (first, second) = two.split_once(' ').unwrap();
        assert_ne!(first, second);
        for uuid in [first, second] {
            let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12]);
            assert!(uuid.as_bytes()[14] == b'4' && b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| Payload::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("a {{n"), r"'{{' without '}}': write \{{ for the braces themselves");
        assert_eq!(
            error("{{count}}"),
            "'{{count}}' is unknown: there are {{n}}, {{now}}, {{now rfc3339}}, {{uuid}}, {{rand LOW HIGH}}"
        );
        for range in ["{{rand}}", "{{rand 1}}", "{{rand 2 1}}", "{{rand a b}}", "{{rand 1 2 3}}"] {
            assert_eq!(
                error(range),
                format!("'{range}': rand takes two whole numbers, the smaller first: {{{{rand 10 100}}}}")
            );
        }
        assert!(error("{{now iso}}").contains("unknown") && error("{{}}").contains("unknown"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "[{} \\\\nowrad0-9-]{0,30}") {
            for text in [bytes.as_slice(), text.as_bytes()] {
                if let Ok(payload) = Payload::parse(text) {
                    payload.fill(1, Timestamp::UNIX_EPOCH, &mut Rng::with_seed(1));
                }
            }
        }

        #[test]
        fn text_without_braces_is_itself(text in "[^{]*") {
            prop_assert_eq!(filled(&text, 1), text);
        }
    }
}
