//! Watch: notices a handler that does not return from a poll, so that the rest of its connection goes on without it.
//!
//! The dispatcher of a connection polls handlers in order. It says when a poll begins and ends, by a counter and
//! without reading a clock; the monitor looks at the counters once a millisecond. One that stands in the same poll at
//! two looks in a row has lost its turn: the monitor starts a fresh dispatcher that goes on, and the late one only
//! finishes its own handler.
//!
//! A dispatcher writes replies, and lets handlers that wait have tasks, only when it has started all that have come. Sixty
//! handlers of half a millisecond each are quick, and yet would keep the reply of the first for thirty; so when the monitor
//! finds the dispatcher still at work, it asks it to see to that first.
//!
//! The monitor is a thread, one for the process, asleep while nothing is dispatched. It cannot be a task: a worker
//! that leaves the IO driver for a handler that blocks does not always wake another worker to take the driver over,
//! and then no timer of the runtime fires. For the same reason a poll in a task of its own is watched too: when it
//! lasts, the monitor pokes the runtime: it spawns a small task, which wakes a worker, which takes the driver.
//!
//! Even that can be lost. A worker that is about to park, and did not search because another one was searching, looks
//! at the queues no more; yet it counts as awake, so whoever spawns wakes nobody, and relies on the other one to come
//! back, which blocks. So the monitor pokes again until it has an answer.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::net::is_simulated;
use crate::session::Served;

/// What the monitor may do with a connection that it watches.
pub(crate) trait Watched {
    fn watch(&self) -> &Watch;
    /// The dispatcher has been in one poll for too long: starts another one, whose turn begins at `turn`.
    fn take_over(&self, turn: u64, route: usize);
    /// The dispatcher is at work since the last look, in one poll after the other, and was asked to stop: sees to what it
    /// would do then that cannot wait.
    fn relieve(&self);
    /// Wakes a worker, so that tasks, timers and sockets are looked after, and the driver, which a handler may have
    /// left asleep. The worker answers with `number`, by [`Watch::answer`]; so does
    /// a runtime that is gone.
    fn poke(&self, number: u32);
}

/// What a connection shows the monitor.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Odd while the dispatcher is in the first poll of a handler. Only ever counts up, so that a dispatcher that
    /// has lost its turn can tell.
    turn: AtomicU64,
    /// The route of that handler.
    route: AtomicUsize,
    /// How many polls of handlers in tasks of their own have begun and ended.
    begun: AtomicU32,
    ended: AtomicU32,
    /// How many dispatchers have lost their turn and are still in the poll for which they lost it.
    late: AtomicU32,
    /// The last poke that a worker has answered.
    answered: AtomicU32,
    /// Whether the monitor looks at this watch.
    listed: AtomicBool,
    /// Whether the dispatcher is to write what there is, before it starts further handlers.
    stop: AtomicBool,
}

impl Watch {
    /// Begins a first poll in the turn of a dispatcher, which holds it.
    pub(crate) fn begin(&self, turn: u64, route: usize) {
        self.route.store(route, Ordering::Relaxed);
        self.turn.store(turn + 1, Ordering::SeqCst);
    }

    /// Ends a first poll; the dispatcher's next turn, or none if the monitor has given its turn away.
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

    /// How many polls of handlers have begun and not ended. Not more than there are, should some begin and end meanwhile.
    pub(crate) fn polls(&self) -> u64 {
        let begun = self.begun.load(Ordering::SeqCst);
        let ended = self.ended.load(Ordering::SeqCst);
        let in_tasks = begun.wrapping_sub(ended);
        // More have ended than had begun: those that began since.
        let in_tasks = if in_tasks > u32::MAX / 2 { 0 } else { in_tasks };
        let late = self.late.load(Ordering::SeqCst);
        u64::from(in_tasks) + u64::from(late) + self.turn.load(Ordering::SeqCst) % 2
    }

    /// Whether the monitor has to be told of this watch. Asked after each `begin`, in the same total order in which
    /// the monitor delists and looks again: one of the two sees the other.
    pub(crate) fn is_unlisted(&self) -> bool {
        !self.listed.load(Ordering::SeqCst) && !self.listed.swap(true, Ordering::SeqCst)
    }

    /// Whether the dispatcher was asked to write first, since it asked last.
    pub(crate) fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::Relaxed)
    }

    /// Begins a poll in a task of its own, which ends when the guard is dropped.
    pub(crate) fn poll_in_task(&self) -> InTask<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        InTask(self)
    }

    /// Tells the monitor that a worker is awake.
    pub(crate) fn answer(&self, poke: u32) {
        self.answered.store(poke, Ordering::SeqCst);
    }

    fn look(&self) -> Look {
        Look {
            turn: self.turn.load(Ordering::SeqCst),
            begun: self.begun.load(Ordering::SeqCst),
            ended: self.ended.load(Ordering::SeqCst),
        }
    }

    /// Gives the turn of a dispatcher that is in the poll `turn` away; the route of its handler, and the new turn.
    fn take(&self, turn: u64) -> Option<(u64, usize)> {
        // Before, for the dispatcher may end its poll at once.
        self.late.fetch_add(1, Ordering::SeqCst);
        let taken = self
            .turn
            .compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() {
            self.late.fetch_sub(1, Ordering::SeqCst);
        }
        taken.ok().map(|_| (turn + 1, self.route.load(Ordering::Relaxed)))
    }
}

