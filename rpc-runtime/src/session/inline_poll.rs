//! InlinePoll: the poll of a handler by the task that drives its connection, which leaves the driver asleep.

use std::cell::Cell;

use crate::{
    conn::{CallId, Connection, Time},
    driver::SharedConnection,
};

/// The poll of a handler on this thread by the task that drives the handler's connection, or by the handler's own task.
///
/// While it lasts, the driver is not woken, since it would lie behind this handler in tokio's LIFO slot. The poll notes what
/// the task that polls has to know afterwards.
#[derive(Clone, Copy)]
pub(crate) struct InlinePoll {
    /// The address of the handler's session; zero for none.
    session: usize,
    /// Whether the handler did something with the connection, so that its driver may have work.
    has_work: bool,
    /// Whether a further reply surely found room when the handler last did so.
    has_room: bool,
    /// The call whose handler starts without asking the connection; none once it has started.
    start: Option<CallId>,
    /// The latest time that the connection was given, as far as this poll knows.
    now: Time,
}

thread_local! {
    static POLL: Cell<InlinePoll> = const { Cell::new(InlinePoll::new(0, None, Time::ZERO)) };
}

impl InlinePoll {
    const fn new(session: usize, start: Option<CallId>, now: Time) -> Self {
        Self {
            session,
            has_work: false,
            has_room: true,
            start,
            now,
        }
    }

    /// The poll of a handler of that session on this thread, if there is one.
    #[inline]
    pub(super) fn of(session: usize) -> Option<Self> {
        let poll = POLL.get();
        (poll.session == session).then_some(poll)
    }

    /// Starts the handler of `id` if this poll is its first one and need not ask. Returns when the poll began.
    #[inline]
    pub(super) fn start(session: usize, id: CallId) -> Option<Time> {
        let poll = Self::of(session).filter(|poll| poll.start == Some(id))?;
        POLL.set(Self { start: None, ..poll });
        Some(poll.now)
    }

    /// Notes that the handler has just done something with its connection.
    #[inline]
    pub(super) fn note_work(self, conn: &Connection, now: Time) {
        POLL.set(Self {
            has_work: true,
            has_room: conn.has_room_for_all(),
            now,
            ..self
        });
    }

    /// Runs `f`, a poll of a handler, with the driver left asleep, and returns how the poll went. If `f` panics, the driver is
    /// woken.
    ///
    /// The handler of the call `start` need not ask before it starts; `now` is the time.
    #[inline]
    pub(super) fn run<R>(
        session: usize,
        shared: &SharedConnection,
        start: Option<CallId>,
        now: Time,
        f: impl FnOnce() -> R,
    ) -> (R, Self) {
        let asleep = DriverAsleep {
            shared,
            outer: POLL.replace(Self::new(session, start, now)),
            is_handled: false,
        };
        let result = f();
        (result, asleep.end())
    }

    /// Returns whether the driver may have work now; the caller wakes it then.
    pub(crate) fn has_work(&self) -> bool {
        self.has_work
    }

    /// Returns whether a further reply surely finds room.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room
    }

    /// Returns whether the handler need not ask before it starts, and did not start.
    pub(crate) fn is_not_started(&self) -> bool {
        self.start.is_some()
    }

    /// Returns the latest time that the connection was given, as far as this poll knows.
    pub(crate) fn now(&self) -> Time {
        self.now
    }
}

/// The time in which the driver of a connection is left asleep.
struct DriverAsleep<'a> {
    shared: &'a SharedConnection,
    outer: InlinePoll,
    /// Whether somebody else wakes the driver.
    is_handled: bool,
}

impl DriverAsleep<'_> {
    /// Returns how the poll went; the caller wakes the driver if it has work.
    fn end(mut self) -> InlinePoll {
        self.is_handled = true;
        POLL.get()
    }
}

impl Drop for DriverAsleep<'_> {
    fn drop(&mut self) {
        let has_work = POLL.replace(self.outer).has_work;
        if has_work && !self.is_handled {
            // The handler panicked, and the driver still has to write what its caller gets.
            self.shared.wake_driver();
        }
    }
}
