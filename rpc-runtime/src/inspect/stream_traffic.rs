//! StreamTraffic: what goes over the byte stream of a guest's peer.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What goes over the byte stream of a guest's peer: the connection within the process knows nothing of it.
#[derive(Debug, Default)]
pub(crate) struct StreamTraffic {
    received: AtomicU64,
    sent: AtomicU64,
    /// Since when the OS has taken nothing of what was offered; none if nothing waits.
    stalled: Mutex<Option<Instant>>,
    /// How long the peer took to answer last, in nanoseconds; 0 if it was not asked.
    round_trip: AtomicU64,
}

impl StreamTraffic {
    /// Counts bytes that were read.
    pub(crate) fn note_read(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts bytes that the OS has taken.
    pub(crate) fn note_written(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that the OS takes nothing now of what it is offered.
    pub(crate) fn note_stall(&self) {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        stalled.get_or_insert_with(Instant::now);
    }

    /// Notes how long the peer took to answer.
    pub(crate) fn note_round_trip(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanos.max(1), Relaxed);
    }

    /// How long the peer took to answer last; none if it was not asked.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip.load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// How many bytes were read, and how many the OS has taken.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// For how long the OS has taken nothing; none if nothing waits.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let stalled = *self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        stalled.map(|since| since.elapsed())
    }
}
