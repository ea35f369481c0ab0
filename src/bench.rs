//! The load loop: schedule × stop condition × operation → report, for every pillar.
//!
//! ```text
//! Schedule  when the n-th call is meant to start: as soon as a worker is free, or at a rate
//! Stop      after how many calls, after how long; Ctrl-C is a future that ends
//! operation an async closure: one call, told its number
//! ```
//!
//! With a rate, a call's latency counts from the moment it was *meant* to start: if the server stalls
//! for a second, the calls that had to wait behind it are slow too, instead of never having been made
//! (coordinated omission). The loop knows no protocol, opens no socket and starts no thread: whoever
//! calls [`Load::drive`] does, once per thread, all on one shared `Load`.

mod meter;
mod report;
mod schedule;
mod threshold;

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

pub use meter::Meter;
pub use report::{Bin, Report, Sample, Tally};
pub use schedule::{Rate, Schedule};
pub use threshold::Threshold;

/// Tokio's timers wake up to a millisecond late. That is the generator's fault and is not counted;
/// more than that is.
const TIMER_SLOP: Duration = Duration::from_millis(1);

/// When a run ends. Whatever comes first; neither means: when it is interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// After this many calls.
    pub count: Option<u64>,
    /// No call starts later than this.
    pub after: Option<Duration>,
}

/// How one call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done {
        /// Messages received; 1 for a unary call.
        messages: u64,
        /// Bytes of messages, both ways.
        bytes: u64,
    },
    /// Not so. The class is what errors are counted by: `UNAVAILABLE`, `timeout`.
    Failed(Cow<'static, str>),
}

/// One run, shared by all threads that drive it.
#[derive(Debug)]
pub struct Load {
    schedule: Schedule,
    stop: Stop,
    begin: Instant,
    next: AtomicU64,
    meter: Meter,
}

impl Load {
    /// A run that begins at `begin`, driven by `lanes` threads.
    pub fn new(schedule: Schedule, stop: Stop, lanes: usize, begin: Instant) -> Self {
        Self { schedule, stop, begin, next: AtomicU64::new(0), meter: Meter::new(lanes, begin) }
    }

    /// Runs the operation in `workers` loops until the run is over or `interrupt` ends. A call that is
    /// interrupted is dropped and not counted; one that runs when the time is up is finished.
    ///
    /// # Panics
    /// `lane` is not below the number of lanes.
    pub async fn drive<O>(
        &self,
        lane: usize,
        workers: usize,
        operation: O,
        interrupt: impl Future<Output = ()>,
    ) where
        O: AsyncFn(u64) -> Outcome,
    {
        let mut loops: FuturesUnordered<_> = (0..workers).map(|_| self.repeat(lane, &operation)).collect();
        let all = async { while loops.next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = interrupt => {}
        }
    }

    async fn repeat<O>(&self, lane: usize, operation: &O)
    where
        O: AsyncFn(u64) -> Outcome,
    {
        tokio::time::sleep_until(self.begin).await;
        let mut now = Instant::now();
        while let Some((number, start)) = self.next_call(now).await {
            let outcome = operation(number).await;
            now = Instant::now();
            self.meter.lane(lane).add(now - start, outcome, now - self.begin);
        }
    }

