//! Decisions: whether the task of a busy connection looks at its socket again before it sleeps.

use std::sync::atomic::{AtomicU64, Ordering};

use super::trial::Trial;
use crate::conn::Time;

/// Whether the task of a busy connection looks at its socket again before it sleeps.
///
/// A processor without work sleeps, and on many machines it takes tens of microseconds to wake. With few calls in flight, between two
/// processes of one machine, that is most of a call. So a task that expects input very soon yields, and looks again when the other tasks of
/// its thread have had their turn, for a limited time.
///
/// It looks only where that pays:
///
/// - Most waits of late were short, and in most of them no other connection of the process was driven. Where several are busy, the thread has
///   other work.
/// - More bytes arrive with looks than without. The task tries both now and then: on a busy machine a look takes the processor from the peer,
///   and nothing but a trial shows that.
pub(super) struct Decisions {
    /// How long a task looks before it sleeps.
    limit: Time,
    /// The number of the connection.
    number: u64,
    /// The number of the connection whose task was woken last.
    driven_last: &'static AtomicU64,
    /// When the task was woken last.
    woken_at: Time,
    /// Rises with each wait that is not worth a look, and falls with each other one.
    doubts: u8,
    stage: Stage,
    /// True if the task looks before it sleeps.
    looks: bool,
    /// The last decision.
    decided: bool,
    /// How many wakes it holds.
    hold: u32,
    looking: Option<Looking>,
    /// True after a look in vain, until the task sleeps.
    gave_up: bool,
}

/// How it is decided whether the task looks.
enum Stage {
    /// It is decided for so many wakes.
    Settled(u32),
    /// Boxed, because a connection that is idle has none.
    Trying(Box<Trial>),
}

/// A task that looks.
#[derive(Clone, Copy)]
struct Looking {
    /// The first look; none before it.
    since: Option<Time>,
    looks: u16,
}

impl Decisions {
    /// The decisions for a connection, whose task may look for `limit`.
    pub(super) fn new(limit: Time, number: u64) -> Self {
        Self::beside(limit, number, &DRIVEN_LAST)
    }

    /// The same, beside other connections that note their wakes in `driven_last`.
    fn beside(limit: Time, number: u64, driven_last: &'static AtomicU64) -> Self {
        Self {
            limit,
            number,
            driven_last,
            woken_at: Time::ZERO,
            doubts: 0,
            stage: Stage::Settled(FIRST_HOLD),
            looks: false,
            decided: false,
            hold: FIRST_HOLD,
            looking: None,
            gave_up: false,
        }
    }

    /// Notes that the task was woken, or has found something.
    #[inline]
    pub(super) fn note_wake(&mut self, now: Time) {
        // A round after a look in vain is no wake.
        if !self.gave_up {
            self.decide(now);
        }
    }

    /// True if most waits of late were not worth a look.
    pub(super) fn are_hopeless(&self) -> bool {
        self.doubts >= DOUBTS
    }

    /// How long the task may look.
    pub(super) fn limit(&self) -> Time {
        self.limit
    }

    fn decide(&mut self, now: Time) {
        let is_only = self.was_driven_last();
        if !is_only {
            self.driven_last.store(self.number, Ordering::Relaxed);
        }
        let wait = now.saturating_sub(self.woken_at);
        self.woken_at = now;
        if is_only && wait <= SHORT_WAIT {
            self.doubts = self.doubts.saturating_sub(1);
        } else {
            self.doubts = (self.doubts + DOUBT).min(2 * DOUBTS);
        }
        if self.doubts >= DOUBTS {
            self.looks = false;
            self.decided = false;
            self.hold = FIRST_HOLD;
            self.stage = Stage::Settled(FIRST_HOLD);
            return;
        }
        match &mut self.stage {
            Stage::Settled(0) => {
                self.stage = Stage::Trying(Box::new(Trial::new()));
                self.looks = false;
            }
            Stage::Settled(left) => *left -= 1,
            Stage::Trying(trial) => match trial.note_wake(wait) {
                None => self.looks = trial.looks(),
                Some(looks) => {
                    // A trial may be wrong, so a decision that is new is soon tried again.
                    self.hold = match looks == self.decided {
                        true => (2 * self.hold).min(LONGEST_HOLD),
                        false => FIRST_HOLD,
                    };
                    self.decided = looks;
                    self.looks = looks;
                    self.stage = Stage::Settled(self.hold);
                }
            },
        }
    }

    /// Notes that so many bytes have arrived.
    #[inline]
    pub(super) fn note_read(&mut self, bytes: usize) {
        if let Stage::Trying(trial) = &mut self.stage {
            trial.note_read(bytes);
        }
    }

