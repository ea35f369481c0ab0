//! What a user is told of a cluster that is in trouble for a while: once when it lasts, and once when it is over.

use std::time::Duration;

use tokio::time::Instant;

use super::Error;

/// What is over sooner is not worth a word.
const BRIEF: Duration = Duration::from_secs(1);

/// Something that is tried again and again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    since: Option<Instant>,
    is_told: bool,
}

impl Trouble {
    /// It failed once more.
    pub(super) fn goes_on(&mut self, topic: &str, error: &Error) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !self.is_told && since.elapsed() >= BRIEF {
            self.is_told = true;
            tracing::warn!(target: "status", "{topic}: {error}; trying again");
        }
    }

    /// It worked.
    pub(super) fn is_over(&mut self, topic: &str) {
        if std::mem::take(self).is_told {
            tracing::warn!(target: "status", "{topic}: it works again");
        }
    }
}
