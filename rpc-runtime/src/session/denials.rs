//! Denials: how many calls of one connection were denied, whose they were, and which of them are logged.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::caller_hash::CallerHash;

/// The denied calls of one connection.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    counts: Mutex<Counts>,
    /// True if calls of some caller may be refused.
    refuses: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    /// Denials that count against the connection, within [`WINDOW`].
    of_connection: Span,
    of_callers: Vec<CallerDenials>,
    /// Those that were logged, within [`LOG_WINDOW`].
    logged: Span,
    unsaid: u64,
}

/// The denied calls of one caller, within [`WINDOW`].
#[derive(Debug)]
struct CallerDenials {
    caller: CallerHash,
    denied: Span,
    /// True if its further calls are refused until the window ends.
    is_refused: bool,
}

/// What is counted within some time.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    begun: Option<Duration>,
    count: u32,
}

impl Span {
    /// Counts one more at `now`, and returns how many there are within `time`.
    fn count(&mut self, now: Duration, time: Duration) -> u32 {
        if self.left(now, time).is_none() {
            *self = Self {
                begun: Some(now),
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }

    /// How long it goes on at `now`, if it is `time` long; none if it is over.
    fn left(&self, now: Duration, time: Duration) -> Option<Duration> {
        let left = time.checked_sub(now.saturating_sub(self.begun?))?;
        (!left.is_zero()).then_some(left)
    }
}

/// Who has to answer for a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nobody: it is not the peer's fault.
    Nobody,
    /// The connection: the caller is unknown, or the connection's own token was wrong.
    Connection,
    /// A caller that is known.
    Caller(CallerHash),
    /// A wrong credential that came with this call alone. Each new one also counts against the connection.
    Guess(CallerHash),
}

/// What is to be done about one denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// How many before it were not logged, if this one is to be.
    pub(crate) unsaid: Option<u64>,
    /// How many there are within the window, this one among them.
    pub(crate) count: u32,
    pub(crate) next: AfterDenial,
}

/// What a denial leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterDenial {
    Nothing,
    /// The further calls of this caller are refused, and those of others go on.
    CallerRefused,
    /// The connection is to end.
    LastOfConnection,
}

impl Denials {
    /// Notes a denial at `now`. `most` is how many a caller, or the connection, may have within [`WINDOW`]. `is_shared` says whether the
    /// connection carries calls of others, too; `lines` are those of the whole server.
    pub(super) fn note(
        &self,
        now: Duration,
        denied: Denied,
        most: u32,
        is_shared: bool,
        lines: &DenialLines,
    ) -> Denial {
        let mut counts = self.lock();
        let (count, next) = counts.note(now, denied, most, is_shared);
        if next == AfterDenial::CallerRefused {
            self.refuses.store(true, SeqCst);
        }
        let is_due = counts.logged.count(now, LOG_WINDOW) <= LOGGED || next != AfterDenial::Nothing;
        let is_said = is_due && lines.admit(now);
        let unsaid = match is_said {
            true => Some(std::mem::take(&mut counts.unsaid)),
            false => {
                counts.unsaid += 1;
                None
            }
        };
        Denial { unsaid, count, next }
    }

