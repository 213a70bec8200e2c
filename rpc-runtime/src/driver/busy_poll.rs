//! BusyPoll: whether a task looks at its socket again before it sleeps.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::conn::Time;

/// Whether the task of a connection looks at its socket again before it sleeps.
///
/// A processor without work sleeps, and on many machines it takes tens of microseconds to wake. With few calls in flight, between two
/// processes of one machine, that is most of a call. So a task that expects input very soon yields, and looks again when the other tasks of
/// its thread have had their turn, for a limited time.
///
/// It looks only where that is likely to pay:
///
/// - The process has at least two processors. With one, the peer could not run meanwhile.
/// - No other connection of the process is busy. With several, the thread has other work, and the tasks would look in turn.
/// - The last waits were short, but long enough for a processor to sleep. On a busy machine none sleeps, and the peer needs this one.
/// - Most looks of late found something. After misses, there are many waits without a look.
pub(super) struct BusyPoll {
    /// How long a task looks before it sleeps; zero if it never looks.
    limit: Time,
    /// The number of the connection.
    number: u64,
    /// The number of the connection whose task was woken last.
    driven_last: &'static AtomicU64,
    /// When the task was woken last.
    woken_at: Time,
    /// The number of waits that were worth a look, since a longer one or the wake of another connection.
    worth_looks: u8,
    /// Looks that found nothing, beyond half of those that found something.
    misses: u8,
    /// The number of wakes before the next look.
    pause: u16,
    /// The length of the next pause.
    next_pause: u16,
    looking: Option<Looking>,
    /// True after a miss, until the task sleeps.
    gave_up: bool,
}

/// A task that looks.
#[derive(Clone, Copy)]
struct Looking {
    since: Time,
    /// The last look; none before the first.
    last: Option<Time>,
    looks: u16,
}

impl BusyPoll {
    /// The decisions for a connection. `limit` is how long its task may look; zero for never.
    pub(super) fn new(limit: Time, number: u64) -> Self {
        let limit = if has_processors() { limit } else { Time::ZERO };
        Self::beside(limit, number, &DRIVEN_LAST)
    }

    /// The same, beside other connections that note their wakes in `driven_last`, and whatever processors there are.
    pub(super) fn beside(limit: Time, number: u64, driven_last: &'static AtomicU64) -> Self {
        Self {
            limit,
            number,
            driven_last,
            woken_at: Time::ZERO,
            worth_looks: 0,
            misses: 0,
            pause: 0,
            next_pause: FIRST_PAUSE,
            looking: None,
            gave_up: false,
        }
    }

    /// Notes that the task was woken, or has found something.
    #[inline]
    pub(super) fn note_wake(&mut self, now: Time) {
        if self.limit.is_zero() || self.gave_up {
            return;
        }
        let is_only = self.was_driven_last();
        if !is_only {
            self.driven_last.store(self.number, Ordering::Relaxed);
        }
        let wait = now.saturating_sub(self.woken_at);
        self.woken_at = now;
        if !is_only || wait > SHORT_WAIT {
            self.worth_looks = 0;
        } else if wait >= SLEEP {
            self.worth_looks = self.worth_looks.saturating_add(1);
        }
        self.pause = self.pause.saturating_sub(1);
    }

    /// True if the task is to look before it sleeps.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        if self.gave_up {
            self.gave_up = false;
            return false;
        }
        let begins = !self.limit.is_zero() && self.worth_looks >= WORTH_LOOKS && self.pause == 0;
        if begins {
            self.looking = Some(Looking {
                since: self.woken_at,
                last: None,
                looks: 0,
            });
        }
        begins
    }

    /// True if the task looks.
    #[inline]
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Notes a look that found nothing. Returns true if the task is to look again, and false if it is to sleep.
    pub(super) fn missed(&mut self, now: Time) -> bool {
        let Some(looking) = &mut self.looking else {
            return false;
        };
        let is_late = looking.last.is_some_and(|last| now.saturating_sub(last) > LATE);
        if looking.last.is_none() {
            looking.since = now;
        }
        let is_over = now.saturating_sub(looking.since) >= self.limit || looking.looks >= MAX_LOOKS;
        looking.last = Some(now);
        looking.looks += 1;
        if !is_late && !is_over && self.was_driven_last() {
            return true;
        }
        self.looking = None;
        self.gave_up = true;
        // The OS or another task took the thread: the machine is busy.
        self.misses = if is_late { MISSES } else { self.misses + 2 };
        if self.misses >= MISSES {
            self.misses = 0;
            self.worth_looks = 0;
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(LONGEST_PAUSE);
        }
        false
    }

    /// Notes that the task found something, or that it stopped looking for another reason.
    pub(super) fn found(&mut self) {
        self.looking = None;
        self.misses = self.misses.saturating_sub(1);
        self.next_pause = (self.next_pause / 2).max(FIRST_PAUSE);
    }

    fn was_driven_last(&self) -> bool {
        self.driven_last.load(Ordering::Relaxed) == self.number
    }
}

/// True if this process may use at least two processors. Found out once.
fn has_processors() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| thread::available_parallelism().is_ok_and(|processors| processors.get() >= 2))
}

/// The number of the connection of this process whose task was woken last.
static DRIVEN_LAST: AtomicU64 = AtomicU64::new(0);

