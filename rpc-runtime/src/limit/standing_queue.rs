//! StandingQueue: tells a queue that stays from one that comes and goes.

use std::time::Duration;

use tokio::time::Instant;

/// Tells a queue that stays from one that comes and goes, as CoDel does (RFC 8289): by the shortest wait in an interval.
///
/// A burst makes calls wait, and then the queue is empty again. If even the call that waits least waits too long, calls come
/// faster than they are handled.
#[derive(Debug, Default)]
pub(super) struct StandingQueue {
    /// Since when every call has waited too long; none if the last one has not.
    since: Option<Instant>,
    /// When the last call was noted.
    noted: Option<Instant>,
}

impl StandingQueue {
    /// Notes that a call has waited for `wait`. Returns true if all calls of the last `interval` have waited longer than
    /// `target`.
    pub(super) fn note(
        &mut self,
        wait: Duration,
        target: Duration,
        interval: Duration,
        now: Instant,
    ) -> bool {
        let pause = self
            .noted
            .replace(now)
            .map(|noted| now.saturating_duration_since(noted));
        if wait <= target {
            self.since = None;
            return false;
        }
        // A queue without a call for so long was empty.
        if pause.is_none_or(|pause| pause > interval) {
            self.since = None;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) >= interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes calls, each at a time and with a wait in ms. Returns which were refused.
    fn refused<const N: usize>(calls: [(u64, u64); N]) -> [bool; N] {
        let ms = Duration::from_millis;
        let (mut queue, begun) = (StandingQueue::default(), Instant::now());
        calls.map(|(at, wait)| queue.note(ms(wait), ms(5), ms(100), begun + ms(at)))
    }

    #[test]
    fn calls_are_refused_when_all_have_waited_too_long_for_an_interval() {
        let calls = [
            (0, 6),
            (50, 90),
            (99, 90),
            (100, 90),
            (150, 6),
            (160, 5),
            (161, 90),
        ];
        let expected = [false, false, false, true, true, false, false];
        assert_eq!(refused(calls), expected);
    }

    #[test]
    fn one_short_wait_begins_the_interval_anew() {
        let calls = [(0, 90), (60, 0), (61, 90), (120, 90), (160, 90), (161, 90)];
        let expected = [false, false, false, false, false, true];
        assert_eq!(refused(calls), expected);
    }

    #[test]
    fn a_pause_begins_the_interval_anew() {
        let calls = [(0, 90), (100, 90), (201, 90), (300, 90), (301, 90)];
        let expected = [false, true, false, false, true];
        assert_eq!(refused(calls), expected);
    }
}
