//! How many channels a user may have open: counted over all virtual hosts, of which each has an engine of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The channels of one user, and how many there may be.
#[derive(Debug)]
pub struct Allowance {
    open: AtomicU64,
    /// `u64::MAX` for any number.
    max: AtomicU64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { open: AtomicU64::new(0), max: AtomicU64::new(u64::MAX) }
    }
}

impl Allowance {
    /// So many may be open; those that are stay.
    pub fn set_max(&self, max: Option<u64>) {
        self.max.store(max.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// One more, for as long as what is returned lives; the limit if it is reached.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Taken, u64> {
        let max = self.max.load(Ordering::Relaxed);
        let more = |open: u64| (open < max).then_some(open + 1);
        match self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Taken(Arc::clone(self))),
            Err(_) => Err(max),
        }
    }
}

/// An open channel's part of the allowance.
#[derive(Debug)]
pub(crate) struct Taken(Arc<Allowance>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
