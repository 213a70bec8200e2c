//! StallMonitor: notices a handler that does not return from a poll, so that the rest of its connection goes on without it.
//!
//! The dispatcher of a connection polls handlers in order. It counts the beginning and the end of each poll in the
//! connection's `StallRecord`, without reading a clock. The monitor looks at the counters once a millisecond. A dispatcher that
//! is in the same poll at two looks in a row loses its turn: the monitor starts a fresh dispatcher that goes on, and the late
//! one only finishes its own handler.
//!
//! A dispatcher writes replies, and gives pending handlers tasks, only when it has started all handlers whose requests have
//! come. Sixty handlers of half a millisecond each are quick, and yet would delay the reply of the first for thirty
//! milliseconds. So when the monitor finds the dispatcher still at work, it asks it to write first.
//!
//! The monitor is a thread, one for the process, named `rpc-monitor`. It starts with the first request that a handler is polled
//! for, and sleeps while nothing is dispatched. It cannot be a task: a worker that leaves the IO driver for a handler that
//! blocks does not always wake another worker to take the driver over, and then no timer of the runtime fires. For the same
//! reason a poll in a task of its own is monitored too: when it lasts, the monitor pokes the runtime: it spawns a small task,
//! which wakes a worker, which takes the driver.
//!
//! Even a poke can be lost. A worker that is about to park, and did not search because another one was searching, does not look
//! at the queues again. Yet it counts as awake, so a spawn wakes no worker and relies on the searching one, which is blocked. So
//! the monitor pokes again until it has an answer.
//!
//! A simulation has no monitor.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    base::panic::Panic,
    session::{BlockedPoll, StallRecord, StallSnapshot, TaskLook},
};

/// What the monitor does with a connection.
pub(crate) trait Monitored {
    /// The counters of the connection's polls.
    fn stalls(&self) -> &StallRecord;
    /// Starts another dispatcher: the one before has been in the poll `turn` for too long. Returns false if that has just ended.
    fn take_over(self: Arc<Self>, turn: u64) -> bool;
    /// Counts a handler of `route` that blocks its thread, in a task of its own.
    fn count_blocked(&self, route: usize);
    /// Logs a handler that has blocked its thread for long.
    fn log_blocked(&self, poll: &BlockedPoll);
    /// Does what the dispatcher does when it stops and what cannot wait: the dispatcher has been at work since the last look,
    /// in one poll after the other, and was asked to stop.
    fn relieve(&self);
    /// Wakes a worker, so that tasks, timers and sockets go on, and the driver, which a handler may have left asleep. The
    /// worker answers with `number` by [`StallRecord::answer`]; a runtime that is gone answers too.
    fn poke(self: Arc<Self>, number: u32);
}

/// Adds a connection to those that the monitor looks at.
pub(super) fn list<M: Monitored + Send + Sync + 'static>(monitored: &Arc<M>) {
    MONITOR.list(Arc::clone(monitored) as Listed);
}

/// A connection that the monitor looks at.
type Listed = Arc<dyn Monitored + Send + Sync>;

static MONITOR: StallMonitor = StallMonitor {
    list: Mutex::new(NewlyListed {
        connections: Vec::new(),
        is_started: false,
    }),
    wake: Condvar::new(),
};

struct StallMonitor {
    list: Mutex<NewlyListed>,
    wake: Condvar,
}

struct NewlyListed {
    /// Listed since the last look.
    connections: Vec<Listed>,
    /// Whether the thread has been started.
    is_started: bool,
}

impl StallMonitor {
    fn list(&'static self, connection: Listed) {
        let mut list = self.lock();
        list.connections.push(connection);
        if !list.is_started {
            list.is_started = true;
            let spawned = thread::Builder::new()
                .name("rpc-monitor".to_owned())
                .spawn(|| self.run());
            if let Err(error) = spawned {
                // The next connection tries again.
                list.is_started = false;
                tracing::warn!(%error, "cannot start the stall monitor: a handler that blocks delays its whole connection");
            }
        }
        drop(list);
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut entries = Vec::new();
        loop {
            self.admit(&mut entries);
            // So a whole tick lies also between the look that admits a record and the one that judges it.
            thread::sleep(TICK);
            entries.retain_mut(|entry| {
                // Nothing of the user runs here, except what a dead runtime drops; no panic may end the monitor.
                Panic::catch(|| entry.check()).unwrap_or(false)
            });
        }
    }

