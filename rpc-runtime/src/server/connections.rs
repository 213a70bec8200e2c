//! Connections: all connections of a server of which something is left.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::session::Session;

/// All connections of a server of which something is left: a dispatcher, a handler, or a context.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    last_key: u64,
    /// Whether the drain has told all of them, so that no further one is accepted.
    sealed: bool,
    /// In the order in which they came.
    open: BTreeMap<u64, Weak<Session>>,
}

impl Registry {
    /// All of them. Drop the result when the lock is free: the last owner of one takes the lock to remove it.
    fn all(&self) -> Vec<Arc<Session>> {
        self.open.values().filter_map(Weak::upgrade).collect()
    }
}

impl Connections {
    /// Adds the connection that `make` makes, which has to call [`Connections::remove`] with its key at its end. Returns none
    /// after [`Connections::seal`].
    pub(crate) fn add<D: Send + Sync + 'static>(
        &self,
        make: impl FnOnce(u64) -> Session<D>,
    ) -> Option<Arc<Session<D>>> {
        let mut registry = self.lock();
        if registry.sealed {
            return None;
        }
        registry.last_key += 1;
        let key = registry.last_key;
        let session = Arc::new(make(key));
        let weak: Weak<Session<D>> = Arc::downgrade(&session);
        registry.open.insert(key, weak);
        Some(session)
    }

    /// Removes a connection of which nothing is left, no handler either.
    pub(crate) fn remove(&self, key: u64) {
        self.lock().open.remove(&key);
    }

    /// Returns all connections of which something is left. No further one is accepted.
    pub(crate) fn seal(&self) -> Vec<Arc<Session>> {
        let mut registry = self.lock();
        registry.sealed = true;
        registry.all()
    }

    /// Returns all connections of which something is left.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().all()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