    /// Waits for the next call's turn: its number and where its latency counts from.
    async fn next_call(&self, now: Instant) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.stop.count.is_some_and(|count| number >= count) {
            return None;
        }
        let over = |offset| self.stop.after.is_some_and(|after| offset >= after);
        match &self.schedule {
            Schedule::Closed => (!over(now - self.begin)).then_some((number, now)),
            Schedule::Open(rate) => {
                let offset = rate.start(number).filter(|offset| !over(*offset))?;
                let intended = self.begin + offset;
                if intended <= now {
                    return Some((number, intended));
                }
                tokio::time::sleep_until(intended).await;
                Some((number, Instant::now().min(intended + TIMER_SLOP)))
            }
        }
    }

    /// What happened since the last time this was called.
    pub fn sample(&self) -> Sample {
        self.meter.sample()
    }

    /// Everything until now. The run's time is that of its last call.
    pub fn report(&self) -> Report {
        self.meter.report()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    fn done() -> Outcome {
        Outcome::Done { messages: 1, bytes: 0 }
    }

    fn open(rate: &str) -> Schedule {
        Schedule::Open(rate.parse().unwrap())
    }

    /// Runs on a clock that jumps to the next timer, so the times are exact to a millisecond.
    fn run<O: AsyncFn(u64) -> Outcome>(
        schedule: Schedule,
        stop: Stop,
        workers: usize,
        operation: O,
    ) -> Report {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let load = Load::new(schedule, stop, 1, Instant::now());
            load.drive(0, workers, operation, std::future::pending()).await;
            load.report()
        })
    }

    fn millis(report: &Report, quantile: f64) -> u128 {
        report.quantile(quantile).as_millis()
    }

    #[test]
    fn a_count_is_exact_whatever_the_number_of_workers() {
        let stop = Stop { count: Some(1000), after: None };
        for workers in [1, 7, 100] {
            let report = run(Schedule::Closed, stop, workers, async |_| {
                tokio::time::sleep(Duration::from_millis(10)).await;
                done()
            });
            assert_eq!((report.calls, report.messages), (1000, 1000));
            let rounds = 1000u64.div_ceil(workers as u64);
            assert_eq!(report.elapsed, Duration::from_millis(10 * rounds));
            assert_eq!(millis(&report, 0.5), 10);
        }
    }

    #[test]
    fn every_number_is_called_once() {
        let seen = RefCell::new(Vec::new());
        run(Schedule::Closed, Stop { count: Some(50), after: None }, 8, async |number| {
            seen.borrow_mut().push(number);
            tokio::time::sleep(Duration::from_millis(number % 3)).await;
            done()
        });
        seen.borrow_mut().sort_unstable();
        assert_eq!(seen.into_inner(), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_duration_starts_no_call_after_it_and_finishes_the_last() {
        let stop = Stop { count: None, after: Some(Duration::from_millis(95)) };
        let report = run(Schedule::Closed, stop, 1, async |_| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            done()
        });
        assert_eq!((report.calls, report.elapsed), (10, Duration::from_millis(100)));
    }

    #[test]
    fn a_stall_makes_the_calls_behind_it_slow() {
        // 100 calls a second, one worker; the 100th call stalls for a second. A closed loop would see
        // one slow call in 400, this one sees every call that was due in that second.
        let stop = Stop { count: None, after: Some(Duration::from_secs(4)) };
        let stall = async |number| {
            let pause = if number == 100 { 1000 } else { 1 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            done()
        };
        let report = run(open("100/s"), stop, 1, stall);
        assert_eq!(report.calls, 400);
        assert!((990..=1001).contains(&millis(&report, 1.0)), "{}", millis(&report, 1.0));
        // After the stall the backlog shrinks by 9 ms with every call of 1 ms.
        assert!((815..=825).contains(&millis(&report, 0.95)), "{}", millis(&report, 0.95));
        assert!(millis(&report, 0.5) <= 2);
        let closed = run(Schedule::Closed, Stop { count: Some(400), after: None }, 1, stall);
        assert_eq!(millis(&closed, 0.95), 1);
    }

    #[test]
    fn a_rate_is_kept_with_enough_workers() {
        let stop = Stop { count: None, after: Some(Duration::from_secs(2)) };
        let report = run(open("100..300@2s"), stop, 50, async |_| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            done()
        });
        assert_eq!(report.calls, 400);
        assert!(millis(&report, 1.0) <= 101, "nobody waited for a worker");
    }

    #[test]
    fn a_schedule_that_falls_to_nothing_ends_the_run() {
        let report = run(open("10@1s,0"), Stop::default(), 2, async |_| done());
        assert_eq!(report.calls, 10);
    }

    #[test]
    fn errors_are_counted_by_class_and_are_no_latencies() {
        let stop = Stop { count: Some(10), after: None };
        let report = run(Schedule::Closed, stop, 1, async |number| match number {
            0..5 => done(),
            5..8 => Outcome::Failed("UNAVAILABLE".into()),
            _ => Outcome::Failed("timeout".into()),
        });
        assert_eq!((report.calls, report.failed()), (10, 5));
        assert_eq!(report.latency.len(), 5);
        let classes: Vec<_> = report.errors.iter().map(|(class, count)| (class.as_ref(), *count)).collect();
        assert_eq!(classes, [("UNAVAILABLE", 3), ("timeout", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_drops_calls_in_flight() {
        let load = Load::new(Schedule::Closed, Stop::default(), 1, Instant::now());
        let interrupt = tokio::time::sleep(Duration::from_millis(25));
        let call = async |_| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            done()
        };
        load.drive(0, 3, call, interrupt).await;
        assert_eq!(load.report().calls, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn samples_add_up_to_the_report() {
        let load = Load::new(open("10/s"), Stop { count: Some(25), after: None }, 2, Instant::now());
        let call = async |_| done();
        let sampling = async {
            let mut calls = 0;
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                calls += load.sample().calls;
            }
            calls
        };
        let pending = std::future::pending;
        let (_, _, calls) =
            tokio::join!(load.drive(0, 1, call, pending()), load.drive(1, 1, call, pending()), sampling);
        assert_eq!((calls, load.report().calls), (25, 25));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_open_loop_makes_the_calls_of_its_schedule(rate in 1u32..2000, workers in 1usize..20, millis in 1u64..3000) {
            let after = Duration::from_millis(millis);
            let stop = Stop { count: None, after: Some(after) };
            let rate: Rate = rate.to_string().parse().unwrap();
            let expected = (0..).take_while(|n| rate.start(*n).is_some_and(|start| start < after)).count();
            let report = run(Schedule::Open(rate), stop, workers, async |_| done());
            prop_assert_eq!(report.calls, expected as u64);
        }
    }
}
