//! Numbers about a running server: counters, gauges, histograms, and their Prometheus text.

mod times;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use times::{BOUNDS_NANOS, Histogram, Spread};

/// Combinations of label values that one metric keeps apart; names that peers choose must not fill the memory.
/// What comes later is counted under `other`.
const SERIES_MAX: usize = 1000;

/// Upper bounds in seconds that Prometheus is told, each one of [`BOUNDS_NANOS`]: half a millisecond to half a minute,
/// for anything a server does.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Only goes up.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So many until now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// So many more, or fewer.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// So many.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// So many now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A metric that is kept apart by the values of its labels.
#[derive(Clone, Debug)]
pub struct Family<T> {
    labels: &'static [&'static str],
    series: Arc<Mutex<BTreeMap<Vec<String>, T>>>,
}

impl<T: Clone + Default> Family<T> {
    fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, series: Arc::default() }
    }

    /// The one with these values, in the order of the labels. Keep it where it is used often.
    pub fn with(&self, values: &[&str]) -> T {
        debug_assert_eq!(values.len(), self.labels.len(), "a value for every label of {:?}", self.labels);
        let mut series = self.series();
        let mut key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        if series.len() >= SERIES_MAX && !series.contains_key(&key) {
            key = vec!["other".to_owned(); self.labels.len()];
        }
        series.entry(key).or_default().clone()
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, T>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All metrics of a server. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    metrics: Arc<Mutex<Vec<Metric>>>,
    pages: Arc<Mutex<Vec<Page>>>,
}

/// Text that is made elsewhere.
struct Page {
    path: &'static str,
    text: Box<dyn Fn() -> String + Send + Sync>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

/// Where the metrics are.
pub const PATH: &str = "/metrics";

#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    source: Source,
}

enum Source {
    Counter(Family<Counter>),
    Gauge(Family<Gauge>),
    Histogram(Family<Histogram>),
    /// Asked when somebody looks.
    Asked(Kind, Box<dyn Fn() -> f64 + Send + Sync>),
}

/// How Prometheus understands a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Registry {
    /// A counter. Its name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.counters(name, help, &[]).with(&[])
    }

    /// Counters, one for each combination of label values.
    pub fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Counter> {
        let family = Family::new(labels);
        self.add(name, help, Source::Counter(family.clone()));
        family
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.gauges(name, help, &[]).with(&[])
    }

    /// Gauges, one for each combination of label values.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Gauge> {
        let family = Family::new(labels);
        self.add(name, help, Source::Gauge(family.clone()));
        family
    }

    /// Histograms of times, one for each combination of label values. The name ends in `_seconds`.
    pub fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Histogram> {
        let family = Family::new(labels);
        self.add(name, help, Source::Histogram(family.clone()));
        family
    }

    /// A number that is known elsewhere and asked for when somebody looks.
    pub fn ask(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.add(name, help, Source::Asked(kind, Box::new(value)));
    }

    fn add(&self, name: &'static str, help: &'static str, source: Source) {
        let mut metrics = self.metrics();
        // Prometheus takes a name once: whatever is made anew, such as a node that could not join before, is meant.
        metrics.retain(|metric| metric.name != name);
        metrics.push(Metric { name, help, source });
    }

    fn metrics(&self) -> MutexGuard<'_, Vec<Metric>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pages(&self) -> MutexGuard<'_, Vec<Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Text in Prometheus' format that is asked for when somebody looks at `path`: behind the metrics at [`PATH`], and
    /// alone elsewhere.
    pub fn page(&self, path: &'static str, text: impl Fn() -> String + Send + Sync + 'static) {
        self.pages().push(Page { path, text: Box::new(text) });
    }

    /// What is at a path; none if nothing is.
    pub fn at(&self, path: &str) -> Option<String> {
        let mut text = (path == PATH).then(|| self.text());
        for page in self.pages().iter().filter(|page| page.path == path) {
            text.get_or_insert_default().push_str(&(page.text)());
        }
        text
    }

    /// Where there is something.
    pub fn paths(&self) -> Vec<&'static str> {
        let mut paths = vec![PATH];
        paths.extend(self.pages().iter().map(|page| page.path).filter(|path| *path != PATH));
        paths
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for metric in self.metrics().iter() {
            metric.write(&mut out);
        }
        out
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Source {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) | Self::Asked(Kind::Counter, _) => "counter",
            Self::Gauge(_) | Self::Asked(Kind::Gauge, _) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metric {
    fn write(&self, out: &mut String) {
        let name = self.name;
        // Writing to a string cannot fail.
        let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {}\n", self.help, self.source.kind());
        match &self.source {
            Source::Counter(family) => {
                for (values, counter) in family.series().iter() {
                    let labels = labels(family.labels, values, None);
                    let _ = writeln!(out, "{name}{labels} {}", counter.value());
                }
            }
            Source::Gauge(family) => {
                for (values, gauge) in family.series().iter() {
                    let labels = labels(family.labels, values, None);
                    let _ = writeln!(out, "{name}{labels} {}", gauge.value());
                }
            }
            Source::Histogram(family) => {
                for (values, histogram) in family.series().iter() {
                    write_histogram(out, name, family.labels, values, histogram);
                }
            }
            Source::Asked(_, value) => {
                let _ = writeln!(out, "{name} {}", value());
            }
        }
    }
}

