//! Write stall: the peer must take some of the output within a time.

use crate::conn::{
    Time,
    tuning::{MEMORY_CHECK, STALL_LEAST},
};

/// A stretch of time in which the peer must take some of the output.
#[derive(Debug)]
pub(in crate::conn) struct WriteStall {
    since: Time,
    /// How far the output must be taken for the stretch to be over.
    target: u64,
    /// When to see whether the memory is needed more than the peer's patience.
    memory_check_at: Time,
}

impl WriteStall {
    /// A stretch that begins now, unless nothing waits to be taken.
    pub(in crate::conn) fn begin(taken: u64, end: u64, now: Time) -> Option<Self> {
        (taken < end).then(|| Self {
            since: now,
            target: end.min(taken + STALL_LEAST),
            memory_check_at: now.saturating_add(MEMORY_CHECK),
        })
    }

    /// When it began.
    pub(in crate::conn) fn since(&self) -> Time {
        self.since
    }

    /// When the peer has had `time` for it.
    pub(in crate::conn) fn due(&self, time: Time) -> Time {
        self.since.saturating_add(time)
    }

    /// When to see whether the memory is needed more than the peer's patience.
    pub(in crate::conn) fn memory_check_at(&self) -> Time {
        self.memory_check_at
    }

    /// Looks again later.
    pub(in crate::conn) fn check_memory_later(&mut self, now: Time) {
        self.memory_check_at = now.saturating_add(MEMORY_CHECK);
    }

    /// True if enough was taken.
    pub(in crate::conn) fn is_over(&self, taken: u64) -> bool {
        taken >= self.target
    }
}
