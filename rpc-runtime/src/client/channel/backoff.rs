//! Backoff: how long to wait before the next attempt, to connect or to get a token.

use std::time::Duration;

use tokio::time::Instant;

/// When to try again: the k-th attempt comes at a random moment of the k-th interval. The intervals follow each other.
/// The first is 100 ms long, and each further one is 1.6 times as long as the one before, up to 30 s.
///
/// So clients that lost their server together come back spread evenly over an interval. Random pauses that each begin
/// at the last failure would add up: most clients would come in a crowd, and a few very late.
#[derive(Debug)]
pub(in crate::client) struct Backoff {
    random: fastrand::Rng,
    /// The number of pauses since the last reset.
    pauses: u32,
    /// The end of the last interval.
    edge: Option<Instant>,
}

impl Backoff {
    /// Nothing has failed yet; `random` is an argument so that a test can repeat it.
    pub(in crate::client) fn new(random: fastrand::Rng) -> Self {
        Self {
            random,
            pauses: 0,
            edge: None,
        }
    }

    /// Notes a failure; returns when the next attempt may begin.
    pub(in crate::client) fn pause(&mut self, now: Instant) -> Instant {
        let start = self.edge.map_or(now, |edge| edge.max(now));
        let len = self.ceiling();
        self.pauses = self.pauses.saturating_add(1);
        self.edge = Some(start + len);
        start + len.mul_f64(self.random.f64())
    }

    /// A moment late in the time from `now` to `deadline`, early enough for one attempt and a call.
    pub(super) fn before(&mut self, deadline: Instant, now: Instant) -> Instant {
        let share = 0.5 + 0.4 * self.random.f64();
        now + deadline.saturating_duration_since(now).mul_f64(share)
    }

    /// Makes the next pause a short one again.
    pub(in crate::client) fn reset(&mut self) {
        self.pauses = 0;
        self.edge = None;
    }

    /// The length of the next interval.
    pub(super) fn ceiling(&self) -> Duration {
        // 1.6^13 is above the cap; the exponent is limited so that the power stays finite.
        let exponent = self.pauses.min(MAX_EXPONENT);
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

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(fastrand::Rng::with_seed(seed))
    }

    #[tokio::test(start_paused = true)]
    async fn every_attempt_falls_into_its_own_interval() {
        for seed in 0..100 {
            let mut backoff = backoff(seed);
            let mut start = Instant::now();
            let mut now = start;
            for _ in 0..100 {
                let len = backoff.ceiling();
                assert!((FIRST..=CAP).contains(&len));
                now = backoff.pause(now);
                assert!(now >= start && now < start + len);
                start += len;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn intervals_grow_up_to_the_cap() {
        let mut backoff = backoff(7);
        assert_eq!(backoff.ceiling(), FIRST);
        backoff.pause(Instant::now());
        assert_eq!(backoff.ceiling(), Duration::from_millis(160));
        for _ in 0..1000 {
            backoff.pause(Instant::now());
        }
        assert_eq!(backoff.ceiling(), CAP);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_interval_is_not_made_up_for() {
        let mut backoff = backoff(7);
        backoff.pause(Instant::now());
        let later = Instant::now() + CAP;
        let at = backoff.pause(later);
        assert!(at >= later && at < later + FIRST * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_seed_gives_one_sequence_of_attempts() {
        let now = Instant::now();
        let course = |seed| {
            let mut backoff = backoff(seed);
            (0..20).map(|_| backoff.pause(now)).collect::<Vec<_>>()
        };
        assert_eq!(course(1), course(1));
        assert_ne!(course(1), course(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_begins_anew() {
        let mut backoff = backoff(7);
        for _ in 0..50 {
            backoff.pause(Instant::now());
        }
        backoff.reset();
        assert!(backoff.pause(Instant::now()) < Instant::now() + FIRST);
    }
}
