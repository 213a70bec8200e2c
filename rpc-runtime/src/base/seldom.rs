//! Seldom: has something said, and not so often that a flood of it becomes one of log lines.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Says whose turn it is to be said: at most one in a while.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    /// When, of whatever clock is asked by.
    at: Option<Duration>,
    /// How many came since, and were not said.
    unsaid: u64,
}

impl Seldom {
    /// At most one in `every`.
    pub(crate) const fn new(every: Duration) -> Self {
        Self {
            every,
            said: Mutex::new(Said { at: None, unsaid: 0 }),
        }
    }

    /// Whether what has happened `now` is said, and how many before it were not. A clock that goes backwards begins anew.
    pub(crate) fn turn(&self, now: Duration) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |at: Duration| at <= now && now < at.saturating_add(self.every);
        if said.at.is_some_and(is_early) {
            said.unsaid += 1;
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.unsaid))
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
    fn one_in_a_while_is_said_with_the_number_of_those_that_were_not() {
        let seldom = Seldom::new(Duration::from_secs(1));
        let at = Duration::from_millis;
        assert_eq!(seldom.turn(at(5000)), Some(0));
        assert_eq!(seldom.turn(at(5001)), None);
        assert_eq!(seldom.turn(at(5999)), None);
        assert_eq!(seldom.turn(at(6000)), Some(2));
        assert_eq!(seldom.turn(at(10)), Some(0), "another clock");
    }
}
