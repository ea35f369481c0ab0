//! What one thread leaves for another: taken all at once, and whoever leaves something wakes only who sleeps.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    content: Vec<T>,
    sleeping: bool,
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let inner = Inner { content: Vec::new(), sleeping: false, closed: false };
        Self { inner: Mutex::new(inner), filled: Condvar::new() }
    }
}

impl<T> Mailbox<T> {
    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something, perhaps with what is there already.
    pub fn leave(&self, add: impl FnOnce(&mut Vec<T>)) {
        let mut inner = self.inner();
        add(&mut inner.content);
        let wake = std::mem::replace(&mut inner.sleeping, false);
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
    }

    pub fn push(&self, item: T) {
        self.leave(|content| content.push(item));
    }

    /// Takes everything into `into`, which is empty; waits until there is something, so long at most. False once it is
    /// closed and nothing is left.
    pub fn take(&self, into: &mut Vec<T>, patience: Option<Duration>) -> bool {
        let mut inner = self.inner();
        while inner.content.is_empty() {
            if inner.closed {
                return false;
            }
            inner.sleeping = true;
            match patience {
                None => inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.filled.wait_timeout(inner, patience);
                    let (held, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                    inner = held;
                    if waited.timed_out() {
                        inner.sleeping = false;
                        break;
                    }
                }
            }
        }
        std::mem::swap(&mut inner.content, into);
        true
    }

    /// Takes what is there, without waiting.
    #[cfg(test)]
    pub fn take_now(&self, into: &mut Vec<T>) {
        std::mem::swap(&mut self.inner().content, into);
    }

    /// Nothing more will be left.
    pub fn close(&self) {
        self.inner().closed = true;
        self.filled.notify_all();
    }
}
