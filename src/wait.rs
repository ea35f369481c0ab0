//! Waiting for a moment that may never come.

use tokio::time::{Instant, sleep_until};

/// Returns at a moment; without one, never.
pub async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
