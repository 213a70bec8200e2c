//! Account: what became of the one-way calls of one connection, as its server tells it.

use std::fmt;

use crate::wire::frame::control::{self, Progress};

/// What became of the one-way calls of one connection, since it began.
///
/// [`Client::barrier`](crate::Client::barrier) and [`Client::settled`](crate::Client::settled) return it. Every call that the server received is in exactly one of
/// the other numbers, or still [`Account::pending`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    received: u64,
    handled: u64,
    failed: u64,
    expired: u64,
    dropped: Vec<(DropReason, u64)>,
}

impl Account {
    pub(crate) fn new(progress: Progress) -> Self {
        let dropped = progress.dropped.iter().filter(|dropped| dropped.count > 0);
        Self {
            received: progress.received,
            handled: progress.handled,
            failed: progress.failed,
            expired: progress.expired,
            dropped: dropped
                .map(|dropped| (DropReason::new(dropped.reason), dropped.count))
                .collect(),
        }
    }

    /// How many one-way calls the server has read, whole.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many handlers ended well.
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// How many handlers ended with an error, or panicked.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// How many deadlines passed, before the handler began or while it ran.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// How many were dropped, by reason; a reason that dropped none is left out.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.dropped.iter().copied()
    }

    /// How many wait for their handler, or for its end.
    pub fn pending(&self) -> u64 {
        // A peer that cannot count must not make us panic.
        let dropped = self.dropped.iter().map(|(_, count)| *count);
        [self.handled, self.failed, self.expired]
            .into_iter()
            .chain(dropped)
            .fold(self.received, u64::saturating_sub)
    }
}

/// `received 5: 3 handled, 1 failed, 0 expired, 1 dropped (unknown procedure: 1), 0 pending`
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self
            .dropped
            .iter()
            .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let Self {
            received,
            handled,
            failed,
            expired,
            ..
        } = self;
        write!(
            f,
            "received {received}: {handled} handled, {failed} failed, {expired} expired, {dropped} dropped"
        )?;
        for (i, (reason, count)) in self.dropped.iter().enumerate() {
            write!(f, "{}{reason}: {count}", if i == 0 { " (" } else { ", " })?;
        }
        let close = if self.dropped.is_empty() { "" } else { ")" };
        write!(f, "{close}, {} pending", self.pending())
    }
}

/// Why the server dropped a one-way call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The server has no such procedure.
    UnknownProcedure,
    /// The request is no message of the procedure's type, or its arguments were refused.
    BadPayload,
    /// The server had no room for it.
    Overload,
    /// The server was draining.
    Draining,
    /// Its handler was dropped before its end, by a drain or a disconnect.
    Aborted,
    /// A reason that only the server knows, by its number.
    Other(u32),
}

impl DropReason {
    fn new(number: u32) -> Self {
        match control::DropReason::from_number(number) {
            Some(control::DropReason::UnknownProcedure) => Self::UnknownProcedure,
            Some(control::DropReason::BadPayload) => Self::BadPayload,
            Some(control::DropReason::Overload) => Self::Overload,
            Some(control::DropReason::Draining) => Self::Draining,
            Some(control::DropReason::Aborted) => Self::Aborted,
            None => Self::Other(number),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProcedure => f.write_str("unknown procedure"),
            Self::BadPayload => f.write_str("bad payload"),
            Self::Overload => f.write_str("overload"),
            Self::Draining => f.write_str("draining"),
            Self::Aborted => f.write_str("aborted"),
            Self::Other(number) => write!(f, "reason {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::control::Dropped;

    fn progress() -> Progress {
        Progress {
            last_id: 11,
            received: 9,
            handled: 3,
            failed: 1,
            expired: 1,
            dropped: vec![
                Dropped { reason: 1, count: 1 },
                Dropped { reason: 2, count: 0 },
                Dropped { reason: 77, count: 1 },
            ],
        }
    }

    #[test]
    fn an_account_is_one_readable_line() {
        assert_eq!(
            Account::new(progress()).to_string(),
            "received 9: 3 handled, 1 failed, 1 expired, 2 dropped (unknown procedure: 1, reason 77: 1), 2 pending"
        );
        assert_eq!(
            Account::default().to_string(),
            "received 0: 0 handled, 0 failed, 0 expired, 0 dropped, 0 pending"
        );
    }

    #[test]
    fn a_peer_that_cannot_count_is_survived() {
        let wrong = Progress {
            handled: u64::MAX,
            dropped: vec![Dropped {
                reason: 3,
                count: u64::MAX,
            }],
            ..progress()
        };
        let account = Account::new(wrong);
        assert_eq!(account.pending(), 0);
        assert_eq!(
            account.dropped().collect::<Vec<_>>(),
            [(DropReason::Overload, u64::MAX)]
        );
    }
}
