//! A bound on the bytes that peers make a server hold: of each connection, and of all together.
//!
//! ```text
//! Budget    of the server     what all connections hold beyond what each is free to
//!   Share   of a connection   what its calls hold together
//!     Part  of a call         its headers, its messages, its replies that wait to be read
//! Window    of a connection   what HTTP/2 lets its peer send before a call takes it
//! ```
//!
//! All requests count, however small. What a server of `n` connections holds for its peers is at most
//! `size_max` of the budget, half as much again for windows, and for each connection [`FREE_SIZE`],
//! [`WINDOW_SIZE_MIN`], and the buffer that its protocol reads into.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Code, Status};

/// What each connection holds without asking: idle ones and simple callers touch no counter that all share.
pub const FREE_SIZE: usize = 16 * 1024;
/// What a call costs besides its bytes: its stream, its tasks, its place in tables.
pub const CALL_SIZE: usize = 2 * 1024;
/// The window that every HTTP/2 connection has: RFC 9113, 6.9.2 allows no smaller one to begin with.
pub const WINDOW_SIZE_MIN: u32 = 65_535;
/// The largest window of a connection: more does not make one message of the usual limit faster.
pub const WINDOW_SIZE_MAX: u32 = 4 << 20;

/// Beyond what is free, a connection takes and gives back so much at a time.
const STEP_SIZE: usize = 64 * 1024;
/// A connection takes this fraction of the windows that are left: the first ones are large, and there is always one
/// left for the next.
const WINDOW_FRACTION: usize = 32;
/// The fraction of the budget that one connection may hold.
const SHARE_FRACTION: usize = 4;

/// What may be held.
#[derive(Debug)]
pub struct Budget {
    size_max: usize,
    share_size_max: usize,
    held: AtomicUsize,
    windows_size_max: usize,
    windows: AtomicUsize,
}

impl Budget {
    /// Nothing is held yet. All connections together may hold `size_max` bytes, and one of them a quarter, or two
    /// messages of `message_size_max` if that is more.
    pub fn new(size_max: usize, message_size_max: usize) -> Arc<Self> {
        // One message comes, and its reply goes.
        let two = message_size_max.saturating_add(CALL_SIZE).saturating_mul(2);
        Arc::new(Self {
            size_max,
            share_size_max: (size_max / SHARE_FRACTION).max(two).min(size_max),
            held: AtomicUsize::new(0),
            windows_size_max: size_max / 2,
            windows: AtomicUsize::new(0),
        })
    }

    /// Bytes that are held now, beyond what is free; whole steps of 64 KiB.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What one connection holds: nothing yet.
    pub fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { budget: Arc::clone(self), state: Mutex::default() })
    }

    /// What a new HTTP/2 connection lets its peer send ahead.
    pub fn window(self: &Arc<Self>) -> Window {
        let size_of = |taken: usize| {
            let fair = self.windows_size_max.saturating_sub(taken) / WINDOW_FRACTION;
            u32::try_from(fair).unwrap_or(WINDOW_SIZE_MAX).clamp(WINDOW_SIZE_MIN, WINDOW_SIZE_MAX)
        };
        let size = size_of(self.windows.load(Ordering::Relaxed));
        // The smallest is everyone's, and counted with the connection.
        let counted = (size - WINDOW_SIZE_MIN) as usize;
        self.windows.fetch_add(counted, Ordering::Relaxed);
        Window { budget: Arc::clone(self), size, counted }
    }

    fn take(&self, more: usize) -> bool {
        let grow = |held: usize| held.checked_add(more).filter(|sum| *sum <= self.size_max);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    fn give(&self, less: usize) {
        self.held.fetch_sub(less, Ordering::Relaxed);
    }
}

/// How much an HTTP/2 connection lets its peer send ahead; given back when it is dropped.
#[derive(Debug)]
pub struct Window {
    budget: Arc<Budget>,
    size: u32,
    counted: usize,
}

impl Window {
    /// Bytes of the whole connection.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Bytes of one of its streams.
    pub fn stream_size(&self) -> u32 {
        (self.size / 4).max(WINDOW_SIZE_MIN)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.budget.windows.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// What one connection holds.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Of the budget: at least what is held beyond what is free.
    taken: usize,
}

impl Share {
    /// A part of it for one call: nothing yet.
    pub fn part(self: &Arc<Self>) -> Part {
        Part { share: Arc::clone(self), size: 0 }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, more: usize) -> Result<(), Status> {
        let mut state = self.lock();
        let size_max = self.budget.share_size_max;
        let Some(held) = state.held.checked_add(more).filter(|held| *held <= size_max) else {
            return Err(full(format!(
                "this connection holds requests and replies of {size_max} bytes already"
            )));
        };
        let missing = held.saturating_sub(FREE_SIZE).saturating_sub(state.taken);
        if missing > 0 {
            let steps = missing.next_multiple_of(STEP_SIZE);
            let taken =
                [steps, missing].into_iter().find(|size| self.budget.take(*size)).ok_or_else(|| {
                    let size_max = self.budget.size_max;
                    full(format!("the server holds requests and replies of {size_max} bytes already"))
                })?;
            state.taken += taken;
        }
        state.held = held;
        Ok(())
    }