    /// Moves new connections into `entries`; waits if there is none at all.
    fn admit(&self, entries: &mut Vec<MonitorEntry<dyn Monitored + Send + Sync>>) {
        let mut list = self.lock();
        while entries.is_empty() && list.connections.is_empty() {
            list = self.wake.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
        entries.extend(list.connections.drain(..).map(MonitorEntry::new));
    }

    fn lock(&self) -> MutexGuard<'_, NewlyListed> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, and what its record showed at the last look.
struct MonitorEntry<M: ?Sized> {
    monitored: Arc<M>,
    last: StallSnapshot,
    /// The polls in tasks that the last look found.
    tasks: TaskLook,
    /// For how many looks nothing has changed.
    still: u32,
    /// The number of the last poke.
    poke: u32,
    /// After how many looks the poke is repeated, and how many of them are left. It doubles each time: while every worker is
    /// blocked, none can answer.
    pause: u32,
    left: u32,
}

impl<M: Monitored + ?Sized> MonitorEntry<M> {
    fn new(monitored: Arc<M>) -> Self {
        let last = monitored.stalls().snapshot();
        let poke = monitored.stalls().answered();
        Self {
            monitored,
            last,
            tasks: TaskLook::default(),
            still: 0,
            poke,
            pause: 0,
            left: 0,
        }
    }

    /// Looks again. Returns false when there is nothing to look at any more.
    fn check(&mut self) -> bool {
        let monitored = &self.monitored;
        monitored
            .stalls()
            .look_at_tasks(&mut self.tasks, |route| monitored.count_blocked(route));
        let is_any_short = monitored
            .stalls()
            .note_long(LONG, Instant::now(), |poll| monitored.log_blocked(poll));
        let is_answered = self.is_answered();
        let snapshot = self.monitored.stalls().snapshot();
        if snapshot != self.last {
            let at_work = snapshot.is_in_first_poll() && snapshot.turn() != self.last.turn();
            self.last = snapshot;
            self.still = 0;
            if at_work {
                self.monitored.stalls().ask_to_stop();
                self.monitored.relieve();
            }
            return true;
        }
        self.still += 1;
        if snapshot.is_in_first_poll() {
            if Arc::clone(&self.monitored).take_over(snapshot.turn()) {
                self.poke();
            }
            return true;
        }
        if self.still == 1 && snapshot.is_in_task_poll() {
            self.poke();
            return true;
        }
        !is_answered || is_any_short || self.still < STILL || !self.monitored.stalls().delist(self.last)
    }

    fn poke(&mut self) {
        self.poke = self.poke.wrapping_add(1);
        (self.pause, self.left) = (1, 1);
        Arc::clone(&self.monitored).poke(self.poke);
    }

    /// Returns whether the last poke has been answered; if not, pokes again when it is time.
    fn is_answered(&mut self) -> bool {
        if self.monitored.stalls().answered() == self.poke {
            return true;
        }
        self.left -= 1;
        if self.left == 0 {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.left = self.pause;
            Arc::clone(&self.monitored).poke(self.poke);
        }
        false
    }
}

/// The time between two looks. A poll that lasts this long loses its turn within two looks.
const TICK: Duration = Duration::from_millis(1);
/// A handler that blocks its thread for so long is logged. The OS stops a thread for less, but on a machine that is overloaded.
const LONG: Duration = Duration::from_millis(100);
/// The number of looks without a change after which a record is delisted. It is small enough to let an idle process sleep, and
/// large enough not to wake the monitor for each call of a series.
const STILL: u32 = 20;
/// The largest number of looks between two pokes that are not answered.
const PAUSE_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::conn::CallId;

    #[derive(Default)]
    struct FakeConnection {
        stalls: StallRecord,
        log: Mutex<Vec<String>>,
        /// Whether every worker is blocked.
        mute: AtomicBool,
    }

    impl FakeConnection {
        fn log(&self) -> MutexGuard<'_, Vec<String>> {
            self.log.lock().unwrap()
        }
    }

