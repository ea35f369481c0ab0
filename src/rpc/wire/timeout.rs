//! Deadlines on the wire: `grpc-timeout` and `connect-timeout-ms`.

use std::time::Duration;

/// gRPC allows eight digits.
const GRPC_DIGITS_MAX: usize = 8;
/// Connect allows ten digits.
const CONNECT_DIGITS_MAX: usize = 10;

/// Parses `grpc-timeout`: up to eight digits and one of `H M S m u n`. `None` if it is not one.
pub fn parse_grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = parse_digits(digits, GRPC_DIGITS_MAX)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Parses `connect-timeout-ms`: up to ten digits. `None` if it is not one.
pub fn parse_connect(text: &str) -> Option<Duration> {
    parse_digits(text, CONNECT_DIGITS_MAX).map(Duration::from_millis)
}

fn parse_digits(text: &str, digits_max: usize) -> Option<u64> {
    let well_formed =
        !text.is_empty() && text.len() <= digits_max && text.bytes().all(|byte| byte.is_ascii_digit());
    if well_formed { text.parse().ok() } else { None }
}

/// Writes `grpc-timeout` in the finest unit that eight digits can hold, rounded down.
pub fn format_grpc(timeout: Duration) -> String {
    let units: [(u128, &str); 6] = [
        (timeout.as_nanos(), "n"),
        (timeout.as_micros(), "u"),
        (timeout.as_millis(), "m"),
        (timeout.as_secs().into(), "S"),
        ((timeout.as_secs() / 60).into(), "M"),
        ((timeout.as_secs() / 3600).into(), "H"),
    ];
    let fits = |(number, _): &&(u128, &str)| *number <= 99_999_999;
    // More than 11,000 years is written as the most there is.
    let (number, unit) = units.iter().find(fits).copied().unwrap_or((99_999_999, "H"));
    format!("{number}{unit}")
}

/// Writes `connect-timeout-ms`, rounded down.
pub fn format_connect(timeout: Duration) -> String {
    timeout.as_millis().min(9_999_999_999).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_is_understood() {
        let cases = [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("100m", Duration::from_millis(100)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_grpc(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "m", "5", "5s", "-5m", "+5m", "5.5S", "123456789m", "5 m", "5µ", "५m"] {
            assert_eq!(parse_grpc(text), None, "{text:?}");
        }
        for text in ["", "5s", "-1", "+1", "12345678901", " 1"] {
            assert_eq!(parse_connect(text), None, "{text:?}");
        }
    }

    #[test]
    fn timeouts_are_written_in_the_finest_unit_that_fits() {
        assert_eq!(format_grpc(Duration::from_millis(50)), "50000000n");
        assert_eq!(format_grpc(Duration::from_millis(100)), "100000u");
        assert_eq!(format_grpc(Duration::from_secs(86_400 * 365)), "31536000S");
        assert_eq!(format_grpc(Duration::MAX), "99999999H");
        assert_eq!(format_connect(Duration::from_millis(1500)), "1500");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text: String) {
            let _ = parse_grpc(&text);
            let _ = parse_connect(&text);
        }

        #[test]
        fn what_is_written_is_read_back_no_longer_than_it_was(nanos: u64) {
            let timeout = Duration::from_nanos(nanos);
            let read = parse_grpc(&format_grpc(timeout)).unwrap();
            prop_assert!(read <= timeout && timeout.as_secs_f64() - read.as_secs_f64() <= read.as_secs_f64() * 1e-6 + 1e-9);
        }
    }
}
