//! How fast counters move: looked at every five seconds for as long as somebody asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};
use tokio::sync::Notify;

/// RabbitMQ's interval of statistics.
const INTERVAL: Duration = Duration::from_secs(5);

/// So many intervals after the last question nobody looks any more: an idle broker does nothing.
const IDLE_INTERVALS: u64 = 24;

/// What counters belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Everything,
    Totals,
    Churn,
    Node,
    Vhost(Arc<str>),
    /// Virtual host and name.
    Queue(Arc<str>, Arc<str>),
    /// Messages in it.
    Length(Arc<str>, Arc<str>),
    VhostLength(Arc<str>),
    Exchange(Arc<str>, Arc<str>),
    /// Number of the connection, and channel.
    Channel(u64, u16),
    Connection(u64),
}

/// Counters with RabbitMQ's names.
pub(super) type Figures = Vec<(&'static str, u64)>;

#[derive(Debug)]
struct Sample {
    at: Instant,
    figures: HashMap<Subject, Figures>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The last two.
    samples: Mutex<(Option<Sample>, Option<Sample>)>,
    questions: AtomicU64,
    wanted: Notify,
}

impl Rates {
    /// Somebody asks.
    pub fn asked(&self) {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.wanted.notify_one();
    }

    /// Takes samples. Never ends.
    pub async fn keep(&self, figures: impl Fn() -> HashMap<Subject, Figures>) {
        loop {
            self.wanted.notified().await;
            let (mut seen, mut quiet) = (self.questions.load(Ordering::Relaxed), 0);
            while quiet < IDLE_INTERVALS {
                let sample = Sample { at: Instant::now(), figures: figures() };
                {
                    let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                    samples.0 = samples.1.replace(sample);
                }
                tokio::time::sleep(INTERVAL).await;
                let now = self.questions.load(Ordering::Relaxed);
                quiet = if now == seen { quiet + 1 } else { 0 };
                seen = now;
            }
            // Old ones would be taken for the time since.
            *self.samples.lock().unwrap_or_else(PoisonError::into_inner) = (None, None);
        }
    }

    /// Counters with a rate for each: `publish`, and `publish_details` with the rate for a second.
    pub fn with(&self, subject: &Subject, figures: &Figures) -> Map<String, Json> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Map::new();
        for (at, (name, value)) in figures.iter().enumerate() {
            let rate = match &*samples {
                (Some(before), Some(after)) => {
                    let of = |sample: &Sample| {
                        sample
                            .figures
                            .get(subject)
                            .and_then(|figures| figures.get(at))
                            .map_or(0, |held| held.1)
                    };
                    let seconds = after.at.duration_since(before.at).as_secs_f64();
                    (of(after) as f64 - of(before) as f64) / seconds
                }
                _ => 0.0,
            };
            shown.insert((*name).to_owned(), (*value).into());
            shown.insert(format!("{name}_details"), json!({"rate": (rate * 10.0).round() / 10.0}));
        }
        shown
    }
}
