//! StallRecord: what a connection shows the stall monitor of its handlers' polls.

use std::{
    array,
    sync::{OnceLock, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    base::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    conn::CallId,
};

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
    /// The id of its call, less the turn. It stays while the calls of a row are polled: both then grow by two.
    call: AtomicU64,
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
    /// The polls in tasks that last; made with the first poll in a task.
    task_polls: OnceLock<Box<[TaskSlot; TASK_SLOTS]>>,
    /// The handlers that the monitor has found to block their threads.
    blocked: Mutex<Vec<BlockedPoll>>,
}

/// The poll of a handler that blocks its thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockedPoll {
    key: PollKey,
    /// Its call.
    pub(crate) call: CallId,
    /// About since when.
    pub(crate) since: Instant,
    /// The route of the call.
    pub(crate) route: usize,
    /// True once it was logged, or not, because another one was.
    is_noted: bool,
}

/// Tells a poll from others of the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PollKey {
    /// A first poll, by the dispatcher's turn.
    First(u64),
    /// A poll in a task.
    Task(u64),
}

/// A place for a poll in a task.
#[derive(Debug, Default)]
struct TaskSlot {
    /// The number of the poll, with [`BLOCKED`] once the monitor has noted it; zero if the place is free, one while it is taken.
    poll: AtomicU64,
    call: AtomicU64,
    /// The route of the call.
    route: AtomicUsize,
}

/// What the monitor found at its last look at polls in tasks.
pub(crate) type TaskLook = [u64; TASK_SLOTS];

/// How many polls in tasks of one connection are looked at. As many threads may be blocked by one connection, and are named.
const TASK_SLOTS: usize = 8;
/// The place is being taken.
const TAKING: u64 = 1;
/// The first number of a poll.
const FIRST_POLL: u64 = 2;
/// Marks a poll that is among the blocked ones.
const BLOCKED: u64 = 1 << 63;

/// For the dispatcher and the handlers' tasks.
impl StallRecord {
    /// Begins a first poll in the turn of a dispatcher, which holds it: that of the handler of `call`.
    pub(crate) fn begin(&self, turn: u64, route: usize, call: CallId) {
        self.route.store(route, Ordering::Relaxed);
        self.call.store(call.0.wrapping_sub(turn), Ordering::Relaxed);
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
            self.forget_blocked(PollKey::First(turn + 1));
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

    /// Begins a poll in a task of its own, which ends when the guard is dropped. `call` is that of the handler, with its route; none if
    /// the handler may block its thread.
    pub(crate) fn poll_in_task(&self, call: Option<(CallId, usize)>) -> TaskPoll<'_> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        TaskPoll {
            record: self,
            slot: call.and_then(|(call, route)| self.take_slot(call, route, number)),
        }
    }

    /// Takes a place for a poll in a task; none if all are taken.
    fn take_slot(&self, call: CallId, route: usize, number: u32) -> Option<&TaskSlot> {
        let slots = self
            .task_polls
            .get_or_init(|| Box::new(array::from_fn(|_| TaskSlot::default())));
        let slot = slots.iter().find(|slot| {
            slot.poll.load(Ordering::Relaxed) == 0
                && slot
                    .poll
                    .compare_exchange(0, TAKING, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
        })?;
        slot.call.store(call.0, Ordering::Relaxed);
        slot.route.store(route, Ordering::Relaxed);
        slot.poll.store(FIRST_POLL + u64::from(number), Ordering::SeqCst);
        Some(slot)
    }

    /// The polls that block their threads, as far as the monitor has found them.
    pub(crate) fn blocked(&self) -> Vec<BlockedPoll> {
        self.lock_blocked().clone()
    }

    fn note_blocked(&self, key: PollKey, call: CallId, route: usize) {
        self.lock_blocked().push(BlockedPoll {
            key,
            call,
            since: Instant::now(),
            route,
            is_noted: false,
        });
    }

    #[cold]
    fn forget_blocked(&self, key: PollKey) {
        let mut blocked = self.lock_blocked();
        blocked.retain(|one| one.key != key);
        if blocked.is_empty() {
            *blocked = Vec::new();
        }
    }

    fn lock_blocked(&self) -> MutexGuard<'_, Vec<BlockedPoll>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
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
        let begun_at = turn - 1;
        let call = self.call.load(Ordering::Relaxed).wrapping_add(begun_at);
        let route = self.route.load(Ordering::Relaxed);
        self.note_blocked(PollKey::First(turn), CallId(call), route);
        let taken = self
            .turn
            .compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() {
            self.late.fetch_sub(1, Ordering::SeqCst);
            self.forget_blocked(PollKey::First(turn));
        }
        taken.ok().map(|_| (turn + 1, route))
    }

    /// Looks at polls in tasks. One that was there at the look before, which found `last`, blocks its thread: `count` gets its route,
    /// once.
    pub(crate) fn look_at_tasks(&self, last: &mut TaskLook, mut count: impl FnMut(usize)) {
        let Some(slots) = self.task_polls.get() else {
            return;
        };
        for (slot, last) in slots.iter().zip(last) {
            let poll = slot.poll.load(Ordering::SeqCst);
            let is_new = poll >= FIRST_POLL && poll & BLOCKED == 0;
            if is_new && poll == *last {
                // Before the exchange: the poll may end right after it.
                let call = CallId(slot.call.load(Ordering::Relaxed));
                let route = slot.route.load(Ordering::Relaxed);
                self.note_blocked(PollKey::Task(poll), call, route);
                let marked =
                    slot.poll
                        .compare_exchange(poll, poll | BLOCKED, Ordering::SeqCst, Ordering::SeqCst);
                match marked {
                    Ok(_) => count(route),
                    Err(_) => self.forget_blocked(PollKey::Task(poll)),
                }
            }
            *last = poll;
        }
    }

    /// Gives `note` each poll that has blocked its thread for `time` at `now`, once. Returns true if others have blocked theirs for less.
    pub(crate) fn note_long(&self, time: Duration, now: Instant, mut note: impl FnMut(&BlockedPoll)) -> bool {
        let mut blocked = self.lock_blocked();
        let mut is_any_left = false;
        for poll in blocked.iter_mut().filter(|poll| !poll.is_noted) {
            poll.is_noted = now.saturating_duration_since(poll.since) >= time;
            match poll.is_noted {
                true => note(poll),
                false => is_any_left = true,
            }
        }
        is_any_left
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
pub(crate) struct TaskPoll<'a> {
    record: &'a StallRecord,
    /// Its place among those that the monitor looks at.
    slot: Option<&'a TaskSlot>,
}

impl Drop for TaskPoll<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let poll = slot.poll.swap(0, Ordering::SeqCst);
            if poll & BLOCKED != 0 {
                self.record.forget_blocked(PollKey::Task(poll & !BLOCKED));
            }
        }
        self.record.ended.fetch_add(1, Ordering::SeqCst);
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
