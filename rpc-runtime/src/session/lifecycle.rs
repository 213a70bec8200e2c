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
    /// A drain is asked for. Services do what comes before it; everything else goes on.
    Asked,
    /// Listeners are being closed: no new connections.
    Draining,
    /// All peers have been told: no new calls, and the open ones may finish.
    Announced,
    /// No handler is left, or only handlers that could not be dropped; connections are being closed.
    Drained(DrainReport),
    /// Nothing of the server is left.
    Closed(DrainReport),
}

impl DrainPhase {
    /// Returns whether the drain has begun.
    fn is_draining(&self) -> bool {
        !matches!(self, Self::Serving | Self::Asked)
    }
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
    /// Goes from serving to asked; false if a drain had been asked for before.
    pub(crate) fn ask_for_drain(&self) -> bool {
        let mut phase = self.phase();
        let is_first = *phase == DrainPhase::Serving;
        if is_first {
            *phase = DrainPhase::Asked;
        }
        drop(phase);
        if is_first {
            self.changes.tell();
        }
        is_first
    }

    /// Gives open calls no more time.
    pub(crate) fn abort(&self) {
        self.is_aborted.store(true, SeqCst);
        self.changes.tell();
    }

    /// Returns whether open calls are given no more time.
    pub(crate) fn is_aborted(&self) -> bool {
        self.is_aborted.load(SeqCst)
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

    /// Returns whether a drain is asked for, and services do what comes before it.
    pub(crate) fn is_preparing(&self) -> bool {
        *self.phase() == DrainPhase::Asked
    }

    /// Returns whether a drain is asked for, or has begun.
    pub(crate) fn is_asked(&self) -> bool {
        *self.phase() != DrainPhase::Serving
    }

    /// Waits until a drain is asked for.
    pub(crate) async fn asked(&self) {
        self.wait(|phase| (*phase != DrainPhase::Serving).then_some(()))
            .await;
    }

    /// Returns whether the drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.phase().is_draining()
    }

    /// Returns whether a drain was asked for and has not ended.
    pub(crate) fn is_ending(&self) -> bool {
        !matches!(*self.phase(), DrainPhase::Serving | DrainPhase::Closed(_))
    }

    /// Waits until the drain has begun.
    pub(crate) async fn draining(&self) {
        self.wait(|phase| phase.is_draining().then_some(())).await;
    }

    /// Waits until all peers have been told of the drain.
    pub(crate) async fn announced(&self) {
        self.wait(|phase| (phase.is_draining() && *phase != DrainPhase::Draining).then_some(()))
            .await;
    }

    /// Waits until no handler is left, or only handlers that could not be dropped.
    pub(crate) async fn drained(&self) -> DrainReport {
        self.wait(|phase| match phase {
            DrainPhase::Drained(report) | DrainPhase::Closed(report) => Some(report.clone()),
            DrainPhase::Serving | DrainPhase::Asked | DrainPhase::Draining | DrainPhase::Announced => None,
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
        let is_aborted = || self.is_aborted().then_some(());
        self.changes.wait_for(is_aborted).await;
    }

    async fn wait<T>(&self, reached: impl Fn(&DrainPhase) -> Option<T>) -> T {
        self.changes.wait_for(|| reached(&self.phase())).await
    }

    fn phase(&self) -> MutexGuard<'_, DrainPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
