//! Durations, sizes, counts, rates and percentages: parse and print, one grammar everywhere.

use std::time::Duration;

/// Text that is not a value of the grammar that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseError {
    /// What was given.
    pub text: String,
    /// What would have been understood, with examples.
    pub expected: &'static str,
}

fn error(text: &str, expected: &'static str) -> ParseError {
    ParseError { text: text.to_owned(), expected }
}

/// A thousand years: more is a mistake, and sums of it with a clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(32_000_000_000);
const DURATION: &str = "a duration, such as 500ms, 2s or 1h30m (a bare number is seconds)";

/// Parses `500ms`, `2s`, `1h30m`, `1.5s`, or a bare number of seconds.
///
/// # Errors
/// Anything else, and durations over 1,000 years.
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let fail = || error(text, DURATION);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fail());
    }
    let bounded = |seconds: f64| {
        Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= LONGEST).ok_or_else(fail)
    };
    if let Ok(seconds) = rest.parse::<f64>() {
        return bounded(seconds);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let number: f64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(fail()),
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    bounded(total)
}

const SIZE: &str = "a size in bytes, such as 64, 1k, 10M or 1GiB";

/// Parses `64`, `1k`, `10M`, `1GiB`: multiples of 1024, with or without `B` or `iB`.
///
/// # Errors
/// Anything else, and sizes over 2^64.
pub fn parse_size(text: &str) -> Result<u64, ParseError> {
    let fail = || error(text, SIZE);
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let number: u64 = trimmed[..digits].parse().map_err(|_| fail())?;
    let unit = trimmed[digits..].trim().to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match letter {
        "" if unit != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(fail()),
    };
    number.checked_mul(1 << shift).ok_or_else(fail)
}

const COUNT: &str = "a number over 0, such as 100, 10k or 1m";

/// Parses `100`, `10k`, `1m`: thousands and millions.
///
/// # Errors
/// Anything else, zero, and numbers over 2^64.
pub fn parse_count(text: &str) -> Result<u64, ParseError> {
    let fail = || error(text, COUNT);
    let lower = text.trim().to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1_000),
        Some(b'm') => (&lower[..lower.len() - 1], 1_000_000),
        _ => (lower.as_str(), 1),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fail());
    }
    let number: u64 = digits.parse().map_err(|_| fail())?;
    number.checked_mul(factor).filter(|count| *count > 0).ok_or_else(fail)
}

const PERCENT: &str = "a percentage from 0% to 100%";

/// Parses `10%` or `10` into 0.1.
///
/// # Errors
/// Anything else, and what is not between 0 and 100.
pub fn parse_percent(text: &str) -> Result<f64, ParseError> {
    let fail = || error(text, PERCENT);
    let trimmed = text.trim();
    let percent: f64 = trimmed.strip_suffix('%').unwrap_or(trimmed).trim().parse().map_err(|_| fail())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err(fail()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_grammars_do_not_have_is_refused_with_what_they_have() {
        for text in ["", "x", "-1", "1y", "1h30", "h", "1..5s", "nan", "inf", "4e10", "1e300", "2000000w"] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?} is not {DURATION}"));
        }
        for text in ["", "k", "-1", "1.5k", "1ib", "1x", "1kk", "99999999999999999999", "20000000T"] {
            assert!(parse_size(text).is_err(), "{text:?} was taken");
        }
        for text in [
            "",
            "0",
            "0k",
            "k",
            "-1",
            "+1",
            "1.5k",
            "1 k",
            "1g",
            "1km",
            "99999999999999999999",
            "20000000000000m",
        ] {
            assert!(parse_count(text).is_err(), "{text:?} was taken");
        }
        for text in ["", "%", "-1%", "100.1%", "nan", "inf", "1%%"] {
            assert!(parse_percent(text).is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn counts_are_what_they_say(number in 1u64..1_000_000_000, unit in 0usize..5) {
            let (letter, factor) = [("", 1), ("k", 1000), ("K", 1000), ("m", 1_000_000), ("M", 1_000_000)][unit];
            prop_assert_eq!(parse_count(&format!(" {number}{letter} ")), Ok(number * factor));
        }

        #[test]
        fn sizes_are_what_they_say(number in 0u64..1_000_000, unit in 0u32..5, end in 0usize..4) {
            let letter = ["", "k", "M", "g", "T"][unit as usize];
            let end = if letter.is_empty() { ["", "b", "B", " "][end] } else { ["", "b", "iB", "IB"][end] };
            prop_assert_eq!(parse_size(&format!("{number}{letter}{end}")), Ok(number << (10 * unit)));
        }

        #[test]
        fn durations_add_up(hours in 0u64..1000, minutes in 0u64..100, millis in 0u64..100_000) {
            let parsed = parse_duration(&format!("{hours}h{minutes}m{millis}ms")).unwrap();
            let expected = Duration::from_millis((hours * 60 + minutes) * 60_000 + millis);
            prop_assert!(parsed.abs_diff(expected) < Duration::from_micros(1), "{:?}", parsed);
            let bare = parse_duration(&format!("{}.5", hours)).unwrap();
            prop_assert_eq!(bare, Duration::from_millis(hours * 1000 + 500));
        }

        #[test]
        fn percentages_are_shares(percent in 0u32..=1000) {
            let text = format!("{}.{}%", percent / 10, percent % 10);
            prop_assert!((parse_percent(&text).unwrap() - f64::from(percent) / 1000.0).abs() < 1e-12);
        }

        #[test]
        fn garbage_never_panics(text in "[0-9a-zA-Zµ.%+ -]{0,20}") {
            let longest = parse_duration(&text).ok();
            prop_assert!(longest.is_none_or(|duration| duration <= LONGEST));
            let _ = (parse_size(&text), parse_count(&text), parse_percent(&text));
        }
    }
}