/// A poll of a handler in a task of its own.
pub(crate) struct InTask<'a>(&'a Watch);

impl Drop for InTask<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    turn: u64,
    begun: u32,
    ended: u32,
}

/// Tells the monitor that there is something to watch.
pub(crate) fn list(served: &Arc<Served>) {
    // The monitor measures real time, by which no run of a simulation could be repeated.
    if !is_simulated() {
        MONITOR.list(Arc::clone(served));
    }
}

static MONITOR: Monitor = Monitor {
    list: Mutex::new(List {
        new: Vec::new(),
        thread: false,
    }),
    wake: Condvar::new(),
};

struct Monitor {
    list: Mutex<List>,
    wake: Condvar,
}

struct List {
    /// What was listed since the last look.
    new: Vec<Arc<Served>>,
    /// Whether the thread has been started.
    thread: bool,
}

impl Monitor {
    fn list(&'static self, served: Arc<Served>) {
        let mut list = self.lock();
        list.new.push(served);
        if !list.thread {
            list.thread = true;
            let spawned = thread::Builder::new()
                .name("rpc-monitor".to_owned())
                .spawn(|| self.run());
            if let Err(error) = spawned {
                // The next connection tries again.
                list.thread = false;
                tracing::warn!(%error, "no thread for the monitor: a handler that blocks holds up its connection");
            }
        }
        drop(list);
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut entries = Vec::new();
        loop {
            self.admit(&mut entries);
            // Between the look that admits a watch and the one that judges it lies a whole tick, too.
            thread::sleep(TICK);
            entries.retain_mut(|entry| {
                // Nothing of the user runs here, save what a dead runtime drops; no panic may end the monitor.
                panic::catch_unwind(AssertUnwindSafe(|| entry.check())).unwrap_or(false)
            });
        }
    }

