//! The storage as all parts of the broker share it, until it is closed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::storage::{Counts, Error, Store};

/// The storage, until it is closed.
#[derive(Debug)]
pub(super) struct Vault {
    store: RwLock<Option<Store>>,
    /// Partitions that cannot be opened.
    unopened: AtomicI64,
}

impl Vault {
    pub(super) fn new(store: Store) -> Self {
        Self { store: RwLock::new(Some(store)), unopened: AtomicI64::new(0) }
    }

    /// Does something with it.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Closed`].
    pub(super) fn with<T>(&self, work: impl FnOnce(&Store) -> Result<T, Error>) -> Result<T, Error> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or(Err(Error::Closed), work)
    }

    /// Where it is, and how many bytes can still be written there.
    pub(super) fn place(&self) -> (String, Option<u64>) {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let path = store.as_ref().map(|store| store.path().display().to_string()).unwrap_or_default();
        (path, store.as_ref().and_then(|store| store.free_bytes().ok()))
    }

    /// So many more partitions cannot be opened, or fewer.
    pub(super) fn cannot_open(&self, more: i64) {
        self.unopened.fetch_add(more, Ordering::Relaxed);
    }

    /// Partitions that cannot be opened, and numbers of the storage.
    pub(super) fn health(&self) -> (i64, Option<Counts>) {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        (self.unopened.load(Ordering::Relaxed), store.as_ref().map(Store::counts))
    }

    /// Closes it in order. Whoever asks from now on hears that it is closed.
    ///
    /// # Errors
    /// Something could not be written.
    pub(super) fn close(&self) -> Result<(), Error> {
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        store.map_or(Ok(()), Store::close)
    }
}
