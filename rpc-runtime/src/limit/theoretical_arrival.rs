//! TheoreticalArrival: how far a caller has used up its rate, in one number.

use std::time::Duration;

/// A rate as the generic cell rate algorithm (GCRA) sees it, in nanoseconds.
///
/// It admits what a bucket admits that holds `burst` tokens and gets one each `spacing`, and needs one number for each caller
/// in place of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The time between two calls at the full rate.
    spacing: u64,
    /// How far a caller may be ahead of its rate.
    tolerance: u64,
    /// The longest time that a refused call is told to wait.
    longest_wait: u64,
}

/// What a caller has used of its rate. Times are in nanoseconds since the limit's first call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TheoreticalArrival {
    /// When its next call would come if it kept exactly to its rate.
    next: u64,
    /// When the next call that is refused is told to come back: behind those that were refused before.
    next_back: u64,
}

impl Pace {
    /// `count` calls in `per`, and `burst` of them at once.
    pub(super) fn new(count: u32, per: Duration, burst: u32) -> Self {
        let spacing = nanos(per).div_ceil(u64::from(count.max(1))).max(1);
        Self {
            spacing,
            tolerance: spacing.saturating_mul(u64::from(burst.saturating_sub(1))),
            longest_wait: nanos(per).max(spacing),
        }
    }
}

impl TheoreticalArrival {
    /// Counts a call that comes `now`.
    ///
    /// # Errors
    ///
    /// How long to wait. Calls that were refused together are told to come back one after the other, and none is told more than
    /// the time of the rate. The call is not counted.
    pub(super) fn count(&mut self, pace: Pace, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let arrival = self.next.max(now);
        let free_at = arrival.saturating_sub(pace.tolerance);
        if free_at <= now {
            self.next = arrival.saturating_add(pace.spacing);
            return Ok(());
        }
        let longest = now.saturating_add(pace.longest_wait);
        let back = self.next_back.clamp(free_at.min(longest), longest);
        self.next_back = back.saturating_add(pace.spacing);
        Err(Duration::from_nanos(back - now))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_then_one_call_at_a_time() {
        let pace = Pace::new(10, ms(1000), 3);
        let mut caller = TheoreticalArrival::default();
        let mut at = |millis| caller.count(pace, ms(millis));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(0), Err(ms(100)));
        assert_eq!(at(100), Ok(()), "a refused call does not count");
        assert_eq!(at(150), Err(ms(50)));
        assert_eq!([at(1000), at(1000), at(1000)], [Ok(()); 3], "it has recovered");
        assert_eq!(at(1000), Err(ms(100)));
    }

    #[test]
    fn calls_that_are_refused_together_are_told_to_come_back_one_after_the_other() {
        let pace = Pace::new(4, ms(1000), 1);
        let mut caller = TheoreticalArrival::default();
        let mut at = |millis| caller.count(pace, ms(millis)).map_err(|wait| wait.as_millis());
        let told = [at(0), at(0), at(0), at(0), at(0), at(0), at(0)];
        assert_eq!(
            told,
            [
                Ok(()),
                Err(250),
                Err(500),
                Err(750),
                Err(1000),
                Err(1000),
                Err(1000)
            ]
        );
        assert_eq!([at(250), at(500), at(750), at(1000)], [Ok(()); 4]);
        assert_eq!(at(3000), Ok(()));
        assert_eq!(at(3000), Err(250), "those who did not come back are forgotten");
    }

    #[test]
    fn extreme_rates_overflow_nothing() {
        for (count, per, burst) in [
            (0, Duration::ZERO, 0),
            (1, Duration::MAX, u32::MAX),
            (u32::MAX, Duration::from_nanos(1), u32::MAX),
        ] {
            let pace = Pace::new(count, per, burst);
            let mut caller = TheoreticalArrival::default();
            assert_eq!(
                caller.count(pace, Duration::ZERO),
                Ok(()),
                "the first call is admitted"
            );
            let _ = caller.count(pace, Duration::MAX);
        }
    }

    /// A bucket of tokens, in units of a nanosecond's part of a token.
    struct Bucket {
        tokens: u128,
        at: u64,
    }

    impl Bucket {
        fn takes(&mut self, now: u64, spacing: u64, burst: u32) -> bool {
            let full = u128::from(spacing) * u128::from(burst);
            self.tokens = (self.tokens + u128::from(now - self.at)).min(full);
            self.at = now;
            let takes = self.tokens >= u128::from(spacing);
            self.tokens -= if takes { u128::from(spacing) } else { 0 };
            takes
        }
    }

    proptest! {
        #[test]
        fn it_admits_what_a_bucket_of_tokens_admits(
            count in 1_u32..100, burst in 1_u32..10, pauses in prop::collection::vec(0_u64..200_000_000, 1..200)
        ) {
            let pace = Pace::new(count, ms(1000), burst);
            let mut bucket = Bucket { tokens: u128::from(pace.spacing) * u128::from(burst), at: 0 };
            let (mut caller, mut now) = (TheoreticalArrival::default(), 0);
            for pause in pauses {
                now += pause;
                let admitted = caller.count(pace, Duration::from_nanos(now)).is_ok();
                prop_assert_eq!(admitted, bucket.takes(now, pace.spacing, burst));
            }
        }
    }
}