    impl Monitored for FakeConnection {
        fn stalls(&self) -> &StallRecord {
            &self.stalls
        }
        fn take_over(self: Arc<Self>, turn: u64) -> bool {
            let taken = self.stalls.take_turn(turn);
            let line = taken.map(|(turn, route)| format!("turn {turn} after route {route}"));
            self.log().extend(line);
            taken.is_some()
        }
        fn count_blocked(&self, route: usize) {
            self.log().push(format!("route {route} blocks"));
        }
        // It depends on the time.
        fn log_blocked(&self, _: &BlockedPoll) {}
        fn relieve(&self) {
            self.log().push("relieve".to_owned());
        }
        fn poke(self: Arc<Self>, number: u32) {
            self.log().push("poke".to_owned());
            if !self.mute.load(Ordering::Relaxed) {
                self.stalls.answer(number);
            }
        }
    }

    #[test]
    fn a_poll_seen_twice_loses_its_turn_once() {
        let fake = Arc::new(FakeConnection::default());
        fake.stalls.begin(0, 7, CallId(9));
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        for _ in 0..4 {
            assert!(entry.check());
        }
        assert_eq!(*fake.log(), ["turn 2 after route 7", "poke"]);
        assert_eq!(fake.stalls.end(0), None);
    }

    #[test]
    fn a_dispatcher_that_moves_on_keeps_its_turn_and_is_relieved() {
        let fake = Arc::new(FakeConnection::default());
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        let mut turn = 0;
        for _ in 0..10 {
            fake.stalls.begin(turn, 0, CallId(9));
            assert!(entry.check());
            turn = fake.stalls.end(turn).unwrap();
        }
        assert_eq!(*fake.log(), ["relieve"; 10]);
    }

    #[test]
    fn a_late_dispatcher_does_not_take_its_successors_turn() {
        let fake = Arc::new(FakeConnection::default());
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        fake.stalls.begin(0, 0, CallId(9));
        assert!(entry.check() && entry.check());
        fake.stalls.begin(2, 0, CallId(9));
        assert_eq!(fake.stalls.end(0), None);
        assert_eq!(fake.stalls.end(2), Some(4));
    }

    #[test]
    fn unfinished_polls_are_counted_on_every_thread() {
        let fake = Arc::new(FakeConnection::default());
        let stalls = &fake.stalls;
        assert_eq!(stalls.polls(), 0);
        let first = stalls.poll_in_task(Some((CallId(9), 7)));
        let second = stalls.poll_in_task(Some((CallId(9), 7)));
        stalls.begin(0, 0, CallId(9));
        assert_eq!(stalls.polls(), 3);
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        assert!(entry.check() && entry.check());
        assert_eq!(stalls.polls(), 3, "one of them has lost its turn");
        stalls.begin(2, 0, CallId(9));
        assert_eq!(stalls.polls(), 4);
        assert_eq!(stalls.end(2), Some(4));
        assert_eq!(stalls.end(0), None);
        drop(first);
        assert_eq!(stalls.polls(), 1);
        drop(second);
        assert_eq!(stalls.polls(), 0);
    }

