//! Lifecycle: how far a server has come between serving and closed.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::{DrainReport, base::ordered_wakes::Changes};

/// How far a server has come between serving and closed, and a way to wait for each step.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: Mutex<DrainPhase>,
    is_aborted: AtomicBool,
    /// Wakes waiters when one of the two changes.
    changes: Changes,
}

/// A step of a server's life; it only ever goes forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DrainPhase {
    Serving,
    /// Listeners are being closed: no new connections.
    Draining,
    /// All peers have been told: no new calls, and the open ones may finish.
    Announced,
    /// No handler is left, or only handlers that could not be dropped; connections are being closed.
    Drained(DrainReport),
    /// Nothing of the server is left.
    Closed(DrainReport),
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: Mutex::new(DrainPhase::Serving),
            is_aborted: AtomicBool::new(false),
            changes: Changes::default(),
        }
    }
}

impl Lifecycle {
    /// Goes from serving to draining; false if the drain had begun. Waiters learn of it by [`Lifecycle::announce_drain`].
    pub(crate) fn begin_drain(&self) -> bool {
        let mut phase = self.phase();
        let begins = *phase == DrainPhase::Serving;
        if begins {
            *phase = DrainPhase::Draining;
        }
        begins
    }

    /// Wakes the waiters of [`Lifecycle::draining`].
    pub(crate) fn announce_drain(&self) {
        self.changes.tell();
    }

    /// Gives open calls no more time.
    pub(crate) fn abort(&self) {
        self.is_aborted.store(true, SeqCst);
        self.changes.tell();
    }

    /// Goes on to a later phase.
    pub(crate) fn set_phase(&self, phase: DrainPhase) {
        *self.phase() = phase;
        self.changes.tell();
    }

    /// Returns whether nothing of the server is left.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.phase(), DrainPhase::Closed(_))
    }

    /// Returns whether the drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase() != DrainPhase::Serving
    }

    /// Waits until the drain has begun.
    pub(crate) async fn draining(&self) {
        self.wait(|phase| (*phase != DrainPhase::Serving).then_some(()))
            .await;
    }

    /// Waits until all peers have been told of the drain.
    pub(crate) async fn announced(&self) {
        self.wait(|phase| (!matches!(phase, DrainPhase::Serving | DrainPhase::Draining)).then_some(()))
            .await;
    }

    /// Waits until no handler is left, or only handlers that could not be dropped.
    pub(crate) async fn drained(&self) -> DrainReport {
        self.wait(|phase| match phase {
            DrainPhase::Drained(report) | DrainPhase::Closed(report) => Some(report.clone()),
            DrainPhase::Serving | DrainPhase::Draining | DrainPhase::Announced => None,
        })
        .await
    }

    /// Waits until nothing of the server is left.
    pub(crate) async fn closed(&self) -> DrainReport {
        self.wait(|phase| match phase {
            DrainPhase::Closed(report) => Some(report.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until open calls are to be given no more time.
    pub(crate) async fn aborted(&self) {
        let is_aborted = || self.is_aborted.load(SeqCst).then_some(());
        self.changes.wait_for(is_aborted).await;
    }

    async fn wait<T>(&self, reached: impl Fn(&DrainPhase) -> Option<T>) -> T {
        self.changes.wait_for(|| reached(&self.phase())).await
    }

    fn phase(&self) -> MutexGuard<'_, DrainPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
