//! Backoff: how long to wait before the next attempt to connect.

use std::time::Duration;

/// Waits of 100 ms × 1.6 per failed attempt up to 30 s, of which a random part is taken: clients that lost their
/// server together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    random: fastrand::Rng,
    failures: u32,
}

impl Backoff {
    /// No attempt has failed yet; `random` is passed in, so that a test can repeat it.
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self { random, failures: 0 }
    }

    /// Counts a failed attempt, and tells how long to wait before the next.
    pub(super) fn fail(&mut self) -> Duration {
        let ceiling = Self::ceiling(self.failures);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(self.random.f64())
    }

    /// The next attempt need not wait.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many attempts have failed since the last that succeeded.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The longest wait after `failures` earlier ones.
    fn ceiling(failures: u32) -> Duration {
        // 1.6^13 is above the cap already; the exponent is bounded so that the power stays finite.
        let exponent = failures.min(MAX_EXPONENT);
        FIRST.mul_f64(FACTOR.powi(exponent as i32)).min(CAP)
    }
}

const FIRST: Duration = Duration::from_millis(100);
const FACTOR: f64 = 1.6;
const CAP: Duration = Duration::from_secs(30);
const MAX_EXPONENT: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap_and_stay_below_their_ceiling() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(7));
        for failures in 0..100 {
            let ceiling = Backoff::ceiling(failures);
            assert!(backoff.fail() <= ceiling);
            assert!(ceiling <= CAP && ceiling >= FIRST);
        }
        assert_eq!(Backoff::ceiling(1), Duration::from_millis(160));
        assert_eq!(Backoff::ceiling(u32::MAX), CAP);
    }

    #[test]
    fn one_seed_gives_one_course() {
        let course = |seed| {
            let mut backoff = Backoff::new(fastrand::Rng::with_seed(seed));
            (0..20).map(|_| backoff.fail()).collect::<Vec<_>>()
        };
        assert_eq!(course(1), course(1));
        assert_ne!(course(1), course(2));
    }

    #[test]
    fn a_success_begins_anew() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(7));
        for _ in 0..50 {
            backoff.fail();
        }
        backoff.reset();
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.fail() <= FIRST);
    }
}
