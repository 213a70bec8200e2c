//! Write stall: the peer must take some of the output within a time.

use crate::conn::Time;

/// A stretch of time in which the peer must take some of the output.
#[derive(Debug)]
pub(in crate::conn) struct Stall {
    since: Time,
    /// How far the output must be taken for the stretch to be over.
    target: u64,
    /// When to see whether the memory is needed more than the peer's patience.
    look_at: Time,
}

/// How long a peer may read nothing while memory is short and it is the cause.
pub(in crate::conn) const LOOK: Time = Time::from_secs(1);

impl Stall {
    /// Less than this, or less than all there is, is too little.
    pub(in crate::conn) const LEAST: u64 = 64 * 1024;

    /// A stretch that begins now, unless nothing waits to be taken.
    pub(in crate::conn) fn begin(taken: u64, end: u64, now: Time) -> Option<Self> {
        (taken < end).then(|| Self {
            since: now,
            target: end.min(taken + Self::LEAST),
            look_at: now.saturating_add(LOOK),
        })
    }

    /// When the peer has had `time` for it.
    pub(in crate::conn) fn due(&self, time: Time) -> Time {
        self.since.saturating_add(time)
    }

    /// When to see whether the memory is needed more than the peer's patience.
    pub(in crate::conn) fn look_at(&self) -> Time {
        self.look_at
    }

    /// Looks again later.
    pub(in crate::conn) fn look_later(&mut self, now: Time) {
        self.look_at = now.saturating_add(LOOK);
    }

    /// Whether enough was taken.
    pub(in crate::conn) fn is_over(&self, taken: u64) -> bool {
        taken >= self.target
    }
}
