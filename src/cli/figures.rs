//! Numbers as a person reads them: times, rates, counts.

use std::time::Duration;

/// A time with three digits that matter.
pub fn readable(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A rate with as many digits as a glance takes in: `0.25/s`, `12.3/s`, `1234/s`, `12.3k/s`.
pub fn per_second(rate: f64) -> String {
    match rate {
        0.0 => "0/s".to_owned(),
        r if r < 9.995 => format!("{r:.2}/s"),
        r if r < 99.95 => format!("{r:.1}/s"),
        r if r < 9999.5 => format!("{r:.0}/s"),
        r if r < 999_950.0 => format!("{:.1}k/s", r / 1e3),
        r => format!("{:.1}M/s", r / 1e6),
    }
}

/// A count with at most seven characters: `123456`, `1.23M`, `4.56G`.
pub fn count(count: f64) -> String {
    match count {
        c if c < 1e6 => format!("{c:.0}"),
        c if c < 1e9 => format!("{:.2}M", c / 1e6),
        c => format!("{:.2}G", c / 1e9),
    }
}

/// So many of something: `1 message`, `2 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A size in memory or on disk: `512 B`, `12 KiB`, `1.5 MiB`, `2.0 GiB`.
pub fn bytes(bytes: f64) -> String {
    const KIB: f64 = 1024.0;
    match bytes {
        b if b < KIB => format!("{b:.0} B"),
        b if b < KIB * KIB => format!("{:.0} KiB", b / KIB),
        b if b < KIB * KIB * KIB => format!("{:.1} MiB", b / KIB / KIB),
        b => format!("{:.1} GiB", b / KIB / KIB / KIB),
    }
}

/// How long something has been there: `42 s`, `3 min 12 s`, `5 h 7 min`, `3 d 4 h`.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A share of a whole, in percent; nothing of nothing is nothing.
pub fn percent(part: u64, whole: u64) -> String {
    match part as f64 / whole.max(1) as f64 * 100.0 {
        0.0 => "0 %".to_owned(),
        share if share < 0.1 => "<0.1 %".to_owned(),
        share if share < 10.0 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_readable_at_every_size() {
        for (micros, text) in [
            (85, "85 µs"),
            (1234, "1.23 ms"),
            (99_900, "99.90 ms"),
            (250_000, "250 ms"),
            (2_500_000, "2.50 s"),
        ] {
            assert_eq!(readable(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn counts_and_sizes_are_short() {
        assert_eq!([0.0, 999_999.0, 1_234_567.0, 2e9].map(count), ["0", "999999", "1.23M", "2.00G"]);
        let sizes = [512.0, 12_288.0, 1_572_864.0, 2_147_483_648.0].map(bytes);
        assert_eq!(sizes, ["512 B", "12 KiB", "1.5 MiB", "2.0 GiB"]);
    }

    #[test]
    fn rates_ages_and_shares_are_short() {
        let rates = [0.0, 0.25, 12.34, 1234.4, 12_345.6, 1_234_567.0].map(per_second);
        assert_eq!(rates, ["0/s", "0.25/s", "12.3/s", "1234/s", "12.3k/s", "1.2M/s"]);
        let ages = [42, 192, 18_420, 273_600].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["42 s", "3 min 12 s", "5 h 7 min", "3 d 4 h"]);
        assert_eq!(
            [(0, 0), (1, 10_000), (1, 100), (1, 2)].map(|(part, whole)| percent(part, whole)),
            ["0 %", "<0.1 %", "1.0 %", "50 %"]
        );
    }
}
