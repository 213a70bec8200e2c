//! RequestBatch: requests that the dispatcher has taken under one lock, and has not started.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crate::{
    conn::{Arrived, CallId, TakenRequests},
    driver::{Clock, Locked, SharedConnection, Wakes},
    session::{RowTurns, StallRecord},
};

/// Requests that the dispatcher has taken under one lock, and has not started.
///
/// They lie here and not in the dispatcher: when a handler does not return, a fresh dispatcher finds those behind it here, and
/// gives them back to the connection before it takes any.
#[derive(Default)]
pub(super) struct RequestBatch(Mutex<Batch>);

#[derive(Default)]
struct Batch {
    requests: VecDeque<Arrived>,
    /// One-way calls that came in one frame, while their handlers are polled.
    row: Option<RowInHand>,
}

/// The calls of a row, whose handlers are polled one after the other.
struct RowInHand {
    first: CallId,
    /// How many first polls had begun before that of the first one.
    begun_before: u64,
    turns: Arc<RowTurns>,
}

impl RowInHand {
    /// Gives the connection back the calls that did not start. The last one that did has not returned. Returns what to do with the
    /// others.
    fn put_back(&self, conn: &mut Locked<'_>, stalls: &StallRecord) -> RowsNext {
        let now = conn.now();
        if self.turns.revoke() {
            // The dispatcher was late before the first one.
            conn.put_row_back(self.first, now);
            return RowsNext::OneByOne;
        }
        let begun = stalls.begun_polls().saturating_sub(self.begun_before);
        let next = CallId(self.first.0 + 2 * begun);
        conn.part_from_row(CallId(next.0 - 2));
        conn.put_row_back(next, now);
        RowsNext::Together
    }
}

/// How the calls of rows are handled next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowsNext {
    Together,
    /// A service has not begun a row: the same would happen again.
    OneByOne,
}

impl RequestBatch {
    /// Takes up to `most` requests from the connection; the result has the first.
    #[inline]
    pub(super) fn take(
        &self,
        conn: &mut Locked<'_>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<TakenRequests>> {
        let mut batch = self.lock();
        let rest = &mut batch.requests;
        let now = conn.now();
        let taken = conn.take_requests(rest, most, now, cx);
        if taken.is_pending() && rest.capacity() > 0 {
            // An idle connection holds no memory for requests.
            *rest = VecDeque::new();
        }
        taken
    }

    /// The next request of those that were taken.
    #[inline]
    pub(super) fn next(&self) -> Option<Arrived> {
        self.lock().requests.pop_front()
    }

    /// Notes that the calls of a row were taken, beginning with `first`. No first poll of them has begun.
    pub(super) fn hold_row(&self, first: CallId, stalls: &StallRecord, turns: &Arc<RowTurns>) {
        self.lock().row = Some(RowInHand {
            first,
            begun_before: stalls.begun_polls(),
            turns: Arc::clone(turns),
        });
    }

    /// Notes that the connection was given what is left of the row.
    pub(super) fn drop_row(&self) {
        self.lock().row = None;
    }

    /// Gives the connection back what is left: those requests are the next ones that it gives.
    pub(super) fn give_back(&self, shared: &SharedConnection, stalls: &StallRecord) {
        let is_empty = self.lock().is_empty();
        if !is_empty {
            self.put_back(&mut shared.lock(Clock::Now, Wakes::Waiters), stalls);
        }
    }

    /// As [`RequestBatch::give_back`], to a connection that is locked.
    #[inline]
    pub(super) fn put_back(&self, conn: &mut Locked<'_>, stalls: &StallRecord) -> RowsNext {
        let mut batch = self.lock();
        match batch.is_empty() {
            true => RowsNext::Together,
            false => batch.put_back(conn, stalls),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    #[inline]
    fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.row.is_none()
    }

    #[cold]
    fn put_back(&mut self, conn: &mut Locked<'_>, stalls: &StallRecord) -> RowsNext {
        let row = self.row.take();
        let next = row.map_or(RowsNext::Together, |row| row.put_back(conn, stalls));
        let now = conn.now();
        conn.take_back(&mut self.requests, now);
        next
    }
}
