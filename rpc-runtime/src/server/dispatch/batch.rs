//! RequestBatch: requests that the dispatcher has taken under one lock, and has not started.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crate::{
    conn::{Arrived, TakenRequests},
    driver::{Clock, Locked, SharedConnection, Wakes},
};

/// Requests that the dispatcher has taken under one lock, and has not started.
///
/// They lie here and not in the dispatcher: when a handler does not return, a fresh dispatcher finds those behind it here, and
/// gives them back to the connection before it takes any.
#[derive(Default)]
pub(super) struct RequestBatch(Mutex<VecDeque<Arrived>>);

impl RequestBatch {
    /// Takes up to `most` requests from the connection; the result has the first.
    #[inline]
    pub(super) fn take(
        &self,
        conn: &mut Locked<'_>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<TakenRequests>> {
        let mut rest = self.lock();
        let now = conn.now();
        if !rest.is_empty() {
            conn.take_back(&mut rest, now);
        }
        let taken = conn.take_requests(&mut rest, most, now, cx);
        if taken.is_pending() && rest.capacity() > 0 {
            // An idle connection holds no memory for requests.
            *rest = VecDeque::new();
        }
        taken
    }

    /// The next request of those that were taken.
    #[inline]
    pub(super) fn next(&self) -> Option<Arrived> {
        self.lock().pop_front()
    }

    /// Gives the connection back what is left: those requests are the next ones that it gives.
    pub(super) fn give_back(&self, shared: &SharedConnection) {
        if self.lock().is_empty() {
            return;
        }
        let mut conn = shared.lock(Clock::Now, Wakes::Waiters);
        let now = conn.now();
        conn.take_back(&mut self.lock(), now);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arrived>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
