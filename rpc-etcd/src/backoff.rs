//! Backoff: how long to wait after a failure.

use std::time::Duration;

/// How long to wait after a failure: 250 ms, then twice as long each time, up to a limit; a fifth more or less.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Backoff {
    /// Nothing has failed yet.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { next: FIRST, limit }
    }

    /// Returns the pause after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.limit);
        self.next = (pause * 2).min(self.limit);
        jittered(pause)
    }

    /// Makes the next pause a short one again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// `time` with up to a fifth more or less, so that programs that began together do not stay together.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.4 * fastrand::f64())
}

const FIRST: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_until_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        for usual in [0.25, 0.5, 1.0, 1.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!(
                (0.8 * usual..1.21 * usual).contains(&pause),
                "{pause} instead of {usual}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(300));
    }
}
