//! When to come back after a loss, and when to give up.

use tokio::time::Instant;

use super::{Config, Error};
use crate::backoff::Delays;
use crate::mq::wire::ReplyCode;

/// The attempts since a connection was lost.
#[derive(Debug, Default)]
pub(super) struct Retry {
    down: Option<(Instant, Delays)>,
    seed: u64,
}

impl Retry {
    /// There is a connection again.
    pub fn over(&mut self) {
        if self.down.take().is_some() {
            tracing::warn!(target: "status", "the connection to the broker is back");
        }
    }

    /// Waits until the next attempt is due. May be dropped: the time that has passed counts.
    ///
    /// # Errors
    /// The same error, if it does not pass by itself or has lasted too long.
    pub async fn pause(&mut self, error: Error, config: &Config) -> Result<(), Error> {
        // A broker that has not noticed the loss still keeps the exclusive queue for the connection that is gone.
        let locked = error.reply_code() == Some(ReplyCode::ResourceLocked.number());
        if !error.is_transient() && !locked {
            return Err(error);
        }
        let now = Instant::now();
        if self.down.is_none() {
            self.seed += 1;
            tracing::warn!(target: "status", "{error}; connecting again");
        }
        let seed = config.seed.wrapping_add(self.seed);
        let (since, delays) = self.down.get_or_insert_with(|| (now, config.backoff.delays(seed)));
        let delay = delays.next().unwrap_or(config.backoff.max);
        if now + delay >= *since + config.reconnect_for {
            return Err(error);
        }
        tracing::debug!("{error}; connecting again in {delay:?}");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
