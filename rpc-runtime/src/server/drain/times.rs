//! Times: how long a stop may take, within what the OS leaves the process.

use std::time::Duration;

use super::END;

/// The parts of a stop that the program sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// The time as a lame duck.
    pub(super) lame_duck: Duration,
    /// The time that open calls have to end.
    pub(super) drain: Duration,
}

impl Times {
    /// Shortens both in proportion, so that the whole stop ends [`MARGIN`] before the OS ends the process, which it does after `limit`.
    pub(super) fn within(self, limit: Option<Duration>) -> Self {
        let (Some(limit), sum) = (limit, self.lame_duck.saturating_add(self.drain)) else {
            return self;
        };
        let longest = longest(limit);
        if sum <= longest {
            return self;
        }
        let lame_duck = self.lame_duck.mul_f64(longest.as_secs_f64() / sum.as_secs_f64());
        Self {
            lame_duck,
            drain: longest.saturating_sub(lame_duck),
        }
    }
}

/// The longest time before open calls are dropped, of a process that the OS ends after `limit`.
pub(super) fn longest(limit: Duration) -> Duration {
    limit.saturating_sub(END + MARGIN)
}

/// The time for what a program does behind its server.
const MARGIN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_fits_into_what_the_os_leaves() {
        let ms = Duration::from_millis;
        for (limit, lame_duck, drain, expected) in [
            (None, 5_000, 21_000, (5_000, 21_000)),
            // A console that closes.
            (Some(5_000), 0, 30_000, (0, 1_750)),
            (Some(5_000), 0, 1_000, (0, 1_000)),
            (Some(5_000), 1_750, 1_750, (875, 875)),
            // A system that shuts down.
            (Some(20_000), 5_000, 11_750, (5_000, 11_750)),
            (Some(20_000), 8_000, 59_000, (2_000, 14_750)),
            (Some(1_000), 5_000, 30_000, (0, 0)),
            (Some(0), 0, 0, (0, 0)),
        ] {
            let times = Times {
                lame_duck: ms(lame_duck),
                drain: ms(drain),
            };
            let within = times.within(limit.map(ms));
            let whole = (within.lame_duck.as_millis(), within.drain.as_millis());
            assert_eq!(whole, expected, "{limit:?}: {times:?}");
        }
        let endless = Times {
            lame_duck: Duration::MAX,
            drain: Duration::MAX,
        };
        let within = endless.within(Some(ms(5_000)));
        assert!(within.lame_duck + within.drain <= ms(1_750), "{within:?}");
    }
}
