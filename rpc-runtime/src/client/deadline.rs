//! Deadline: when a call ends at the latest, and why.
//!
//! The connection ends the call: `conn/ours/calls`, woken by an alarm of `driver/shared_connection`.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::{client::inherited::HandlerId, conn::Time, driver::SharedConnection};

/// When a call ends at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// When the call began; none before that.
    begun: Option<Instant>,
    /// How long the call may take from then on; none for no limit.
    given: Option<Duration>,
    origin: Origin,
    /// The handler that made the call: if it also begins it, the call inherits its deadline. Kept here because it fits
    /// into padding, and calls are moved often.
    made_in: HandlerId,
}

impl Deadline {
    /// The earlier of `now + timeout` and the inherited deadline.
    #[inline]
    pub(super) fn new(timeout: Option<Duration>, inherited: Option<Instant>, now: Instant) -> Self {
        let mut deadline = Self::unbegun(timeout, HandlerId::DETACHED);
        deadline.begin(inherited, now);
        deadline
    }

    /// The deadline of a call that has not begun, and was made in the handler `made_in`.
    #[inline]
    pub(super) fn unbegun(timeout: Option<Duration>, made_in: HandlerId) -> Self {
        Self {
            begun: None,
            // A timeout that no clock can represent is none.
            given: timeout.filter(|timeout| *timeout < FAR),
            origin: Origin::Settings,
            made_in,
        }
    }

    /// The deadline `time` after `now`, which no setting changes.
    pub(super) fn fixed(time: Duration, now: Instant) -> Self {
        Self {
            origin: Origin::Fixed,
            ..Self::new(Some(time), None, now)
        }
    }

    /// The same, but at most `time` after `now`.
    pub(super) fn at_most(self, time: Duration, now: Instant) -> Self {
        let fixed = Self::fixed(time, now);
        let is_later = |at: Instant| fixed.at().is_some_and(|fixed| fixed < at);
        match self.at() {
            Some(at) if !is_later(at) => self,
            _ => fixed,
        }
    }

    /// The handler in which the call was made.
    #[inline]
    pub(super) fn made_in(&self) -> HandlerId {
        self.made_in
    }

    /// Notes that the call begins now, and what it inherits.
    #[inline]
    pub(super) fn begin(&mut self, inherited: Option<Instant>, now: Instant) {
        self.begun = Some(now);
        let Some(at) = inherited else { return };
        let left = at.saturating_duration_since(now);
        if self.given.is_none_or(|own| left < own) {
            self.given = Some(left);
            self.origin = Origin::SurroundingCall;
        }
    }

    /// The instant; none for no limit.
    pub(super) fn at(&self) -> Option<Instant> {
        self.begun?.checked_add(self.given?)
    }

    /// The deadline in the time of a connection. `begun` is the start of the call in that time, if it is known.
    #[inline]
    pub(super) fn time(&self, shared: &SharedConnection, begun: Option<Time>) -> Option<Time> {
        match begun {
            Some(begun) => Some(begun.saturating_add(self.given?)),
            None => self.at().map(|at| shared.time(at)),
        }
    }

    /// When the call began.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// True if no time was left when the call began.
    #[inline]
    pub(super) fn has_passed(&self) -> bool {
        self.given == Some(Duration::ZERO)
    }
}

/// What sets a deadline.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// The timeout of the call, or of its client.
    Settings,
    /// The deadline of the call whose handler makes this one.
    SurroundingCall,
    /// Nothing that can be set.
    Fixed,
}

/// Longer than any call.
pub(super) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// `50ms (Call::timeout or ClientBuilder::timeout)`, or `50ms (what was left of the surrounding call)`
impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.given.unwrap_or(Duration::MAX);
        // Microseconds are precise enough to read.
        let given = match given.as_micros() {
            0 => given,
            micros => Duration::from_micros(micros.try_into().unwrap_or(u64::MAX)),
        };
        let origin = match self.origin {
            Origin::Settings => " (Call::timeout or ClientBuilder::timeout)",
            Origin::SurroundingCall => " (what was left of the surrounding call)",
            Origin::Fixed => "",
        };
        write!(f, "{given:?}{origin}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_counts() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(Deadline::new(Some(second), None, now).at(), Some(now + second));
        assert_eq!(
            Deadline::new(Some(second), Some(now + second / 2), now).at(),
            Some(now + second / 2)
        );
        assert_eq!(
            Deadline::new(Some(second / 2), Some(now + second), now).at(),
            Some(now + second / 2)
        );
        assert_eq!(
            Deadline::new(None, Some(now + second), now).at(),
            Some(now + second)
        );
        assert_eq!(Deadline::new(None, None, now).at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_the_clocks_range_is_unlimited() {
        assert_eq!(
            Deadline::new(Some(Duration::MAX), None, Instant::now()).at(),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_past_deadline_has_passed() {
        let now = Instant::now();
        assert!(Deadline::new(Some(Duration::ZERO), None, now).has_passed());
        assert!(Deadline::new(None, Some(now), now).has_passed());
        assert!(!Deadline::new(None, None, now).has_passed());
        assert!(!Deadline::new(Some(Duration::from_nanos(1)), None, now).has_passed());
    }
}
