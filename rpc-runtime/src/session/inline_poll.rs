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
    static POLL: PollCells = const { PollCells::new(InlinePoll::new(0, None, Time::ZERO)) };
}

/// The poll on this thread. Each part has a cell of its own, because a visit of the connection reads and changes few of them.
struct PollCells {
    session: Cell<usize>,
    has_work: Cell<bool>,
    has_room: Cell<bool>,
    start: Cell<Option<CallId>>,
    now: Cell<Time>,
}

impl PollCells {
    const fn new(poll: InlinePoll) -> Self {
        Self {
            session: Cell::new(poll.session),
            has_work: Cell::new(poll.has_work),
            has_room: Cell::new(poll.has_room),
            start: Cell::new(poll.start),
            now: Cell::new(poll.now),
        }
    }

    #[inline]
    fn get(&self) -> InlinePoll {
        InlinePoll {
            session: self.session.get(),
            has_work: self.has_work.get(),
            has_room: self.has_room.get(),
            start: self.start.get(),
            now: self.now.get(),
        }
    }

    #[inline]
    fn set(&self, poll: InlinePoll) {
        self.session.set(poll.session);
        self.has_work.set(poll.has_work);
        self.has_room.set(poll.has_room);
        self.start.set(poll.start);
        self.now.set(poll.now);
    }
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

    /// True if a handler of that session is polled on this thread.
    #[inline]
    pub(super) fn is_of(session: usize) -> bool {
        POLL.with(|poll| poll.session.get() == session)
    }

    /// Starts the handler of `id` if this poll is its first one and need not ask. Returns when the poll began.
    #[inline]
    pub(super) fn start(session: usize, id: CallId) -> Option<Time> {
        POLL.with(|poll| {
            let is_first = poll.session.get() == session && poll.start.get() == Some(id);
            is_first.then(|| {
                poll.start.set(None);
                poll.now.get()
            })
        })
    }

    /// Notes that the handler that is polled on this thread has just done something with its connection.
    #[inline]
    pub(super) fn note_work(conn: &Connection, now: Time) {
        POLL.with(|poll| {
            poll.has_work.set(true);
            poll.has_room.set(conn.has_room_for_all());
            poll.now.set(now);
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
            outer: POLL.with(|poll| {
                let outer = (poll.session.get() != 0).then(|| poll.get());
                poll.set(Self::new(session, start, now));
                outer
            }),
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
    /// The poll around this one; none in most cases.
    outer: Option<InlinePoll>,
    /// Whether somebody else wakes the driver.
    is_handled: bool,
}

impl DriverAsleep<'_> {
    /// Returns how the poll went; the caller wakes the driver if it has work.
    fn end(mut self) -> InlinePoll {
        self.is_handled = true;
        POLL.with(PollCells::get)
    }
}

impl Drop for DriverAsleep<'_> {
    fn drop(&mut self) {
        let has_work = POLL.with(|poll| {
            let has_work = poll.has_work.get();
            match self.outer {
                // The other parts mean nothing without a session.
                None => poll.session.set(0),
                Some(outer) => poll.set(outer),
            }
            has_work
        });
        if has_work && !self.is_handled {
            // The handler panicked, and the driver still has to write what its caller gets.
            self.shared.wake_driver();
        }
    }
}
