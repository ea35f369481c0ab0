//! What a run measured: counts, errors by class, the distribution of latencies and its forms of output.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Outcome;

/// Nothing is slower than an hour; it is counted as an hour.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Two values closer than a thousandth of their size are the same.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Different error texts that are kept apart; a server that puts a number in each must not fill memory.
const CLASSES_MAX: usize = 100;
const OTHER: &str = "other";

/// Counts of one thread, or of an interval, or of all.
#[derive(Debug)]
pub struct Tally {
    calls: u64,
    messages: u64,
    bytes: u64,
    errors: BTreeMap<Cow<'static, str>, u64>,
    latency: Histogram<u64>,
    /// When the last call ended.
    elapsed: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        let highest = u64::try_from(LATENCY_MAX.as_nanos()).expect("an hour fits");
        Self {
            calls: 0,
            messages: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1, highest, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants"),
            elapsed: Duration::ZERO,
        }
    }
}

impl Tally {
    /// One call: how long it took, how it ended, and when, from the begin of the run.
    pub fn add(&mut self, latency: Duration, outcome: Outcome, elapsed: Duration) {
        self.calls += 1;
        self.elapsed = self.elapsed.max(elapsed);
        match outcome {
            Outcome::Done { messages, bytes } => {
                self.messages += messages;
                self.bytes += bytes;
                self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
            Outcome::Failed(class) => self.add_errors(class, 1),
        }
    }

    /// Messages that came at once, each counted as a call, with the bytes of all of them. Their latencies are
    /// told one by one.
    pub fn add_messages(&mut self, count: u64, bytes: u64, elapsed: Duration) {
        self.calls += count;
        self.messages += count;
        self.bytes += bytes;
        self.elapsed = self.elapsed.max(elapsed);
    }

    /// The latency of a message, in nanoseconds.
    #[inline]
    pub fn add_latency(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos);
    }

    /// Messages that failed, by class.
    pub fn add_failures(&mut self, class: &'static str, count: u64) {
        if count > 0 {
            self.calls += count;
            self.add_errors(class.into(), count);
        }
    }

    fn add_errors(&mut self, class: Cow<'static, str>, count: u64) {
        let known = self.errors.contains_key(&class) || self.errors.len() < CLASSES_MAX;
        let class = if known { class } else { Cow::Borrowed(OTHER) };
        *self.errors.entry(class).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.elapsed = self.elapsed.max(other.elapsed);
        for (class, count) in other.errors {
            self.add_errors(class, count);
        }
        self.latency.add(other.latency).expect("all histograms have the same bounds");
    }
}

/// What happened in one interval of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The interval's end, from the begin of the run.
    pub at: Duration,
    /// Calls that ended in it.
    pub calls: u64,
    /// Those that failed.
    pub errors: u64,
    /// Messages received.
    pub messages: u64,
    /// Latencies of its calls; zero if there were none.
    pub p50: Duration,
    /// As `p50`.
    pub p99: Duration,
    /// As `p50`.
    pub max: Duration,
}

impl Sample {
    pub(super) fn new(at: Duration, tally: &Tally) -> Self {
        Self {
            at,
            calls: tally.calls,
            errors: tally.errors.values().sum(),
            messages: tally.messages,
            p50: Duration::from_nanos(tally.latency.value_at_quantile(0.5)),
            p99: Duration::from_nanos(tally.latency.value_at_quantile(0.99)),
            max: Duration::from_nanos(tally.latency.max()),
        }
    }
}

/// What a whole run measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Calls that ended, well or not.
    pub calls: u64,
    /// Messages received.
    pub messages: u64,
    /// Bytes of messages, both ways.
    pub bytes: u64,
    /// Failed calls by class.
    pub errors: BTreeMap<Cow<'static, str>, u64>,
    /// From the begin to the end of the last call.
    pub elapsed: Duration,
    /// Nanoseconds of the calls that succeeded.
    pub latency: Histogram<u64>,
}

/// One row of the histogram for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// Latencies up to this, over that of the row before.
    pub to: Duration,
    /// How many.
    pub count: u64,
}

impl Report {
    pub(super) fn new(tally: &Tally) -> Self {
        Self {
            calls: tally.calls,
            messages: tally.messages,
            bytes: tally.bytes,
            errors: tally.errors.clone(),
            elapsed: tally.elapsed,
            latency: tally.latency.clone(),
        }
    }

    /// Calls that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Part of the calls that failed, from 0 to 1.
    pub fn failed_part(&self) -> f64 {
        ratio(self.failed(), self.calls)
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { count_f64(count) / seconds } else { 0.0 }
    }

    /// Calls that succeeded per second.
    pub fn rate(&self) -> f64 {
        self.per_second(self.calls - self.failed())
    }

    /// Messages received per second.
    pub fn message_rate(&self) -> f64 {
        self.per_second(self.messages)
    }

    /// The latency that this part of the calls (0 to 1) did not exceed.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }

    /// The mean latency.
    pub fn mean(&self) -> Duration {
        Duration::try_from_secs_f64(self.latency.mean() / 1e9).unwrap_or_default()
    }

    /// Rows for people: each goes a constant factor further than the one before, so that both the
    /// usual calls and the slowest have a row of their own.
    pub fn bins(&self, rows: u16) -> Vec<Bin> {
        if self.latency.is_empty() || rows == 0 {
            return Vec::new();
        }
        let (low, high) = (count_f64(self.latency.min().max(1)), count_f64(self.latency.max().max(1)));
        let step = (high / low).powf(1.0 / f64::from(rows));
        let mut counted = 0;
        let mut bins = Vec::new();
        for row in 1..=rows {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within min and max")]
            let to = if row == rows { self.latency.max() } else { (low * step.powi(i32::from(row))) as u64 };
            let until = if row == rows { self.latency.len() } else { self.latency.count_between(0, to) };
            bins.push(Bin { to: Duration::from_nanos(to), count: until.saturating_sub(counted) });
            counted = counted.max(until);
        }
        bins
    }

