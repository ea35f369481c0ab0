//! Timestamp and Duration as text, and days to dates.

use std::fmt::Write as _;

const SECONDS_MIN: i64 = -62_135_596_800; // 0001-01-01T00:00:00Z
const SECONDS_MAX: i64 = 253_402_300_799; // 9999-12-31T23:59:59Z
const DURATION_MAX: i64 = 315_576_000_000; // ten thousand years

/// `2026-11-23T07:00:00.5Z`; `None` out of the range of the type.
pub fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    fraction(&mut text, nanos.unsigned_abs());
    text.push('Z');
    Some(text)
}

/// Seconds and nanoseconds of an RFC 3339 time.
pub fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.iter().all(|&(at, mark)| bytes.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&mark))) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let days = days(year, month, day);
    if date(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (part, zone) = rest.split_at(zone_at);
    let nanos = if part.is_empty() { 0 } else { parse_fraction(part.strip_prefix('.')?)? };
    let zone = zone.as_bytes();
    let offset = match zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at, at + 2)?, number(at + 3, at + 5)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    (SECONDS_MIN..=SECONDS_MAX).contains(&seconds).then_some((seconds, nanos))
}

/// `1.5s`; `None` out of the range of the type.
pub fn duration(seconds: i64, nanos: i32) -> Option<String> {
    let signs_differ = (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0);
    if seconds.unsigned_abs() > DURATION_MAX.unsigned_abs()
        || nanos.unsigned_abs() >= 1_000_000_000
        || signs_differ
    {
        return None;
    }
    let mut text = String::new();
    if seconds < 0 || nanos < 0 {
        text.push('-');
    }
    let _ = write!(text, "{}", seconds.unsigned_abs());
    fraction(&mut text, nanos.unsigned_abs());
    text.push('s');
    Some(text)
}

/// Seconds and nanoseconds of a duration.
pub fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, part) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok().filter(|seconds| *seconds <= DURATION_MAX)?;
    let nanos = part.map_or(Some(0), parse_fraction)?;
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// Three, six or nine digits, as many as it takes.
fn fraction(text: &mut String, nanos: u32) {
    let _ = match nanos {
        0 => Ok(()),
        _ if nanos.is_multiple_of(1_000_000) => write!(text, ".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => write!(text, ".{:06}", nanos / 1_000),
        _ => write!(text, ".{nanos:09}"),
    };
}

fn parse_fraction(digits: &str) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").parse().ok()
}

/// Year, month, day of days since 1970 (Howard Hinnant, chrono-compatible low-level date algorithms).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_round_trip() {
        for text in [
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "2024-02-29T12:00:00.500Z",
            "1969-12-31T23:59:59.000001Z",
        ] {
            let (seconds, nanos) = parse_timestamp(text).unwrap();
            assert_eq!(timestamp(seconds, nanos).unwrap(), text);
        }
        for text in ["0s", "-0.500s", "1.000000001s", "315576000000s", "-3s"] {
            let (seconds, nanos) = parse_duration(text).unwrap();
            assert_eq!(duration(seconds, nanos).unwrap(), text);
        }
        assert_eq!(parse_timestamp("2024-01-01T01:00:00.1+01:00"), Some((1_704_067_200, 100_000_000)));
        for text in [
            "2023-02-29T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-13-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "é",
            "",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for text in ["1", "s", ".5s", "1.s", "+1s", "1.0000000001s", "315576000001s", "--1s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC{0,40}", seconds: i64, nanos: i32) {
            let _ = (parse_timestamp(&text), parse_duration(&text), timestamp(seconds, nanos), duration(seconds, nanos));
        }

        #[test]
        fn every_second_round_trips(seconds in SECONDS_MIN..=SECONDS_MAX, nanos in 0..1_000_000_000) {
            let text = timestamp(seconds, nanos).unwrap();
            proptest::prop_assert_eq!(parse_timestamp(&text), Some((seconds, nanos)));
        }
    }
}
