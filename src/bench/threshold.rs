//! Conditions under which a run counts as failed: `p99>20ms`, `errors>1%`, `rate<1000`.

use std::time::Duration;

use super::Report;
use super::schedule::per_second;
use crate::units::{self, ParseError};

const THRESHOLD: &str = "a threshold, such as p99>20ms, max>1s, mean>=5ms, errors>1%, errors>0 or rate<1000";

/// One condition. The run failed if it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    comparison: Comparison,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// Seconds, of this part of the calls.
    Quantile(f64),
    /// Seconds.
    Mean,
    /// Part of all calls.
    ErrorPart,
    /// Number of calls.
    Errors,
    /// Calls per second.
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Over,
    AtLeast,
    Under,
    AtMost,
}

impl std::str::FromStr for Threshold {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let at = text.find(['<', '>'])?;
            let (metric, rest) = (text[..at].trim(), &text[at..]);
            let (comparison, limit) = [
                (">=", Comparison::AtLeast),
                ("<=", Comparison::AtMost),
                (">", Comparison::Over),
                ("<", Comparison::Under),
            ]
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?.trim())))?;
            let (metric, limit) = metric_and_limit(metric, limit)?;
            Some(Self { text: text.trim().to_owned(), metric, comparison, limit })
        };
        parse().ok_or_else(|| ParseError { text: text.to_owned(), expected: THRESHOLD })
    }
}

fn metric_and_limit(metric: &str, limit: &str) -> Option<(Metric, f64)> {
    let number =
        |text: &str| text.trim().parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite());
    match metric {
        "errors" => match limit.strip_suffix('%') {
            Some(percent) => Some((Metric::ErrorPart, number(percent)? / 100.0)),
            None => Some((Metric::Errors, number(limit)?)),
        },
        "rate" => Some((Metric::Rate, per_second(limit, "")?)),
        _ => {
            let metric = match metric {
                "min" => Metric::Quantile(0.0),
                "max" => Metric::Quantile(1.0),
                "mean" | "avg" => Metric::Mean,
                _ => {
                    let percent = number(metric.strip_prefix('p')?)?;
                    (percent <= 100.0).then_some(Metric::Quantile(percent / 100.0))?
                }
            };
            Some((metric, units::parse_duration(limit).ok()?.as_secs_f64()))
        }
    }
}

impl Threshold {
    /// What to say if the condition holds; `None` if it does not.
    pub fn violated(&self, report: &Report) -> Option<String> {
        let nothing = report.latency.is_empty();
        let measured = match self.metric {
            // A run without a single success has no latencies that could be good.
            Metric::Quantile(_) | Metric::Mean if nothing => {
                return Some(format!("{}: no call succeeded", self.text));
            }
            Metric::Quantile(quantile) => report.quantile(quantile).as_secs_f64(),
            Metric::Mean => report.mean().as_secs_f64(),
            Metric::ErrorPart => report.failed_part(),
            #[expect(clippy::cast_precision_loss, reason = "no run has 2^53 errors")]
            Metric::Errors => report.failed() as f64,
            Metric::Rate => report.rate(),
        };
        let holds = match self.comparison {
            Comparison::Over => measured > self.limit,
            Comparison::AtLeast => measured >= self.limit,
            Comparison::Under => measured < self.limit,
            Comparison::AtMost => measured <= self.limit,
        };
        let shown = match self.metric {
            Metric::Quantile(_) | Metric::Mean => {
                format!("{:.3} ms", Duration::from_secs_f64(measured).as_secs_f64() * 1000.0)
            }
            Metric::ErrorPart => format!("{:.2}%", measured * 100.0),
            Metric::Errors => format!("{measured}"),
            Metric::Rate => format!("{measured:.1}/s"),
        };
        holds.then(|| format!("{}: it was {shown}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Tally;
    use super::super::{Outcome, Report};
    use super::*;

    /// 98 calls of 1 to 98 ms and two errors within a second.
    fn report() -> Report {
        let mut tally = Tally::default();
        for n in 1..=98 {
            let done = Outcome::Done { messages: 1, bytes: 0 };
            tally.add(Duration::from_millis(n), done, Duration::from_millis(n));
        }
        for _ in 0..2 {
            tally.add(Duration::ZERO, Outcome::Failed("UNAVAILABLE".into()), Duration::from_secs(1));
        }
        Report::new(&tally)
    }

    fn violated(text: &str) -> Option<String> {
        text.parse::<Threshold>().unwrap_or_else(|error| panic!("{error}")).violated(&report())
    }

    #[test]
    fn a_threshold_holds_or_not() {
        for (text, holds) in [
            ("p50>50ms", false),
            ("p50 > 40ms", true),
            ("p99.9>97ms", true),
            ("max>1s", false),
            ("max>=98ms", true),
            ("mean>49ms", true),
            ("min<2ms", true),
            ("errors>1%", true),
            ("errors>2%", false),
            ("errors>=2%", true),
            ("errors>0", true),
            ("errors>2", false),
            ("rate<1000", true),
            ("rate<98/s", false),
            ("rate<=98", true),
        ] {
            assert_eq!(violated(text).is_some(), holds, "{text}: {:?}", violated(text));
        }
    }

    #[test]
    fn the_measured_value_is_named() {
        assert_eq!(violated("errors>1%").unwrap(), "errors>1%: it was 2.00%");
        assert_eq!(violated("rate<1k/s").unwrap(), "rate<1k/s: it was 98.0/s");
    }

    #[test]
    fn no_success_violates_every_latency() {
        let report = Report::new(&Tally::default());
        for text in ["p99>20ms", "max<1s"] {
            assert!(text.parse::<Threshold>().unwrap().violated(&report).is_some());
        }
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for text in [
            "",
            "p99",
            "p99=20ms",
            "p101>1s",
            "px>1s",
            "errors>x",
            "rate<-1",
            "p99>",
            "latency>1s",
            "rate<nan",
        ] {
            assert!(text.parse::<Threshold>().is_err(), "{text:?} was taken");
        }
    }
}