/// The longest wait that is worth a look.
const SHORT_WAIT: Time = Time::from_micros(150);
/// The shortest one. A processor that sleeps takes longer to wake.
const SLEEP: Time = Time::from_micros(25);
/// The number of waits worth a look before the first look, and before looking again after a pause.
const WORTH_LOOKS: u8 = 4;
/// The longest time between two looks. Beyond it the thread, or its processor, has other work, and would not have slept.
const LATE: Time = Time::from_micros(20);
/// The most looks in a row, where the clock stands still.
const MAX_LOOKS: u16 = 500;
/// Misses before a pause. A miss counts two, and each look that found something takes one back.
const MISSES: u8 = 8;
/// The pause after the first misses, and the longest one after further misses, in wakes.
const FIRST_PAUSE: u16 = 16;
const LONGEST_PAUSE: u16 = 4096;

#[cfg(test)]
impl BusyPoll {
    /// The decisions of a connection that is the only one, and whose last waits were worth a look.
    pub(super) fn eager(limit: Time) -> Self {
        let driven_last = Box::leak(Box::new(AtomicU64::new(1)));
        Self {
            worth_looks: WORTH_LOOKS,
            ..Self::beside(limit, 1, driven_last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Time = Time::from_micros(50);

    /// The decisions of a connection, beside `other`.
    fn two() -> (BusyPoll, BusyPoll) {
        let driven_last: &AtomicU64 = Box::leak(Box::default());
        let new = |number| BusyPoll::beside(LIMIT, number, driven_last);
        (new(1), new(2))
    }

    /// Wakes it as often as the first look needs, a short wait apart. Returns the time of the last wake.
    fn wake_often(poll: &mut BusyPoll, mut now: Time) -> Time {
        for _ in 0..=WORTH_LOOKS {
            now += SHORT_WAIT;
            poll.note_wake(now);
        }
        now
    }

    /// Looks until it gives up, each time a microsecond later. Returns how long that took.
    fn miss(poll: &mut BusyPoll, begun: Time) -> Time {
        let mut now = begun;
        while poll.missed(now) {
            now += Time::from_micros(1);
        }
        assert!(!poll.begin(), "it sleeps first");
        now - begun
    }

    #[test]
    fn looks_after_short_waits_and_for_a_limited_time() {
        let (mut poll, _) = two();
        assert!(!poll.begin(), "nothing is known of its waits");
        let now = wake_often(&mut poll, Time::ZERO);
        assert!(poll.begin());
        assert!(poll.is_looking());
        assert_eq!(miss(&mut poll, now), LIMIT);
        assert!(!poll.is_looking());
        poll.note_wake(now + SHORT_WAIT);
        assert!(poll.begin(), "one miss is no reason to stop");
        poll.found();
        poll.note_wake(now + 2 * SHORT_WAIT + Time::from_micros(1));
        assert!(!poll.begin(), "the last wait was long");
    }

    #[test]
    fn never_looks_without_a_limit() {
        let mut poll = BusyPoll::beside(Time::ZERO, 1, Box::leak(Box::default()));
        wake_often(&mut poll, Time::ZERO);
        assert!(!poll.begin());
    }

    #[test]
    fn does_not_look_beside_another_busy_connection() {
        let (mut poll, mut other) = two();
        let now = wake_often(&mut poll, Time::ZERO);
        assert!(poll.begin());
        other.note_wake(now);
        assert!(!poll.missed(now), "the other one is driven meanwhile");
        for turn in 1..100 {
            poll.note_wake(now + turn * SHORT_WAIT);
            assert!(!poll.begin());
            other.note_wake(now + turn * SHORT_WAIT);
            assert!(!other.begin());
        }
    }

    #[test]
    fn stops_when_its_thread_has_other_work() {
        let (mut poll, _) = two();
        let now = wake_often(&mut poll, Time::ZERO);
        assert!(poll.begin());
        assert!(poll.missed(now));
        assert!(!poll.missed(now + LATE + Time::from_micros(1)));
        assert!(poll.pause > 0);
    }

    #[test]
    fn does_not_look_where_no_processor_sleeps() {
        let (mut poll, _) = two();
        for turn in 1..100 {
            poll.note_wake(turn * (SLEEP - Time::from_micros(1)));
            assert!(!poll.begin());
        }
    }

    #[test]
    fn stops_where_the_clock_stands_still() {
        let (mut poll, _) = two();
        let now = wake_often(&mut poll, Time::ZERO);
        assert!(poll.begin());
        let looks = (0..).take_while(|_| poll.missed(now)).count();
        assert_eq!(looks, usize::from(MAX_LOOKS));
    }

    #[test]
    fn misses_make_pauses_that_become_longer_until_a_look_finds_something() {
        let (mut poll, _) = two();
        let mut now = wake_often(&mut poll, Time::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let mut pause = 0;
            while !poll.begin() {
                now += SHORT_WAIT;
                poll.note_wake(now);
                pause += 1;
            }
            pauses.push(pause);
            for _ in 1..MISSES / 2 {
                miss(&mut poll, now);
                assert!(poll.begin(), "it was not enough of misses");
            }
            miss(&mut poll, now);
        }
        let (first, longest) = (i32::from(FIRST_PAUSE), i32::from(LONGEST_PAUSE));
        // After a pause it needs the waits before it, too.
        let expected = std::iter::once(0).chain((0..).map(|power| longest.min(first << power)));
        assert!(pauses.iter().copied().eq(expected.take(12)), "{pauses:?}");
        while !poll.begin() {
            now += SHORT_WAIT;
            poll.note_wake(now);
        }
        assert_eq!(poll.next_pause, LONGEST_PAUSE);
        for _ in 0..12 {
            poll.found();
        }
        assert_eq!(poll.next_pause, FIRST_PAUSE);
    }
}
