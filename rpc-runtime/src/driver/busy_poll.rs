//! BusyPoll: whether a task looks at its socket again before it sleeps.

mod decisions;
mod trial;

use std::{sync::OnceLock, thread};

use self::decisions::Decisions;
use crate::conn::Time;

/// Whether the task of a connection looks at its socket again before it sleeps. It never does with one processor, because the peer could not run
/// meanwhile.
///
/// A connection that is idle has nothing but a count of its wakes. The decisions begin when it becomes busy, and end when they are hopeless.
pub(super) struct BusyPoll(State);

enum State {
    Never,
    Quiet { wakes: u8, limit_us: u32 },
    Busy(Box<Decisions>),
}

impl BusyPoll {
    /// Makes the state of a new connection. `limit` is how long its task may look; zero for never.
    pub(super) fn new(limit: Time) -> Self {
        match has_processors() {
            true => Self::quiet(limit),
            false => Self(State::Never),
        }
    }

    fn quiet(limit: Time) -> Self {
        let limit_us = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        Self(match limit_us {
            0 => State::Never,
            limit_us => State::Quiet { wakes: 0, limit_us },
        })
    }

    /// Notes that the task was woken, or has found something. `number` is that of the connection.
    #[inline]
    pub(super) fn note_wake(&mut self, now: Time, number: u64) {
        match &mut self.0 {
            State::Never => {}
            State::Quiet { wakes, limit_us } => {
                *wakes += 1;
                if *wakes >= MANY {
                    let limit = Time::from_micros(u64::from(*limit_us));
                    self.0 = State::Busy(Box::new(Decisions::new(limit, number)));
                }
            }
            State::Busy(decisions) => {
                decisions.note_wake(now);
                if decisions.are_hopeless() {
                    *self = Self::quiet(decisions.limit());
                }
            }
        }
    }

    /// Notes that so many bytes have arrived.
    #[inline]
    pub(super) fn note_read(&mut self, bytes: usize) {
        if let State::Busy(decisions) = &mut self.0 {
            decisions.note_read(bytes);
        }
    }

    /// True if the task is to look before it sleeps.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        match &mut self.0 {
            State::Busy(decisions) => decisions.begin(),
            State::Never | State::Quiet { .. } => false,
        }
    }

    /// True if the task looks.
    #[inline]
    pub(super) fn is_looking(&self) -> bool {
        matches!(&self.0, State::Busy(decisions) if decisions.is_looking())
    }

    /// Notes a look that found nothing. Returns true if the task is to look again, and false if it is to sleep.
    pub(super) fn missed(&mut self, now: Time) -> bool {
        match &mut self.0 {
            State::Busy(decisions) => decisions.missed(now),
            State::Never | State::Quiet { .. } => false,
        }
    }

    /// Notes that the task found something, or that it is wanted.
    pub(super) fn found(&mut self) {
        if let State::Busy(decisions) = &mut self.0 {
            decisions.found();
        }
    }
}

/// True if this process may use at least two processors. Found out once.
fn has_processors() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| thread::available_parallelism().is_ok_and(|processors| processors.get() >= 2))
}

/// After so many wakes a connection is busy.
const MANY: u8 = 32;

#[cfg(test)]
impl BusyPoll {
    /// Makes the state of a connection that is the only one, and for which looks pay.
    pub(super) fn eager(limit: Time) -> Self {
        Self(State::Busy(Box::new(Decisions::eager(limit))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Time = Time::from_micros(50);

    fn wake(poll: &mut BusyPoll, now: &mut Time, wakes: u8, wait: Time) {
        for _ in 0..wakes {
            *now += wait;
            poll.note_wake(*now, u64::MAX);
        }
    }

    #[test]
    fn decisions_begin_after_many_wakes_and_end_when_they_are_hopeless() {
        let (mut poll, mut now) = (BusyPoll::quiet(LIMIT), Time::ZERO);
        wake(&mut poll, &mut now, MANY - 1, Time::from_micros(10));
        assert!(matches!(poll.0, State::Quiet { .. }));
        wake(&mut poll, &mut now, 1, Time::from_micros(10));
        assert!(matches!(poll.0, State::Busy(_)));
        wake(&mut poll, &mut now, 20, Time::from_millis(10));
        assert!(matches!(poll.0, State::Quiet { limit_us: 50, .. }));
    }

    #[test]
    fn never_looks_without_a_limit() {
        let (mut poll, mut now) = (BusyPoll::quiet(Time::ZERO), Time::ZERO);
        wake(&mut poll, &mut now, 255, Time::from_micros(10));
        assert!(matches!(poll.0, State::Never));
        assert!(!poll.begin());
    }

    #[test]
    fn takes_no_more_than_two_words() {
        assert!(size_of::<BusyPoll>() <= 16, "{}", size_of::<BusyPoll>());
    }
}
