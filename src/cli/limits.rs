//! Why taking ends: signals, `--timeout`, `--for`, `--idle`; for commands that have something to put in order then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::exit::{Exit, Failure};
use super::signals;
use crate::wait::until;

/// Why there is nothing more to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As many as were asked for.
    Count,
    /// There is no more.
    Everything,
    /// `--for` or `--idle`.
    Passed,
    /// Whoever reads our output has had enough.
    ReaderGone,
    /// A signal.
    Signal(u8),
    /// `--timeout`.
    Timeout,
}

/// Within which bounds records are taken.
pub struct Limits {
    interrupted: Pin<Box<dyn Future<Output = u8>>>,
    /// The signal that has come; it stays the reason.
    signal: Option<u8>,
    /// One has come, and is heard of soon.
    was_asked: Arc<AtomicBool>,
    until: Option<Instant>,
    timeout: Option<(Instant, Duration)>,
    idle: Option<Duration>,
    /// When there was work last.
    active: Instant,
}

impl Limits {
    /// The limits of the flags `--for`, `--idle` and `--timeout`.
    pub fn new(duration: Option<Duration>, idle: Option<Duration>, timeout: Option<Duration>) -> Self {
        let limits = Self::within(timeout);
        let until = duration.and_then(|duration| limits.active.checked_add(duration));
        Self { until, idle, ..limits }
    }

    /// Signals, and `--timeout`.
    pub fn within(timeout: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            // In this order: what is noted is heard of.
            interrupted: Box::pin(signals::interrupted()),
            was_asked: signals::end_at_the_second(),
            signal: None,
            until: None,
            timeout: timeout.and_then(|timeout| Some((now.checked_add(timeout)?, timeout))),
            idle: None,
            active: now,
        }
    }

    /// Another limit for the time without work.
    pub fn set_idle(&mut self, idle: Duration) {
        self.idle = Some(idle);
    }

    /// There was work until now.
    pub fn is_active(&mut self) {
        self.active = Instant::now();
    }

    /// Does something that may take its time; not longer than signals and `--timeout` allow.
    ///
    /// # Errors
    /// The end, if it came first.
    pub async fn hurry<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => Ok(done),
            end = self.cut() => Err(end),
        }
    }

    /// A signal or `--timeout`.
    pub async fn cut(&mut self) -> End {
        if let Some(signal) = self.signal {
            return End::Signal(signal);
        }
        tokio::select! {
            biased;
            signal = &mut self.interrupted => {
                self.signal = Some(signal);
                End::Signal(signal)
            }
            () = until(self.timeout.map(|(at, _)| at)) => End::Timeout,
        }
    }

    /// Any of them, while nothing comes.
    pub async fn end(&mut self) -> End {
        let idle = self.idle.and_then(|idle| self.active.checked_add(idle));
        let passed = [self.until, idle].into_iter().flatten().min();
        tokio::select! {
            biased;
            end = self.cut() => end,
            () = until(passed) => End::Passed,
        }
    }

    /// One that is over, looked at without waiting.
    pub fn passed(&mut self) -> Option<End> {
        self.end().now_or_never()
    }

    /// The same of work that is done: a signal that came before its end counts, though it may be heard of later.
    pub async fn passed_before(&mut self) -> Option<End> {
        match self.was_asked.load(Ordering::Relaxed) {
            true => Some(self.cut().await),
            false => self.passed(),
        }
    }

    /// How the command ends. `is_short` says that fewer came than were asked for.
    ///
    /// # Errors
    /// `--timeout` has passed.
    pub fn exit(&self, end: End, is_short: bool) -> Result<Exit, Failure> {
        match end {
            End::Everything | End::Passed if is_short => Ok(Exit::Nothing),
            End::Count | End::Everything | End::Passed | End::ReaderGone => Ok(Exit::Done),
            End::Signal(signal) => Ok(Exit::Signal(signal)),
            End::Timeout => {
                let limit = self.timeout.map_or(Duration::ZERO, |(_, limit)| limit);
                Err(Failure::timed_out(limit))
            }
        }
    }
}
