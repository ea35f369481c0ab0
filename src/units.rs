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
    if let Ok(seconds) = rest.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| fail());
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
    if total > 3.2e10 {
        return Err(fail());
    }
    Duration::try_from_secs_f64(total).map_err(|_| fail())
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
