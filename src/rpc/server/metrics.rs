//! Counters of calls: by method and code, in flight, and how long they took.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::time::Instant;

use crate::rpc::{Code, Method};

/// Upper bounds of the latency buckets, in microseconds; one more bucket holds the rest.
const BUCKETS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// Counters of a server's calls.
#[derive(Debug, Default)]
pub struct Metrics(RwLock<HashMap<u32, Arc<Counters>>>);

#[derive(Debug)]
struct Counters {
    path: String,
    in_flight: AtomicI64,
    by_code: [AtomicU64; Code::ALL.len()],
    by_latency: [AtomicU64; BUCKETS_US.len() + 1],
    latency_sum_us: AtomicU64,
}

impl Metrics {
    /// Counts a call from now on until the meter is dropped.
    pub(super) fn start(&self, method: &Method, start: Instant) -> Meter {
        let counters = self.counters(method);
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Meter { counters, start, code: Code::Canceled }
    }

    fn counters(&self, method: &Method) -> Arc<Counters> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&method.id) {
            return Arc::clone(known);
        }
        let mut methods = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(methods.entry(method.id).or_insert_with(|| {
            Arc::new(Counters {
                path: method.path.clone(),
                in_flight: AtomicI64::default(),
                by_code: Default::default(),
                by_latency: Default::default(),
                latency_sum_us: AtomicU64::default(),
            })
        }))
    }

    /// Calls that run now.
    pub fn in_flight(&self) -> i64 {
        let methods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        methods.values().map(|counters| counters.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Adds all counters to `out` in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let methods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut methods: Vec<&Counters> = methods.values().map(Arc::as_ref).collect();
        methods.sort_by(|a, b| a.path.cmp(&b.path));
        out.push_str(
            "# HELP bandy_rpc_calls_total Calls that ended.\n# TYPE bandy_rpc_calls_total counter\n",
        );
        for counters in &methods {
            for (code, count) in Code::ALL.iter().zip(&counters.by_code) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let (path, code) = (&counters.path, code.name());
                    let _ =
                        writeln!(out, "bandy_rpc_calls_total{{method=\"{path}\",code=\"{code}\"}} {count}");
                }
            }
        }
        out.push_str(
            "# HELP bandy_rpc_calls_in_flight Calls that run.\n# TYPE bandy_rpc_calls_in_flight gauge\n",
        );
        for counters in &methods {
            let in_flight = counters.in_flight.load(Ordering::Relaxed);
            let _ = writeln!(out, "bandy_rpc_calls_in_flight{{method=\"{}\"}} {in_flight}", counters.path);
        }
        out.push_str(
            "# HELP bandy_rpc_call_seconds Time from a call's headers to its status.\n\
             # TYPE bandy_rpc_call_seconds histogram\n",
        );
        for counters in &methods {
            counters.render_latency(out);
        }
    }
}

impl Counters {
    fn render_latency(&self, out: &mut String) {
        let path = &self.path;
        let mut total = 0;
        for (index, count) in self.by_latency.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = BUCKETS_US.get(index).map_or_else(|| "+Inf".to_owned(), |us| seconds(*us));
            let _ =
                writeln!(out, "bandy_rpc_call_seconds_bucket{{method=\"{path}\",le=\"{bound}\"}} {total}");
        }
        let sum = seconds(self.latency_sum_us.load(Ordering::Relaxed));
        let _ = writeln!(out, "bandy_rpc_call_seconds_sum{{method=\"{path}\"}} {sum}");
        let _ = writeln!(out, "bandy_rpc_call_seconds_count{{method=\"{path}\"}} {total}");
    }
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One call that is being counted. A call that is dropped without an end was cancelled.
#[derive(Debug)]
pub(super) struct Meter {
    counters: Arc<Counters>,
    start: Instant,
    code: Code,
}

impl Meter {
    /// How the call ended.
    pub fn end(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let counters = &self.counters;
        counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        counters.by_code[usize::from(self.code.number())].fetch_add(1, Ordering::Relaxed);
        let bucket = BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS_US.len());
        counters.by_latency[bucket].fetch_add(1, Ordering::Relaxed);
        counters.latency_sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_without_superfluous_zeroes() {
        assert_eq!([seconds(100), seconds(2_500_000), seconds(0)], ["0.0001", "2.5", "0"]);
    }
}
