//! When the n-th call is meant to start: a rate that holds, steps or climbs.

use std::time::Duration;

use crate::units::{self, ParseError};

/// When calls start.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// As soon as a worker is free.
    Closed,
    /// At a rate, whether or not the earlier ones have ended.
    Open(Rate),
}

/// Over a thousand times what one machine sends; keeps the arithmetic exact.
const RATE_MAX: f64 = 1e9;
const RATE: &str = "a rate, such as 1000/s, 60/m, 100..1000@30s (climbing) or 100,200,400@10s (steps)";

/// Calls per second as a function of time: straight pieces, the last one without end.
///
/// ```text
/// RATE    = PIECE ("," PIECE)*
/// PIECE   = N [UNIT] [".." N [UNIT]] ["@" DURATION]
/// N       = 250 | 2.5 | 10k        UNIT = /s (default) | /m | /h
///
/// 1000/s            a thousand a second
/// 100..1000@30s     from 100 to 1000 within 30 s, then 1000
/// 100,200,400@10s   10 s each; the last one goes on
/// 50@5s,0@2s,500    5 s at 50, a pause of 2 s, then 500
/// 100@10s,0         ends after 10 s
/// ```
/// A duration at the end holds for all pieces before it that have none. `/30s` is read as `@30s`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    // Never empty.
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    /// Calls per second at its begin and at its end.
    from: f64,
    to: f64,
    /// Infinite for the last.
    seconds: f64,
    /// Where it begins: time and number of calls until then.
    begin: f64,
    calls_before: f64,
}

impl Piece {
    fn calls(&self) -> f64 {
        if self.seconds.is_infinite() {
            if self.from > 0.0 { f64::INFINITY } else { 0.0 }
        } else {
            (self.from + self.to) / 2.0 * self.seconds
        }
    }

    /// Seconds after its begin until `calls` calls have started.
    fn time_of(&self, calls: f64) -> f64 {
        if self.seconds.is_infinite() || self.from == self.to {
            return calls / self.from;
        }
        // calls = from·t + slope·t²/2, solved in the form that does not cancel.
        let slope = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * slope * calls).max(0.0).sqrt();
        if calls <= 0.0 { 0.0 } else { (2.0 * calls / (self.from + root)).min(self.seconds) }
    }
}

impl Rate {
    /// When call `number` (from 0) is meant to start, from the begin of the run; `None` if the rate
    /// has fallen to nothing by then.
    pub fn start(&self, number: u64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 calls would take years at the highest rate")]
        let number = number as f64;
        // A hundred-millionth of a call is a rounding error and does not push a call into the next piece.
        let piece = self.pieces.iter().find(|piece| piece.calls_before + piece.calls() > number + 1e-8)?;
        let seconds = piece.begin + piece.time_of((number - piece.calls_before).max(0.0));
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Calls per second at the very begin.
    pub fn first(&self) -> f64 {
        self.pieces[0].from
    }

    /// A rate that holds.
    ///
    /// # Panics
    /// `per_second` is not a positive number.
    pub fn constant(per_second: f64) -> Self {
        assert!(per_second.is_finite() && per_second > 0.0, "a rate is a positive number");
        let piece =
            Piece { from: per_second, to: per_second, seconds: f64::INFINITY, begin: 0.0, calls_before: 0.0 };
        Self { pieces: vec![piece] }
    }
}

impl std::str::FromStr for Rate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = || ParseError { text: text.to_owned(), expected: RATE };
        let texts: Vec<&str> = text.split(',').collect();
        let mut pieces: Vec<Piece> = Vec::with_capacity(texts.len() + 1);
        let mut duration = None;
        // From the end, because a duration holds for the pieces before it.
        for piece in texts.iter().rev() {
            let (rates, own) = split_duration(piece.trim()).ok_or_else(fail)?;
            duration = own.or(duration);
            let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
            let (from, to) = (per_second(from, to).ok_or_else(fail)?, per_second(to, to).ok_or_else(fail)?);
            let last = pieces.is_empty();
            let seconds = match duration {
                Some(seconds) => seconds,
                // Only the last piece may go on for ever, and a line cannot.
                None if last && from == to => f64::INFINITY,
                None => return Err(fail()),
            };
            pieces.push(Piece { from, to, seconds, begin: 0.0, calls_before: 0.0 });
        }
        pieces.reverse();
        let end = pieces[pieces.len() - 1];
        if end.seconds.is_finite() {
            pieces.push(Piece { from: end.to, seconds: f64::INFINITY, ..end });
        }
        let (mut begin, mut calls_before) = (0.0, 0.0);
        for piece in &mut pieces {
            (piece.begin, piece.calls_before) = (begin, calls_before);
            begin += piece.seconds;
            calls_before += piece.calls();
        }
        if pieces.iter().all(|piece| piece.calls() == 0.0) {
            return Err(fail());
        }
        Ok(Self { pieces })
    }
}

