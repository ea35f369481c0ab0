//! Where the time of one call went, for a client of ours that asks with `bandy-trace: 1`.

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::rpc::wire::trace::{NAME, Stage, Step, encode};

/// The steps of one call so far; collects nothing unless asked to.
#[derive(Debug)]
pub struct Trace(Option<Box<Steps>>);

#[derive(Debug)]
struct Steps {
    start: Instant,
    steps: Vec<Step>,
}

impl Trace {
    /// Starts if the request asks for it.
    pub fn start(headers: &HeaderMap, start: Instant) -> Self {
        let wanted = headers.get(NAME).is_some_and(|value| value == "1");
        Self(wanted.then(|| Box::new(Steps { start, steps: Vec::with_capacity(4) })))
    }

    /// Notes that a stage begins now. Of a stage that repeats in a stream, the first is kept.
    pub fn note(&mut self, stage: Stage, size: usize) {
        if let Some(trace) = &mut self.0
            && trace.steps.iter().all(|step| step.stage != stage)
        {
            trace.steps.push(Step { stage, at: trace.start.elapsed(), size });
        }
    }

    /// Adds what was noted to the trailers.
    pub fn write(&self, trailers: &mut HeaderMap) {
        if let Some(trace) = &self.0
            && let Ok(value) = HeaderValue::try_from(encode(&trace.steps))
        {
            trailers.insert(NAME, value);
        }
    }
}
