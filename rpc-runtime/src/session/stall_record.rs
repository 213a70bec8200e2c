//! StallRecord: what a connection shows the stall monitor of its handlers' polls.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What a connection shows the stall monitor of its handlers' polls.
///
/// The dispatcher and the handlers' tasks count here, without reading a clock; the monitor (`server::dispatch::stall_monitor`)
/// compares what it finds with what it found a millisecond before.
#[derive(Debug, Default)]
pub(crate) struct StallRecord {
    /// Odd while the dispatcher is in the first poll of a handler. It only counts up, so that a dispatcher that has lost its
    /// turn notices.
    turn: AtomicU64,
    /// The route of that handler.
    route: AtomicUsize,
    /// How many polls of handlers in tasks of their own have begun, and how many have ended.
    begun: AtomicU32,
    ended: AtomicU32,
    /// How many dispatchers have lost their turn and are still in the poll for which they lost it.
    late: AtomicU32,
    /// The last poke that a worker has answered.
    answered: AtomicU32,
    /// Whether the monitor looks at this record.
    listed: AtomicBool,
    /// Whether the dispatcher is asked to write what there is before it starts further handlers.
    stop: AtomicBool,
}

/// For the dispatcher and the handlers' tasks.
impl StallRecord {
    /// Begins a first poll in the turn of a dispatcher, which holds it.
    pub(crate) fn begin(&self, turn: u64, route: usize) {
        self.route.store(route, Ordering::Relaxed);
        self.turn.store(turn + 1, Ordering::SeqCst);
    }

    /// Ends a first poll. Returns the dispatcher's next turn, or none if the monitor has given its turn away.
    pub(crate) fn end(&self, turn: u64) -> Option<u64> {
        let next = turn + 2;
        let ended = self
            .turn
            .compare_exchange(turn + 1, next, Ordering::SeqCst, Ordering::SeqCst);
        if ended.is_err() {
            self.late.fetch_sub(1, Ordering::SeqCst);
        }
        ended.ok().map(|_| next)
    }

    /// Ends a first poll and begins the next one, of the same route. Returns the turn of that, or none if the monitor has given the
    /// dispatcher's turn away.
    #[inline]
    pub(crate) fn go_on(&self, turn: u64) -> Option<u64> {
        let next = turn + 2;
        let went = self
            .turn
            .compare_exchange(turn + 1, next + 1, Ordering::SeqCst, Ordering::SeqCst);
        went.ok().map(|_| next)
    }

    /// Returns how many first polls have begun, one of which may not have ended.
    pub(crate) fn begun_polls(&self) -> u64 {
        self.turn.load(Ordering::SeqCst).div_ceil(2)
    }

    /// Returns true once if the monitor does not look at this record; then the caller has to list it.
    ///
    /// It is asked after each `begin`, in the same total order in which the monitor delists and looks again: one of the two
    /// sees the other.
    pub(crate) fn is_unlisted(&self) -> bool {
        !self.listed.load(Ordering::SeqCst) && !self.listed.swap(true, Ordering::SeqCst)
    }

    /// Returns whether the monitor has asked the dispatcher to write first, since the last call of this.
    pub(crate) fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::Relaxed)
    }

    /// Returns whether the monitor asks the dispatcher to write first. It does so until [`StallRecord::is_to_stop`] is called.
    #[inline]
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Begins a poll in a task of its own, which ends when the guard is dropped.
    pub(crate) fn poll_in_task(&self) -> TaskPoll<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        TaskPoll(self)
    }

    /// Tells the monitor that a worker is awake: it answers the poke of that number.
    pub(crate) fn answer(&self, poke: u32) {
        self.answered.store(poke, Ordering::SeqCst);
    }

    /// Counts the polls of handlers that have begun and not ended. It counts too few, never too many, if some begin and end
    /// meanwhile.
    pub(crate) fn polls(&self) -> u64 {
        let begun = self.begun.load(Ordering::SeqCst);
        let ended = self.ended.load(Ordering::SeqCst);
        let in_tasks = begun.wrapping_sub(ended);
        // `ended` was read later and includes polls that began since.
        let in_tasks = if in_tasks > u32::MAX / 2 { 0 } else { in_tasks };
        let late = self.late.load(Ordering::SeqCst);
        u64::from(in_tasks) + u64::from(late) + self.turn.load(Ordering::SeqCst) % 2
    }
}

/// For the monitor.
impl StallRecord {
    /// Reads the counters.
    pub(crate) fn snapshot(&self) -> StallSnapshot {
        StallSnapshot {
            turn: self.turn.load(Ordering::SeqCst),
            begun: self.begun.load(Ordering::SeqCst),
            ended: self.ended.load(Ordering::SeqCst),
        }
    }

    /// The last poke that a worker has answered.
    pub(crate) fn answered(&self) -> u32 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Asks the dispatcher to write what there is before it starts further handlers.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Takes the turn of a dispatcher that is in the poll `turn`. Returns the new turn and the route of the late handler.
    pub(crate) fn take_turn(&self, turn: u64) -> Option<(u64, usize)> {
        // Before the exchange: the dispatcher may end its poll right after it.
        self.late.fetch_add(1, Ordering::SeqCst);
        let taken = self
            .turn
            .compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() {
            self.late.fetch_sub(1, Ordering::SeqCst);
        }
        taken.ok().map(|_| (turn + 1, self.route.load(Ordering::Relaxed)))
    }

    /// Stops looking at this record, unless something has happened since `last`. Returns whether it did.
    pub(crate) fn delist(&self, last: StallSnapshot) -> bool {
        self.listed.store(false, Ordering::SeqCst);
        if self.snapshot() == last {
            return true;
        }
        // Whoever sets the mark lists the record. If it is set by now, another entry exists and this one goes.
        self.listed.swap(true, Ordering::SeqCst)
    }
}

/// A poll of a handler in a task of its own.
pub(crate) struct TaskPoll<'a>(&'a StallRecord);

impl Drop for TaskPoll<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the counters of a [`StallRecord`] showed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StallSnapshot {
    turn: u64,
    begun: u32,
    ended: u32,
}

impl StallSnapshot {
    /// The dispatcher's turn; odd while it is in the first poll of a handler.
    pub(crate) fn turn(self) -> u64 {
        self.turn
    }

    /// Returns whether the dispatcher is in the first poll of a handler.
    pub(crate) fn is_in_first_poll(self) -> bool {
        self.turn % 2 == 1
    }

    /// Returns whether a task is in a poll of its handler.
    pub(crate) fn is_in_task_poll(self) -> bool {
        self.begun != self.ended
    }
}