    #[test]
    fn polls_that_last_are_named_until_they_end() {
        let fake = Arc::new(FakeConnection::default());
        let stalls = &fake.stalls;
        let calls = || {
            stalls
                .blocked()
                .iter()
                .map(|poll| poll.call.0)
                .collect::<Vec<_>>()
        };
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        stalls.begin(0, 0, CallId(9));
        assert_eq!(stalls.end(0), Some(2));
        // The third call of a row, in the dispatcher's turn 6.
        stalls.begin(2, 0, CallId(11));
        assert_eq!(stalls.go_on(2), Some(4));
        assert_eq!(stalls.go_on(4), Some(6));
        let long = stalls.poll_in_task(Some((CallId(21), 7)));
        drop(stalls.poll_in_task(Some((CallId(23), 7))));
        let may_block = stalls.poll_in_task(None);
        assert!(entry.check());
        assert!(calls().is_empty(), "seen once");
        let young = stalls.poll_in_task(Some((CallId(25), 7)));
        assert!(entry.check());
        assert_eq!(
            calls(),
            [21],
            "the record has changed, so the first poll may be another one"
        );
        assert!(entry.check());
        assert_eq!(calls(), [21, 25, 15]);
        drop(young);
        assert_eq!(calls(), [21, 15]);
        assert_eq!(stalls.end(6), None);
        assert_eq!(calls(), [21]);
        drop((long, may_block));
        assert!(calls().is_empty());
        // The places are free again.
        let again: Vec<_> = (0..8)
            .map(|n| stalls.poll_in_task(Some((CallId(31 + 2 * n), 7))))
            .collect();
        let _ninth = stalls.poll_in_task(Some((CallId(99), 7)));
        assert!(entry.check() && entry.check());
        assert_eq!(calls(), [31, 33, 35, 37, 39, 41, 43, 45]);
        drop(again);
        assert!(calls().is_empty());
    }

    #[test]
    fn a_poll_that_lasts_long_is_noted_once_and_watched_until_then() {
        let fake = Arc::new(FakeConnection::default());
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        let _poll = fake.stalls.poll_in_task(Some((CallId(9), 7)));
        assert!(entry.check() && entry.check());
        let note = |time, now| {
            let mut noted = Vec::new();
            let is_any_left = fake.stalls.note_long(time, now, |poll| noted.push(poll.route));
            (noted, is_any_left)
        };
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        assert_eq!(note(Duration::from_secs(3600), now), (vec![], true));
        assert_eq!(note(Duration::from_secs(60), later), (vec![7], false));
        assert_eq!(note(Duration::from_secs(60), later), (vec![], false));
    }

    #[test]
    fn a_long_poll_in_a_task_is_poked_once() {
        let fake = Arc::new(FakeConnection::default());
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        let guard = fake.stalls.poll_in_task(Some((CallId(9), 7)));
        for _ in 0..5 {
            assert!(entry.check());
        }
        drop(guard);
        assert!(entry.check() && entry.check());
        assert_eq!(*fake.log(), ["route 7 blocks", "poke"]);
    }

    #[test]
    fn a_poke_is_repeated_at_growing_intervals_until_it_is_answered() {
        let fake = Arc::new(FakeConnection::default());
        fake.mute.store(true, Ordering::Relaxed);
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        let _guard = fake.stalls.poll_in_task(Some((CallId(9), 7)));
        assert!(entry.check() && entry.check());
        for _ in 0..1000 {
            assert!(entry.check(), "not delisted before the answer");
        }
        // At 1, 3, 7, 15 and so on.
        assert_eq!(fake.log().len(), 1 + 1 + 9);
        fake.mute.store(false, Ordering::Relaxed);
        while entry.check() {}
        assert_eq!(fake.log().len(), 1 + 1 + 10);
    }

    #[test]
    fn a_still_record_is_delisted_and_can_be_listed_again() {
        let fake = Arc::new(FakeConnection::default());
        assert!(fake.stalls.is_unlisted());
        assert!(!fake.stalls.is_unlisted());
        let mut entry = MonitorEntry::new(Arc::clone(&fake));
        let looks = std::iter::repeat_with(|| entry.check())
            .take_while(|stays| *stays)
            .count();
        assert_eq!(looks as u32, STILL - 1);
        assert!(fake.stalls.is_unlisted());
    }
}
