//! Faults: what the peer may get wrong before the connection ends.

use super::tuning::{EMPTY_FRAMES, GOOD_REQUESTS, MAX_LATE, OVERHEAD};

/// How many faults the peer may still make. Good requests make up for faults, so that rare accidents do not end a long
/// connection.
#[derive(Debug)]
pub(crate) struct FaultBudget {
    left: u32,
    most: u32,
    good: u32,
    /// How many empty frames came in a row.
    empty: u32,
    /// How many bytes of fragments may still come for requests that this side refused before their end.
    late: u64,
}

impl FaultBudget {
    /// A budget of `most` faults.
    pub(crate) const fn new(most: u32) -> Self {
        Self {
            left: most,
            most,
            good: 0,
            empty: 0,
            late: 0,
        }
    }

    /// Counts a fault; false if it was one too many.
    #[must_use]
    pub(crate) fn count(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// How many faults there may still be.
    #[cfg(test)]
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Counts an empty frame; false if it was one too many.
    #[must_use]
    pub(super) fn count_empty(&mut self) -> bool {
        self.empty += 1;
        self.empty <= EMPTY_FRAMES
    }

    /// Notes a frame that is not empty.
    pub(super) fn not_empty(&mut self) {
        self.empty = 0;
    }

    /// Counts `count` good requests.
    #[inline]
    pub(crate) fn good(&mut self, count: usize) {
        self.empty = 0;
        // No overflow: a frame has fewer bytes than that.
        self.good += count as u32;
        if self.good >= GOOD_REQUESTS {
            let forgiven = self.good / GOOD_REQUESTS;
            self.good %= GOOD_REQUESTS;
            self.left = self.left.saturating_add(forgiven).min(self.most);
        }
    }

    /// Expects `bytes` more of a request that this side refused: its fragments are on their way, and no fault.
    pub(super) fn expect_late(&mut self, bytes: u64) {
        self.late = self.late.saturating_add(bytes).min(MAX_LATE);
    }

    /// Takes a late fragment of `len` bytes off what is expected; false if it was not expected.
    #[must_use]
    pub(super) fn spend_expected(&mut self, len: usize) -> bool {
        let charge = (len as u64).max(OVERHEAD);
        let expected = charge <= self.late.saturating_add(OVERHEAD) && self.late > 0;
        self.late = self.late.saturating_sub(charge);
        expected
    }
}