/// `100@10s` and `100/10s` into rate and seconds; `100/s` has no duration.
fn split_duration(text: &str) -> Option<(&str, Option<f64>)> {
    let slash = || text.rsplit_once('/').filter(|(_, after)| after.starts_with(|c: char| c.is_ascii_digit()));
    let Some((rate, duration)) = text.split_once('@').or_else(slash) else {
        return Some((text, None));
    };
    let seconds = units::parse_duration(duration).ok()?.as_secs_f64();
    (seconds > 0.0).then_some((rate, Some(seconds)))
}

/// Calls per second. A number without a unit takes that of `other`: `100..1000/m`.
pub(super) fn per_second(text: &str, other: &str) -> Option<f64> {
    let (number, own_unit) = match text.split_once('/') {
        Some((number, unit)) => (number, Some(unit)),
        None => (text, None),
    };
    let unit = own_unit.or_else(|| other.split_once('/').map(|(_, unit)| unit)).unwrap_or("s");
    let per = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let (digits, factor) = match number.trim().strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000.0),
        None => (number.trim(), 1.0),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rate = digits.parse::<f64>().ok()? * factor / per;
    (0.0..=RATE_MAX).contains(&rate).then_some(rate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn starts(rate: &str, numbers: &[u64]) -> Vec<Option<u128>> {
        let rate: Rate = rate.parse().unwrap_or_else(|error| panic!("{error}"));
        let millis = |start: Duration| (start.as_secs_f64() * 1000.0).round() as u128;
        numbers.iter().map(|number| rate.start(*number).map(millis)).collect()
    }

    fn some(millis: &[u128]) -> Vec<Option<u128>> {
        millis.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_constant_rate_spaces_calls_evenly() {
        for rate in ["100", "100/s", "6000/m", "360k/h", "0.1k"] {
            assert_eq!(starts(rate, &[0, 1, 2, 250]), some(&[0, 10, 20, 2500]), "{rate}");
        }
        assert_eq!(Rate::constant(100.0).start(250), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn steps_take_the_duration_behind_them_and_the_last_goes_on() {
        // 100 calls in the first 10 s, 200 in the next, 400 in the third, then 40/s for ever.
        let calls = [0, 99, 100, 300, 700, 1100];
        let expected = some(&[0, 9900, 10_000, 20_000, 30_000, 40_000]);
        assert_eq!(starts("10,20,40@10s", &calls), expected);
        assert_eq!(starts("10@10s,20/10s,40", &calls), expected);
    }

    #[test]
    fn a_line_climbs_and_then_holds() {
        // From 0 to 100/s in 10 s: t² · 5 calls after t seconds.
        assert_eq!(starts("0..100@10s", &[0, 5, 125, 500, 600]), some(&[0, 1000, 5000, 10_000, 11_000]));
        assert_eq!(starts("100..100@10s", &[500]), some(&[5000]));
        // Falling: 100 - 10 t; after 10 s nothing comes any more.
        assert_eq!(starts("100..0@10s", &[375, 500]), [Some(5000), None]);
    }

    #[test]
    fn a_pause_is_a_rate_of_nothing() {
        assert_eq!(starts("10@1s,0@2s,10", &[9, 10, 11]), some(&[900, 3000, 3100]));
        assert_eq!(starts("10@1s,0", &[9, 10]), [Some(900), None]);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "fast",
            "-1",
            "1/x",
            "100..200",
            "100,200",
            "0",
            "0@5s",
            "1@",
            "1@x",
            "1@0s",
            "nan",
            "inf",
            "1..",
            "2000000000",
            "100,,200@1s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn starts_never_go_back(
            pieces in prop::collection::vec((0u32..500, 0u32..500, 1u32..20), 1..6),
            last in 1u32..500,
        ) {
            let text: Vec<String> = pieces.iter().map(|(from, to, s)| format!("{from}..{to}@{s}s")).collect();
            let rate: Rate = format!("{},{last}", text.join(",")).parse().unwrap();
            let mut before = Duration::ZERO;
            for number in 0..2000 {
                let start = rate.start(number).unwrap();
                prop_assert!(start >= before, "call {} at {:?} after {:?}", number, start, before);
                before = start;
            }
        }

        #[test]
        fn a_line_starts_as_many_calls_as_its_area(from in 0u32..500, to in 1u32..500, seconds in 1u32..20) {
            let rate: Rate = format!("{from}..{to}@{seconds}s").parse().unwrap();
            let end = Duration::from_secs(u64::from(seconds));
            let calls = (0..).take_while(|n| rate.start(*n).is_some_and(|s| s + Duration::from_nanos(100) < end)).count();
            let area = f64::from(from + to) / 2.0 * f64::from(seconds);
            prop_assert!((calls as f64 - area).abs() <= 1.0, "{} calls, area {}", calls, area);
        }

        #[test]
        fn garbage_never_panics(text in "[0-9a-z.,@/ -]{0,20}") {
            if let Ok(rate) = text.parse::<Rate>() {
                let _ = (rate.start(0), rate.start(u64::MAX), rate.first());
            }
        }
    }
}
