//! Counters of calls in every protocol, by method: in flight, ended with which code, how long they took.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::{Code, Method};
use crate::metrics::{Counter, Family, Gauge, Histogram, Registry};

/// Counts a server's calls, and numbers them.
#[derive(Debug)]
pub struct Metrics {
    ended: Family<Counter>,
    in_flight: Family<Gauge>,
    seconds: Family<Histogram>,
    methods: RwLock<HashMap<u32, Arc<Tally>>>,
    numbered: AtomicU64,
}

/// What was counted of one method until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Calls that run.
    pub in_flight: i64,
    /// Calls that ended; only codes that occurred.
    pub ended: Vec<(Code, u64)>,
    /// Calls that ended, by how long they took: see [`Histogram::counts`].
    pub times: Vec<u64>,
    /// How long all of them took together.
    pub time: Duration,
}

/// The counters of one method. Who calls it often keeps them.
#[derive(Debug)]
pub struct Tally {
    path: String,
    ended: Family<Counter>,
    /// Made when the first call ends so: most methods never use most codes.
    by_code: [OnceLock<Counter>; Code::ALL.len()],
    in_flight: Gauge,
    seconds: Histogram,
}

impl Default for Metrics {
    /// Counters that nobody exports.
    fn default() -> Self {
        Self::new(&Registry::default())
    }
}

impl Metrics {
    /// Counters that `registry` exports.
    pub fn new(registry: &Registry) -> Self {
        Self {
            ended: registry.counters("bandy_rpc_calls_total", "Calls that ended.", &["method", "code"]),
            in_flight: registry.gauges("bandy_rpc_calls_in_flight", "Calls that run.", &["method"]),
            seconds: registry.histograms(
                "bandy_rpc_call_seconds",
                "Time from a call's first bytes to its status.",
                &["method"],
            ),
            methods: RwLock::default(),
            numbered: AtomicU64::new(0),
        }
    }

    /// The number of a new call.
    pub fn next_call(&self) -> u64 {
        self.numbered.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The counters of a method that is offered.
    pub fn tally(&self, method: &Method) -> Arc<Tally> {
        if let Some(known) = self.methods.read().unwrap_or_else(PoisonError::into_inner).get(&method.id) {
            return Arc::clone(known);
        }
        let mut methods = self.methods.write().unwrap_or_else(PoisonError::into_inner);
        let tally = methods.entry(method.id).or_insert_with(|| {
            Arc::new(Tally {
                path: method.path.clone(),
                ended: self.ended.clone(),
                by_code: Default::default(),
                in_flight: self.in_flight.with(&[&method.path]),
                seconds: self.seconds.with(&[&method.path]),
            })
        });
        Arc::clone(tally)
    }

    /// Counts a call from now on until the meter is dropped.
    pub fn start(&self, method: &Method, start: Instant) -> Meter {
        Meter::start(self.tally(method), start)
    }

    /// Calls that run now.
    pub fn in_flight(&self) -> i64 {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        methods.values().map(|tally| tally.in_flight.value()).sum()
    }

    /// What was counted of every method that was called, by path.
    pub fn counted(&self) -> BTreeMap<String, Counted> {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        methods.values().map(|tally| (tally.path.clone(), tally.counted())).collect()
    }

    /// For a person: a line for all calls, and one for each method that was called, the busiest first.
    pub fn status(&self) -> String {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<(&str, Sums)> =
            methods.values().map(|tally| (tally.path.as_str(), tally.sums())).collect();
        rows.sort_by(|a, b| (b.1.ended, a.0).cmp(&(a.1.ended, b.0)));
        let total = rows.iter().fold(Sums::default(), |sum, (_, row)| sum.plus(row));
        let mut text = format!("calls {total}\n");
        for (path, sums) in rows {
            let _ = writeln!(text, "  {path}  {sums}");
        }
        text
    }
}

/// Calls of one method or of all.
#[derive(Default)]
struct Sums {
    in_flight: i64,
    ended: u64,
    /// That their caller wanted no longer.
    cancelled: u64,
    failed: u64,
}

impl Sums {
    fn plus(&self, other: &Self) -> Self {
        Self {
            in_flight: self.in_flight + other.in_flight,
            ended: self.ended + other.ended,
            cancelled: self.cancelled + other.cancelled,
            failed: self.failed + other.failed,
        }
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { in_flight, ended, cancelled, failed } = self;
        write!(f, "in flight {in_flight}  ended {ended}  cancelled {cancelled}  failed {failed}")
    }
}

impl Tally {
    fn sums(&self) -> Sums {
        let count = |code: Code| self.by_code[usize::from(code.number())].get().map_or(0, Counter::value);
        let ended = Code::ALL.iter().copied().map(count).sum();
        let cancelled = count(Code::Canceled);
        Sums {
            in_flight: self.in_flight.value(),
            ended,
            cancelled,
            failed: ended - count(Code::Ok) - cancelled,
        }
    }

    fn counted(&self) -> Counted {
        let ended = Code::ALL.iter().zip(&self.by_code);
        Counted {
            in_flight: self.in_flight.value(),
            ended: ended.filter_map(|(code, count)| Some((*code, count.get()?.value()))).collect(),
            times: self.seconds.counts(),
            time: self.seconds.sum(),
        }
    }
}

/// One call that is being counted. A call that is dropped without an end was cancelled.
#[derive(Debug)]
pub struct Meter {
    tally: Arc<Tally>,
    start: Instant,
    code: Code,
}

impl Meter {
    /// Counts a call from now on until the meter is dropped.
    pub fn start(tally: Arc<Tally>, start: Instant) -> Self {
        tally.in_flight.add(1);
        Self { tally, start, code: Code::Canceled }
    }

    /// How the call ended.
    pub fn end(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let tally = &self.tally;
        tally.in_flight.add(-1);
        tally.seconds.observe(self.start.elapsed());
        let counter = &tally.by_code[usize::from(self.code.number())];
        counter.get_or_init(|| tally.ended.with(&[&tally.path, self.code.name()])).increment();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Kind;
    use crate::rpc::testing::{catalog, echo};

    #[test]
    fn calls_are_counted_by_how_they_end() {
        let catalog = catalog(&[("d.E/Say", "google.protobuf.StringValue", Kind::Unary)], &echo());
        let method = &catalog.by_path("d.E/Say").unwrap().method;
        let registry = Registry::default();
        let metrics = Metrics::new(&registry);
        let now = Instant::now();
        metrics.start(method, now).end(Code::Ok);
        metrics.start(method, now).end(Code::NotFound);
        drop(metrics.start(method, now));
        let running = metrics.start(method, now);
        assert_eq!(metrics.in_flight(), 1);
        assert_eq!(
            metrics.status(),
            "calls in flight 1  ended 3  cancelled 1  failed 1\n  \
             d.E/Say  in flight 1  ended 3  cancelled 1  failed 1\n"
        );
        drop(running);
        assert_eq!(metrics.in_flight(), 0);
        let text = registry.text();
        for line in [
            "bandy_rpc_calls_total{method=\"d.E/Say\",code=\"OK\"} 1\n",
            "bandy_rpc_calls_total{method=\"d.E/Say\",code=\"NOT_FOUND\"} 1\n",
            "bandy_rpc_calls_total{method=\"d.E/Say\",code=\"CANCELLED\"} 2\n",
            "bandy_rpc_calls_in_flight{method=\"d.E/Say\"} 0\n",
            "bandy_rpc_call_seconds_count{method=\"d.E/Say\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert_eq!([metrics.next_call(), metrics.next_call()], [1, 2]);
    }
}
