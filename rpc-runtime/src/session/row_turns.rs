//! RowTurns: what the dispatcher and the handler of a row tell each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::conn::CallId;

/// What the dispatcher and the handler of a row tell each other: how many calls may start, and how far the first poll came.
#[derive(Debug)]
pub(crate) struct RowTurns(Mutex<RowStage>);

#[derive(Debug)]
enum RowStage {
    /// The dispatcher polls the handler, or is about to.
    Allowed {
        turn: u64,
        most: usize,
    },
    /// The handler has begun, and tells how far it came.
    Begun,
    Polled(RowPoll),
    /// No call has started, and none may.
    Over,
}

/// How far the handler of a row came in its first poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPoll {
    /// The turn of the last call that started.
    pub(crate) turn: u64,
    /// The last call that started.
    pub(crate) last: CallId,
    /// How many calls started.
    pub(crate) started: usize,
    /// What became of the last one. All others have ended, and if not well, the connection knows.
    pub(crate) outcome: LastOutcome,
}

/// What became of the last call of a row that started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOutcome {
    /// It ended well.
    Handled,
    /// It failed, and the connection knows.
    Told,
    /// It is pending, and the connection has a record of it.
    Pending,
}

impl RowTurns {
    /// Lets up to `most` calls start, the first in the turn `turn`.
    pub(crate) fn new(turn: u64, most: usize) -> Self {
        Self(Mutex::new(RowStage::Allowed { turn, most }))
    }

    /// Begins the row: returns the turn of the first call, and how many may start. None if no call may.
    pub(super) fn begin(&self) -> Option<(u64, usize)> {
        let mut stage = self.lock();
        let RowStage::Allowed { turn, most } = *stage else {
            return None;
        };
        *stage = RowStage::Begun;
        Some((turn, most))
    }

    /// Returns whether the row has not begun. From now on it does not.
    pub(crate) fn revoke(&self) -> bool {
        let mut stage = self.lock();
        match *stage {
            RowStage::Begun | RowStage::Polled(_) => false,
            RowStage::Allowed { .. } | RowStage::Over => {
                *stage = RowStage::Over;
                true
            }
        }
    }

    /// Tells the dispatcher how far the first poll came.
    pub(super) fn polled(&self, poll: RowPoll) {
        *self.lock() = RowStage::Polled(poll);
    }

    /// Returns how far the first poll came; none if the row has not begun. From now on it does not.
    pub(crate) fn end(&self) -> Option<RowPoll> {
        let mut stage = self.lock();
        match *stage {
            RowStage::Polled(poll) => Some(poll),
            RowStage::Allowed { .. } | RowStage::Begun | RowStage::Over => {
                *stage = RowStage::Over;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, RowStage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