fn write_histogram(out: &mut String, name: &str, names: &[&str], values: &[String], histogram: &Histogram) {
    // Read once: what is counted meanwhile would not add up.
    let counts = histogram.counts();
    for bound in SECONDS {
        let nanos = Duration::from_secs_f64(bound).as_nanos();
        let buckets = BOUNDS_NANOS.partition_point(|bound| u128::from(*bound) <= nanos);
        let below: u64 = counts.iter().take(buckets).sum();
        let labels = labels(names, values, Some(&bound.to_string()));
        let _ = writeln!(out, "{name}_bucket{labels} {below}");
    }
    let count: u64 = counts.iter().sum();
    let _ = writeln!(out, "{name}_bucket{} {count}", labels(names, values, Some("+Inf")));
    let _ = writeln!(out, "{name}_sum{} {}", labels(names, values, None), histogram.sum().as_secs_f64());
    let _ = writeln!(out, "{name}_count{} {count}", labels(names, values, None));
}

fn labels(names: &[&str], values: &[String], bound: Option<&str>) -> String {
    let pairs = names.iter().copied().zip(values.iter().map(String::as_str));
    let pairs: Vec<_> = pairs
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let registry = Registry::default();
        registry.counter("a_total", "As").add(3);
        registry.gauge("b", "Bs").set(-2);
        registry.counters("c_total", "Cs", &["method", "code"]).with(&["say \"hi\"\\\n", "0"]).increment();
        registry.ask(Kind::Gauge, "d", "Ds", || 1.5);
        assert_eq!(
            registry.text(),
            "# HELP a_total As\n# TYPE a_total counter\na_total 3\n\
             # HELP b Bs\n# TYPE b gauge\nb -2\n\
             # HELP c_total Cs\n# TYPE c_total counter\nc_total{method=\"say \\\"hi\\\"\\\\\\n\",code=\"0\"} 1\n\
             # HELP d Ds\n# TYPE d gauge\nd 1.5\n"
        );
    }

    #[test]
    fn buckets_hold_what_took_at_most_their_bound() {
        let registry = Registry::default();
        let times = registry.histograms("t_seconds", "Ts", &["m"]).with(&["x"]);
        for milliseconds in [1, 2, 100_000] {
            times.observe(Duration::from_millis(milliseconds));
        }
        let text = registry.text();
        for line in [
            "t_seconds_bucket{m=\"x\",le=\"0.0005\"} 0",
            "t_seconds_bucket{m=\"x\",le=\"0.001\"} 1",
            "t_seconds_bucket{m=\"x\",le=\"0.0025\"} 2",
            "t_seconds_bucket{m=\"x\",le=\"30\"} 2",
            "t_seconds_bucket{m=\"x\",le=\"+Inf\"} 3",
            "t_seconds_sum{m=\"x\"} 100.003",
            "t_seconds_count{m=\"x\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn prometheus_is_told_bounds_that_are_counted_exactly() {
        for bound in SECONDS {
            let nanos = u64::try_from(Duration::from_secs_f64(bound).as_nanos()).unwrap();
            assert!(BOUNDS_NANOS.contains(&nanos), "{bound}");
        }
    }

    #[test]
    fn labels_that_peers_choose_do_not_fill_the_memory() {
        let registry = Registry::default();
        let family = registry.counters("x_total", "Xs", &["name"]);
        for number in 0..SERIES_MAX + 50 {
            family.with(&[&number.to_string()]).increment();
        }
        assert_eq!(family.series().len(), SERIES_MAX + 1);
        assert_eq!(family.with(&["other"]).value(), 50);
    }
}