    /// The percentile distribution in HdrHistogram's text format, milliseconds: what its plotter reads.
    pub fn hgrm(&self) -> String {
        let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        let mut total = 0;
        for step in self.latency.iter_quantiles(5) {
            total += step.count_since_last_iteration();
            let quantile = step.quantile_iterated_to();
            let value = millis(step.value_iterated_to());
            let _ = match quantile < 1.0 {
                true => {
                    writeln!(text, "{value:12.3} {quantile:2.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))
                }
                false => writeln!(text, "{value:12.3} {quantile:2.12} {total:10}"),
            };
        }
        let _ = writeln!(
            text,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
            self.latency.mean() / 1e6,
            self.latency.stdev() / 1e6
        );
        let _ = writeln!(
            text,
            "#[Max     = {:12.3}, Total count    = {:12}]",
            millis(self.latency.max()),
            self.latency.len()
        );
        let sub_buckets = 2 * 10u32.pow(u32::from(SIGNIFICANT_DIGITS)).next_power_of_two();
        let _ =
            writeln!(text, "#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]", self.latency.buckets());
        text
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 do not happen, and a rounded one would do"
)]
fn count_f64(count: u64) -> f64 {
    count as f64
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { count_f64(part) / count_f64(whole) }
}

fn millis(nanos: u64) -> f64 {
    count_f64(nanos) / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::bench) fn report(millis: impl IntoIterator<Item = u64>) -> Report {
        let mut tally = Tally::default();
        for (n, latency) in (1..).zip(millis) {
            let done = Outcome::Done { messages: 1, bytes: 10 };
            tally.add(Duration::from_millis(latency), done, Duration::from_millis(10 * n));
        }
        Report::new(&tally)
    }

    #[test]
    fn rates_count_what_succeeded() {
        let mut tally = Tally::default();
        for n in 0..100 {
            let outcome = match n % 4 {
                0 => Outcome::Failed("x".into()),
                _ => Outcome::Done { messages: 10, bytes: 5 },
            };
            tally.add(Duration::from_millis(1), outcome, Duration::from_secs(2));
        }
        let report = Report::new(&tally);
        assert_eq!((report.rate(), report.message_rate()), (37.5, 375.0));
        assert_eq!((report.failed_part(), report.bytes), (0.25, 375));
    }

    #[test]
    fn nothing_measured_is_nothing_reported() {
        let report = report([]);
        assert_eq!((report.rate(), report.failed_part(), report.quantile(0.99)), (0.0, 0.0, Duration::ZERO));
        assert!(report.bins(10).is_empty());
        assert!(report.hgrm().contains("Total count    =            0"));
    }

    #[test]
    fn endless_error_texts_are_counted_together() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            tally.add(Duration::ZERO, Outcome::Failed(format!("error {n}").into()), Duration::ZERO);
        }
        let report = Report::new(&tally);
        assert_eq!((report.failed(), report.errors.len()), (1000, CLASSES_MAX + 1));
        assert_eq!(report.errors[OTHER], 900);
    }

    #[test]
    fn hgrm_is_what_the_plotter_reads() {
        let report = report(1..=100);
        let text = report.hgrm();
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap().split_whitespace().count(), 4);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        let last = rows.last().unwrap();
        assert_eq!((last[0].round(), last[1], last[2], last.len()), (100.0, 1.0, 100.0, 3));
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        let half = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((half[0] - 50.0).abs() < 0.1 && (half[3] - 2.0).abs() < 0.01, "{half:?}");
        assert!(text.contains("#[Mean    =       50."), "{text}");
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_list(
            mut latencies in prop::collection::vec(1u64..1_000_000, 1..200),
            quantile in 0.0f64..=1.0,
        ) {
            let report = report(latencies.iter().copied());
            latencies.sort_unstable();
            let rank = ((quantile * latencies.len() as f64).ceil() as usize).clamp(1, latencies.len());
            let exact = latencies[rank - 1] as f64;
            let found = report.quantile(quantile).as_secs_f64() * 1000.0;
            prop_assert!((found - exact).abs() <= exact / 1000.0, "{} for {}", found, exact);
        }

        #[test]
        fn bins_hold_every_call_once(latencies in prop::collection::vec(1u64..100_000, 1..200), rows in 1u16..20) {
            let bins = report(latencies.iter().copied()).bins(rows);
            prop_assert_eq!(bins.len(), usize::from(rows));
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), latencies.len() as u64);
            prop_assert!(bins.windows(2).all(|pair| pair[0].to <= pair[1].to));
        }

        #[test]
        fn merging_is_as_if_measured_together(a in prop::collection::vec(1u64..1000, 0..50), b in prop::collection::vec(1u64..1000, 0..50)) {
            let tally = |list: &[u64]| {
                let mut tally = Tally::default();
                for latency in list {
                    tally.add(Duration::from_millis(*latency), Outcome::Done { messages: 1, bytes: 0 }, Duration::ZERO);
                }
                tally
            };
            let mut merged = tally(&a);
            merged.merge(tally(&b));
            let both = tally(&[a, b].concat());
            prop_assert_eq!(&merged.latency, &both.latency);
            prop_assert_eq!(merged.calls, both.calls);
        }
    }
}
