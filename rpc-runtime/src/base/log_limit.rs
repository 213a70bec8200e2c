//! Seldom: limits how often something is logged, so that a flood of events is no flood of log lines.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lets at most one event per interval be logged, and counts the others.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    last: Mutex<Last>,
}

/// The last event that was logged.
#[derive(Debug)]
struct Last {
    /// Its time, on the clock of the caller.
    at: Option<Duration>,
    /// The number of events since, none of which was logged.
    unsaid: u64,
}

impl Seldom {
    /// Creates a limit of one event in `every`.
    pub(crate) const fn new(every: Duration) -> Self {
        Self {
            every,
            last: Mutex::new(Last { at: None, unsaid: 0 }),
        }
    }

    /// Returns `Some` if the event of `now` is to be logged, with the number of events before it that were not.
    ///
    /// A clock that goes backwards starts a new interval.
    pub(crate) fn turn(&self, now: Duration) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |at: Duration| at <= now && now < at.saturating_add(self.every);
        if last.at.is_some_and(is_early) {
            last.unsaid += 1;
            return None;
        }
        last.at = Some(now);
        Some(std::mem::take(&mut last.unsaid))
    }
}

/// The time since the first call of this function in the process: a clock for a [`Seldom`].
pub(crate) fn process_time() -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_log_line_counts_the_suppressed_lines() {
        let seldom = Seldom::new(Duration::from_secs(1));
        let at = Duration::from_millis;
        assert_eq!(seldom.turn(at(5000)), Some(0));
        assert_eq!(seldom.turn(at(5001)), None);
        assert_eq!(seldom.turn(at(5999)), None);
        assert_eq!(seldom.turn(at(6000)), Some(2));
        assert_eq!(seldom.turn(at(10)), Some(0), "another clock");
    }
}