    /// Takes what is new into `entries`, and waits if there is nothing at all.
    fn admit(&self, entries: &mut Vec<Entry<Arc<Served>>>) {
        let mut list = self.lock();
        while entries.is_empty() && list.new.is_empty() {
            list = self.wake.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
        entries.extend(list.new.drain(..).map(Entry::new));
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch, and what it showed at the last look.
struct Entry<W> {
    watched: W,
    last: Look,
    /// For how many looks nothing has changed.
    still: u32,
    /// The last poke.
    poke: u32,
    /// After how many looks to repeat it, and how many of them are left: more each time, for when every worker is
    /// blocked, nobody can answer.
    pause: u32,
    left: u32,
}

impl<W: Watched> Entry<W> {
    fn new(watched: W) -> Self {
        let last = watched.watch().look();
        let poke = watched.watch().answered.load(Ordering::SeqCst);
        Self {
            watched,
            last,
            still: 0,
            poke,
            pause: 0,
            left: 0,
        }
    }

    /// Looks again; false when there is nothing to watch any more.
    fn check(&mut self) -> bool {
        let answered = self.is_answered();
        let look = self.watched.watch().look();
        if look != self.last {
            let at_work = look.turn % 2 == 1 && look.turn != self.last.turn;
            self.last = look;
            self.still = 0;
            if at_work {
                self.watched.watch().stop.store(true, Ordering::Relaxed);
                self.watched.relieve();
            }
            return true;
        }
        self.still += 1;
        if look.turn % 2 == 1 {
            if let Some((turn, route)) = self.watched.watch().take(look.turn) {
                self.watched.take_over(turn, route);
                self.poke();
            }
            return true;
        }
        if self.still == 1 && look.begun != look.ended {
            self.poke();
            return true;
        }
        !answered || self.still < STILL || !self.delist()
    }

    fn poke(&mut self) {
        self.poke = self.poke.wrapping_add(1);
        (self.pause, self.left) = (1, 1);
        self.watched.poke(self.poke);
    }

    /// Whether the last poke has been answered; if not, pokes again when it is time.
    fn is_answered(&mut self) -> bool {
        if self.watched.watch().answered.load(Ordering::SeqCst) == self.poke {
            return true;
        }
        self.left -= 1;
        if self.left == 0 {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.left = self.pause;
            self.watched.poke(self.poke);
        }
        false
    }

    /// Stops watching, unless something began just now.
    fn delist(&self) -> bool {
        let watch = self.watched.watch();
        watch.listed.store(false, Ordering::SeqCst);
        if watch.look() == self.last {
            return true;
        }
        // Whoever sets the mark lists it: either they have, and this entry goes, or it stays with us.
        watch.listed.swap(true, Ordering::SeqCst)
    }
}

/// How often the monitor looks: a poll that lasts this long loses its turn within two looks.
const TICK: Duration = Duration::from_millis(1);
/// After so many looks without a change a watch is delisted: few enough to let an idle process sleep, enough not to
/// wake the monitor for each of a series of calls.
const STILL: u32 = 20;
/// The most looks between two pokes that nobody answers.
const PAUSE_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[derive(Default)]
    struct Fake {
        watch: Watch,
        log: RefCell<Vec<String>>,
        /// Whether every worker is blocked.
        mute: Cell<bool>,
    }

    impl Watched for &Fake {
        fn watch(&self) -> &Watch {
            &self.watch
        }
        fn take_over(&self, turn: u64, route: usize) {
            self.log
                .borrow_mut()
                .push(format!("turn {turn} after route {route}"));
        }
        fn relieve(&self) {
            self.log.borrow_mut().push("relieve".to_owned());
        }
        fn poke(&self, number: u32) {
            self.log.borrow_mut().push("poke".to_owned());
            if !self.mute.get() {
                self.watch.answer(number);
            }
        }
    }

    #[test]
    fn a_poll_seen_twice_loses_its_turn_once() {
        let fake = Fake::default();
        fake.watch.begin(0, 7);
        let mut entry = Entry::new(&fake);
        for _ in 0..4 {
            assert!(entry.check());
        }
        assert_eq!(*fake.log.borrow(), ["turn 2 after route 7", "poke"]);
        assert_eq!(fake.watch.end(0), None);
    }

    #[test]
    fn a_dispatcher_that_moves_on_keeps_its_turn_and_is_relieved() {
        let fake = Fake::default();
        let mut entry = Entry::new(&fake);
        let mut turn = 0;
        for _ in 0..10 {
            fake.watch.begin(turn, 0);
            assert!(entry.check());
            turn = fake.watch.end(turn).unwrap();
        }
        assert_eq!(*fake.log.borrow(), ["relieve"; 10]);
    }

    #[test]
    fn a_late_dispatcher_does_not_take_its_successors_turn() {
        let fake = Fake::default();
        let mut entry = Entry::new(&fake);
        fake.watch.begin(0, 0);
        assert!(entry.check() && entry.check());
        fake.watch.begin(2, 0);
        assert_eq!(fake.watch.end(0), None);
        assert_eq!(fake.watch.end(2), Some(4));
    }

    #[test]
    fn polls_that_have_not_ended_are_counted_wherever_they_are() {
        let fake = Fake::default();
        let watch = &fake.watch;
        assert_eq!(watch.polls(), 0);
        let first = watch.poll_in_task();
        let second = watch.poll_in_task();
        watch.begin(0, 0);
        assert_eq!(watch.polls(), 3);
        let mut entry = Entry::new(&fake);
        assert!(entry.check() && entry.check());
        assert_eq!(watch.polls(), 3, "one of them has lost its turn");
        watch.begin(2, 0);
        assert_eq!(watch.polls(), 4);
        assert_eq!(watch.end(2), Some(4));
        assert_eq!(watch.end(0), None);
        drop(first);
        assert_eq!(watch.polls(), 1);
        drop(second);
        assert_eq!(watch.polls(), 0);
    }

    #[test]
    fn a_long_poll_in_a_task_is_poked_once() {
        let fake = Fake::default();
        let mut entry = Entry::new(&fake);
        let guard = fake.watch.poll_in_task();
        for _ in 0..5 {
            assert!(entry.check());
        }
        drop(guard);
        assert!(entry.check() && entry.check());
        assert_eq!(*fake.log.borrow(), ["poke"]);
    }

    #[test]
    fn a_poke_is_repeated_at_growing_intervals_until_it_is_answered() {
        let fake = Fake::default();
        fake.mute.set(true);
        let mut entry = Entry::new(&fake);
        let _guard = fake.watch.poll_in_task();
        assert!(entry.check() && entry.check());
        for _ in 0..1000 {
            assert!(entry.check(), "not delisted before the answer");
        }
        // At 1, 3, 7, 15 and so on.
        assert_eq!(fake.log.borrow().len(), 1 + 9);
        fake.mute.set(false);
        while entry.check() {}
        assert_eq!(fake.log.borrow().len(), 1 + 10);
    }

    #[test]
    fn a_still_watch_is_delisted_and_can_be_listed_again() {
        let fake = Fake::default();
        assert!(fake.watch.is_unlisted());
        assert!(!fake.watch.is_unlisted());
        let mut entry = Entry::new(&fake);
        let looks = std::iter::repeat_with(|| entry.check())
            .take_while(|stays| *stays)
            .count();
        assert_eq!(looks as u32, STILL - 1);
        assert!(fake.watch.is_unlisted());
    }
}
