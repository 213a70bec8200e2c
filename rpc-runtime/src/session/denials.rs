//! Denials: how many calls of one connection were denied, and which of them are logged.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The denied calls of one connection.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The denials since `begun`, within [`WINDOW`].
    window: Span,
    /// Those that were logged since `begun`, within [`LOG_WINDOW`].
    logged: Span,
    unsaid: u64,
}

/// What is counted within some time.
#[derive(Debug, Default)]
struct Span {
    begun: Option<Duration>,
    count: u32,
}

impl Span {
    /// Counts one more at `now`, and returns how many there are within `time`.
    fn count(&mut self, now: Duration, time: Duration) -> u32 {
        if self.begun.is_none_or(|begun| now.saturating_sub(begun) >= time) {
            *self = Self {
                begun: Some(now),
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// What is to be done about one denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// How many before it were not logged, if this one is to be.
    pub(crate) unsaid: Option<u64>,
    /// How many there are within the window, this one among them.
    pub(crate) count: u32,
    /// True if the connection is to end with it.
    pub(crate) is_last: bool,
}

impl Denials {
    /// Notes a denial at `now`. `most` is how many a connection may have within [`WINDOW`]; none if this one is not the peer's fault.
    /// `lines` are those of the whole server.
    pub(super) fn note(&self, now: Duration, most: Option<u32>, lines: &DenialLines) -> Denial {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = most.map_or(0, |_| counts.window.count(now, WINDOW));
        let is_last = most == Some(count);
        let is_due = counts.logged.count(now, LOG_WINDOW) <= LOGGED || is_last;
        let is_said = is_due && lines.admit(now);
        let unsaid = match is_said {
            true => Some(std::mem::take(&mut counts.unsaid)),
            false => {
                counts.unsaid += 1;
                None
            }
        };
        Denial {
            unsaid,
            count,
            is_last,
        }
    }
}

/// The log lines about denials of all connections of a server together.
#[derive(Debug, Default)]
pub(super) struct DenialLines(Mutex<Span>);

impl DenialLines {
    /// True if one more may be logged at `now`. Peers that connect again and again would else write without a limit.
    fn admit(&self, now: Duration) -> bool {
        let mut span = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        span.count(now, LOG_WINDOW) <= LOGGED_BY_ALL
    }
}

/// The time within which denials count together.
const WINDOW: Duration = Duration::from_secs(60);
/// So many denials of one connection are logged within this time.
const LOGGED: u32 = 10;
/// So many of all connections together.
const LOGGED_BY_ALL: u32 = 100;
const LOG_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_denials_a_second_are_logged_and_the_next_one_counts_the_others() {
        let denials = Denials::default();
        let at = |ms| {
            denials
                .note(Duration::from_millis(ms), Some(1000), &DenialLines::default())
                .unsaid
        };
        for _ in 0..10 {
            assert_eq!(at(500), Some(0));
        }
        assert_eq!((at(600), at(1499)), (None, None));
        assert_eq!((at(1500), at(1501)), (Some(2), Some(0)));
    }

    #[test]
    fn the_last_denial_of_a_window_ends_the_connection_and_is_logged() {
        let denials = Denials::default();
        let at = |seconds| denials.note(Duration::from_secs(seconds), Some(12), &DenialLines::default());
        let many: Vec<_> = (0..13).map(|_| at(1)).collect();
        let last: Vec<_> = many.iter().map(|denial| denial.is_last).collect();
        assert_eq!(last.iter().position(|is_last| *is_last), Some(11));
        assert_eq!(last.iter().filter(|is_last| **is_last).count(), 1, "once");
        assert_eq!((many[11].unsaid, many[11].count), (Some(1), 12));
    }

    #[test]
    fn denials_of_another_minute_do_not_count() {
        let denials = Denials::default();
        for minute in 0..5 {
            let denial = denials.note(Duration::from_secs(60 * minute), Some(2), &DenialLines::default());
            assert_eq!((denial.is_last, denial.count), (false, 1));
        }
    }

    #[test]
    fn all_connections_together_log_a_hundred_a_second() {
        let lines = DenialLines::default();
        let of_new_connection = |ms| {
            Denials::default()
                .note(Duration::from_millis(ms), Some(100), &lines)
                .unsaid
        };
        let said = (0..150).filter(|_| of_new_connection(500).is_some()).count();
        assert_eq!(said, 100);
        assert!(of_new_connection(1500).is_some());
    }

    #[test]
    fn what_is_not_the_peers_fault_does_not_count() {
        let (denials, lines) = (Denials::default(), DenialLines::default());
        for _ in 0..1000 {
            assert!(!denials.note(Duration::ZERO, None, &lines).is_last);
        }
        assert_eq!(denials.note(Duration::ZERO, Some(2), &lines).count, 1);
    }
}
