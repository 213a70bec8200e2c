//! Statuses: which services can take calls, and who has been told of the end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::grpc::health::v1::health_check_response;

/// Whether calls of a service should be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServingStatus {
    /// It takes calls.
    Serving,
    /// It takes no calls, or should get none.
    NotServing,
}

impl ServingStatus {
    /// The status on the wire; none is that of a service that is not known.
    pub(super) fn on_the_wire(status: Option<Self>) -> health_check_response::ServingStatus {
        match status {
            Some(Self::Serving) => health_check_response::ServingStatus::Serving,
            Some(Self::NotServing) => health_check_response::ServingStatus::NotServing,
            None => health_check_response::ServingStatus::ServiceUnknown,
        }
    }
}

/// The statuses of all services.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    state: Mutex<State>,
    /// Wakes watchers after a change.
    changed: Notify,
    /// Wakes the drain when all watchers have been told.
    told: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    /// By the name of the service; "" is the server itself.
    services: BTreeMap<String, ServingStatus>,
    /// True once a drain is asked for: then nothing serves.
    is_ending: bool,
    /// How many watchers have not been told of the end.
    untold: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            services: BTreeMap::from([(String::new(), ServingStatus::Serving)]),
            is_ending: false,
            untold: 0,
        }
    }
}

impl State {
    /// The status of a service; none if it is not known.
    pub(super) fn of(&self, service: &str) -> Option<ServingStatus> {
        let status = self.services.get(service).copied()?;
        Some(if self.is_ending {
            ServingStatus::NotServing
        } else {
            status
        })
    }

    /// The services with their statuses.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = (&str, ServingStatus)> {
        let status = |status: ServingStatus| {
            if self.is_ending {
                ServingStatus::NotServing
            } else {
                status
            }
        };
        self.services
            .iter()
            .map(move |(service, own)| (&**service, status(*own)))
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }
}

impl Statuses {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of a user runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the status of a service.
    pub(super) fn set(&self, service: String, status: ServingStatus) {
        self.lock().services.insert(service, status);
        self.changed.notify_waiters();
    }

    /// Makes a service unknown.
    pub(super) fn remove(&self, service: &str) {
        self.lock().services.remove(service);
        self.changed.notify_waiters();
    }

    /// Adds services that are not known yet: they serve.
    pub(super) fn add_all<'a>(&self, services: impl Iterator<Item = &'a str>) {
        let mut state = self.lock();
        for service in services {
            let entry = state.services.entry(service.to_owned());
            entry.or_insert(ServingStatus::Serving);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Lets nothing serve from now on. Returns whether there are watchers to be told.
    pub(super) fn end(&self) -> bool {
        let mut state = self.lock();
        state.is_ending = true;
        let has_watchers = state.untold > 0;
        drop(state);
        self.changed.notify_waiters();
        has_watchers
    }

    /// Counts a watcher.
    pub(super) fn add_watcher(&self) {
        self.lock().untold += 1;
    }

    /// Notes that a watcher has been told of the end, or is gone.
    pub(super) fn note_told(&self) {
        self.lock().untold -= 1;
        self.told.notify_waiters();
    }

    /// Waits until all watchers have been told of the end.
    pub(super) async fn all_told(&self) {
        wait(&self.told, || (self.lock().untold == 0).then_some(())).await;
    }

    /// Waits until `look` returns a value. It looks now, and after each change.
    pub(super) async fn wait_for<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        wait(&self.changed, || look(&self.lock())).await
    }
}

/// Waits until `look` returns a value. It looks now, and after each time that `changed` wakes.
async fn wait<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        // Before the look, so that it notices every change from here on.
        let woken = changed.notified();
        if let Some(found) = look() {
            return found;
        }
        woken.await;
    }
}