    /// True if the task is to look before it sleeps.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        let gave_up = std::mem::take(&mut self.gave_up);
        let begins = self.looks && !gave_up;
        if begins {
            self.looking = Some(Looking {
                since: None,
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
        let since = *looking.since.get_or_insert(now);
        looking.looks += 1;
        let is_over = now.saturating_sub(since) >= self.limit || looking.looks > MAX_LOOKS;
        if !is_over && self.was_driven_last() {
            return true;
        }
        self.looking = None;
        self.gave_up = true;
        false
    }

    /// Notes that the task found something, or that it is wanted.
    pub(super) fn found(&mut self) {
        self.looking = None;
    }

    fn was_driven_last(&self) -> bool {
        self.driven_last.load(Ordering::Relaxed) == self.number
    }
}

/// The number of the connection of this process whose task was woken last.
static DRIVEN_LAST: AtomicU64 = AtomicU64::new(0);

/// The longest wait that is worth a look.
const SHORT_WAIT: Time = Time::from_micros(150);
/// What a wait adds that is not worth a look. A wait that is takes one away.
const DOUBT: u8 = 8;
/// From here on the task does not look: more than one wait of nine is not worth it.
const DOUBTS: u8 = 64;
/// How many wakes a new decision holds, and one that many trials have confirmed.
const FIRST_HOLD: u32 = 64;
const LONGEST_HOLD: u32 = 16 * 1024;
/// The most looks in a row, where the clock stands still.
const MAX_LOOKS: u16 = 500;

#[cfg(test)]
impl Decisions {
    /// The decisions of a connection that is the only one, and for which looks pay.
    pub(super) fn eager(limit: Time) -> Self {
        let driven_last = Box::leak(Box::new(AtomicU64::new(1)));
        Self {
            looks: true,
            ..Self::beside(limit, 1, driven_last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Time = Time::from_micros(50);
    const MICROSECOND: Time = Time::from_micros(1);

    /// The decisions of two connections of one process.
    fn two() -> (Decisions, Decisions) {
        let driven_last: &AtomicU64 = Box::leak(Box::default());
        let new = |number| Decisions::beside(LIMIT, number, driven_last);
        (new(1), new(2))
    }

    /// Wakes the task `wakes` times, a byte at a time. A wait lasts as long as `wait` says of a task that looks, or does not.
    fn run(poll: &mut Decisions, now: &mut Time, wakes: u32, wait: impl Fn(bool) -> Time) {
        for _ in 0..wakes {
            *now += wait(poll.looks);
            poll.note_read(1);
            poll.note_wake(*now);
        }
    }

    /// How many wakes it takes until a task has looked and then looks steadily.
    fn until_it_looks(poll: &mut Decisions, now: &mut Time, wait: impl Fn(bool) -> Time) -> u32 {
        let mut wakes = 0;
        while !(poll.looks && matches!(poll.stage, Stage::Settled(_))) {
            run(poll, now, 1, &wait);
            wakes += 1;
            assert!(wakes < 10_000, "it never looks");
        }
        wakes
    }

    fn pays(looks: bool) -> Time {
        if looks { 10 * MICROSECOND } else { 60 * MICROSECOND }
    }

    fn hardly_pays(looks: bool) -> Time {
        if looks { 38 * MICROSECOND } else { 40 * MICROSECOND }
    }

    fn costs(looks: bool) -> Time {
        if looks { 60 * MICROSECOND } else { 30 * MICROSECOND }
    }

    #[test]
    fn looks_where_that_brings_more_bytes() {
        let (mut poll, _) = two();
        let mut now = Time::ZERO;
        assert!(!poll.begin(), "nothing is known");
        until_it_looks(&mut poll, &mut now, pays);
        assert!(poll.begin());
        assert!(poll.is_looking());
        poll.found();
        assert!(!poll.is_looking());
        assert!(poll.begin());
    }

    #[test]
    fn does_not_look_where_that_brings_fewer_bytes_or_hardly_more() {
        for wait in [costs, hardly_pays] {
            let (mut poll, _) = two();
            let (mut now, mut looked) = (Time::ZERO, 0);
            for _ in 0..100_000 {
                run(&mut poll, &mut now, 1, wait);
                looked += u32::from(poll.looks);
            }
            assert!((1..2_000).contains(&looked), "it tries, and seldom: {looked}");
        }
    }

    #[test]
    fn changes_its_mind_when_the_machine_becomes_busy() {
        let (mut poll, _) = two();
        let mut now = Time::ZERO;
        until_it_looks(&mut poll, &mut now, pays);
        run(&mut poll, &mut now, 100_000, pays);
        run(&mut poll, &mut now, LONGEST_HOLD + 1_000, costs);
        assert!(!poll.looks);
    }

    #[test]
    fn a_wrong_trial_does_not_hold_for_long() {
        let (mut poll, _) = two();
        let mut now = Time::ZERO;
        until_it_looks(&mut poll, &mut now, pays);
        run(&mut poll, &mut now, 100_000, pays);
        while poll.looks || matches!(poll.stage, Stage::Trying(_)) {
            run(&mut poll, &mut now, 1, costs);
        }
        assert!(until_it_looks(&mut poll, &mut now, pays) < 5 * FIRST_HOLD);
    }

    #[test]
    fn looks_for_a_limited_time() {
        let (mut poll, _) = two();
        let mut now = Time::ZERO;
        until_it_looks(&mut poll, &mut now, pays);
        assert!(poll.begin());
        let begun = now;
        while poll.missed(now) {
            now += MICROSECOND;
        }
        assert_eq!(now - begun, LIMIT);
        assert!(!poll.begin(), "it sleeps first");
        assert!(poll.begin());
        let looks = (0..).take_while(|_| poll.missed(now)).count();
        assert_eq!(looks, usize::from(MAX_LOOKS), "the clock stands still");
    }

    #[test]
    fn does_not_look_for_what_comes_late() {
        let (mut poll, _) = two();
        let mut now = Time::ZERO;
        until_it_looks(&mut poll, &mut now, pays);
        run(&mut poll, &mut now, 1, |_| 2 * SHORT_WAIT);
        assert!(poll.looks, "one late wait is no reason to stop");
        run(&mut poll, &mut now, 20, |_| 2 * SHORT_WAIT);
        assert!(!poll.looks);
    }

    #[test]
    fn does_not_look_beside_another_busy_connection() {
        let (mut poll, mut other) = two();
        let mut now = Time::ZERO;
        until_it_looks(&mut poll, &mut now, pays);
        assert!(poll.begin());
        other.note_wake(now);
        assert!(!poll.missed(now), "the other one is driven meanwhile");
        assert!(!poll.begin());
        for turn in 0..1_000 {
            run(&mut poll, &mut now, 1, pays);
            other.note_wake(now);
            assert!(turn < 10 || !poll.looks && !other.looks);
        }
    }
}
