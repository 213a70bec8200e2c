//! Pass: one pass of a dispatcher over the requests that have come.

use std::{
    mem,
    task::{Context, Poll},
};

use super::{Dispatched, batch::RowsNext};
use crate::{
    Status,
    conn::{Arrived, ArrivedRow, CallId, End, RefusalReason, TakenRequests, Time},
    driver::{Clock, Locked, Wakes},
    session::InlinePoll,
};

/// One pass of a dispatcher over the requests that have come. When it is dropped, also by a panic, it does what the dispatcher
/// does when it stops starting handlers.
pub(super) struct Pass<'a> {
    session: &'a Dispatched,
    /// Whether another dispatcher may drive meanwhile, which does not know what there is to write.
    pub(super) is_late: bool,
    /// Whether a task of this worker may have been woken: before, or by a pending handler, which may have asked another task
    /// to make a call.
    pub(super) woke: bool,
    /// How many handlers it may still start; unknown before it has taken any request.
    left: Option<usize>,
    /// The latest time that the connection was given, as far as this pass knows: when the next handler begins.
    now: Time,
    /// Whether the last request was a one-way call.
    after_send: bool,
    /// Whether a further reply surely finds room.
    has_room: bool,
    /// Whether further requests wait.
    has_more: bool,
    /// How it takes one-way calls that came in one frame.
    pub(super) rows: RowsNext,
}

/// One-way calls that came in one frame and were taken together.
pub(super) struct TakenRow {
    pub(super) arrived: ArrivedRow,
    /// The route of their procedure.
    pub(super) index: usize,
    /// How many of them may start before the dispatcher has to write.
    pub(super) most: usize,
}

/// What a pass got when it asked for requests.
pub(super) enum Taken {
    Requests(TakenRequests),
    Row(TakenRow),
    /// No request can be started now.
    Nothing,
    /// The dispatcher has to write first.
    WriteFirst,
    /// No more requests can come.
    Last,
}

impl<'a> Pass<'a> {
    pub(super) fn new(session: &'a Dispatched, woke: bool) -> Self {
        Self {
            session,
            is_late: true,
            woke,
            left: None,
            now: Time::ZERO,
            after_send: false,
            has_room: true,
            has_more: true,
            rows: RowsNext::Together,
        }
    }

    /// Takes some requests: the first is returned, and the others come by [`Pass::next`].
    #[inline]
    pub(super) fn take(&mut self, cx: &mut Context<'_>) -> Taken {
        let mut conn = self.session.shared().lock(Clock::Recent, Wakes::Waiters);
        while let Some(limit) = conn.take_limit() {
            drop(conn);
            self.session.note_limit(limit);
            conn = self.session.shared().lock(Clock::Recent, Wakes::Waiters);
        }
        if conn.is_to_write_first() {
            return Taken::WriteFirst;
        }
        let waiting = || BATCH.max(conn.waiting_requests() / 4);
        let left = self.left.unwrap_or_else(waiting);
        self.left = Some(left);
        (self.now, self.has_room) = (conn.now(), true);
        if self.session.batch().put_back(&mut conn, self.session.stalls()) == RowsNext::OneByOne {
            self.rows = RowsNext::OneByOne;
        }
        let may_take = self.rows == RowsNext::Together;
        if let Some((procedure, depth)) = conn.next_row().filter(|_| may_take) {
            if let Some(taken) = self.take_row(&mut conn, procedure, depth, left) {
                return Taken::Row(taken);
            }
        }
        match self.session.batch().take(&mut conn, left.min(BATCH), cx) {
            Poll::Ready(Some(taken)) => {
                self.has_more = taken.has_more;
                Taken::Requests(taken)
            }
            Poll::Ready(None) => Taken::Last,
            Poll::Pending => Taken::Nothing,
        }
    }

    /// Takes the row that is next, if its calls can be handled together.
    fn take_row(&self, conn: &mut Locked<'_>, procedure: u64, depth: u8, left: usize) -> Option<TakenRow> {
        let index = self.session.state().route_of_row(procedure, depth)?;
        // They have no replies, so only what waits already is a reason to write first.
        let most = if conn.wants_write() { left } else { usize::MAX };
        let arrived = conn.take_row(self.now)?;
        Some(TakenRow { arrived, index, most })
    }

    /// Notes how far the calls of a row came, and that the connection was given the rest.
    pub(super) fn note_row(&mut self, taken: usize, conn: &Locked<'_>) {
        self.left = self.left.map(|left| left.saturating_sub(taken));
        self.after_send = true;
        (self.now, self.has_room) = (conn.now(), conn.has_room_for_all());
        self.has_more = conn.waiting_requests() > 0;
    }

    /// When the next handler begins, as far as this pass knows.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// The next request of those that were taken, if it may start before the dispatcher decides anew.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Arrived> {
        if !self.has_room {
            // Its reply may decide which request is next, and the dispatcher may have to write first.
            self.give_back();
            self.has_more = true;
            return None;
        }
        self.session.batch().next()
    }

    /// Gives back the requests that were taken and not started.
    pub(super) fn give_back(&self) {
        self.session.give_batch_back();
    }

    /// Returns whether the dispatcher is to write first: it has started as many handlers as it may, or all.
    pub(super) fn is_over(&self) -> bool {
        self.left == Some(0) || !self.has_more
    }

    /// Notes that a request is next. Returns the time when its handler begins.
    #[inline]
    pub(super) fn begin(&mut self, one_way: bool) -> Time {
        self.left = self.left.map(|left| left.saturating_sub(1));
        if mem::replace(&mut self.after_send, one_way) && !one_way {
            // The end of a one-way call does not look at the clock, and a call's receipt has the time of its start.
            self.now = self.session.shared().lock(Clock::Now, Wakes::Waiters).now();
        }
        self.now
    }

    /// Notes how the first poll of the handler of `id` went.
    #[inline]
    pub(super) fn note_poll(&mut self, id: CallId, poll: &InlinePoll) {
        (self.now, self.has_room) = (poll.now(), poll.has_room());
        if poll.is_not_started() {
            self.session
                .shared()
                .lock(Clock::Recent, Wakes::Waiters)
                .not_started(id);
        }
    }

    /// Refuses a request whose handler never starts.
    pub(super) fn refuse(&mut self, id: CallId, status: &Status, reason: RefusalReason) {
        let mut conn = self.session.shared().lock(Clock::Now, Wakes::Waiters);
        let now = conn.now();
        conn.not_started(id);
        conn.end(id, End::Refused { status, reason }, now);
        (self.now, self.has_room) = (now, conn.has_room_for_all());
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.session.spawn_deferred();
        if self.is_late {
            self.session.shared().wake_driver();
        }
    }
}

/// The number of handlers that a dispatcher starts before it writes their replies; a quarter of the waiting requests if that is
/// more. Their callers go on while it starts the next ones, and each write costs as much as some handlers. It takes as many
/// requests at a time.
const BATCH: usize = 16;