    fn shrink(&self, less: usize) {
        let mut state = self.lock();
        state.held -= less;
        let needed = state.held.saturating_sub(FREE_SIZE);
        // One step more is kept by those who need some: the next message is likely to be like the last.
        let kept = if needed == 0 { 0 } else { needed.next_multiple_of(STEP_SIZE) + STEP_SIZE };
        if state.taken > kept {
            self.budget.give(state.taken - kept);
            state.taken = kept;
        }
    }
}

fn full(what: String) -> Status {
    Status::new(Code::ResourceExhausted, format!("{what}, its limit: try again"))
}

impl Drop for Share {
    fn drop(&mut self) {
        let taken = self.lock().taken;
        self.budget.give(taken);
    }
}

/// What one call holds; given back when it is dropped.
#[derive(Debug)]
pub struct Part {
    share: Arc<Share>,
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
        match size.checked_sub(self.size) {
            None => self.share.shrink(self.size - size),
            Some(0) => {}
            Some(more) => self.share.grow(more)?,
        }
        self.size = size;
        Ok(())
    }

    /// Holds `more` bytes besides what it holds.
    ///
    /// # Errors
    /// As [`Self::resize`].
    pub fn add(&mut self, more: usize) -> Result<(), Status> {
        self.resize(self.size.saturating_add(more))
    }

    /// Holds from now on what `other` held, too. They are of the same connection.
    pub fn take(&mut self, mut other: Self) {
        self.size += std::mem::take(&mut other.size);
    }

    /// Holds nothing any more.
    pub fn clear(&mut self) {
        let size = std::mem::take(&mut self.size);
        if size > 0 {
            self.share.shrink(size);
        }
    }

    /// What the connection holds that it is a part of.
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIG: usize = 1 << 20;

    #[test]
    fn connections_share_one_bound_and_give_back() {
        let budget = Budget::new(BIG, BIG);
        let (one, two) = (budget.share(), budget.share());
        let (mut a, mut b) = (one.part(), two.part());
        a.resize(700_000).unwrap();
        assert_eq!(b.resize(500_000).unwrap_err().code, Code::ResourceExhausted);
        // What is refused changes nothing.
        assert_eq!((one.held(), two.held()), (700_000, 0));
        a.resize(FREE_SIZE).unwrap();
        assert_eq!(budget.held(), 0);
        b.resize(BIG).unwrap();
        assert!(a.add(1).is_err());
        drop((a, b));
        assert_eq!((budget.held(), one.held()), (0, 0));
    }

    #[test]
    fn many_small_ones_are_bounded_like_a_large_one() {
        let budget = Budget::new(BIG, 1000);
        let share = budget.share();
        let mut parts = Vec::new();
        let refused = loop {
            let mut part = share.part();
            match part.resize(CALL_SIZE) {
                Ok(()) => parts.push(part),
                Err(status) => break status,
            }
        };
        assert_eq!(parts.len(), BIG / SHARE_FRACTION / CALL_SIZE);
        assert!(refused.message.starts_with("this connection holds"), "{}", refused.message);
        parts.pop();
        parts.push(share.part());
        parts.last_mut().unwrap().resize(CALL_SIZE).unwrap();
    }

    #[test]
    fn one_connection_may_hold_a_message_and_its_reply() {
        let share = Budget::new(BIG, 300_000).share();
        let (mut request, mut reply) = (share.part(), share.part());
        request.resize(300_000).unwrap();
        reply.resize(300_000).unwrap();
        assert!(share.part().add(10_000).is_err());
    }

    #[test]
    fn windows_shrink_with_the_number_of_connections_and_stay_under_their_bound() {
        let budget = Budget::new(256 << 20, 4 << 20);
        let mut windows: Vec<Window> = (0..1000).map(|_| budget.window()).collect();
        assert_eq!(windows[0].size(), WINDOW_SIZE_MAX);
        assert_eq!(windows[0].stream_size(), WINDOW_SIZE_MAX / 4);
        assert!(windows[40].size() > 1 << 20);
        assert_eq!((windows[999].size(), windows[999].stream_size()), (WINDOW_SIZE_MIN, WINDOW_SIZE_MIN));
        assert!(budget.windows.load(Ordering::Relaxed) <= 128 << 20);
        windows.clear();
        assert_eq!(budget.windows.load(Ordering::Relaxed), 0);
        assert_eq!(budget.window().size(), WINDOW_SIZE_MAX);
    }

    proptest! {
        /// However parts grow and shrink: the budget is never exceeded, never short, and empty in the end.
        #[test]
        fn the_books_balance(steps in proptest::collection::vec((0usize..6, 0usize..400_000), 0..200)) {
            let budget = Budget::new(BIG, 100_000);
            let shares = [budget.share(), budget.share()];
            let mut parts: Vec<Part> = (0..6).map(|n| shares[n % 2].part()).collect();
            for (which, size) in steps {
                let before = parts[which].size;
                match parts[which].resize(size) {
                    Ok(()) => prop_assert_eq!(parts[which].size, size),
                    Err(_) => prop_assert!(size > before && parts[which].size == before),
                }
                let beyond = |share: &Arc<Share>| share.held().saturating_sub(FREE_SIZE);
                prop_assert!(shares.iter().map(beyond).sum::<usize>() <= budget.held());
                prop_assert!(budget.held() <= BIG && shares.iter().all(|share| share.held() <= BIG / 4));
            }
            parts.clear();
            prop_assert_eq!(budget.held(), 0);
        }
    }
}
