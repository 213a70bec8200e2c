//! InlinePoll: the poll of a handler by the task that drives its connection, which leaves the driver asleep.

use std::cell::Cell;

use crate::driver::SharedConnection;

/// The poll of a handler on this thread by the task that drives the handler's connection, or by the handler's own task.
///
/// While it lasts, the driver is not woken, since it would lie behind this handler in tokio's LIFO slot. The poll notes that
/// the driver may have work, and the task that polls wakes the driver afterwards.
#[derive(Clone, Copy)]
pub(crate) struct InlinePoll {
    /// The address of the handler's session; zero for none.
    session: usize,
    /// Whether the handler did something with the connection, so that its driver may have work.
    work: bool,
}

thread_local! {
    static POLL: Cell<InlinePoll> = const { Cell::new(InlinePoll { session: 0, work: false }) };
}

impl InlinePoll {
    /// The poll of a handler of that session on this thread, if there is one.
    #[inline]
    pub(crate) fn of(session: usize) -> Option<Self> {
        let poll = POLL.get();
        (poll.session == session).then_some(poll)
    }

    /// Notes that the driver may have work now.
    #[inline]
    pub(crate) fn note_work(self) {
        POLL.set(Self { work: true, ..self });
    }

    /// Runs `f`, a poll of a handler, with the driver left asleep. The flag is true if the driver may have work now. If `f`
    /// panics, the driver is woken.
    #[inline]
    pub(crate) fn run<R>(session: usize, shared: &SharedConnection, f: impl FnOnce() -> R) -> (R, bool) {
        let asleep = DriverAsleep {
            shared,
            outer: POLL.replace(Self { session, work: false }),
            is_handled: false,
        };
        let result = f();
        (result, asleep.work())
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
    /// Returns whether the driver may have work; the caller wakes it then.
    fn work(mut self) -> bool {
        self.is_handled = true;
        POLL.get().work
    }
}

impl Drop for DriverAsleep<'_> {
    fn drop(&mut self) {
        let work = POLL.replace(self.outer).work;
        if work && !self.is_handled {
            // The handler panicked, and the driver still has to write what its caller gets.
            self.shared.wake_driver();
        }
    }
}