    /// Returns for how long calls of a caller are refused; `caller` finds out whose call it is.
    pub(super) fn refused_for(&self, now: Duration, caller: impl FnOnce() -> CallerHash) -> Option<Duration> {
        if !self.refuses.load(SeqCst) {
            return None;
        }
        let mut counts = self.lock();
        counts.forget(now);
        let callers = &counts.of_callers;
        if !callers.iter().any(|one| one.is_refused) {
            self.refuses.store(false, SeqCst);
            return None;
        }
        let caller = caller();
        let found = callers
            .iter()
            .find(|one| one.is_refused && one.caller == caller)?;
        found.denied.left(now, WINDOW)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn note(&mut self, now: Duration, denied: Denied, most: u32, is_shared: bool) -> (u32, AfterDenial) {
        let (caller, is_guess) = match denied {
            Denied::Nobody => return (0, AfterDenial::Nothing),
            Denied::Connection => return self.note_own(now, most),
            Denied::Caller(caller) => (caller, false),
            Denied::Guess(caller) => (caller, true),
        };
        self.forget(now);
        let known = self.of_callers.iter().position(|one| one.caller == caller);
        let at = known.unwrap_or(self.of_callers.len());
        if at >= MOST_CALLERS {
            return self.note_own(now, most);
        }
        if known.is_none() {
            self.of_callers.push(CallerDenials {
                caller,
                denied: Span::default(),
                is_refused: false,
            });
        }
        if is_guess && known.is_none() {
            let (count, next) = self.note_own(now, most);
            if next == AfterDenial::LastOfConnection {
                return (count, next);
            }
        }
        let one = &mut self.of_callers[at];
        let count = one.denied.count(now, WINDOW);
        if count == most {
            one.is_refused = is_shared;
            let next = match is_shared {
                true => AfterDenial::CallerRefused,
                false => AfterDenial::LastOfConnection,
            };
            return (count, next);
        }
        (count, AfterDenial::Nothing)
    }

    fn note_own(&mut self, now: Duration, most: u32) -> (u32, AfterDenial) {
        let count = self.of_connection.count(now, WINDOW);
        let next = match count == most {
            true => AfterDenial::LastOfConnection,
            false => AfterDenial::Nothing,
        };
        (count, next)
    }

    /// Forgets callers whose window is over.
    fn forget(&mut self, now: Duration) {
        self.of_callers
            .retain(|one| one.denied.left(now, WINDOW).is_some());
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
/// The most callers of a connection whose denials are counted apart. Those of others count for the connection.
const MOST_CALLERS: usize = 64;
/// So many denials of one connection are logged within this time.
const LOGGED: u32 = 10;
/// So many of all connections together.
const LOGGED_BY_ALL: u32 = 100;
const LOG_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Notes a denial of a connection that one caller has to itself.
    fn note(denials: &Denials, now: Duration, denied: Denied, most: u32) -> Denial {
        denials.note(now, denied, most, false, &DenialLines::default())
    }

    fn note_shared(denials: &Denials, now: Duration, denied: Denied, most: u32) -> Denial {
        denials.note(now, denied, most, true, &DenialLines::default())
    }

    #[test]
    fn ten_denials_a_second_are_logged_and_the_next_one_counts_the_others() {
        let denials = Denials::default();
        let unsaid = |ms| note(&denials, Duration::from_millis(ms), Denied::Connection, 1000).unsaid;
        for _ in 0..10 {
            assert_eq!(unsaid(500), Some(0));
        }
        assert_eq!((unsaid(600), unsaid(1499)), (None, None));
        assert_eq!((unsaid(1500), unsaid(1501)), (Some(2), Some(0)));
    }

    #[test]
    fn the_last_denial_of_a_window_ends_the_connection_and_is_logged() {
        let ada = CallerHash::of_name("ada");
        for denied in [Denied::Connection, Denied::Caller(ada), Denied::Guess(ada)] {
            let denials = Denials::default();
            let many: Vec<_> = (0..13).map(|_| note(&denials, at(1), denied, 12)).collect();
            let last: Vec<_> = many
                .iter()
                .map(|denial| denial.next == AfterDenial::LastOfConnection)
                .collect();
            assert_eq!(last.iter().position(|is_last| *is_last), Some(11));
            assert_eq!(last.iter().filter(|is_last| **is_last).count(), 1, "once");
            assert_eq!((many[11].unsaid, many[11].count), (Some(1), 12));
        }
    }

    #[test]
    fn on_a_shared_connection_a_caller_is_refused_and_the_connection_stays() {
        let denials = Denials::default();
        let [ada, bob] = ["ada", "bob"].map(CallerHash::of_name);
        let refused = |seconds, caller| denials.refused_for(at(seconds), || caller);
        for number in 1..=20 {
            let denial = note_shared(&denials, at(7), Denied::Caller(ada), 12);
            let expected = if number == 12 {
                AfterDenial::CallerRefused
            } else {
                AfterDenial::Nothing
            };
            assert_eq!((denial.next, denial.count), (expected, number));
            assert_eq!(refused(7, ada).is_some(), number >= 12);
        }
        assert_eq!(refused(27, ada), Some(at(40)));
        assert_eq!(refused(27, bob), None);
        assert_eq!(note_shared(&denials, at(27), Denied::Caller(bob), 12).count, 1);
        assert_eq!(refused(66, ada), Some(at(1)));
        assert_eq!(refused(67, ada), None, "the minute is over");
        assert!(!denials.refuses.load(SeqCst), "nothing is looked up any more");
        assert_eq!(note_shared(&denials, at(67), Denied::Caller(ada), 12).count, 1);
    }

    #[test]
    fn the_connection_answers_for_itself_also_if_it_is_shared() {
        let denials = Denials::default();
        assert_eq!(
            note_shared(&denials, at(1), Denied::Connection, 2).next,
            AfterDenial::Nothing
        );
        assert_eq!(
            note_shared(&denials, at(1), Denied::Connection, 2).next,
            AfterDenial::LastOfConnection
        );
    }

    #[test]
    fn a_wrong_token_again_and_again_is_one_guess() {
        let denials = Denials::default();
        let guess = |number: u8| Denied::Guess(CallerHash::of_credential(&[number]));
        for _ in 0..50 {
            let denial = note_shared(&denials, at(1), guess(0), 50);
            assert_ne!(denial.next, AfterDenial::LastOfConnection);
        }
        let others: Vec<_> = (1..50)
            .map(|number| note_shared(&denials, at(1), guess(number), 50).next)
            .collect();
        assert_eq!(
            others
                .iter()
                .position(|next| *next == AfterDenial::LastOfConnection),
            Some(48),
            "the fiftieth token"
        );
    }

    #[test]
    fn guesses_count_against_the_connection_also_if_one_is_too_many() {
        let denials = Denials::default();
        let guess = Denied::Guess(CallerHash::of_credential(b"wrong"));
        let denial = note_shared(&denials, at(1), guess, 1);
        assert_eq!(denial.next, AfterDenial::LastOfConnection);
    }

    #[test]
    fn a_connection_has_room_for_64_callers() {
        let denials = Denials::default();
        let caller = |number: u32| Denied::Caller(CallerHash::of_name(&number.to_string()));
        for number in 0..10_000 {
            note_shared(&denials, at(1), caller(number), u32::MAX);
        }
        assert_eq!(denials.lock().of_callers.len(), 64);
        assert_eq!(denials.lock().of_connection.count, 10_000 - 64);
        assert_eq!(note_shared(&denials, at(61), caller(10_001), u32::MAX).count, 1);
        assert_eq!(denials.lock().of_callers.len(), 1);
    }

    #[test]
    fn denials_of_another_minute_do_not_count() {
        let denials = Denials::default();
        for minute in 0..5 {
            let denial = note(&denials, at(60 * minute), Denied::Connection, 2);
            assert_eq!((denial.next, denial.count), (AfterDenial::Nothing, 1));
        }
    }

    #[test]
    fn all_connections_together_log_a_hundred_a_second() {
        let lines = DenialLines::default();
        let of_new_connection = |ms| {
            Denials::default()
                .note(Duration::from_millis(ms), Denied::Connection, 100, false, &lines)
                .unsaid
        };
        let said = (0..150).filter(|_| of_new_connection(500).is_some()).count();
        assert_eq!(said, 100);
        assert!(of_new_connection(1500).is_some());
    }

    #[test]
    fn what_is_not_the_peers_fault_does_not_count() {
        let denials = Denials::default();
        for _ in 0..1000 {
            assert_eq!(
                note(&denials, at(0), Denied::Nobody, 2).next,
                AfterDenial::Nothing
            );
        }
        assert_eq!(note(&denials, at(0), Denied::Connection, 2).count, 1);
    }
}
