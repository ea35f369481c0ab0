//! One bound on the bytes of all requests that a server holds, whoever sent them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Code, Status};

/// Smaller requests are not counted: the numbers of connections and of their calls bound them, and most calls
/// need not touch a counter that all share.
const COUNTED_SIZE_MIN: usize = 16 * 1024;

/// What may be held.
#[derive(Debug)]
pub struct Budget {
    size_max: usize,
    held: AtomicUsize,
}

impl Budget {
    /// Nothing is held yet; at most `size_max` bytes may be.
    pub fn new(size_max: usize) -> Arc<Self> {
        Arc::new(Self { size_max, held: AtomicUsize::new(0) })
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A part of it for one request: nothing yet.
    pub fn part(self: &Arc<Self>) -> Part {
        Part { budget: Arc::clone(self), size: 0 }
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Part {
    budget: Arc<Budget>,
    size: usize,
}

impl Part {
    /// Holds `size` bytes from now on, instead of what it held before.
    ///
    /// Does not wait for others to finish: they may wait in the same way.
    ///
    /// # Errors
    /// There is no room for them; it holds what it held before.
    pub fn resize(&mut self, size: usize) -> Result<(), Status> {
        let size = if size < COUNTED_SIZE_MIN { 0 } else { size };
        let Some(more) = size.checked_sub(self.size) else {
            self.budget.held.fetch_sub(self.size - size, Ordering::Relaxed);
            self.size = size;
            return Ok(());
        };
        let size_max = self.budget.size_max;
        let grow = |held: usize| held.checked_add(more).filter(|sum| *sum <= size_max);
        if more > 0 && self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            let text = format!("the server holds requests of {size_max} bytes already, its limit: try again");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        self.size = size;
        Ok(())
    }

    /// Holds nothing any more.
    pub fn clear(&mut self) {
        let size = std::mem::take(&mut self.size);
        if size > 0 {
            self.budget.held.fetch_sub(size, Ordering::Relaxed);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_one_bound_and_give_back() {
        let budget = Budget::new(100_000);
        let (mut one, mut two) = (budget.part(), budget.part());
        one.resize(60_000).unwrap();
        assert_eq!(two.resize(50_000).unwrap_err().code, Code::ResourceExhausted);
        one.resize(50_000).unwrap();
        two.resize(50_000).unwrap();
        assert_eq!(budget.held(), 100_000);
        one.resize(COUNTED_SIZE_MIN - 1).unwrap();
        assert_eq!(budget.held(), 50_000);
        drop((one, two));
        assert_eq!(budget.held(), 0);
    }
}
